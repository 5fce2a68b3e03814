//! More and more producers to ten partitions, then more and more consumers of ten partitions; the same
//! number of records sent, and of records delivered, or more where each would get but a few.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::Options;
use crate::fleet::{consume, consumers, produce, producers, runtime};
use crate::point::Report;
use crate::subject::{Subject, fine_cpu_seconds, pause};

const SERIES: &str = "clients";
const PARTITIONS: u32 = 10;
/// Memory of fewer is lost in what the allocator rounds up.
const MEMORY_FROM: u32 = 100;
/// Each consumer gets so many, or reading is over before it has begun.
const CONSUMED_LEAST: u64 = 20_000;
const IDLE: Duration = Duration::from_secs(5);

pub(crate) fn run(options: &Options, report: &mut Report) -> Result<()> {
    for &count in &options.clients {
        sending(options, count, report)?;
        receiving(options, count, report)?;
    }
    Ok(())
}

fn sending(options: &Options, count: u32, report: &mut Report) -> Result<()> {
    let (at, units, records) = (u64::from(count), f64::from(count), options.records);
    let subject = Subject::start(options)?;
    subject.create_topic("sent", PARTITIONS)?;
    let kib = subject.settled_kib()?;
    let runtime = runtime()?;
    let own = crate::subject::own_kib()?;
    let start = Instant::now();
    let all = runtime.block_on(producers(&subject.dev.bootstrap, "sent", count, PARTITIONS))?;
    let seconds = start.elapsed().as_secs_f64();
    report.cost(SERIES, at, "producers: start to first answer, ms each", seconds * 1e3 / units);
    if count >= MEMORY_FROM {
        let grown = subject.settled_kib()? - kib;
        report.cost(SERIES, at, "producers: broker memory, KiB each", grown / units);
        let grown = crate::subject::own_kib()? - own;
        report.cost(SERIES, at, "producers: own memory, KiB each", grown / units);
    }
    let watch = subject.watch()?;
    runtime.block_on(produce(&all, "sent", PARTITIONS, records))?;
    let used = watch.stop()?;
    let million = (records / at * at) as f64 / 1e6;
    report.figure(SERIES, at, "produce, records/s", million * 1e6 / used.seconds);
    report.cost(SERIES, at, "produce, broker CPU s/M", used.broker_cpu / million);
    report.cost(SERIES, at, "produce, client CPU s/M", used.client_cpu / million);
    report.figure(SERIES, at, "produce, broker MiB at peak", used.peak_kib / 1024.0);
    idle(&subject, at, "producers", report)
}

fn receiving(options: &Options, count: u32, report: &mut Report) -> Result<()> {
    let (at, units, records) = (u64::from(count), f64::from(count), options.records);
    let subject = Subject::start(options)?;
    let partitions = count.min(PARTITIONS);
    subject.create_topic("read", partitions)?;
    let runtime = runtime()?;
    // The first of each partition is the producer's.
    let each = (records / at).max(CONSUMED_LEAST);
    runtime.block_on(async {
        let all = producers(&subject.dev.bootstrap, "read", partitions, partitions).await?;
        produce(&all, "read", partitions, (each - 1) * u64::from(partitions)).await
    })?;
    let kib = subject.settled_kib()?;
    let own = crate::subject::own_kib()?;
    let bootstrap = &subject.dev.bootstrap;
    let start = Instant::now();
    let all = runtime.block_on(consumers(bootstrap, "read", count, partitions))?;
    let seconds = start.elapsed().as_secs_f64();
    report.cost(SERIES, at, "consumers: start to first answer, ms each", seconds * 1e3 / units);
    let watch = subject.watch()?;
    let all = runtime.block_on(consume(all, "read", partitions, each))?;
    let used = watch.stop()?;
    let million = (each * at) as f64 / 1e6;
    report.figure(SERIES, at, "consume, records/s", million * 1e6 / used.seconds);
    report.cost(SERIES, at, "consume, broker CPU s/M", used.broker_cpu / million);
    report.cost(SERIES, at, "consume, client CPU s/M", used.client_cpu / million);
    report.figure(SERIES, at, "consume, broker MiB at peak", used.peak_kib / 1024.0);
    if count >= MEMORY_FROM {
        let grown = subject.settled_kib()? - kib;
        report.cost(SERIES, at, "consumers: broker memory, KiB each", grown / units);
        let grown = crate::subject::own_kib()? - own;
        report.cost(SERIES, at, "consumers: own memory, KiB each", grown / units);
    }
    idle(&subject, at, "consumers", report)?;
    drop(all);
    Ok(())
}

/// What they cost that do nothing but wait.
fn idle(subject: &Subject, at: u64, who: &str, report: &mut Report) -> Result<()> {
    let before = fine_cpu_seconds(subject.process())?;
    pause(IDLE);
    let used = fine_cpu_seconds(subject.process())? - before;
    let name = format!("{who} idle: broker CPU ms/s");
    report.figure(SERIES, at, &name, used * 1e3 / IDLE.as_secs_f64());
    Ok(())
}
