//! Deleting a topic: mark, tell the brokers, wait for the live ones, then remove what is registered.
//!
//! Pure. The mark is the decision: once it is written the deletion happens, if need be by the next
//! controller. A broker that is dead is not waited for: when it starts it finds a directory whose id
//! is not registered and sets it aside.

use std::collections::{BTreeMap, BTreeSet};

use proto::TopicId;

use super::decision::{Decision, Refusal};
use super::outbox::Delta;
use super::state::{Cluster, Deletion, Step};
use super::{subject, unknown_topic};
use crate::registry::configs::Kind;
use crate::registry::fence::Change;
use crate::zk::paths;
use crate::zk::payload::{self, Payload};

/// Decides to delete a topic.
pub(crate) fn mark(cluster: &Cluster, name: &str, now_ms: i64) -> Result<Decision, Refusal> {
    let Some(topic) = cluster.topics.get(name) else { return Err(unknown_topic(cluster, name)) };
    let done = vec![subject::delete(name)];
    if cluster.deletions.contains_key(name) {
        return Ok(Decision { done, ..Decision::default() });
    }
    let value = payload::Deletion { topic_id: topic.id, accepted_ms: now_ms }.encode()?;
    let deletion = Deletion { id: topic.id, waiting_for: cluster.live_hosts(name) };
    Ok(Decision {
        writes: vec![Change::create(paths::admin_delete(name), value)],
        steps: vec![Step::DeletionMarked(name.to_owned(), deletion)],
        delta: told(name, topic.id),
        done,
    })
}

/// What brokers are told of a deletion.
pub(crate) fn told(name: &str, id: TopicId) -> Delta {
    Delta { deleted: BTreeSet::from([(name.to_owned(), id)]), ..Delta::default() }
}

/// The deletions that wait for no broker any more.
pub(crate) fn ready(cluster: &Cluster) -> Vec<String> {
    let waiting = cluster.deletions.iter();
    waiting.filter(|(_, d)| d.waiting_for.is_empty()).map(|(name, _)| name.clone()).collect()
}

/// What brokers are told, and how the picture changes, once nothing of a topic is registered.
pub(crate) fn removed(cluster: &Cluster, name: &str) -> Decision {
    let mut delta = Delta::default();
    let of = (Kind::Topic, name.to_owned());
    if cluster.configs.contains_key(&of) {
        delta.configs.insert(of, BTreeMap::new());
    }
    Decision { steps: vec![Step::Forgotten(name.to_owned())], delta, ..Decision::default() }
}
