//! From `send` in one process to the record in the hand of another, at a steady rate.
//!
//! Each value begins with the wall-clock nanoseconds of its send; both processes read the same clock.
//! The sender sleeps between records (spinning would take a core from what is measured), and how far
//! it fell behind its schedule is reported beside the result.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use consumer_client::{Consumer, StartAt};
use producer_client::{Producer, Record};
use proto::TopicPartition;
use serde_json::{Value, json};

use crate::consume::judge;
use crate::load::Values;
use crate::meter::{Meter, histogram, merge, note, percentiles};
use crate::task::Client;

const STAMP_LEN: usize = 8;
/// The first records are not counted: connections are made, caches fill.
const WARM_UP: Duration = Duration::from_secs(1);

fn wall_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_nanos() as u64)
}

/// Records the sender sends, warm-up included.
pub(crate) fn records(rate: u64, seconds: u64) -> u64 {
    rate * seconds
}

#[allow(clippy::disallowed_methods, reason = "a load generator waits for moments, not conditions")]
fn sleep(span: Duration) {
    std::thread::sleep(span);
}

/// Sends at `rate` for `seconds`.
pub(crate) fn produce(client: &Client, rate: u64, seconds: u64) -> Result<Value> {
    let values = Values::new();
    let producer = Producer::start(crate::produce::config(client)?)?;
    let total = records(rate, seconds);
    let mut behind = histogram();
    let mut value = Vec::new();
    let meter = Meter::start()?;
    let start = Instant::now();
    for i in 0..total {
        let due = Duration::from_nanos(i * 1_000_000_000 / rate);
        while let Some(left) = due.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            sleep(left);
        }
        note(&mut behind, start.elapsed() - due);
        value.clear();
        value.extend_from_slice(&wall_nanos().to_le_bytes());
        value.extend_from_slice(&values.of(i)[STAMP_LEN..]);
        producer.send_detached(Record::to(&client.topic).value(&value))?;
    }
    producer.flush().wait()?;
    let mut measured = meter.stop(total);
    merge(&mut measured, json!({ "sender_behind": percentiles(&behind) }));
    Ok(measured)
}

/// Reads `records` from the beginning; prints a line when it is ready.
pub(crate) fn consume(client: &Client, records: u64) -> Result<Value> {
    let mut consumer = Consumer::new(crate::consume::config(client)?)?;
    consumer.assign([(TopicPartition::new(client.topic.as_str(), 0), StartAt::Beginning)])?;
    // Connects and asks for the first time.
    consumer.poll_batches(Duration::from_millis(300))?;
    println!("{}", json!({ "ready": true }));
    let mut spans = histogram();
    let mut first = None;
    let mut seen = 0;
    let meter = Meter::start()?;
    while seen < records {
        let polled = consumer.poll_batches(Duration::from_secs(10))?;
        judge(&polled.events)?;
        ensure!(!polled.is_empty(), "nothing came after {seen} records");
        let now = wall_nanos();
        for batch in &polled.items {
            for record in batch.records() {
                let record = record?;
                ensure!(record.offset.0 == seen as i64, "offset {:?} at {seen}", record.offset);
                let stamp = record.value.and_then(|value| value.first_chunk::<STAMP_LEN>());
                let sent = u64::from_le_bytes(*stamp.context("a value without a stamp")?);
                let begin = *first.get_or_insert(sent);
                if sent - begin >= WARM_UP.as_nanos() as u64 {
                    note(&mut spans, Duration::from_nanos(now.saturating_sub(sent)));
                }
                seen += 1;
            }
        }
    }
    let mut measured = meter.stop(seen);
    merge(&mut measured, percentiles(&spans));
    consumer.close()?;
    Ok(measured)
}
