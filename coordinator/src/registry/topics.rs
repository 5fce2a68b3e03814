//! `/brokers/topics`: what exists. Only the controller writes, fenced by its epoch.
//!
//! A topic whose node is empty is being made or unmade: readers take it for absent. Small topics
//! are made in one transaction; large ones empty first, then their partitions in several, then the
//! topic's value. So a topic that can be read is complete.

use std::collections::BTreeMap;

use proto::Partition;
use zookeeper_client::{Client, OneshotWatcher};

use super::fence::{Change, PART_BYTES, is_applied};
use super::node::{self, Versioned};
use super::{EpochFence, FencedError, RegistryError};
use crate::zk::payload::{Overrides, PartitionState, Topic};
use crate::zk::{Payload, paths};

/// A topic to be created.
#[derive(Debug, Clone)]
pub struct NewTopic {
    /// Its id and the replicas of each partition.
    pub topic: Topic,
    /// The first state of each partition, as many as the topic has.
    pub states: Vec<PartitionState>,
    /// Its configuration overrides; may be empty.
    pub overrides: Overrides,
}

/// The names of all topics, also of those being made or unmade.
pub async fn names(client: &Client) -> Result<Vec<String>, RegistryError> {
    node::children(client, paths::TOPICS).await
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
    read_all(client, names).await
}

/// All topics, and a watch that fires when a name comes or goes. It does not fire when a topic
/// grows, and it may fire before a new topic can be read: watch that one with [`read_and_watch`].
pub async fn list_and_watch(
    client: &Client,
) -> Result<(BTreeMap<String, Versioned<Topic>>, Vec<String>, OneshotWatcher), RegistryError> {
    let (names, watcher) = node::children_and_watch(client, paths::TOPICS).await?;
    let topics = read_all(client, names.clone()).await?;
    Ok((topics, names, watcher))
}

async fn read_all(
    client: &Client,
    names: Vec<String>,
) -> Result<BTreeMap<String, Versioned<Topic>>, RegistryError> {
    // A list, no iterator: the future can then be shown to be `Send`.
    let nodes: Vec<String> = names.iter().map(|name| paths::topic(name)).collect();
    let found = node::read_many(client, nodes).await?;
    Ok(names.into_iter().zip(found).filter_map(|(name, found)| Some((name, found?))).collect())
}

/// Creates a topic with its partitions' states and its overrides.
///
/// [`FencedError::Exists`] when there is one of the name, or one is being made or unmade: what an
/// earlier attempt left is recognised by [`read`] answering `None`; take it away with [`remove`].
/// A lost answer is resolved by reading back.
pub async fn create(
    client: &Client,
    fence: EpochFence,
    name: &str,
    new: &NewTopic,
) -> Result<(), FencedError> {
    // Nobody but the controller of this epoch creates topics, so after this look a node that is
    // there is our own, also when the answer to its creation was lost.
    if node::bytes(client, &paths::topic(name)).await?.is_some() {
        return Err(FencedError::Exists { path: paths::topic(name) });
    }
    let value = new.topic.encode()?;
    let config = paths::config("topics", name);
    let has_config = node::bytes(client, &config).await?.is_some();
    let mut frame = vec![
        Change::create(paths::partitions(name), Vec::new()),
        Change::create(paths::stored_parent(name), Vec::new()),
    ];
    let overrides = new.overrides.encode()?;
    match (has_config, new.overrides.values.is_empty()) {
        // Left by a topic before this one.
        (true, _) => frame.push(Change::Set { path: config, bytes: overrides, version: None }),
        (false, false) => frame.push(Change::create(config, overrides)),
        (false, true) => {}
    }
    let states = state_changes(name, 0, &new.states)?;
    let size: usize = value.len() + frame.iter().chain(&states).map(Change::size).sum::<usize>();
    let at_once = size < PART_BYTES;
    let first_value = if at_once { value.clone() } else { Vec::new() };
    let mut changes = vec![Change::create(paths::topic(name), first_value)];
    changes.extend(frame);
    changes.extend(states);
    if !at_once {
        changes.push(Change::Set { path: paths::topic(name), bytes: value, version: Some(0) });
    }
    fence.commit_in_parts(client, &changes, async |first| is_applied(client, first).await).await
}

/// Adds partitions to a topic: `grown` is its new value, `states` those of the added ones. The
/// states come first, so nobody sees a partition without one.
pub async fn grow(
    client: &Client,
    fence: EpochFence,
    name: &str,
    old: &Versioned<Topic>,
    grown: &Topic,
    states: &[PartitionState],
) -> Result<(), FencedError> {
    let before = old.value.partitions.len();
    // An earlier attempt may have left some of the states.
    let left = node::children(client, &paths::partitions(name)).await?;
    let stale: Vec<Partition> = left
        .iter()
        .filter_map(|name| name.parse().ok())
        .filter(|&partition: &Partition| partition as usize >= before)
        .collect();
    let mut changes = removal_of_partitions(client, name, &stale).await?;
    changes.extend(state_changes(name, before, states)?);
    fence.commit_in_parts(client, &changes, async |first| is_applied(client, first).await).await?;
    fence.set(client, paths::topic(name), grown.encode()?, old.version).await.map(|_| ())
}

/// Removes a topic, its partitions' states, its overrides and its deletion mark. Idempotent:
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

fn state_changes(
    name: &str,
    first: usize,
    states: &[PartitionState],
) -> Result<Vec<Change>, RegistryError> {
    let mut changes = Vec::with_capacity(2 * states.len());
    for (partition, state) in (first as Partition..).zip(states) {
        changes.push(Change::create(paths::partition(name, partition), Vec::new()));
        changes.push(Change::create(paths::partition_state(name, partition), state.encode()?));
    }
    Ok(changes)
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
