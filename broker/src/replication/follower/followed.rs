//! One partition as it is followed: what is done to its log, and the gate that ends it.
//!
//! A fetcher appends, cuts and restarts only with the gate open and held; [`Followed::stop`] closes
//! it. So after `stop` nothing more is appended, whatever a fetcher is at, and nobody waits for
//! more than one write.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::record::BatchHeader;
use proto::{LeaderEpoch, Offset, TopicPartition, v1};

use super::fetch_state::LocalFault;
use super::records::{self, Checked, Fault, Tip};
use super::rounds::ReplicaNumber;
use crate::replication::{FetchedRecords, Partition, PartitionError};
use crate::storage::{AppendError, FlushDone, FlushPolicy, StartStored};

/// See the module.
pub(in crate::replication) struct Followed {
    /// Of this following; another epoch or leader is another following.
    pub(in crate::replication) number: ReplicaNumber,
    pub(in crate::replication) partition: Arc<Partition>,
    pub(in crate::replication) epoch: LeaderEpoch,
    /// True while it is open.
    gate: Mutex<bool>,
}

/// What came of an answer with records.
#[derive(Debug)]
pub(in crate::replication) struct Appended {
    /// The log's end now.
    pub(in crate::replication) log_end: Offset,
    pub(in crate::replication) records: i64,
}

/// Why an answer did not get into the log.
#[derive(Debug, thiserror::Error)]
pub(in crate::replication) enum Refusal {
    /// What the leader sent.
    #[error(transparent)]
    Sent(#[from] Fault),
    /// What the log here says.
    #[error("{cause}")]
    Local { fault: LocalFault, cause: String },
}

/// What cutting the log came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::replication) struct Cut {
    pub(in crate::replication) from: Offset,
    pub(in crate::replication) to: Offset,
    /// Some of it had been committed, as far as was known here.
    pub(in crate::replication) below_high_watermark: bool,
}

impl Followed {
    pub(in crate::replication) fn new(
        number: ReplicaNumber,
        partition: Arc<Partition>,
        epoch: LeaderEpoch,
    ) -> Arc<Self> {
        Arc::new(Self { number, partition, epoch, gate: Mutex::new(true) })
    }

    pub(in crate::replication) fn name(&self) -> &TopicPartition {
        self.partition.name()
    }

    /// Nothing is appended, cut or restarted after it returns.
    pub(in crate::replication) fn stop(&self) {
        *self.gate.lock() = false;
    }

    pub(in crate::replication) fn log_end(&self) -> Offset {
        self.partition.log().log_end()
    }

    /// Whether the log takes no more part.
    pub(in crate::replication) fn is_offline(&self) -> bool {
        self.partition.log().offline().is_some()
    }

    /// Whether what is held must be on stable storage before it counts.
    pub(in crate::replication) fn flushes_first(&self) -> bool {
        self.partition.log().config().flush == FlushPolicy::BeforeAck
    }

    /// All below is held: what the leader may count.
    pub(in crate::replication) fn held_end(&self) -> Offset {
        let log = self.partition.log();
        if self.flushes_first() { log.flushed().min(log.log_end()) } else { log.log_end() }
    }

    /// Has all that is appended flushed by the directory's thread, which does several logs together.
    pub(in crate::replication) fn flush(&self, done: FlushDone) {
        let log = self.partition.log();
        log.flush_to(log.log_end(), done);
    }

    /// Where the log starts, also after a crash.
    pub(in crate::replication) fn stored_start(&self) -> Offset {
        self.partition.log().stored_start()
    }

    /// Whether the log start is yet to be written down.
    pub(in crate::replication) fn has_unstored_start(&self) -> bool {
        let log = self.partition.log();
        log.stored_start() < log.log_start()
    }

    /// Has `done` called when it is.
    pub(in crate::replication) fn when_start_stored(&self, done: StartStored) {
        self.partition.log().when_start_stored(done);
    }

    fn tip(&self) -> Tip {
        let log = self.partition.log();
        Tip {
            log_start: log.log_start(),
            log_end: log.log_end(),
            last_epoch: log.last_record_epoch(),
            epoch: self.epoch,
        }
    }

    /// How the leader is asked for what comes next.
    pub(in crate::replication) fn fetch_partition(
        &self,
        handle: u32,
        max_bytes: u32,
        verify: bool,
    ) -> v1::FetchPartition {
        let (name, tip) = (self.name(), self.tip());
        v1::FetchPartition {
            handle,
            topic: name.topic.to_string(),
            topic_id: self.partition.topic_id().to_bytes(),
            partition: name.partition,
            offset: tip.log_end.0,
            leader_epoch: self.epoch.0,
            max_bytes,
            verify,
            last_fetched_epoch: (tip.last_epoch != LeaderEpoch::UNKNOWN)
                .then_some(tip.last_epoch.0),
            want_producers: tip.log_start == tip.log_end,
        }
    }

    /// Checks and appends an answer: records, or only positions where `chunks` is empty. Where a
    /// batch does not hold, those before it are appended all the same: the next answer begins with
    /// it then, and it is the one that the leader checks when it is asked to.
    pub(in crate::replication) fn append(
        &self,
        response: &v1::FetchResponse,
        chunks: Vec<Bytes>,
    ) -> Result<Appended, Refusal> {
        let tip = self.tip();
        if chunks.iter().all(Bytes::is_empty) {
            return self.append_checked(response, chunks, Checked::default());
        }
        match records::check(&chunks, Offset(response.next_offset), tip) {
            Ok(checked) => self.append_checked(response, chunks, checked),
            Err(fault) => {
                if let Some((front, checked)) = records::front(chunks, tip) {
                    self.append_checked(response, front, checked)?;
                }
                Err(fault.into())
            }
        }
    }

    fn append_checked(
        &self,
        response: &v1::FetchResponse,
        chunks: Vec<Bytes>,
        checked: Checked,
    ) -> Result<Appended, Refusal> {
        let Checked { headers, begin_at } = checked;
        let records = headers.iter().map(records_of).sum();
        let gate = self.gate.lock();
        self.check_gate(*gate)?;
        if let Some(offset) = begin_at {
            self.partition
                .restart_as_follower(self.epoch, offset)
                .map_err(|error| local(&error))?;
        }
        let fetched = FetchedRecords {
            chunks,
            headers,
            window: u16::try_from(response.producer_window).unwrap_or(u16::MAX),
            high_watermark: Offset(response.high_watermark),
            log_start: Offset(response.log_start_offset),
            producers: response.producers.clone(),
        };
        self.partition.append_fetched(self.epoch, &fetched).map_err(|error| local(&error))?;
        Ok(Appended { log_end: self.log_end(), records })
    }

    /// Cuts the log to where it may agree with the leader's, which told the end of the newest epoch it
    /// has at or before the last one here (KIP-101, KIP-279). `None`: there is nothing to cut.
    pub(in crate::replication) fn truncate(
        &self,
        diverging: &v1::EpochEnd,
    ) -> Result<Option<Cut>, Refusal> {
        let gate = self.gate.lock();
        self.check_gate(*gate)?;
        let log = self.partition.log();
        let own = log.end_of_epoch(LeaderEpoch(diverging.leader_epoch));
        let from = log.log_end();
        let Some(to) = cut_to(own, diverging, log.log_start(), from) else { return Ok(None) };
        let high_watermark = log.high_watermark();
        let to =
            self.partition.truncate_as_follower(self.epoch, to).map_err(|error| local(&error))?;
        Ok(Some(Cut { from, to, below_high_watermark: to < high_watermark }))
    }

    /// The leader's log starts at `leader_start`, and the position here was out of its range. Begins
    /// the log anew there if that can be why; `false`: it cannot.
    pub(in crate::replication) fn restart(&self, leader_start: Offset) -> Result<bool, Refusal> {
        let gate = self.gate.lock();
        self.check_gate(*gate)?;
        let tip = self.tip();
        if leader_start < Offset::ZERO || !begins_anew(tip, leader_start) {
            return Ok(false);
        }
        self.partition
            .restart_as_follower(self.epoch, leader_start)
            .map_err(|error| local(&error))?;
        Ok(true)
    }

    fn check_gate(&self, open: bool) -> Result<(), Refusal> {
        if open {
            return Ok(());
        }
        let cause = "the partition is not followed any more".to_owned();
        Err(Refusal::Local { fault: LocalFault::Over, cause })
    }
}

/// The offset to cut to; `None` where that is not below the log end, so that nothing would change.
///
/// `own` is the newest epoch here that is not newer than the leader's answer, and its end. Above
/// that end lie epochs that the leader does not have, and above the leader's end of its epoch its
/// log goes on in a newer one: what is here can only agree below both. Where they agree further
/// down only, the leader says so when it is asked again. Without such an epoch nothing agrees.
pub(super) fn cut_to(
    own: Option<(LeaderEpoch, Offset)>,
    leader: &v1::EpochEnd,
    log_start: Offset,
    log_end: Offset,
) -> Option<Offset> {
    let cut = match own {
        Some((_, end)) => end.min(Offset(leader.end_offset)),
        // It has no epoch that old and tells its log's start: below it everything was committed, and
        // must stay until the log here begins there, too.
        None if leader.leader_epoch < 0 => Offset(leader.end_offset),
        None => log_start,
    };
    let cut = cut.max(log_start);
    (cut < log_end).then_some(cut)
}

/// Whether a log that is out of its leader's range begins anew at the leader's start: everything here
/// is older than what the leader has, or nothing is here.
pub(super) fn begins_anew(tip: Tip, leader_start: Offset) -> bool {
    tip.log_end < leader_start || (tip.log_start == tip.log_end && tip.log_end != leader_start)
}

fn records_of(header: &BatchHeader) -> i64 {
    header.record_count.max(0).into()
}

/// What an error of the partition means for following it.
fn local(error: &PartitionError) -> Refusal {
    let cause = error.to_string();
    let fault = match error {
        PartitionError::Append(
            AppendError::DiskFull { .. }
            | AppendError::LowSpace { .. }
            | AppendError::OutOfFiles { .. },
        ) => LocalFault::Full,
        PartitionError::Append(AppendError::Offline(_)) => LocalFault::Over,
        // Another epoch is followed, or led: this following is about to be stopped.
        PartitionError::NotFollower
        | PartitionError::Fenced { .. }
        | PartitionError::UnknownEpoch { .. } => LocalFault::Over,
        _ => LocalFault::Passing,
    };
    Refusal::Local { fault, cause }
}
