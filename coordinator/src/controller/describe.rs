//! Answers of the Admin calls that describe topics, brokers and overrides.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::stream::{self, StreamExt};
use proto::{BrokerId, v1};

use super::decision::Refusal;
use super::outbox::{node, topic_message};
use super::picture;
use super::state::{Cluster, TopicState};
use super::unknown_topic;
use crate::registry::configs::{Kind, find, keys};
use crate::registry::{RegistryError, cluster_id as registered_id};
use crate::zk::Client;

/// So many topics are read side by side.
const TOPICS_AT_ONCE: usize = 16;

/// What the picture has of the topics asked for.
pub(crate) struct Seen {
    topics: Vec<(String, Result<TopicState, Refusal>)>,
    overrides: HashMap<String, BTreeMap<String, String>>,
    min_insync: HashMap<String, usize>,
    live: HashSet<BrokerId>,
}

/// Looks up the topics of these names; none: all.
pub(crate) fn seen(cluster: &Cluster, names: Vec<String>) -> Seen {
    let all = names.is_empty();
    let names = if all { cluster.topics.keys().cloned().collect() } else { names };
    let deleting = |name: &String| cluster.deletions.contains_key(name);
    let found = names.into_iter().filter_map(|name| match cluster.topics.get(&name) {
        Some(topic) if !deleting(&name) => Some((name, Ok(topic.clone()))),
        Some(_) if all => None,
        _ => {
            let refusal = unknown_topic(cluster, &name);
            Some((name, Err(refusal)))
        }
    });
    let topics: Vec<_> = found.collect();
    let overrides = topics.iter().filter_map(|(name, _)| {
        let overrides = cluster.configs.get(&(Kind::Topic, name.clone()))?;
        Some((name.clone(), overrides.values.clone()))
    });
    let min_insync = topics.iter().map(|(name, _)| (name.clone(), cluster.min_insync(name)));
    let min_insync = min_insync.collect();
    Seen {
        overrides: overrides.collect(),
        min_insync,
        live: cluster.brokers.keys().copied().collect(),
        topics,
    }
}

/// Describes topics with their partitions' states of this moment.
pub(crate) async fn topics(
    client: &Client,
    seen: Seen,
) -> Result<Vec<v1::DescribedTopic>, RegistryError> {
    let Seen { topics, mut overrides, min_insync, live } = seen;
    let described = topics.into_iter().map(|(name, topic)| {
        let configs = overrides.remove(&name).unwrap_or_default().into_iter().collect();
        let live = &live;
        let min_insync = min_insync.get(&name).copied().unwrap_or(1);
        async move {
            let message = match topic {
                Ok(topic) => exact(client, &name, topic, live).await?,
                Err(Refusal(error)) => v1::Topic { name, error: Some(error), ..Default::default() },
            };
            Ok::<_, RegistryError>(v1::DescribedTopic {
                topic: Some(message),
                configs,
                logs: Vec::new(),
                min_insync_replicas: i32::try_from(min_insync).unwrap_or(i32::MAX),
            })
        }
    });
    let mut described = stream::iter(described.collect::<Vec<_>>()).buffered(TOPICS_AT_ONCE);
    let mut all = Vec::new();
    while let Some(topic) = described.next().await {
        all.push(topic?);
    }
    Ok(all)
}

/// A topic with the states its nodes have now; a leader that is not live is none.
async fn exact(
    client: &Client,
    name: &str,
    mut topic: TopicState,
    live: &HashSet<BrokerId>,
) -> Result<v1::Topic, RegistryError> {
    let replicas = topic.partitions.iter().map(|p| p.replicas.clone()).collect();
    topic.partitions = picture::states(client, name, replicas).await?;
    for partition in &mut topic.partitions {
        partition.leader = partition.leader.filter(|id| live.contains(id));
    }
    Ok(topic_message(name, &topic))
}

/// Describes the live brokers.
pub(crate) fn brokers(cluster: &Cluster) -> Vec<v1::DescribedBroker> {
    let load = cluster.load();
    let count = |n| i32::try_from(n).unwrap_or(i32::MAX);
    let mut leaders: HashMap<BrokerId, usize> = HashMap::new();
    for partition in cluster.topics.values().flat_map(|topic| &topic.partitions) {
        if let Some(leader) = partition.leader {
            *leaders.entry(leader).or_default() += 1;
        }
    }
    let described = cluster.brokers.iter().map(|(id, broker)| v1::DescribedBroker {
        node: Some(node(id.0, broker)),
        http_port: u32::from(broker.http_port.unwrap_or(0)),
        kafka_port: broker.kafka.first().map_or(0, |endpoint| endpoint.port.into()),
        start_time_ms: broker.start_time_ms,
        clean_start: broker.clean,
        partitions: count(load.get(id).map_or(0, |(replicas, _)| *replicas)),
        leaders: count(leaders.get(id).copied().unwrap_or(0)),
    });
    described.collect()
}

/// Partitions that need attention.
pub(crate) struct Health {
    /// Without a live leader.
    pub(crate) offline: i32,
    /// With fewer replicas in sync than they have.
    pub(crate) under_replicated: i32,
}

/// Counts the partitions that need attention, as of what leaders have told.
pub(crate) fn health(cluster: &Cluster) -> Health {
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let live = |id: BrokerId| cluster.brokers.contains_key(&id);
    let offline = cluster.partitions().filter(|(_, _, p)| !p.leader.is_some_and(live));
    // Replicas that are only on their way are not missing.
    let adding = |topic: &str, partition| {
        let under_way = cluster.topics.get(topic)?.reassigning.partitions.get(&partition)?;
        Some(under_way.adding().count())
    };
    let under_replicated = cluster.partitions().filter(|(topic, partition, state)| {
        state.isr.len() + adding(topic, *partition).unwrap_or(0) < state.replicas.len()
    });
    Health { offline: count(offline.count()), under_replicated: count(under_replicated.count()) }
}

/// The cluster's id, which the first comer makes.
pub(crate) async fn cluster_id(client: &Client) -> Result<String, RegistryError> {
    Ok(registered_id::read_or_create(client).await?.to_string())
}

/// Describes the overrides of these resources, with what else could be overridden; none: all that
/// have overrides.
pub(crate) fn configs(
    cluster: &Cluster,
    kind: Kind,
    names: &[String],
) -> Vec<v1::DescribedConfigs> {
    let of_kind = cluster.configs.keys().filter(|(of, _)| *of == kind);
    let all: Vec<String> = match names.is_empty() {
        true => of_kind.map(|(_, name)| name.clone()).collect(),
        false => names.to_vec(),
    };
    all.into_iter().map(|name| resource(cluster, kind, name)).collect()
}

fn resource(cluster: &Cluster, kind: Kind, name: String) -> v1::DescribedConfigs {
    if kind == Kind::Topic && !cluster.topics.contains_key(&name) {
        let Refusal(error) = unknown_topic(cluster, &name);
        return v1::DescribedConfigs { name, error: Some(error), entries: Vec::new() };
    }
    let none = BTreeMap::new();
    let overrides = cluster.configs.get(&(kind, name.clone()));
    let overrides = overrides.map_or(&none, |overrides| &overrides.values);
    let known = keys(kind).iter().map(|key| v1::ConfigEntry {
        key: key.name.to_owned(),
        value: overrides.get(key.name).map_or(key.default, String::as_str).to_owned(),
        is_default: !overrides.contains_key(key.name),
        documentation: key.doc.to_owned(),
    });
    // Written by a newer controller, perhaps.
    let unknown = overrides.iter().filter(|(key, _)| find(kind, key).is_none());
    let unknown = unknown.map(|(key, value)| v1::ConfigEntry {
        key: key.clone(),
        value: value.clone(),
        is_default: false,
        documentation: String::new(),
    });
    v1::DescribedConfigs { name, error: None, entries: known.chain(unknown).collect() }
}
