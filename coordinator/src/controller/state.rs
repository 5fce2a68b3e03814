//! The controller's picture of the cluster: what ZooKeeper holds, as of the last read plus own writes.
//!
//! Owned by one task ([`super::run`]); nobody else changes it, and it changes only by a [`Step`]
//! whose writes ZooKeeper has taken. Partition leaders change their own state nodes (`isr`, a raised
//! epoch), so leader epochs here may be behind: whoever needs them exactly reads the node.

use std::collections::{BTreeMap, BTreeSet};

use proto::{BrokerId, LeaderEpoch, Partition, TopicId};
use uuid::Uuid;

use super::requests::FinishedRequests;
use crate::registry::configs::{self, Kind};
use crate::zk::payload::{self, Broker, Reassignment};

/// The live brokers by id.
pub(crate) type Brokers = BTreeMap<BrokerId, Broker>;

/// The whole picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Cluster {
    /// Brokers whose registration node exists.
    pub(crate) brokers: Brokers,
    /// Live brokers that are about to stop, by the incarnation that said so: no candidates for
    /// anything.
    pub(crate) leaving: BTreeMap<BrokerId, Uuid>,
    /// Topics, among them those being deleted.
    pub(crate) topics: BTreeMap<String, TopicState>,
    /// Topics whose nodes cannot be read; they are left alone.
    pub(crate) unreadable: BTreeSet<String>,
    /// Deletions accepted and not finished, by topic.
    pub(crate) deletions: BTreeMap<String, Deletion>,
    /// Overrides, by resource.
    pub(crate) configs: BTreeMap<(Kind, String), Overrides>,
    /// `min.insync.replicas` of topics that do not override it; of this coordinator's settings.
    pub(crate) min_insync_default: usize,
    /// Requests finished lately, so that a retry over a fail-over is answered and not done twice.
    pub(crate) finished: FinishedRequests,
}

/// A registered topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicState {
    /// Tells it from an earlier topic of the same name.
    pub(crate) id: TopicId,
    /// Dense from 0.
    pub(crate) partitions: Vec<PartitionState>,
    /// Version of the topic's node.
    pub(crate) version: i32,
    /// Partitions whose replicas are being changed.
    pub(crate) reassigning: Reassigning,
}

impl TopicState {
    /// One of its partitions.
    pub(crate) fn partition(&self, partition: Partition) -> Option<&PartitionState> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }

    /// One of its partitions, to change it.
    pub(crate) fn partition_mut(&mut self, partition: Partition) -> Option<&mut PartitionState> {
        self.partitions.get_mut(usize::try_from(partition).ok()?)
    }
}

/// The reassignments of a topic that are accepted and not done, as their node has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Reassigning {
    /// What each partition is to have, and what it had.
    pub(crate) partitions: BTreeMap<Partition, Reassignment>,
    /// Bytes a second that each broker which comes in fetches meanwhile; none: by its own settings.
    pub(crate) throttle: Option<u64>,
    /// Version of the node; none: it is not there.
    pub(crate) version: Option<i32>,
}

/// One partition as its state node had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionState {
    /// Preferred leader first.
    pub(crate) replicas: Vec<BrokerId>,
    /// The recorded leader; kept while its broker is down and nobody else may lead.
    pub(crate) leader: Option<BrokerId>,
    /// Counts leaders.
    pub(crate) leader_epoch: LeaderEpoch,
    /// In-sync replicas.
    pub(crate) isr: Vec<BrokerId>,
    /// Fell out of the ISR below `min.insync.replicas` and may still lead (KIP-966).
    pub(crate) electable: Vec<BrokerId>,
    /// Version of the state's node as it was read or written last.
    pub(crate) version: i32,
}

impl PartitionState {
    /// Takes what the node has, unless something newer is known.
    fn take(&mut self, state: payload::PartitionState, version: i32) {
        if version <= self.version {
            return;
        }
        let payload::PartitionState { leader, leader_epoch, isr, electable, controller_epoch: _ } =
            state;
        *self = Self {
            replicas: std::mem::take(&mut self.replicas),
            leader,
            leader_epoch,
            isr,
            electable,
            version,
        };
    }

    /// The value of its node.
    pub(crate) fn payload(&self, controller_epoch: i32) -> payload::PartitionState {
        payload::PartitionState {
            leader: self.leader,
            leader_epoch: self.leader_epoch,
            isr: self.isr.clone(),
            electable: self.electable.clone(),
            controller_epoch,
        }
    }
}

/// A topic on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deletion {
    /// The topic's id; a topic of the name with another id is not meant.
    pub(crate) id: TopicId,
    /// Live brokers that have not yet said that they dropped it.
    pub(crate) waiting_for: Vec<BrokerId>,
}

/// The overrides of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Overrides {
    /// Key to value.
    pub(crate) values: BTreeMap<String, String>,
    /// Version of the node.
    pub(crate) version: i32,
}

/// One step from picture to picture, applied once ZooKeeper has taken its writes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// The brokers whose node exists now.
    Brokers(Brokers),
    /// A broker is about to stop.
    Leaving(BrokerId, Uuid),
    /// A partition's state as its node has it, read or written, with the node's version.
    State(String, Partition, payload::PartitionState, i32),
    /// A topic was created or grown; whole.
    Topic(String, TopicState),
    /// A topic's deletion was accepted.
    DeletionMarked(String, Deletion),
    /// A broker dropped a topic that is being deleted, or is not live any more.
    DroppedBy(String, BrokerId),
    /// Nothing of a topic is registered any more.
    Forgotten(String),
    /// Overrides of a resource; `None`: removed.
    Configs(Kind, String, Option<Overrides>),
}

impl Cluster {
    /// Takes one change.
    pub(crate) fn apply(&mut self, step: Step) {
        match step {
            Step::Brokers(brokers) => self.replace_brokers(brokers),
            Step::Leaving(id, incarnation) => {
                self.leaving.insert(id, incarnation);
            }
            Step::State(topic, partition, state, version) => {
                if let Some(known) = self.partition_mut(&topic, partition) {
                    known.take(state, version);
                }
            }
            Step::Topic(name, topic) => {
                self.topics.insert(name, topic);
            }
            Step::DeletionMarked(name, deletion) => {
                self.deletions.insert(name, deletion);
            }
            Step::DroppedBy(name, broker) => {
                if let Some(deletion) = self.deletions.get_mut(&name) {
                    deletion.waiting_for.retain(|id| *id != broker);
                }
            }
            Step::Forgotten(name) => {
                self.topics.remove(&name);
                self.deletions.remove(&name);
                self.configs.remove(&(Kind::Topic, name));
            }
            Step::Configs(kind, name, Some(overrides)) => {
                self.configs.insert((kind, name), overrides);
            }
            Step::Configs(kind, name, None) => {
                self.configs.remove(&(kind, name));
            }
        }
    }

    /// A deletion waits for live brokers only, and anew for one that started again: it may have
    /// read the topic before the deletion was marked.
    fn replace_brokers(&mut self, brokers: Brokers) {
        let before = std::mem::replace(&mut self.brokers, brokers);
        let live = &self.brokers;
        self.leaving.retain(|id, as_of| live.get(id).is_some_and(|b| b.incarnation == *as_of));
        let new = |id: &BrokerId| {
            before.get(id).map(|b| b.incarnation) != self.brokers.get(id).map(|b| b.incarnation)
        };
        let hosts: Vec<(String, Vec<BrokerId>)> = self
            .deletions
            .keys()
            .map(|name| (name.clone(), self.live_hosts(name).into_iter().filter(new).collect()))
            .collect();
        for (name, joined) in hosts {
            let Some(deletion) = self.deletions.get_mut(&name) else { continue };
            deletion.waiting_for.retain(|id| self.brokers.contains_key(id));
            for id in joined {
                if !deletion.waiting_for.contains(&id) {
                    deletion.waiting_for.push(id);
                }
            }
        }
    }

    /// The `min.insync.replicas` of a topic.
    pub(crate) fn min_insync(&self, topic: &str) -> usize {
        let overrides = self.configs.get(&(Kind::Topic, topic.to_owned()));
        let own = overrides.and_then(|o| o.values.get("min.insync.replicas")?.parse().ok());
        own.unwrap_or(self.min_insync_default.max(1))
    }

    /// Whether a broker is live and stays so, as far as is known.
    pub(crate) fn may_lead(&self, id: BrokerId) -> bool {
        self.brokers.contains_key(&id) && !self.leaving.contains_key(&id)
    }

    /// Whether a broker takes no new replicas, live or not: it is drained, or is to be.
    pub(crate) fn is_cordoned(&self, id: BrokerId) -> bool {
        let overrides = self.configs.get(&(Kind::Broker, id.to_string()));
        let value = overrides.and_then(|o| o.values.get(configs::CORDONED_KEY));
        value.is_some_and(|value| value == configs::CORDONED_ALL)
    }

    /// The brokers that take no new replicas, live or not.
    pub(crate) fn cordoned(&self) -> Vec<BrokerId> {
        let brokers = self.configs.keys().filter(|(kind, _)| *kind == Kind::Broker);
        let ids = brokers.filter_map(|(_, name)| Some(BrokerId(name.parse().ok()?)));
        ids.filter(|id| self.is_cordoned(*id)).collect()
    }

    /// A partition of a topic that is not being deleted.
    pub(crate) fn partition(&self, topic: &str, partition: Partition) -> Option<&PartitionState> {
        if self.deletions.contains_key(topic) {
            return None;
        }
        self.topics.get(topic)?.partitions.get(usize::try_from(partition).ok()?)
    }

    fn partition_mut(&mut self, topic: &str, partition: Partition) -> Option<&mut PartitionState> {
        self.topics.get_mut(topic)?.partitions.get_mut(usize::try_from(partition).ok()?)
    }

    /// Every partition of topics that are not being deleted.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = (&str, Partition, &PartitionState)> {
        let topics = self.topics.iter().filter(|(name, _)| !self.deletions.contains_key(*name));
        topics.flat_map(|(name, topic)| {
            (0..).zip(&topic.partitions).map(move |(p, state)| (name.as_str(), p, state))
        })
    }

    /// The live replicas of a topic, each once.
    pub(crate) fn live_hosts(&self, topic: &str) -> Vec<BrokerId> {
        let Some(topic) = self.topics.get(topic) else { return Vec::new() };
        self.brokers
            .keys()
            .copied()
            .filter(|id| topic.partitions.iter().any(|p| p.replicas.contains(id)))
            .collect()
    }

    /// Replicas and preferred leaders of each live broker, over all topics.
    pub(crate) fn load(&self) -> BTreeMap<BrokerId, (usize, usize)> {
        let mut load: BTreeMap<BrokerId, (usize, usize)> =
            self.brokers.keys().map(|&id| (id, (0, 0))).collect();
        for partition in self.topics.values().flat_map(|topic| &topic.partitions) {
            for (position, id) in partition.replicas.iter().enumerate() {
                if let Some((replicas, leaders)) = load.get_mut(id) {
                    *replicas += 1;
                    *leaders += usize::from(position == 0);
                }
            }
        }
        load
    }
}
