//! Records whose deletion was answered stay deleted, whoever leads next.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coordinator::registry::partitions;
use integration_tests::cluster::{Cluster, ClusterOptions};
use integration_tests::tool::{done, refused};
use integration_tests::workload::{Load, LoadOptions, bounds, nap};
use integration_tests::{eventually, group};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(30);
/// Leaders that are killed right after they answered.
const KILLS: usize = 3;

#[test]
fn deleted_records_stay_deleted_when_the_leader_dies_right_after_its_answer() -> Result<()> {
    let session_timeout = Duration::from_secs(4);
    let options = ClusterOptions { session_timeout, ..ClusterOptions::three("deleted") };
    let mut cluster = Cluster::start(options)?;
    cluster.create_replicated_topic("gone", 1, 3, &["min.insync.replicas=2"])?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let load = Load::start(LoadOptions::new(&cluster.bootstrap(), "gone", 0))?;
    runtime.block_on(async {
        let client = group::registry(&cluster).await?;
        for _ in 0..KILLS {
            let leader = eventually("all are in sync", LIMIT, async || {
                let state = partitions::read(&client, "gone", 0).await?.context("no state")?.value;
                Ok(state.leader.filter(|_| state.isr.len() == 3))
            })
            .await?;
            load.wait_for_more(500, LIMIT)?;
            let (_, end) = bounds(&cluster.bootstrap(), "gone", 1).await?[0];
            let line = format!("topics --delete-records --topic gone --partition 0 --offset {end}");
            let began = Instant::now();
            done(&cluster, &line)?;
            cluster.kill_broker(leader.0)?;
            println!("deleted below {end} in {:?}", began.elapsed());
            eventually("another leads", LIMIT, async || {
                let state = partitions::read(&client, "gone", 0).await?.context("no state")?.value;
                Ok(state.leader.filter(|id| *id != leader))
            })
            .await?;
            // A new leader does not know at once up to where all is committed.
            let start = eventually("the new leader knows", LIMIT, async || {
                Ok(bounds(&cluster.bootstrap(), "gone", 1).await.ok().map(|bounds| bounds[0].0))
            })
            .await?;
            ensure!(start >= end, "the log starts at {start}, it was deleted below {end}");
            cluster.start_broker(leader.0)?;
        }
        anyhow::Ok(())
    })?;
    load.stop()?;
    Ok(())
}

#[test]
fn a_deletion_waits_for_a_replica_that_stands_still_until_it_is_not_in_sync_any_more() -> Result<()>
{
    let session_timeout = Duration::from_secs(30);
    let options = ClusterOptions { session_timeout, ..ClusterOptions::three("deletion-waits") }
        .set("replica.lag.time.max.ms", "13000");
    let mut cluster = Cluster::start(options)?;
    cluster.create_replicated_topic("gone", 1, 3, &["min.insync.replicas=1"])?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let client = runtime.block_on(group::registry(&cluster))?;
    let state = || {
        let read = runtime.block_on(partitions::read(&client, "gone", 0))?;
        anyhow::Ok(read.context("no state")?.value)
    };
    let load = Load::start(LoadOptions::new(&cluster.bootstrap(), "gone", 0))?;
    load.wait_for_more(500, LIMIT)?;
    load.stop()?;
    let leader = state()?.leader.context("no leader")?;
    // The tool asks the first broker where things are.
    let follower = (2..=3).rev().find(|id| *id != leader.0).context("no follower")?;
    cluster.broker_process(follower)?.signal(Signal::SIGSTOP)?;
    let text = refused(&cluster, "topics --delete-records --topic gone --offset latest", 1)?;
    ensure!(text.contains("not yet at all in-sync replicas"), "{text}");
    let deadline = Instant::now() + LIMIT;
    // A record that it lacks makes it fall behind.
    let load = Load::start(LoadOptions::new(&cluster.bootstrap(), "gone", 1))?;
    while state()?.isr.iter().any(|id| id.0 == follower) {
        ensure!(Instant::now() < deadline, "it never left the ISR");
        nap(Duration::from_millis(100));
    }
    load.stop()?;
    done(&cluster, "topics --delete-records --topic gone --offset latest")?;
    cluster.broker_process(follower)?.signal(Signal::SIGCONT)?;
    Ok(())
}
