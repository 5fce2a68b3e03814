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
use crate::load::{Load, Values};
use crate::meter::{Meter, histogram, merge, note, percentiles};
use crate::task::Client;

const STAMP_LEN: usize = 8;
/// The first records are not counted: connections are made, caches fill.
const WARM_UP: Duration = Duration::from_secs(1);

fn wall_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_nanos() as u64)
}

#[allow(clippy::disallowed_methods, reason = "a load generator waits for moments, not conditions")]
fn sleep(span: Duration) {
    std::thread::sleep(span);
}

/// Sends `load`, `rate` records a second.
pub(crate) fn produce(client: &Client, load: Load, rate: u64) -> Result<Value> {
    let values = Values::new(load);
    let producer = Producer::start(crate::produce::config(client)?)?;
    let total = load.records;
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

/// Reads `load` from the beginning, checks order and content; prints a line when it is ready.
pub(crate) fn consume(client: &Client, load: Load) -> Result<Value> {
    let values = Values::new(load);
    let records = load.records;
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
                let stamped = record.value.and_then(|value| value.split_first_chunk::<STAMP_LEN>());
                let (stamp, rest) = stamped.context("a value without a stamp")?;
                ensure!(rest == &values.of(seen)[STAMP_LEN..], "offset {seen} has another value");
                let sent = u64::from_le_bytes(*stamp);
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
