//! ZooKeeper loses members, its leader, all of itself: data keeps flowing, groups settle afterwards.

use std::time::Duration;

use anyhow::{Result, ensure};
use integration_tests::cluster::{Cluster, ClusterOptions};
use integration_tests::eventually;
use integration_tests::group::{self, Member, complete, settled};
use integration_tests::workload::{Load, LoadOptions, nap};

const TOPIC: &str = "events";
const PARTITIONS: i32 = 6;
const LIMIT: Duration = Duration::from_secs(30);

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

fn count(member: &Member) -> Result<usize> {
    Ok(member.delivered()?.len())
}

#[test]
fn the_leader_of_the_ensemble_dies_and_nothing_stops() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::three("zk-leader"))?;
    cluster.create_topic(TOPIC, PARTITIONS, &[])?;
    let load = Load::start(LoadOptions::new(&cluster.bootstrap(), TOPIC, 0))?;
    runtime()?.block_on(async {
        let client = group::registry(&cluster).await?;
        let a = Member::start(&cluster, "a", "g", TOPIC, &[])?;
        let b = Member::start(&cluster, "b", "g", TOPIC, &[])?;
        settled(&client, "g", TOPIC, 6, 2, LIMIT).await?;
        let ensemble = cluster.registry.ensemble()?;
        let leader = ensemble.leader()?;
        ensemble.kill(leader)?;
        load.wait_for_more(4_000, LIMIT)?;
        cluster.create_topic("created-meanwhile", 2, &[])?;
        ensemble.restart(leader)?;
        load.wait_for_more(2_000, LIMIT)?;
        ensure!(load.failed() == 0, "{} sends failed", load.failed());
        let sent = load.stop()?.len();
        eventually("both members deliver everything", LIMIT, async || {
            let mut read = a.delivered()?;
            read.extend(b.delivered()?);
            let total = complete(&read, PARTITIONS)?;
            ensure!(total == sent, "{total} of {sent} delivered");
            Ok(Some(()))
        })
        .await
    })
}

#[test]
fn the_whole_ensemble_is_down_for_twenty_seconds() -> Result<()> {
    let mut cluster = Cluster::start(ClusterOptions::three("zk-down"))?;
    cluster.create_topic(TOPIC, PARTITIONS, &[])?;
    let load = Load::start(LoadOptions::new(&cluster.bootstrap(), TOPIC, 0))?;
    runtime()?.block_on(async {
        let client = group::registry(&cluster).await?;
        let a = Member::start(&cluster, "a", "g", TOPIC, &[])?;
        let b = Member::start(&cluster, "b", "g", TOPIC, &[])?;
        settled(&client, "g", TOPIC, 6, 2, LIMIT).await?;
        drop(client);
        cluster.registry.ensemble()?.stop()?;
        // Five looks over twenty seconds: produce goes on, and both members keep delivering.
        let mut before = (load.acknowledged(), count(&a)?, count(&b)?);
        for second in [4, 8, 12, 16, 20] {
            nap(Duration::from_secs(4));
            let now = (load.acknowledged(), count(&a)?, count(&b)?);
            ensure!(
                now.0 > before.0 && now.1 > before.1 && now.2 > before.2,
                "after {second} s without ZooKeeper: {before:?} then {now:?}"
            );
            before = now;
        }
        cluster.registry.ensemble()?.start_again()?;
        let client = group::registry(&cluster).await?;
        let owners = settled(&client, "g", TOPIC, 6, 2, LIMIT).await?;
        ensure!(owners.len() == 6, "{owners:?}");
        load.wait_for_more(2_000, LIMIT)?;
        ensure!(load.failed() == 0, "{} sends failed", load.failed());
        let sent = load.stop()?.len() as i64;
        eventually("commits reach the log end", LIMIT, async || {
            let committed: i64 = group::committed(&client, "g", TOPIC).await?.values().sum();
            ensure!(committed == sent, "{committed} of {sent} committed");
            Ok(Some(()))
        })
        .await?;
        let mut read = a.delivered()?;
        read.extend(b.delivered()?);
        complete(&read, PARTITIONS)?;
        cluster.create_topic("created-afterwards", 2, &[])?;
        ensure!(cluster.broker_process(1)?.is_running(), "a broker ended");
        Ok(())
    })
}
