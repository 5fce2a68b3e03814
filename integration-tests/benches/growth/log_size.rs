//! A log that grows: appending to it, reading its tail, and reading its tail while somebody else reads
//! all of it from the beginning.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use consumer_client::{Consumer, ConsumerConfig, StartAt};
use hdrhistogram::Histogram;
use producer_client::{Producer, ProducerConfig, Record};
use proto::TopicPartition;

use crate::Options;
use crate::fleet::{consumer_config, producer_config};
use crate::meter::{histogram, note};
use crate::point::Report;
use crate::subject::{Subject, pause};

const SERIES: &str = "log size";
const TOPIC: &str = "growing";
/// Bytes of the records that make the log grow.
const FILLING: usize = 1000;
/// Records a second of the tail, and their bytes: a stamp first.
const RATE: u64 = 2000;
const PACED: usize = 200;
const STAMP: usize = 8;
/// Not counted at the begin of a tail.
const WARM_UP: Duration = Duration::from_millis(500);

pub(crate) fn run(options: &Options, report: &mut Report) -> Result<()> {
    let subject = Subject::start(options)?;
    subject.create_topic(TOPIC, 1)?;
    let mut bytes = 0;
    for &gb in &options.log_sizes {
        let at = u64::from(gb);
        let grow = (at * 1_000_000_000).saturating_sub(bytes);
        append(&subject, at, grow, report)?;
        bytes += grow;
        nix::unistd::sync();
        let alone = tail(&subject, options.tail_seconds)?;
        let us = |at: u64| at as f64 / 10.0;
        let of = |histogram: &Histogram<u64>, quantile| us(histogram.value_at_quantile(quantile));
        report.figure(SERIES, at, "tail p50, µs", of(&alone, 0.5));
        report.cost(SERIES, at, "tail p99, µs", of(&alone, 0.99));
        let replay = Replay::start(&subject, at)?;
        let disturbed = tail(&subject, options.tail_seconds)?;
        let (rate, kib) = replay.stop()?;
        report.figure(SERIES, at, "tail p99 beside a replay, µs", of(&disturbed, 0.99));
        let ratio = of(&disturbed, 0.99) / of(&alone, 0.99).max(0.1);
        report.figure(SERIES, at, "tail p99 beside a replay / alone", ratio);
        report.figure(SERIES, at, "replay, MB/s", rate);
        report.cost(SERIES, at, "broker memory beside a replay, KiB", kib);
    }
    Ok(())
}

fn append(subject: &Subject, at: u64, bytes: u64, report: &mut Report) -> Result<()> {
    let producer = Producer::start(producer_config(&subject.dev.bootstrap)?)?;
    let value = [b'x'; FILLING];
    let watch = subject.watch()?;
    for _ in 0..bytes / FILLING as u64 {
        producer.send_detached(Record::to(TOPIC).value(&value))?;
    }
    producer.flush().wait()?;
    let used = watch.stop()?;
    producer.close(Duration::from_secs(10)).wait()?;
    let gb = bytes as f64 / 1e9;
    report.figure(SERIES, at, "append, MB/s", gb * 1e3 / used.seconds);
    report.cost(SERIES, at, "append, broker CPU s/GB", used.broker_cpu / gb);
    Ok(())
}

/// From `send` to the record in a consumer's hand, at a steady rate.
fn tail(subject: &Subject, seconds: u64) -> Result<Histogram<u64>> {
    let mut config = consumer_config(&subject.dev.bootstrap)?;
    config.set("fetch.max.wait.ms", "500")?;
    let consumer = Consumer::new(config)?;
    let mut producing = producer_config(&subject.dev.bootstrap)?;
    producing.set("linger.ms", "0")?;
    let total = RATE * seconds;
    let reading = std::thread::spawn(move || read_tail(consumer, total));
    send_paced(producing, total)?;
    reading.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?
}

fn wall_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_nanos() as u64)
}

fn send_paced(config: ProducerConfig, total: u64) -> Result<()> {
    let producer = Producer::start(config)?;
    // The reader finds the end before anything is sent.
    pause(WARM_UP);
    let start = Instant::now();
    let mut value = [0; PACED];
    for i in 0..total {
        let due = Duration::from_nanos(i * 1_000_000_000 / RATE);
        while let Some(left) = due.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            pause(left);
        }
        value[..STAMP].copy_from_slice(&wall_nanos().to_le_bytes());
        producer.send_detached(Record::to(TOPIC).value(&value))?;
    }
    producer.flush().wait()?;
    producer.close(Duration::from_secs(10)).wait()?;
    Ok(())
}

fn read_tail(mut consumer: Consumer, total: u64) -> Result<Histogram<u64>> {
    consumer.assign([(TopicPartition::new(TOPIC, 0), StartAt::End)])?;
    let (mut spans, mut seen, mut first) = (histogram(), 0, None);
    while seen < total {
        let polled = consumer.poll_batches(Duration::from_secs(30))?;
        ensure!(!polled.items.is_empty() || seen == 0, "nothing came after {seen} records");
        let now = wall_nanos();
        for batch in &polled.items {
            for record in batch.records() {
                let stamp = record?.value.and_then(|value| value.first_chunk::<STAMP>());
                let sent = u64::from_le_bytes(*stamp.context("a record without a stamp")?);
                let begin = *first.get_or_insert(sent);
                if sent - begin >= WARM_UP.as_nanos() as u64 {
                    note(&mut spans, Duration::from_nanos(now.saturating_sub(sent)));
                }
                seen += 1;
            }
        }
    }
    consumer.close()?;
    Ok(spans)
}

/// A consumer that reads the log from its beginning, again and again, until stopped.
struct Replay {
    stop: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    start: Instant,
    watch: crate::subject::Watch,
    thread: JoinHandle<Result<()>>,
}

impl Replay {
    fn start(subject: &Subject, gb: u64) -> Result<Self> {
        let (stop, bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let config = consumer_config(&subject.dev.bootstrap)?;
        let watch = subject.watch()?;
        let thread = std::thread::spawn({
            let (stop, bytes) = (Arc::clone(&stop), Arc::clone(&bytes));
            move || replay(&config, gb * 900_000_000, &stop, &bytes)
        });
        Ok(Self { stop, bytes, start: Instant::now(), watch, thread })
    }

    /// MB/s, and KiB of the broker at its peak.
    fn stop(self) -> Result<(f64, f64)> {
        self.stop.store(true, Ordering::Relaxed);
        let seconds = self.start.elapsed().as_secs_f64();
        let mb = self.bytes.load(Ordering::Relaxed) as f64 / 1e6;
        let used = self.watch.stop()?;
        self.thread.join().map_err(|_| anyhow::anyhow!("the replay panicked"))??;
        Ok((mb / seconds, used.peak_kib))
    }
}

fn replay(
    config: &ConsumerConfig,
    log_bytes: u64,
    stop: &AtomicBool,
    bytes: &AtomicU64,
) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let mut consumer = Consumer::new(config.clone())?;
        consumer.assign([(TopicPartition::new(TOPIC, 0), StartAt::Beginning)])?;
        let mut read = 0;
        // Not to its end: there it would be one more tail.
        while read < log_bytes && !stop.load(Ordering::Relaxed) {
            let polled = consumer.poll_batches(Duration::from_secs(1))?;
            let got: u64 = polled.items.iter().map(|batch| batch.bytes().len() as u64).sum();
            read += got;
            bytes.fetch_add(got, Ordering::Relaxed);
        }
        consumer.close()?;
    }
    Ok(())
}
