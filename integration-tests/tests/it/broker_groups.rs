//! Consumer groups whose coordinator is a broker: our members as processes of their own, without a
//! registry they could reach; the coordinator killed under them; beside librdkafka's members; and what the
//! operator's tool says and does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration_tests::checker::Read;
use integration_tests::cluster::{Cluster, ClusterOptions};
use integration_tests::dev::Dev;
use integration_tests::group::{Member, by_member, complete};
use integration_tests::kafka_client::KafkaClient;
use integration_tests::tool::{done, json, refused};
use integration_tests::workload::{Load, LoadOptions};
use integration_tests::{eventually, zookeeper::RegistryKind};
use proto::kafka::messages::{OffsetFetchRequest, OffsetFetchRequestTopic};
use proto::v1;
use proto::v1::groups_client::GroupsClient;
use serde_json::Value;

const TOPIC: &str = "events";
const PARTITIONS: i32 = 10;
const LIMIT: Duration = Duration::from_secs(60);
/// Brokers that let sessions be short, and do not wait for more members at first.
const BROKER: [&str; 3] = [
    "group.min.session.timeout.ms=500",
    "group.initial.rebalance.delay.ms=200",
    "offsets.topic.num.partitions=4",
];
/// A member that has no registry, with a session of 4 s.
const MEMBER: [&str; 12] = [
    "--membership",
    "broker",
    "--set",
    "zookeeper.connect=127.0.0.1:1/none",
    "--set",
    "session.timeout.ms=4000",
    "--set",
    "heartbeat.interval.ms=300",
    "--set",
    "max.poll.interval.ms=20000",
    "--set",
    "rebalance.drain.ms=2000",
];

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

fn options(name: &str, brokers: i32) -> ClusterOptions {
    let mut options = ClusterOptions::three(name);
    (options.registry, options.brokers) = (RegistryKind::Embedded, brokers);
    BROKER
        .iter()
        .filter_map(|setting| setting.split_once('='))
        .fold(options, |options, (k, v)| options.set(k, v))
}

fn member(cluster: &Cluster, name: &str, strategy: &str) -> Result<Member> {
    let strategy = format!("partition.assignment.strategy={strategy}");
    let extra = [&MEMBER[..], &["--set", &strategy]].concat();
    Member::start(cluster, name, "g", TOPIC, &extra)
}

/// What `groups --describe` says of each partition.
fn partitions_of(described: &Value) -> Vec<&Value> {
    described[0]["partitions"].as_array().into_iter().flatten().collect()
}

fn owners(described: &Value) -> BTreeMap<i32, String> {
    let owned = partitions_of(described).into_iter().filter_map(|partition| {
        let owner = partition["owner"].as_str()?.to_owned();
        Some((partition["partition"].as_i64()? as i32, owner))
    });
    owned.collect()
}

/// Waits until `members` members share all partitions evenly.
async fn settled(cluster: &Cluster, members: usize) -> Result<BTreeMap<String, BTreeSet<i32>>> {
    let what = format!("{PARTITIONS} partitions over {members} members");
    eventually(&what, LIMIT, async || {
        let Ok(described) = json(cluster, "groups --describe --group g") else { return Ok(None) };
        let owners = owners(&described);
        let shares = by_member(&owners);
        let counts: Vec<usize> = shares.values().map(BTreeSet::len).collect();
        let even = counts.iter().max().zip(counts.iter().min()).is_some_and(|(a, b)| a - b <= 1);
        let whole = owners.len() == PARTITIONS as usize && shares.len() == members;
        Ok((whole && even && described[0]["state"] == "Stable").then_some(shares))
    })
    .await
}

fn delivered(members: &[&Member]) -> Result<Vec<Read>> {
    let all = members.iter().map(|member| member.delivered()).collect::<Result<Vec<_>>>()?;
    Ok(all.into_iter().flatten().collect())
}

/// Waits until every partition is delivered past where it is now.
async fn goes_on(members: &[&Member]) -> Result<()> {
    let ends = |read: &[Read]| {
        let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
        for read in read {
            let end = ends.entry(read.position.partition).or_default();
            *end = read.position.offset.max(*end);
        }
        ends
    };
    let before = ends(&delivered(members)?);
    eventually("every partition is delivered", LIMIT, async || {
        let now = ends(&delivered(members)?);
        let further = |p: i32| now.get(&p) > before.get(&p);
        Ok((0..PARTITIONS).all(further).then_some(()))
    })
    .await
}

/// Stops the load and waits until every record was delivered, and is committed.
async fn drained(cluster: &Cluster, load: Load, members: &[&Member]) -> Result<()> {
    let sent = load.stop()?;
    let expected = sent.iter().filter(|sent| sent.acknowledged.is_some()).count();
    eventually("every record is delivered", LIMIT, async || {
        Ok((complete(&delivered(members)?, PARTITIONS)? >= expected).then_some(()))
    })
    .await?;
    eventually("everything is committed", LIMIT, async || {
        let Ok(described) = json(cluster, "groups --describe --group g") else { return Ok(None) };
        let partitions = partitions_of(&described);
        let all = partitions.iter().all(|partition| partition["lag"] == 0);
        Ok((all && partitions.len() == PARTITIONS as usize).then_some(()))
    })
    .await
}

async fn coordinator(cluster: &Cluster) -> Result<i32> {
    let address = cluster.bootstrap();
    for address in address.split(',') {
        let options = proto::client::SocketOptions::default();
        let Ok(connection) = proto::client::Connection::connect(address, &options).await else {
            continue;
        };
        let request = v1::FindCoordinatorRequest { group: "g".to_owned() };
        let answer = GroupsClient::new(connection).find_coordinator(request).await?.into_inner();
        ensure!(answer.error.is_none(), "{answer:?}");
        return Ok(answer.coordinator.context("a node")?.id);
    }
    anyhow::bail!("no broker answers")
}

/// Two members, then five; one killed, one stopped; then the coordinator is killed. Everything is
/// delivered, nothing stands still, and what is kept over a rebalance keeps flowing.
fn members_come_and_go(name: &str, strategy: &str) -> Result<()> {
    let mut cluster = Cluster::start(options(name, 3))?;
    cluster.create_replicated_topic(TOPIC, PARTITIONS, 3, &[])?;
    let load = Load::start(LoadOptions::new(&cluster.bootstrap(), TOPIC, 0))?;
    runtime()?.block_on(async {
        let mut members = vec![member(&cluster, "a", strategy)?, member(&cluster, "b", strategy)?];
        settled(&cluster, 2).await?;
        for name in ["c", "d", "e"] {
            members.push(member(&cluster, name, strategy)?);
        }
        let five = settled(&cluster, 5).await?;
        ensure!(five.values().all(|share| share.len() == 2), "{five:?}");
        goes_on(&members.iter().collect::<Vec<_>>()).await?;

        let begun = Instant::now();
        members[1].process.kill()?;
        let four = settled(&cluster, 4).await?;
        println!("{strategy}: taken over {:?} after kill -9, session 4 s", begun.elapsed());
        // On a machine that is busy with other tests a member may stand still for its whole session.
        let undisturbed = |member: &Member| !member.process.log_text().contains("went on without");
        if strategy == "sticky" && members.iter().all(undisturbed) {
            let kept = |(member, share): (&String, &BTreeSet<i32>)| {
                five.get(member).is_some_and(|before| before.is_subset(share))
            };
            ensure!(four.iter().all(kept), "from {five:?} to {four:?}");
        }
        let begun = Instant::now();
        members[2].process.stop(LIMIT)?;
        settled(&cluster, 3).await?;
        println!("{strategy}: taken over {:?} after a stop", begun.elapsed());

        let killed = coordinator(&cluster).await?;
        cluster.kill_broker(killed)?;
        let begun = Instant::now();
        goes_on(&members.iter().collect::<Vec<_>>()).await?;
        settled(&cluster, 3).await?;
        println!("{strategy}: {:?} after its coordinator was killed", begun.elapsed());
        ensure!(coordinator(&cluster).await? != killed, "another broker coordinates");
        cluster.start_broker(killed)?;
        drained(&cluster, load, &members.iter().collect::<Vec<_>>()).await?;
        let listed = done(&cluster, "groups --list")?;
        let row: Vec<&str> = listed.lines().nth(1).context("a row")?.split_whitespace().collect();
        ensure!(row == ["g", "broker", "Stable", "3"], "{listed}");
        // A stopped member lost nothing and repeated nothing: all it delivered it had committed.
        let stopped = members[2].delivered()?;
        let others: BTreeSet<_> = [0, 3, 4]
            .into_iter()
            .map(|at| members[at].delivered())
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .map(|read| (read.position.partition, read.position.offset))
            .collect();
        let after =
            |read: &&Read| others.contains(&(read.position.partition, read.position.offset));
        let repeated = stopped.iter().filter(after).count();
        println!("{strategy}: {repeated} of {} of the stopped member repeated", stopped.len());
        Ok(())
    })
}

#[test]
fn members_of_a_cooperative_group_come_and_go() -> Result<()> {
    members_come_and_go("broker-groups-sticky", "sticky")
}

#[test]
fn members_of_an_eager_group_come_and_go() -> Result<()> {
    members_come_and_go("broker-groups-range", "range")
}

/// The tool: both kinds under one name, offsets reset, groups deleted.
#[test]
fn the_tool_knows_both_kinds_of_group() -> Result<()> {
    let cluster = Cluster::start(options("broker-groups-tool", 1))?;
    cluster.create_topic(TOPIC, PARTITIONS, &[])?;
    let load = Load::start(LoadOptions::new(&cluster.bootstrap(), TOPIC, 0))?;
    load.wait_for_more(1_000, LIMIT)?;
    runtime()?.block_on(async {
        let mut ours = member(&cluster, "ours", "range")?;
        settled(&cluster, 1).await?;
        drained(&cluster, load, &[&ours]).await?;
        let members = done(&cluster, "groups --describe --group g --members")?;
        let columns: Vec<&str> =
            members.lines().nth(1).context("a row")?.split_whitespace().collect();
        ensure!(columns[0] == "g" && columns[2] == "127.0.0.1", "{members}");
        ensure!(columns[4..] == ["10", TOPIC], "{members}");
        let reset = "groups --reset-offsets --group g --all-topics --to-earliest --execute";
        let told = refused(&cluster, reset, 1)?;
        ensure!(told.contains("live members"), "{told}");
        let told = refused(&cluster, "groups --delete --group g", 1)?;
        ensure!(told.contains("members"), "{told}");

        let mut theirs = Member::start(&cluster, "theirs", "g", TOPIC, &[])?;
        let what = "the group in the registry has a member";
        eventually(what, LIMIT, async || {
            let listed = done(&cluster, "groups --list")?;
            let has = |kind: &str| {
                let row = ["g", kind, "Stable", "1"];
                listed.lines().any(|line| line.split_whitespace().eq(row))
            };
            Ok((has("zookeeper") && has("broker")).then_some(()))
        })
        .await?;
        eventually("its member warns", LIMIT, async || {
            Ok(theirs.process.log_text().contains("membership=broker").then_some(()))
        })
        .await?;
        let told = refused(&cluster, "groups --describe --group g", 2)?;
        ensure!(told.contains("--kind"), "{told}");
        let described = json(&cluster, "groups --describe --group g --kind broker")?;
        ensure!(described[0]["kind"] == "broker", "{described}");
        theirs.process.stop(LIMIT)?;
        done(&cluster, "groups --delete --group g --kind zookeeper")?;

        ours.process.stop(LIMIT)?;
        done(&cluster, reset)?;
        let described = json(&cluster, "groups --describe --group g")?;
        ensure!(described[0]["state"] == "Empty", "{described}");
        let zero = partitions_of(&described).iter().all(|partition| partition["committed"] == 0);
        ensure!(zero && partitions_of(&described).len() == 10, "{described}");
        done(&cluster, "groups --delete --group g")?;
        ensure!(!done(&cluster, "groups --list")?.contains("broker"), "it is gone");
        // A new group is made where it is said.
        let reset = "groups --reset-offsets --group new --topic events:1 --to-latest --execute";
        done(&cluster, &format!("{reset} --kind broker"))?;
        let described = json(&cluster, "groups --describe --group new")?;
        ensure!(described[0]["kind"] == "broker" && described[0]["partitions"][0]["lag"] == 0);
        Ok(())
    })
}

/// A member of the group by librdkafka; `None` where there is no kcat. Killed when dropped.
struct Kcat(Child);

impl Kcat {
    fn start(broker: &Dev, assignor: &str) -> Result<Option<Self>> {
        let assignor = format!("partition.assignment.strategy={assignor}");
        let settings = [&assignor, "session.timeout.ms=4000", "heartbeat.interval.ms=300"];
        let settings = settings.iter().flat_map(|setting| ["-X", setting]);
        let spawned = Command::new("kcat")
            .args(["-b", &broker.kafka, "-q", "-u", "-f", "%p %o\\n"])
            .args(["-X", "auto.offset.reset=earliest", "-X", "auto.commit.interval.ms=200"])
            .args(settings)
            .args(["-G", "g", TOPIC])
            .stdout(Stdio::piped())
            .spawn();
        match spawned {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("SKIPPED: kcat is not installed (apt-get install kcat)");
                Ok(None)
            }
            spawned => Ok(Some(Self(spawned?))),
        }
    }

    fn stop(mut self) -> Result<usize> {
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        let mut text = String::new();
        self.0.stdout.take().context("piped")?.read_to_string(&mut text)?;
        Ok(text.lines().count())
    }
}

impl Drop for Kcat {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What Kafka's clients see as committed, over all partitions.
fn committed(broker: &Dev) -> Result<i64> {
    let topic =
        OffsetFetchRequestTopic { name: TOPIC.into(), partition_indexes: (0..10).collect() };
    let request = OffsetFetchRequest {
        group_id: "g".into(),
        topics: Some(vec![topic]),
        ..Default::default()
    };
    let answer = KafkaClient::connect(&broker.kafka)?.call(5, &request)?;
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    Ok(partitions.map(|partition| partition.committed_offset.max(0)).sum())
}

/// One group of a member of ours and one of librdkafka's: each has its share, offsets are one's and the
/// other's, and who stays has everything.
#[test]
fn our_member_and_librdkafkas_share_a_group() -> Result<()> {
    for (ours, theirs) in [("range", "range"), ("sticky", "cooperative-sticky")] {
        let scratch = integration_tests::scratch("broker-groups-mixed")?;
        let broker = Dev::start(scratch.path(), &BROKER)?;
        let create = ["topics", "--create", "--topic", TOPIC, "--partitions", "10"];
        broker.run("coordinator", &create, "")?;
        // A key each: without, a batch of all of them may go to one member's partition.
        let lines: String =
            (0..2_000).map(|number| format!("k{number}\tline {number}\n")).collect();
        let produce = || broker.run("producer", &["--topic", TOPIC, "-K", "\t"], &lines);
        produce()?;
        let Some(kcat) = Kcat::start(&broker, theirs)? else { return Ok(()) };
        let mut command = Command::new(integration_tests::executable("consumer")?);
        let strategy = format!("partition.assignment.strategy={ours}");
        let output = scratch.path().join("ours.out");
        command
            .env("OTTLA_BOOTSTRAP_SERVER", &broker.bootstrap)
            .args(["--topic", TOPIC, "--group", "g", "--from-beginning"])
            .args(["--output-format", "%p %o\\n", "--set", &strategy])
            .args(["--set", "auto.commit.interval.ms=200"])
            .args(MEMBER)
            .stdout(std::fs::File::create(&output)?);
        let process = integration_tests::process::Process::spawn("ours", scratch.path(), command)?;
        let described = |members: usize| {
            let broker = &broker;
            let what = format!("{ours}: ten partitions over {members} members");
            async move {
                eventually(&what, LIMIT, async || {
                    let line = ["groups", "--describe", "--group", "g", "--format", "json"];
                    let Ok(text) = broker.run("coordinator", &line, "") else { return Ok(None) };
                    let described: Value = serde_json::from_str(&text)?;
                    let owners = owners(&described);
                    let shared = owners.len() == 10 && by_member(&owners).len() == members;
                    Ok(shared.then_some(by_member(&owners)))
                })
                .await
            }
        };
        let runtime = runtime()?;
        let shares = runtime.block_on(described(2))?;
        ensure!(shares.values().all(|share| share.len() == 5), "{shares:?}");
        ensure!(shares.keys().any(|id| id.starts_with("rdkafka")), "{shares:?}");
        produce()?;
        let wait_for = |total: i64| {
            let what = format!("{ours}: {total} committed, as Kafka's clients see it");
            runtime.block_on(async {
                eventually(&what, LIMIT, async || Ok((committed(&broker)? == total).then_some(())))
                    .await
            })
        };
        wait_for(4_000)?;
        let theirs_read = kcat.stop()?;
        runtime.block_on(described(1))?;
        produce()?;
        wait_for(6_000)?;
        drop(process);
        let ours_read = std::fs::read_to_string(&output)?.lines().count();
        println!("{ours}: {ours_read} read by ours, {theirs_read} by librdkafka, of 6000");
        ensure!(theirs_read > 0 && ours_read + theirs_read >= 6_000, "records are missing");
        broker.stop()?;
    }
    Ok(())
}
