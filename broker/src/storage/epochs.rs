//! The log's leader epochs: what leaders and followers compare to find where their logs part
//! (KIP-101, KIP-279), and the file that keeps it.
//!
//! Questions are answered without a lock. Changes hold the writer lock: an epoch is in the history
//! before the log end covers its first batch, so that who reads the log end first and the history
//! then knows the epoch of all below that end.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use proto::{LeaderEpoch, Offset};

use super::disk;
use super::epoch_history::{self, EpochHistory};
use super::error::LogError;
use super::log::{Log, Writer};

impl Log {
    /// The newest leader epoch known here: of the last batch, or one that began and has none yet.
    pub fn latest_epoch(&self) -> LeaderEpoch {
        self.epochs.load().latest().unwrap_or(LeaderEpoch::UNKNOWN)
    }

    /// The leader epoch of the last batch; unknown when the log is empty. What a follower names
    /// when it asks where its log and the leader's part.
    pub fn last_record_epoch(&self) -> LeaderEpoch {
        let log_end = self.log_end();
        if self.log_start() >= log_end {
            return LeaderEpoch::UNKNOWN;
        }
        let epochs = self.epochs.load();
        let begun = epochs.entries().iter().rev().find(|&&(_, start)| start < log_end);
        begun.map_or(LeaderEpoch::UNKNOWN, |&(epoch, _)| epoch)
    }

    /// The newest epoch at or before `epoch`, and the offset after its last record. `None` when
    /// `epoch` is older than all that is known.
    pub fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let log_end = self.log_end();
        let (known, end) = self.epochs.load().end_of(epoch, log_end)?;
        Some((known, end.min(log_end)))
    }

    /// Where this log, a leader's, parts from one that has a record of `epoch` just before `offset`,
    /// if it does: the newest epoch here that is not newer, and its end. `None` as the epoch: all
    /// epochs here are newer, and the end is the log start.
    pub fn diverging(
        &self,
        epoch: LeaderEpoch,
        offset: Offset,
    ) -> Option<(Option<LeaderEpoch>, Offset)> {
        let log_start = self.log_start();
        if offset <= log_start {
            // The record before is not here any more: nothing to compare.
            return None;
        }
        match self.end_of_epoch(epoch) {
            Some((known, end)) if known == epoch && offset <= end => None,
            Some((known, end)) => Some((Some(known), end)),
            None => Some((None, log_start)),
        }
    }

    /// The offset that `epoch` began at; `None` where it left no record here and is not the newest.
    pub fn start_of_epoch(&self, epoch: LeaderEpoch) -> Option<Offset> {
        let epochs = self.epochs.load();
        let at = epochs.entries().binary_search_by_key(&epoch, |&(known, _)| known).ok()?;
        epochs.entries().get(at).map(|&(_, start)| start)
    }

    /// Notes durably that `epoch` begins at the log end; called by who begins to lead in it.
    pub fn begin_epoch(&self, epoch: LeaderEpoch) -> Result<(), LogError> {
        self.check_online()?;
        let mut writer = self.writer.lock();
        self.note_epoch(&mut writer, epoch, self.log_end());
        drop(writer);
        self.save_epochs()
    }

    /// Notes that `epoch` begins at `start`, where that says something new.
    pub(super) fn note_epoch(&self, writer: &mut Writer, epoch: LeaderEpoch, start: Offset) {
        if self.latest_epoch() < epoch {
            self.change_epochs(writer, start, |epochs| epochs.assign(epoch, start));
        }
    }

    /// Forgets epochs that ended at or before the new log start. Recovery does it again where that
    /// was not written down.
    pub(super) fn cut_epochs_start(&self, writer: &mut Writer, log_start: Offset) {
        self.change_epochs(writer, Offset(i64::MAX), |epochs| epochs.cut_start(log_start));
    }

    /// Changes the history from `at` on; `change` says whether it did. The writer is whose lock is
    /// held.
    pub(super) fn change_epochs(
        &self,
        _writer: &mut Writer,
        at: Offset,
        change: impl FnOnce(&mut EpochHistory) -> bool,
    ) {
        let mut epochs = EpochHistory::clone(&self.epochs.load());
        if change(&mut epochs) {
            self.epochs_unsaved.from.fetch_min(at.0, Ordering::AcqRel);
            self.epochs_unsaved.changes.fetch_add(1, Ordering::AcqRel);
            self.epochs.store(epochs.into());
        }
    }

    /// Whether the history differs from its file.
    pub(super) fn has_unsaved_epochs(&self) -> bool {
        self.epochs_unsaved.is_any()
    }

    /// The recovery point stays at or below this: from there on recovery takes the epochs from the
    /// batches.
    pub(super) fn epochs_saved_below(&self) -> Offset {
        Offset(self.epochs_unsaved.from.load(Ordering::Acquire))
    }

    /// Writes the epoch history down if it changed. When that fails it is tried again with the
    /// next checkpoint; recovery also finds epochs in the batches. Callers do not hold the writer
    /// lock: appends go on meanwhile.
    pub(super) fn save_epochs(&self) -> Result<(), LogError> {
        let _file = self.epochs_file.lock();
        let unsaved = &self.epochs_unsaved;
        let (changes, text) = {
            let _writer = self.writer.lock();
            if !unsaved.is_any() {
                return Ok(());
            }
            (unsaved.changes.load(Ordering::Acquire), self.epochs.load().encode())
        };
        let path = self.folder.read().join(epoch_history::FILE_NAME);
        let written = disk::replace_file(&*self.context.disk, &path, text.as_bytes());
        if let Err(cause) = written {
            tracing::warn!(partition = %self.partition, %cause, "leader epochs not written");
            return Err(self.io_error("writing the leader epochs", cause));
        }
        let _writer = self.writer.lock();
        unsaved.saved.store(changes, Ordering::Release);
        if !unsaved.is_any() {
            unsaved.from.store(i64::MAX, Ordering::Release);
        }
        Ok(())
    }
}

/// How much of a history is in memory alone. Changed under the writer lock.
#[derive(Debug)]
pub(super) struct Unsaved {
    /// Changes made, and those that the file has.
    changes: AtomicU64,
    saved: AtomicU64,
    /// The file is right about all below.
    from: AtomicI64,
}

impl Unsaved {
    /// Of a log that was just opened; everything or nothing is to be written.
    pub(super) fn new(any: bool) -> Self {
        let from = AtomicI64::new(if any { 0 } else { i64::MAX });
        Self { changes: AtomicU64::new(any.into()), saved: AtomicU64::new(0), from }
    }

    fn is_any(&self) -> bool {
        self.changes.load(Ordering::Acquire) != self.saved.load(Ordering::Acquire)
    }
}
