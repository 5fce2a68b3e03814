//! franz-go, a client in Go with fetch sessions and cooperative groups by default, against the listener for
//! Kafka clients. `integration-tests/run` builds the program where `go` is at hand
//! (`integration-tests/foreign/go`); without it these tests say that they were skipped.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use integration_tests::dev::Dev;

/// What a scenario printed, or `None` where there is no program.
fn franz_go(broker: &Dev, scenario: &str, arguments: &[&str]) -> Result<Option<String>> {
    let Some(program) = std::env::var_os("OTTLA_FRANZ_GO") else {
        eprintln!(
            "SKIPPED: no Go client (integration-tests/run builds it where `go` is installed)"
        );
        return Ok(None);
    };
    let mut command = Command::new(program);
    let output = command.arg(scenario).arg(&broker.kafka).args(arguments).output()?;
    let text = String::from_utf8(output.stdout)?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{scenario} {arguments:?}: {text}{error}");
    Ok(Some(text))
}

/// Lines `PARTITION OFFSET …` by partition; offsets rise by one from 0.
fn by_partition(text: &str) -> Result<BTreeMap<i32, Vec<String>>> {
    let mut partitions: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let mut columns = line.splitn(3, '\t');
        let partition = columns.next().context("a partition")?.parse()?;
        let offset: usize = columns.next().context("an offset")?.parse()?;
        let records = partitions.entry(partition).or_default();
        ensure!(offset == records.len(), "{line} after {} records", records.len());
        records.push(columns.next().context("a record")?.to_owned());
    }
    Ok(partitions)
}

#[test]
fn records_of_franz_go_and_ours_are_read_by_each_other() -> Result<()> {
    let scratch = integration_tests::scratch("franz-go")?;
    let broker = Dev::start(scratch.path(), &[])?;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let create = ["topics", "--create", "--partitions", "3", "--topic", codec];
        broker.run("coordinator", &create, "")?;
        let Some(acked) = franz_go(&broker, "produce", &[codec, "600", codec])? else {
            return Ok(());
        };
        let read = franz_go(&broker, "consume", &[codec, "600"])?.context("a program")?;
        let mut sent: Vec<&str> = acked.lines().collect();
        sent.sort_by_key(|line| line.split('\t').nth(1).and_then(|text| text.parse::<i64>().ok()));
        let sent = by_partition(&sent.join("\n"))?;
        ensure!(sent == by_partition(&read)?, "{codec}: they differ");
        ensure!(acked.lines().all(|line| line.ends_with("\tn=1\tn=2")), "headers: {acked}");

        let group = format!("of-{codec}");
        let arguments = ["--topic", codec, "--group", &group, "--max-messages", "600"];
        let format = ["--from-beginning", "--output-format", "%p\t%o\t%k\t%s\\n"];
        let ours = broker.run("consumer", &[&arguments[..], &format].concat(), "")?;
        let plain: String =
            read.lines().map(|line| line.replace("\tn=1\tn=2", "") + "\n").collect();
        ensure!(by_partition(&ours)? == by_partition(&plain)?, "{codec}: they differ over gRPC");
    }
    broker.run(
        "coordinator",
        &["topics", "--create", "--topic", "ours", "--partitions", "2"],
        "",
    )?;
    let lines: String = (0..600).map(|number| format!("key {number}\tvalue {number}\n")).collect();
    let set = ["--set", "compression.type=zstd", "--batch-size", "1000"];
    let arguments = [&["--topic", "ours", "--key-separator", "\t"][..], &set].concat();
    broker.run("producer", &arguments, &lines)?;
    let read = franz_go(&broker, "consume", &["ours", "600"])?.context("a program")?;
    let read = by_partition(&read)?;
    let mut all: Vec<&String> = read.values().flatten().collect();
    let mut expected: Vec<&str> = lines.lines().collect();
    all.sort();
    expected.sort_unstable();
    ensure!(all == expected && read.len() == 2, "they differ");
    broker.stop()
}

#[test]
fn franz_go_has_groups_and_administers() -> Result<()> {
    let scratch = integration_tests::scratch("franz-go-groups")?;
    let broker = Dev::start(scratch.path(), &["group.initial.rebalance.delay.ms=0"])?;
    broker.run("coordinator", &["topics", "--create", "--topic", "t", "--partitions", "6"], "")?;
    let Some(told) = franz_go(&broker, "group", &["t", "g", "600"])? else { return Ok(()) };
    let (settled, rest) = told.split_at(told.find("member").context("members")?);
    ensure!(settled == "settled 1\nsettled 2\nsettled 3\nsettled 2\n", "{settled}");
    let (members, records): (Vec<&str>, Vec<&str>) =
        rest.lines().partition(|line| line.starts_with("member"));
    ensure!(members.iter().all(|line| line.ends_with(" <nil>") && !line.contains(" 0 ")), "{rest}");
    let read = by_partition(&records.join("\n"))?;
    let mut values: Vec<&String> = read.values().flatten().collect();
    values.sort();
    values.dedup();
    ensure!(records.len() == 600 && values.len() == 600, "{rest}");

    let told = franz_go(&broker, "admin", &["t", "g"])?.context("a program")?;
    for expected in [
        "brokers 1 controller 1 true",
        "created made 2 <nil>",
        "again TOPIC_ALREADY_EXISTS",
        "grown <nil> <nil>",
        "retention 77000 DYNAMIC_TOPIC_CONFIG",
        "altered <nil> <nil>",
        "deleted <nil> <nil>",
        "group Empty consumer <nil>",
        "lag 0 Empty 0",
        "committed <nil>",
        "fetched 1 by hand <nil>",
        "removed <nil> <nil>",
        "removed again GROUP_ID_NOT_FOUND",
        "dir 1 <nil> 6",
        "elected ELECTION_NOT_NEEDED",
        "moved 0 <nil>",
        "records 2 <nil> <nil>",
    ] {
        ensure!(told.lines().any(|line| line.starts_with(expected)), "no {expected}: {told}");
    }
    for (partition, records) in read {
        let line = format!("offsets {partition} 0 {} 0", records.len());
        ensure!(told.lines().any(|told| told == line), "no {line}: {told}");
    }
    broker.stop()
}
