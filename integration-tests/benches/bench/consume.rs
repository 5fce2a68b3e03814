//! The consumer's side of a figure: everything from the beginning, every record checked.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use consumer_client::{Consumer, ConsumerConfig, Event, StartAt};
use proto::TopicPartition;
use serde_json::Value;

use crate::load::{Load, Verifier};
use crate::meter::Meter;
use crate::task::Client;

/// Nothing for so long is an error.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// The settings of `client`.
pub(crate) fn config(client: &Client) -> Result<ConsumerConfig> {
    let mut config = ConsumerConfig::new([client.bootstrap.as_str()]);
    for setting in &client.settings {
        let (key, value) = setting.split_once('=').context("KEY=VALUE")?;
        config.set(key, value)?;
    }
    Ok(config)
}

/// Only what is expected may happen.
pub(crate) fn judge(events: &[Event]) -> Result<()> {
    let bad = events.iter().find(|event| !matches!(event, Event::PartitionsAssigned(_)));
    match bad {
        Some(event) => bail!("an event that a benchmark does not expect: {event:?}"),
        None => Ok(()),
    }
}

/// Reads `partitions`, into which producers sent `loads`, as whole batches with borrowed records, or as
/// owned records.
pub(crate) fn run(
    client: &Client,
    loads: &[Load],
    partitions: Range<i32>,
    owned: bool,
) -> Result<Value> {
    let mut verifier = Verifier::of(loads, partitions.clone())?;
    let mut consumer = Consumer::new(config(client)?)?;
    let meter = Meter::start()?;
    let all = partitions.map(|partition| {
        (TopicPartition::new(client.topic.as_str(), partition), StartAt::Beginning)
    });
    consumer.assign(all)?;
    let mut last = Instant::now();
    while !verifier.is_done() {
        let before = verifier.seen;
        if owned {
            let polled = consumer.poll(Duration::from_secs(1))?;
            judge(&polled.events)?;
            for record in &polled.items {
                verifier.check(record.partition, record.offset.0, record.value.as_deref())?;
            }
        } else {
            let polled = consumer.poll_batches(Duration::from_secs(1))?;
            judge(&polled.events)?;
            for batch in &polled.items {
                let partition = batch.partition().partition;
                for record in batch.records() {
                    let record = record?;
                    verifier.check(partition, record.offset.0, record.value)?;
                }
            }
        }
        if verifier.seen > before {
            last = Instant::now();
        }
        ensure!(last.elapsed() < STALL_LIMIT, "nothing came after {} records", verifier.seen);
    }
    let measured = meter.stop(verifier.seen);
    ensure!(verifier.seen == verifier.due, "more records came than were sent");
    consumer.close()?;
    Ok(measured)
}
