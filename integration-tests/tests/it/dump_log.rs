//! `broker dump-log` on what a real broker wrote: its lines, its exit codes, a repair that a
//! broker serves.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use integration_tests::dev::Dev;

const RECORDS: usize = 2_000;

fn dump(arguments: &[&str], path: &Path) -> Result<Output> {
    let mut command = Command::new(integration_tests::executable("broker")?);
    Ok(command.arg("dump-log").args(arguments).arg(path).output()?)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn consume(broker: &Dev, count: usize) -> Result<Vec<String>> {
    let count = count.to_string();
    let arguments = ["--topic", "lines", "--from-beginning", "--max-messages", &count];
    Ok(broker.run("consumer", &arguments, "")?.lines().map(str::to_owned).collect())
}

#[test]
fn what_a_broker_wrote_is_dumped_verified_and_repaired() -> Result<()> {
    let scratch = integration_tests::scratch("dump-log")?;
    let broker = Dev::start(scratch.path(), &[])?;
    let create = ["topics", "--create", "--topic", "lines", "--partitions", "1"];
    broker.run("coordinator", &create, "")?;
    let lines: Vec<String> =
        (0..RECORDS).map(|i| format!("line {i} {}", "x".repeat(i % 90))).collect();
    broker.run("producer", &["--topic", "lines"], &format!("{}\n", lines.join("\n")))?;
    let logs = scratch.path().join("data/broker");
    let live = dump(&["--summary"], &logs)?;
    ensure!(live.status.code() == Some(0), "of a running broker: {}", text(&live));
    broker.stop()?;

    let folder = logs.join("lines-0");
    let log = folder.join("00000000000000000000.log");
    let dumped = dump(&["--print-data"], &log)?;
    ensure!(dumped.status.code() == Some(0), "{}", text(&dumped));
    let payloads: Vec<String> = text(&dumped)
        .lines()
        .filter(|line| line.starts_with("| offset: "))
        .filter_map(|line| Some(line.split_once("payload: ")?.1.to_owned()))
        .collect();
    ensure!(payloads == lines, "{} of {RECORDS} lines", payloads.len());
    let json = text(&dump(&["--format", "json"], &logs)?);
    let batches: Vec<serde_json::Value> = json
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<Vec<serde_json::Value>, _>>()?
        .into_iter()
        .filter(|item| item["type"] == "batch")
        .collect();
    ensure!(batches.len() > 1, "more than one batch is needed for what follows: {json}");

    // A reader that goes away early, as `head` does, is no error.
    let mut child = Command::new(integration_tests::executable("broker")?)
        .args(["dump-log", "--print-data"])
        .arg(&log)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdout.take().context("piped")?.read_exact(&mut [0; 100])?;
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && error.is_empty(), "{}: {error}", output.status);

    let usage = dump(&[], &scratch.path().join("nothing"))?;
    ensure!(usage.status.code() == Some(2), "{}", usage.status);
    let usage = dump(&["--repair"], &folder)?;
    ensure!(usage.status.code() == Some(2), "{}", usage.status);

    // One batch is damaged: it is named, and left out of the repaired log, which a broker serves.
    let mut bytes = std::fs::read(&log)?;
    let hit = &batches[batches.len() / 2];
    let number = |name: &str| hit[name].as_u64().context("a number").map(|n| n as usize);
    bytes[number("position")? + 70] ^= 1;
    #[allow(clippy::disallowed_methods, reason = "damages a file as nobody else should")]
    std::fs::write(&log, &bytes)?;
    let damaged = dump(&["--summary"], &folder)?;
    ensure!(damaged.status.code() == Some(1), "{}", text(&damaged));
    let range = format!("from: {} ", number("baseOffset")?);
    ensure!(text(&damaged).contains(&range), "{range} in {}", text(&damaged));
    let repaired = scratch.path().join("repaired");
    let out = repaired.display().to_string();
    let repair = dump(&["--repair", "--output", &out], &folder)?;
    ensure!(repair.status.code() == Some(1), "{}", text(&repair));
    ensure!(std::fs::read(&log)? == bytes, "the source was changed");
    std::fs::remove_dir_all(&folder)?;
    std::fs::rename(repaired.join("lines-0"), &folder)?;
    let broker = Dev::start(scratch.path(), &[])?;
    let mut expected = lines;
    expected.drain(number("baseOffset")?..=number("lastOffset")?);
    ensure!(consume(&broker, expected.len())? == expected, "after the repair");
    broker.stop()
}
