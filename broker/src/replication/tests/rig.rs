//! Partitions without a cluster: what the tests of this layer and of those above start from.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use proto::record::{BatchBuilder, ProducerStamp, check_chunks};
use proto::{BrokerId, LeaderEpoch, TopicId, TopicPartition};
use tempfile::TempDir;

use crate::metrics::Metrics;
use crate::replication::{
    AppendJob, Leadership, OnAppended, Partition, PartitionError, PartitionSet, RequiredAcks, Wake,
};
use crate::storage::disk::faulty::FaultyDisk;
use crate::storage::disk::{Disk, RealDisk};
use crate::storage::{Appended, LogConfig, LogSet, LogSetConfig, SystemClock};

/// A set of partitions; its directory goes with it.
pub(crate) struct Rig {
    pub(crate) partitions: Arc<PartitionSet>,
    pub(crate) metrics: Arc<Metrics>,
    _dir: Option<TempDir>,
}

impl Rig {
    /// On the real disk.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rig = Self::over(Arc::new(RealDisk), dir.path());
        Self { _dir: Some(dir), ..rig }
    }

    /// On a disk that breaks when told to.
    pub(crate) fn breakable() -> (Self, FaultyDisk) {
        let folder = Path::new("/logs");
        let disk = FaultyDisk::new(folder);
        (Self::over(Arc::new(disk.clone()), folder), disk)
    }

    fn over(disk: Arc<dyn Disk>, folder: &Path) -> Self {
        let config = LogSetConfig::new(vec![folder.to_owned()]);
        let (logs, _) = LogSet::open(config, disk, Arc::new(SystemClock::new())).unwrap();
        let metrics = Arc::new(Metrics::default());
        let partitions = Arc::new(PartitionSet::new(logs, Arc::clone(&metrics), LAG_MAX));
        Self { partitions, metrics, _dir: None }
    }

    /// A partition that leads in epoch 0.
    pub(crate) fn lead(&self, topic: &str, partition: i32, config: LogConfig) -> Arc<Partition> {
        let name = TopicPartition::new(topic, partition);
        let partition = self.partitions.open(&name, topic_id(topic), config).unwrap();
        partition.lead(ME, &alone(0)).unwrap();
        partition
    }
}

/// The broker under test.
pub(crate) const ME: BrokerId = BrokerId(1);
/// `replica.lag.time.max.ms`.
pub(crate) const LAG_MAX: Duration = Duration::from_secs(10);

/// Leads in an epoch, without other replicas.
pub(crate) fn alone(epoch: i32) -> Leadership {
    led(epoch, 0, &[1], &[1])
}

/// Leads in an epoch.
pub(crate) fn led(epoch: i32, version: i32, replicas: &[i32], isr: &[i32]) -> Leadership {
    let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
    Leadership {
        epoch: LeaderEpoch(epoch),
        version,
        replicas: ids(replicas),
        isr: ids(isr),
        electable: Vec::new(),
        adding: Vec::new(),
    }
}

/// The id of a test topic follows from its name.
pub(crate) fn topic_id(topic: &str) -> TopicId {
    let mut bytes = [7; 16];
    for (to, from) in bytes.iter_mut().zip(topic.bytes()) {
        *to = from;
    }
    TopicId::from_slice(&bytes).unwrap()
}

/// A batch of `records` records of `value_len` bytes each.
pub(crate) fn batch(records: usize, value_len: usize, stamp: ProducerStamp) -> Bytes {
    let mut builder = BatchBuilder::new(64 << 20);
    for _ in 0..records {
        builder.append(1_000, None, Some(&vec![b'x'; value_len]), &[]).unwrap();
    }
    builder.finish(stamp)
}

/// Where the outcome of an append goes.
pub(crate) type Outcome = Arc<Mutex<Option<Result<Appended, PartitionError>>>>;

/// A job for a batch, and where its outcome will be.
pub(crate) fn job(batch: Bytes, leader_epoch: LeaderEpoch) -> (AppendJob, Outcome) {
    let outcome = Outcome::default();
    let told = Arc::clone(&outcome);
    let chunks = vec![batch];
    let job = AppendJob {
        headers: check_chunks(&chunks).unwrap(),
        chunks,
        leader_epoch,
        window: 5,
        acks: RequiredAcks::Leader,
        due: Instant::now() + Duration::from_secs(60),
        hold: None,
        done: OnAppended::new(move |result| *told.lock() = Some(result)),
    };
    (job, outcome)
}

/// Counts its rings.
#[derive(Default)]
pub(crate) struct Rings(pub(crate) Mutex<Vec<u32>>);

impl Wake for Rings {
    fn wake(&self, token: u32) {
        self.0.lock().push(token);
    }
}

/// Waits for something another thread does, for at most ten seconds.
pub(crate) fn eventually(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed().as_secs() < 10, "{what} did not happen");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
