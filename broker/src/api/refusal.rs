//! Why something a client asked for was not done: for a program (a code) and for a person.

use std::borrow::Cow;

use proto::{ErrorCode, Offset, TopicId};

/// A refused item of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Kafka's error.
    pub code: ErrorCode,
    /// What happened and its likely cause.
    pub message: Cow<'static, str>,
    /// What to do about it; empty where nothing is to be done.
    pub remedy: Cow<'static, str>,
    /// Offsets that cannot be read, from the first to the one after the last.
    pub damaged: Option<(Offset, Offset)>,
}

impl Refusal {
    /// Words a refusal.
    pub fn new(
        code: ErrorCode,
        message: impl Into<Cow<'static, str>>,
        remedy: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { code, message: message.into(), remedy: remedy.into(), damaged: None }
    }

    /// Names the offsets that cannot be read.
    pub fn with_damage(self, from: Offset, to: Offset) -> Self {
        Self { damaged: Some((from, to)), ..self }
    }

    /// The name leads to no topic here.
    pub fn unknown_topic(topic: &str) -> Self {
        Self::new(
            ErrorCode::UnknownTopicOrPartition,
            format!("topic {} does not exist, as far as this broker knows", shown(topic)),
            "create it (coordinator topics --create), or refresh metadata if it was just created",
        )
    }

    /// The topic has fewer partitions.
    pub fn unknown_partition(topic: &str, partition: i32) -> Self {
        Self::new(
            ErrorCode::UnknownTopicOrPartition,
            format!("topic {} has no partition {partition}", shown(topic)),
            "refresh metadata",
        )
    }

    /// The name belongs to another topic now.
    pub fn unknown_topic_id(topic: &str) -> Self {
        Self::new(
            ErrorCode::UnknownTopicId,
            format!(
                "the topic id does not belong to topic {}: it was deleted, or deleted and created \
                 again",
                shown(topic)
            ),
            "refresh metadata and decide whether the new topic is meant",
        )
    }

    /// No topic has the id.
    pub fn no_topic_with_id(id: TopicId) -> Self {
        Self::new(
            ErrorCode::UnknownTopicId,
            format!("no topic has the id {}, as far as this broker knows", id.0),
            "refresh metadata; the topic was deleted, or just created",
        )
    }

    /// Somebody else leads, or nobody.
    pub fn not_leader(topic: &str, partition: i32) -> Self {
        Self::new(
            ErrorCode::NotLeaderOrFollower,
            format!("this broker does not lead partition {partition} of topic {}", shown(topic)),
            "refresh metadata and ask the leader",
        )
    }

    /// It is stored here, on a disk that cannot be used.
    pub fn offline(topic: &str, partition: i32, cause: &str) -> Self {
        Self::new(
            ErrorCode::KafkaStorageError,
            format!("partition {partition} of topic {} is offline here: {cause}", shown(topic)),
            "repair the broker's disk and restart the broker",
        )
    }

    /// A field is missing or contradicts another.
    pub fn invalid_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message, "correct the client")
    }
}

/// A name from a peer, short and printable.
fn shown(name: &str) -> String {
    let short: String = name.chars().take(64).collect();
    format!("{short:?}")
}
