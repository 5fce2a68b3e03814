//! What was acknowledged survives the death of a broker, once and in order.

use std::time::Duration;

use anyhow::{Result, ensure};
use integration_tests::checker;
use integration_tests::cluster::{Cluster, ClusterOptions};
use integration_tests::workload::{Load, LoadOptions, nap, read_all};
use nix::sys::signal::Signal;

const PARTITIONS: i32 = 6;
const LIMIT: Duration = Duration::from_secs(30);

fn judge(cluster: &Cluster, topic: &str, loads: Vec<Load>) -> Result<()> {
    let mut sent = Vec::new();
    for load in loads {
        sent.extend(load.stop()?);
    }
    let read = read_all(&cluster.bootstrap(), topic, PARTITIONS)?;
    let acknowledged = sent.iter().filter(|sent| sent.acknowledged.is_some()).count();
    println!("{} sent, {acknowledged} acknowledged, {} read", sent.len(), read.len());
    let verdict = checker::check(&sent, &read);
    ensure!(verdict.is_clean(), "{verdict}");
    ensure!(acknowledged >= 1_000, "only {acknowledged} acknowledged: the test did nothing");
    Ok(())
}

/// Brokers are killed and started again under load; `before-ack` keeps every promise.
#[test]
fn kill_9_of_a_broker_under_load_loses_and_repeats_nothing() -> Result<()> {
    let mut cluster = Cluster::start(ClusterOptions::three("durability"))?;
    let topic = "orders";
    cluster.create_topic(topic, PARTITIONS, &["flush=before-ack"])?;
    let bootstrap = cluster.bootstrap();
    let loads = (0..2)
        .map(|producer| Load::start(LoadOptions::new(&bootstrap, topic, producer)))
        .collect::<Result<Vec<_>>>()?;
    for broker in [1, 2, 3, 1] {
        for load in &loads {
            load.wait_for_more(1_000, LIMIT)?;
        }
        cluster.kill_broker(broker)?;
        nap(Duration::from_millis(500));
        cluster.start_broker(broker)?;
    }
    for load in &loads {
        load.wait_for_more(2_000, LIMIT)?;
        ensure!(load.failed() == 0, "{} records failed", load.failed());
    }
    judge(&cluster, topic, loads)
}

/// A broker that stands still past its session and comes back has lost and repeated nothing.
#[test]
fn a_broker_paused_past_its_session_comes_back_whole() -> Result<()> {
    let mut cluster = Cluster::start(ClusterOptions::three("paused-broker"))?;
    let topic = "orders";
    cluster.create_topic(topic, PARTITIONS, &["flush=before-ack"])?;
    let load = Load::start(LoadOptions::new(&cluster.bootstrap(), topic, 0))?;
    load.wait_for_more(2_000, LIMIT)?;
    cluster.broker_process(2)?.signal(Signal::SIGSTOP)?;
    nap(Duration::from_secs(5));
    cluster.broker_process(2)?.signal(Signal::SIGCONT)?;
    load.wait_for_more(4_000, LIMIT)?;
    ensure!(load.failed() == 0, "{} records failed", load.failed());
    judge(&cluster, topic, vec![load])
}

/// A clean restart under load, also with the default flush policy, is not noticed by the checker.
#[test]
fn a_clean_restart_under_load_loses_nothing() -> Result<()> {
    let mut cluster = Cluster::start(ClusterOptions::three("restart"))?;
    let topic = "orders";
    cluster.create_topic(topic, PARTITIONS, &[])?;
    let load = Load::start(LoadOptions::new(&cluster.bootstrap(), topic, 0))?;
    for broker in 1..=3 {
        load.wait_for_more(1_000, LIMIT)?;
        cluster.stop_broker(broker)?;
        cluster.start_broker(broker)?;
    }
    load.wait_for_more(2_000, LIMIT)?;
    ensure!(load.failed() == 0, "{} records failed", load.failed());
    judge(&cluster, topic, vec![load])
}
