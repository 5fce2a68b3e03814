//! What opening a log found missing of what it had before, and whether the replica may still be
//! counted as having all it ever told it has.
//!
//! | found | is something lost? |
//! |---|---|
//! | no log | all |
//! | damaged bytes below the recovery point | yes |
//! | the machine was started anew, or a flush failed | yes, but not with `flush=before-ack` |
//! | bytes cut off that an unfinished append leaves | no: it was never acknowledged |
//! | any other bytes cut off | yes |
//! | that a start before it did not come so far as to tell | yes, for all that is known |
//!
//! An append that a kill interrupted leaves the front of the bytes that were to be written: whole
//! batches, which stay, and then the front of one. After a power cut pages of it may be missing
//! too. That is told apart from damage by what is behind the cut: nothing that was ever a batch. In
//! doubt something is lost: a replica that is not counted catches up again, one that is counted
//! wrongly loses what was acknowledged.

use std::fmt;
use std::io;

use proto::Offset;
use proto::record::{BatchHeader, HEADER_LEN};

use super::config::FlushPolicy;
use super::disk::{DiskFile, read_fully};
use super::error::LogError;
use super::log::Log;
use super::scan::Scan;
use super::segment::Tip;

/// What opening a log found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Opening {
    /// The log was there before.
    pub existed: bool,
    /// Bytes that were not flushed may be gone: the stop was not clean and the machine was started
    /// anew since, or a flush failed.
    pub unsynced_lost: bool,
    /// A start before this one ended before anybody was told what it had found.
    pub losses_untold: bool,
    /// Bytes behind the log's end that were put aside.
    pub cut: Cut,
    /// The first offset that is damaged.
    pub damaged_from: Option<Offset>,
}

/// What was cut off the end of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cut {
    /// Nothing.
    #[default]
    Nothing,
    /// What an append leaves that had not ended.
    Unfinished,
    /// Something else: records may have been there.
    Records,
}

/// Why a replica may not be counted as having all it told it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// There was no log.
    NoLog,
    /// Offsets from here on are damaged.
    Damaged(Offset),
    /// What was not flushed may be gone.
    Unsynced,
    /// The log was cut at its end.
    Cut,
    /// Whatever a start before this one found and put right.
    Untold,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLog => f.write_str("there is no log of it"),
            Self::Damaged(from) => write!(f, "its log is damaged from offset {from} on"),
            Self::Unsynced => f.write_str("what was not flushed may be gone"),
            Self::Untold => f.write_str(
                "an earlier start ended before it had told the others what its logs lacked",
            ),
            Self::Cut => f.write_str("records at its end could not be read and were cut off"),
        }
    }
}

impl Opening {
    /// Why the replica may not be counted in sync, with the topic's flush policy; `None` where
    /// everything that it acknowledged is there.
    pub fn loss(&self, flush: FlushPolicy) -> Option<Loss> {
        if !self.existed {
            return Some(Loss::NoLog);
        }
        if let Some(from) = self.damaged_from {
            return Some(Loss::Damaged(from));
        }
        if self.unsynced_lost && flush != FlushPolicy::BeforeAck {
            return Some(Loss::Unsynced);
        }
        if self.cut == Cut::Records {
            return Some(Loss::Cut);
        }
        self.losses_untold.then_some(Loss::Untold)
    }
}

impl Log {
    /// What opening it found.
    pub fn opening(&self) -> Opening {
        self.opening
    }

    /// Cuts a log back to its first damaged offset, so that a follower fetches the rest anew;
    /// returns where it ends, `None` where nothing is damaged. Only for who follows a leader.
    pub fn cut_damage(&self) -> Result<Option<Offset>, LogError> {
        let first = self.damaged().iter().map(|range| range.from).min();
        first.map(|from| self.truncate_to(from)).transpose()
    }
}

/// What lies behind the place where a segment's good batches end.
pub(super) fn judge_cut(file: &dyn DiskFile, cut: Tip, unsynced_lost: bool) -> io::Result<Cut> {
    let len = file.size()?;
    if len <= cut.size {
        return Ok(Cut::Nothing);
    }
    let mut scan = Scan::new(file, len);
    // The length is not covered by the CRC: a batch that is whole but for it reaches to the end.
    if scan.next_good(cut.size, cut.end_offset)?.is_some()
        || is_whole_but_for_length(file, cut, len)?
    {
        return Ok(Cut::Records);
    }
    let unfinished = unsynced_lost || is_front_of_batch(file, cut, len)?;
    Ok(if unfinished { Cut::Unfinished } else { Cut::Records })
}

/// Whether the bytes are the front of one batch that follows, and less than all of it.
fn is_front_of_batch(file: &dyn DiskFile, cut: Tip, len: u64) -> io::Result<bool> {
    let left = len - cut.size;
    if left < HEADER_LEN as u64 {
        return Ok(true);
    }
    let header = header_at(file, cut.size)?;
    Ok(header.is_some_and(|header| {
        header.base_offset == cut.end_offset && header.size_in_bytes() as u64 > left
    }))
}

/// Whether all from the cut to the end of the file is a batch whose length alone is wrong.
fn is_whole_but_for_length(file: &dyn DiskFile, cut: Tip, len: u64) -> io::Result<bool> {
    /// Where the length is in a batch, and what it leaves out.
    const LENGTH_AT: usize = 8;
    const LENGTH_FROM: usize = 12;
    let left = len - cut.size;
    let Some(length) = left.checked_sub(LENGTH_FROM as u64).and_then(|l| i32::try_from(l).ok())
    else {
        return Ok(false);
    };
    let mut bytes = [0; HEADER_LEN];
    if read_fully(file, &mut bytes, cut.size)? < HEADER_LEN {
        return Ok(false);
    }
    bytes[LENGTH_AT..LENGTH_FROM].copy_from_slice(&length.to_be_bytes());
    let Ok(header) = BatchHeader::parse(&bytes) else { return Ok(false) };
    Scan::new(file, len).holds(cut.size, &header)
}

fn header_at(file: &dyn DiskFile, position: u64) -> io::Result<Option<BatchHeader>> {
    let mut bytes = [0; HEADER_LEN];
    let read = read_fully(file, &mut bytes, position)?;
    Ok(BatchHeader::parse(&bytes[..read]).ok())
}
