//! Whether what a leader sent may be appended here. Pure.
//!
//! Bytes must be whole batches whose CRCs hold, each beginning where the one before ended (compaction
//! leaves empty batches in place of what it takes away), in leader epochs that never go back. What is
//! not so is never appended.

use bytes::Bytes;
use proto::record::{BatchError, BatchHeader, ChunkedBatches, check_chunks};
use proto::{LeaderEpoch, Offset};

/// The log that records are to be appended to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tip {
    /// The first offset.
    pub(super) log_start: Offset,
    /// The offset of the next record.
    pub(super) log_end: Offset,
    /// Of the last record; unknown where there is none.
    pub(super) last_epoch: LeaderEpoch,
    /// In which the leader is followed.
    pub(super) epoch: LeaderEpoch,
}

/// Why records are not appended.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::replication) enum Fault {
    /// Damaged on the way, or at the leader.
    #[error(transparent)]
    Corrupt(#[from] BatchError),
    /// Not what a leader sends.
    #[error("{0}")]
    Lie(String),
}

/// Records that may be appended.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) headers: Vec<BatchHeader>,
    /// The log is empty, and the first batch begins before it: it is to begin anew here. That is so
    /// where the leader's log starts within a batch.
    pub(super) begin_at: Option<Offset>,
}

/// Checks an answer; `next_offset` is what the leader says comes after it.
pub(super) fn check(chunks: &[Bytes], next_offset: Offset, tip: Tip) -> Result<Checked, Fault> {
    let headers = check_chunks(chunks)?;
    let (Some(first), Some(last)) = (headers.first(), headers.last()) else {
        return Err(Fault::Lie("an answer with records that has none".to_owned()));
    };
    let overlaps = first.base_offset < tip.log_end && tip.log_end < first.next_offset();
    let is_empty = tip.log_start == tip.log_end;
    let begin_at = match first.base_offset {
        base if base == tip.log_end => None,
        // Of an empty batch the log takes the rest.
        _ if overlaps && first.record_count == 0 => None,
        base if overlaps && is_empty => Some(base),
        base => {
            let log_end = tip.log_end;
            return Err(Fault::Lie(format!("records from offset {base} on, not from {log_end}")));
        }
    };
    let (mut end, mut epoch) = (first.base_offset, tip.last_epoch);
    for header in &headers {
        if header.base_offset != end || header.next_offset() <= header.base_offset {
            let base = header.base_offset;
            return Err(Fault::Lie(format!("a batch at offset {base} after the offset {end}")));
        }
        if header.leader_epoch < epoch || header.leader_epoch > tip.epoch {
            return Err(Fault::Lie(format!(
                "a batch of leader epoch {} at offset {}, after epoch {epoch} and in epoch {}",
                header.leader_epoch, header.base_offset, tip.epoch
            )));
        }
        (end, epoch) = (header.next_offset(), header.leader_epoch);
    }
    if last.next_offset() != next_offset {
        let end = last.next_offset();
        return Err(Fault::Lie(format!("records up to {end} and says that {next_offset} is next")));
    }
    Ok(Checked { headers, begin_at })
}

/// Of an answer that is not right as a whole, the batches that may be appended all the same: those
/// before the first that may not. `None` where that is the first of all.
pub(super) fn front(chunks: Vec<Bytes>, tip: Tip) -> Option<(Vec<Bytes>, Checked)> {
    let (mut front, mut checked, mut at) = (Vec::new(), Checked::default(), tip);
    for batch in ChunkedBatches::new(chunks).map_while(Result::ok) {
        let (log_end, last_epoch) = (batch.header.next_offset(), batch.header.leader_epoch);
        let Ok(one) = check(&batch.chunks, log_end, at) else { break };
        at = Tip { log_end, last_epoch, ..at };
        checked.begin_at = checked.begin_at.or(one.begin_at);
        checked.headers.extend(one.headers);
        front.extend(batch.chunks);
    }
    (!checked.headers.is_empty()).then_some((front, checked))
}
