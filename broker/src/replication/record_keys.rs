//! Records of compacted topics must have keys: compaction keeps the newest record of each, and would
//! drop one that has none.
//!
//! Runs on the threads for looking into batches, under the partition's append token. Bounded: what
//! one batch's records take, decompressed, is [`DECOMPRESSED_MAX`] at most.

use std::cell::RefCell;

use proto::record::{Batch, BatchDecoder, ChunkedBatches, RecordError};

use super::AppendJob;
use crate::storage::DECOMPRESSED_MAX;

/// Why records may not go into a compacted topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A record has no key.
    #[error(
        "record {index} of the batch has no key, and the topic is compacted \
         (cleanup.policy=compact)"
    )]
    Missing {
        /// Which record of its batch, from 0.
        index: usize,
    },
    /// The records cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
}

thread_local! {
    static DECODER: RefCell<BatchDecoder> = RefCell::new(BatchDecoder::new(DECOMPRESSED_MAX));
}

/// Checks that every record of a job has a key.
pub(super) fn check(job: &AppendJob) -> Result<(), KeyError> {
    DECODER.with_borrow_mut(|decoder| {
        for chunked in ChunkedBatches::new(job.chunks.iter().cloned()) {
            let whole = chunked.map_err(RecordError::from)?.into_bytes();
            // Its checksum was checked when it came.
            let batch = Batch::parse_without_crc(&whole).map_err(RecordError::from)?;
            for (index, record) in decoder.records(&batch)?.enumerate() {
                if record?.key.is_none() {
                    return Err(KeyError::Missing { index });
                }
            }
        }
        Ok(())
    })
}
