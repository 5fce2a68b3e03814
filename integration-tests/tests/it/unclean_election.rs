//! A replica that is not in sync leads only where `unclean.leader.election.enable` allows it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coordinator::registry::partitions;
use coordinator::zk::payload::PartitionState;
use integration_tests::cluster::{Cluster, ClusterOptions};
use integration_tests::workload::{Load, LoadOptions, nap, read_all};
use integration_tests::{checker, eventually, group};

const LIMIT: Duration = Duration::from_secs(30);

async fn state(client: &zookeeper_client::Client, topic: &str) -> Result<PartitionState> {
    Ok(partitions::read(client, topic, 0).await?.context("no state")?.value)
}

#[test]
fn who_is_not_in_sync_leads_only_where_it_is_configured() -> Result<()> {
    let session_timeout = Duration::from_secs(4);
    let options = ClusterOptions { session_timeout, ..ClusterOptions::three("unclean") };
    let mut cluster = Cluster::start(options)?;
    let one = "min.insync.replicas=1";
    cluster.create_replicated_topic("clean", 1, 3, &[one])?;
    let unclean = "unclean.leader.election.enable=true";
    cluster.create_replicated_topic("unclean", 1, 3, &[one, unclean])?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let sent = runtime.block_on(async {
        let client = group::registry(&cluster).await?;
        let leader = state(&client, "clean").await?.leader.context("no leader")?.0;
        let load = Load::start(LoadOptions::new(&cluster.bootstrap(), "clean", 0))?;
        load.wait_for_more(500, LIMIT)?;
        let others: Vec<i32> = (1..=3).filter(|id| *id != leader).collect();
        for &other in &others {
            cluster.kill_broker(other)?;
        }
        for topic in ["clean", "unclean"] {
            eventually(&format!("{topic}: one replica is in sync"), LIMIT, async || {
                let state = state(&client, topic).await?;
                let alone = state.isr.len() == 1 && state.leader.map(|l| l.0) == Some(leader);
                // The other topic may have been led by one that died, and moved to this leader.
                Ok(alone.then_some(()))
            })
            .await?;
        }
        // What only that one has.
        load.wait_for_more(500, LIMIT)?;
        let sent = load.stop()?;
        cluster.kill_broker(leader)?;
        cluster.start_broker(others[0])?;
        eventually("the unclean topic is led", LIMIT, async || {
            Ok(state(&client, "unclean").await?.leader.filter(|l| l.0 == others[0]))
        })
        .await?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            let clean = state(&client, "clean").await?;
            let led = clean.leader.filter(|l| l.0 != leader);
            ensure!(led.is_none(), "a replica that was not in sync leads: {clean:?}");
            nap(Duration::from_millis(100));
        }
        cluster.start_broker(leader)?;
        eventually("the clean topic is led again", LIMIT, async || {
            Ok(state(&client, "clean").await?.leader.filter(|l| l.0 == leader))
        })
        .await?;
        anyhow::Ok(sent)
    })?;
    let verdict = checker::check(&sent, &read_all(&cluster.bootstrap(), "clean", 1)?);
    ensure!(verdict.is_clean(), "{verdict}");
    Ok(())
}
