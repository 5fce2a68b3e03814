//! Has the controller create the topic of groups.

use std::sync::Arc;

use proto::v1;

use super::offsets_topic::{NewOffsetsTopic, TopicCreator};
use crate::cluster::controller_link::ControllerLink;

/// Creates topics by way of the controller.
pub struct ControllerCreates(pub Arc<ControllerLink>);

impl TopicCreator for ControllerCreates {
    fn create(&self, topic: NewOffsetsTopic, done: Box<dyn FnOnce() + Send>) {
        let configs = topic.configs.into_iter().map(|(key, value)| (key.to_owned(), value));
        let new = v1::NewTopic {
            name: topic.name.to_owned(),
            partitions: topic.partitions,
            replication_factor: topic.replication_factor,
            configs: configs.collect(),
            ..Default::default()
        };
        self.0.begin_to_create(new, done);
    }
}
