//! [`LeaderHints`]: who leads instead, for clients that asked the wrong broker (KIP-951). In versions
//! that have it, the answer says where that broker is too, so that the client need not ask for metadata
//! first.

use std::collections::BTreeSet;

use proto::kafka::Str;
use proto::kafka::messages::{LeaderIdAndEpoch, NodeEndpoint};
use proto::{BrokerId, ErrorCode};

use super::context::Context;
use crate::api::Wanted;

/// The hints of one answer.
#[derive(Default)]
pub(super) struct LeaderHints {
    leaders: BTreeSet<BrokerId>,
}

impl LeaderHints {
    /// The hint that goes with an error; none where another leader would say the same.
    pub(super) fn of(
        &mut self,
        context: &Context,
        error: ErrorCode,
        topic: &str,
        partition: i32,
    ) -> LeaderIdAndEpoch {
        let moved = [ErrorCode::NotLeaderOrFollower, ErrorCode::FencedLeaderEpoch];
        if !moved.contains(&error) {
            return LeaderIdAndEpoch::default();
        }
        let Some((id, epoch)) = context.services.api.leader_of(topic, partition) else {
            return LeaderIdAndEpoch::default();
        };
        self.leaders.insert(id);
        LeaderIdAndEpoch { leader_id: id.0, leader_epoch: epoch.0 }
    }

    /// Where the client finds those who were hinted at, as far as they are live.
    pub(super) fn endpoints(&self, context: &Context) -> Vec<NodeEndpoint> {
        if self.leaders.is_empty() {
            return Vec::new();
        }
        let image = context.services.api.metadata(&Wanted::Named(Vec::new())).image;
        let (endpoints, peer) = (&context.services.kafka, context.peer);
        let found = self.leaders.iter().filter_map(|id| {
            let broker = image.brokers.get(id)?;
            let (host, port) = endpoints.of(broker, peer.listener, peer.local)?;
            let rack = (!broker.rack.is_empty()).then(|| Str::from(&*broker.rack));
            Some(NodeEndpoint { node_id: id.0, host, port: port.into(), rack })
        });
        found.collect()
    }
}
