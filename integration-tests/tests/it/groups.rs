//! Consumer groups of real processes over a real ensemble: ownership, take-over, fencing, order.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integration_tests::checker::Read;
use integration_tests::cluster::{Cluster, ClusterOptions};
use integration_tests::group::{self, Member, by_member, complete, registry_epoch, settled};
use integration_tests::workload::{Load, LoadOptions, nap};
use integration_tests::{eventually, zookeeper::RegistryKind};
use nix::sys::signal::Signal;

const TOPIC: &str = "events";
const PARTITIONS: i32 = 12;
const LIMIT: Duration = Duration::from_secs(20);

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

fn start(name: &str) -> Result<(Cluster, Load)> {
    let cluster = Cluster::start(ClusterOptions::three(name))?;
    cluster.create_topic(TOPIC, PARTITIONS, &[])?;
    // What is measured is how soon members agree; at full rate nine debug processes fill two cores, and
    // the ensemble loses sight of its clients.
    let load = LoadOptions { rate: 500, ..LoadOptions::new(&cluster.bootstrap(), TOPIC, 0) };
    Ok((cluster, Load::start(load)?))
}

fn delivered(members: &[&Member]) -> Result<Vec<Read>> {
    let mut all = Vec::new();
    for member in members {
        all.extend(member.delivered()?);
    }
    Ok(all)
}

/// Stops the load and waits until the members together have delivered every record.
async fn drained(load: Load, members: &[&Member]) -> Result<()> {
    let sent = load.stop()?;
    let expected = sent.iter().filter(|sent| sent.acknowledged.is_some()).count();
    eventually("every record is delivered", LIMIT, async || {
        let total = complete(&delivered(members)?, PARTITIONS)?;
        ensure!(total >= expected, "{total} of {expected} delivered");
        Ok(Some(()))
    })
    .await
}

/// Three members share 12 partitions; a killed one's are taken over in time; a fourth gets some, and
/// only what moves pauses; a second group gets everything.
#[test]
fn members_share_take_over_and_make_room() -> Result<()> {
    let (cluster, load) = start("groups")?;
    runtime()?.block_on(async {
        let client = group::registry(&cluster).await?;
        let a = Member::start(&cluster, "a", "g", TOPIC, &[])?;
        let b = Member::start(&cluster, "b", "g", TOPIC, &[])?;
        let other = Member::start(&cluster, "other", "h", TOPIC, &[])?;
        let in_time = group::SESSION.mul_f64(1.2) + Duration::from_secs(1);
        let (mut killed, mut took) = (Vec::new(), None);
        // A takeover counts unless the ensemble elected a leader meanwhile (on a machine that is busy
        // with other tests its servers may lose sight of each other), who renews all sessions.
        while took.is_none() {
            ensure!(killed.len() < 3, "the ensemble elected a leader in each of three takeovers");
            let name = format!("c{}", killed.len());
            let mut c = Member::start(&cluster, &name, "g", TOPIC, &[])?;
            let owners = settled(&client, "g", TOPIC, 12, 3, LIMIT).await?;
            for (member, partitions) in by_member(&owners) {
                ensure!(partitions.len() == 4, "{member} owns {partitions:?}");
            }
            settled(&client, "h", TOPIC, 12, 1, LIMIT).await?;

            let epoch = registry_epoch(&group::claims(&client, "g", TOPIC).await?);
            let begun = Instant::now();
            c.process.kill()?;
            settled(&client, "g", TOPIC, 12, 2, LIMIT).await?;
            let elapsed = begun.elapsed();
            killed.push(c);
            let epoch_after = registry_epoch(&group::claims(&client, "g", TOPIC).await?);
            println!(
                "taken over {elapsed:?} after kill -9, session timeout {:?}, registry's epoch \
                 {epoch} then {epoch_after}",
                group::SESSION
            );
            ensure!(
                elapsed <= in_time || epoch_after != epoch,
                "taken over only after {elapsed:?}, with the ensemble's leader unchanged"
            );
            took = Some(elapsed).filter(|&elapsed| elapsed <= in_time);
        }

        let before = settled(&client, "g", TOPIC, 12, 2, LIMIT).await?;
        let claims = group::claims(&client, "g", TOPIC).await?;
        let d = Member::start(&cluster, "d", "g", TOPIC, &[])?;
        let after = settled(&client, "g", TOPIC, 12, 3, LIMIT).await?;
        // Whoever kept a partition never let go of it: the owner node is the one it was.
        let claims_after = group::claims(&client, "g", TOPIC).await?;
        let kept: Vec<i32> =
            before.iter().filter(|(p, owner)| after[*p] == **owner).map(|(p, _)| *p).collect();
        ensure!(kept.len() >= 4, "only {kept:?} stayed where they were");
        for partition in kept {
            ensure!(
                claims.get(&partition) == claims_after.get(&partition),
                "partition {partition} stayed with its owner and was claimed anew"
            );
        }
        let all: Vec<&Member> = [&a, &b, &d].into_iter().chain(&killed).collect();
        drained(load, &all).await?;
        let alone = complete(&other.delivered()?, PARTITIONS);
        ensure!(alone.is_ok(), "the other group misses something: {alone:?}");
        Ok(())
    })
}

/// A member that stands still past its session: its partitions move, its late commit changes
/// nothing, and it joins again when it wakes.
#[test]
fn a_paused_member_is_fenced_and_rejoins() -> Result<()> {
    let (cluster, load) = start("paused-member")?;
    runtime()?.block_on(async {
        let client = group::registry(&cluster).await?;
        let a = Member::start(&cluster, "a", "g", TOPIC, &[])?;
        settled(&client, "g", TOPIC, 12, 1, LIMIT).await?;
        let b = Member::start(&cluster, "b", "g", TOPIC, &[])?;
        settled(&client, "g", TOPIC, 12, 2, LIMIT).await?;
        nap(Duration::from_secs(1));
        b.process.signal(Signal::SIGSTOP)?;
        settled(&client, "g", TOPIC, 12, 1, LIMIT).await?;
        nap(Duration::from_secs(1));
        let before = group::committed(&client, "g", TOPIC).await?;
        b.process.signal(Signal::SIGCONT)?;
        settled(&client, "g", TOPIC, 12, 2, LIMIT).await?;
        for (partition, offset) in group::committed(&client, "g", TOPIC).await? {
            let earlier = before.get(&partition).copied().unwrap_or(0);
            ensure!(
                offset >= earlier,
                "partition {partition} went back from {earlier} to {offset}"
            );
        }
        drained(load, &[&a, &b]).await
    })
}

/// Twenty members that start at once agree in few plans, and every partition has one owner.
#[test]
fn a_burst_of_twenty_joins_settles_in_few_plans() -> Result<()> {
    let mut options = ClusterOptions::three("burst");
    options.brokers = 1;
    options.registry = RegistryKind::ZooKeeper(3);
    let cluster = Cluster::start(options)?;
    cluster.create_topic(TOPIC, 40, &[])?;
    runtime()?.block_on(async {
        let client = group::registry(&cluster).await?;
        let members: Vec<Member> = (0..20)
            .map(|i| Member::start(&cluster, &format!("m{i}"), "g", TOPIC, &[]))
            .collect::<Result<_>>()?;
        let owners = settled(&client, "g", TOPIC, 40, 20, Duration::from_secs(60)).await?;
        for (member, partitions) in by_member(&owners) {
            ensure!(partitions.len() == 2, "{member} owns {partitions:?}");
        }
        let plans = group::generation(&client, "g").await? + 1;
        println!("20 joins settled in {plans} plans");
        ensure!(plans <= 12, "20 joins took {plans} plans");
        drop(members);
        Ok(())
    })
}
