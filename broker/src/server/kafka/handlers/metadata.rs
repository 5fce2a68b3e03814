//! Metadata: brokers as the client reaches them, topics and who leads them.
//!
//! The controller that clients are told is this broker: it forwards what is the controller's affair.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use proto::kafka::Str;
use proto::kafka::messages::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use proto::{BrokerId, ErrorCode, TopicId};
use uuid::Uuid;

use super::super::auto_create;
use super::{Context, NONE};
use crate::api::Wanted;
use crate::cluster::metadata::{ClusterImage, PartitionImage, TopicImage};

/// Topics created for one request; who wants more asks again.
const CREATED_MAX: usize = 100;
/// Longest name of a topic.
const NAME_MAX: usize = 249;
/// Topics that belong to the system: consumers by pattern leave them out.
const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

pub(in super::super) async fn metadata(
    context: Context,
    request: MetadataRequest,
) -> MetadataResponse {
    let may_create = context.version < 4 || request.allow_auto_topic_creation;
    let wanted = Asked::of(context.version, request);
    if let Asked::Named { names, .. } = &wanted
        && may_create
        && context.services.auto_create
    {
        create_missing(&context, names).await;
    }
    let view = context.services.api.metadata(&Wanted::Named(Vec::new()));
    let image = &*view.image;
    let endpoints = &context.services.kafka;
    let peer = context.peer;
    let brokers: HashMap<BrokerId, MetadataResponseBroker> = image
        .brokers
        .values()
        .filter_map(|broker| {
            let (host, port) = endpoints.of(broker, peer.listener, peer.local)?;
            let rack = (!broker.rack.is_empty()).then(|| Str::from(&*broker.rack));
            let node_id = broker.id.0;
            Some((broker.id, MetadataResponseBroker { node_id, host, port: port.into(), rack }))
        })
        .collect();
    let is_live = |id: BrokerId| brokers.contains_key(&id);
    let topics = wanted.topics(image, &is_live);
    let mut brokers: Vec<_> = brokers.into_values().collect();
    brokers.sort_by_key(|broker| broker.node_id);
    MetadataResponse {
        brokers,
        cluster_id: Some(Arc::clone(&image.cluster_id)),
        controller_id: endpoints.own_id().0,
        topics,
        ..MetadataResponse::default()
    }
}

/// Which topics a client asks for; each once, however often it is named.
enum Asked {
    All,
    Named { names: BTreeSet<Str>, ids: BTreeSet<Uuid> },
}

impl Asked {
    fn of(version: i16, request: MetadataRequest) -> Self {
        let topics = match request.topics {
            None => return Self::All,
            Some(topics) if version == 0 && topics.is_empty() => return Self::All,
            Some(topics) => topics,
        };
        let (mut names, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for topic in topics {
            match topic.name {
                // Java's admin client sends an empty name with an id.
                Some(name) if topic.topic_id.is_nil() => drop(names.insert(name)),
                _ => drop(ids.insert(topic.topic_id)),
            }
        }
        Self::Named { names, ids }
    }

    fn topics(
        &self,
        image: &ClusterImage,
        is_live: &dyn Fn(BrokerId) -> bool,
    ) -> Vec<MetadataResponseTopic> {
        let Self::Named { names, ids } = self else {
            return image.topics.values().map(|topic| describe(topic, is_live)).collect();
        };
        let named = names.iter().map(|name| match image.topics.get(name) {
            Some(topic) => describe(topic, is_live),
            None => unknown(Some(Arc::clone(name)), Uuid::nil()),
        });
        let mut topics: Vec<_> = named.collect();
        topics.extend(ids.iter().map(|&id| match image.topic_by_id(TopicId(id)) {
            Some(topic) => describe(topic, is_live),
            None => unknown(None, id),
        }));
        topics
    }
}

fn unknown(name: Option<Str>, topic_id: Uuid) -> MetadataResponseTopic {
    let error = match &name {
        None => ErrorCode::UnknownTopicId,
        Some(name) if is_name(name) => ErrorCode::UnknownTopicOrPartition,
        Some(_) => ErrorCode::InvalidTopicException,
    };
    MetadataResponseTopic { error_code: error as i16, name, topic_id, ..Default::default() }
}

fn describe(topic: &TopicImage, is_live: &dyn Fn(BrokerId) -> bool) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().zip(0..);
    MetadataResponseTopic {
        error_code: NONE,
        name: Some(Arc::clone(&topic.name)),
        topic_id: topic.id.0,
        is_internal: INTERNAL.contains(&&*topic.name),
        partitions: partitions.map(|(state, number)| partition(state, number, is_live)).collect(),
        ..Default::default()
    }
}

fn partition(
    state: &PartitionImage,
    number: i32,
    is_live: &dyn Fn(BrokerId) -> bool,
) -> MetadataResponsePartition {
    let leader = state.leader.filter(|&leader| is_live(leader));
    let numbers = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<i32>>();
    let offline: Vec<BrokerId> =
        state.replicas.iter().copied().filter(|&id| !is_live(id)).collect();
    MetadataResponsePartition {
        error_code: leader.map_or(ErrorCode::LeaderNotAvailable as i16, |_| NONE),
        partition_index: number,
        leader_id: leader.map_or(-1, |leader| leader.0),
        leader_epoch: state.leader_epoch.0,
        replica_nodes: numbers(&state.replicas),
        isr_nodes: numbers(&state.isr),
        offline_replicas: numbers(&offline),
    }
}

async fn create_missing(context: &Context, names: &BTreeSet<Str>) {
    let view = context.services.api.metadata(&Wanted::Named(Vec::new()));
    let known = &view.image.topics;
    let missing = names.iter().filter(|name| !known.contains_key(&***name) && is_name(name));
    let missing: HashSet<String> = missing.take(CREATED_MAX).map(|name| name.to_string()).collect();
    if !missing.is_empty() {
        let missing: Vec<String> = missing.into_iter().collect();
        auto_create::create_missing(&context.services, &missing).await;
    }
}

/// Whether a topic may have the name.
fn is_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !matches!(name, "" | "." | "..") && name.len() <= NAME_MAX && name.chars().all(is_allowed)
}
