//! What a process costs that nobody asks for anything: start-up time, memory, wake-ups; and how large
//! the executables are.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use consumer_client::{Consumer, StartAt};
use integration_tests::executable;
use producer_client::{Producer, Record};
use proto::TopicPartition;

use crate::Options;
use crate::fleet::{RECORD_LEN, consumer_config, producer_config};
use crate::point::Report;
use crate::subject::{Subject, fine_cpu_seconds, pause, sleeps};

const SERIES: &str = "start";
const STARTS: usize = 5;
/// Records of the load after which memory is looked at again.
const LOAD: u64 = 500_000;
/// Until what an allocator keeps for a while has been given back.
const AFTER_LOAD: Duration = Duration::from_secs(10);

pub(crate) fn run(options: &Options, report: &mut Report) -> Result<()> {
    for name in ["broker", "coordinator", "producer", "consumer"] {
        // Whoever builds a single one measures that one.
        if let Ok(path) = executable(name) {
            let mib = path.metadata()?.len() as f64 / (1 << 20) as f64;
            report.figure(SERIES, 0, &format!("executable {name}, MiB"), mib);
        }
    }
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(Subject::start(options)?.started.as_secs_f64() * 1e3);
    }
    starts.sort_by(f64::total_cmp);
    report.figure(SERIES, 0, "start until it serves, ms (median)", starts[STARTS / 2]);

    let subject = Subject::start(options)?;
    let idle = Duration::from_secs(options.idle_seconds);
    pause(idle);
    let mib = subject.dev.process.memory()?.mib();
    report.figure(SERIES, 0, "broker dev idle, MiB", mib);
    wake_ups("broker dev idle", subject.process(), idle, report)?;
    let (producer, consumer) = load(&subject)?;
    let mib = subject.dev.process.memory()?.mib();
    report.figure(SERIES, 0, "broker dev right after a load, MiB", mib);
    pause(AFTER_LOAD);
    let mib = subject.dev.process.memory()?.mib();
    report.figure(SERIES, 0, "broker dev 10 s after a load, MiB", mib);
    wake_ups("broker dev with two idle clients", subject.process(), idle, report)?;
    wake_ups("one idle producer, one idle consumer", std::process::id(), idle, report)?;
    drop((producer, consumer));
    Ok(())
}

/// Sends, reads all of it, and leaves both clients waiting.
fn load(subject: &Subject) -> Result<(Producer, Consumer)> {
    subject.create_topic("load", 1)?;
    let producer = Producer::start(producer_config(&subject.dev.bootstrap)?)?;
    for _ in 0..LOAD {
        producer.send_detached(Record::to("load").value(&[b'x'; RECORD_LEN]))?;
    }
    producer.flush().wait()?;
    let mut consumer = Consumer::new(consumer_config(&subject.dev.bootstrap)?)?;
    consumer.assign([(TopicPartition::new("load", 0), StartAt::Beginning)])?;
    let mut seen = 0;
    while seen < LOAD {
        let polled = consumer.poll_batches(Duration::from_secs(10))?;
        seen += polled.items.iter().map(|batch| batch.records().count() as u64).sum::<u64>();
    }
    Ok((producer, consumer))
}

/// How often the threads of a process wake up, and what CPU time that takes.
fn wake_ups(who: &str, process: u32, watched: Duration, report: &mut Report) -> Result<()> {
    let (before, cpu) = (sleeps(process)?, fine_cpu_seconds(process)?);
    pause(watched);
    let (after, cpu) = (sleeps(process)?, fine_cpu_seconds(process)? - cpu);
    let seconds = watched.as_secs_f64();
    let mut by_name: BTreeMap<&str, i64> = BTreeMap::new();
    for (name, count) in &after {
        *by_name.entry(name).or_default() += i64::try_from(*count).context("a count")?;
    }
    for (name, count) in &before {
        *by_name.entry(name).or_default() -= i64::try_from(*count).context("a count")?;
    }
    let total = by_name.values().sum::<i64>() as f64 / seconds;
    report.figure(SERIES, 0, &format!("{who}: wake-ups/s"), total);
    report.figure(SERIES, 0, &format!("{who}: CPU ms/s"), cpu * 1e3 / seconds);
    for (name, count) in by_name.into_iter().filter(|(_, count)| *count > 0) {
        let name = format!("{who}: wake-ups/s of thread {name}");
        report.figure(SERIES, 0, &name, count as f64 / seconds);
    }
    Ok(())
}
