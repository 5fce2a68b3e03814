//! Tests of the storage layer as a whole, on the real disk and on one that breaks.

mod append_fetched;
mod basics;
mod compaction;
mod creation;
mod damage;
mod delete_records;
mod directories;
mod dump;
mod epochs;
mod faults;
mod indexes;
mod lifecycle;
mod low_space;
mod model;
mod open_files;
mod opening;
mod retention;
mod sparse_disk;
mod sweep;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proto::record::{BatchBuilder, Batches, ProducerStamp, check_chunks};
use proto::{LeaderEpoch, Offset, TopicId, TopicPartition};

use super::disk::{Disk, OpenMode, RealDisk};
use super::*;

/// The time tests begin at.
const START_MS: i64 = 1_700_000_000_000;

fn partition() -> TopicPartition {
    TopicPartition::new("logs", 0)
}

fn topic_id() -> TopicId {
    TopicId::from_slice(&[7; 16]).unwrap()
}

/// A batch of records with these values, at one time.
fn batch_of(values: &[&[u8]], timestamp: i64, stamp: ProducerStamp) -> Bytes {
    let size = values.iter().map(|value| value.len() + 64).sum::<usize>() + 128;
    let mut builder = BatchBuilder::new(size);
    for value in values {
        builder.append(timestamp, None, Some(value), &[]).unwrap();
    }
    builder.finish(stamp)
}

fn batch(values: &[&str]) -> Bytes {
    let values: Vec<_> = values.iter().map(|value| value.as_bytes()).collect();
    batch_of(&values, START_MS, ProducerStamp::NONE)
}

fn append_windowed(log: &Log, bytes: &Bytes, window: u16) -> Result<Appended, AppendError> {
    let chunks = [bytes.clone()];
    let headers = check_chunks(&chunks).unwrap();
    let request =
        AppendRequest { chunks: &chunks, headers: &headers, leader_epoch: LeaderEpoch(0), window };
    log.append(&[request]).pop().unwrap()
}

fn append(log: &Log, bytes: &Bytes) -> Result<Appended, AppendError> {
    append_windowed(log, bytes, 5)
}

/// Reads from an offset to the log end; offsets and values.
fn read_all(log: &Log, from: Offset) -> Result<Vec<(i64, Vec<u8>)>, ReadError> {
    let mut cursor = Cursor::at(from);
    let mut records = Vec::new();
    loop {
        let limits = ReadLimits { max_bytes: 5000, upto: log.log_end(), first_batch_whole: true };
        let slice = log.read(cursor, limits, Wait::Allowed)?;
        if slice.is_empty() {
            return Ok(records);
        }
        for batch in Batches::new(slice.bytes()) {
            for record in batch.unwrap().records() {
                let record = record.unwrap();
                if record.offset >= cursor.offset() {
                    records.push((record.offset.0, record.value.unwrap_or_default().to_vec()));
                }
            }
        }
        assert!(slice.next_offset() > cursor.offset());
        cursor = slice.next();
    }
}

struct World {
    disk: Arc<dyn Disk>,
    clock: Arc<ManualClock>,
    config: LogSetConfig,
}

impl World {
    fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        let mut config = LogSetConfig::new(vec![dir.to_owned()]);
        config.background = Background::Caller;
        config.recovery_threads = 1;
        Self { disk, clock: Arc::new(ManualClock::new(START_MS)), config }
    }

    fn real(dir: &Path) -> Self {
        Self::new(Arc::new(RealDisk), dir)
    }

    fn open(&self) -> (LogSet, StartReport) {
        LogSet::open(self.config.clone(), self.disk.clone(), self.clock.clone()).unwrap()
    }

    fn open_log(&self) -> (LogSet, Arc<Log>) {
        let (set, _) = self.open();
        let log = set.create(&partition(), topic_id(), self.config.log.clone()).unwrap();
        (set, log)
    }
}
