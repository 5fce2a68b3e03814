//! The handle that applications hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proto::Partition;
use proto::client::{Cluster, ClusterCounts};
use tokio::sync::{mpsc, oneshot};

use crate::accumulator::{Accumulator, Appended, NotAppended};
use crate::batch::{Admission, Completion, Outcome, SendFuture};
use crate::blocking::block_on;
use crate::config::ProducerConfig;
use crate::error::{FlushError, SendError, StartError};
use crate::line::{Line, Queue, Refused, Waiting};
use crate::message_set::{MessageSet, SetFuture, SetPart};
use crate::record::{OwnedRecord, Record, now_ms};
use crate::sender::{BatchMade, Command, Sender};

/// What handles and the sender task share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ProducerConfig,
    pub(crate) accumulator: Accumulator,
    pub(crate) line: Line,
    closing: AtomicBool,
    has_own_thread: bool,
    acknowledged: AtomicU64,
    acknowledged_bytes: AtomicU64,
    batched_bytes: AtomicU64,
    compressed_bytes: AtomicU64,
    failed: AtomicU64,
    /// What the cluster counts.
    counts: Arc<ClusterCounts>,
    /// Since the last flush.
    failures: Mutex<(u64, Option<SendError>)>,
}

impl Shared {
    fn new(config: ProducerConfig, counts: Arc<ClusterCounts>, has_own_thread: bool) -> Self {
        Self {
            accumulator: Accumulator::new(&config),
            line: Line::new(config.buffer_memory / 4),
            config,
            closing: AtomicBool::new(false),
            has_own_thread,
            acknowledged: AtomicU64::new(0),
            acknowledged_bytes: AtomicU64::new(0),
            batched_bytes: AtomicU64::new(0),
            compressed_bytes: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            counts,
            failures: Mutex::default(),
        }
    }

    /// Ends a batch and counts its records.
    pub(crate) fn tell(
        &self,
        completion: &Completion,
        records: i32,
        bytes: usize,
        outcome: Outcome,
    ) {
        let records = u64::from(records.unsigned_abs());
        if completion.is_complete() {
            return;
        }
        match &outcome {
            Outcome::Done { .. } => {
                self.acknowledged.fetch_add(records, Ordering::Relaxed);
                self.acknowledged_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Outcome::Failed(error) => self.count_failed(records, error.clone()),
            Outcome::Split(_) => {}
        }
        completion.complete(outcome);
    }

    /// A batch was closed: counts it and gives back the memory that compression saved.
    pub(crate) fn batch_made(&self, made: BatchMade) {
        self.batched_bytes.fetch_add(made.plain_len as u64, Ordering::Relaxed);
        self.compressed_bytes.fetch_add(made.len as u64, Ordering::Relaxed);
        if made.freed > 0 {
            self.accumulator.memory.give(made.freed);
        }
    }

    /// Works on the line and counts who leaves it with an error.
    pub(crate) fn advance_line<R>(&self, f: impl FnOnce(&mut Queue) -> R) -> R {
        let (result, failed) = self.line.advance(f);
        if let Some((records, error)) = failed {
            self.count_failed(records, error);
        }
        result
    }

    fn count_failed(&self, records: u64, error: SendError) {
        self.failed.fetch_add(records, Ordering::Relaxed);
        let mut failures = self.failures.lock();
        failures.0 += records;
        failures.1.get_or_insert(error);
    }

    /// What failed since the last call.
    pub(crate) fn take_failures(&self) -> Result<(), FlushError> {
        match std::mem::take(&mut *self.failures.lock()) {
            (failed, Some(first)) => Err(FlushError { failed, first }),
            _ => Ok(()),
        }
    }

    pub(crate) fn refuse_all(&self) {
        self.closing.store(true, Ordering::Release);
    }
}

/// Counts of a producer since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProducerStats {
    /// Records acknowledged.
    pub acknowledged: u64,
    /// Bytes of their batches, after compression.
    pub acknowledged_bytes: u64,
    /// Bytes of the batches made so far, before compression.
    pub batched_bytes: u64,
    /// The same after compression, which equals it without.
    pub compressed_bytes: u64,
    /// Records that failed.
    pub failed: u64,
    /// Bytes of `buffer.memory` in use.
    pub buffered_bytes: u64,
    /// Partitions that were seen to have another leader, or the same one anew.
    pub leader_changes: u64,
    /// Changes of metadata that brokers pushed.
    pub metadata_pushes: u64,
    /// Metadata that had to be asked for.
    pub metadata_refreshes: u64,
}

impl ProducerStats {
    /// What compression leaves of a batch, on average: Kafka's `compression-rate-avg`, by bytes.
    /// `None` before the first batch.
    pub fn compression_rate(&self) -> Option<f64> {
        (self.batched_bytes > 0).then(|| self.compressed_bytes as f64 / self.batched_bytes as f64)
    }
}

/// Builds a [`Producer`].
#[derive(Debug, Clone, Default)]
pub struct ProducerBuilder {
    config: ProducerConfig,
    on_current_runtime: bool,
}

impl ProducerBuilder {
    /// All settings at once.
    #[must_use]
    pub fn config(mut self, config: ProducerConfig) -> Self {
        self.config = config;
        self
    }

    /// One setting by its key, see [`crate::config::KEYS`].
    pub fn set(mut self, key: &str, value: &str) -> Result<Self, StartError> {
        self.config.set(key, value)?;
        Ok(self)
    }

    /// The producer's sockets and timers live on the runtime of the caller instead of on a thread of
    /// their own. A send never blocks then; a task that does not yield holds the producer up.
    #[must_use]
    pub fn on_current_runtime(mut self) -> Self {
        self.on_current_runtime = true;
        self
    }

    /// Starts it. Nothing is connected yet: trouble with brokers shows in what is sent.
    pub fn start(self) -> Result<Producer, StartError> {
        self.config.validate()?;
        let cluster = Cluster::new(self.config.cluster_options());
        let has_own_thread = !self.on_current_runtime;
        let shared = Arc::new(Shared::new(self.config, cluster.counts(), has_own_thread));
        let (commands, receiver) = mpsc::unbounded_channel();
        let task = {
            let shared = Arc::clone(&shared);
            move || Sender::new(shared, cluster, receiver).run()
        };
        if self.on_current_runtime {
            let runtime =
                tokio::runtime::Handle::try_current().map_err(|_| StartError::NoRuntime)?;
            runtime.spawn(task());
        } else {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(StartError::Thread)?;
            std::thread::Builder::new()
                .name("ottla-producer".into())
                .spawn(move || runtime.block_on(async { Box::pin(task()).await }))
                .map_err(StartError::Thread)?;
        }
        Ok(Producer { shared, commands })
    }
}

/// Sends records in batches; cheap to clone, safe to share between threads and tasks.
///
/// [`send`](Self::send) encodes the record into its partition's open batch and returns at once; a
/// background thread sends full batches, retries, and completes the futures. With idempotence on (the
/// default) every acknowledged record is in the log exactly once, and the records that one thread
/// sends to one partition are in the order they were sent, however often connections break.
///
/// [`close`](Self::close) it: dropping the last handle still delivers what was sent, but in the
/// background, where the end of the process cuts it off.
///
/// ```no_run
/// use std::time::Duration;
/// use producer_client::{Producer, ProducerConfig, Record};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let producer = Producer::start(ProducerConfig::new(["localhost:9094"]))?;
/// let place = producer.send(Record::to("clicks").key("user-7").value("{}")).wait()?;
/// println!("partition {} offset {:?}", place.partition, place.offset);
/// producer.close(Duration::from_secs(10)).wait()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Producer {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Producer {
    /// Builds one step by step.
    pub fn builder() -> ProducerBuilder {
        ProducerBuilder::default()
    }

    /// Starts one on a thread of its own.
    pub fn start(config: ProducerConfig) -> Result<Self, StartError> {
        Self::builder().config(config).start()
    }

    /// Sends a record. The future becomes its place in the log; many may be under way.
    ///
    /// Where `buffer.memory` is full or the topic is not known yet, a copy of the record stands in
    /// line, at most `max.block.ms`. When the line is full too, the call blocks the thread, as Kafka's
    /// does; with [`ProducerBuilder::on_current_runtime`], where that could stop the producer itself,
    /// the future fails instead. Code that does not await every future gets its back-pressure from
    /// [`SendFuture::accepted`].
    pub fn send(&self, record: Record<'_>) -> SendFuture {
        let accumulator = &self.shared.accumulator;
        let future =
            match self.check_open().map_or_else(Appended::from, |()| accumulator.append(&record)) {
                Appended::Done(receipt) => SendFuture::in_batch(receipt),
                Appended::Failed(error) => self.fail(error),
                Appended::NoRoom | Appended::UnknownTopic => match self.stand_in_line(&record) {
                    Ok(admission) => SendFuture::in_line(admission),
                    Err(error) => self.fail(error),
                },
            };
        future.polling(self.shared.config.busy_poll)
    }

    /// Sends a record whose acknowledgement nobody waits for, blocking while there is no room. Errors
    /// later than this call's show in [`flush`](Self::flush) and [`stats`](Self::stats). A thread that
    /// sends faster than the network takes it is held up before `buffer.memory` is full, so that its
    /// batches leave while they are in the caches; where the network does not move it fills all of it.
    ///
    /// For plain threads; in async code use [`enqueue`](Self::enqueue).
    pub fn send_detached(&self, record: Record<'_>) -> Result<(), SendError> {
        let Shared { accumulator, has_own_thread, .. } = &*self.shared;
        let appended = || accumulator.append_detached(&record, *has_own_thread);
        match self.check_open().and_then(|()| appended()) {
            Ok(()) => Ok(()),
            Err(why) => self.send_refused(record, why),
        }
    }

    #[cold]
    fn send_refused(&self, record: Record<'_>, why: NotAppended) -> Result<(), SendError> {
        match why {
            NotAppended::Failed(error) => Err(self.count(*error)),
            NotAppended::NoRoom | NotAppended::UnknownTopic => self.send(record).wait_accepted(),
        }
    }

    /// Sends a record, waiting first until there is room for it: the future that this returns then
    /// is its acknowledgement. May be dropped.
    pub async fn enqueue(&self, record: Record<'_>) -> Result<SendFuture, SendError> {
        let mut future = self.send(record);
        future.accepted().await?;
        Ok(future)
    }

    /// Sends the messages of a set to one partition, in order and next to each other in as few
    /// batches as they take (the paper's `producer.send(topic, set)`). Blocks the thread while there
    /// is no room; in async code use [`enqueue_set`](Self::enqueue_set).
    pub fn send_set(&self, topic: &str, set: &MessageSet) -> SetFuture {
        match self.append_set(topic, set) {
            SetProgress { next, parts, failed: None, .. } if next == set.len() => {
                SetFuture::new(parts)
            }
            progress => block_on(self.finish_set(topic, set, progress)),
        }
    }

    /// The same, waiting asynchronously until the whole set is in batches. The future that this
    /// returns then is its acknowledgement.
    pub async fn enqueue_set(&self, topic: &str, set: &MessageSet) -> SetFuture {
        let progress = self.append_set(topic, set);
        self.finish_set(topic, set, progress).await
    }

    /// Puts as many messages into batches as there is room for.
    fn append_set(&self, topic: &str, set: &MessageSet) -> SetProgress {
        let mut progress = SetProgress { partition: set.partition, ..SetProgress::default() };
        self.append_more(topic, set, &mut progress);
        progress
    }

    fn append_more(&self, topic: &str, set: &MessageSet, progress: &mut SetProgress) {
        let SetProgress { next, partition, parts, failed } = progress;
        let Some(first) = set.record(topic, *next, *partition) else { return };
        if !self.shared.line.is_empty() || self.is_closed() {
            return;
        }
        let rest = (*next..set.len()).filter_map(|i| set.record(topic, i, *partition));
        let (taken, ended) = self.shared.accumulator.append_run(&first, rest, |receipt| {
            SetPart::add(parts, receipt);
        });
        *next += taken;
        // What follows must go where the first ones went.
        *partition = parts.first().map(SetPart::partition).or(*partition);
        if let Some(NotAppended::Failed(error)) = ended {
            *failed = Some(self.count(*error));
        }
    }

    async fn finish_set(
        &self,
        topic: &str,
        set: &MessageSet,
        mut progress: SetProgress,
    ) -> SetFuture {
        while progress.failed.is_none() {
            let Some(record) = set.record(topic, progress.next, progress.partition) else { break };
            let mut waiting = self.send(record);
            if let Err(error) = waiting.accepted().await {
                return SetFuture::failed(error);
            }
            if let Some(receipt) = waiting.into_receipt() {
                SetPart::add(&mut progress.parts, receipt);
            }
            progress.next += 1;
            let first = progress.parts.first().map(SetPart::partition);
            progress.partition = first.or(progress.partition);
            self.append_more(topic, set, &mut progress);
        }
        match progress.failed {
            Some(error) => SetFuture::failed(error),
            None => SetFuture::new(progress.parts),
        }
    }

    /// Sends everything at once, lingering no longer, and waits until all of it is acknowledged or
    /// has failed. An error tells how many records failed since the last flush.
    pub fn flush(&self) -> Flush {
        let (reply, answer) = oneshot::channel();
        Flush::new(self.commands.send(Command::Flush(reply)).is_ok().then_some(answer))
    }

    /// Refuses new records, delivers what was sent, at most for `timeout`, then fails the rest and
    /// ends. The error is [`flush`](Self::flush)'s.
    pub fn close(&self, timeout: Duration) -> Flush {
        self.shared.refuse_all();
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + timeout.min(Duration::from_secs(86_400 * 365));
        Flush::new(self.commands.send(Command::Close(deadline, reply)).is_ok().then_some(answer))
    }

    /// Counts so far.
    pub fn stats(&self) -> ProducerStats {
        let shared = &self.shared;
        let cluster = shared.counts.stats();
        ProducerStats {
            acknowledged: shared.acknowledged.load(Ordering::Relaxed),
            acknowledged_bytes: shared.acknowledged_bytes.load(Ordering::Relaxed),
            batched_bytes: shared.batched_bytes.load(Ordering::Relaxed),
            compressed_bytes: shared.compressed_bytes.load(Ordering::Relaxed),
            failed: shared.failed.load(Ordering::Relaxed),
            buffered_bytes: shared.accumulator.memory.taken() as u64,
            leader_changes: cluster.leader_changes,
            metadata_pushes: cluster.pushes,
            metadata_refreshes: cluster.refreshes,
        }
    }

    /// The settings it runs with.
    pub fn config(&self) -> &ProducerConfig {
        &self.shared.config
    }

    fn is_closed(&self) -> bool {
        self.shared.closing.load(Ordering::Acquire)
    }

    /// Whether a record may be appended: not once closed, and not past those who wait.
    #[inline]
    fn check_open(&self) -> Result<(), NotAppended> {
        if self.is_closed() {
            return Err(NotAppended::failed(SendError::Closed { in_doubt: false }));
        }
        match self.shared.line.is_empty() {
            true => Ok(()),
            false => Err(NotAppended::NoRoom),
        }
    }

    #[cold]
    fn stand_in_line(&self, record: &Record<'_>) -> Result<Arc<Admission>, SendError> {
        let shared = &self.shared;
        let since = Instant::now();
        let size = record.size_bound();
        let admission = Arc::new(Admission::default());
        let record = OwnedRecord::copy(record, now_ms());
        let waiting = Waiting { record, size, admission: Arc::clone(&admission), since };
        let deadline = shared.has_own_thread.then(|| since + shared.config.max_block);
        match shared.line.push(waiting, deadline) {
            Ok(()) => {
                shared.accumulator.wake.notify_one();
                Ok(admission)
            }
            Err(Refused::Closed) => Err(SendError::Closed { in_doubt: false }),
            Err(Refused::Full) => Err(SendError::BufferExhausted {
                waited: since.elapsed(),
                memory: shared.accumulator.memory.total(),
                cause: None,
            }),
        }
    }

    fn fail(&self, error: SendError) -> SendFuture {
        SendFuture::failed(self.count(error))
    }

    fn count(&self, error: SendError) -> SendError {
        self.shared.count_failed(1, error.clone());
        error
    }
}

/// How far a set has come.
#[derive(Debug, Default)]
struct SetProgress {
    next: usize,
    partition: Option<Partition>,
    parts: Vec<SetPart>,
    failed: Option<SendError>,
}

/// Becomes the end of a [`Producer::flush`] or [`Producer::close`].
#[derive(Debug)]
#[must_use = "await it or call `wait`"]
pub struct Flush(Option<oneshot::Receiver<Result<(), FlushError>>>);

impl Flush {
    fn new(answer: Option<oneshot::Receiver<Result<(), FlushError>>>) -> Self {
        Self(answer)
    }

    /// Waits on a plain thread.
    pub fn wait(self) -> Result<(), FlushError> {
        block_on(self)
    }
}

impl Future for Flush {
    type Output = Result<(), FlushError>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        // A producer that ended has nothing left to flush.
        let Some(answer) = &mut self.0 else { return std::task::Poll::Ready(Ok(())) };
        std::pin::Pin::new(answer).poll(cx).map(|answer| answer.unwrap_or(Ok(())))
    }
}
