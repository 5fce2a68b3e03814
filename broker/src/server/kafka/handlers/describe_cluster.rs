//! DescribeCluster: the brokers, as Metadata has them.

use std::sync::Arc;

use proto::ErrorCode;
use proto::kafka::Str;
use proto::kafka::messages::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};

use super::Context;
use crate::api::Wanted;

const BROKERS: i8 = 1;

pub(in super::super) async fn describe_cluster(
    context: Context,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    if request.endpoint_type != BROKERS {
        return DescribeClusterResponse {
            error_code: ErrorCode::InvalidRequest as i16,
            error_message: Some("only brokers have endpoints for clients".into()),
            ..Default::default()
        };
    }
    let (image, endpoints) =
        (context.services.api.metadata(&Wanted::Named(Vec::new())).image, &context.services.kafka);
    let peer = context.peer;
    let brokers = image.brokers.values().filter_map(|broker| {
        let (host, port) = endpoints.of(broker, peer.listener, peer.local)?;
        let rack = (!broker.rack.is_empty()).then(|| Str::from(&*broker.rack));
        Some(DescribeClusterBroker {
            broker_id: broker.id.0,
            host,
            port: port.into(),
            rack,
            // Who is not live is not known.
            is_fenced: false,
        })
    });
    DescribeClusterResponse {
        cluster_id: Arc::clone(&image.cluster_id),
        controller_id: endpoints.own_id().0,
        brokers: brokers.collect(),
        ..Default::default()
    }
}
