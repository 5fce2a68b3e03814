//! Producers and consumers that record what they see, for the checker.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use consumer_client::{Consumer, ConsumerConfig, StartAt};
use futures_util::FutureExt;
use producer_client::{Producer, ProducerConfig, Record, RecordMetadata, SendError, SendFuture};
use proto::TopicPartition;
use proto::client::{Cluster, ClusterOptions};
use proto::v1::{ListOffsetsRequest, OffsetQuery};

use crate::checker::{Position, Read, Sent};

/// A producer that sends numbered values at a steady rate until it is stopped, and keeps what became
/// of each.
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    thread: JoinHandle<Result<Vec<Sent>>>,
}

/// What a [`Load`] sends and how.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Brokers to ask first.
    pub bootstrap: String,
    /// The topic.
    pub topic: String,
    /// Names the producer in the values.
    pub producer: u32,
    /// Records a second.
    pub rate: u32,
    /// Bytes of a value at least.
    pub value_len: usize,
    /// Settings of the producer.
    pub settings: Vec<(String, String)>,
}

impl LoadOptions {
    /// 2,000 records a second of 100 bytes.
    pub fn new(bootstrap: &str, topic: &str, producer: u32) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            topic: topic.to_owned(),
            producer,
            rate: 2_000,
            value_len: 100,
            settings: Vec::new(),
        }
    }

    /// Adds a setting of the producer.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// How long a broker that was away may take to lead again.
const LEADERS_WITHIN: Duration = Duration::from_secs(20);

/// `<producer>:<number>`, padded.
pub fn value(producer: u32, number: u64, len: usize) -> String {
    let mut value = format!("{producer}:{number}:");
    while value.len() < len {
        value.push('.');
    }
    value
}

/// The producer and the number of a value made by [`value`].
pub fn parse_value(value: &[u8]) -> Result<(u32, u64)> {
    let text = std::str::from_utf8(value)?;
    let mut parts = text.split(':');
    let mut part = || parts.next().with_context(|| format!("not a test value: {text:?}"));
    Ok((part()?.parse()?, part()?.parse()?))
}

impl Load {
    /// Starts sending.
    pub fn start(options: LoadOptions) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let failed = Arc::new(AtomicU64::new(0));
        let mut config = ProducerConfig::new(options.bootstrap.split(','));
        for (key, value) in &options.settings {
            config.set(key, value)?;
        }
        let producer = Producer::start(config)?;
        let mut sender = Sender {
            options,
            producer,
            under_way: VecDeque::new(),
            sent: Vec::new(),
            acknowledged: Arc::clone(&acknowledged),
            failed: Arc::clone(&failed),
        };
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            sender.run(&stopping)?;
            Ok(sender.sent)
        });
        Ok(Self { stop, acknowledged, failed, thread })
    }

    /// Records acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Records that failed so far.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Waits until `more` records were acknowledged from now on.
    pub fn wait_for_more(&self, more: u64, limit: Duration) -> Result<()> {
        let target = self.acknowledged() + more;
        let deadline = Instant::now() + limit;
        while self.acknowledged() < target {
            ensure!(!self.thread.is_finished(), "the producer ended");
            let missing = target - self.acknowledged();
            ensure!(Instant::now() < deadline, "{missing} of {more} records not acknowledged");
            nap(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Stops sending, waits for every outcome, and gives the history.
    pub fn stop(self) -> Result<Vec<Sent>> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(history) => history,
            Err(_) => bail!("the producer panicked"),
        }
    }
}

/// Waits for other processes, whose progress no condition variable tells.
pub fn nap(time: Duration) {
    #[allow(clippy::disallowed_methods, reason = "paces a load; waits for other processes")]
    std::thread::sleep(time);
}

struct Sender {
    options: LoadOptions,
    producer: Producer,
    under_way: VecDeque<(usize, SendFuture)>,
    sent: Vec<Sent>,
    acknowledged: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

impl Sender {
    fn run(&mut self, stop: &AtomicBool) -> Result<()> {
        let started = Instant::now();
        let mut number = 0u64;
        while !stop.load(Ordering::Relaxed) {
            let due = (started.elapsed().as_secs_f64() * f64::from(self.options.rate)) as u64;
            while number < due {
                self.send(number);
                number += 1;
            }
            while let Some((index, future)) = self.under_way.front_mut() {
                let Some(outcome) = future.now_or_never() else { break };
                let index = *index;
                self.under_way.pop_front();
                self.keep(index, outcome);
            }
            nap(Duration::from_millis(1));
        }
        for (index, future) in std::mem::take(&mut self.under_way) {
            self.keep(index, future.wait());
        }
        let _ = self.producer.close(Duration::from_secs(5)).wait();
        Ok(())
    }

    fn send(&mut self, number: u64) {
        let value = value(self.options.producer, number, self.options.value_len);
        let key = number.to_string();
        let record = Record::to(&self.options.topic).key(&key).value(&value);
        self.under_way.push_back((self.sent.len(), self.producer.send(record)));
        self.sent.push(Sent { producer: self.options.producer, number, acknowledged: None });
    }

    fn keep(&mut self, index: usize, outcome: Result<RecordMetadata, SendError>) {
        match outcome {
            Ok(RecordMetadata { partition, offset: Some(offset), .. }) => {
                self.sent[index].acknowledged = Some(Position { partition, offset: offset.0 });
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(error) => {
                if self.failed.fetch_add(1, Ordering::Relaxed) == 0 {
                    eprintln!("producer {}: {error}", self.options.producer);
                }
            }
        }
    }
}

/// Log start and high watermark of each partition.
pub async fn bounds(bootstrap: &str, topic: &str, partitions: i32) -> Result<Vec<(i64, i64)>> {
    let cluster = Cluster::new(ClusterOptions::new(bootstrap.split(',')));
    // A broker that was away is a leader again as soon as the controller has seen it.
    let view = crate::eventually("every partition has a leader", LEADERS_WITHIN, async || {
        cluster.refresh(&[topic]).await?;
        let view = cluster.topic(topic).await?.context("the topic is not in the metadata")?;
        Ok(view.partitions.iter().all(|partition| partition.leader.is_some()).then_some(view))
    })
    .await?;
    let mut bounds = Vec::new();
    for partition in 0..partitions {
        let leader = view.partitions[partition as usize].leader.context("no leader")?;
        let connection = cluster.connection(leader).await?;
        let query = |timestamp_ms| OffsetQuery {
            topic: topic.to_owned(),
            topic_id: view.id.to_bytes(),
            partition,
            timestamp_ms,
        };
        let request = ListOffsetsRequest { queries: vec![query(-2), query(-1)] };
        let answers = proto::v1::log_client::LogClient::new(connection)
            .list_offsets(request)
            .await?
            .into_inner()
            .answers;
        for answer in &answers {
            ensure!(answer.error.is_none(), "{topic}-{partition}: {:?}", answer.error);
        }
        bounds.push((answers[0].offset, answers[1].offset));
    }
    Ok(bounds)
}

/// Reads a whole topic by explicit assignment, from its start to the high watermarks of now.
pub fn read_all(bootstrap: &str, topic: &str, partitions: i32) -> Result<Vec<Read>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bounds = runtime.block_on(bounds(bootstrap, topic, partitions))?;
    let mut left: i64 = bounds.iter().map(|(start, end)| end - start).sum();
    let mut consumer = Consumer::new(ConsumerConfig::new(bootstrap.split(',')))?;
    consumer
        .assign((0..partitions).map(|p| (TopicPartition::new(topic, p), StartAt::Beginning)))?;
    let mut read = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while left > 0 {
        ensure!(Instant::now() < deadline, "{left} of {bounds:?} records were not delivered");
        for record in consumer.poll(Duration::from_millis(500))?.items {
            if record.offset.0 < bounds[record.partition as usize].1 {
                left -= 1;
            }
            let (producer, number) = parse_value(record.payload())?;
            let position = Position { partition: record.partition, offset: record.offset.0 };
            read.push(Read { position, producer, number });
        }
    }
    consumer.close()?;
    Ok(read)
}
