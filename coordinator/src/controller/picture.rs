//! Reads the whole picture from ZooKeeper: on election, and when the outcome of a write is unknown.
//!
//! What another process changes meanwhile is harmless: topics, overrides and marks are ours alone
//! while we are active, brokers are watched, and leader epochs in the picture may be behind anyway.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt};
use proto::{BrokerId, LeaderEpoch, Partition};

use super::requests::FinishedRequests;
use super::state::{Cluster, Deletion, Overrides, PartitionState, Reassigning, TopicState};
use crate::registry::configs::Kind;
use crate::registry::fence::Change;
use crate::registry::{
    RegistryError, Versioned, brokers, configs, deletions, node, partitions, reassignments, topics,
};
use crate::zk::payload::{self, Topic};
use crate::zk::{Client, paths};

/// So many topics are read side by side.
const TOPICS_AT_ONCE: usize = 32;

/// What ZooKeeper holds, and what an earlier controller left unfinished.
#[derive(Debug, Default)]
pub(crate) struct Registered {
    /// The picture.
    pub(crate) cluster: Cluster,
    /// Topics that are half made or half removed: their node is empty.
    pub(crate) unfinished: Vec<String>,
    /// Partitions with nodes beyond what the topic's value has: a growth was not finished.
    pub(crate) beyond: Vec<(String, i32)>,
    /// Marks of deletions whose topic is not there, or is another one now.
    pub(crate) stale_marks: Vec<String>,
    /// Reassignments whose topic is not there, or is another one now.
    pub(crate) stale_reassignments: Vec<String>,
    /// Topics that are not there and have overrides.
    pub(crate) stale_overrides: Vec<String>,
}

impl Registered {
    /// The writes that clear up what needs no reading first; unfinished topics are removed whole.
    pub(crate) fn repairs(&self) -> Vec<Change> {
        let delete = |path| Change::Delete { path, version: None };
        let states = self.beyond.iter().flat_map(|(topic, p)| {
            [delete(paths::partition_state(topic, *p)), delete(paths::partition(topic, *p))]
        });
        let marks = self.stale_marks.iter().map(|topic| delete(paths::admin_delete(topic)));
        let overrides = self.stale_overrides.iter();
        let overrides = overrides.map(|name| delete(paths::config(Kind::Topic.plural(), name)));
        let records = self.stale_reassignments.iter();
        let records = records.map(|topic| delete(paths::admin_reassign(topic)));
        states.chain(marks).chain(overrides).chain(records).collect()
    }
}

/// Reads everything.
pub(crate) async fn read(client: &Client) -> Result<Registered, RegistryError> {
    let mut found = Registered::default();
    found.cluster.brokers = brokers::list(client).await?;
    let names = topics::names(client).await?;
    let reads = names.into_iter().map(|name| read_topic(client, name)).collect::<Vec<_>>();
    let mut reads = stream::iter(reads).buffered(TOPICS_AT_ONCE);
    while let Some(topic) = reads.next().await {
        found.take(topic?);
    }
    drop(reads);
    for kind in Kind::ALL {
        read_overrides(client, kind, &mut found).await?;
    }
    read_deletions(client, &mut found).await?;
    read_reassignments(client, &mut found).await?;
    if let Some((bytes, stat)) = node::bytes(client, paths::ADMIN).await? {
        found.cluster.finished = FinishedRequests::decode(&bytes, stat.version)?;
    }
    Ok(found)
}

/// What was found at a topic's node.
enum FoundTopic {
    Whole { name: String, state: TopicState, beyond: Vec<i32> },
    Empty(String),
    Unreadable(String),
}

impl Registered {
    fn take(&mut self, topic: FoundTopic) {
        match topic {
            FoundTopic::Whole { name, state, beyond } => {
                self.beyond.extend(beyond.into_iter().map(|p| (name.clone(), p)));
                self.cluster.topics.insert(name, state);
            }
            FoundTopic::Empty(name) => self.unfinished.push(name),
            FoundTopic::Unreadable(name) => {
                self.cluster.unreadable.insert(name);
            }
        }
    }
}

/// Reads a topic. One that cannot be read (written by a newer program, or by hand) is left alone
/// and does not keep the controller from its work for the others.
async fn read_topic(client: &Client, name: String) -> Result<FoundTopic, RegistryError> {
    match try_topic(client, &name).await {
        Ok(Some((state, beyond))) => Ok(FoundTopic::Whole { name, state, beyond }),
        Ok(None) => Ok(FoundTopic::Empty(name)),
        Err(RegistryError::Payload(error)) => {
            tracing::error!(topic = name, %error, "topic left alone");
            Ok(FoundTopic::Unreadable(name))
        }
        Err(error) => Err(error),
    }
}

async fn try_topic(
    client: &Client,
    name: &str,
) -> Result<Option<(TopicState, Vec<i32>)>, RegistryError> {
    let Some(topic) = topics::read(client, name).await? else { return Ok(None) };
    let Topic { topic_id, partitions } = topic.value;
    let children = node::children(client, &paths::partitions(name)).await?;
    let present = children.iter().filter_map(|p| p.parse().ok());
    let beyond = present.filter(|&p: &i32| usize::try_from(p).is_ok_and(|p| p >= partitions.len()));
    let beyond = beyond.collect();
    let partitions = states(client, name, partitions).await?;
    let (version, reassigning) = (topic.version, Reassigning::default());
    Ok(Some((TopicState { id: topic_id, partitions, version, reassigning }, beyond)))
}

/// The states of a topic's partitions, whose replicas are given.
pub(crate) async fn states(
    client: &Client,
    topic: &str,
    replicas: Vec<Vec<BrokerId>>,
) -> Result<Vec<PartitionState>, RegistryError> {
    let read = partitions::read_all(client, topic, replicas.len()).await?;
    let states = read.into_iter().zip(replicas);
    Ok(states.map(|(state, replicas)| partition_state(state, replicas)).collect())
}

/// The states of some partitions of a topic, in the order asked.
pub(crate) async fn some_states(
    client: &Client,
    topic: &str,
    of: &[Partition],
) -> Result<Vec<Option<Versioned<payload::PartitionState>>>, RegistryError> {
    node::read_many(client, of.iter().map(|p| paths::partition_state(topic, *p))).await
}

/// A partition with the state its node has.
pub(crate) fn partition_state(
    state: Option<Versioned<payload::PartitionState>>,
    replicas: Vec<BrokerId>,
) -> PartitionState {
    match state {
        Some(Versioned { value: state, version, .. }) => PartitionState {
            replicas,
            leader: state.leader,
            leader_epoch: state.leader_epoch,
            isr: state.isr,
            electable: state.electable,
            version,
        },
        // Taken away by somebody's hand: nobody leads it.
        None => PartitionState {
            replicas,
            leader: None,
            leader_epoch: LeaderEpoch::UNKNOWN,
            isr: Vec::new(),
            electable: Vec::new(),
            version: -1,
        },
    }
}

async fn read_overrides(
    client: &Client,
    kind: Kind,
    found: &mut Registered,
) -> Result<(), RegistryError> {
    for name in node::children(client, &paths::config_parent(kind.plural())).await? {
        let known = match kind {
            Kind::Topic => found.cluster.topics.contains_key(&name),
            Kind::Broker | Kind::Client => true,
        };
        let in_doubt = found.unfinished.contains(&name) || found.cluster.unreadable.contains(&name);
        if !known && !in_doubt {
            found.stale_overrides.push(name);
            continue;
        }
        let (value, version) = match configs::read(client, kind, &name).await {
            Ok(Some(Versioned { value, version, .. })) => (value, version),
            Ok(None) => continue,
            Err(RegistryError::Payload(error)) => {
                tracing::error!(kind = kind.singular(), name, %error, "overrides left alone");
                continue;
            }
            Err(error) => return Err(error),
        };
        let overrides = Overrides { values: value.values, version };
        found.cluster.configs.insert((kind, name), overrides);
    }
    Ok(())
}

async fn read_deletions(client: &Client, found: &mut Registered) -> Result<(), RegistryError> {
    let marks: BTreeMap<String, payload::Deletion> = deletions::list(client).await?;
    for (name, mark) in marks {
        let cluster = &mut found.cluster;
        if cluster.topics.get(&name).is_some_and(|topic| topic.id == mark.topic_id) {
            let waiting_for = cluster.live_hosts(&name);
            cluster.deletions.insert(name, Deletion { id: mark.topic_id, waiting_for });
        } else if !found.unfinished.contains(&name) && !cluster.unreadable.contains(&name) {
            // An unfinished one takes its mark with it.
            found.stale_marks.push(name);
        }
    }
    Ok(())
}

async fn read_reassignments(client: &Client, found: &mut Registered) -> Result<(), RegistryError> {
    for (name, record) in reassignments::list(client).await? {
        let (record, version) = match record {
            Ok(Versioned { value, version, .. }) => (value, version),
            Err(error) => {
                tracing::error!(topic = name, %error, "reassignments left alone");
                continue;
            }
        };
        let payload::Reassignments { topic_id, partitions, throttle } = record;
        match found.cluster.topics.get_mut(&name).filter(|topic| topic.id == topic_id) {
            Some(topic) => {
                let version = Some(version);
                topic.reassigning = Reassigning { partitions, throttle, version };
            }
            // What cannot be read may come back; what is half removed takes its record with it.
            None if found.cluster.unreadable.contains(&name) => {}
            None if found.unfinished.contains(&name) => {}
            None => found.stale_reassignments.push(name),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_controller_left_is_cleared_up() {
        let left = Registered {
            beyond: vec![("a".to_owned(), 4)],
            stale_marks: vec!["b".to_owned()],
            stale_overrides: vec!["c".to_owned()],
            stale_reassignments: vec!["d".to_owned()],
            ..Registered::default()
        };
        let writes = left.repairs();
        let paths: Vec<&str> = writes.iter().map(Change::path).collect();
        let expected = [
            "/brokers/topics/a/partitions/4/state",
            "/brokers/topics/a/partitions/4",
            "/admin/delete/b",
            "/config/topics/c",
            "/admin/reassign/d",
        ];
        assert_eq!(paths, expected);
    }
}
