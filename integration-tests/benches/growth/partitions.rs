//! One topic of more and more partitions, the same records spread over them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use consumer_client::{Consumer, StartAt};
use producer_client::{Producer, Record};
use proto::TopicPartition;

use crate::Options;
use crate::fleet::{RECORD_LEN, consumer_config, producer_config};
use crate::point::Report;
use crate::subject::{Subject, Used, fine_cpu_seconds, pause};

const SERIES: &str = "partitions";
/// Records in a row to one partition.
const RUN: u64 = 100;
/// Memory of fewer is lost in what the allocator rounds up.
const MEMORY_FROM: u32 = 100;
const IDLE: Duration = Duration::from_secs(5);
const STALL_LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn run(options: &Options, report: &mut Report) -> Result<()> {
    for &count in &options.partitions {
        let subject = Subject::start(options)?;
        point(&subject, count, options.records, report)?;
    }
    Ok(())
}

fn point(subject: &Subject, count: u32, records: u64, report: &mut Report) -> Result<()> {
    let (at, units) = (u64::from(count), f64::from(count));
    // The first topic also costs what every topic after it finds there.
    subject.create_topic("warm-up", 1)?;
    let (kib, descriptors) = (subject.settled_kib()?, subject.descriptors()?);
    let seconds = subject.create_topic("many", count)?;
    report.cost(SERIES, at, "create, ms/partition", seconds * 1e3 / units);
    if count >= MEMORY_FROM {
        let grown = subject.settled_kib()? - kib;
        report.cost(SERIES, at, "memory when empty, KiB/partition", grown / units);
    }
    let used = produce(subject, count, records)?;
    told(report, at, "produce", records, &used);
    let used = drain(subject, count, records)?;
    told(report, at, "drain", records, &used);
    if count >= MEMORY_FROM {
        let grown = subject.settled_kib()? - kib;
        report.cost(SERIES, at, "memory when written, KiB/partition", grown / units);
    }
    let opened = subject.descriptors()? as f64 - descriptors as f64;
    report.figure(SERIES, at, "descriptors/partition", opened / units);
    let before = fine_cpu_seconds(subject.process())?;
    pause(IDLE);
    let idle = fine_cpu_seconds(subject.process())? - before;
    report.figure(SERIES, at, "broker when idle, CPU ms/s", idle * 1e3 / IDLE.as_secs_f64());
    let seconds = subject.delete_topic("many")?;
    report.cost(SERIES, at, "delete, ms/partition", seconds * 1e3 / units);
    Ok(())
}

/// Rate and cost of each record.
fn told(report: &mut Report, at: u64, what: &str, records: u64, used: &Used) {
    let million = records as f64 / 1e6;
    report.figure(SERIES, at, &format!("{what}, records/s"), records as f64 / used.seconds);
    report.cost(SERIES, at, &format!("{what}, broker CPU s/M"), used.broker_cpu / million);
    report.cost(SERIES, at, &format!("{what}, client CPU s/M"), used.client_cpu / million);
    report.figure(SERIES, at, &format!("{what}, broker MiB at peak"), used.peak_kib / 1024.0);
}

fn produce(subject: &Subject, count: u32, records: u64) -> Result<Used> {
    let producer = Producer::start(producer_config(&subject.dev.bootstrap)?)?;
    let value = [b'x'; RECORD_LEN];
    let watch = subject.watch()?;
    for i in 0..records {
        let partition = (i / RUN) % u64::from(count);
        producer.send_detached(Record::to("many").value(&value).partition(partition as i32))?;
    }
    producer.flush().wait()?;
    let used = watch.stop()?;
    producer.close(Duration::from_secs(10)).wait()?;
    Ok(used)
}

fn drain(subject: &Subject, count: u32, records: u64) -> Result<Used> {
    let mut consumer = Consumer::new(consumer_config(&subject.dev.bootstrap)?)?;
    let watch = subject.watch()?;
    let all = (0..count).map(|partition| {
        (TopicPartition::new("many", partition.cast_signed()), StartAt::Beginning)
    });
    consumer.assign(all)?;
    let (mut seen, mut last) = (0, Instant::now());
    while seen < records {
        for batch in &consumer.poll_batches(Duration::from_secs(1))?.items {
            seen += batch.records().count() as u64;
            last = Instant::now();
        }
        ensure!(last.elapsed() < STALL_LIMIT, "nothing came after {seen} records");
    }
    let used = watch.stop()?;
    consumer.close()?;
    Ok(used)
}
