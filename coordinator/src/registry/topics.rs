//! `/brokers/topics`: what exists. Only the controller writes, fenced by its epoch.
//!
//! A topic whose node is empty is being made or unmade: readers take it for absent. Small topics
//! are made in one transaction; large ones empty first, then their partitions in several, then the
//! topic's value. So a topic that can be read is complete.

use std::collections::BTreeMap;

use proto::Partition;
use zookeeper_client::{Client, OneshotWatcher};

use super::fence::{Change, is_applied};
use super::node::{self, Versioned};
use super::{EpochFence, FencedError, RegistryError};
use crate::zk::paths;
use crate::zk::payload::{PartitionState, Topic};

/// The names of all topics, also of those being made or unmade.
pub async fn names(client: &Client) -> Result<Vec<String>, RegistryError> {
    node::children(client, paths::TOPICS).await
}

/// The names of all topics, and a watch that fires when one comes or goes. It may fire before a new
/// topic can be read: watch that one with [`read_and_watch`].
pub async fn names_and_watch(
    client: &Client,
) -> Result<(Vec<String>, OneshotWatcher), RegistryError> {
    node::children_and_watch(client, paths::TOPICS).await
}

/// One topic.
pub async fn read(client: &Client, name: &str) -> Result<Option<Versioned<Topic>>, RegistryError> {
    node::read(client, &paths::topic(name)).await
}

/// One topic, and a watch for its change: growth, deletion, (re-)creation.
pub async fn read_and_watch(
    client: &Client,
    name: &str,
) -> Result<(Option<Versioned<Topic>>, OneshotWatcher), RegistryError> {
    node::read_and_watch(client, &paths::topic(name)).await
}

/// All topics.
pub async fn list(client: &Client) -> Result<BTreeMap<String, Versioned<Topic>>, RegistryError> {
    let names = names(client).await?;
    let found = node::read_many(client, names.iter().map(|name| paths::topic(name))).await?;
    Ok(names.into_iter().zip(found).filter_map(|(name, found)| Some((name, found?))).collect())
}

/// Removes a topic, its partitions' states, overrides, reassignments and deletion mark. Idempotent:
/// goes on where an earlier attempt ended. From the first step on readers take it for absent.
pub async fn remove(client: &Client, fence: EpochFence, name: &str) -> Result<(), FencedError> {
    let topic = paths::topic(name);
    loop {
        let mut changes = Vec::new();
        let exists = node::bytes(client, &topic).await?;
        if let Some((bytes, _)) = &exists {
            if !bytes.is_empty() {
                changes.push(Change::Set { path: topic.clone(), bytes: Vec::new(), version: None });
            }
            let names = node::children(client, &paths::partitions(name)).await?;
            let partitions: Vec<_> = names.iter().filter_map(|p| p.parse().ok()).collect();
            changes.extend(removal_of_partitions(client, name, &partitions).await?);
            for id in node::children(client, &paths::stored_parent(name)).await? {
                let path = format!("{}/{id}", paths::stored_parent(name));
                changes.push(Change::Delete { path, version: None });
            }
        }
        let ends = [
            paths::partitions(name),
            paths::stored_parent(name),
            topic.clone(),
            paths::config("topics", name),
            paths::admin_reassign(name),
            paths::admin_delete(name),
        ];
        for path in ends {
            if node::bytes(client, &path).await?.is_some() {
                changes.push(Change::Delete { path, version: None });
            }
        }
        let applied = async |first: &Change| is_applied(client, first).await;
        match fence.commit_in_parts(client, &changes, applied).await {
            // A broker put its `stored` node back, or a lost answer hid a step: look again.
            Err(FencedError::Conflict { .. }) => {}
            other => return other,
        }
    }
}

async fn removal_of_partitions(
    client: &Client,
    name: &str,
    partitions: &[Partition],
) -> Result<Vec<Change>, RegistryError> {
    let states = partitions.iter().map(|&p| paths::partition_state(name, p));
    let found: Vec<Option<Versioned<PartitionState>>> = node::read_many(client, states).await?;
    let mut changes = Vec::new();
    for (&partition, state) in partitions.iter().zip(&found) {
        if state.is_some() {
            let path = paths::partition_state(name, partition);
            changes.push(Change::Delete { path, version: None });
        }
        let path = paths::partition(name, partition);
        changes.push(Change::Delete { path, version: None });
    }
    Ok(changes)
}
