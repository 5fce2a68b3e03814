//! Kafka's performance tools, each run in a JVM of its own, and what they print.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use integration_tests::apache_kafka::java;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// The jars.
pub(crate) struct Tools {
    pub(crate) jars: PathBuf,
}

/// What a run came to, as the tool says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) records: u64,
    pub(crate) records_per_s: f64,
    /// Milliseconds from the send to the acknowledgement (of `end_to_end`: to the reader); none where the
    /// tool has none.
    pub(crate) latency_ms: Option<Latency>,
    /// Of the tool's process, the start of its JVM included.
    pub(crate) client_cpu_s: f64,
}

/// Percentiles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Tools {
    pub(crate) fn new(kafka: &Path) -> Result<Self> {
        let jars = kafka.join("jars");
        ensure!(
            jars.is_dir(),
            "{} does not exist: run integration-tests/foreign-clients install java",
            jars.display()
        );
        Ok(Self { jars })
    }

    /// Runs `org.apache.kafka.tools.ProducerPerformance`.
    pub(crate) fn produce(
        &self,
        broker: &str,
        topic: &str,
        records: u64,
        record_size: u32,
        rate: Option<u64>,
        settings: &[&str],
    ) -> Result<Told> {
        let rate = rate.map_or_else(|| "-1".to_owned(), |rate| rate.to_string());
        let mut command =
            java(&self.jars, &["-Xmx512M"], "org.apache.kafka.tools.ProducerPerformance");
        command.args(["--topic", topic, "--num-records", &records.to_string()]);
        command.args(["--record-size", &record_size.to_string(), "--throughput", &rate]);
        command.arg("--producer-props").arg(format!("bootstrap.servers={broker}")).args(settings);
        let (text, client_cpu_s) = run(command)?;
        let last = text.lines().rev().find(|line| line.contains("99.9th"));
        let last = last.with_context(|| format!("no totals in:\n{text}"))?;
        produced(last, client_cpu_s).with_context(|| format!("not understood: {last}"))
    }

    /// Runs `org.apache.kafka.tools.ConsumerPerformance`: all of a topic, from its start.
    pub(crate) fn consume(&self, broker: &str, topic: &str, records: u64) -> Result<Told> {
        let mut command =
            java(&self.jars, &["-Xmx512M"], "org.apache.kafka.tools.ConsumerPerformance");
        command.args(["--bootstrap-server", broker, "--topic", topic]);
        command.args(["--messages", &records.to_string(), "--timeout", "30000"]);
        let (text, client_cpu_s) = run(command)?;
        let told = consumed(&text, client_cpu_s).with_context(|| format!("in:\n{text}"))?;
        // It polls in batches, so that it may get some more than it was asked for.
        ensure!(told.records >= records, "{} of {records} records consumed", told.records);
        Ok(told)
    }
}

/// Runs a tool to its end: its output and the CPU seconds of its process.
pub(crate) fn run(mut command: Command) -> Result<(String, f64)> {
    let before = children_cpu_s()?;
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("running {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}\n{text}\n{error}", output.status);
    Ok((text, children_cpu_s()? - before))
}

/// CPU seconds of all processes that were started and have ended.
pub(crate) fn children_cpu_s() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let used = usage.user_time() + usage.system_time();
    Ok(used.num_microseconds() as f64 / 1e6)
}

/// `3000000 records sent, 812345.1 records/sec (154.94 MB/sec), 12.3 ms avg latency, 222.0 ms max
/// latency, 3 ms 50th, 40 ms 95th, 80 ms 99th, 100 ms 99.9th.`
fn produced(line: &str, client_cpu_s: f64) -> Option<Told> {
    let before = |what: &str| -> Option<f64> {
        line.split(", ").find(|part| part.contains(what))?.split(' ').next()?.parse().ok()
    };
    Some(Told {
        records: before("records sent")? as u64,
        records_per_s: before("records/sec")?,
        latency_ms: Some(Latency {
            p50: before(" 50th")?,
            p95: before(" 95th")?,
            p99: before(" 99th")?,
            p999: before(" 99.9th")?,
            max: before("max latency")?,
        }),
        client_cpu_s,
    })
}

/// Two lines with commas: names and values.
fn consumed(text: &str, client_cpu_s: f64) -> Result<Told> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("start.time"));
    let names: Vec<&str> = lines.next().context("no heading")?.split(", ").collect();
    let values: Vec<&str> = lines.next().context("no values")?.split(", ").collect();
    let of = |name: &str| -> Result<f64> {
        let at = names.iter().position(|other| *other == name).with_context(|| name.to_owned())?;
        Ok(values.get(at).context("too few values")?.trim().parse()?)
    };
    Ok(Told {
        records: of("data.consumed.in.nMsg")? as u64,
        // Without the time in which the consumer waits to be let into its group.
        records_per_s: of("fetch.nMsg.sec")?,
        latency_ms: None,
        client_cpu_s,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tools_print_is_understood() {
        let line = "3000000 records sent, 812345.1 records/sec (154.94 MB/sec), 12.30 ms avg \
                    latency, 222.00 ms max latency, 3 ms 50th, 40 ms 95th, 80 ms 99th, 100 ms 99.9th.";
        let told = produced(line, 1.5).unwrap();
        let latency = Latency { p50: 3.0, p95: 40.0, p99: 80.0, p999: 100.0, max: 222.0 };
        assert_eq!((told.records, told.records_per_s), (3_000_000, 812_345.1));
        assert_eq!((told.latency_ms, told.client_cpu_s), (Some(latency), 1.5));
        assert!(produced("3 records sent, 1.0 records/sec", 0.0).is_none());
        let text = "warning\nstart.time, end.time, data.consumed.in.nMsg, fetch.nMsg.sec\n\
                    2026-01-01 00:00:00:000, 2026-01-01 00:00:02:000, 1000, 512.5\n";
        let told = consumed(text, 0.5).unwrap();
        assert_eq!((told.records, told.records_per_s), (1000, 512.5));
        assert!(consumed("start.time, end.time\n1, 2\n", 0.0).is_err());
    }
}
