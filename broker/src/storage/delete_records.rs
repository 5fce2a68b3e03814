//! Deleting records by request, up to an offset: the log start moves, into the middle of a segment
//! and of a batch where need be.
//!
//! After the answer nobody reads below the new log start, also after a kill or a power cut: it is
//! in the positions checkpoint before it is acknowledged. The bytes go with the next retention
//! round, by whole segments; the segment and the batch that the start lies in stay, and readers drop
//! what is below. Where the checkpoint is lost or unreadable, the log starts at its first segment
//! again (as in Kafka): deleted records whose segment was still there come back.
//!
//! Records above the high watermark are not deleted, and those below the log start stay flushed,
//! so that recovery never takes the log to end below its start.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use proto::Offset;

use super::error::{DeleteRecordsError, FlushError, LogError};
use super::log::{Log, Writer};
use super::log_dir::LogDir;
use super::log_set::LogSet;

/// Up to where records go (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteUpTo {
    /// All there are: to the high watermark.
    HighWatermark,
    /// To this offset, which becomes the log start.
    Offset(Offset),
}

impl LogSet {
    /// Deletes records of many logs, writing each directory's checkpoint once. Returns the log
    /// start of each, or why nothing is promised of it, in order.
    pub fn delete_records(
        &self,
        requests: &[(Arc<Log>, DeleteUpTo)],
    ) -> Vec<Result<Offset, DeleteRecordsError>> {
        let mut results: Vec<_> =
            requests.iter().map(|(log, upto)| log.raise_start(*upto)).collect();
        let mut written: Vec<(&Arc<LogDir>, Result<(), String>)> = Vec::new();
        for ((log, _), result) in requests.iter().zip(&mut results) {
            if result.is_err() {
                continue;
            }
            let known = written.iter().position(|(dir, _)| Arc::ptr_eq(dir, &log.dir));
            let number = known.unwrap_or_else(|| {
                let stored = log.dir.write_checkpoint(&*self.inner.context.disk);
                written.push((&log.dir, stored.map_err(|error| error.to_string())));
                written.len() - 1
            });
            if let Some((_, Err(cause))) = written.get(number) {
                let (partition, cause) = (log.partition().clone(), cause.clone());
                *result = Err(DeleteRecordsError::NotStored { partition, cause });
            } else if let Err(offline) = log.check_online() {
                *result = Err(offline.into());
            }
        }
        results
    }
}

impl Log {
    /// Deletes records of this log alone; see [`LogSet::delete_records`].
    pub fn delete_records(&self, upto: DeleteUpTo) -> Result<Offset, DeleteRecordsError> {
        let log_start = self.raise_start(upto)?;
        if let Err(error) = self.dir.write_checkpoint(&*self.context.disk) {
            let (partition, cause) = (self.partition.clone(), error.to_string());
            return Err(DeleteRecordsError::NotStored { partition, cause });
        }
        self.check_online()?;
        Ok(log_start)
    }

    /// Moves the log start in memory; never back. Returns where it is.
    fn raise_start(&self, upto: DeleteUpTo) -> Result<Offset, DeleteRecordsError> {
        self.check_online()?;
        if !self.config().cleanup_policy.delete {
            return Err(DeleteRecordsError::CompactedOnly(self.partition.clone()));
        }
        let wanted = self.wanted_start(upto)?;
        if wanted > self.flushed() {
            self.flush().map_err(|FlushError(offline)| offline)?;
        }
        let moved = {
            let mut writer = self.writer.lock();
            // A truncation may have come between.
            let wanted = self.wanted_start(DeleteUpTo::Offset(wanted))?;
            self.move_start(&mut writer, wanted)
        };
        let log_start = self.log_start();
        if moved {
            tracing::info!(partition = %self.partition, log_start = log_start.0, "records deleted");
            // The epochs are written with the next checkpoint: recovery cuts them to the log start.
            self.tell(|listener| listener.log_start_advanced(log_start));
        }
        Ok(log_start)
    }

    /// Moves a follower's log start to its leader's, as far as this log reaches; never back. All
    /// below is committed, so that the high watermark goes along. The directory's flusher writes it
    /// down at once, for a kill must not bring deleted records back where this broker leads next; the
    /// bytes go with the next retention round, whatever the policy.
    pub fn advance_log_start(&self, offset: Offset) -> Result<(), LogError> {
        self.check_online()?;
        let wanted = offset.min(self.log_end());
        if wanted <= self.log_start() {
            return Ok(());
        }
        if wanted > self.flushed() {
            self.flush().map_err(|FlushError(offline)| offline)?;
        }
        let moved = {
            let mut writer = self.writer.lock();
            // A truncation may have come between.
            let wanted = wanted.min(self.log_end());
            self.high_watermark.fetch_max(wanted.0, Ordering::AcqRel);
            self.move_start(&mut writer, wanted)
        };
        if moved {
            self.write_start_soon();
            let log_start = self.log_start();
            self.tell(|listener| listener.log_start_advanced(log_start));
        }
        Ok(())
    }

    /// True when that moved it. All below the new start is flushed.
    fn move_start(&self, writer: &mut Writer, wanted: Offset) -> bool {
        let moved = self.log_start.fetch_max(wanted.0, Ordering::AcqRel) < wanted.0;
        if moved {
            self.cut_epochs_start(writer, wanted);
        }
        moved
    }

    fn wanted_start(&self, upto: DeleteUpTo) -> Result<Offset, DeleteRecordsError> {
        let high_watermark = self.high_watermark();
        match upto {
            DeleteUpTo::HighWatermark => Ok(high_watermark),
            DeleteUpTo::Offset(offset) if offset >= Offset::ZERO && offset <= high_watermark => {
                Ok(offset)
            }
            DeleteUpTo::Offset(offset) => Err(DeleteRecordsError::OutOfRange {
                partition: self.partition.clone(),
                offset,
                log_start: self.log_start(),
                high_watermark,
            }),
        }
    }
}
