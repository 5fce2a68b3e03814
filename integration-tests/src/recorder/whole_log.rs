//! A whole topic as it stands in the end, read by our own consumer whoever wrote it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use consumer_client::{Consumer, ConsumerConfig, Record, StartAt};
use proto::TopicPartition;

use crate::checker::{FinalLog, Value};
use crate::workload::{bounds, parse_value};

/// The longest time without a record while the whole log is read.
pub(super) const READ_STALL_MAX: Duration = Duration::from_secs(30);

/// Reads a whole topic, from its start to the high watermarks of now.
pub fn read_log(bootstrap: &str, topic: &str, partitions: i32) -> Result<FinalLog> {
    let mut read = Vec::new();
    let bounds = read_records(bootstrap, topic, partitions, |record| {
        let (producer, number) = parse_value(record.payload())?;
        read.push((record.partition, record.offset.0, Value::new(producer, number)));
        Ok(())
    })?;
    let mut log = FinalLog::new();
    for (partition, &(start, _)) in (0..).zip(&bounds) {
        log.entry(partition).or_default().start = start;
    }
    for (partition, offset, value) in read {
        log.entry(partition).or_default().put(offset, value);
    }
    Ok(log)
}

/// Hands over every record of a topic, from its start to the high watermarks of now; returns both of
/// each partition.
pub fn read_records(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    mut take: impl FnMut(Record) -> Result<()>,
) -> Result<Vec<(i64, i64)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bounds = runtime.block_on(bounds(bootstrap, topic, partitions))?;
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
            if record.offset.0 < bounds[record.partition as usize].1 {
                take(record)?;
            }
        }
        let still = left.iter().map(|&p| Ok((p, read_up(p)?))).collect::<Result<Vec<_>>>()?;
        left = still.into_iter().filter(|(_, done)| !done).map(|(p, _)| p).collect();
        ensure!(last.elapsed() < READ_STALL_MAX, "nothing comes of partitions {left:?}");
    }
    consumer.close()?;
    Ok(bounds)
}
