//! What a client knows of the cluster: brokers, topics, leaders. A snapshot, never changed in place.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use crate::{BrokerId, LeaderEpoch, Partition, TopicId, v1};

/// A live broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerNode {
    /// Its number.
    pub id: BrokerId,
    /// `HOST:PORT` of its gRPC listener.
    pub address: String,
    /// Where it stands; may be empty.
    pub rack: String,
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

/// The last answer about a topic.
#[derive(Debug, Clone)]
struct Known {
    /// When it was asked for: it tells nothing of what happened since.
    asked: Instant,
    answer: Result<Arc<TopicMetadata>, v1::Error>,
}

impl Metadata {
    /// A topic, if it was asked for and exists.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicMetadata>> {
        self.topics.get(name)?.answer.as_ref().ok()
    }

    /// Why a topic that was asked for cannot be described.
    pub fn topic_error(&self, name: &str) -> Option<&v1::Error> {
        self.topics.get(name)?.answer.as_ref().err()
    }

    /// Every topic known.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicMetadata>> {
        self.topics.values().filter_map(|known| known.answer.as_ref().ok())
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
    pub(super) fn is_fresh(&self, topics: &[&str], since: Instant) -> bool {
        topics.iter().all(|&name| self.topics.get(name).is_some_and(|known| known.asked >= since))
    }

    /// This with an answer put in: topics it does not speak of stay, unless it speaks of `all`.
    pub(super) fn merged(&self, answer: v1::MetadataResponse, asked: Instant, all: bool) -> Self {
        let mut topics = if all { HashMap::new() } else { self.topics.clone() };
        for topic in answer.topics {
            let name: Arc<str> = topic.name.as_str().into();
            let mut answer = describe(&name, topic);
            if let (Ok(new), Some(old)) = (&mut answer, self.topic(&name)) {
                keep_newer_leaders(Arc::make_mut(new), old);
            }
            topics.insert(name, Known { asked, answer });
        }
        let brokers = answer.brokers.into_iter().map(|node| {
            let id = BrokerId(node.id);
            let host = if node.host.contains(':') && !node.host.starts_with('[') {
                format!("[{}]", node.host)
            } else {
                node.host
            };
            let address = format!("{host}:{}", node.grpc_port);
            (id, BrokerNode { id, address, rack: node.rack })
        });
        Self {
            cluster_id: answer.cluster_id,
            brokers: brokers.collect(),
            zookeeper: answer.zookeeper,
            controller: answer.controller,
            topics,
        }
    }
}

/// A broker that lags behind the controller must not undo what a faster one told.
fn keep_newer_leaders(new: &mut TopicMetadata, old: &TopicMetadata) {
    if new.id != old.id {
        return;
    }
    for (new, old) in new.partitions.iter_mut().zip(&old.partitions) {
        if old.leader_epoch > new.leader_epoch {
            new.clone_from(old);
        }
    }
}

fn describe(name: &Arc<str>, topic: v1::Topic) -> Result<Arc<TopicMetadata>, v1::Error> {
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
            replicas: brokers(partition.replicas),
            isr: brokers(partition.isr),
        });
    }
    Ok(Arc::new(TopicMetadata { name: Arc::clone(name), id, partitions }))
}
