//! What a client knows of the cluster: brokers, topics, leaders. A snapshot, never changed in place.
//!
//! Answers come from several brokers, asked for and pushed, and a broker may lag behind another. What
//! can be ordered is: of two states of a partition the one with the higher (leader epoch, state
//! version) is the newer, whichever came last; partitions are never taken away; a topic id that was
//! replaced is not believed again for [`REPLACED_FOR`]. What cannot be (which brokers live, whether a
//! topic is there) is as the last answer says.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{BrokerId, LeaderEpoch, Partition, TopicId, v1};

/// How long an answer with the id that a topic had before counts as late. Not for ever: ids are not
/// ordered, so that it may have been the replacement that was late.
const REPLACED_FOR: Duration = Duration::from_secs(5);
/// Replaced ids remembered of a name.
const REPLACED_MAX: usize = 4;

/// A live broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerNode {
    /// Its number.
    pub id: BrokerId,
    /// `HOST:PORT` of its gRPC listener.
    pub address: String,
    /// Where it stands; may be empty.
    pub rack: String,
    /// Tells this run of it from others.
    pub incarnation: bytes::Bytes,
}

/// One partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// Its number.
    pub partition: Partition,
    /// Who leads it; `None` while no live broker does.
    pub leader: Option<BrokerId>,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// Of two states in one leader epoch the higher is the newer.
    pub state_version: i32,
    /// Brokers that store it.
    pub replicas: Vec<BrokerId>,
    /// Those in sync.
    pub isr: Vec<BrokerId>,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Its name.
    pub name: Arc<str>,
    /// Tells it from a deleted one of the same name.
    pub id: TopicId,
    /// By number, dense from 0.
    pub partitions: Vec<PartitionMetadata>,
}

/// What is known of the cluster.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    /// Empty before the first answer.
    pub cluster_id: String,
    /// Live brokers, by number.
    pub brokers: BTreeMap<BrokerId, BrokerNode>,
    /// Connect string of the registry, chroot included; empty before the first answer.
    pub zookeeper: String,
    /// Address of the controller or empty; administration goes to any broker, which forwards it.
    pub controller: String,
    topics: HashMap<Arc<str>, Known>,
}

/// What is known about a topic.
#[derive(Debug, Clone)]
struct Known {
    /// When it was asked for: it tells nothing of what happened since.
    asked: Instant,
    /// The newest description, also while an error says that there is none.
    found: Option<Arc<TopicMetadata>>,
    /// Why the last answer describes no topic.
    error: Option<v1::Error>,
    /// Ids that the name had before, and until when they are not believed.
    replaced: Vec<(TopicId, Instant)>,
}

/// What an answer has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Anything that a reader of the metadata can see.
    pub(super) any: bool,
    /// Partitions that were known and have a newer leader epoch.
    pub(super) leaders: u64,
}

impl Metadata {
    /// A topic, if it was asked for and exists.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicMetadata>> {
        self.topics.get(name)?.described()
    }

    /// Why a topic that was asked for cannot be described.
    pub fn topic_error(&self, name: &str) -> Option<&v1::Error> {
        self.topics.get(name)?.error.as_ref()
    }

    /// Every topic known.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicMetadata>> {
        self.topics.values().filter_map(Known::described)
    }

    /// One partition of a topic.
    pub fn partition(&self, topic: &str, partition: Partition) -> Option<&PartitionMetadata> {
        self.topic(topic)?.partitions.get(usize::try_from(partition).ok()?)
    }

    /// Who leads a partition, if it is a live broker.
    pub fn leader(&self, topic: &str, partition: Partition) -> Option<&BrokerNode> {
        self.brokers.get(&self.partition(topic, partition)?.leader?)
    }

    /// Whether every one of `topics` was asked for at `since` or later.
    pub(super) fn is_fresh(&self, topics: &[String], since: Instant) -> bool {
        topics
            .iter()
            .all(|name| self.topics.get(name.as_str()).is_some_and(|known| known.asked >= since))
    }

    /// This with an answer put in: topics it does not speak of stay, unless it speaks of `all`.
    pub(super) fn merged(
        &self,
        answer: v1::MetadataResponse,
        asked: Instant,
        all: bool,
    ) -> (Self, Difference) {
        let mut difference = Difference::default();
        let mut topics = self.topics.clone();
        if all {
            let told = |name: &str| answer.topics.iter().any(|topic| topic.name == name);
            topics.retain(|name, _| told(name));
            difference.any |= topics.len() < self.topics.len();
        }
        for topic in answer.topics {
            let name: Arc<str> = topic.name.as_str().into();
            let described = describe(&name, topic);
            match topics.get_mut(&name) {
                Some(known) => {
                    known.asked = known.asked.max(asked);
                    known.learn(described, &mut difference);
                }
                None => {
                    difference.any = true;
                    let (found, error) = match described {
                        Ok(found) => (Some(Arc::new(found)), None),
                        Err(error) => (None, Some(error)),
                    };
                    topics.insert(name, Known { asked, found, error, replaced: Vec::new() });
                }
            }
        }
        let brokers = answer.brokers.into_iter().map(|node| {
            let id = BrokerId(node.id);
            let host = if node.host.contains(':') && !node.host.starts_with('[') {
                format!("[{}]", node.host)
            } else {
                node.host
            };
            let address = format!("{host}:{}", node.grpc_port);
            (id, BrokerNode { id, address, rack: node.rack, incarnation: node.incarnation })
        });
        let merged = Self {
            cluster_id: answer.cluster_id,
            brokers: brokers.collect(),
            zookeeper: answer.zookeeper,
            controller: answer.controller,
            topics,
        };
        difference.any |= merged.brokers != self.brokers
            || merged.cluster_id != self.cluster_id
            || merged.zookeeper != self.zookeeper
            || merged.controller != self.controller;
        (merged, difference)
    }
}

impl Known {
    fn described(&self) -> Option<&Arc<TopicMetadata>> {
        self.found.as_ref().filter(|_| self.error.is_none())
    }

    /// Takes an answer as far as it is not older than what is known.
    fn learn(&mut self, answer: Result<TopicMetadata, v1::Error>, difference: &mut Difference) {
        let mut new = match answer {
            Ok(new) => new,
            Err(error) => {
                difference.any |= self.error.as_ref() != Some(&error);
                self.error = Some(error);
                return;
            }
        };
        let now = Instant::now();
        self.replaced.retain(|(_, until)| *until > now);
        if let Some(old) = self.found.as_deref().filter(|old| old.id != new.id) {
            if self.replaced.iter().any(|(id, _)| *id == new.id) {
                return;
            }
            if self.replaced.len() == REPLACED_MAX {
                self.replaced.remove(0);
            }
            self.replaced.push((old.id, now + REPLACED_FOR));
        } else if let Some(old) = self.found.as_deref() {
            keep_newer(&mut new, old);
            let newer = new.partitions.iter().zip(&old.partitions);
            difference.leaders +=
                newer.filter(|(new, old)| new.leader_epoch > old.leader_epoch).count() as u64;
            if new == *old {
                difference.any |= self.error.take().is_some();
                return;
            }
        }
        difference.any = true;
        self.error = None;
        self.found = Some(Arc::new(new));
    }
}

/// A broker that lags behind the controller must not undo what a faster one told.
fn keep_newer(new: &mut TopicMetadata, old: &TopicMetadata) {
    let age = |partition: &PartitionMetadata| (partition.leader_epoch, partition.state_version);
    for (new, old) in new.partitions.iter_mut().zip(&old.partitions) {
        if age(old) > age(new) {
            new.clone_from(old);
        }
    }
    if let Some(more) = old.partitions.get(new.partitions.len()..) {
        new.partitions.extend_from_slice(more);
    }
}

fn describe(name: &Arc<str>, topic: v1::Topic) -> Result<TopicMetadata, v1::Error> {
    if let Some(error) = topic.error {
        return Err(error);
    }
    let malformed = |what: &str| {
        crate::ErrorCode::UnknownServerError.to_message(
            format!("the broker described topic {name} {what}"),
            "upgrade the older of client and broker",
        )
    };
    let id = TopicId::from_slice(&topic.topic_id).ok_or_else(|| malformed("without a topic id"))?;
    let brokers = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for (number, partition) in topic.partitions.into_iter().enumerate() {
        if usize::try_from(partition.partition) != Ok(number) {
            return Err(malformed("with gaps between its partitions"));
        }
        partitions.push(PartitionMetadata {
            partition: partition.partition,
            leader: (partition.leader >= 0).then_some(BrokerId(partition.leader)),
            leader_epoch: LeaderEpoch(partition.leader_epoch),
            state_version: partition.state_version,
            replicas: brokers(partition.replicas),
            isr: brokers(partition.isr),
        });
    }
    Ok(TopicMetadata { name: Arc::clone(name), id, partitions })
}
