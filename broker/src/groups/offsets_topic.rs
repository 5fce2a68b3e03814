//! `__consumer_offsets` as the cluster has it: which partition a group belongs to, who leads it, and
//! that it comes into being when the first group is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::{BrokerId, LeaderEpoch, Partition as PartitionNumber, TopicId, TopicPartition};
use tokio::sync::watch;

use super::GroupError;
use super::offsets::CommittedOffset;
use crate::cluster::metadata::{MetadataCache, TopicImage};
use crate::config::GroupConfig;
use crate::replication::{Partition, PartitionSet};

/// Kafka's name of the topic that offsets and groups are stored in.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Settings of the topic when it is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOffsetsTopic {
    /// Its name.
    pub name: &'static str,
    /// `offsets.topic.num.partitions`.
    pub partitions: i32,
    /// `offsets.topic.replication.factor`.
    pub replication_factor: i32,
    /// Topic-level settings.
    pub configs: Vec<(&'static str, String)>,
}

/// Who can create a topic.
pub trait TopicCreator: Send + Sync {
    /// Begins to create it, unless it exists, and calls `done` when that has come to its end.
    fn create(&self, topic: NewOffsetsTopic, done: Box<dyn FnOnce() + Send>);
}

/// The topic, as this broker knows it.
#[derive(Clone)]
pub(super) struct OffsetsTopic {
    metadata: Arc<MetadataCache>,
    creator: Arc<dyn TopicCreator>,
    is_being_created: Arc<AtomicBool>,
}

impl OffsetsTopic {
    pub(super) fn new(metadata: Arc<MetadataCache>, creator: Arc<dyn TopicCreator>) -> Self {
        Self { metadata, creator, is_being_created: Arc::default() }
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.metadata.changes()
    }

    fn image(&self) -> Option<Arc<TopicImage>> {
        self.metadata.image().topics.get(OFFSETS_TOPIC).cloned()
    }

    pub(super) fn partition_count(&self) -> PartitionNumber {
        self.image().map_or(0, |topic| count(&topic))
    }

    /// The partition that a group belongs to; `None`: there is no such topic.
    pub(super) fn partition_of(&self, group: &str) -> Option<PartitionNumber> {
        let count = self.partition_count();
        (count > 0).then(|| partition_of(group, count))
    }

    /// Who leads a partition of it, as the controller decided.
    pub(super) fn leader_of(&self, number: PartitionNumber) -> Option<BrokerId> {
        self.image()?.partition(number)?.leader
    }

    /// A partition of it that this broker leads, and in which epoch. The cluster's picture hears of
    /// a new leader before the partition here does, and counts.
    pub(super) fn led(
        &self,
        partitions: &PartitionSet,
        number: PartitionNumber,
    ) -> Option<(LeaderEpoch, Arc<Partition>)> {
        let topic = self.image()?;
        let partition = partitions.find(OFFSETS_TOPIC, topic.id, number).ok()?;
        let epoch = partition.leading()?;
        let known = topic.partition(number)?.leader_epoch;
        (known <= epoch).then_some((epoch, partition))
    }

    /// The id of the topic that a partition is of, if there is such a partition.
    pub(super) fn id_of(&self, name: &TopicPartition) -> Option<TopicId> {
        let image = self.metadata.image();
        let topic = image.topics.get(&name.topic)?;
        topic.partition(name.partition).map(|_| topic.id)
    }

    /// Whether the topic that an offset was committed for is still the one of the name.
    pub(super) fn is_valid(&self, name: &TopicPartition, committed: &CommittedOffset) -> bool {
        committed.topic_id.is_none_or(|id| self.id_of(name) == Some(id))
    }

    /// Whether there is such a topic.
    pub(super) fn has_topic(&self, name: &str) -> bool {
        self.metadata.image().topics.contains_key(name)
    }

    /// Who coordinates a group. The topic is created for the first one that is asked for.
    pub(super) fn coordinator_of(
        &self,
        group: &str,
        config: &GroupConfig,
    ) -> Result<BrokerId, GroupError> {
        let Some(topic) = self.image().filter(|topic| count(topic) > 0) else {
            return Err(self.create(config));
        };
        let partition = topic.partition(partition_of(group, count(&topic)));
        let leader = partition.and_then(|partition| partition.leader);
        let image = self.metadata.image();
        let live = leader.filter(|leader| image.brokers.contains_key(leader));
        live.ok_or(GroupError::CoordinatorNotAvailable)
    }

    /// Begins to create the topic; what is told meanwhile. Never with fewer replicas than it is to
    /// have (KIP-115): nobody would add them when the rest of the cluster has come up.
    fn create(&self, config: &GroupConfig) -> GroupError {
        let live = i32::try_from(self.metadata.image().brokers.len()).unwrap_or(i32::MAX);
        if live < config.topic_replication_factor {
            tracing::info!(
                live,
                wanted = config.topic_replication_factor,
                "too few brokers are live"
            );
            return GroupError::TooFewBrokers;
        }
        if self.is_being_created.swap(true, Ordering::AcqRel) {
            return GroupError::CoordinatorNotAvailable;
        }
        let done = Arc::clone(&self.is_being_created);
        let topic = NewOffsetsTopic {
            name: OFFSETS_TOPIC,
            partitions: config.topic_partitions,
            replication_factor: config.topic_replication_factor,
            configs: vec![
                ("cleanup.policy", "compact".to_owned()),
                ("compression.type", "producer".to_owned()),
                ("segment.bytes", config.topic_segment_bytes.to_string()),
            ],
        };
        tracing::info!(?topic, "the topic of groups is created");
        self.creator.create(topic, Box::new(move || done.store(false, Ordering::Release)));
        GroupError::CoordinatorNotAvailable
    }
}

fn count(topic: &TopicImage) -> PartitionNumber {
    PartitionNumber::try_from(topic.partitions.len()).unwrap_or(PartitionNumber::MAX)
}

/// As Kafka has it: the absolute value of Java's hash of the text.
fn partition_of(group: &str, count: PartitionNumber) -> PartitionNumber {
    let hash = group
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Of the least number there is no absolute value, and Kafka takes 0.
    hash.checked_abs().unwrap_or(0) % count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_spread_as_kafka_spreads_them() {
        // Java: "test".hashCode() is 3556498.
        assert_eq!(partition_of("test", 50), 48);
        assert_eq!(partition_of("", 50), 0);
        assert_eq!(partition_of("a", 50), 97 % 50);
        // Its hash is the least number.
        assert_eq!(partition_of("polygenelubricants", 50), 0);
        // "é" is one unit of UTF-16, a clef two.
        assert_eq!(partition_of("\u{e9}", 50), 0xe9 % 50);
        let clef = 0xd834_i32 * 31 + 0xdd1e;
        assert_eq!(partition_of("\u{1d11e}", 50), clef % 50);
        for number in 0..1000 {
            let partition = partition_of(&format!("group-{number}"), 7);
            assert!((0..7).contains(&partition), "{number}: {partition}");
        }
    }
}
