//! The figures of one system in one round, in their order.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::Options;
use crate::client::{Order, Running, Task, call};
use crate::install::Programs;
use crate::machine::busy_seconds;
use crate::report::Figure;
use crate::server::Server;
use crate::system::System;

/// Bytes of every value.
pub(crate) const VALUE_LEN: usize = 200;
/// Different values: 8 MB, more than the second-level caches hold.
pub(crate) const LINES: usize = 40_000;
/// Sent and read before anything is measured: virtual machines compile what runs often.
const WARM_UP_RECORDS: u64 = 300_000;

pub(crate) fn system(
    options: &Options,
    programs: &Programs,
    system: System,
    round: usize,
    values: &Path,
) -> Result<Vec<Figure>> {
    let folder = tempfile::Builder::new().prefix("peers-").tempdir_in(&options.data)?;
    let server = Server::start(options, programs, system, folder.path())?;
    let values = values.display().to_string();
    let mut run = Run { options, programs, system, round, server, values, figures: Vec::new() };
    let done = run.all();
    done.with_context(|| format!("the server's log ends:\n{}", run.server.log_tail()))?;
    Ok(run.figures)
}

struct Run<'a> {
    options: &'a Options,
    programs: &'a Programs,
    system: System,
    round: usize,
    server: Server,
    values: String,
    figures: Vec<Figure>,
}

impl Run<'_> {
    fn all(&mut self) -> Result<()> {
        for stream in ["warm-up", "measured", "trips", "paced"] {
            let flush = if self.options.durable { "before-ack" } else { "os" };
            if !self.server.create_topic(stream, flush)? {
                self.call(Task::Create, stream, 0)?;
            }
        }
        self.call(Task::Produce, "warm-up", WARM_UP_RECORDS.min(self.options.records))?;
        self.call(Task::Drain, "warm-up", WARM_UP_RECORDS.min(self.options.records))?;
        let before = self.server.bytes_on_disk();
        self.measure("produce", |run| run.call(Task::Produce, "measured", run.options.records))?;
        let bytes = self.server.bytes_on_disk().saturating_sub(before);
        if let Some(figure) = self.figures.last_mut() {
            figure.disk_bytes_per_record = Some(bytes as f64 / self.options.records as f64);
        }
        self.measure("drain", |run| run.call(Task::Drain, "measured", run.options.records))?;
        self.measure("one in flight", |run| {
            run.call(Task::Trip, "trips", run.options.round_trips)
        })?;
        self.measure("end to end", Self::paced)
    }

    fn order(&self, task: Task, stream: &str, count: u64) -> Order {
        let (address, values) = (self.server.address.clone(), self.values.clone());
        Order { task, address, stream: stream.to_owned(), values, count, rate: self.options.rate }
    }

    fn call(&self, task: Task, stream: &str, count: u64) -> Result<Value> {
        call(self.system, self.programs, &self.order(task, stream, count))
            .with_context(|| format!("{task:?} of {stream}"))
    }

    fn paced(&self) -> Result<Value> {
        let count = self.options.rate * self.options.seconds;
        let follow = self.order(Task::Follow, "paced", count);
        let mut reader = Running::start(self.system, self.programs, &follow)?;
        reader.line().context("the reader's ready line")?;
        let sent = self.call(Task::Pace, "paced", count)?;
        let mut measured = reader.finish()?;
        let both = ["client_cpu_seconds"].map(|key| {
            let of = |value: &Value| value[key].as_f64().unwrap_or_default();
            of(&sent) + of(&measured)
        });
        measured["client_cpu_seconds"] = both[0].into();
        measured["sender_behind_p99_us"] = sent["sender_behind"]["p99_us"].clone();
        Ok(measured)
    }

    fn measure(&mut self, figure: &str, work: impl FnOnce(&Self) -> Result<Value>) -> Result<()> {
        // What was written before goes to the disk now, not meanwhile.
        nix::unistd::sync();
        let meter = self.server.meter();
        let (busy, began) = (busy_seconds(), Instant::now());
        let measured = work(self)?;
        let (busy, elapsed) = (busy_seconds() - busy, began.elapsed().as_secs_f64());
        let used = meter.read();
        let number = |key: &str| measured[key].as_f64();
        let records = number("records").context("no records")?;
        let seconds = number("seconds").context("no seconds")?;
        let client = number("client_cpu_seconds").context("no CPU seconds")?;
        let is_about_rate = number("p50_us").is_none();
        self.figures.push(Figure {
            system: self.system,
            round: self.round,
            figure: figure.to_owned(),
            durable: self.options.durable,
            records: records as u64,
            records_per_s: is_about_rate.then_some(records / seconds),
            p50_us: number("p50_us"),
            p99_us: number("p99_us"),
            p99_9_us: number("p99_9_us"),
            sender_behind_p99_us: number("sender_behind_p99_us"),
            server_cpu_s_per_m: used.cpu_s / records * 1e6,
            client_cpu_s_per_m: client / records * 1e6,
            server_memory_mib: used.memory_mib,
            disk_bytes_per_record: None,
            server_ready_ms: self.server.ready_ms,
            other_cores: ((busy - used.cpu_s - client) / elapsed).max(0.0),
        });
        Ok(())
    }
}
