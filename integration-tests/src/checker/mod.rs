//! Judges a recorded history: every send with its outcome, every record delivered, every commit,
//! every claim of a partition, and the log as it stands in the end.
//!
//! The checker knows nothing of the system. [`history`] is what the clients saw, in words of 8 to 32
//! bytes a record, so that a night's run fits in memory. [`judge`] names every promise that the
//! history breaks, as [`verdict`] spells them; a verdict keeps all the counts and the first few of
//! each kind with what is needed to look into it.

mod history;
mod judge;
mod verdict;

#[cfg(test)]
mod tests;

pub use history::{
    Claim, Commit, Delivered, FinalLog, FinalPartition, History, Millis, Outcome, Position, Read,
    Resumed, Send, Sends, Sent, StoredOffset, Taken, Value,
};
pub use judge::judge;
pub use verdict::{Kind, Verdict, Violation};

/// Judges what was sent and one reading of the whole log.
pub fn check(sent: &[Sent], read: &[Read]) -> Verdict {
    judge(&History::of(sent, read))
}
