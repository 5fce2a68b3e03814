//! A coordinator over an offsets partition that the test leads, or has led elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::{BrokerId, LeaderEpoch, Offset, TopicPartition};
use tokio::sync::watch;

use super::super::classic::{Caller, Join, Joined, Protocol, Sync, Token};
use super::super::*;
use crate::cluster::metadata::{
    BrokerImage, ClusterDelta, MetadataCache, PartitionImage, TopicImage,
};
use crate::config::GroupConfig;
use crate::replication::tests::rig::{ME, Rig as Partitions, alone, led, topic_id};
use crate::replication::{Leadership, Partition};
use crate::storage::{CleanupPolicy, LogConfig};

/// What was asked to be created.
#[derive(Default)]
pub(super) struct Creator(pub(super) Mutex<Vec<NewOffsetsTopic>>);

impl TopicCreator for Creator {
    fn create(&self, topic: NewOffsetsTopic, _: Box<dyn FnOnce() + Send>) {
        self.0.lock().push(topic);
    }
}

pub(super) struct Rig {
    pub(super) groups: Groups,
    pub(super) metadata: Arc<MetadataCache>,
    pub(super) creator: Arc<Creator>,
    pub(super) offsets: Arc<Partition>,
    _partitions: Partitions,
    stop: watch::Sender<bool>,
    fresh: AtomicUsize,
}

pub(super) fn config() -> GroupConfig {
    GroupConfig {
        initial_rebalance_delay: Duration::from_millis(50),
        session_timeout_min: Duration::from_millis(100),
        session_timeout_max: Duration::from_secs(60),
        size_max: 100,
        memory_max: 64 << 20,
        offset_metadata_max: 10,
        commit_timeout: Duration::from_secs(5),
        load_buffer_bytes: 4096,
        offsets_retention: Duration::from_secs(3600),
        retention_check_interval: Duration::from_secs(600),
        topic_partitions: 50,
        topic_replication_factor: 1,
        topic_segment_bytes: 1 << 20,
    }
}

fn image(name: &str, partitions: usize) -> TopicImage {
    let partition = PartitionImage {
        leader: Some(ME),
        leader_epoch: LeaderEpoch(0),
        replicas: vec![ME],
        isr: vec![ME],
        electable: Vec::new(),
        adding: Vec::new(),
        version: 0,
    };
    TopicImage {
        name: name.into(),
        id: topic_id(name),
        partitions: vec![partition; partitions],
        throttle: None,
    }
}

impl Rig {
    /// Leads the one offsets partition alone.
    pub(super) fn new() -> Self {
        Self::with(config(), &alone(0))
    }

    pub(super) fn with(config: GroupConfig, leadership: &Leadership) -> Self {
        Self::with_minimum(config, leadership, 1)
    }

    /// So many replicas must be in sync.
    pub(super) fn with_minimum(
        config: GroupConfig,
        leadership: &Leadership,
        min_insync_replicas: usize,
    ) -> Self {
        Self::with_log(
            config,
            leadership,
            &LogConfig { min_insync_replicas, ..LogConfig::default() },
        )
    }

    /// The offsets partition has settings of its own.
    pub(super) fn with_log(config: GroupConfig, leadership: &Leadership, log: &LogConfig) -> Self {
        let partitions = Partitions::new();
        let compacted = CleanupPolicy { delete: false, compact: true };
        let log = LogConfig { cleanup_policy: compacted, ..log.clone() };
        let name = TopicPartition::new(OFFSETS_TOPIC, 0);
        let offsets = partitions.partitions.open(&name, topic_id(OFFSETS_TOPIC), log).unwrap();
        offsets.lead(ME, leadership).unwrap();
        let metadata = Arc::new(MetadataCache::default());
        let broker = BrokerImage {
            id: ME,
            host: "h".into(),
            grpc_port: 1,
            kafka: Vec::new(),
            rack: String::new(),
            incarnation: uuid::Uuid::nil(),
        };
        metadata.update(|now| {
            now.apply(ClusterDelta {
                topics: vec![image(OFFSETS_TOPIC, 1), image("t", 3), image("u", 1)],
                brokers: Some(vec![broker]),
                ..ClusterDelta::default()
            });
        });
        let creator = Arc::new(Creator::default());
        let (stop, stopping) = watch::channel(false);
        let (groups, _) = Groups::start(
            ME,
            config,
            Arc::clone(&partitions.partitions),
            Arc::clone(&metadata),
            Arc::clone(&creator) as Arc<dyn TopicCreator>,
            stopping,
        )
        .unwrap();
        let fresh = AtomicUsize::new(0);
        Self { groups, metadata, creator, offsets, _partitions: partitions, stop, fresh }
    }

    /// This broker leads in another epoch: whatever it knew is read anew.
    pub(super) fn lead_again(&self, epoch: i32) {
        self.offsets.lead(ME, &alone(epoch)).unwrap();
        self.metadata.update(|_| ());
    }

    /// Another broker leads.
    pub(super) fn resign(&self, epoch: i32) {
        self.offsets.follow(LeaderEpoch(epoch));
        self.metadata.update(|_| ());
    }

    /// So many records are in the offsets partition.
    pub(super) async fn appended(&self, records: i64) {
        while self.offsets.log().log_end() < Offset(records) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A topic with so many partitions.
    pub(super) fn topic(&self, name: &str, partitions: usize) {
        self.metadata.update(|now| {
            now.apply(ClusterDelta {
                topics: vec![image(name, partitions)],
                ..ClusterDelta::default()
            });
        });
    }

    /// Another topic of the name is there.
    pub(super) fn recreate(&self, name: &str) {
        self.metadata.update(|now| {
            let id = proto::TopicId::random();
            now.apply(ClusterDelta {
                topics: vec![TopicImage { id, ..image(name, 3) }],
                ..ClusterDelta::default()
            });
        });
    }

    pub(super) fn join_request(&self, member_id: &str) -> Join {
        let number = self.fresh.fetch_add(1, Ordering::Relaxed);
        Join {
            token: Token(0),
            member_id: member_id.into(),
            fresh_member_id: format!("member-{number}").into(),
            instance: None,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            requires_member_id: false,
            skips_assignment: true,
            session_timeout: Duration::from_secs(30),
            rebalance_timeout: Duration::from_secs(30),
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "range".into(), metadata: subscription("t") }],
        }
    }

    pub(super) async fn sync(&self, group: &str, joined: &Joined, given: &[&Joined]) -> Bytes {
        let assignments = given.iter();
        let assignments = assignments
            .map(|one| (Arc::clone(&one.member_id), Bytes::from(format!("of {}", one.member_id))));
        let request = Sync {
            token: Token(0),
            caller: caller(joined),
            protocol_type: None,
            protocol: None,
            assignments: assignments.collect(),
        };
        self.groups.sync(group.into(), request).await.unwrap().assignment
    }

    /// Two members, stable; the first one leads.
    pub(super) async fn two(&self, group: &str) -> (Joined, Joined) {
        self.ready().await;
        let join = || self.groups.join(group.into(), self.join_request(""));
        let (one, two) = tokio::join!(join(), join());
        let (one, two) = (one.unwrap(), two.unwrap());
        let (one, two) = if one.leader == one.member_id { (one, two) } else { (two, one) };
        let given = [&one, &two];
        let (first, second) =
            tokio::join!(self.sync(group, &one, &given), self.sync(group, &two, &[]));
        assert_eq!(first, format!("of {}", one.member_id));
        assert_eq!(second, format!("of {}", two.member_id));
        (one, two)
    }

    /// The offsets partition was read.
    pub(super) async fn ready(&self) {
        for _ in 0..2000 {
            match self.groups.list().await {
                Err(GroupError::CoordinatorLoadInProgress) => {}
                _ => return,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the offsets partition is not read");
    }

    pub(super) async fn commit(&self, group: &str, commits: &[(&str, i32, i64)]) -> Outcomes {
        let request = commit_request(nobody(), commits);
        self.groups.commit(group.into(), request).await
    }

    /// What is committed, by topic and partition.
    pub(super) async fn fetch_all(&self, group: &str) -> BTreeMap<String, i64> {
        self.ready().await;
        let all = self.groups.fetch_offsets(group.into(), Wanted::All).await.unwrap();
        let known = all.into_iter().filter_map(|(name, committed)| Some((name, committed?)));
        known.map(|(name, committed)| (name.to_string(), committed.offset.0)).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

pub(super) fn subscription(topic: &str) -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, topic.len() as u8];
    bytes.extend(topic.as_bytes());
    bytes.into()
}

pub(super) fn nobody() -> Caller {
    Caller { member_id: "".into(), instance: None, generation: -1 }
}

pub(super) fn caller(joined: &Joined) -> Caller {
    let member_id = Arc::clone(&joined.member_id);
    Caller { member_id, instance: None, generation: joined.generation }
}

pub(super) fn commit_request(caller: Caller, commits: &[(&str, i32, i64)]) -> CommitRequest {
    let commit = |&(topic, partition, offset): &(&str, i32, i64)| Commit {
        topic_id: None,
        partition: TopicPartition::new(topic, partition),
        offset: Offset(offset),
        leader_epoch: LeaderEpoch(0),
        metadata: "m".into(),
    };
    CommitRequest {
        caller,
        retention: None,
        knows_missing_groups: true,
        commits: commits.iter().map(commit).collect(),
    }
}

/// Leads with a follower that is in sync and says nothing yet.
pub(super) fn with_follower() -> Leadership {
    led(0, 0, &[ME.0, 2], &[ME.0, 2])
}

/// The follower has everything below `end`.
pub(super) fn follower_has(partition: &Arc<Partition>, end: Offset) {
    let replica = crate::replication::Replica {
        broker_id: BrokerId(2),
        incarnation: uuid::Uuid::from_u128(2),
    };
    partition.follower_told(LeaderEpoch(0), &replica, end).unwrap();
}

pub(super) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let in_time = tokio::time::timeout(Duration::from_secs(60), test).await;
        assert!(in_time.is_ok(), "the test hangs");
    });
}
