//! Reading an offsets partition whole, when this broker begins to lead it: the last word on each
//! key. Memory holds one slice of the log and what the partition says, never the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::record::{BatchDecoder, Batches, RecordError};
use proto::{LeaderEpoch, Offset};

use super::classic::GroupMetadata;
use super::offsets::Offsets;
use super::records::{self, Told};
use crate::replication::Partition;
use crate::storage::{Cursor, ReadError, ReadLimits};

/// Decompressed bytes of a batch, at most. Ours are not compressed; a topic's setting may do it.
const BATCH_MAX: usize = 64 << 20;

/// What an offsets partition says.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) groups: HashMap<Arc<str>, LoadedGroup>,
    /// All below was read. It is served once it is committed.
    pub(super) end: Offset,
    /// How long that took.
    pub(super) took: Duration,
    /// Records that say nothing, or that cannot be read.
    pub(super) unreadable: u64,
}

/// What it says of a group.
#[derive(Debug, Default)]
pub(super) struct LoadedGroup {
    pub(super) metadata: Option<GroupMetadata>,
    pub(super) offsets: Offsets,
}

/// Why it was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// Another broker leads, or this one in another epoch.
    #[error("this broker does not lead the offsets partition any more")]
    NotLeader,
    /// The disk.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Reads the partition, `buffer_bytes` at a time. Blocks on the disk.
pub(super) fn load(
    partition: &Partition,
    epoch: LeaderEpoch,
    buffer_bytes: usize,
) -> Result<Loaded, LoadError> {
    let began = Instant::now();
    let log = partition.log();
    let end = log.log_end();
    let mut loaded = Loaded { end, ..Loaded::default() };
    let mut decoder = BatchDecoder::new(BATCH_MAX);
    let mut cursor = Cursor::at(log.log_start());
    let limits = ReadLimits { max_bytes: buffer_bytes, upto: end, first_batch_whole: true };
    while cursor.offset() < end {
        if partition.leading() != Some(epoch) {
            return Err(LoadError::NotLeader);
        }
        match log.read_copied(cursor, limits) {
            Ok(slice) if slice.is_empty() => break,
            Ok(slice) => {
                loaded.take_in(slice.bytes(), &mut decoder);
                cursor = slice.next();
            }
            // Its start has moved on under our feet.
            Err(ReadError::OutOfRange { log_start, .. }) if cursor.offset() < log_start => {
                cursor = Cursor::at(log_start);
            }
            Err(ReadError::Damaged { from, to }) => {
                let partition = partition.name();
                tracing::error!(%partition, %from, %to, "offsets of groups are lost in damage");
                cursor = Cursor::at(to);
            }
            Err(error) => return Err(error.into()),
        }
    }
    loaded.groups.retain(|_, group| group.metadata.is_some() || !group.offsets.is_empty());
    loaded.took = began.elapsed();
    Ok(loaded)
}

impl Loaded {
    fn take_in(&mut self, bytes: &[u8], decoder: &mut BatchDecoder) {
        for batch in Batches::new(bytes) {
            let read = batch.map_err(RecordError::from).and_then(|batch| {
                if batch.header().attributes.is_control() {
                    return Ok(());
                }
                for record in decoder.records(&batch)? {
                    match records::read(&record?) {
                        Ok(told) => self.apply(told),
                        Err(_) => self.unreadable += 1,
                    }
                }
                Ok(())
            });
            self.unreadable += u64::from(read.is_err());
        }
    }

    fn apply(&mut self, told: Told) {
        match told {
            Told::Offset(group, name, Some(committed)) => {
                self.groups.entry(group).or_default().offsets.insert(name, committed);
            }
            Told::Offset(group, name, None) => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.offsets.remove(&name);
                }
            }
            Told::Group(group, metadata) => {
                self.groups.entry(group).or_default().metadata = metadata;
            }
            Told::Nothing => self.unreadable += 1,
        }
    }
}
