//! The open batch of each partition.
//!
//! A sending thread encodes its record into the open batch of the partition, under that partition's
//! lock alone, and touches nothing else but a few atomics. Full batches queue behind it. The sender
//! task is told (once, until it looks) which partitions have something for it.
//!
//! Locks, in the order they are taken: topics, a topic's routes, a partition's pending batches. Only
//! the sender task writes the first two. The [line](crate::line) comes before all of them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use proto::record::{AppendError, BatchBuilder};
use proto::{Partition, TopicPartition};
use tokio::sync::Notify;

use crate::batch::{Completion, OpenBatch, Receipt};
use crate::config::ProducerConfig;
use crate::error::SendError;
use crate::memory::Memory;
use crate::partitioner::{Choice, PartitionerKind, Sticky};
use crate::record::{Record, now_ms};

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
        })
    }

    /// When there is a batch to take: any time if it is full, `linger` after it was opened if not.
    pub(crate) fn due(&self, linger: Duration) -> Option<Instant> {
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
            self.backlog.store(pending.full.len(), Ordering::Relaxed);
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

    /// The sender looks now: from here on it wants to be told again.
    pub(crate) fn looked(&self) {
        self.told.store(false, Ordering::Release);
    }
}

/// A topic as sending threads see it.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    sticky: Sticky,
    routes: RwLock<Routes>,
}

/// Written by the sender when metadata changes.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// By partition number.
    pub(crate) queues: Vec<Arc<PartitionQueue>>,
    /// Partitions that have a leader.
    pub(crate) available: Vec<Partition>,
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

/// See the module.
#[derive(Debug)]
pub(crate) struct Accumulator {
    topics: RwLock<HashMap<Arc<str>, Arc<Topic>>>,
    pub(crate) memory: Memory,
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
            topics: RwLock::default(),
            memory: Memory::new(config.buffer_memory),
            partitioner: config.partitioner.clone(),
            batch_size: config.batch_size,
            max_request_size: config.max_request_size.min(config.buffer_memory),
            ready: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Encodes `record` into its partition's open batch.
    pub(crate) fn append(&self, record: &Record<'_>) -> Appended {
        let topics = self.topics.read();
        let Some(topic) = topics.get(record.topic) else { return Appended::UnknownTopic };
        let routes = topic.routes.read();
        if routes.queues.is_empty() {
            return Appended::UnknownTopic;
        }
        let (partition, sticky) = self.choose(topic, &routes, record);
        let queue = usize::try_from(partition).ok().and_then(|p| routes.queues.get(p));
        let Some(queue) = queue else {
            let (topic, count) = (Arc::clone(&topic.name), routes.queues.len() as i32);
            return Appended::Failed(SendError::UnknownPartition { topic, partition, count });
        };
        let timestamp = record.timestamp.unwrap_or_else(now_ms);
        let (appended, size) = self.append_to(queue, record, timestamp);
        if sticky {
            topic.sticky.wrote(size);
        }
        appended
    }

    /// Encodes records of one topic, all into the partition that the first one's key or the sticky
    /// choice gives, under one lock a batch. Returns how many were taken and what ended it.
    pub(crate) fn append_run<'r>(
        &self,
        partition_of: &Record<'_>,
        records: impl Iterator<Item = Record<'r>>,
        mut taken: impl FnMut(Receipt),
    ) -> (usize, Option<Appended>) {
        let chosen = {
            let topics = self.topics.read();
            let Some(topic) = topics.get(partition_of.topic) else {
                return (0, Some(Appended::UnknownTopic));
            };
            let routes = topic.routes.read();
            if routes.queues.is_empty() {
                return (0, Some(Appended::UnknownTopic));
            }
            let (partition, sticky) = self.choose(topic, &routes, partition_of);
            let queue = usize::try_from(partition).ok().and_then(|p| routes.queues.get(p)).cloned();
            let Some(queue) = queue else {
                let (topic, count) = (Arc::clone(&topic.name), routes.queues.len() as i32);
                let error = SendError::UnknownPartition { topic, partition, count };
                return (0, Some(Appended::Failed(error)));
            };
            (Arc::clone(topic), queue, sticky)
        };
        let (topic, queue, sticky) = chosen;
        let now = now_ms();
        let mut count = 0;
        let mut pending = queue.pending.lock();
        for record in records {
            let timestamp = record.timestamp.unwrap_or(now);
            let (appended, size, tell) =
                self.append_locked(&queue, &mut pending, &record, timestamp);
            if tell {
                self.tell(&queue);
            }
            if sticky {
                topic.sticky.wrote(size);
            }
            match appended {
                Appended::Done(receipt) => taken(receipt),
                other => return (count, Some(other)),
            }
            count += 1;
        }
        (count, None)
    }

    fn append_to(
        &self,
        queue: &PartitionQueue,
        record: &Record<'_>,
        timestamp: i64,
    ) -> (Appended, usize) {
        let mut pending = queue.pending.lock();
        let (appended, size, tell) = self.append_locked(queue, &mut pending, record, timestamp);
        drop(pending);
        if tell {
            self.tell(queue);
        }
        (appended, size)
    }

    /// Appends with the queue's lock held. Also returns the bytes taken and whether the sender has to
    /// be told: a batch became full, or one was opened.
    fn append_locked(
        &self,
        queue: &PartitionQueue,
        pending: &mut Pending,
        record: &Record<'_>,
        timestamp: i64,
    ) -> (Appended, usize, bool) {
        if let Some(open) = &mut pending.open {
            let before = open.builder.size_in_bytes();
            match open.builder.append(timestamp, record.key, record.value, record.headers) {
                Ok(index) => {
                    let size = open.builder.size_in_bytes() - before;
                    let completion = Arc::clone(&open.completion);
                    let receipt = Receipt { completion, index, timestamp, slot: None };
                    return (Appended::Done(receipt), size, false);
                }
                Err(AppendError::Full) => {
                    pending.full.extend(pending.open.take());
                    queue.backlog.store(pending.full.len(), Ordering::Relaxed);
                }
                Err(AppendError::RecordTooLarge(size)) => {
                    return (Appended::Failed(self.too_large(size)), 0, false);
                }
            }
        }
        let told_full = !pending.full.is_empty();
        match self.open(queue, pending, record, timestamp) {
            Ok((receipt, size)) => (Appended::Done(receipt), size, true),
            Err(appended) => (appended, 0, told_full),
        }
    }

    /// Opens a batch with `record` as its first.
    #[cold]
    fn open(
        &self,
        queue: &PartitionQueue,
        pending: &mut Pending,
        record: &Record<'_>,
        timestamp: i64,
    ) -> Result<(Receipt, usize), Appended> {
        if let Some(error) = &pending.closed {
            return Err(Appended::Failed(error.clone()));
        }
        let size = record.size_bound();
        if size > self.max_request_size {
            return Err(Appended::Failed(self.too_large(size)));
        }
        let batch_size = self.batch_size.min(queue.batch_limit.load(Ordering::Relaxed));
        let charged = size.max(batch_size);
        if !self.memory.try_take(charged) {
            return Err(Appended::NoRoom);
        }
        let mut builder = BatchBuilder::new(charged);
        let appended = builder.append(timestamp, record.key, record.value, record.headers);
        if appended.is_err() {
            self.memory.give(charged);
            return Err(Appended::Failed(self.too_large(size)));
        }
        let completion = Completion::new(queue.name.partition);
        let size = builder.size_in_bytes();
        let opened = Instant::now();
        pending.open =
            Some(OpenBatch { builder, completion: Arc::clone(&completion), opened, charged });
        Ok((Receipt { completion, index: 0, timestamp, slot: None }, size))
    }

    fn too_large(&self, size: usize) -> SendError {
        SendError::RecordTooLarge { size, limit: self.max_request_size }
    }

    /// The partition for `record`, and whether it was the sticky one.
    fn choose(&self, topic: &Topic, routes: &Routes, record: &Record<'_>) -> (Partition, bool) {
        if let Some(partition) = record.partition {
            return (partition, false);
        }
        let count = routes.queues.len() as i32;
        match self.partitioner.partition(record.topic, record.key, record.value, count) {
            Choice::Partition(partition) => (partition, false),
            Choice::Random => (draw(routes), false),
            Choice::Sticky => (topic.sticky.current(|last| draw_shorter(routes, last)), true),
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

    /// The topic, made empty if it is new.
    pub(crate) fn topic(&self, name: &str) -> Arc<Topic> {
        if let Some(topic) = self.topics.read().get(name) {
            return Arc::clone(topic);
        }
        let name: Arc<str> = name.into();
        let topic = Arc::new(Topic {
            name: Arc::clone(&name),
            sticky: Sticky::new(self.batch_size as u64),
            routes: RwLock::default(),
        });
        self.topics.write().insert(name, Arc::clone(&topic));
        topic
    }
}

impl Topic {
    /// Changes what sending threads see.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Routes)) {
        let mut routes = self.routes.write();
        let before = std::mem::take(&mut routes.available);
        change(&mut routes);
        for &partition in before.iter().filter(|p| !routes.available.contains(p)) {
            self.sticky.leave(partition);
        }
    }
}

/// A random partition that has a leader; any where none has.
fn draw(routes: &Routes) -> Partition {
    match routes.available.as_slice() {
        [] => fastrand::i32(..routes.queues.len().max(1) as i32),
        available => available[fastrand::usize(..available.len())],
    }
}

/// Of two random partitions the one with fewer full batches waiting, `last` only if there is no
/// other: a slow broker gets less.
fn draw_shorter(routes: &Routes, last: Partition) -> Partition {
    let backlog = |partition: Partition| {
        usize::try_from(partition)
            .ok()
            .and_then(|p| routes.queues.get(p))
            .map_or(usize::MAX, |queue| queue.backlog.load(Ordering::Relaxed))
    };
    let drawn = [draw(routes), draw(routes), draw(routes)];
    let others = drawn.into_iter().filter(|&partition| partition != last);
    others.min_by_key(|&partition| backlog(partition)).unwrap_or(drawn[0])
}

#[cfg(test)]
mod tests;
