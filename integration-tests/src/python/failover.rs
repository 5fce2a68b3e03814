//! A make's idempotent producer and a group of its consumers while leaders die and brokers restart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use proto::kafka::messages::{MetadataRequest, MetadataRequestTopic};
use serde::Deserialize;

use super::Make;
use super::members::{Member, MemberOptions, SESSION, read_all, settled};
use super::programs::Programs;
use crate::cluster::{Cluster, ClusterOptions};
use crate::kafka_client::KafkaClient;
use crate::process::Process;
use crate::workload::{bounds, nap};
use crate::zookeeper::RegistryKind;

const PARTITIONS: usize = 4;

/// What became of a record, as `foreign/python/load.py` tells it.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Fate {
    Sent { number: u64, partition: i32, offset: i64 },
    Failed { number: u64, text: String },
    Closed { left: u64 },
}

/// A running `*_load.py`.
struct Load {
    process: Process,
    output: PathBuf,
}

impl Load {
    fn start(programs: &Programs, dir: &Path) -> Result<Self> {
        let output = dir.join("load.out");
        let mut command = programs.command("load");
        command.args(["t", "400"]).stdout(std::fs::File::create(&output)?);
        Ok(Self { process: Process::spawn("load", dir, command)?, output })
    }

    fn fates(&self) -> Result<Vec<Fate>> {
        let text = std::fs::read_to_string(&self.output)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let fates = whole.lines().map(serde_json::from_str);
        fates.collect::<Result<_, _>>().with_context(|| format!("in {}", self.output.display()))
    }

    /// Waits for so many more acknowledgements.
    fn wait_for_more(&self, more: usize) -> Result<()> {
        let wanted = self.fates()?.len() + more;
        let begun = Instant::now();
        while self.fates()?.len() < wanted {
            let log = self.process.log_tail();
            ensure!(begun.elapsed().as_secs() < 30, "{more} more were not acknowledged: {log}");
            nap(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Ends it when all it has sent is acknowledged: the number of the record at each place.
    fn stop(mut self) -> Result<BTreeMap<(i32, i64), u64>> {
        self.process.stop(Duration::from_secs(40))?;
        let mut places = BTreeMap::new();
        for fate in self.fates()? {
            match fate {
                Fate::Sent { number, partition, offset } => {
                    let other = places.insert((partition, offset), number);
                    ensure!(other.is_none(), "{number} and {other:?} at {partition}, {offset}");
                }
                Fate::Failed { number, text } => bail!("record {number} failed: {text}"),
                Fate::Closed { left } => ensure!(left == 0, "{left} records without a fate"),
            }
        }
        Ok(places)
    }
}

/// Who leads the first partition.
fn leader(cluster: &Cluster) -> Result<i32> {
    let bootstrap = cluster.kafka_bootstrap();
    let address = bootstrap.split(',').next().context("a broker")?;
    let topic = MetadataRequestTopic { name: Some("t".into()), ..Default::default() };
    let asked = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
    let answer = KafkaClient::connect(address)?.call(12, &asked)?;
    Ok(answer.topics[0].partitions[0].leader_id)
}

/// Every record that lies in the topic, by its place, read by our consumer.
fn stored(cluster: &Cluster) -> Result<BTreeMap<(i32, i64), u64>> {
    let arguments = ["--topic", "t", "--from-beginning", "--exit-at-end"];
    let text = cluster.run("consumer", &[&arguments[..], &["-f", "%p %o %s\\n"]].concat())?;
    let lines = text.lines().map(|line| {
        let mut parts = line.split(' ');
        let mut part = || parts.next().with_context(|| format!("line {line:?}"));
        Ok(((part()?.parse()?, part()?.parse()?), part()?.parse()?))
    });
    lines.collect()
}

/// A leader is killed and comes back, another broker restarts: every acknowledged record lies where the
/// producer was told, once; nothing else does; the group reads all of it.
pub async fn judge_failover(make: Make) -> Result<()> {
    let options = ClusterOptions {
        registry: RegistryKind::Embedded,
        kafka: true,
        ..ClusterOptions::three("python-failover")
    };
    let options = options
        .set("group.initial.rebalance.delay.ms", "200")
        .set("group.min.session.timeout.ms", "1000")
        .set("offsets.topic.num.partitions", "5");
    let mut cluster = Cluster::start(options)?;
    let bootstrap = cluster.kafka_bootstrap();
    let dir = cluster.dir().to_owned();
    let Some(programs) = Programs::find(make, &bootstrap, &dir)? else { return Ok(()) };
    cluster.create_replicated_topic("t", PARTITIONS as i32, 3, &["min.insync.replicas=2"])?;
    let load = Load::start(&programs, &dir)?;
    let member = MemberOptions {
        group: "g",
        topic: "t",
        strategy: "range",
        session: SESSION,
        instance: None,
    };
    let mut m1 = Member::start(&programs, &dir, "m1", &member)?;
    let mut m2 = Member::start(&programs, &dir, "m2", &member)?;
    settled(&[&m1, &m2], PARTITIONS)?;
    load.wait_for_more(200)?;
    let killed = leader(&cluster)?;
    cluster.kill_broker(killed)?;
    load.wait_for_more(400)?;
    cluster.start_broker(killed)?;
    load.wait_for_more(200)?;
    let restarted = killed % 3 + 1;
    cluster.stop_broker(restarted)?;
    load.wait_for_more(200)?;
    cluster.start_broker(restarted)?;
    load.wait_for_more(200)?;
    let acknowledged = load.stop()?;

    let stored = stored(&cluster)?;
    for (place, number) in &acknowledged {
        let found = stored.get(place);
        ensure!(
            found == Some(number),
            "{number} was acknowledged at {place:?}; there is {found:?}"
        );
    }
    let more = stored.iter().find(|(place, _)| !acknowledged.contains_key(place));
    ensure!(more.is_none(), "nobody was told of {more:?}");
    let bounds = bounds(&cluster.bootstrap(), "t", PARTITIONS as i32).await?;
    let ends: Vec<i64> = bounds.into_iter().map(|(_, end)| end).collect();
    let times = read_all(&[&m1, &m2], &ends)?;
    ensure!(times.keys().eq(stored.keys()), "the group read something else");
    m1.stop()?;
    m2.stop()?;
    if make == Make::KafkaPython {
        programs.check("admin", &["moves"])?;
    }
    cluster.check_alive()
}
