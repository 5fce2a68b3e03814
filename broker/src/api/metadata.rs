//! Metadata: topics and brokers as this broker knows them.

use std::sync::Arc;

use proto::{BrokerId, LeaderEpoch, Partition as PartitionNumber, TopicId};
use tokio::sync::watch;

use super::{Api, Refusal};
use crate::cluster::metadata::{ClusterImage, TopicImage};

/// Which topics are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Every topic.
    All,
    /// These; none means brokers only.
    Named(Vec<String>),
}

/// An answer.
#[derive(Clone)]
pub struct MetadataView {
    /// Brokers, cluster id, controller: of this image.
    pub image: Arc<ClusterImage>,
    /// In the order asked for.
    pub topics: Vec<Result<Arc<TopicImage>, (String, Refusal)>>,
    /// The registry's connect string for clients.
    pub zookeeper: String,
}

impl Api {
    /// What is known now.
    pub fn metadata(&self, wanted: &Wanted) -> MetadataView {
        let image = self.metadata.image();
        let topics = match wanted {
            Wanted::All => image.topics.values().map(|topic| Ok(Arc::clone(topic))).collect(),
            Wanted::Named(names) => names
                .iter()
                .map(|name| match image.topics.get(name.as_str()) {
                    Some(topic) => Ok(Arc::clone(topic)),
                    None => Err((name.clone(), Refusal::unknown_topic(name))),
                })
                .collect(),
        };
        MetadataView { image, topics, zookeeper: self.zookeeper.clone() }
    }

    /// The id of the topic that has the name now.
    pub fn topic_id_of(&self, topic: &str) -> Result<TopicId, Refusal> {
        let image = self.metadata.image();
        image.topics.get(topic).map(|known| known.id).ok_or_else(|| Refusal::unknown_topic(topic))
    }

    /// The name of the topic with an id.
    pub fn topic_name_of(&self, id: TopicId) -> Result<Arc<str>, Refusal> {
        let image = self.metadata.image();
        let topic = image.topic_by_id(id).ok_or_else(|| Refusal::no_topic_with_id(id))?;
        Ok(Arc::clone(&topic.name))
    }

    /// Who leads a partition, as far as is known.
    pub fn leader_of(
        &self,
        topic: &str,
        partition: PartitionNumber,
    ) -> Option<(BrokerId, LeaderEpoch)> {
        let image = self.metadata.image();
        let state = image.topics.get(topic)?.partition(partition)?;
        Some((state.leader?, state.leader_epoch))
    }

    /// Told after each change of what is known.
    pub fn metadata_changes(&self) -> watch::Receiver<u64> {
        self.metadata.changes()
    }
}
