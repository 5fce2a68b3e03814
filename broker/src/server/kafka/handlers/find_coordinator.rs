//! FindCoordinator: who coordinates a group. The topic behind groups is created for the first one.

use std::collections::HashSet;

use proto::ErrorCode;
use proto::kafka::Str;
use proto::kafka::messages::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};

use super::{Context, NONE};
use crate::api::Wanted;

/// The kind of key that names a group.
const GROUP: i8 = 0;
/// From here on a request has several keys.
const SEVERAL: i16 = 4;

pub(in super::super) async fn find_coordinator(
    context: Context,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let kind = request.key_type;
    if context.version >= SEVERAL {
        // Each once: an answer is far longer than its question.
        let mut seen = HashSet::new();
        let keys = request.coordinator_keys.into_iter();
        let keys = keys.filter(|key| seen.insert(key.clone()));
        let coordinators = keys.map(|key| find(&context, kind, key)).collect();
        return FindCoordinatorResponse { coordinators, ..Default::default() };
    }
    let Coordinator { node_id, host, port, error_code, error_message, .. } =
        find(&context, kind, request.key);
    FindCoordinatorResponse { error_code, error_message, node_id, host, port, ..Default::default() }
}

fn find(context: &Context, kind: i8, key: Str) -> Coordinator {
    match address(context, kind, &key) {
        Ok((node_id, host, port)) => {
            Coordinator { key, node_id, host, port, error_code: NONE, ..Default::default() }
        }
        Err((code, message)) => Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: code as i16,
            error_message: Some(message.into()),
            ..Default::default()
        },
    }
}

fn address(context: &Context, kind: i8, key: &str) -> Result<(i32, Str, i32), (ErrorCode, String)> {
    if kind != GROUP {
        let message = "only groups have coordinators here: transactions are not served".to_owned();
        return Err((ErrorCode::InvalidRequest, message));
    }
    let groups = context.services.api.groups();
    let leader = groups.and_then(|groups| groups.find_coordinator(key));
    let leader = leader.map_err(|error| (error.code(), error.to_string()))?;
    let view = context.services.api.metadata(&Wanted::Named(Vec::new()));
    let broker = view.image.brokers.get(&leader);
    let endpoints = &context.services.kafka;
    let (listener, local) = (context.peer.listener, context.peer.local);
    let reached = broker.and_then(|broker| endpoints.of(broker, listener, local));
    let (host, port) = reached.ok_or_else(|| {
        let message = format!("broker {leader} has no listener of this name, or is gone");
        (ErrorCode::CoordinatorNotAvailable, message)
    })?;
    Ok((leader.0, host, port.into()))
}
