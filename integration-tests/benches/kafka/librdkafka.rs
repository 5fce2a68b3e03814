//! librdkafka's own performance tool, `rdkafka_performance`, and what it prints.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration_tests::workload::nap;

use super::tool::{Latency, Told, children_cpu_s, run};

/// How long the reader may take after the last acknowledgement.
const READER_LIMIT: Duration = Duration::from_secs(20);

/// The program that `integration-tests/foreign-clients install librdkafka` has built.
pub(crate) struct Librdkafka {
    program: PathBuf,
    partitions: i32,
    /// For files of latencies.
    dir: PathBuf,
}

/// A steady rate: one record each time, with the time of its send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) rate: u64,
    pub(crate) seconds: u64,
    pub(crate) record_size: u32,
}

impl Pace {
    pub(crate) fn records(self) -> u64 {
        self.rate * self.seconds
    }
}

impl Librdkafka {
    pub(crate) fn new(program: &Path, partitions: i32, dir: &Path) -> Result<Self> {
        ensure!(
            program.is_file(),
            "{} is missing: run integration-tests/foreign-clients install librdkafka",
            program.display()
        );
        Ok(Self { program: program.to_owned(), partitions, dir: dir.to_owned() })
    }

    fn command(&self, broker: &str, topic: &str, settings: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-b", broker, "-t", topic]);
        for setting in settings {
            command.args(["-X", setting]);
        }
        command
    }

    /// As fast as it goes.
    pub(crate) fn produce(
        &self,
        broker: &str,
        topic: &str,
        records: u64,
        record_size: u32,
        settings: &[&str],
    ) -> Result<Told> {
        let mut command = self.command(broker, topic, settings);
        command.args(["-P", "-c", &records.to_string(), "-s", &record_size.to_string()]);
        told(command, "messages produced", records)
    }

    /// All of a topic, from its start.
    pub(crate) fn consume(&self, broker: &str, topic: &str, records: u64) -> Result<Told> {
        let mut command = self.reader(broker, topic, records);
        command.args(["-X", "check.crcs=true"]);
        told(command, "bytes) consumed", records)
    }

    fn reader(&self, broker: &str, topic: &str, records: u64) -> Command {
        let mut command = self.command(broker, topic, &[]);
        command.args(["-C", "-o", "beginning", "-c", &records.to_string()]);
        for partition in 0..self.partitions {
            command.args(["-p", &partition.to_string()]);
        }
        command
    }

    /// A steady rate; how long until each record was acknowledged.
    pub(crate) fn paced(
        &self,
        broker: &str,
        topic: &str,
        pace: Pace,
        settings: &[&str],
    ) -> Result<Told> {
        let file = self.dir.join("acknowledged");
        let mut command = self.command(broker, topic, settings);
        command.args(["-P", "-l", "-c", &pace.records().to_string()]);
        command.args(["-r", &pace.rate.to_string(), "-s", &pace.record_size.to_string()]);
        command.arg("-A").arg(&file);
        let told = told(command, "messages produced", pace.records())?;
        Ok(Told { latency_ms: Some(latencies(&file, pace.rate)?), ..told })
    }

    /// A steady rate; how long until each record was in the hand of a reader, another process.
    pub(crate) fn end_to_end(
        &self,
        broker: &str,
        topic: &str,
        pace: Pace,
        settings: &[&str],
    ) -> Result<Told> {
        let file = self.dir.join("read");
        let before = children_cpu_s()?;
        let mut reader = self.reader(broker, topic, pace.records());
        reader.arg("-l").arg("-A").arg(&file).stdin(Stdio::null());
        reader.stdout(Stdio::null()).stderr(Stdio::null());
        let mut reader = Reader(reader.spawn().context("starting rdkafka_performance")?);
        let told = self.paced(broker, topic, pace, settings)?;
        reader.wait(READER_LIMIT)?;
        let client_cpu_s = children_cpu_s()? - before;
        Ok(Told { latency_ms: Some(latencies(&file, pace.rate)?), client_cpu_s, ..told })
    }
}

/// Killed where it is no longer waited for.
struct Reader(Child);

impl Reader {
    fn wait(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait()? {
                ensure!(status.success(), "the reader ended with {status}");
                return Ok(());
            }
            nap(Duration::from_millis(10));
        }
        anyhow::bail!("the reader has not all records {limit:?} after the last acknowledgement")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn told(command: Command, what: &str, records: u64) -> Result<Told> {
    let (text, client_cpu_s) = run(command)?;
    let last = text.lines().rev().find(|line| line.contains(what) && !line.contains(" 0 messages"));
    let last = last.with_context(|| format!("no totals in:\n{text}"))?;
    let told = totals(last, client_cpu_s).with_context(|| format!("not understood: {last}"))?;
    // A reader gets some more than it was asked for: what else is in the last answer.
    ensure!(told.records >= records, "{} of {records} records: {last}", told.records);
    Ok(told)
}

/// `% 200000 messages produced (40000000 bytes), 199999 delivered (offset 9, 1 failed) in 258ms: 774761
/// msgs/s and …`, or `% 200000 messages (40461600 bytes) consumed in 530ms: 381443 msgs/s (76.29 MB/s)`.
fn totals(line: &str, client_cpu_s: f64) -> Option<Told> {
    let first = |text: &str| -> Option<f64> { text.split([' ', 'm']).next()?.parse().ok() };
    let sent = line.trim_start_matches(['%', ' ']);
    let records = match line.split_once("), ") {
        Some((_, delivered)) if delivered.contains(" delivered") => first(delivered)?,
        _ => first(sent)?,
    };
    // Its own figure of records a second counts those that failed.
    let (_, time) = line.split_once(" in ")?;
    let seconds = first(time)? / 1e3;
    let records_per_s = if seconds > 0.0 { records / seconds } else { 0.0 };
    Some(Told { records: records as u64, records_per_s, latency_ms: None, client_cpu_s })
}

/// Of a file with a line of microseconds for each record; the first `skipped` are not counted.
fn latencies(file: &Path, skipped: u64) -> Result<Latency> {
    let text = std::fs::read_to_string(file).context("reading latencies")?;
    percentiles(&text, skipped as usize).with_context(|| format!("in {}", file.display()))
}

fn percentiles(text: &str, skipped: usize) -> Result<Latency> {
    let all = text.lines().skip(skipped).map(|line| Ok(line.trim().parse::<u64>()?));
    let mut micros = all.collect::<Result<Vec<_>>>()?;
    ensure!(!micros.is_empty(), "no latencies after the first {skipped}");
    micros.sort_unstable();
    let at = |quantile: f64| {
        let place = (quantile * micros.len() as f64) as usize;
        micros[place.min(micros.len() - 1)] as f64 / 1e3
    };
    Ok(Latency { p50: at(0.5), p95: at(0.95), p99: at(0.99), p999: at(0.999), max: at(1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_prints_is_understood() {
        let line = "% 200000 messages produced (40000000 bytes), 199990 delivered (offset 449999, \
                    10 failed) in 250ms: 774761 msgs/s and 154.95 MB/s, 13 produce failures, 0 in \
                    queue, no compression";
        let told = totals(line, 0.5).unwrap();
        assert_eq!((told.records, told.records_per_s), (199_990, 799_960.0));
        assert_eq!((told.client_cpu_s, told.latency_ms), (0.5, None));
        let line =
            "% 202308 messages (40461600 bytes) consumed in 500ms: 404616 msgs/s (80.9 MB/s)";
        let told = totals(line, 0.0).unwrap();
        assert_eq!((told.records, told.records_per_s), (202_308, 404_616.0));
        assert!(totals("% Average application fetch latency: 5us", 0.0).is_none());
    }

    #[test]
    fn latencies_are_counted_after_the_first_ones() {
        let text: String = (0..1_100u32).map(|i| format!("{}\n", i.max(90) * 1_000)).collect();
        let latency = percentiles(&text, 100).unwrap();
        assert_eq!((latency.p50, latency.p99, latency.max), (600.0, 1_090.0, 1_099.0));
        assert!(percentiles("1\n2\n", 2).is_err());
        assert!(percentiles("1\nx\n", 0).is_err());
    }
}
