//! `/consumers/<g>/offsets`: how far a group has read.
//!
//! The nodes are persistent, and a claim rewrites them ([`super::owners`]), so their versions
//! fence: a commit passes the version that its member wrote last.

use std::collections::BTreeMap;

use proto::Partition;
use zookeeper_client::Client;

use super::RegistryError;
use super::node::{self, Versioned};
use crate::zk::paths;
use crate::zk::payload::CommittedOffset;

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitOutcome {
    /// Written.
    Committed {
        /// What the next commit must pass.
        fence: i32,
    },
    /// Somebody else has claimed the partition (or the group was deleted): it is not ours any more.
    Fenced,
}

/// The stored offset of a partition. It may belong to an earlier topic of the name: compare ids.
pub async fn read(
    client: &Client,
    group: &str,
    topic: &str,
    partition: Partition,
) -> Result<Option<Versioned<CommittedOffset>>, RegistryError> {
    node::read(client, &paths::offset(group, topic, partition)).await
}

/// Commits, if nobody has claimed the partition since `fence`.
///
/// `value.by` must be the member's id: a lost answer is resolved by reading back, and the next
/// version with this very value is ours. One commit a partition at a time; those of many
/// partitions can be made side by side. An unchanged value need not be committed.
pub async fn commit(
    client: &Client,
    group: &str,
    topic: &str,
    partition: Partition,
    value: &CommittedOffset,
    fence: i32,
) -> Result<CommitOutcome, RegistryError> {
    let path = paths::offset(group, topic, partition);
    Ok(match node::set(client, &path, value, fence).await? {
        Some(fence) => CommitOutcome::Committed { fence },
        None => CommitOutcome::Fenced,
    })
}

/// Every stored offset of a group: topic to partition to offset.
pub async fn list(
    client: &Client,
    group: &str,
) -> Result<BTreeMap<String, BTreeMap<Partition, CommittedOffset>>, RegistryError> {
    let mut all = BTreeMap::new();
    for topic in node::children(client, &paths::offsets(group)).await? {
        let names = node::children(client, &paths::topic_offsets(group, &topic)).await?;
        let partitions: Vec<Partition> = names.iter().filter_map(|n| n.parse().ok()).collect();
        let paths = partitions.iter().map(|&p| paths::offset(group, &topic, p));
        let found = node::read_many::<CommittedOffset>(client, paths).await?;
        let stored = partitions.into_iter().zip(found).filter_map(|(p, o)| Some((p, o?.value)));
        all.insert(topic, stored.collect());
    }
    Ok(all)
}
