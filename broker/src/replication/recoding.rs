//! Brings the batches of a request to the codec that their topic forces.
//!
//! Runs on the threads for it, under the partition's append token. Bounded: what one request's
//! records take, decompressed, is [`DECOMPRESSED_MAX`] at most.

use std::cell::RefCell;

use proto::record::{
    Batch, BatchHeader, ChunkedBatches, Compression, Compressor, RecodeError, Recoder, RecordError,
};

use super::AppendJob;
use crate::storage::DECOMPRESSED_MAX;

/// Recoders kept a thread: topics rarely differ in codec and level, and the tables are large.
const KEPT: usize = 4;

/// Producers' id that makes recoding panic.
#[cfg(test)]
pub(super) const PANICKING: proto::ProducerId = 0x70616e6963;

type Setting = (Compression, Option<i32>);

thread_local! {
    /// Newest last.
    static RECODERS: RefCell<Vec<(Setting, Recoder)>> = const { RefCell::new(Vec::new()) };
}

/// Replaces those batches of the job that have another codec; returns how many.
pub(super) fn recode(
    job: &mut AppendJob,
    codec: Compression,
    level: Option<i32>,
) -> Result<u64, RecodeError> {
    if job.headers.iter().all(|header| header.attributes.compression() == Ok(codec)) {
        return Ok(0);
    }
    with_recoder((codec, level), |recoder| {
        #[cfg(test)]
        assert!(!job.headers.iter().any(|header| header.producer_id == PANICKING), "injected");
        let mut left = DECOMPRESSED_MAX;
        let (mut chunks, mut headers) = (Vec::new(), Vec::with_capacity(job.headers.len()));
        let mut changed = 0;
        for chunked in ChunkedBatches::new(std::mem::take(&mut job.chunks)) {
            let whole = chunked.map_err(RecordError::from)?.into_bytes();
            // Its checksum was checked when it came.
            let batch = Batch::parse_without_crc(&whole).map_err(RecordError::from)?;
            match recoder.recode(&batch, left)? {
                None => {
                    headers.push(batch.header().clone());
                    chunks.push(whole);
                }
                Some(recoded) => {
                    changed += 1;
                    left = left.saturating_sub(recoder.plain_len().max(recoded.len()));
                    headers.push(BatchHeader::parse(&recoded).map_err(RecordError::from)?);
                    chunks.push(recoded);
                }
            }
        }
        (job.chunks, job.headers) = (chunks, headers);
        Ok(changed)
    })
}

fn with_recoder<R>(setting: Setting, f: impl FnOnce(&mut Recoder) -> R) -> R {
    RECODERS.with_borrow_mut(|recoders| {
        let at = recoders.iter().position(|(known, _)| *known == setting);
        let mut entry = match at {
            Some(at) => recoders.remove(at),
            None => (setting, Recoder::new(compressor(setting))),
        };
        let result = f(&mut entry.1);
        if recoders.len() >= KEPT {
            recoders.remove(0);
        }
        recoders.push(entry);
        result
    })
}

/// The level was checked with the settings; a wrong one is the codec's default.
fn compressor((codec, level): Setting) -> Compressor {
    Compressor::new(codec, level).unwrap_or_else(|_| Compressor::with_default_level(codec))
}
