//! One partition as this broker serves it: its log, who may append now, who waits for it.
//!
//! What it does is in the files beside this one, each an `impl Partition`: `appending` for clients'
//! records, `leadership`, `in_sync` for replicas and the high watermark, `following`.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use proto::{Offset, TopicId, TopicPartition};

use super::PartitionError;
use super::append_job::AppendJob;
use super::append_queue::AppendQueue;
use super::context::Context;
use super::leader_state::LeaderState;
use super::leadership::{NOT_LEADING, Tenure};
use super::waiting::{Parked, Wake};
use super::writer::DirectoryWriter;
use crate::storage::{AppendError, Log, LogListener, Offline};

/// A partition of this broker.
///
/// `log start <= visible end <= high watermark <= log end`. The visible end is the high watermark,
/// or as much of it as is flushed where the topic exposes flushed records only; neither goes back
/// within a leadership. One epoch has one history: records of an epoch are appended only by its
/// leader, after the epoch was made durable in the registry and noted in the log.
///
/// Locks, in the order they are taken: `changing` (one change of leadership at a time), `tenure`
/// (held while the log is appended to or cut), those of the log, `leader`. Answers and wake-ups are
/// given without `leader`.
pub struct Partition {
    pub(super) log: Arc<Log>,
    pub(super) writer: Arc<DirectoryWriter>,
    pub(super) context: Arc<Context>,
    pub(super) changing: Mutex<()>,
    pub(super) tenure: Mutex<Tenure>,
    /// The epoch of `tenure` where it is that of a leader.
    pub(super) leading: AtomicI32,
    /// Replicas and waiting acknowledgements, while this broker leads.
    pub(super) leader: Mutex<Option<LeaderState>>,
    pub(super) visible_end: AtomicI64,
    pub(super) queue: AppendQueue<AppendJob>,
    /// On its way to the writer thread.
    pub(super) scheduled: AtomicBool,
    /// Told when the visible end moves.
    pub(super) consumers: Parked,
    /// Told when the log end or the high watermark moves.
    pub(super) followers: Parked,
    /// Told when a replica's log start moves, or who counts for the low watermark changes.
    pub(super) deleting: Parked,
}

impl Partition {
    /// A partition that leads nothing yet.
    pub(super) fn new(
        log: Arc<Log>,
        writer: Arc<DirectoryWriter>,
        context: Arc<Context>,
    ) -> Arc<Self> {
        let partition = Arc::new(Self {
            visible_end: AtomicI64::new(log.high_watermark().0),
            log,
            writer,
            context,
            changing: Mutex::default(),
            tenure: Mutex::new(Tenure::Idle),
            leading: AtomicI32::new(NOT_LEADING),
            leader: Mutex::default(),
            queue: AppendQueue::new(),
            scheduled: AtomicBool::new(false),
            consumers: Parked::default(),
            followers: Parked::default(),
            deleting: Parked::default(),
        });
        partition.log.set_listener(Arc::new(Listener(Arc::downgrade(&partition))));
        partition
    }

    /// Its name.
    pub fn name(&self) -> &TopicPartition {
        self.log.partition()
    }

    /// Its topic's id.
    pub fn topic_id(&self) -> TopicId {
        self.log.topic_id()
    }

    /// Its log, for reading.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    #[cfg(test)]
    pub(super) fn writer(&self) -> &DirectoryWriter {
        &self.writer
    }

    /// Consumers see below this offset (exclusive).
    pub fn visible_end(&self) -> Offset {
        Offset(self.visible_end.load(Ordering::Acquire))
    }

    /// Parks a consumer until it may see more; see [`Parked::park`].
    pub fn park(&self, wake: Arc<dyn Wake>, token: u32) {
        self.consumers.park(wake, token);
    }

    /// Parks a follower until the log has grown or the high watermark moved.
    pub fn park_follower(&self, wake: Arc<dyn Wake>, token: u32) {
        self.followers.park(wake, token);
    }

    /// Parks who waits for records to be deleted everywhere, until [`Partition::low_watermark`] may
    /// be another.
    pub fn park_deletion(&self, wake: Arc<dyn Wake>, token: u32) {
        self.deleting.park(wake, token);
    }

    /// Forgets whoever is parked, of any kind.
    pub fn unpark(&self, wake: &Arc<dyn Wake>, token: u32) {
        self.consumers.unpark(wake, token);
        self.followers.unpark(wake, token);
        self.deleting.unpark(wake, token);
    }

    /// Readers parked now.
    pub fn parked(&self) -> usize {
        self.consumers.len() + self.followers.len() + self.deleting.len()
    }

    pub(super) fn wake_everybody(&self) {
        self.consumers.wake_all();
        self.followers.wake_all();
        self.deleting.wake_all();
    }
}

/// What the log tells its partition; weak, since the partition owns the log.
struct Listener(Weak<Partition>);

impl LogListener for Listener {
    fn log_end_advanced(&self, _: Offset) {
        if let Some(partition) = self.0.upgrade() {
            partition.advance();
            partition.followers.wake_all();
        }
    }

    fn flushed_advanced(&self, _: Offset) {
        if let Some(partition) = self.0.upgrade() {
            partition.advance();
        }
    }

    fn log_start_advanced(&self, _: Offset) {
        if let Some(partition) = self.0.upgrade() {
            partition.wake_everybody();
        }
    }

    fn failed(&self, offline: &Offline) {
        if let Some(partition) = self.0.upgrade() {
            let error = AppendError::Offline(offline.clone());
            partition.fail_waiting(&PartitionError::Append(error));
            partition.wake_everybody();
        }
    }
}
