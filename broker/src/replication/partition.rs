//! One partition as this broker serves it: its log, who may append now, who waits for it.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use proto::record::{BatchHeader, RecodeError};
use proto::{LeaderEpoch, Offset, TopicId, TopicPartition};

use super::append_queue::{AppendQueue, Driven, Weight};
use super::recoding;
use super::record_keys::{self, KeyError};
use super::waiting::{Parked, Wake};
use super::writer::DirectoryWriter;
use crate::metrics::Metrics;
use crate::storage::{
    AppendError, AppendRequest, Appended, CompressionPolicy, Expose, FlushError, FlushPolicy, Log,
    LogConfig, LogError, LogListener, Offline,
};

/// Bytes handed to the log in one call.
const WRITE_BYTES: usize = 1 << 20;
/// Calls one thread makes for others before the writer thread goes on with the rest.
const WRITES_INLINE: usize = 16;
/// Value of `leading` while this broker does not lead.
const NOT_LEADING: i32 = -1;

/// Why a partition does not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PartitionError {
    /// Somebody else leads, or nobody.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// The client knows of an older leader.
    #[error("the leader epoch is {current}, the request has {asked}")]
    Fenced {
        /// Of the partition.
        current: LeaderEpoch,
        /// Of the request.
        asked: LeaderEpoch,
    },
    /// The client knows of a newer leader.
    #[error("the leader epoch here is {current}, the request has {asked}")]
    UnknownEpoch {
        /// Of the partition.
        current: LeaderEpoch,
        /// Of the request.
        asked: LeaderEpoch,
    },
    /// The log refused.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The topic's codec cannot be given to it.
    #[error(transparent)]
    Recode(#[from] RecodeError),
    /// The topic is compacted, and a record has no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Appended, and the flush failed.
    #[error(transparent)]
    Flush(#[from] FlushError),
}

/// Called once, from any thread: must not block.
pub type OnAppended = Box<dyn FnOnce(Result<Appended, PartitionError>) + Send>;

/// A produce request, checked, on its way to the log.
pub struct AppendJob {
    /// The batches as they came.
    pub chunks: Vec<Bytes>,
    /// Their headers.
    pub headers: Vec<BatchHeader>,
    /// The epoch the client believes in; unknown passes.
    pub leader_epoch: LeaderEpoch,
    /// Batches the producer keeps in flight.
    pub window: u16,
    /// Dropped when the bytes are written or refused.
    pub hold: Option<Box<dyn Send>>,
    /// Told the outcome: after the append, or after the flush where the topic says `before-ack`.
    pub done: OnAppended,
}

impl Weight for AppendJob {
    fn weight(&self) -> usize {
        self.headers.iter().map(BatchHeader::size_in_bytes).sum()
    }
}

/// A partition of this broker.
///
/// `log start <= visible end <= log end`. The visible end is the high watermark: with one replica
/// the log end, or the flushed end where the topic flushes before acknowledging or exposes flushed
/// records only. It never goes back. One epoch has one history: `leading` is set only by
/// [`Partition::lead`], after the epoch was made durable in the registry and noted in the log.
pub struct Partition {
    log: Arc<Log>,
    writer: Arc<DirectoryWriter>,
    metrics: Arc<Metrics>,
    leading: AtomicI32,
    visible_end: AtomicI64,
    queue: AppendQueue<AppendJob>,
    /// On its way to the writer thread.
    scheduled: AtomicBool,
    parked: Parked,
}

impl Partition {
    /// A partition that leads nothing yet.
    pub(crate) fn new(
        log: Arc<Log>,
        writer: Arc<DirectoryWriter>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let partition = Arc::new(Self {
            visible_end: AtomicI64::new(log.high_watermark().0),
            log,
            writer,
            metrics,
            leading: AtomicI32::new(NOT_LEADING),
            queue: AppendQueue::new(),
            scheduled: AtomicBool::new(false),
            parked: Parked::default(),
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

    /// The epoch this broker leads in, if it does.
    pub fn leading(&self) -> Option<LeaderEpoch> {
        match self.leading.load(Ordering::Acquire) {
            NOT_LEADING => None,
            epoch => Some(LeaderEpoch(epoch)),
        }
    }

    /// Leads from now on in `epoch`, which the registry has and no other leader ever had. Blocks on
    /// the disk.
    pub fn lead(&self, epoch: LeaderEpoch) -> Result<(), LogError> {
        self.log.begin_epoch(epoch)?;
        self.leading.store(epoch.0, Ordering::Release);
        if self.shows_flushed_only() && self.log.flushed() < self.log.log_end() {
            // What recovery found is shown once it is certain to stay.
            self.log.flush_to(self.log.log_end(), Box::new(|_| ()));
        }
        self.advance_visible_end();
        Ok(())
    }

    /// Leads no more. Requests already queued are refused; readers are told.
    pub fn stop_leading(&self) {
        self.leading.store(NOT_LEADING, Ordering::Release);
        self.parked.wake_all();
    }

    /// Refuses a request that may not be served here: not the leader, or another epoch.
    pub fn check_leader(&self, asked: LeaderEpoch) -> Result<LeaderEpoch, PartitionError> {
        let current = self.leading().ok_or(PartitionError::NotLeader)?;
        if asked == LeaderEpoch::UNKNOWN || asked == current {
            return Ok(current);
        }
        if asked < current {
            return Err(PartitionError::Fenced { current, asked });
        }
        Err(PartitionError::UnknownEpoch { current, asked })
    }

    /// Consumers see below this offset (exclusive): the high watermark.
    pub fn visible_end(&self) -> Offset {
        Offset(self.visible_end.load(Ordering::Acquire))
    }

    /// Queues an append. The caller drives the partition afterwards, once for all it has queued.
    pub fn queue(&self, job: AppendJob) {
        self.queue.push(job);
    }

    /// Has what is queued written: here if the disk is calm and nobody else is at it, else by the
    /// directory's writer thread or by who holds the token.
    pub fn drive(self: &Arc<Self>) {
        if self.writer.is_slow() || self.looks_inside() {
            self.schedule();
            return;
        }
        let driven = self.queue.drive(WRITE_BYTES, WRITES_INLINE, |jobs| self.write(jobs));
        if driven == Driven::More {
            self.schedule();
        }
    }

    fn schedule(self: &Arc<Self>) {
        if !self.scheduled.swap(true, Ordering::AcqRel) {
            let partition = Arc::clone(self);
            match self.looks_inside() {
                true => self.writer.schedule_recoding(partition),
                false => self.writer.schedule(partition),
            }
        }
    }

    /// Whether batches have to be opened: the topic forces a codec, or wants keys.
    fn looks_inside(&self) -> bool {
        let config = self.log.config();
        config.cleanup_policy.compact || config.compression != CompressionPolicy::Producer
    }

    /// The part of the directory's threads.
    pub(super) fn write_scheduled(self: &Arc<Self>) {
        // Cleared first: who queues from here on schedules again.
        self.scheduled.store(false, Ordering::Release);
        let driven = self.queue.drive(WRITE_BYTES, WRITES_INLINE, |jobs| self.write(jobs));
        if driven == Driven::More {
            // Behind the other partitions of the directory.
            self.schedule();
        }
    }

    /// Writes jobs in order, in the topic's codec; the caller holds the token.
    fn write(&self, jobs: Vec<AppendJob>) {
        let config = self.log.config();
        if self.looks_inside() {
            self.open_and_append(jobs, &config);
        } else {
            self.append(jobs);
        }
    }

    /// Looks for keys where a topic wants them, brings batches to the codec a topic forces, and
    /// refuses those that have none or cannot be. In the order
    /// they came and under the token, so that a producer's sequences stay in order. Small bytes may
    /// have become large ones: what is held is one write and one job.
    fn open_and_append(&self, jobs: Vec<AppendJob>, config: &LogConfig) {
        let (mut group, mut bytes) = (Vec::new(), 0);
        for mut job in jobs {
            if let Err(error) = self.open(&mut job, config) {
                (job.done)(Err(error));
                continue;
            }
            bytes += job.weight();
            group.push(job);
            if bytes >= WRITE_BYTES {
                self.append(std::mem::take(&mut group));
                bytes = 0;
            }
        }
        self.append(group);
    }

    /// Makes of a job what the topic wants of its records.
    fn open(&self, job: &mut AppendJob, config: &LogConfig) -> Result<(), PartitionError> {
        if config.cleanup_policy.compact {
            record_keys::check(job)?;
        }
        if let CompressionPolicy::Forced(codec) = config.compression {
            let batches = recoding::recode(job, codec, config.compression_level(codec))?;
            self.metrics.recoded_batches.add(batches);
        }
        Ok(())
    }

    /// Appends jobs in order; the caller holds the token.
    fn append(&self, jobs: Vec<AppendJob>) {
        let (epoch, jobs) = self.refuse_fenced(jobs);
        if jobs.is_empty() {
            return;
        }
        let requests: Vec<AppendRequest<'_>> = jobs
            .iter()
            .map(|job| AppendRequest {
                chunks: &job.chunks,
                headers: &job.headers,
                leader_epoch: epoch,
                window: job.window,
            })
            .collect();
        let start = Instant::now();
        let results = self.log.append(&requests);
        self.writer.took(start.elapsed());
        drop(requests);
        let before_ack = self.log.config().flush == FlushPolicy::BeforeAck;
        for (job, result) in jobs.into_iter().zip(results) {
            let AppendJob { chunks, headers, hold, done, .. } = job;
            self.count(&headers, &result);
            drop((chunks, hold));
            match result {
                Ok(appended) if before_ack => self.acknowledge_flushed(appended, done),
                Ok(appended) => done(Ok(appended)),
                Err(error) => done(Err(error.into())),
            }
        }
    }

    /// Refuses what may not be appended in the present epoch; returns that and the rest.
    fn refuse_fenced(&self, jobs: Vec<AppendJob>) -> (LeaderEpoch, Vec<AppendJob>) {
        let mut epoch = LeaderEpoch::UNKNOWN;
        let mut accepted = Vec::with_capacity(jobs.len());
        for job in jobs {
            match self.check_leader(job.leader_epoch) {
                // An epoch raised between two jobs fences the first ones.
                Ok(current) if accepted.is_empty() || current == epoch => {
                    epoch = current;
                    accepted.push(job);
                }
                Ok(_) => (job.done)(Err(PartitionError::NotLeader)),
                Err(error) => (job.done)(Err(error)),
            }
        }
        (epoch, accepted)
    }

    fn count(&self, headers: &[BatchHeader], result: &Result<Appended, AppendError>) {
        let Ok(Appended { duplicate: false, .. }) = result else { return };
        let bytes: usize = headers.iter().map(BatchHeader::size_in_bytes).sum();
        let records: u64 = headers.iter().map(|header| header.record_count.max(0) as u64).sum();
        self.metrics.produce_bytes.add(bytes as u64);
        self.metrics.produce_records.add(records);
    }

    fn acknowledge_flushed(&self, appended: Appended, done: OnAppended) {
        let end = appended.last_offset.plus(1);
        let told = Box::new(move |flushed: Result<(), FlushError>| match flushed {
            Ok(()) => done(Ok(appended)),
            Err(error) => done(Err(error.into())),
        });
        self.log.flush_to(end, told);
    }

    /// Parks a reader until the partition moves; see [`Parked::park`].
    pub fn park(&self, wake: Arc<dyn Wake>, token: u32) {
        self.parked.park(wake, token);
    }

    /// Forgets a parked reader.
    pub fn unpark(&self, wake: &Arc<dyn Wake>, token: u32) {
        self.parked.unpark(wake, token);
    }

    /// Readers parked now.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    fn shows_flushed_only(&self) -> bool {
        let config = self.log.config();
        config.expose == Expose::Flushed || config.flush == FlushPolicy::BeforeAck
    }

    /// Moves the visible end to where the log allows and tells readers if it moved.
    fn advance_visible_end(&self) {
        if self.leading().is_none() {
            return;
        }
        let end = if self.shows_flushed_only() { self.log.flushed() } else { self.log.log_end() };
        if self.visible_end.fetch_max(end.0, Ordering::AcqRel) < end.0 {
            self.log.set_high_watermark(self.visible_end());
            self.parked.wake_all();
        }
    }
}

/// What the log tells its partition; weak, since the partition owns the log.
struct Listener(Weak<Partition>);

impl LogListener for Listener {
    fn log_end_advanced(&self, _: Offset) {
        if let Some(partition) = self.0.upgrade() {
            partition.advance_visible_end();
        }
    }

    fn flushed_advanced(&self, _: Offset) {
        if let Some(partition) = self.0.upgrade() {
            partition.advance_visible_end();
        }
    }

    fn log_start_advanced(&self, _: Offset) {
        if let Some(partition) = self.0.upgrade() {
            partition.parked.wake_all();
        }
    }

    fn failed(&self, _: &Offline) {
        if let Some(partition) = self.0.upgrade() {
            partition.parked.wake_all();
        }
    }
}
