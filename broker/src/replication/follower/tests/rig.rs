//! A follower: fetchers, a set of partitions, and what tests ask of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::record::{BatchHeader, HEADER_LEN, ProducerStamp};
use proto::{BrokerId, LeaderEpoch, Offset, TopicPartition};
use uuid::Uuid;

use super::fake_leader::FakeLeader;
use crate::config::ReplicationConfig;
use crate::replication::follower::{Fetchers, LeaderAddress};
use crate::replication::tests::rig as partitions;
use crate::replication::{Partition, Replica};
use crate::storage::LogConfig;
use crate::storage::disk::faulty::FaultyDisk;

/// Waits for something another thread does. Long, for machines that are busy with other tests.
pub(super) fn eventually(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} did not happen");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// A batch of `records` records at an offset, in a leader epoch.
pub(super) fn batch_at(base_offset: i64, records: usize, epoch: i32) -> Bytes {
    // Differing bytes, so that one batch cannot stand in for another.
    let value_len = 5 + ((base_offset * 7 + i64::from(epoch) * 13) % 90) as usize;
    let batch = partitions::batch(records, value_len, ProducerStamp::NONE);
    let header = BatchHeader {
        base_offset: Offset(base_offset),
        leader_epoch: LeaderEpoch(epoch),
        ..BatchHeader::parse(&batch[..HEADER_LEN]).unwrap()
    };
    [&header.encode()[..], &batch[HEADER_LEN..]].concat().into()
}

/// Small waits, so that tests are quick.
pub(super) fn config() -> ReplicationConfig {
    ReplicationConfig {
        lag_time_max: Duration::from_secs(10),
        fetchers: 1,
        fetch_max_bytes: 4_096,
        fetch_response_max_bytes: 65_536,
        fetch_wait_max: Duration::from_millis(200),
        fetch_backoff: Duration::from_millis(20),
        throttled_rate: None,
        controlled_shutdown: true,
    }
}

/// A broker that follows.
pub(super) struct Follower {
    pub(super) rig: partitions::Rig,
    pub(super) fetchers: Fetchers,
}

impl Follower {
    pub(super) fn new() -> Self {
        Self::with(config())
    }

    pub(super) fn with(config: ReplicationConfig) -> Self {
        Self::over(partitions::Rig::new(), config)
    }

    /// On a disk that breaks when told to.
    pub(super) fn breakable() -> (Self, FaultyDisk) {
        let (rig, disk) = partitions::Rig::breakable();
        (Self::over(rig, config()), disk)
    }

    fn over(rig: partitions::Rig, config: ReplicationConfig) -> Self {
        let me = Replica { broker_id: BrokerId(2), incarnation: Uuid::from_u128(77) };
        let fetchers = Fetchers::new(config, me, Arc::clone(&rig.metrics));
        Self { rig, fetchers }
    }

    /// Opens a partition without following anybody.
    pub(super) fn open(&self, topic: &str, partition: i32, log: LogConfig) -> Arc<Partition> {
        let name = TopicPartition::new(topic, partition);
        self.rig.partitions.open(&name, partitions::topic_id(topic), log).unwrap()
    }

    /// Follows a fake leader in its present epoch.
    pub(super) fn follow(
        &self,
        leader: &FakeLeader,
        topic: &str,
        partition: i32,
    ) -> Arc<Partition> {
        self.follow_with(leader, topic, partition, LogConfig::default())
    }

    pub(super) fn follow_with(
        &self,
        leader: &FakeLeader,
        topic: &str,
        partition: i32,
        log: LogConfig,
    ) -> Arc<Partition> {
        let opened = self.open(topic, partition, log);
        let epoch = LeaderEpoch(leader.read(topic, partition, |p| p.epoch));
        opened.follow(epoch);
        let address = LeaderAddress { id: BrokerId(1), address: leader.address() };
        self.fetchers.follow(Arc::clone(&opened), address, epoch);
        opened
    }

    /// Waits until the log ends where the leader's does, and compares every byte.
    pub(super) fn catches_up(&self, leader: &FakeLeader, topic: &str, partition: i32) {
        let here = self.open(topic, partition, LogConfig::default());
        let end = || leader.read(topic, partition, |p| p.end());
        eventually("catching up", || here.log().log_end().0 == end());
        assert_same(&here, leader);
    }
}

/// The bytes of a log's segments from `from` on.
pub(super) fn bytes_of(partition: &Partition) -> Vec<u8> {
    let mut files: Vec<_> = std::fs::read_dir(partition.log().folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    files.sort();
    files.iter().flat_map(|path| std::fs::read(path).unwrap()).collect()
}

/// The log here is the leader's, byte for byte.
pub(super) fn assert_same(here: &Partition, leader: &FakeLeader) {
    let name = here.name();
    let there = leader.read(&name.topic, name.partition, |p| p.bytes());
    assert!(bytes_of(here) == there, "{name} differs from its leader's");
}
