//! What a follower does to its log: append what it fetched, cut, begin anew. Only in the epoch it
//! follows in, so that a fetcher of an older leader changes nothing any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use proto::record::BatchHeader;
use proto::{LeaderEpoch, Offset};

use super::leadership::{Tenure, check_epoch};
use super::{Partition, PartitionError};
use crate::storage::{AppendError, Log, LogError};

/// What a leader sent.
#[derive(Debug, Clone)]
pub struct FetchedRecords {
    /// Whole batches that follow the log end; may be none.
    pub chunks: Vec<Bytes>,
    /// Their headers, checked.
    pub headers: Vec<BatchHeader>,
    /// How deep producers of the partition pipeline.
    pub window: u16,
    /// Of the leader.
    pub high_watermark: Offset,
    /// Of the leader.
    pub log_start: Offset,
    /// What the leader remembers of producers before a log that begins anew; empty where there is
    /// nothing, or the log does not begin.
    pub producers: Bytes,
}

impl Partition {
    /// Appends what was fetched from the leader of `epoch`, and follows it with high watermark and
    /// log start. After return it is in the page cache; see `Log::append_fetched` for errors.
    pub fn append_fetched(
        &self,
        epoch: LeaderEpoch,
        fetched: &FetchedRecords,
    ) -> Result<(), PartitionError> {
        self.as_follower(epoch, |log| {
            if !fetched.producers.is_empty() {
                log.adopt_producers(&fetched.producers);
            }
            if !fetched.headers.is_empty() {
                log.append_fetched(&fetched.chunks, &fetched.headers, fetched.window)?;
            }
            // A leader that has just begun may know of less than is known here.
            let committed = fetched.high_watermark.min(log.log_end()).max(log.high_watermark());
            log.set_high_watermark(committed);
            log.advance_log_start(fetched.log_start)?;
            Ok(())
        })
    }

    /// Cuts the log to where it agrees with the leader's; returns where it ends now.
    pub fn truncate_as_follower(
        &self,
        epoch: LeaderEpoch,
        offset: Offset,
    ) -> Result<Offset, PartitionError> {
        self.as_follower(epoch, |log| Ok(log.truncate_to(offset)?))
    }

    /// Drops the log and begins anew at `offset`: the leader has no longer what comes next here.
    pub fn restart_as_follower(
        &self,
        epoch: LeaderEpoch,
        offset: Offset,
    ) -> Result<(), PartitionError> {
        self.as_follower(epoch, |log| Ok(log.restart_at(offset)?))
    }

    /// Does something to the log while nobody else may.
    fn as_follower<T>(
        &self,
        epoch: LeaderEpoch,
        work: impl FnOnce(&Log) -> Result<T, PartitionError>,
    ) -> Result<T, PartitionError> {
        let tenure = self.tenure.lock();
        match *tenure {
            Tenure::Follows(current) => check_epoch(current, epoch)?,
            Tenure::Leads(current) => return Err(PartitionError::Fenced { current, asked: epoch }),
            Tenure::Idle => return Err(PartitionError::NotFollower),
        };
        let done = self.log.contain("following", || work(&self.log));
        let done = done.unwrap_or_else(|offline| Err(AppendError::Offline(offline).into()));
        let visible = self.visible(self.log.high_watermark());
        self.visible_end.store(visible.0, Ordering::Release);
        done
    }
}

impl From<LogError> for PartitionError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Offline(offline) => Self::Append(AppendError::Offline(offline)),
            other => Self::Log(Arc::new(other)),
        }
    }
}
