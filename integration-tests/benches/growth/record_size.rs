//! The same bytes as fewer and larger records, one partition.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use consumer_client::{Consumer, StartAt};
use producer_client::{Producer, Record};
use proto::TopicPartition;

use crate::Options;
use crate::fleet::{consumer_config, producer_config};
use crate::point::Report;
use crate::subject::{Subject, Used};

const SERIES: &str = "record size";
const TOPIC: &str = "sized";
const STALL_LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn run(options: &Options, report: &mut Report) -> Result<()> {
    for &size in &options.record_sizes {
        let records = (u64::from(options.record_mb) * 1_000_000 / u64::from(size)).max(1);
        let subject = Subject::start(options)?;
        subject.create_topic(TOPIC, 1)?;
        let used = produce(&subject, size, records)?;
        told(report, size, "produce", records, &used);
        let used = drain(&subject, records)?;
        told(report, size, "drain", records, &used);
    }
    Ok(())
}

fn told(report: &mut Report, size: u32, what: &str, records: u64, used: &Used) {
    let (at, gb) = (u64::from(size), f64::from(size) * records as f64 / 1e9);
    report.figure(SERIES, at, &format!("{what}, MB/s"), gb * 1e3 / used.seconds);
    report.cost(SERIES, at, &format!("{what}, broker CPU s/GB"), used.broker_cpu / gb);
    report.cost(SERIES, at, &format!("{what}, client CPU s/GB"), used.client_cpu / gb);
    report.figure(SERIES, at, &format!("{what}, broker MiB at peak"), used.peak_kib / 1024.0);
}

fn produce(subject: &Subject, size: u32, records: u64) -> Result<Used> {
    let mut config = producer_config(&subject.dev.bootstrap)?;
    config.set("max.request.size", "4194304")?;
    let producer = Producer::start(config)?;
    let value: Vec<u8> = (0..size).map(|i| i as u8).collect();
    let watch = subject.watch()?;
    for _ in 0..records {
        producer.send_detached(Record::to(TOPIC).value(&value))?;
    }
    producer.flush().wait()?;
    let used = watch.stop()?;
    producer.close(Duration::from_secs(10)).wait()?;
    Ok(used)
}

fn drain(subject: &Subject, records: u64) -> Result<Used> {
    let mut consumer = Consumer::new(consumer_config(&subject.dev.bootstrap)?)?;
    let watch = subject.watch()?;
    consumer.assign([(TopicPartition::new(TOPIC, 0), StartAt::Beginning)])?;
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
