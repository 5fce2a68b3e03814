//! Reading the registry whole: at start, in each new session, and after a gap in the controller's
//! updates.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use coordinator::registry::configs::Kind;
use coordinator::registry::{
    RegistryError, Versioned, brokers, cluster_id, configs, deletions, partitions, reassignments,
    topics,
};
use coordinator::zk::payload::{Broker, PartitionState, Reassignments};
use coordinator::zk::{Client, election};
use futures_util::StreamExt;
use proto::{BrokerId, TopicId, TopicPartition};

use super::metadata::{BrokerImage, ClusterImage, PartitionImage, TopicImage};

/// How many topics are read at once.
const TOPICS_AT_ONCE: usize = 16;

/// What the registry says.
pub(super) struct WholeRead {
    /// As the broker keeps it.
    pub(super) image: ClusterImage,
    /// States with their versions, for conditional writes.
    pub(super) states: HashMap<TopicPartition, Versioned<PartitionState>>,
    /// Topics whose deletion was accepted; they are not in the image.
    pub(super) deleted: Vec<(Arc<str>, TopicId)>,
}

/// Reads everything. A topic that comes or goes meanwhile may be in it or not: the controller's
/// updates tell.
pub(super) async fn read(client: &Client) -> Result<WholeRead, RegistryError> {
    let mut image = ClusterImage {
        cluster_id: cluster_id::read_or_create(client).await?.to_string().into(),
        brokers: Arc::new(live_brokers(client).await?),
        controller: election::read(client).await?.map(|found| found.address.into()),
        ..ClusterImage::default()
    };
    let marked = deletions::list(client).await?;
    let found = topics::list(client).await?;
    let overrides = configs::list(client, Kind::Topic).await?;
    let under_way = reassignments::list(client).await?;
    for (id, overrides) in configs::list(client, Kind::Broker).await? {
        if let Ok(id) = id.parse() {
            image.broker_configs.insert(BrokerId(id), Arc::new(overrides.values));
        }
    }
    let reading = found.into_iter().map(|(name, topic)| async move {
        let states = partitions::read_all(client, &name, topic.value.partitions.len()).await?;
        Ok::<_, RegistryError>((name, topic.value, states))
    });
    let mut reading = futures_util::stream::iter(reading).buffer_unordered(TOPICS_AT_ONCE);
    let mut states = HashMap::new();
    let mut deleted = Vec::new();
    while let Some(read) = reading.next().await {
        let (name, topic, found) = read?;
        let name: Arc<str> = name.into();
        if marked.get(&*name).is_some_and(|mark| mark.topic_id == topic.topic_id) {
            deleted.push((name, topic.topic_id));
            continue;
        }
        let mut partitions = Vec::with_capacity(found.len());
        for (number, (replicas, state)) in topic.partitions.into_iter().zip(found).enumerate() {
            partitions.push(partition_image(replicas, state.as_ref()));
            if let Some(state) = state {
                let partition = TopicPartition::new(Arc::clone(&name), number as i32);
                states.insert(partition, state);
            }
        }
        let (id, throttle) = (topic.topic_id, None);
        let topic = TopicImage { name: Arc::clone(&name), id, partitions, throttle };
        image.topics.insert(name, Arc::new(topic));
    }
    drop(reading);
    for (name, record) in under_way {
        // One that cannot be read is the controller's to complain of.
        let Ok(record) = record else { continue };
        if let Some(topic) = image.topics.get_mut(&*name) {
            note_reassignments(topic, &record.value);
        }
    }
    for (name, overrides) in overrides {
        if !overrides.values.is_empty() {
            image.topic_configs.insert(name.into(), Arc::new(overrides.values));
        }
    }
    Ok(WholeRead { image, states, deleted })
}

/// Notes the replicas that reassignments bring in, and how fast.
fn note_reassignments(topic: &mut Arc<TopicImage>, record: &Reassignments) {
    if record.topic_id != topic.id {
        return;
    }
    let noted = Arc::make_mut(topic);
    noted.throttle = record.throttle;
    for (number, reassignment) in &record.partitions {
        let index = usize::try_from(*number).unwrap_or(usize::MAX);
        let Some(partition) = noted.partitions.get_mut(index) else { continue };
        let adding = reassignment.adding().filter(|id| partition.replicas.contains(id));
        partition.adding = adding.collect();
    }
}

async fn live_brokers(client: &Client) -> Result<BTreeMap<BrokerId, BrokerImage>, RegistryError> {
    let live = brokers::list(client).await?;
    Ok(live.into_iter().map(|(id, broker)| (id, broker_image(id, &broker))).collect())
}

/// A registration as the image has it.
pub(super) fn broker_image(id: BrokerId, broker: &Broker) -> BrokerImage {
    BrokerImage {
        id,
        host: broker.host.clone(),
        grpc_port: broker.grpc_port,
        kafka: broker.kafka.clone(),
        rack: broker.rack.clone(),
        incarnation: broker.incarnation,
    }
}

/// A partition without a state (one that is being made) has no leader.
fn partition_image(
    replicas: Vec<BrokerId>,
    state: Option<&Versioned<PartitionState>>,
) -> PartitionImage {
    match state {
        Some(Versioned { value, version, .. }) => PartitionImage::of(replicas, value, *version),
        None => PartitionImage {
            leader: None,
            leader_epoch: proto::LeaderEpoch::UNKNOWN,
            replicas,
            isr: Vec::new(),
            electable: Vec::new(),
            adding: Vec::new(),
            version: -1,
        },
    }
}
