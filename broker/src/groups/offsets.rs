//! What a group has committed, and what of it has expired. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto::{LeaderEpoch, Offset, TopicId, TopicPartition};

use super::classic::{Group, State, subscribed_topics};

/// The kind of group whose members' subscriptions can be read.
pub(super) const CONSUMER: &str = "consumer";

/// An offset that a group has committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to be read.
    pub offset: Offset,
    /// Of the record before it; unknown is -1.
    pub leader_epoch: LeaderEpoch,
    /// Whatever the client noted beside it.
    pub metadata: Arc<str>,
    /// When it was committed, in milliseconds since the epoch.
    pub commit_ms: i64,
    /// When it expires, where the client said so.
    pub expire_ms: Option<i64>,
    /// Of the topic it was committed for; an offset for a deleted topic is none for its successor.
    pub topic_id: Option<TopicId>,
    /// Where it stands in the offsets partition: of two commits the later one counts.
    pub(super) stands_at: Offset,
}

impl CommittedOffset {
    /// Bytes it takes, about, under its name.
    pub(super) fn bytes(&self, name: &TopicPartition) -> usize {
        const AROUND: usize = 192;
        AROUND + name.topic.len() + self.metadata.len()
    }
}

/// Offsets of one group.
pub(super) type Offsets = BTreeMap<TopicPartition, CommittedOffset>;

/// The offsets that are due to go: `retention` after the group has become empty; or, where members
/// read other topics or nobody ever joined, after the commit.
pub(super) fn expired(
    group: &Group,
    offsets: &Offsets,
    retention: Duration,
    now_ms: i64,
) -> Vec<TopicPartition> {
    let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    let is_consumer = group.protocol_type().is_some_and(|kind| **kind == *CONSUMER);
    let keeps: Box<dyn Fn(&str) -> bool> = match (group.protocol_type(), group.state()) {
        (None, _) | (Some(_), State::Empty) => Box::new(|_| false),
        (Some(_), State::Stable) if is_consumer => Box::new(|topic| is_subscribed(group, topic)),
        _ => return Vec::new(),
    };
    let is_due = |committed: &CommittedOffset| match (committed.expire_ms, group.state()) {
        (Some(at), _) => at <= now_ms,
        (None, State::Empty) if group.protocol_type().is_some() => {
            group.since_ms().max(committed.commit_ms).saturating_add(retention_ms) <= now_ms
        }
        (None, _) => committed.commit_ms.saturating_add(retention_ms) <= now_ms,
    };
    let due = offsets.iter().filter(|(name, offset)| !keeps(&name.topic) && is_due(offset));
    due.map(|(name, _)| name.clone()).collect()
}

/// Whether a member reads the topic, or may: what cannot be read is taken for a subscription.
pub(super) fn is_subscribed(group: &Group, topic: &str) -> bool {
    let Some(protocol) = group.protocol() else { return group.size() > 0 };
    group.members().any(|member| {
        let metadata = member.metadata(protocol);
        subscribed_topics(&metadata).is_none_or(|topics| topics.contains(topic))
    })
}
