//! Consumer groups of Apache Kafka's Java consumer, and its kafka-consumer-groups: members that come and go,
//! cooperative and static ones, and what an operator sees and changes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration_tests::dev::Dev;
use integration_tests::kafka_tools::{KafkaTools, rows};
use integration_tests::workload::nap;

const GROUPS: &str = "kafka-consumer-groups --bootstrap-server @";
const COOPERATIVE: &str = "partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor \
                           heartbeat.interval.ms=200 auto.commit.interval.ms=200";
const LIMIT: Duration = Duration::from_secs(40);

/// What a member of a group has and what it did, as it says itself.
#[derive(Debug)]
struct Member {
    owned: usize,
    revoked: usize,
    lost: usize,
    /// `PARTITION:OFFSET:VALUE` in order of arrival.
    records: Vec<String>,
}

fn state(told: &str) -> Result<Member> {
    let mut lines = told.lines();
    let mut value = |name: &str| {
        let line = lines.next().and_then(|line| line.strip_prefix(name));
        line.map(str::trim).with_context(|| format!("no {name}: {told}"))
    };
    let owned = value("owned")?.trim_matches(['[', ']']);
    let owned = owned.split(", ").filter(|partition| !partition.is_empty()).count();
    let (revoked, lost) = (value("revoked")?.parse()?, value("lost")?.parse()?);
    let failed = value("failed")?;
    ensure!(failed.is_empty(), "a member failed: {failed}");
    Ok(Member { owned, revoked, lost, records: lines.map(str::to_owned).collect() })
}

/// Waits until the members own so many partitions each, in any order.
fn settle(tools: &mut KafkaTools, members: &[&str], owned: &[usize]) -> Result<()> {
    let begun = std::time::Instant::now();
    loop {
        let mut now = Vec::new();
        for member in members {
            now.push(state(&tools.done(&format!("member-state {member}"))?)?.owned);
        }
        now.sort_unstable();
        if now == owned {
            return Ok(());
        }
        ensure!(begun.elapsed() < LIMIT, "members own {now:?}, not {owned:?}");
        nap(Duration::from_millis(50));
    }
}

/// Everything that was acknowledged was read once, where it was written, in order of each partition.
fn compare(acked: &str, members: &[Member]) -> Result<()> {
    let acked: BTreeSet<&str> = acked.lines().collect();
    let mut read = BTreeSet::new();
    let mut next: BTreeMap<&str, i64> = BTreeMap::new();
    for record in members.iter().flat_map(|member| &member.records) {
        ensure!(read.insert(record.as_str()), "{record} was read twice");
        let mut parts = record.split(':');
        let partition = parts.next().context("a partition")?;
        let offset: i64 = parts.next().context("an offset")?.parse()?;
        let next = next.entry(partition).or_default();
        ensure!(offset == *next, "{record} after {next}");
        *next += 1;
    }
    ensure!(read == acked, "{} were read of {}", read.len(), acked.len());
    Ok(())
}

/// One member, then two, then five; cooperative-sticky takes from each only what it must give.
fn five_members(tools: &mut KafkaTools) -> Result<()> {
    tools.done("kafka-topics --bootstrap-server @ --create --topic five --partitions 10")?;
    let names = ["a", "b", "c", "d", "e"];
    let join = |tools: &mut KafkaTools, name| {
        tools
            .done(&format!("member-start {name} @ five five {COOPERATIVE} client.id=client-{name}"))
    };
    join(tools, "a")?;
    settle(tools, &names[..1], &[10])?;
    let mut acked = tools.done("produce @ five 500")?;
    join(tools, "b")?;
    settle(tools, &names[..2], &[5, 5])?;
    for name in &names[2..] {
        join(tools, name)?;
    }
    settle(tools, &names, &[2; 5])?;
    acked += &tools.done("produce @ five 500")?;
    let described = format!("{GROUPS} --describe --group five");
    let begun = std::time::Instant::now();
    loop {
        let told = tools.done(&described)?;
        let rows = rows(&told);
        ensure!(rows.len() == 10 && told.contains("/127.0.0.1"), "{told}");
        let owners: BTreeSet<&str> = rows.iter().map(|row| row[6]).collect();
        ensure!(owners.len() == 5, "{told}");
        // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID
        if rows.iter().all(|row| row[3] == row[4] && row[5] == "0") {
            break;
        }
        ensure!(begun.elapsed() < LIMIT, "not all is committed: {told}");
    }
    let told = tools.done(&format!("{described} --state"))?;
    let row = &rows(&told)[0];
    ensure!(row[3..] == ["cooperative-sticky", "Stable", "5"], "{told}");
    let told = tools.done(&format!("{described} --members --verbose"))?;
    let clients: BTreeSet<&str> = rows(&told).iter().map(|row| row[3]).collect();
    ensure!(rows(&told).len() == 5 && clients.len() == 5, "{told}");
    ensure!(clients.contains("client-e") && told.matches("five:").count() == 5, "{told}");
    // Nothing can be changed under members.
    let change = "--group five --topic five --reset-offsets --to-earliest --execute";
    for change in [change, "--delete --group five", "--delete-offsets --group five --topic five"] {
        let ran = tools.run(&format!("{GROUPS} {change}"), "")?;
        let told = ran.out + &ran.err;
        let refused = ["inactive", "not empty", "actively subscribed"];
        ensure!(refused.iter().any(|why| told.contains(why)), "{change}: {told}");
    }
    let mut members = Vec::new();
    for (left, name) in names.iter().enumerate() {
        members.push(state(&tools.done(&format!("member-stop {name}"))?)?);
        if left == 0 {
            settle(tools, &names[1..], &[2, 2, 3, 3])?;
        }
    }
    ensure!(members.iter().all(|member| member.lost == 0), "{members:?}");
    // What it gave when others came and at its end: each partition once.
    ensure!(members[0].revoked == 10, "{}", members[0].revoked);
    compare(&acked, &members)
}

/// Static members keep what they own while they are away, and no other member notices.
fn static_members(tools: &mut KafkaTools) -> Result<()> {
    tools.done("kafka-topics --bootstrap-server @ --create --topic static --partitions 4")?;
    let join = |tools: &mut KafkaTools, name: &str| {
        let settings = "session.timeout.ms=20000 heartbeat.interval.ms=200";
        let line = format!("member-start {name} @ static static {settings}");
        tools.done(&format!("{line} group.instance.id=instance-{name}"))
    };
    join(tools, "s")?;
    settle(tools, &["s"], &[4])?;
    join(tools, "t")?;
    settle(tools, &["s", "t"], &[2, 2])?;
    let acked = tools.done("produce @ static 200 enable.idempotence=true acks=all")?;
    let before = state(&tools.done("member-state s")?)?;
    let away = state(&tools.done("member-stop t")?)?;
    let told = tools.done(&format!("{GROUPS} --describe --group static --members"))?;
    ensure!(rows(&told).len() == 2 && told.contains(" instance-t "), "{told}");
    join(tools, "t")?;
    settle(tools, &["s", "t"], &[2, 2])?;
    let begun = std::time::Instant::now();
    let after = loop {
        let after =
            [state(&tools.done("member-state s")?)?, state(&tools.done("member-state t")?)?];
        let read: usize = after.iter().map(|member| member.records.len()).sum();
        if read + away.records.len() >= 200 {
            break after;
        }
        ensure!(begun.elapsed() < LIMIT, "{read} and {} were read", away.records.len());
    };
    let [s, t] = after;
    ensure!(s.revoked == before.revoked && s.lost == 0, "{before:?} {s:?}");
    compare(&acked, &[s, away, t])?;
    tools.done("member-stop s")?;
    tools.done("member-stop t")?;
    Ok(())
}

#[test]
fn members_of_the_java_consumer_share_partitions() -> Result<()> {
    let scratch = integration_tests::scratch("java-members")?;
    let broker = Dev::start(scratch.path(), &["group.initial.rebalance.delay.ms=0"])?;
    let Some(mut tools) = KafkaTools::start(&broker.kafka)? else { return Ok(()) };
    five_members(&mut tools)?;
    static_members(&mut tools)?;
    broker.stop()
}

/// NEW-OFFSET of the one partition that is reset.
fn reset(tools: &mut KafkaTools, how: &str) -> Result<String> {
    let told = tools.done(&format!("{GROUPS} --reset-offsets --group g --topic t {how}"))?;
    // Below a warning, where the tool has one.
    let rows = rows(&told);
    let row = rows.last().context("a row")?;
    ensure!(row.len() == 4 && row[..3] == ["g", "t", "0"], "{how}: {told}");
    Ok(row[3].to_owned())
}

fn committed(tools: &mut KafkaTools) -> Result<String> {
    let told = tools.done(&format!("{GROUPS} --describe --group g"))?;
    let rows = rows(&told);
    ensure!(rows.len() == 1, "{told}");
    Ok(rows[0][3..6].join(" "))
}

#[test]
fn offsets_of_groups_are_reset_and_deleted() -> Result<()> {
    let scratch = integration_tests::scratch("kafka-groups")?;
    let broker = Dev::start(scratch.path(), &["group.initial.rebalance.delay.ms=0"])?;
    let Some(mut tools) = KafkaTools::start(&broker.kafka)? else { return Ok(()) };
    let tools = &mut tools;
    tools.done("kafka-topics --bootstrap-server @ --create --topic t")?;
    // Records with the stamps 1_000_000, 1_000_001, …: 1970-01-01T00:16:40.
    tools.done("produce @ t 60")?;
    let consume = "kafka-console-consumer --bootstrap-server @ --topic t --from-beginning";
    let told = tools.done(&format!("{consume} --group g --max-messages 10"))?;
    ensure!(told.lines().count() == 10 && told.starts_with("value-0\n"), "{told}");
    ensure!(committed(tools)? == "10 60 50");
    let told = tools.done(&format!("{consume} --group g --max-messages 1"))?;
    ensure!(told == "value-10\n", "{told}");

    ensure!(tools.done(&format!("{GROUPS} --list"))?.lines().any(|name| name == "g"));
    let told = tools.done(&format!("{GROUPS} --list --state Empty"))?;
    ensure!(rows(&told).contains(&vec!["g", "Empty"]), "{told}");
    ensure!(!tools.done(&format!("{GROUPS} --list --state Stable"))?.contains("Stable "));
    let told = tools.run(&format!("{GROUPS} --describe --group g --state"), "")?;
    ensure!(told.err.contains("Consumer group 'g' has no active members."), "{told:?}");
    ensure!(rows(&told.out)[0][3..] == ["-", "Empty", "0"], "{told:?}");

    ensure!(reset(tools, "--to-earliest --dry-run")? == "0" && committed(tools)? == "11 60 49");
    for (how, offset) in [
        ("--to-latest", "60"),
        ("--to-offset 5", "5"),
        ("--shift-by 3", "8"),
        ("--shift-by -6", "2"),
        ("--shift-by -6", "0"),
        ("--to-datetime 1970-01-01T00:16:40.007Z", "7"),
        ("--to-datetime 2100-01-01T00:00:00.000Z", "60"),
        ("--by-duration PT0S", "60"),
        ("--to-offset 500", "60"),
        ("--to-current", "60"),
        ("--to-earliest", "0"),
    ] {
        ensure!(reset(tools, &format!("{how} --execute"))? == offset, "{how}");
        let told = committed(tools)?;
        ensure!(told.starts_with(&format!("{offset} 60 ")), "{how}: {told}");
    }
    let told = tools.done(&format!("{consume} --group g --max-messages 2"))?;
    ensure!(told == "value-0\nvalue-1\n", "{told}");
    let told = tools.done(&format!("{GROUPS} --delete-offsets --group g --topic t"))?;
    ensure!(rows(&told).contains(&vec!["t", "0", "Successful"]), "{told}");
    ensure!(committed(tools).is_err(), "no offsets are left");
    let told = tools.done(&format!("{GROUPS} --delete --group g"))?;
    ensure!(told.contains("Deletion of requested consumer groups ('g') was successful."), "{told}");
    let told = tools.done(&format!("{GROUPS} --delete --group g"))?;
    ensure!(told.contains("GroupIdNotFoundException"), "{told}");
    ensure!(!tools.done(&format!("{GROUPS} --list"))?.lines().any(|name| name == "g"));
    broker.stop()
}

#[test]
fn the_java_consumer_seeks_and_the_admin_client_is_answered() -> Result<()> {
    let scratch = integration_tests::scratch("java-clients")?;
    let broker = Dev::start(scratch.path(), &["group.initial.rebalance.delay.ms=0"])?;
    let Some(mut tools) = KafkaTools::start(&broker.kafka)? else { return Ok(()) };
    tools.done("kafka-topics --bootstrap-server @ --create --topic t")?;
    // Many batches, each compressed: an offset for a time is a record's, not a batch's.
    let acked = tools.done("produce @ t 100 compression.type=zstd batch.size=400 linger.ms=20")?;
    let expected: String = (0..100).map(|n| format!("0:{n}:value-{n}\n")).collect();
    ensure!(acked == expected, "{acked}");
    let told = tools.done("seek @ t")?;
    let expected = [
        "beginning 0",
        "end 100",
        "at 0 (timestamp=1000000, leaderEpoch=0, offset=0)",
        "at 1000005 (timestamp=1000005, leaderEpoch=0, offset=5)",
        "at 1000050 (timestamp=1000050, leaderEpoch=0, offset=50)",
        "at 9000000 null",
        "from 7 [value-7, value-8, value-9]",
        "position 10",
        "position 100",
        "from 0 [value-0, value-1, value-2]",
        "paused 0",
        "lag true from 3 [value-3, value-4, value-5]",
        "reset [value-0, value-1, value-2]",
    ];
    let told: Vec<&str> = told.lines().collect();
    let epoch = |line: &str| line.split("leaderEpoch=").nth(1).map(|rest| rest[..1].to_owned());
    for (line, expected) in told.iter().zip(expected) {
        let line = epoch(line)
            .map_or(line.to_string(), |e| line.replace(&format!("Epoch={e}"), "Epoch=0"));
        ensure!(line == expected, "{line} for {expected}");
    }
    ensure!(told.len() == expected.len(), "{told:?}");

    let consume = "kafka-console-consumer --bootstrap-server @ --topic t --from-beginning";
    tools.done(&format!("{consume} --group g --max-messages 10"))?;
    let told = tools.done("admin @ t g")?;
    let expected = [
        "by id t partitions 1",
        "EarliestSpec 0 -1",
        "LatestSpec 100 -1",
        "MaxTimestampSpec 99 1000099",
        "TimestampSpec 7 1000007",
        "offset 4 metadata by hand",
        "state Empty members 0",
        "remove UnknownMemberIdException",
        "create TopicExistsException",
        "grow InvalidPartitionsException",
        "features none",
        "transactions UnsupportedVersionException",
        "acls UnsupportedVersionException",
        "deleted UnknownTopicOrPartitionException",
    ];
    let mut lines = told.lines();
    let nodes = lines.next().context("lines")?;
    ensure!(nodes.starts_with("nodes 1 controller true id ") && nodes.len() > 30, "{nodes}");
    let lines: Vec<&str> = lines.collect();
    ensure!(lines == expected, "{told}");
    broker.stop()
}
