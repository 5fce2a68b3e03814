//! Producers and readers that record everything they do, for [`crate::checker`], and what is
//! known of each partition's progress meanwhile.
//!
//! Each producer and each reader is a thread of its own that owns its part of the history; only
//! [`Progress`] is shared. Times are those of one clock.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use consumer_client::{
    Consumer, ConsumerConfig, ConsumerError, Control, Event, StartAt, Subscription,
};
use futures_util::FutureExt;
use parking_lot::Mutex;
use producer_client::{Producer, ProducerConfig, Record, RecordMetadata, SendError, SendFuture};
use proto::{Offset, TopicPartition};

use crate::checker::{
    Commit, Delivered, FinalLog, History, Millis, Outcome, Position, Send, Sends, Value,
};
use crate::workload::{bounds, nap, parse_value, value};

/// Most sends without an outcome of one producer; above it the producer waits.
const UNDER_WAY_MAX: usize = 50_000;
/// So many records go to a partition before the next has its turn, so that a batch has several: what
/// is tested is not how fast a debug build handles single records.
const BURST: usize = 8;
/// How often a member commits.
const COMMIT_EVERY: Duration = Duration::from_millis(500);
/// The longest time without a record while the whole log is read.
const READ_STALL_MAX: Duration = Duration::from_secs(30);

/// What is known of a partition now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Records acknowledged.
    pub acknowledged: u64,
    /// When the record that was acknowledged last was sent.
    pub newest_sent: Millis,
    /// Its offset.
    pub newest_offset: i64,
    /// When it was acknowledged.
    pub newest_at: Millis,
    /// The longest time between two acknowledgements since [`Recorder::begin_pause`].
    pub pause: Millis,
    /// The next offset that the group has not been delivered.
    pub delivered: i64,
}

/// The last things that clients said, for whoever looks into a failed run.
#[derive(Debug, Clone, Default)]
struct Notes(Arc<Mutex<VecDeque<String>>>);

impl Notes {
    const MAX: usize = 2_000;

    fn add(&self, at: Millis, who: &str, what: &dyn std::fmt::Display) {
        let mut notes = self.0.lock();
        if notes.len() == Self::MAX {
            notes.pop_front();
        }
        notes.push_back(format!("{at} ms {who}: {what}"));
    }
}

/// One run's recording.
pub struct Recorder {
    began: Instant,
    bootstrap: String,
    topic: String,
    progress: Arc<Mutex<Vec<Progress>>>,
    failed: Arc<AtomicU64>,
    notes: Notes,
    stop_sending: Arc<AtomicBool>,
    stop_reading: Arc<AtomicBool>,
    producers: Vec<JoinHandle<Result<Sends>>>,
    readers: Vec<JoinHandle<Result<Reader>>>,
}

impl Recorder {
    /// Records what is done with a topic of so many partitions.
    pub fn new(bootstrap: &str, topic: &str, partitions: i32) -> Self {
        let progress = vec![Progress::default(); partitions as usize];
        Self {
            began: Instant::now(),
            bootstrap: bootstrap.to_owned(),
            topic: topic.to_owned(),
            progress: Arc::new(Mutex::new(progress)),
            failed: Arc::default(),
            notes: Notes::default(),
            stop_sending: Arc::default(),
            stop_reading: Arc::default(),
            producers: Vec::new(),
            readers: Vec::new(),
        }
    }

    /// Milliseconds since the recording began.
    pub fn now(&self) -> Millis {
        millis(self.began)
    }

    /// Starts a producer that sends so many records a second, a few to each partition in turn.
    pub fn produce(&mut self, rate: u32, settings: &[(&str, &str)]) -> Result<()> {
        let mut config = ProducerConfig::new(self.bootstrap.split(','));
        for (key, value) in settings {
            config.set(key, value)?;
        }
        let number = self.producers.len() as u32;
        let mut sender = Sender {
            began: self.began,
            topic: self.topic.clone(),
            producer: Producer::start(config)?,
            under_way: self.progress.lock().iter().map(|_| VecDeque::new()).collect(),
            sends: Sends { producer: number, sends: Vec::new() },
            progress: Arc::clone(&self.progress),
            failed: Arc::clone(&self.failed),
            notes: self.notes.clone(),
        };
        let stop = Arc::clone(&self.stop_sending);
        self.producers.push(std::thread::spawn(move || {
            sender.run(rate, &stop)?;
            Ok(sender.sends)
        }));
        Ok(())
    }

    /// Starts a member of a group.
    pub fn join(&mut self, group: &str, settings: &[(&str, &str)]) -> Result<()> {
        let mut config = ConsumerConfig::new(self.bootstrap.split(','));
        let name = format!("{group}-{}", self.readers.len());
        let own = [
            ("group.id", group),
            ("consumer.id", &name),
            ("auto.offset.reset", "earliest"),
            ("enable.auto.commit", "false"),
        ];
        for (key, value) in own.iter().chain(settings) {
            config.set(key, value)?;
        }
        let mut consumer = Consumer::new(config)?;
        consumer.subscribe(&Subscription::topics([self.topic.as_str()]))?;
        let progress = Some(Arc::clone(&self.progress));
        self.read(consumer, Delivered::new(&name, Some(group)), progress);
        Ok(())
    }

    /// Starts a reader of all partitions from their beginning, without a group.
    pub fn tail(&mut self) -> Result<()> {
        let mut consumer = Consumer::new(ConsumerConfig::new(self.bootstrap.split(',')))?;
        consumer.assign(self.all().map(|partition| (partition, StartAt::Beginning)))?;
        let name = format!("tail-{}", self.readers.len());
        self.read(consumer, Delivered::new(&name, None), None);
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = TopicPartition> {
        let partitions = self.progress.lock().len() as i32;
        (0..partitions).map(|partition| TopicPartition::new(self.topic.as_str(), partition))
    }

    fn read(
        &mut self,
        consumer: Consumer,
        delivered: Delivered,
        progress: Option<Arc<Mutex<Vec<Progress>>>>,
    ) {
        let (began, stop) = (self.began, Arc::clone(&self.stop_reading));
        let mut reader = Reader {
            began,
            progress,
            topic: self.topic.clone(),
            delivered,
            commits: Vec::new(),
            notes: self.notes.clone(),
            positions: BTreeMap::new(),
            committed: BTreeMap::new(),
        };
        self.readers.push(std::thread::spawn(move || {
            reader.run(consumer, &stop)?;
            Ok(reader)
        }));
    }

    /// Every partition's progress.
    pub fn progress(&self) -> Vec<Progress> {
        self.progress.lock().clone()
    }

    /// Records acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.progress.lock().iter().map(|progress| progress.acknowledged).sum()
    }

    /// Records whose send ended with an error so far.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// The events of readers and the failures of producers, the last few thousand, a line each.
    pub fn notes(&self) -> String {
        let notes = self.notes.0.lock();
        notes.iter().flat_map(|note| [note.as_str(), "\n"]).collect()
    }

    /// Begins to measure the longest pause of each partition anew.
    pub fn begin_pause(&self) {
        self.progress.lock().iter_mut().for_each(|progress| progress.pause = 0);
    }

    /// The longest time without an acknowledgement of each partition since
    /// [`Recorder::begin_pause`], one that still lasts included.
    pub fn pauses(&self) -> Vec<Millis> {
        let now = self.now();
        let progress = self.progress.lock();
        progress.iter().map(|p| p.pause.max(now.saturating_sub(p.newest_at))).collect()
    }

    /// Waits until every partition acknowledges a record that was sent after now, and the group is
    /// delivered it; which ones did not within the limit is the error.
    pub fn all_partitions_work(&self, limit: Duration, delivered: bool) -> Result<Duration> {
        let (since, begun) = (self.now(), Instant::now());
        // What each partition must be delivered: the first record sent after now.
        let mut wanted: Vec<Option<i64>> = vec![None; self.progress.lock().len()];
        loop {
            let progress = self.progress();
            for (wanted, progress) in wanted.iter_mut().zip(&progress) {
                if wanted.is_none() && progress.acknowledged > 0 && progress.newest_sent >= since {
                    *wanted = Some(progress.newest_offset);
                }
            }
            let works = |(wanted, progress): (&Option<i64>, &Progress)| {
                wanted.is_some_and(|offset| !delivered || progress.delivered > offset)
            };
            if wanted.iter().zip(&progress).all(works) {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > limit {
                let stuck = wanted.iter().zip(&progress).enumerate();
                let stuck = stuck.filter(|(_, pair)| !works(*pair)).map(|(partition, pair)| {
                    let what = if pair.0.is_none() { "acknowledges" } else { "delivers" };
                    format!("partition {partition} {what} nothing ({:?})", pair.1)
                });
                bail!("{limit:?} later: {}", stuck.collect::<Vec<_>>().join("; "));
            }
            self.watch_threads()?;
            nap(Duration::from_millis(5));
        }
    }

    /// Waits until `more` records were acknowledged from now on.
    pub fn wait_for_more(&self, more: u64, limit: Duration) -> Result<()> {
        let (target, deadline) = (self.acknowledged() + more, Instant::now() + limit);
        while self.acknowledged() < target {
            let missing = target - self.acknowledged();
            ensure!(Instant::now() < deadline, "{missing} of {more} records not acknowledged");
            self.watch_threads()?;
            nap(Duration::from_millis(10));
        }
        Ok(())
    }

    fn watch_threads(&self) -> Result<()> {
        let ended = self.producers.iter().any(JoinHandle::is_finished)
            || self.readers.iter().any(JoinHandle::is_finished);
        ensure!(!ended, "a producer or a reader ended: see the end of the run");
        Ok(())
    }

    /// Ends producers, waits until the readers have everything, reads the whole log: the history.
    pub fn finish(self) -> Result<History> {
        self.stop_sending.store(true, Ordering::Relaxed);
        let sends = join(self.producers)?;
        let log = read_log(&self.bootstrap, &self.topic, self.progress.lock().len() as i32);
        // Readers end also where the log cannot be read.
        let deadline = Instant::now() + READ_STALL_MAX;
        while let (Ok(log), true) = (&log, Instant::now() < deadline) {
            let progress = self.progress.lock().clone();
            let behind = |(p, progress): (i32, &Progress)| progress.delivered < log[&p].end();
            let readers = self.readers.iter().any(|reader| !reader.is_finished());
            if !readers || !(0..).zip(&progress).any(behind) {
                break;
            }
            nap(Duration::from_millis(20));
        }
        // One more commit.
        nap(COMMIT_EVERY * 2);
        self.stop_reading.store(true, Ordering::Relaxed);
        let mut history = History { sends, log: log?, ..History::default() };
        for reader in join(self.readers)? {
            history.delivered.push(reader.delivered);
            history.commits.extend(reader.commits);
        }
        Ok(history)
    }
}

fn millis(began: Instant) -> Millis {
    Millis::try_from(began.elapsed().as_millis()).unwrap_or(Millis::MAX)
}

fn join<T>(threads: Vec<JoinHandle<Result<T>>>) -> Result<Vec<T>> {
    let joined = threads.into_iter().map(|thread| match thread.join() {
        Ok(ended) => ended,
        Err(_) => Err(anyhow!("a thread of the recorder panicked")),
    });
    joined.collect()
}

struct Sender {
    began: Instant,
    topic: String,
    producer: Producer,
    /// By partition, so that one that stands still hides nothing of the others.
    under_way: Vec<VecDeque<(usize, SendFuture)>>,
    sends: Sends,
    progress: Arc<Mutex<Vec<Progress>>>,
    failed: Arc<AtomicU64>,
    notes: Notes,
}

impl Sender {
    fn run(&mut self, rate: u32, stop: &AtomicBool) -> Result<()> {
        let mut due = 0.0;
        let mut last = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            due += last.elapsed().as_secs_f64() * f64::from(rate);
            last = Instant::now();
            // What could not be sent in time is not made up for in a burst.
            due = due.min(f64::from(rate) / 10.0 + 1.0);
            while due >= 1.0 {
                due -= 1.0;
                if self.under_way.iter().map(VecDeque::len).sum::<usize>() < UNDER_WAY_MAX {
                    self.send();
                }
            }
            self.settle();
            nap(Duration::from_millis(4));
        }
        // Each send ends within delivery.timeout.ms.
        while self.under_way.iter().any(|queue| !queue.is_empty()) {
            self.settle();
            nap(Duration::from_millis(2));
        }
        let _ = self.producer.close(Duration::from_secs(5)).wait();
        Ok(())
    }

    fn send(&mut self) {
        let number = self.sends.sends.len();
        let partition = number / BURST % self.under_way.len();
        let value = value(self.sends.producer, number as u64, 100);
        let record = Record::to(&self.topic).partition(partition as i32).value(&value);
        let sent = millis(self.began);
        self.under_way[partition].push_back((number, self.producer.send(record)));
        let partition = Some(partition as i32);
        self.sends.sends.push(Send { partition, outcome: Outcome::Unknown, sent, ended: sent });
    }

    fn settle(&mut self) {
        for partition in 0..self.under_way.len() {
            while let Some((number, future)) = self.under_way[partition].front_mut() {
                let Some(outcome) = future.now_or_never() else { break };
                let number = *number;
                self.under_way[partition].pop_front();
                self.keep(partition, number, outcome);
            }
        }
    }

    fn keep(
        &mut self,
        partition: usize,
        number: usize,
        outcome: Result<RecordMetadata, SendError>,
    ) {
        let now = millis(self.began);
        let send = &mut self.sends.sends[number];
        send.ended = now;
        send.outcome = match outcome {
            Ok(RecordMetadata { offset, .. }) => {
                let progress = &mut self.progress.lock()[partition];
                progress.acknowledged += 1;
                if progress.newest_at > 0 {
                    progress.pause = progress.pause.max(now.saturating_sub(progress.newest_at));
                }
                progress.newest_at = now;
                if let Some(offset) = offset {
                    progress.newest_sent = progress.newest_sent.max(send.sent);
                    progress.newest_offset = offset.0;
                }
                offset.map_or(Outcome::Somewhere, |offset| Outcome::At(offset.0))
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let who = format!("producer {}", self.sends.producer);
                self.notes.add(now, &who, &format!("send {number}: {error}"));
                Outcome::Unknown
            }
        };
    }
}

type Committing = Pin<Box<dyn Future<Output = Result<(), ConsumerError>>>>;

struct Reader {
    began: Instant,
    progress: Option<Arc<Mutex<Vec<Progress>>>>,
    topic: String,
    delivered: Delivered,
    commits: Vec<Commit>,
    notes: Notes,
    /// The next offset of each partition that is owned and was delivered something.
    positions: BTreeMap<i32, i64>,
    /// What was last asked to be committed.
    committed: BTreeMap<i32, i64>,
}

impl Reader {
    fn run(&mut self, mut consumer: Consumer, stop: &AtomicBool) -> Result<()> {
        let control = consumer.control();
        let mut under_way: Option<(Vec<Commit>, Committing)> = None;
        let mut last_commit = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let polled = consumer
                .poll(Duration::from_millis(50))
                .map_err(|error| anyhow!("{}: {error}", self.delivered.reader))?;
            for event in &polled.events {
                self.event(event)?;
            }
            for record in polled.items {
                let (producer, number) = parse_value(record.payload())?;
                let place = Position { partition: record.partition, offset: record.offset.0 };
                let now = millis(self.began);
                self.delivered.push(now, place, Value::new(producer, number));
                self.positions.insert(place.partition, place.offset + 1);
                if let Some(progress) = &self.progress {
                    let delivered = &mut progress.lock()[place.partition as usize].delivered;
                    *delivered = (*delivered).max(place.offset + 1);
                }
            }
            if let Some((commits, outcome)) = &mut under_way {
                let Some(outcome) = outcome.as_mut().now_or_never() else { continue };
                let (ended, confirmed) = (millis(self.began), outcome.is_ok());
                if let Err(error) = &outcome {
                    self.notes.add(ended, &self.delivered.reader, error);
                }
                self.commits.extend(commits.drain(..).map(|c| Commit { ended, confirmed, ..c }));
                under_way = None;
            }
            if self.delivered.group.is_some() && last_commit.elapsed() >= COMMIT_EVERY {
                last_commit = Instant::now();
                under_way = self.commit(&control);
            }
        }
        // An outcome that is not known by now stays unknown.
        self.commits.extend(under_way.into_iter().flat_map(|(commits, _)| commits));
        consumer.close().map_err(|error| anyhow!("{}: {error}", self.delivered.reader))
    }

    fn commit(&mut self, control: &Control) -> Option<(Vec<Commit>, Committing)> {
        let owned = control.assignment();
        self.positions.retain(|p, _| owned.iter().any(|owned| owned.partition == *p));
        let moved = self.positions.iter();
        let moved = moved.filter(|(p, offset)| self.committed.get(p) != Some(offset));
        let offsets: Vec<(i32, i64)> = moved.map(|(&p, &offset)| (p, offset)).collect();
        if offsets.is_empty() {
            return None;
        }
        self.committed.extend(offsets.iter().copied());
        let begun = millis(self.began);
        let commits = offsets.iter().map(|&(partition, offset)| Commit {
            group: self.delivered.group.clone().unwrap_or_default(),
            member: self.delivered.reader.clone(),
            partition,
            offset,
            begun,
            ended: begun,
            confirmed: false,
        });
        let commits = commits.collect();
        let offsets: Vec<_> = offsets
            .iter()
            .map(|&(p, offset)| (TopicPartition::new(self.topic.as_str(), p), Offset(offset)))
            .collect();
        Some((commits, Box::pin(control.commit_offsets_async(offsets))))
    }

    fn event(&mut self, event: &Event) -> Result<()> {
        self.notes.add(millis(self.began), &self.delivered.reader, event);
        match event {
            Event::PartitionsRevoked(partitions) | Event::PartitionsLost(partitions) => {
                for partition in partitions {
                    self.positions.remove(&partition.partition);
                    self.committed.remove(&partition.partition);
                }
            }
            // Nothing of these ever happens to a topic that keeps everything.
            Event::OutOfRange { .. }
            | Event::TopicDeleted { .. }
            | Event::TopicRecreated { .. }
            | Event::StoredOffsetIgnored { .. }
            | Event::Damaged { .. } => {
                bail!("{} ms: {} was told: {event}", millis(self.began), self.delivered.reader)
            }
            _ => {}
        }
        Ok(())
    }
}

/// Reads a whole topic, from its start to the high watermarks of now.
pub fn read_log(bootstrap: &str, topic: &str, partitions: i32) -> Result<FinalLog> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bounds = runtime.block_on(bounds(bootstrap, topic, partitions))?;
    let mut log = FinalLog::new();
    for (partition, &(start, _)) in (0..).zip(&bounds) {
        log.entry(partition).or_default().start = start;
    }
    let mut consumer = Consumer::new(ConsumerConfig::new(bootstrap.split(',')))?;
    let all = (0..partitions).map(|p| (TopicPartition::new(topic, p), StartAt::Beginning));
    consumer.assign(all)?;
    let control = consumer.control();
    let read_up = |partition: i32| -> Result<bool> {
        let position = control.position(&TopicPartition::new(topic, partition))?;
        let (start, end) = bounds[partition as usize];
        Ok(start == end || position.is_some_and(|position| position.0 >= end))
    };
    let mut last = Instant::now();
    let mut left: Vec<i32> = (0..partitions).collect();
    while !left.is_empty() {
        let records = consumer.poll(Duration::from_millis(200))?.items;
        if !records.is_empty() {
            last = Instant::now();
        }
        for record in records {
            let (producer, number) = parse_value(record.payload())?;
            let end = bounds[record.partition as usize].1;
            if record.offset.0 < end {
                let log = log.entry(record.partition).or_default();
                log.put(record.offset.0, Value::new(producer, number));
            }
        }
        let still = left.iter().map(|&p| Ok((p, read_up(p)?))).collect::<Result<Vec<_>>>()?;
        left = still.into_iter().filter(|(_, done)| !done).map(|(p, _)| p).collect();
        ensure!(last.elapsed() < READ_STALL_MAX, "nothing comes of partitions {left:?}");
    }
    consumer.close()?;
    Ok(log)
}
