//! Compression end to end with the real executables: every codec by the producer, codecs forced by
//! topics, and a batch too large decompressed.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration_tests::process::Process;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const LINES: usize = 3_000;

struct Dev {
    process: Process,
    bootstrap: String,
}

impl Dev {
    fn start(dir: &Path) -> Result<Self> {
        let mut command = Command::new(integration_tests::executable("broker")?);
        command.arg("dev").arg("--data").arg(dir.join("data"));
        for listen in ["--listen-grpc", "--listen-zookeeper", "--listen-http"] {
            command.args([listen, "127.0.0.1:0"]);
        }
        let (process, ready) = Process::spawn_ready("dev", dir, command)?;
        let bootstrap = ready["grpc"].as_str().context("an address")?.to_owned();
        Ok(Self { process, bootstrap })
    }

    fn try_run(&self, name: &str, arguments: &[&str], input: &str) -> Result<Output> {
        let mut child = Command::new(integration_tests::executable(name)?)
            .args(arguments)
            .env("OTTLA_BOOTSTRAP_SERVER", &self.bootstrap)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("piped")?.write_all(input.as_bytes())?;
        Ok(child.wait_with_output()?)
    }

    fn run(&self, name: &str, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.try_run(name, arguments, input)?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name} {arguments:?}: {}: {error}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    fn create(&self, topic: &str, config: &str) -> Result<()> {
        let create = ["topics", "--create", "--topic", topic, "--partitions", "1"];
        self.run("coordinator", &[&create[..], &["--config", config]].concat(), "")?;
        Ok(())
    }

    fn produce(&self, topic: &str, codec: &str, lines: &str) -> Result<serde_json::Value> {
        let arguments = ["--topic", topic, "--compression-codec", codec, "--format", "json"];
        let large = ["--batch-size", "100000", "--linger-ms", "100"];
        let summary = self.run("producer", &[&arguments[..], &large].concat(), lines)?;
        Ok(serde_json::from_str(&summary)?)
    }

    fn consume(&self, topic: &str, count: usize) -> Result<String> {
        let count = count.to_string();
        let arguments = ["--topic", topic, "--from-beginning", "--max-messages", &count];
        self.run("consumer", &arguments, "")
    }
}

fn lines(what: &str) -> String {
    (0..LINES).map(|i| format!("INFO {what} of block {} finished\n", i * 7919)).collect()
}

/// The codecs of the batches that a topic's partition holds.
fn stored(logs: &Path, topic: &str) -> Result<BTreeSet<String>> {
    let folder = logs.join(format!("{topic}-0"));
    let mut command = Command::new(integration_tests::executable("broker")?);
    let output = command.arg("dump-log").arg(folder.join("00000000000000000000.log")).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{text}");
    let codecs = text.lines().filter_map(|line| line.split_once("compresscodec: "));
    let codecs = codecs.filter_map(|(_, rest)| rest.split_whitespace().next());
    Ok(codecs.map(str::to_owned).collect())
}

#[test]
fn every_codec_by_producer_and_by_topic() -> Result<()> {
    let scratch = integration_tests::scratch("compression")?;
    let mut dev = Dev::start(scratch.path())?;
    for codec in CODECS {
        dev.create(codec, "compression.type=producer")?;
        let text = lines(codec);
        let summary = dev.produce(codec, codec, &text)?;
        let rate = summary["compression_rate"].as_f64().context("a rate")?;
        ensure!(if codec == "none" { rate == 1.0 } else { rate < 0.5 }, "{codec}: {summary}");
        ensure!(dev.consume(codec, LINES)? == text, "{codec}: other lines");
        let forced = format!("forced-{codec}");
        let value = if codec == "none" { "uncompressed" } else { codec };
        dev.create(&forced, &format!("compression.type={value}"))?;
        let mut all = String::new();
        for sent in CODECS {
            let text = lines(sent);
            dev.produce(&forced, sent, &text)?;
            all += &text;
        }
        ensure!(dev.consume(&forced, LINES * CODECS.len())? == all, "{forced}: other lines");
    }
    // More than the consumer takes of one batch: named, and no record of it delivered.
    dev.produce("zstd", "zstd", &format!("{}\n", "0".repeat(500_000)))?;
    let arguments = ["--topic", "zstd", "--offset", &LINES.to_string(), "--partition", "0"];
    let bounded = ["--set", "batch.decompressed.max.bytes=300000", "--timeout-ms", "5000"];
    let output = dev.try_run("consumer", &[&arguments[..], &bounded].concat(), "")?;
    let error = String::from_utf8_lossy(&output.stderr);
    let named = [format!("offset {LINES}"), "zstd".into(), "300000 bytes".into()];
    ensure!(named.iter().all(|part| error.contains(part)), "{error}");
    ensure!(output.stdout.is_empty() && !output.status.success(), "{}: {error}", output.status);

    dev.process.stop(Duration::from_secs(10))?;
    let logs = scratch.path().join("data/broker");
    for codec in CODECS {
        for topic in [codec.to_owned(), format!("forced-{codec}")] {
            let codecs = stored(&logs, &topic)?;
            // The last batch of a producer may be too short to become smaller.
            let others = codecs.iter().filter(|c| !c.eq_ignore_ascii_case(codec) && *c != "none");
            ensure!(others.count() == 0, "{topic}: {codecs:?}");
            ensure!(codecs.iter().any(|c| c.eq_ignore_ascii_case(codec)), "{topic}: {codecs:?}");
        }
    }
    Ok(())
}
