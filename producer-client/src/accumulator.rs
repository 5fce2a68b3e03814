//! The open batch of each partition.
//!
//! A sending thread encodes its record into the open batch of the partition, under that partition's
//! lock alone, and touches nothing else but a few atomics. Full batches queue behind it. The sender
//! task is told (once, until it looks) which partitions have something for it.
//!
//! The [line](crate::line)'s lock is taken before a partition's, where both are.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proto::record::{AppendError, BatchBuilder};
use proto::{Partition, TopicPartition};
use tokio::sync::Notify;

use crate::batch::{Completion, OpenBatch, Receipt};
use crate::config::ProducerConfig;
use crate::error::SendError;
use crate::memory::{Buffers, Memory};
use crate::pace::Pace;
use crate::partitioner::{Choice, PartitionerKind};
use crate::record::{Record, now_ms, tick_ms};
use crate::topics::{Routes, Topic, Topics};

/// A partition's number in the sender's own table.
pub(crate) type QueueIndex = usize;

/// Batches of one partition that were not handed to the sender.
#[derive(Debug)]
pub(crate) struct PartitionQueue {
    pub(crate) name: TopicPartition,
    pub(crate) index: QueueIndex,
    pending: Mutex<Pending>,
    /// The sender was told and has not looked yet.
    told: AtomicBool,
    /// Full batches waiting; what the sticky partitioner weighs.
    backlog: AtomicUsize,
    /// New batches are no larger: the topic refused a larger one.
    batch_limit: AtomicUsize,
    /// It had full batches for a while and none was taken: see [`Pace`].
    stalled: AtomicBool,
}

#[derive(Debug, Default)]
struct Pending {
    open: Option<OpenBatch>,
    full: VecDeque<OpenBatch>,
    closed: Option<SendError>,
}

/// What the sender finds in a queue.
pub(crate) enum Taken {
    /// To be sent.
    Batch(OpenBatch),
    /// The open batch may wait until then.
    Later(Instant),
    /// Nothing.
    Empty,
}

impl PartitionQueue {
    pub(crate) fn new(name: TopicPartition, index: QueueIndex) -> Arc<Self> {
        Arc::new(Self {
            name,
            index,
            pending: Mutex::default(),
            told: AtomicBool::new(false),
            backlog: AtomicUsize::new(0),
            batch_limit: AtomicUsize::new(usize::MAX),
            stalled: AtomicBool::new(false),
        })
    }

    /// When there is a batch to take: any time if it is full, `linger` after it was opened if not.
    pub(crate) fn due(&self, now: Instant, linger: Duration) -> Option<Instant> {
        if self.backlog() > 0 {
            return Some(now);
        }
        let pending = self.pending.lock();
        match (pending.full.front(), &pending.open) {
            (Some(full), _) => Some(full.opened),
            (None, Some(open)) => Some(open.opened + linger),
            (None, None) => None,
        }
    }

    /// Takes the oldest batch that is full, or open for `linger`.
    pub(crate) fn take(&self, now: Instant, linger: Duration) -> Taken {
        let mut pending = self.pending.lock();
        if let Some(batch) = pending.full.pop_front() {
            self.backlog.store(pending.full.len(), Ordering::SeqCst);
            self.stalled.store(false, Ordering::Relaxed);
            return Taken::Batch(batch);
        }
        match &pending.open {
            None => Taken::Empty,
            Some(open) if open.opened + linger > now => Taken::Later(open.opened + linger),
            Some(_) => pending.open.take().map_or(Taken::Empty, Taken::Batch),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let pending = self.pending.lock();
        pending.open.is_none() && pending.full.is_empty()
    }

    /// Takes every batch opened at `before` or earlier: their delivery timeout has passed.
    pub(crate) fn take_expired(&self, before: Instant) -> Vec<OpenBatch> {
        let mut pending = self.pending.lock();
        let mut expired = Vec::new();
        while pending.full.front().is_some_and(|batch| batch.opened <= before) {
            expired.extend(pending.full.pop_front());
        }
        if pending.full.is_empty() {
            expired.extend(pending.open.take_if(|open| open.opened <= before));
        }
        self.backlog.store(pending.full.len(), Ordering::Relaxed);
        expired
    }

    /// Takes everything and refuses what comes later with `error`.
    pub(crate) fn close(&self, error: SendError) -> Vec<OpenBatch> {
        let mut pending = self.pending.lock();
        pending.closed = Some(error);
        let open = pending.open.take();
        pending.full.drain(..).chain(open).collect()
    }

    /// The fates of all that waits here.
    pub(crate) fn completions(&self) -> Vec<Arc<Completion>> {
        let pending = self.pending.lock();
        let batches = pending.full.iter().chain(&pending.open);
        batches.map(|batch| Arc::clone(&batch.completion)).collect()
    }

    /// New batches are to take `bytes` at most.
    pub(crate) fn limit_batches(&self, bytes: usize) {
        self.batch_limit.fetch_min(bytes, Ordering::Relaxed);
    }

    /// Full batches waiting.
    pub(crate) fn backlog(&self) -> usize {
        self.backlog.load(Ordering::SeqCst)
    }

    /// Nothing was taken from it for a while.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Until the next batch is taken.
    pub(crate) fn set_stalled(&self) {
        self.stalled.store(true, Ordering::Relaxed);
    }

    /// The sender looks now: from here on it wants to be told again.
    pub(crate) fn looked(&self) {
        self.told.store(false, Ordering::Release);
    }
}

/// What became of a record.
#[derive(Debug)]
pub(crate) enum Appended {
    /// It is in a batch.
    Done(Receipt),
    /// `buffer.memory` is full.
    NoRoom,
    /// The topic's partitions are not known yet.
    UnknownTopic,
    /// It cannot be sent.
    Failed(SendError),
}

/// Why a record is in no batch. Two words, which every append returns in registers: a [`SendError`] is
/// moved through memory at each step, whether there is one or not.
#[derive(Debug)]
pub(crate) enum NotAppended {
    /// See [`Appended::NoRoom`].
    NoRoom,
    /// See [`Appended::UnknownTopic`].
    UnknownTopic,
    /// See [`Appended::Failed`].
    Failed(Box<SendError>),
}

impl NotAppended {
    #[cold]
    pub(crate) fn failed(error: SendError) -> Self {
        Self::Failed(Box::new(error))
    }
}

impl From<NotAppended> for Appended {
    fn from(why: NotAppended) -> Self {
        match why {
            NotAppended::NoRoom => Self::NoRoom,
            NotAppended::UnknownTopic => Self::UnknownTopic,
            NotAppended::Failed(error) => Self::Failed(*error),
        }
    }
}

/// Where a record was put, for who keeps it.
struct Placed<'b> {
    completion: &'b Arc<Completion>,
    index: i32,
    timestamp: i64,
}

impl Placed<'_> {
    fn receipt(self) -> Receipt {
        let Self { completion, index, timestamp } = self;
        Receipt { completion: Arc::clone(completion), index, timestamp, slot: None }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Accumulator {
    topics: Topics,
    pub(crate) memory: Memory,
    pub(crate) buffers: Buffers,
    pub(crate) pace: Pace,
    partitioner: PartitionerKind,
    batch_size: usize,
    max_request_size: usize,
    ready: Mutex<Vec<QueueIndex>>,
    /// Wakes the sender task.
    pub(crate) wake: Notify,
}

impl Accumulator {
    pub(crate) fn new(config: &ProducerConfig) -> Self {
        Self {
            topics: Topics::new(config.batch_size as u64),
            memory: Memory::new(config.buffer_memory),
            buffers: Buffers::new(config.batch_size),
            pace: Pace::default(),
            partitioner: config.partitioner.clone(),
            batch_size: config.batch_size,
            max_request_size: config.max_request_size.min(config.buffer_memory),
            ready: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Encodes `record` into its partition's open batch.
    pub(crate) fn append(&self, record: &Record<'_>) -> Appended {
        self.append_with(record, false, |placed| Appended::Done(placed.receipt()))
            .unwrap_or_else(Appended::from)
    }

    /// The same for a record whose fate nobody asks for. The thread is kept at the network's pace if it
    /// may be blocked.
    #[inline]
    pub(crate) fn append_detached(
        &self,
        record: &Record<'_>,
        may_block: bool,
    ) -> Result<(), NotAppended> {
        self.append_with(record, may_block, |_| ())
    }

    #[inline]
    fn append_with<R>(
        &self,
        record: &Record<'_>,
        may_block: bool,
        kept: impl FnOnce(Placed<'_>) -> R,
    ) -> Result<R, NotAppended> {
        let appended = self.topics.with(record.topic, |topic, routes| {
            let (queue, sticky) = self.queue_of(topic, routes, record)?;
            let mut pending = queue.pending.lock();
            let (appended, size, tell) = self.append_locked(queue, &mut pending, record, kept);
            drop(pending);
            if sticky {
                topic.sticky.wrote(size);
            }
            if tell {
                self.tell(queue);
                if may_block {
                    self.pace.keep(queue);
                }
            }
            appended
        });
        appended.unwrap_or(Err(NotAppended::UnknownTopic))
    }

    /// The queue of the partition that `record` goes to, and whether that is the sticky one.
    #[inline]
    fn queue_of<'q>(
        &self,
        topic: &Topic,
        routes: &'q Routes,
        record: &Record<'_>,
    ) -> Result<(&'q Arc<PartitionQueue>, bool), NotAppended> {
        let (partition, sticky) = self.choose(topic, routes, record);
        let queue = usize::try_from(partition).ok().and_then(|p| routes.queues.get(p));
        let queue = queue.ok_or_else(|| {
            let (topic, count) = (Arc::clone(&topic.name), routes.queues.len() as i32);
            NotAppended::failed(SendError::UnknownPartition { topic, partition, count })
        })?;
        Ok((queue, sticky))
    }

    /// Encodes records of one topic, all into the partition that the first one's key or the sticky
    /// choice gives, under one lock a batch. Returns how many were taken and what ended it.
    pub(crate) fn append_run<'r>(
        &self,
        partition_of: &Record<'_>,
        records: impl Iterator<Item = Record<'r>>,
        taken: impl FnMut(Receipt),
    ) -> (usize, Option<NotAppended>) {
        let run = self.topics.with(partition_of.topic, |topic, routes| {
            match self.queue_of(topic, routes, partition_of) {
                Ok((queue, sticky)) => self.append_all(topic, queue, sticky, records, taken),
                Err(error) => (0, Some(error)),
            }
        });
        run.unwrap_or((0, Some(NotAppended::UnknownTopic)))
    }

    fn append_all<'r>(
        &self,
        topic: &Topic,
        queue: &PartitionQueue,
        sticky: bool,
        records: impl Iterator<Item = Record<'r>>,
        mut taken: impl FnMut(Receipt),
    ) -> (usize, Option<NotAppended>) {
        let mut count = 0;
        let mut pending = queue.pending.lock();
        for record in records {
            let (appended, size, tell) =
                self.append_locked(queue, &mut pending, &record, |placed| placed.receipt());
            if tell {
                self.tell(queue);
            }
            if sticky {
                topic.sticky.wrote(size);
            }
            match appended {
                Ok(receipt) => taken(receipt),
                Err(why) => return (count, Some(why)),
            }
            count += 1;
        }
        (count, None)
    }

    /// Appends with the queue's lock held. Also returns the bytes taken and whether the sender has to
    /// be told: a batch became full, or one was opened.
    #[inline]
    fn append_locked<R>(
        &self,
        queue: &PartitionQueue,
        pending: &mut Pending,
        record: &Record<'_>,
        kept: impl FnOnce(Placed<'_>) -> R,
    ) -> (Result<R, NotAppended>, usize, bool) {
        if let Some(open) = &mut pending.open {
            let timestamp = record.timestamp.unwrap_or_else(|| tick_ms().max(open.opened_ms));
            let before = open.builder.size_in_bytes();
            match open.builder.append(timestamp, record.key, record.value, record.headers) {
                Ok(index) => {
                    let size = open.builder.size_in_bytes() - before;
                    let completion = &open.completion;
                    return (Ok(kept(Placed { completion, index, timestamp })), size, false);
                }
                Err(AppendError::Full) => {
                    open.ahead = open.charged;
                    self.pace.filled(open.ahead);
                    pending.full.extend(pending.open.take());
                    queue.backlog.store(pending.full.len(), Ordering::Relaxed);
                }
                Err(AppendError::RecordTooLarge(size)) => {
                    return (Err(self.too_large(size)), 0, false);
                }
            }
        }
        let told_full = !pending.full.is_empty();
        match self.open(queue, pending, record) {
            Ok((completion, timestamp, size)) => {
                let completion = &completion;
                (Ok(kept(Placed { completion, index: 0, timestamp })), size, true)
            }
            Err(appended) => (Err(appended), 0, told_full),
        }
    }

    /// Opens a batch with `record` as its first. Returns its fate, the record's timestamp and the bytes
    /// taken.
    #[cold]
    fn open(
        &self,
        queue: &PartitionQueue,
        pending: &mut Pending,
        record: &Record<'_>,
    ) -> Result<(Arc<Completion>, i64, usize), NotAppended> {
        if let Some(error) = &pending.closed {
            return Err(NotAppended::failed(error.clone()));
        }
        let size = record.size_bound();
        if size > self.max_request_size {
            return Err(self.too_large(size));
        }
        let batch_size = self.batch_size.min(queue.batch_limit.load(Ordering::Relaxed));
        let charged = size.max(batch_size);
        if !self.memory.try_take(charged) {
            return Err(NotAppended::NoRoom);
        }
        let mut builder = BatchBuilder::with_buffer(self.buffers.take(charged), charged);
        let opened_ms = now_ms();
        let timestamp = record.timestamp.unwrap_or(opened_ms);
        let appended = builder.append(timestamp, record.key, record.value, record.headers);
        if appended.is_err() {
            self.memory.give(charged);
            return Err(self.too_large(size));
        }
        let completion = Completion::new(queue.name.partition);
        let size = builder.size_in_bytes();
        let opened = Instant::now();
        let batch_completion = Arc::clone(&completion);
        pending.open = Some(OpenBatch {
            builder,
            completion: batch_completion,
            opened,
            opened_ms,
            ahead: 0,
            charged,
        });
        Ok((completion, timestamp, size))
    }

    #[cold]
    fn too_large(&self, size: usize) -> NotAppended {
        NotAppended::failed(SendError::RecordTooLarge { size, limit: self.max_request_size })
    }

    /// The partition for `record`, and whether it was the sticky one.
    fn choose(&self, topic: &Topic, routes: &Routes, record: &Record<'_>) -> (Partition, bool) {
        if let Some(partition) = record.partition {
            return (partition, false);
        }
        let count = routes.queues.len() as i32;
        match self.partitioner.partition(record.topic, record.key, record.value, count) {
            Choice::Partition(partition) => (partition, false),
            Choice::Random => (routes.draw(), false),
            Choice::Sticky => (topic.sticky.current(|last| routes.draw_shorter(last)), true),
        }
    }

    /// Tells the sender about `queue`, once until it looks.
    pub(crate) fn tell(&self, queue: &PartitionQueue) {
        if !queue.told.swap(true, Ordering::AcqRel) {
            self.ready.lock().push(queue.index);
            self.wake.notify_one();
        }
    }

    /// The partitions that have something for the sender.
    pub(crate) fn take_ready(&self, into: &mut Vec<QueueIndex>) {
        into.append(&mut self.ready.lock());
    }

    /// Whether there are any.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.lock().is_empty()
    }

    /// The topic, made empty if it is new.
    pub(crate) fn topic(&self, name: &str) -> Arc<Topic> {
        self.topics.topic(name)
    }
}

#[cfg(test)]
mod tests;
