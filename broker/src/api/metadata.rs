//! Metadata: topics and brokers as this broker knows them.

use std::sync::Arc;

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

    /// Told after each change of what is known.
    pub fn metadata_changes(&self) -> watch::Receiver<u64> {
        self.metadata.changes()
    }
}
