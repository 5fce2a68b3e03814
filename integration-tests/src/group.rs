//! Members of a group as processes of their own, and what the registry says about the group.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coordinator::registry::{offsets, owners, plan};
use zookeeper_client::Client;

use crate::checker::{Position, Read};
use crate::cluster::Cluster;
use crate::process::Process;
use crate::workload::parse_value;

/// Session timeout of members.
pub const SESSION: Duration = Duration::from_secs(2);

/// A running `consumer` executable that writes `partition offset value` lines to a file.
pub struct Member {
    /// The process.
    pub process: Process,
    output: PathBuf,
}

impl Member {
    /// Starts a member of `group`; `extra` are further arguments.
    pub fn start(
        cluster: &Cluster,
        name: &str,
        group: &str,
        topic: &str,
        extra: &[&str],
    ) -> Result<Self> {
        let output = cluster.dir().join(format!("{name}.out"));
        let mut command = cluster.command("consumer")?;
        command
            .args(["--topic", topic, "--group", group, "--from-beginning"])
            .args(["--output-format", "%p %o %s\\n"])
            .args(["--set", &format!("zookeeper.session.timeout.ms={}", SESSION.as_millis())])
            .args(["--set", "auto.commit.interval.ms=300"])
            .args(extra)
            .stdout(std::fs::File::create(&output)?);
        Ok(Self { process: Process::spawn(name, cluster.dir(), command)?, output })
    }

    /// What it has delivered so far, in its order.
    pub fn delivered(&self) -> Result<Vec<Read>> {
        let text = std::fs::read_to_string(&self.output)?;
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| {
                let mut parts = line.splitn(3, ' ');
                let mut part = || parts.next().with_context(|| format!("line {line:?}"));
                let position = Position { partition: part()?.parse()?, offset: part()?.parse()? };
                let (producer, number) = parse_value(part()?.as_bytes())?;
                Ok(Read { position, producer, number })
            })
            .collect()
    }
}

/// A client of the cluster's registry, at its chroot.
pub async fn registry(cluster: &Cluster) -> Result<Client> {
    let connector = Client::connector().with_session_timeout(Duration::from_secs(10));
    Ok(connector.connect(&cluster.zookeeper()).await?)
}

/// Who owns each partition now, by member id.
pub async fn ownership(client: &Client, group: &str, topic: &str) -> Result<BTreeMap<i32, String>> {
    let mut owners = owners::list(client, group).await?;
    let owners = owners.remove(topic).unwrap_or_default();
    Ok(owners.into_iter().map(|(partition, owner)| (partition, owner.consumer)).collect())
}

/// When each partition was claimed, as the transaction that made its owner node: unchanged where the
/// owner never let go.
pub async fn claims(client: &Client, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>> {
    let mut claims = BTreeMap::new();
    for partition in ownership(client, group, topic).await?.into_keys() {
        let path = coordinator::zk::paths::owner(group, topic, partition);
        if let Some(stat) = client.check_stat(&path).await? {
            claims.insert(partition, stat.czxid);
        }
    }
    Ok(claims)
}

/// The ensemble's epoch when the newest of these claims was made. It changes when the ensemble elects
/// a leader, who gives every session its whole time again.
pub fn registry_epoch(claims: &BTreeMap<i32, i64>) -> i64 {
    claims.values().max().map_or(0, |zxid| zxid >> 32)
}

/// The partitions of each member.
pub fn by_member(owners: &BTreeMap<i32, String>) -> BTreeMap<String, BTreeSet<i32>> {
    let mut members: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for (partition, member) in owners {
        members.entry(member.clone()).or_default().insert(*partition);
    }
    members
}

/// Waits until `partitions` are owned by exactly `members` members, each by the one the group's plan
/// gives it to; the ownership then. (That each partition has an owner is not enough: one member may
/// have made room already while another has yet to.)
pub async fn settled(
    client: &Client,
    group: &str,
    topic: &str,
    partitions: usize,
    members: usize,
    limit: Duration,
) -> Result<BTreeMap<i32, String>> {
    let what = format!("{group}: {partitions} partitions of {topic} over {members} members");
    crate::eventually(&what, limit, async || {
        let owners = ownership(client, group, topic).await?;
        let whole = owners.len() == partitions && by_member(&owners).len() == members;
        let Some(agreed) = plan::read(client, group).await? else { return Ok(None) };
        let as_agreed = owners.iter().all(|(partition, member)| {
            agreed.plan.owner(topic, *partition).is_some_and(|(owner, _)| owner == member)
        });
        Ok((whole && as_agreed).then_some(owners))
    })
    .await
}

/// The plan's generation.
pub async fn generation(client: &Client, group: &str) -> Result<i32> {
    let agreed = plan::read(client, group).await?.context("the group has no plan")?;
    Ok(agreed.generation)
}

/// The committed offset of each partition that has one.
pub async fn committed(client: &Client, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>> {
    let stored = offsets::list(client, group).await?.remove(topic).unwrap_or_default();
    Ok(stored
        .into_iter()
        .filter_map(|(partition, stored)| Some((partition, stored.offset?.0)))
        .collect())
}

/// Every offset from `first` to the greatest one read is there; duplicates are allowed. The number
/// of distinct records.
pub fn complete(read: &[Read], partitions: i32) -> Result<usize> {
    let mut total = 0;
    for partition in 0..partitions {
        let offsets: BTreeSet<i64> = read
            .iter()
            .filter(|read| read.position.partition == partition)
            .map(|read| read.position.offset)
            .collect();
        let end = offsets.last().map_or(0, |last| last + 1);
        ensure!(
            offsets.len() as i64 == end,
            "partition {partition}: {} of {end} offsets were delivered",
            offsets.len()
        );
        total += offsets.len();
    }
    Ok(total)
}
