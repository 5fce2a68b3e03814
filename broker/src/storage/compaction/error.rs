//! Why a log was not compacted.

use std::io;

use proto::{Offset, TopicPartition};

use crate::storage::disk;
use crate::storage::error::Offline;

/// Where a batch should be and is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadBatch {
    /// Base offset of the segment.
    pub segment: Offset,
    /// Where in its file.
    pub position: u64,
    /// The offset it should begin with.
    pub offset: Offset,
}

/// Why a cleaning ended early. The log is as it was, or compacted in part: every group of segments
/// is replaced whole or not at all.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// `cleanup.policy` does not say so.
    #[error("{0} is not compacted: its cleanup.policy has no `compact`")]
    NotCompacted(TopicPartition),
    /// Another thread is at it.
    #[error("{0} is being compacted already")]
    Busy(TopicPartition),
    /// The partition is offline, deleted or closed.
    #[error(transparent)]
    Offline(#[from] Offline),
    /// Segments went while they were compacted: retention, a truncation, newly found damage.
    #[error("its segments changed meanwhile; it is looked at again later")]
    Overtaken,
    /// The broker is stopping.
    #[error("the broker is stopping")]
    Stopping,
    /// A batch is not what was written.
    #[error(
        "the batch at offset {} (segment {}, byte {}) is damaged; records before it are compacted, \
         those from there on stay as they are: restore the partition from a replica, or let \
         retention or delete-records take the damaged segment",
        .0.offset, .0.segment, .0.position
    )]
    Damaged(BadBatch),
    /// One batch alone has more keys than the map holds.
    #[error(
        "the batch at offset {offset} has {keys} records, and a map of {capacity} keys is all that \
         log.cleaner.dedupe.buffer.size allows a cleaner thread: raise it"
    )]
    TooManyKeys {
        /// The batch's base offset.
        offset: Offset,
        /// Its records.
        keys: usize,
        /// Keys that fit.
        capacity: usize,
    },
    /// A segment cannot be read.
    #[error("reading a segment failed: {cause}")]
    Read {
        /// The system's word.
        cause: io::Error,
    },
    /// The compacted copy cannot be written.
    #[error("{what} failed: {cause}{}", hint(.cause))]
    Write {
        /// What was tried.
        what: &'static str,
        /// The system's word.
        cause: io::Error,
    },
    /// A fault of the program.
    #[error("the cleaner panicked: {0}; this is a fault of the broker, report it with the log")]
    Panicked(String),
}

fn hint(cause: &io::Error) -> &'static str {
    match disk::is_full(cause) {
        true => "; compacting needs room for a copy of some segments: free space on the disk",
        false => "",
    }
}

impl CompactionError {
    pub(super) fn write(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Write { what, cause }
    }

    /// Whether it passes by itself, so that nobody needs to be told.
    pub(super) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::NotCompacted(_)
                | Self::Busy(_)
                | Self::Offline(_)
                | Self::Overtaken
                | Self::Stopping
        )
    }
}
