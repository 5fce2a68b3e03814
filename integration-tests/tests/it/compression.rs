//! Compression end to end with the real executables: every codec by the producer, codecs forced by
//! topics, and a batch too large decompressed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use integration_tests::dev::Dev;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const LINES: usize = 3_000;

fn create(dev: &Dev, topic: &str, config: &str) -> Result<()> {
    let create = ["topics", "--create", "--topic", topic, "--partitions", "1"];
    dev.run("coordinator", &[&create[..], &["--config", config]].concat(), "").map(drop)
}

fn produce(dev: &Dev, topic: &str, codec: &str, lines: &str) -> Result<serde_json::Value> {
    let arguments = ["--topic", topic, "--compression-codec", codec, "--format", "json"];
    let large = ["--batch-size", "100000", "--linger-ms", "100"];
    let summary = dev.run("producer", &[&arguments[..], &large].concat(), lines)?;
    Ok(serde_json::from_str(&summary)?)
}

fn consume(dev: &Dev, topic: &str, count: usize) -> Result<String> {
    let count = count.to_string();
    let arguments = ["--topic", topic, "--from-beginning", "--max-messages", &count];
    dev.run("consumer", &arguments, "")
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
    let dev = Dev::start(scratch.path(), &[])?;
    for codec in CODECS {
        create(&dev, codec, "compression.type=producer")?;
        let text = lines(codec);
        let summary = produce(&dev, codec, codec, &text)?;
        let rate = summary["compression_rate"].as_f64().context("a rate")?;
        ensure!(if codec == "none" { rate == 1.0 } else { rate < 0.5 }, "{codec}: {summary}");
        ensure!(consume(&dev, codec, LINES)? == text, "{codec}: other lines");
        let forced = format!("forced-{codec}");
        let value = if codec == "none" { "uncompressed" } else { codec };
        create(&dev, &forced, &format!("compression.type={value}"))?;
        let mut all = String::new();
        for sent in CODECS {
            let text = lines(sent);
            produce(&dev, &forced, sent, &text)?;
            all += &text;
        }
        ensure!(consume(&dev, &forced, LINES * CODECS.len())? == all, "{forced}: other lines");
    }
    // More than the consumer takes of one batch: named, and no record of it delivered.
    produce(&dev, "zstd", "zstd", &format!("{}\n", "0".repeat(500_000)))?;
    let arguments = ["--topic", "zstd", "--offset", &LINES.to_string(), "--partition", "0"];
    let bounded = ["--set", "batch.decompressed.max.bytes=300000", "--timeout-ms", "5000"];
    let output = dev.try_run("consumer", &[&arguments[..], &bounded].concat(), "")?;
    let error = String::from_utf8_lossy(&output.stderr);
    let named = [format!("offset {LINES}"), "zstd".into(), "300000 bytes".into()];
    ensure!(named.iter().all(|part| error.contains(part)), "{error}");
    ensure!(output.stdout.is_empty() && !output.status.success(), "{}: {error}", output.status);

    dev.stop()?;
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
