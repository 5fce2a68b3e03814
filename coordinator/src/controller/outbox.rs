//! What one broker is still to be told: coalesced, numbered, resent until acknowledged.
//!
//! Pure; [`super::link`] sends it. The outbox is bounded by the size of the cluster: a resource that
//! changes ten times while its broker is away is sent once, as it is then. One update is under way
//! at a time; until it is acknowledged it is resent as it was, and what changes meanwhile waits.
//!
//! The first update of a link has sequence 1 and tells the broker that this controller does not know
//! what it has: the broker reads ZooKeeper whole, then takes the numbered updates that follow.

use std::collections::{BTreeMap, BTreeSet};

use proto::{BrokerId, Partition, TopicId, v1};

use super::state::{Cluster, PartitionState, TopicState};
use crate::registry::configs::Kind;
use crate::zk::payload::{Broker, KafkaEndpoint, Reassignment};

/// Roughly how many partitions, topics and overrides go into one update.
const UPDATE_ITEMS_MAX: usize = 5_000;

/// Changes to tell brokers, whole resources each.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Delta {
    /// Created or changed topics.
    pub(crate) topics: BTreeMap<String, v1::Topic>,
    /// Deleted topics.
    pub(crate) deleted: BTreeSet<(String, TopicId)>,
    /// All live brokers, when they changed.
    pub(crate) brokers: Option<v1::LiveBrokers>,
    /// Overrides, whole; empty: none any more.
    pub(crate) configs: BTreeMap<(Kind, String), BTreeMap<String, String>>,
}

impl Delta {
    /// Nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.topics.is_empty()
            && self.deleted.is_empty()
            && self.brokers.is_none()
            && self.configs.is_empty()
    }

    /// The live brokers of a cluster.
    pub(crate) fn live_brokers(cluster: &Cluster) -> Self {
        let nodes = cluster.brokers.iter().map(|(id, broker)| node(id.0, broker)).collect();
        Self { brokers: Some(v1::LiveBrokers { nodes }), ..Self::default() }
    }

    /// Every topic and override of `now`, and what is gone since `before`: after a write whose
    /// outcome was not known.
    pub(crate) fn everything(before: &Cluster, now: &Cluster) -> Self {
        let topics = now.topics.iter().filter(|(name, _)| !now.deletions.contains_key(*name));
        let gone = before.configs.keys().map(|of| (of.clone(), BTreeMap::new()));
        let overrides = now.configs.iter().map(|(of, o)| (of.clone(), o.values.clone()));
        Self {
            topics: topics.map(|(name, t)| (name.clone(), topic_message(name, t))).collect(),
            deleted: now.deletions.iter().map(|(name, d)| (name.clone(), d.id)).collect(),
            brokers: None,
            configs: gone.chain(overrides).collect(),
        }
    }

    /// Takes a later delta on top of this one.
    pub(crate) fn merge(&mut self, later: &Self) {
        for (name, id) in &later.deleted {
            if self.topics.get(name).is_some_and(|topic| topic.topic_id[..] == id.to_bytes()[..]) {
                self.topics.remove(name);
            }
            self.deleted.insert((name.clone(), *id));
        }
        self.topics.extend(later.topics.iter().map(|(name, t)| (name.clone(), t.clone())));
        if later.brokers.is_some() {
            self.brokers.clone_from(&later.brokers);
        }
        self.configs.extend(later.configs.iter().map(|(of, v)| (of.clone(), v.clone())));
    }

    /// Takes out as much as one update holds; what stays is for the next.
    fn split_first(&mut self) -> Self {
        let mut room = UPDATE_ITEMS_MAX;
        let mut first = Self { brokers: self.brokers.take(), ..Self::default() };
        while room > 0 {
            let Some(deleted) = self.deleted.pop_first() else { break };
            first.deleted.insert(deleted);
            room -= 1;
        }
        while room > 0 {
            let Some((name, topic)) = self.topics.pop_first() else { break };
            room = room.saturating_sub(1 + topic.partitions.len());
            first.topics.insert(name, topic);
        }
        while room > 0 {
            let Some((of, values)) = self.configs.pop_first() else { break };
            room = room.saturating_sub(1 + values.len());
            first.configs.insert(of, values);
        }
        first
    }
}

/// A broker as messages name it.
pub(crate) fn node(id: i32, broker: &Broker) -> v1::Node {
    v1::Node {
        id,
        host: broker.host.clone(),
        grpc_port: u32::from(broker.grpc_port),
        rack: broker.rack.clone(),
        incarnation: bytes::Bytes::copy_from_slice(broker.incarnation.as_bytes()),
        kafka: broker.kafka.iter().map(kafka_endpoint).collect(),
    }
}

fn kafka_endpoint(endpoint: &KafkaEndpoint) -> v1::KafkaEndpoint {
    v1::KafkaEndpoint {
        name: endpoint.name.clone(),
        host: endpoint.host.clone(),
        port: endpoint.port.into(),
    }
}

/// A topic as updates carry it: with the recorded leader, whether it is live or not.
pub(crate) fn topic_message(name: &str, topic: &TopicState) -> v1::Topic {
    let partitions = topic.partitions.iter().enumerate().map(|(p, state)| {
        let partition = i32::try_from(p).unwrap_or(i32::MAX);
        partition_message(partition, state, topic.reassigning.partitions.get(&partition))
    });
    v1::Topic {
        name: name.to_owned(),
        topic_id: topic.id.to_bytes(),
        partitions: partitions.collect(),
        error: None,
        throttle: topic.reassigning.throttle.map_or(0, |r| i64::try_from(r).unwrap_or(i64::MAX)),
    }
}

fn partition_message(
    partition: Partition,
    state: &PartitionState,
    reassignment: Option<&Reassignment>,
) -> v1::Partition {
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect();
    let adding: Vec<BrokerId> = reassignment.map_or(Vec::new(), |r| r.adding().collect());
    let removing = reassignment.map_or(Vec::new(), |r| r.removing(&state.replicas).collect());
    v1::Partition {
        partition,
        leader: state.leader.map_or(-1, |id| id.0),
        leader_epoch: state.leader_epoch.0,
        replicas: ids(&state.replicas),
        isr: ids(&state.isr),
        electable: ids(&state.electable),
        adding: ids(&adding),
        removing: ids(&removing),
        state_version: state.version,
    }
}

/// Who sends: the same in every update of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sender {
    /// The fencing number.
    pub(crate) controller_epoch: i32,
    /// Address of the Admin service.
    pub(crate) address: String,
}

/// The queue of one broker incarnation.
#[derive(Debug)]
pub(crate) struct Outbox {
    sender: Sender,
    incarnation: uuid::Uuid,
    sequence: u64,
    under_way: Option<v1::UpdateClusterRequest>,
    pending: Delta,
    /// So many deltas were added; with the one under way so many are told; are acknowledged.
    added: u64,
    told: u64,
    acknowledged: u64,
}

impl Outbox {
    /// A queue whose first update carries `first`, in practice the live brokers.
    pub(crate) fn new(sender: Sender, incarnation: uuid::Uuid, first: Delta) -> Self {
        Self {
            sender,
            incarnation,
            sequence: 0,
            under_way: None,
            pending: first,
            added: 1,
            told: 0,
            acknowledged: 0,
        }
    }

    /// The fencing number of the sender.
    pub(crate) fn controller_epoch(&self) -> i32 {
        self.sender.controller_epoch
    }

    /// Adds to what the broker is to be told.
    pub(crate) fn add(&mut self, delta: &Delta) {
        self.pending.merge(delta);
        self.added += 1;
    }

    /// How many deltas were added so far.
    pub(crate) fn added(&self) -> u64 {
        self.added
    }

    /// How many of them the broker has acknowledged.
    pub(crate) fn acknowledged_deltas(&self) -> u64 {
        self.acknowledged
    }

    /// The update to send now: the one under way again, or the next; `None`: all is acknowledged.
    pub(crate) fn next(&mut self) -> Option<v1::UpdateClusterRequest> {
        if self.under_way.is_none() {
            if self.sequence > 0 && self.pending.is_empty() {
                return None;
            }
            self.sequence += 1;
            let delta = self.pending.split_first();
            if self.pending.is_empty() {
                self.told = self.added;
            }
            self.under_way = Some(self.request(delta));
        }
        self.under_way.clone()
    }

    /// Takes an acknowledgement; the deletions it confirms.
    pub(crate) fn acknowledged(&mut self, applied: u64) -> Vec<(String, TopicId)> {
        let Some(request) = self.under_way.take_if(|update| update.sequence <= applied) else {
            return Vec::new();
        };
        self.acknowledged = self.told;
        let deleted = request.deleted.into_iter();
        deleted.filter_map(|d| Some((d.name, TopicId::from_slice(&d.topic_id)?))).collect()
    }

    fn request(&self, delta: Delta) -> v1::UpdateClusterRequest {
        let deleted = delta.deleted.into_iter();
        let configs = delta.configs.into_iter();
        v1::UpdateClusterRequest {
            controller_epoch: self.sender.controller_epoch,
            controller: self.sender.address.clone(),
            sequence: self.sequence,
            incarnation: bytes::Bytes::copy_from_slice(self.incarnation.as_bytes()),
            topics: delta.topics.into_values().collect(),
            deleted: deleted
                .map(|(name, id)| v1::DeletedTopic { name, topic_id: id.to_bytes() })
                .collect(),
            brokers: delta.brokers,
            configs: configs
                .map(|((kind, name), values)| v1::ConfigOverrides {
                    kind: kind.plural().to_owned(),
                    name,
                    values: values.into_iter().collect(),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests;
