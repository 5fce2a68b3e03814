//! A producer that sends at a steady rate, whatever becomes of what it sent, and notes when each record
//! was due and when its outcome was known.
//!
//! Latencies count from when a record was due: a sender that is held up does not hide what it waited.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use producer_client::{Producer, ProducerConfig, ProducerStats, Record, SendFuture};
use tokio::sync::mpsc;

use super::clock::{Clock, Micros};
use crate::checker::{Outcome, Send, Sends};
use crate::workload::value;

/// Sends without an outcome; with more of them the run ends.
const UNDER_WAY_MAX: usize = 1_000_000;
const VALUE_LEN: usize = 100;
const TICK: Duration = Duration::from_millis(1);

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Where it went.
    pub partition: i32,
    /// When it was to be sent.
    pub due: Micros,
    /// When its outcome was known.
    pub ended: Micros,
    /// How it ended.
    pub outcome: Outcome,
}

impl Sent {
    /// Whether it was acknowledged.
    pub fn is_acknowledged(&self) -> bool {
        self.outcome != Outcome::Unknown
    }
}

/// What the producer did.
#[derive(Debug, Clone)]
pub struct Produced {
    /// Every record, by number.
    pub sent: Vec<Sent>,
    /// What the producer counted.
    pub stats: ProducerStats,
}

impl Produced {
    /// The same for the checker.
    pub fn sends(&self) -> Sends {
        let millis = |micros: Micros| (micros / 1_000).max(0) as u32;
        let sends = self.sent.iter().map(|sent| Send {
            partition: Some(sent.partition),
            outcome: sent.outcome,
            sent: millis(sent.due),
            ended: millis(sent.ended),
        });
        Sends { producer: 0, sends: sends.collect() }
    }
}

/// A running producer.
pub struct Load {
    stop: Arc<AtomicBool>,
    /// Of each partition, when the newest acknowledged record was due.
    newest: Arc<Vec<AtomicI64>>,
    thread: Option<JoinHandle<Result<Produced>>>,
}

/// What is sent.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Brokers to ask first.
    pub bootstrap: String,
    /// The topic.
    pub topic: String,
    /// Its partitions, to which records go in turn.
    pub partitions: i32,
    /// Records a second.
    pub rate: u32,
    /// Settings of the producer.
    pub settings: Vec<(String, String)>,
}

impl Load {
    /// Starts to send.
    pub fn start(options: LoadOptions, clock: Clock) -> Result<Self> {
        let mut config = ProducerConfig::new(options.bootstrap.split(','));
        for (key, value) in &options.settings {
            config.set(key, value)?;
        }
        let producer = Producer::start(config)?;
        let stop: Arc<AtomicBool> = Arc::default();
        let newest: Arc<Vec<AtomicI64>> =
            Arc::new((0..options.partitions).map(|_| AtomicI64::new(Micros::MIN)).collect());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sender = Sender { options, clock, producer, newest: Arc::clone(&newest) };
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || runtime.block_on(sender.run(&stopping)));
        Ok(Self { stop, newest, thread: Some(thread) })
    }

    /// Whether every partition acknowledged a record that was due after `since`.
    pub fn works_since(&self, since: Micros) -> Result<bool> {
        let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        ensure!(!ended, "the producer ended: see the end of the run");
        Ok(self.newest.iter().all(|newest| newest.load(Ordering::Relaxed) >= since))
    }

    /// Ends the load; waits for every outcome.
    pub fn stop(mut self) -> Result<Produced> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or_else(|| anyhow!("the load was ended before"))?;
        thread.join().map_err(|_| anyhow!("the producer panicked"))?
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Sender {
    options: LoadOptions,
    clock: Clock,
    producer: Producer,
    newest: Arc<Vec<AtomicI64>>,
}

/// What was sent to a partition and has no outcome yet.
type UnderWay = mpsc::UnboundedSender<(usize, Micros, SendFuture)>;

impl Sender {
    async fn run(self, stop: &AtomicBool) -> Result<Produced> {
        let (told, mut outcomes) = mpsc::unbounded_channel();
        let partitions: Vec<UnderWay> = (0..self.options.partitions)
            .map(|partition| {
                let (under_way, sent) = mpsc::unbounded_channel();
                let newest = Arc::clone(&self.newest);
                tokio::spawn(collect(sent, partition, newest, self.clock, told.clone()));
                under_way
            })
            .collect();
        drop(told);
        let mut sent = Vec::new();
        let mut left = 0usize;
        let (began, begun) = (Instant::now(), self.clock.now());
        let mut tick = tokio::time::interval(TICK);
        while !stop.load(Ordering::Relaxed) {
            tick.tick().await;
            let rate = f64::from(self.options.rate);
            let until = (began.elapsed().as_secs_f64() * rate) as usize;
            while sent.len() < until {
                let number = sent.len();
                let due = begun + (number as f64 / rate * 1e6) as Micros;
                let partition = number % partitions.len();
                let future = self.send(number, partition as i32);
                let _ = partitions[partition].send((number, due, future));
                let partition = partition as i32;
                sent.push(Sent { partition, due, ended: due, outcome: Outcome::Unknown });
                left += 1;
            }
            while let Ok((number, ended, outcome)) = outcomes.try_recv() {
                keep(&mut sent, number, ended, outcome);
                left -= 1;
            }
            ensure!(left < UNDER_WAY_MAX, "{left} records wait for their acknowledgement");
        }
        // Each send ends within delivery.timeout.ms.
        drop(partitions);
        while let Some((number, ended, outcome)) = outcomes.recv().await {
            keep(&mut sent, number, ended, outcome);
        }
        let stats = self.producer.stats();
        let _ = self.producer.close(Duration::from_secs(5)).await;
        Ok(Produced { sent, stats })
    }

    fn send(&self, number: usize, partition: i32) -> SendFuture {
        let value = value(0, number as u64, VALUE_LEN);
        self.producer.send(Record::to(&self.options.topic).partition(partition).value(&value))
    }
}

fn keep(sent: &mut [Sent], number: usize, ended: Micros, outcome: Outcome) {
    sent[number] = Sent { ended, outcome, ..sent[number] };
}

/// Waits for the outcomes of one partition, which come in the order of the sends.
async fn collect(
    mut sent: mpsc::UnboundedReceiver<(usize, Micros, SendFuture)>,
    partition: i32,
    newest: Arc<Vec<AtomicI64>>,
    clock: Clock,
    told: mpsc::UnboundedSender<(usize, Micros, Outcome)>,
) {
    let mut failed = 0u64;
    while let Some((number, due, future)) = sent.recv().await {
        let outcome = match future.await {
            Ok(metadata) => {
                newest[partition as usize].fetch_max(due, Ordering::Relaxed);
                metadata.offset.map_or(Outcome::Somewhere, |offset| Outcome::At(offset.0))
            }
            Err(error) => {
                failed += 1;
                if failed == 1 {
                    eprintln!("partition {partition}, record {number}: {error}");
                }
                Outcome::Unknown
            }
        };
        let _ = told.send((number, clock.now(), outcome));
    }
}
