//! Consumer groups of a make's clients: who gets what when members come, go, die and come back.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto::kafka::messages::{OffsetFetchRequest, OffsetFetchRequestTopic};

use super::Make;
use super::members::{Event, Member, MemberOptions, SESSION, read_all, settled};
use super::programs::Programs;
use crate::dev::Dev;
use crate::kafka_client::KafkaClient;
use crate::workload::{Load, LoadOptions, bounds};

const SETTINGS: [&str; 3] = [
    "group.initial.rebalance.delay.ms=200",
    "group.min.session.timeout.ms=1000",
    "offsets.topic.num.partitions=5",
];

/// A group of one make in one test.
struct Group<'a> {
    programs: &'a Programs,
    dir: &'a Path,
    options: MemberOptions<'a>,
}

impl Group<'_> {
    fn join(&self, name: &str) -> Result<Member> {
        Member::start(self.programs, self.dir, name, &self.options)
    }

    fn join_as(&self, name: &str, instance: &str) -> Result<Member> {
        let options = MemberOptions { instance: Some(instance), ..self.options.clone() };
        Member::start(self.programs, self.dir, name, &options)
    }
}

fn options<'a>(strategy: &'a str, session: Duration) -> MemberOptions<'a> {
    MemberOptions { group: "g", topic: "t", strategy, session, instance: None }
}

fn create(broker: &Dev, partitions: usize) -> Result<()> {
    let partitions = partitions.to_string();
    let arguments = ["topics", "--create", "--topic", "t", "--partitions", &partitions];
    broker.run("coordinator", &arguments, "")?;
    Ok(())
}

async fn ends(broker: &Dev, partitions: usize) -> Result<Vec<i64>> {
    let bounds = bounds(&broker.bootstrap, "t", i32::try_from(partitions)?).await?;
    Ok(bounds.into_iter().map(|(_, end)| end).collect())
}

/// What the group has committed of each partition of its topic.
fn committed(broker: &Dev, partitions: usize) -> Result<Vec<i64>> {
    let topic = OffsetFetchRequestTopic {
        name: "t".into(),
        partition_indexes: (0..i32::try_from(partitions)?).collect(),
    };
    let asked = OffsetFetchRequest {
        group_id: "g".into(),
        topics: Some(vec![topic]),
        ..OffsetFetchRequest::default()
    };
    let answer = KafkaClient::connect(&broker.kafka)?.call(7, &asked)?;
    let topic = answer.topics.first().context("the topic")?;
    ensure!(topic.partitions.iter().all(|of| of.error_code == 0), "{topic:?}");
    Ok(topic.partitions.iter().map(|of| of.committed_offset).collect())
}

/// Two members, five, four by a leave, three by a kill, under load: all is read, and only what a dead
/// member did not commit is read twice.
pub async fn judge_members_that_come_and_go(make: Make) -> Result<()> {
    const PARTITIONS: usize = 10;
    let scratch = crate::scratch("python-group")?;
    let broker = Dev::start(scratch.path(), &SETTINGS)?;
    let Some(programs) = Programs::find(make, &broker.kafka, scratch.path())? else {
        return Ok(());
    };
    create(&broker, PARTITIONS)?;
    let mut load = LoadOptions::new(&broker.bootstrap, "t", 1);
    load.rate = 300;
    let load = Load::start(load)?;
    let options = options("range", SESSION);
    let group = Group { programs: &programs, dir: scratch.path(), options };
    let (mut m1, mut m2) = (group.join("m1")?, group.join("m2")?);
    settled(&[&m1, &m2], PARTITIONS)?;
    let (mut m3, mut m4, mut m5) = (group.join("m3")?, group.join("m4")?, group.join("m5")?);
    settled(&[&m1, &m2, &m3, &m4, &m5], PARTITIONS)?;
    load.wait_for_more(100, Duration::from_secs(10))?;
    m5.stop()?;
    settled(&[&m1, &m2, &m3, &m4], PARTITIONS)?;
    load.wait_for_more(100, Duration::from_secs(10))?;
    let orphaned = m4.owned()?;
    m4.kill()?;
    settled(&[&m1, &m2, &m3], PARTITIONS)?;
    load.wait_for_more(100, Duration::from_secs(10))?;
    load.stop()?;

    let ends = ends(&broker, PARTITIONS).await?;
    let times = read_all(&[&m1, &m2, &m3, &m4, &m5], &ends)?;
    let twice: BTreeSet<i32> = times
        .iter()
        .filter(|(_, times)| **times > 1)
        .map(|((partition, _), _)| *partition)
        .collect();
    // kafka-python tells of a rebalance in a thread beside the one that reads: what that one was just
    // handed may be read again.
    ensure!(make == Make::KafkaPython || twice.is_subset(&orphaned), "{twice:?}, {orphaned:?}");
    for member in [&mut m1, &mut m2, &mut m3] {
        member.stop()?;
    }
    let stored = committed(&broker, PARTITIONS)?;
    ensure!(stored == ends, "committed {stored:?} of {ends:?}");
    broker.stop()
}

fn write(broker: &Dev, count: usize) -> Result<()> {
    let lines: String = (0..count).map(|n| format!("key-{n}:value\n")).collect();
    broker.run("producer", &["--topic", "t", "--key-separator", ":", "--quiet"], &lines)?;
    Ok(())
}

/// All partitions that a member's events from `from` on give it, and all that they take.
fn moved(member: &Member, from: usize) -> Result<(BTreeSet<i32>, BTreeSet<i32>)> {
    let (mut given, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for event in member.rebalances()?.split_off(from) {
        match event {
            Event::Assigned { partitions } => given.extend(partitions),
            Event::Revoked { partitions } => taken.extend(partitions),
            other => anyhow::bail!("{other:?}"),
        }
    }
    Ok((given, taken))
}

/// By the assignor cooperative-sticky a member keeps what does not move, and with rebalances between
/// records everything is read exactly once.
pub async fn judge_cooperative(make: Make) -> Result<()> {
    const PARTITIONS: usize = 6;
    let scratch = crate::scratch("python-cooperative")?;
    let broker = Dev::start(scratch.path(), &SETTINGS)?;
    let Some(programs) = Programs::find(make, &broker.kafka, scratch.path())? else {
        return Ok(());
    };
    create(&broker, PARTITIONS)?;
    let options = options("cooperative-sticky", SESSION);
    let group = Group { programs: &programs, dir: scratch.path(), options };
    write(&broker, 300)?;
    let mut m1 = group.join("m1")?;
    settled(&[&m1], PARTITIONS)?;
    read_all(&[&m1], &ends(&broker, PARTITIONS).await?)?;

    let before = m1.rebalances()?.len();
    let mut m2 = group.join("m2")?;
    settled(&[&m1, &m2], PARTITIONS)?;
    let (given, taken) = moved(&m1, before)?;
    ensure!(given.is_empty() && taken == m2.owned()?, "given {given:?}, taken {taken:?}");
    write(&broker, 300)?;
    read_all(&[&m1, &m2], &ends(&broker, PARTITIONS).await?)?;

    let before = [m1.rebalances()?.len(), m2.rebalances()?.len()];
    let mut m3 = group.join("m3")?;
    settled(&[&m1, &m2, &m3], PARTITIONS)?;
    let (given_1, taken_1) = moved(&m1, before[0])?;
    let (given_2, taken_2) = moved(&m2, before[1])?;
    ensure!(given_1.is_empty() && given_2.is_empty(), "{given_1:?}, {given_2:?}");
    ensure!(&taken_1 | &taken_2 == m3.owned()?, "{taken_1:?}, {taken_2:?}");
    write(&broker, 300)?;
    read_all(&[&m1, &m2, &m3], &ends(&broker, PARTITIONS).await?)?;

    let before = [m1.rebalances()?.len(), m2.rebalances()?.len()];
    let left = m3.owned()?;
    m3.stop()?;
    settled(&[&m1, &m2], PARTITIONS)?;
    let (given_1, taken_1) = moved(&m1, before[0])?;
    let (given_2, taken_2) = moved(&m2, before[1])?;
    ensure!(taken_1.is_empty() && taken_2.is_empty(), "{taken_1:?}, {taken_2:?}");
    ensure!(&given_1 | &given_2 == left, "{given_1:?}, {given_2:?}");
    write(&broker, 300)?;
    let ends = ends(&broker, PARTITIONS).await?;
    let times = read_all(&[&m1, &m2, &m3], &ends)?;
    let twice = times.iter().find(|(_, times)| **times > 1);
    ensure!(twice.is_none(), "read twice: {twice:?}");
    m1.stop()?;
    m2.stop()?;
    ensure!(
        committed(&broker, PARTITIONS)? == ends,
        "committed {:?}",
        committed(&broker, PARTITIONS)?
    );
    broker.stop()
}

/// A static member that comes back within its session gets what it had, and nobody else notices.
pub async fn judge_static_members(make: Make) -> Result<()> {
    const PARTITIONS: usize = 4;
    let scratch = crate::scratch("python-static")?;
    let broker = Dev::start(scratch.path(), &SETTINGS)?;
    let Some(programs) = Programs::find(make, &broker.kafka, scratch.path())? else {
        return Ok(());
    };
    create(&broker, PARTITIONS)?;
    let options = options("range", Duration::from_secs(20));
    let group = Group { programs: &programs, dir: scratch.path(), options };
    let (mut a, mut b) = (group.join_as("a", "instance-a")?, group.join_as("b", "instance-b")?);
    settled(&[&a, &b], PARTITIONS)?;
    write(&broker, 100)?;
    read_all(&[&a, &b], &ends(&broker, PARTITIONS).await?)?;

    let (told, had) = (a.rebalances()?, b.owned()?);
    b.stop()?;
    write(&broker, 100)?;
    let mut again = group.join_as("b-again", "instance-b")?;
    settled(&[&a, &again], PARTITIONS)?;
    ensure!(again.owned()? == had, "{:?} instead of {had:?}", again.owned()?);
    let ends = ends(&broker, PARTITIONS).await?;
    let times = read_all(&[&a, &b, &again], &ends)?;
    ensure!(times.values().all(|times| *times == 1), "read twice");
    ensure!(a.rebalances()? == told, "the other one was told of it: {:?}", a.rebalances()?);
    a.stop()?;
    again.stop()?;
    ensure!(
        committed(&broker, PARTITIONS)? == ends,
        "committed {:?}",
        committed(&broker, PARTITIONS)?
    );
    broker.stop()
}
