//! [`Api`]: everything the requests need, and nothing else.

use std::sync::Arc;

use proto::{Partition as PartitionNumber, TopicId, TopicPartition};

use super::Refusal;
use crate::cluster::metadata::MetadataCache;
use crate::cluster::producer_ids::ProducerIds;
use crate::config::{RequestConfig, Settings};
use crate::groups::Groups;
use crate::metrics::Metrics;
use crate::replication::{Missing, Partition, PartitionSet};

/// What a client may ask. Shared by all listeners and threads.
pub struct Api {
    pub(super) partitions: Arc<PartitionSet>,
    pub(super) metadata: Arc<MetadataCache>,
    pub(super) producer_ids: Arc<ProducerIds>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limits: RequestConfig,
    /// Connect string of the registry, as clients reach it.
    pub(super) zookeeper: String,
    pub(super) groups: Option<Groups>,
    /// How this broker is set.
    pub(super) settings: Settings,
}

impl Api {
    /// Joins the parts.
    pub fn new(
        partitions: Arc<PartitionSet>,
        metadata: Arc<MetadataCache>,
        producer_ids: Arc<ProducerIds>,
        metrics: Arc<Metrics>,
        limits: RequestConfig,
        zookeeper: String,
        settings: Settings,
    ) -> Self {
        let groups = None;
        Self { partitions, metadata, producer_ids, metrics, limits, zookeeper, groups, settings }
    }

    /// Bounds of single requests.
    pub fn limits(&self) -> &RequestConfig {
        &self.limits
    }

    /// The partition stored here under this name, number and topic id.
    pub(super) fn partition(
        &self,
        topic: &str,
        id: TopicId,
        partition: PartitionNumber,
    ) -> Result<Arc<Partition>, Refusal> {
        self.partitions.find(topic, id, partition).map_err(|missing| match missing {
            Missing::OtherTopic => Refusal::unknown_topic_id(topic),
            Missing::NotHere => self.missing(topic, id, partition),
        })
    }

    /// Tells what is not stored here from what does not exist.
    fn missing(&self, topic: &str, id: TopicId, partition: PartitionNumber) -> Refusal {
        let image = self.metadata.image();
        match image.topics.get(topic) {
            None => Refusal::unknown_topic(topic),
            Some(known) if known.id != id => Refusal::unknown_topic_id(topic),
            Some(known) if known.partition(partition).is_none() => {
                Refusal::unknown_partition(topic, partition)
            }
            Some(known) => {
                let name = TopicPartition::new(Arc::clone(&known.name), partition);
                match self.partitions.logs().absence(&name, id) {
                    Some(cause) => Refusal::offline(topic, partition, &cause),
                    None => Refusal::not_leader(topic, partition),
                }
            }
        }
    }

    /// The id in its 16 bytes, or a refusal.
    pub(super) fn topic_id(topic: &str, bytes: &[u8]) -> Result<TopicId, Refusal> {
        TopicId::from_slice(bytes).ok_or_else(|| {
            Refusal::invalid_request(format!(
                "topic_id has {} bytes; the 16 bytes that Metadata tells for topic {topic:.64} \
                 are required, so that a deleted and re-created topic is not taken for the old one",
                bytes.len()
            ))
        })
    }
}
