//! The group, and the reading of the whole log in the end: what was delivered, and when the first record
//! of each leader epoch was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use consumer_client::{Consumer, ConsumerConfig, Event, RecordBatch, StartAt, Subscription};
use proto::TopicPartition;

use super::clock::{Clock, Micros};
use crate::checker::{Delivered, FinalLog, Position, Value};
use crate::workload::{bounds, parse_value};

/// The longest time without a record while the whole log is read.
const READ_STALL_MAX: Duration = Duration::from_secs(30);

/// A partition in one leader epoch.
pub type Leadership = (i32, i32);

/// What a reader saw.
#[derive(Debug, Clone, Default)]
pub struct Saw {
    /// Every record.
    pub delivered: Delivered,
    /// When the first record of each leadership was delivered.
    pub first: BTreeMap<Leadership, Micros>,
}

/// A member of a group on a thread of its own.
pub struct Member {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: JoinHandle<Result<Saw>>,
}

impl Member {
    /// Joins.
    pub fn join(mut config: ConsumerConfig, topic: &str, name: &str, clock: Clock) -> Result<Self> {
        config.set("consumer.id", name)?;
        let group = config.group_id.clone();
        let mut consumer = Consumer::new(config)?;
        consumer.subscribe(&Subscription::topics([topic]))?;
        let (stop, count): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
        let mut saw =
            Saw { delivered: Delivered::new(name, group.as_deref()), first: BTreeMap::new() };
        let (stopping, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let thread = std::thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                let polled = consumer.poll_batches(Duration::from_millis(50))?;
                let now = clock.now();
                polled.events.iter().try_for_each(judge)?;
                for batch in &polled.items {
                    saw.keep(batch, now, |_, _| {})?;
                }
                counted.store(saw.delivered.len() as u64, Ordering::Relaxed);
            }
            consumer.close()?;
            Ok(saw)
        });
        Ok(Self { stop, count, thread })
    }

    /// How many records it was delivered so far.
    pub fn delivered(&self) -> Result<u64> {
        ensure!(!self.thread.is_finished(), "a consumer ended: see the end of the run");
        Ok(self.count.load(Ordering::Relaxed))
    }

    /// Leaves the group.
    pub fn stop(self) -> Result<Saw> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("a consumer panicked"))?
    }
}

/// Nothing of this ever happens to a topic that keeps everything.
fn judge(event: &Event) -> Result<()> {
    match event {
        Event::OutOfRange { .. }
        | Event::LogTruncated { .. }
        | Event::TopicDeleted { .. }
        | Event::TopicRecreated { .. }
        | Event::StoredOffsetIgnored { .. }
        | Event::Damaged { .. } => bail!("a consumer was told: {event}"),
        _ => Ok(()),
    }
}

impl Saw {
    fn keep(
        &mut self,
        batch: &RecordBatch,
        now: Micros,
        mut also: impl FnMut(Position, Value),
    ) -> Result<()> {
        let partition = batch.partition().partition;
        self.first.entry((partition, batch.header().leader_epoch.0)).or_insert(now);
        for record in batch.records() {
            let record = record?;
            let (producer, number) = parse_value(record.value.unwrap_or_default())?;
            let (place, value) =
                (Position { partition, offset: record.offset.0 }, Value::new(producer, number));
            self.delivered.push((now / 1_000) as u32, place, value);
            also(place, value);
        }
        Ok(())
    }
}

/// The whole log, and where in it each leadership begins.
#[derive(Debug, Clone, Default)]
pub struct WholeLog {
    /// The records.
    pub log: FinalLog,
    /// The first offset of each leadership that wrote anything.
    pub began: BTreeMap<Leadership, i64>,
}

/// Reads a topic from its start to the high watermarks of now.
pub fn read_whole(bootstrap: &str, topic: &str, partitions: i32) -> Result<WholeLog> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bounds = runtime.block_on(bounds(bootstrap, topic, partitions))?;
    let mut whole = WholeLog::default();
    for (partition, &(start, _)) in (0..).zip(&bounds) {
        whole.log.entry(partition).or_default().start = start;
    }
    let mut consumer = Consumer::new(ConsumerConfig::new(bootstrap.split(',')))?;
    consumer
        .assign((0..partitions).map(|p| (TopicPartition::new(topic, p), StartAt::Beginning)))?;
    let (mut saw, mut last) = (Saw::default(), Instant::now());
    while whole.log.values().zip(&bounds).any(|(log, (_, end))| log.end() < *end) {
        let polled = consumer.poll_batches(Duration::from_millis(200))?;
        polled.events.iter().try_for_each(judge)?;
        for batch in &polled.items {
            last = Instant::now();
            let partition = batch.partition().partition;
            let leadership = (partition, batch.header().leader_epoch.0);
            whole.began.entry(leadership).or_insert(batch.header().base_offset.0);
            let (end, log) =
                (bounds[partition as usize].1, whole.log.entry(partition).or_default());
            saw.keep(batch, 0, |place, value| {
                if place.offset < end {
                    log.put(place.offset, value);
                }
            })?;
        }
        ensure!(last.elapsed() < READ_STALL_MAX, "the log cannot be read to its end, {bounds:?}");
    }
    consumer.close()?;
    Ok(whole)
}
