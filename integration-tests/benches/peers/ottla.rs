//! Ottla's side of the client tasks: what the Go program in `integration-tests/foreign/peers` does for
//! everybody else, with the same values, the same checks and the same clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use consumer_client::{Consumer, ConsumerConfig, Event, StartAt};
use hdrhistogram::Histogram;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use producer_client::{Producer, ProducerConfig, Record};
use proto::TopicPartition;
use serde_json::{Value, json};

use crate::client::{Order, Task};
use crate::measure::VALUE_LEN;

const STAMP_LEN: usize = 8;
/// Round trips that are not counted.
const WARM_UP_TRIPS: u64 = 500;
/// The first second of a steady rate is not counted.
const WARM_UP: Duration = Duration::from_secs(1);
/// Nothing for so long is an error.
const PATIENCE: Duration = Duration::from_secs(30);

/// Does a task in this process.
pub(crate) fn perform(text: &str) -> Result<()> {
    let order: Order = serde_json::from_str(text).context("--client")?;
    let values = Values(std::fs::read(&order.values).context("reading the values")?);
    ensure!(!values.0.is_empty() && values.0.len().is_multiple_of(VALUE_LEN), "no values");
    let measured = match order.task {
        Task::Create => bail!("topics are made by another program"),
        Task::Produce => produce(&order, &values)?,
        Task::Drain => drain(&order, &values)?,
        Task::Trip => trip(&order, &values)?,
        Task::Pace => pace(&order, &values)?,
        Task::Follow => follow(&order, &values)?,
    };
    println!("{measured}");
    Ok(())
}

/// Value `i` is the one at `i` modulo their number.
struct Values(Vec<u8>);

impl Values {
    #[inline]
    fn of(&self, i: u64) -> &[u8] {
        let at = (i * VALUE_LEN as u64 % self.0.len() as u64) as usize;
        &self.0[at..at + VALUE_LEN]
    }
}

/// Measures this process.
struct Meter {
    start: Instant,
    cpu_s: f64,
}

fn cpu_seconds() -> f64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return 0.0 };
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6
}

impl Meter {
    fn start() -> Self {
        Self { start: Instant::now(), cpu_s: cpu_seconds() }
    }

    fn stop(&self, records: u64) -> Value {
        let seconds = self.start.elapsed().as_secs_f64();
        let cpu = cpu_seconds() - self.cpu_s;
        json!({ "records": records, "seconds": seconds, "client_cpu_seconds": cpu })
    }
}

/// Spans in tenths of a microsecond, up to a minute.
struct Spans(Histogram<u64>);

impl Spans {
    fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_max(600_000_000, 3)?))
    }

    fn note(&mut self, span: Duration) {
        self.0.saturating_record((span.as_nanos() / 100) as u64);
    }

    fn add_to(&self, measured: &mut Value) {
        for (key, quantile) in [("p50_us", 0.5), ("p99_us", 0.99), ("p99_9_us", 0.999)] {
            measured[key] = json!(self.0.value_at_quantile(quantile) as f64 / 10.0);
        }
        measured["max_us"] = json!(self.0.max() as f64 / 10.0);
    }
}

fn config(order: &Order) -> ProducerConfig {
    ProducerConfig::new([order.address.as_str()])
}

/// For what does not wait for more.
fn hurried(order: &Order) -> Result<ProducerConfig> {
    let mut config = config(order);
    config.set("linger.ms", "0")?;
    Ok(config)
}

fn produce(order: &Order, values: &Values) -> Result<Value> {
    let producer = Producer::start(config(order))?;
    let meter = Meter::start();
    for i in 0..order.count {
        producer.send_detached(Record::to(&order.stream).value(values.of(i)))?;
    }
    producer.flush().wait()?;
    let measured = meter.stop(order.count);
    let stats = producer.stats();
    ensure!(stats.acknowledged == order.count, "not all were acknowledged: {stats:?}");
    producer.close(Duration::from_secs(10)).wait()?;
    Ok(measured)
}

fn trip(order: &Order, values: &Values) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let producer = Producer::builder().config(hurried(order)?).on_current_runtime().start()?;
        let mut spans = Spans::new()?;
        let mut meter = Meter::start();
        for i in 0..WARM_UP_TRIPS + order.count {
            if i == WARM_UP_TRIPS {
                meter = Meter::start();
            }
            let start = Instant::now();
            producer.send(Record::to(&order.stream).value(values.of(i))).await?;
            if i >= WARM_UP_TRIPS {
                spans.note(start.elapsed());
            }
        }
        let mut measured = meter.stop(order.count);
        spans.add_to(&mut measured);
        Ok(measured)
    })
}

fn wall_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_nanos() as u64)
}

fn pace(order: &Order, values: &Values) -> Result<Value> {
    let producer = Producer::start(hurried(order)?)?;
    let mut behind = Spans::new()?;
    let mut value = Vec::with_capacity(VALUE_LEN);
    let meter = Meter::start();
    let start = Instant::now();
    for i in 0..order.count {
        let due = Duration::from_nanos(i * 1_000_000_000 / order.rate);
        while let Some(left) = due.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            integration_tests::workload::nap(left);
        }
        behind.note(start.elapsed() - due);
        value.clear();
        value.extend_from_slice(&wall_nanos().to_le_bytes());
        value.extend_from_slice(&values.of(i)[STAMP_LEN..]);
        producer.send_detached(Record::to(&order.stream).value(&value))?;
    }
    producer.flush().wait()?;
    let mut measured = meter.stop(order.count);
    let mut late = json!({});
    behind.add_to(&mut late);
    measured["sender_behind"] = late;
    Ok(measured)
}

fn drain(order: &Order, values: &Values) -> Result<Value> {
    let meter = Meter::start();
    let mut consumer = consumer(order)?;
    let mut seen = 0;
    each(&mut consumer, order.count, |value| {
        ensure!(value == values.of(seen), "value {seen} is another one than was sent there");
        seen += 1;
        Ok(())
    })?;
    Ok(meter.stop(order.count))
}

fn follow(order: &Order, values: &Values) -> Result<Value> {
    let mut consumer = consumer(order)?;
    // Connects and asks for the first time.
    consumer.poll_batches(Duration::from_millis(300))?;
    println!("{}", json!({ "ready": true }));
    let (mut seen, mut first) = (0, None);
    let mut spans = Spans::new()?;
    let meter = Meter::start();
    each(&mut consumer, order.count, |value| {
        let now = wall_nanos();
        let (stamp, rest) = value.split_first_chunk().context("a value without a stamp")?;
        ensure!(rest == &values.of(seen)[STAMP_LEN..], "value {seen} is another one than was sent");
        let sent = u64::from_le_bytes(*stamp);
        if sent - *first.get_or_insert(sent) >= WARM_UP.as_nanos() as u64 {
            spans.note(Duration::from_nanos(now.saturating_sub(sent)));
        }
        seen += 1;
        Ok(())
    })?;
    let mut measured = meter.stop(order.count);
    spans.add_to(&mut measured);
    Ok(measured)
}

fn consumer(order: &Order) -> Result<Consumer> {
    let mut consumer = Consumer::new(ConsumerConfig::new([order.address.as_str()]))?;
    let partition = TopicPartition::new(order.stream.as_str(), 0);
    consumer.assign([(partition, StartAt::Beginning)])?;
    Ok(consumer)
}

/// Hands on `count` values, each at the offset that is due.
fn each(
    consumer: &mut Consumer,
    count: u64,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let (mut seen, mut last) = (0, Instant::now());
    while seen < count {
        let polled = consumer.poll_batches(Duration::from_secs(1))?;
        let expected = |event: &&Event| !matches!(event, Event::PartitionsAssigned(_));
        if let Some(event) = polled.events.iter().find(expected) {
            bail!("an event that a benchmark does not expect: {event:?}");
        }
        for batch in &polled.items {
            for record in batch.records() {
                let record = record?;
                ensure!(record.offset.0 == seen as i64, "offset {:?} at {seen}", record.offset);
                take(record.value.unwrap_or_default())?;
                seen += 1;
            }
            last = Instant::now();
        }
        ensure!(last.elapsed() < PATIENCE, "nothing came after {seen} values");
    }
    ensure!(seen == count, "more values came than were sent");
    Ok(())
}
