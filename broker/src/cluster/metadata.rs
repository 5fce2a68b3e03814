//! What this broker knows of the cluster: topics, leaders, live brokers, overrides.
//!
//! One writer at a time ([`MetadataCache::update`]), every thread reads without a lock. The image is
//! replaced whole; topics in it are shared, so a change costs a map of pointers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use coordinator::zk::payload::{KafkaEndpoint, PartitionState};
use parking_lot::Mutex;
use proto::{BrokerId, LeaderEpoch, Partition, TopicId, TopicPartition};
use tokio::sync::watch;

/// A live broker as clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerImage {
    /// Its number.
    pub id: BrokerId,
    /// Host name it is reached under.
    pub host: String,
    /// Port of its gRPC listener.
    pub grpc_port: u16,
    /// Where Kafka clients reach it, by listener.
    pub kafka: Vec<KafkaEndpoint>,
    /// Empty: none.
    pub rack: String,
    /// This run of it; what a follower of another run tells counts for nothing (KIP-903).
    pub incarnation: uuid::Uuid,
}

/// One partition as the controller decided it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionImage {
    /// `None` while no live broker may lead.
    pub leader: Option<BrokerId>,
    /// Counts the leaders.
    pub leader_epoch: LeaderEpoch,
    /// Who stores it, preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Who is in sync.
    pub isr: Vec<BrokerId>,
    /// Who fell out of the ISR below `min.insync.replicas` and may still lead (KIP-966).
    pub electable: Vec<BrokerId>,
    /// Replicas that a reassignment brings in and that do not count as missing yet.
    pub adding: Vec<BrokerId>,
    /// Version of the state's node: of two states in one leader epoch the higher one is the newer.
    pub version: i32,
}

impl PartitionImage {
    /// Of a registered state at a version of its node.
    pub fn of(replicas: Vec<BrokerId>, state: &PartitionState, version: i32) -> Self {
        Self {
            leader: state.leader,
            leader_epoch: state.leader_epoch,
            replicas,
            isr: state.isr.clone(),
            electable: state.electable.clone(),
            adding: Vec::new(),
            version,
        }
    }
}

/// One topic; `partitions[p]` is partition `p`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    /// Its name.
    pub name: Arc<str>,
    /// Tells it from an earlier topic of the name.
    pub id: TopicId,
    /// Dense from 0.
    pub partitions: Vec<PartitionImage>,
    /// Of its reassignments under way: bytes a second that brokers which come in fetch.
    pub throttle: Option<u64>,
}

impl TopicImage {
    /// A partition by number, negative ones included in "not there".
    pub fn partition(&self, partition: Partition) -> Option<&PartitionImage> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }
}

/// Overrides of one topic or broker by key.
pub type Overrides = BTreeMap<String, String>;

/// Live brokers by number.
pub type Brokers = BTreeMap<BrokerId, BrokerImage>;

/// Everything known, at one moment.
#[derive(Debug, Clone, Default)]
pub struct ClusterImage {
    /// The cluster's id; empty before the first read.
    pub cluster_id: Arc<str>,
    /// Live brokers.
    pub brokers: Arc<Brokers>,
    /// Topics by name.
    pub topics: BTreeMap<Arc<str>, Arc<TopicImage>>,
    /// Overrides by topic name; a topic without any is not in the map.
    pub topic_configs: BTreeMap<Arc<str>, Arc<Overrides>>,
    /// Overrides by broker, this one among them; a broker without any is not in the map.
    pub broker_configs: BTreeMap<BrokerId, Arc<Overrides>>,
    /// Address of the active controller, as last heard.
    pub controller: Option<Arc<str>>,
    /// Made of `topics` where somebody asks.
    pub ids: TopicIds,
}

/// Topics by their ids, worked out from a map by name when first asked for. A copy is to be changed, so
/// it begins without.
#[derive(Debug, Default)]
pub struct TopicIds(OnceLock<HashMap<TopicId, Arc<TopicImage>>>);

impl Clone for TopicIds {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// A change, as the controller sends it. What is absent is unchanged.
#[derive(Debug, Clone, Default)]
pub struct ClusterDelta {
    /// Created or changed topics, whole.
    pub topics: Vec<TopicImage>,
    /// Deleted topics.
    pub deleted: Vec<(Arc<str>, TopicId)>,
    /// All live brokers.
    pub brokers: Option<Vec<BrokerImage>>,
    /// Overrides by topic, whole; an empty map means none.
    pub topic_configs: Vec<(Arc<str>, Overrides)>,
    /// Overrides by broker, likewise.
    pub broker_configs: Vec<(BrokerId, Overrides)>,
    /// Address of the sender.
    pub controller: Option<Arc<str>>,
}

impl ClusterImage {
    /// Applies a change. Of two states of a partition the higher leader epoch wins, so that a late
    /// message never takes back an epoch this broker has raised itself.
    pub fn apply(&mut self, delta: ClusterDelta) {
        for (name, id) in delta.deleted {
            if self.topics.get(&name).is_some_and(|topic| topic.id == id) {
                self.topics.remove(&name);
                self.topic_configs.remove(&name);
            }
        }
        for topic in delta.topics {
            let merged = match self.topics.get(&topic.name) {
                Some(known) if known.id == topic.id => merge(known, topic),
                _ => topic,
            };
            self.topics.insert(Arc::clone(&merged.name), Arc::new(merged));
        }
        if let Some(brokers) = delta.brokers {
            self.brokers = Arc::new(brokers.into_iter().map(|b| (b.id, b)).collect());
        }
        for (name, overrides) in delta.topic_configs {
            if overrides.is_empty() {
                self.topic_configs.remove(&name);
            } else {
                self.topic_configs.insert(name, Arc::new(overrides));
            }
        }
        for (id, overrides) in delta.broker_configs {
            if overrides.is_empty() {
                self.broker_configs.remove(&id);
            } else {
                self.broker_configs.insert(id, Arc::new(overrides));
            }
        }
        if delta.controller.is_some() {
            self.controller = delta.controller;
        }
    }

    /// The part of a change that is true whatever was missed before it: states of the partitions of
    /// topics that are known (the higher epoch wins), live brokers, and who the controller is.
    pub fn leaders_in(&self, delta: &ClusterDelta) -> ClusterDelta {
        let known = |topic: &&TopicImage| {
            self.topics.get(&topic.name).is_some_and(|known| known.id == topic.id)
        };
        ClusterDelta {
            topics: delta.topics.iter().filter(known).cloned().collect(),
            brokers: delta.brokers.clone(),
            controller: delta.controller.clone(),
            ..ClusterDelta::default()
        }
    }

    /// Replaces everything by what was just read from the registry, which has every topic there is.
    /// Known epochs that are higher than what was read stay: the read is older than they are.
    pub fn replace(&mut self, mut read: Self) {
        for (name, topic) in &mut read.topics {
            if let Some(known) = self.topics.get(name)
                && known.id == topic.id
            {
                *topic = Arc::new(merge(known, TopicImage::clone(topic)));
            }
        }
        if read.controller.is_none() {
            read.controller = self.controller.take();
        }
        *self = read;
    }

    /// Bytes a second that a broker fetches for replicas that are not in sync; `None`: no limit. The
    /// least throttle of the reassignments that bring it in; without any, its overridden
    /// `follower.replication.throttled.rate`; else what its own file says.
    pub fn throttled_rate(&self, id: BrokerId, own: Option<u64>) -> Option<u64> {
        let comes_in = |topic: &TopicImage| topic.partitions.iter().any(|p| p.adding.contains(&id));
        let throttled = self.topics.values().filter(|topic| topic.throttle.is_some());
        let throttles = throttled.filter(|topic| comes_in(topic)).filter_map(|t| t.throttle);
        if let Some(least) = throttles.min() {
            return Some(least);
        }
        let overrides = self.broker_configs.get(&id);
        let value = overrides.and_then(|o| o.get("follower.replication.throttled.rate"));
        match value.and_then(|value| value.parse::<i64>().ok()) {
            Some(i64::MAX) => None,
            Some(rate) => u64::try_from(rate).ok(),
            None => own,
        }
    }

    /// States that this broker has written to the registry or found there; older ones than what is
    /// known change nothing. They are grouped by topic, so that each is copied once.
    pub fn found(&mut self, states: impl IntoIterator<Item = FoundState>) {
        let mut by_topic: BTreeMap<(Arc<str>, TopicId), Vec<FoundState>> = BTreeMap::new();
        for found in states {
            by_topic.entry((Arc::clone(&found.name.topic), found.id)).or_default().push(found);
        }
        for ((name, id), states) in by_topic {
            let Some(topic) = self.topics.get_mut(&name).filter(|topic| topic.id == id) else {
                continue;
            };
            let topic = Arc::make_mut(topic);
            for FoundState { name, state, version, .. } in states {
                let index = usize::try_from(name.partition).unwrap_or(usize::MAX);
                let Some(known) = topic.partitions.get_mut(index) else { continue };
                if (known.leader_epoch, known.version) < (state.leader_epoch, version) {
                    let replicas = std::mem::take(&mut known.replicas);
                    let adding = std::mem::take(&mut known.adding);
                    *known =
                        PartitionImage { adding, ..PartitionImage::of(replicas, &state, version) };
                }
            }
        }
    }

    /// The topic with an id. Asked of an image that changes no more.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        let index = || self.topics.values().map(|topic| (topic.id, Arc::clone(topic))).collect();
        self.ids.0.get_or_init(index).get(&id)
    }

    /// A partition's image, if it is of this topic.
    pub fn partition(&self, name: &TopicPartition, id: TopicId) -> Option<&PartitionImage> {
        self.topics.get(&name.topic).filter(|topic| topic.id == id)?.partition(name.partition)
    }
}

/// A partition's state as the registry has it at a version of its node.
#[derive(Debug, Clone)]
pub struct FoundState {
    /// The partition.
    pub name: TopicPartition,
    /// Of its topic.
    pub id: TopicId,
    /// What it says.
    pub state: PartitionState,
    /// Of the node.
    pub version: i32,
}

/// `new` with the states of `known` where those are newer: a higher leader epoch, or a higher version
/// in the same.
fn merge(known: &TopicImage, mut new: TopicImage) -> TopicImage {
    for (state, known) in new.partitions.iter_mut().zip(&known.partitions) {
        if (known.leader_epoch, known.version) > (state.leader_epoch, state.version) {
            let replicas = std::mem::take(&mut state.replicas);
            let adding = std::mem::take(&mut state.adding);
            *state = PartitionImage { replicas, adding, ..known.clone() };
        }
    }
    // Partitions are never removed: a shorter list is an older one.
    if let Some(more) = known.partitions.get(new.partitions.len()..) {
        new.partitions.extend_from_slice(more);
    }
    new
}

/// The image, shared by all threads, and news of its changes.
pub struct MetadataCache {
    image: ArcSwap<ClusterImage>,
    /// Held by who changes it: two at once would lose a change.
    changing: Mutex<()>,
    changes: watch::Sender<u64>,
}

impl Default for MetadataCache {
    fn default() -> Self {
        Self {
            image: ArcSwap::default(),
            changing: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl MetadataCache {
    /// The image of this moment.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.image.load_full()
    }

    /// Changes the image; whoever follows its changes is told.
    pub fn update(&self, change: impl FnOnce(&mut ClusterImage)) {
        let _changing = self.changing.lock();
        let mut image = ClusterImage::clone(&self.image.load());
        change(&mut image);
        self.image.store(Arc::new(image));
        self.changes.send_modify(|version| *version += 1);
    }

    /// Told after each change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, id: u128, epochs: &[i32]) -> TopicImage {
        let partitions = epochs
            .iter()
            .map(|&epoch| PartitionImage {
                leader: Some(BrokerId(1)),
                leader_epoch: LeaderEpoch(epoch),
                replicas: vec![BrokerId(1)],
                isr: vec![BrokerId(1)],
                electable: Vec::new(),
                adding: Vec::new(),
                version: 0,
            })
            .collect();
        let id = TopicId(uuid::Uuid::from_u128(id));
        TopicImage { name: name.into(), id, partitions, throttle: None }
    }

    fn epochs(image: &ClusterImage, name: &str) -> Vec<i32> {
        image.topics[name].partitions.iter().map(|state| state.leader_epoch.0).collect()
    }

    #[test]
    fn the_higher_leader_epoch_wins_and_partitions_are_never_removed() {
        let mut image = ClusterImage::default();
        image.apply(ClusterDelta { topics: vec![topic("t", 1, &[0, 5, 0])], ..Default::default() });
        image.apply(ClusterDelta { topics: vec![topic("t", 1, &[2, 4])], ..Default::default() });
        assert_eq!(epochs(&image, "t"), [2, 5, 0]);
    }

    #[test]
    fn leaders_of_known_topics_are_true_whatever_was_missed_before() {
        let mut image = ClusterImage::default();
        image.apply(ClusterDelta { topics: vec![topic("t", 1, &[0])], ..Default::default() });
        let delta = ClusterDelta {
            topics: vec![topic("t", 1, &[1]), topic("missed", 2, &[0])],
            deleted: vec![("t".into(), TopicId(uuid::Uuid::from_u128(1)))],
            ..Default::default()
        };
        let leaders = image.leaders_in(&delta);
        image.apply(leaders);
        assert_eq!(epochs(&image, "t"), [1]);
        assert!(!image.topics.contains_key("missed"));
    }

    #[test]
    fn another_topic_of_the_name_starts_anew() {
        let mut image = ClusterImage::default();
        image.apply(ClusterDelta { topics: vec![topic("t", 1, &[9, 9])], ..Default::default() });
        image.apply(ClusterDelta { topics: vec![topic("t", 2, &[0])], ..Default::default() });
        assert_eq!(epochs(&image, "t"), [0]);
        // The late deletion of the first one does not touch the second.
        let first = TopicId(uuid::Uuid::from_u128(1));
        image.apply(ClusterDelta { deleted: vec![("t".into(), first)], ..Default::default() });
        assert!(image.topics.contains_key("t"));
    }

    #[test]
    fn a_whole_read_drops_what_is_gone_and_keeps_raised_epochs() {
        let mut image = ClusterImage::default();
        let both = vec![topic("kept", 1, &[0]), topic("gone", 2, &[0])];
        image.apply(ClusterDelta { topics: both, ..Default::default() });
        let raised = |leader_epoch, version| FoundState {
            name: TopicPartition::new("kept", 0),
            id: TopicId(uuid::Uuid::from_u128(1)),
            state: PartitionState {
                leader: Some(BrokerId(1)),
                leader_epoch: LeaderEpoch(leader_epoch),
                isr: vec![BrokerId(1)],
                electable: Vec::new(),
                controller_epoch: 1,
            },
            version,
        };
        image.found([raised(3, 2), raised(2, 9), raised(3, 1)]);
        assert_eq!(image.topics["kept"].partitions[0].version, 2);
        let mut read = ClusterImage::default();
        read.apply(ClusterDelta { topics: vec![topic("kept", 1, &[1])], ..Default::default() });
        image.replace(read);
        assert_eq!(epochs(&image, "kept"), [3]);
        assert!(!image.topics.contains_key("gone"));
    }

    #[test]
    fn a_change_is_announced() {
        let cache = MetadataCache::default();
        let mut changes = cache.changes();
        assert!(!changes.has_changed().unwrap());
        cache.update(|image| image.cluster_id = "c".into());
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert_eq!(&*cache.image().cluster_id, "c");
    }

    #[test]
    fn a_throttle_that_is_overridden_wins_until_it_is_taken_away() {
        let me = BrokerId(3);
        let mut image = ClusterImage::default();
        assert_eq!(image.throttled_rate(me, Some(9)), Some(9));
        let set = |id: i32, value: &str| {
            let key = "follower.replication.throttled.rate".to_owned();
            (BrokerId(id), Overrides::from([(key, value.to_owned())]))
        };
        let delta = |broker_configs| ClusterDelta { broker_configs, ..Default::default() };
        image.apply(delta(vec![set(3, "5000"), set(4, "7")]));
        assert_eq!(image.throttled_rate(me, Some(9)), Some(5_000));
        image.apply(delta(vec![set(3, "9223372036854775807")]));
        assert_eq!(image.throttled_rate(me, Some(9)), None);
        image.apply(delta(vec![(me, Overrides::new())]));
        assert_eq!((image.throttled_rate(me, None), image.broker_configs.len()), (None, 1));
    }

    #[test]
    fn the_throttle_of_a_reassignment_that_brings_the_broker_in_comes_first() {
        let me = BrokerId(3);
        let mut image = ClusterImage::default();
        let key = "follower.replication.throttled.rate".to_owned();
        let by_hand = vec![(me, Overrides::from([(key, "5000".to_owned())]))];
        image.apply(ClusterDelta { broker_configs: by_hand, ..Default::default() });
        let tell = |image: &mut ClusterImage, id: u128, throttle, adding: &[i32]| {
            let mut topic = topic(&format!("t{id}"), id, &[0, 0]);
            topic.throttle = throttle;
            topic.partitions[1].adding = adding.iter().copied().map(BrokerId).collect();
            image.apply(ClusterDelta { topics: vec![topic], ..Default::default() });
            image.throttled_rate(me, None)
        };
        assert_eq!(tell(&mut image, 1, Some(9_000), &[4]), Some(5_000));
        assert_eq!(tell(&mut image, 1, Some(9_000), &[4, 3]), Some(9_000));
        assert_eq!(tell(&mut image, 2, None, &[3]), Some(9_000));
        assert_eq!(tell(&mut image, 2, Some(7_000), &[3]), Some(7_000));
        assert_eq!(tell(&mut image, 2, None, &[]), Some(9_000));
        // Done: what was set by hand holds as before.
        assert_eq!(tell(&mut image, 1, None, &[]), Some(5_000));
    }
}
