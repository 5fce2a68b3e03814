//! A compacted topic from end to end: the driver-location table through the producer's executable, a
//! real broker whose cleaner runs by itself, and the consumer's executable.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integration_tests::dev::Dev;

const SETTINGS: [&str; 2] = ["log.cleaner.backoff.ms=100", "log.retention.check.interval.ms=100"];
const CONFIG: [&str; 4] = [
    "cleanup.policy=compact",
    "min.cleanable.dirty.ratio=0.01",
    "segment.ms=200",
    "delete.retention.ms=100",
];

fn produce(broker: &Dev, codec: &str, lines: &str) -> Result<()> {
    let codec = format!("compression.type={codec}");
    let arguments =
        ["-t", "drivers", "--key-separator", ":", "--null-value", "-", "--set", codec.as_str()];
    broker.run("producer", &arguments, lines).map(drop)
}

fn consume(broker: &Dev, count: usize) -> Result<Vec<String>> {
    let count = count.to_string();
    let arguments = [
        "-t",
        "drivers",
        "--from-beginning",
        "--max-messages",
        &count,
        "--output-format",
        "%o %k %s\\n",
    ];
    Ok(broker.run("consumer", &arguments, "")?.lines().map(str::to_owned).collect())
}

/// Batches of the partition's segments that have records, as `broker dump-log` tells.
fn dumped(dir: &Path) -> Result<Vec<serde_json::Value>> {
    let mut command = Command::new(integration_tests::executable("broker")?);
    command.args(["dump-log", "--deep", "--format", "json"]).arg(dir.join("data/broker/drivers-0"));
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{}: {text}", output.status);
    Ok(text.lines().map(serde_json::from_str).collect::<Result<Vec<_>, _>>()?)
}

fn records(dir: &Path) -> Result<u64> {
    let items = dumped(dir)?;
    Ok(items.iter().filter(|i| i["type"] == "batch").filter_map(|i| i["count"].as_u64()).sum())
}

#[allow(clippy::disallowed_methods, reason = "polls what another process writes, to a deadline")]
fn eventually(dir: &Path, wanted: u64) -> Result<()> {
    let begun = Instant::now();
    loop {
        // A segment may be replaced while it is dumped.
        let found = records(dir);
        if found.as_ref().is_ok_and(|&found| found == wanted) {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(30), "{wanted} records wanted: {found:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn of_the_drivers_only_the_last_places_are_consumed_under_their_offsets() -> Result<()> {
    let scratch = integration_tests::scratch("compaction")?;
    let dir = scratch.path();
    let broker = Dev::start(dir, &SETTINGS)?;
    let mut create = vec!["topics", "--create", "--topic", "drivers", "--partitions", "1"];
    CONFIG.iter().for_each(|setting| create.extend(["--config", setting]));
    broker.run("coordinator", &create, "")?;

    // Two batches, the second one compressed: its first record goes, the others stay.
    produce(&broker, "none", "driver-1:a\ndriver-1:b\ndriver-2:a\n")?;
    let long = "x".repeat(300);
    produce(&broker, "zstd", &format!("driver-3:{long}\ndriver-1:c\ndriver-2:b\n"))?;
    eventually(dir, 3)?;
    let expected = [format!("3 driver-3 {long}"), "4 driver-1 c".into(), "5 driver-2 b".into()];
    ensure!(consume(&broker, 3)? == expected);

    // A tombstone removes its key, and goes itself when its time is over.
    produce(&broker, "none", "driver-3:-\n")?;
    eventually(dir, 2)?;
    let found = consume(&broker, 2)?;
    ensure!(found == expected[1..], "{found:?}");

    let refused = broker.run("producer", &["-t", "drivers"], "no key\n");
    ensure!(refused.is_err_and(|error| error.to_string().contains("key")));

    broker.stop()?;
    let broker = Dev::start(dir, &SETTINGS)?;
    ensure!(consume(&broker, 2)? == found, "after a restart");
    broker.stop()
}
