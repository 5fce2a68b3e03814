//! Replicas that move, leaders that are elected and brokers that are drained, all by the operator's
//! tool, while records are produced.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration_tests::checker;
use integration_tests::cluster::{Cluster, ClusterOptions};
use integration_tests::tool::{done, json, refused};
use integration_tests::workload::{Load, LoadOptions, nap, read_all};
use integration_tests::zookeeper::RegistryKind;
use serde_json::{Value, json};

/// On a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_secs(40);
/// Bytes a second: the topic takes a minute to move.
const SLOWLY: u64 = 100_000;
/// A round or two that are under way when the bucket is empty.
const AHEAD: u64 = 1_500_000;
/// What an operator has set for broker 4 by hand.
const BY_HAND: u64 = 700_000;

fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let found = look();
        if let Ok(Some(found)) = found {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return found?.context(format!("waited {LIMIT:?} for: {what}"));
        }
        nap(Duration::from_millis(100));
    }
}

/// Writes a plan of one partition; where it is.
fn plan(cluster: &Cluster, topic: &str, partition: i32, replicas: &[i32]) -> Result<PathBuf> {
    let one = json!({ "topic": topic, "partition": partition, "replicas": replicas });
    let path = cluster.dir().join(format!("plan-{topic}-{partition}-{}.json", replicas.len()));
    #[allow(clippy::disallowed_methods, reason = "a file of a test")]
    std::fs::write(&path, json!({ "version": 1, "partitions": [one] }).to_string())?;
    Ok(path)
}

/// One partition of a topic as it is described.
fn partition(cluster: &Cluster, topic: &str, partition: usize) -> Result<Value> {
    let described = json(cluster, &format!("topics --describe --topic {topic}"))?;
    Ok(described[0]["partitions"][partition].clone())
}

/// The rate that a broker's metrics say is in force.
fn rate(cluster: &Cluster, broker: i32) -> Result<u64> {
    let page = cluster.metrics(broker)?;
    let line =
        page.lines().find_map(|line| line.strip_prefix("ottla_replica_throttled_rate_bytes "));
    Ok(line.context("no such metric")?.trim().parse()?)
}

/// How many bytes the replica that comes has fetched, of the one reassignment under way.
fn fetched(cluster: &Cluster) -> Result<u64> {
    let list = json(cluster, "reassign --list")?;
    let progress = &list[0]["progress"][0];
    let bytes = |key: &str| progress[key].as_u64().with_context(|| format!("no {key}: {list}"));
    Ok(bytes("bytes_total")?.saturating_sub(bytes("bytes_left")?))
}

/// Kills the active coordinator and starts it again when another one is active.
fn kill_controller(cluster: &mut Cluster) -> Result<()> {
    let active = |cluster: &Cluster| -> Result<String> {
        let described = json(cluster, "brokers --describe")?;
        Ok(described["controller"].as_str().context("no controller")?.to_owned())
    };
    let address = active(cluster)?;
    let index = cluster.coordinator_at(&address).context("an unknown controller")?;
    cluster.coordinators()[index].kill()?;
    until("another controller", || Ok((active(cluster)? != address).then_some(())))?;
    cluster.restart_coordinator(index)
}

/// A move that is throttled: it is listed with its progress, goes on under the next controller, takes
/// another throttle, and leaves what the operator had set as it was.
fn a_move(cluster: &mut Cluster) -> Result<()> {
    done(
        cluster,
        &format!(
            "configs --alter --broker 4 --add-config follower.replication.throttled.rate={BY_HAND}"
        ),
    )?;
    ensure!(rate(cluster, 4)? == BY_HAND, "in force when it is answered");
    let plan = plan(cluster, "moved", 0, &[4, 2])?;
    let plan = plan.display();
    let execute = format!("reassign --execute --reassignment-json-file {plan} --throttle");
    let begun = Instant::now();
    let told = done(cluster, &format!("{execute} {SLOWLY}"))?;
    ensure!(told.contains("\"replicas\":[1,2]"), "{told}");
    ensure!(told.contains("Successfully started partition reassignments for moved-0"), "{told}");
    ensure!(rate(cluster, 4)? == SLOWLY, "in force when it is answered");
    let verify = format!("reassign --verify --reassignment-json-file {plan}");
    let told = refused(cluster, &verify, 1)?;
    ensure!(told.contains("1 of 1 partitions are still in progress"), "{told}");
    let first = until("progress", || fetched(cluster).map(|bytes| (bytes > 0).then_some(bytes)))?;

    kill_controller(cluster)?;
    let later =
        until("more progress", || fetched(cluster).map(|bytes| (bytes > first).then_some(bytes)))?;
    let most = SLOWLY * begun.elapsed().as_millis() as u64 / 1_000 + AHEAD;
    ensure!(later <= most, "{later} bytes in {:?}", begun.elapsed());
    let list = done(cluster, "reassign --list")?;
    ensure!(
        list.contains("moved-0: replicas: 4,2,1. adding: 4. removing: 1. broker 4: "),
        "{list}"
    );
    ensure!(list.contains(&format!("throttle: {SLOWLY} bytes/s")), "{list}");
    ensure!(rate(cluster, 4)? == SLOWLY, "under the next controller too");

    // What to go back to is what it had, not what is on its way.
    let told = done(cluster, &format!("{execute} 500000000 --wait"))?;
    ensure!(told.contains("\"replicas\":[1,2]"), "{told}");
    ensure!(told.contains("Reassignment of partition moved-0 is completed."), "{told}");
    done(cluster, &verify)?;
    let now = partition(cluster, "moved", 0)?;
    ensure!((&now["replicas"], &now["leader"]) == (&json!([4, 2]), &json!(4)), "{now}");
    ensure!(rate(cluster, 4)? == BY_HAND, "what was set by hand holds again");
    let configs = done(cluster, "configs --describe --broker 4")?;
    ensure!(configs.contains(&format!("throttled.rate={BY_HAND}")), "{configs}");
    let again = done(cluster, &format!("{execute} 500000000"))?;
    ensure!(again.contains("Nothing to do for moved-0: as planned already"), "{again}");
    Ok(())
}

/// A move that is taken back.
fn a_cancellation(cluster: &Cluster) -> Result<()> {
    let there = plan(cluster, "moved", 1, &[3, 4, 1])?;
    let back = plan(cluster, "moved", 1, &[2, 3])?;
    let there = there.display();
    done(
        cluster,
        &format!("reassign --execute --reassignment-json-file {there} --throttle {SLOWLY}"),
    )?;
    let under_way = partition(cluster, "moved", 1)?;
    ensure!(under_way["replicas"] == json!([3, 4, 1, 2]), "{under_way}");
    let told =
        done(cluster, &format!("reassign --cancel --reassignment-json-file {there} --wait"))?;
    ensure!(told.contains("Successfully cancelled partition reassignments for: moved-1"), "{told}");
    done(cluster, &format!("reassign --verify --reassignment-json-file {}", back.display()))?;
    let now = partition(cluster, "moved", 1)?;
    ensure!((&now["replicas"], &now["leader"]) == (&json!([2, 3]), &json!(2)), "{now}");
    ensure!(done(cluster, "reassign --list")?.contains("No partition reassignments found"));
    let told = done(cluster, &format!("reassign --cancel --reassignment-json-file {there}"))?;
    ensure!(told.contains("None of the specified partition reassignments are active."), "{told}");
    Ok(())
}

/// Brokers of all replicas of a topic.
fn hosts(cluster: &Cluster, topic: &str) -> Result<Vec<i64>> {
    let described = json(cluster, &format!("topics --describe --topic {topic}"))?;
    let partitions = described[0]["partitions"].as_array().context("no partitions")?;
    let replicas = partitions.iter().filter_map(|p| p["replicas"].as_array()).flatten();
    Ok(replicas.filter_map(Value::as_i64).collect())
}

/// A broker that is drained gets nothing new, whoever is the controller and whenever it starts.
fn a_drain(cluster: &mut Cluster) -> Result<()> {
    let told = refused(cluster, "brokers --drain 9", 1)?;
    ensure!(told.contains("there is no broker 9"), "{told}");
    let told = done(cluster, "brokers --drain 4 --wait")?;
    ensure!(told.contains("Broker 4 has no replicas any more (1 partitions moved)"), "{told}");
    cluster.stop_broker(4)?;
    until("broker 4 is gone", || {
        let list = done(cluster, "brokers --list")?;
        Ok(list.contains("Drained and not live: 4").then_some(()))
    })?;
    kill_controller(cluster)?;
    cluster.start_broker(4)?;
    until("broker 4 is back, and drained", || {
        let list = done(cluster, "brokers --list")?;
        Ok(list.lines().any(|l| l.starts_with("4 ") && l.ends_with("drained")).then_some(()))
    })?;
    done(cluster, "topics --create --topic new --partitions 3 --replication-factor 2")?;
    done(cluster, "topics --alter --topic new --partitions 6")?;
    let hosts = hosts(cluster, "new")?;
    ensure!(hosts.len() == 12 && !hosts.contains(&4), "{hosts:?}");
    let create = "topics --create --topic wide --replication-factor 4 --partitions 1";
    let told = refused(cluster, create, 1)?;
    ensure!(told.contains("besides those that are drained (4)"), "{told}");
    let generated = json(cluster, "reassign --generate --topics-to-move new")?;
    let proposed = &generated["proposed"]["partitions"];
    let lists =
        proposed.as_array().context("no plan")?.iter().filter_map(|p| p["replicas"].as_array());
    ensure!(lists.flatten().all(|id| *id != json!(4)), "{generated}");
    let told = done(cluster, "brokers --undrain 4")?;
    ensure!(told == "Broker 4 takes new replicas again.\n", "{told}");
    done(cluster, create).map(drop)
}

/// Nobody who is in sync is left, and an operator decides that it goes on all the same.
fn an_unclean_election(cluster: &mut Cluster) -> Result<()> {
    done(cluster, "topics --create --topic torn --replica-assignment 1:2")?;
    let in_sync = |cluster: &Cluster, isr: Value| {
        until(&format!("in sync: {isr}"), || {
            Ok((partition(cluster, "torn", 0)?["isr"] == isr).then_some(()))
        })
    };
    cluster.kill_broker(2)?;
    in_sync(cluster, json!([1]))?;
    cluster.kill_broker(1)?;
    cluster.start_broker(2)?;
    let describe = "topics --describe --unavailable --topic torn";
    let line = until("torn is unavailable", || {
        let told = done(cluster, describe)?;
        let live = done(cluster, "brokers --list")?.lines().any(|line| line.starts_with("2 "));
        Ok((live && told.contains("Leader: none")).then_some(told))
    })?;
    ensure!(
        line.contains("Topic: torn\tPartition: 0\tLeader: none\tReplicas: 1,2\tIsr: 1"),
        "{line}"
    );
    let elect = |kind: &str| format!("elect --election-type {kind} --topic torn --partition 0");
    let told = refused(cluster, &elect("preferred"), 1)?;
    ensure!(
        told.contains("Error completing leader election (PREFERRED) for partition: torn-0"),
        "{told}"
    );
    let told = done(cluster, &elect("unclean"))?;
    ensure!(
        told.contains("Successfully completed leader election (UNCLEAN) for partitions torn-0"),
        "{told}"
    );
    let now = partition(cluster, "torn", 0)?;
    ensure!((&now["leader"], &now["isr"]) == (&json!(2), &json!([2])), "{now}");
    ensure!(done(cluster, describe)?.is_empty(), "nothing is unavailable");
    ensure!(done(cluster, "topics --describe --under-replicated --topic torn")?.contains("Isr: 2"));
    let told = done(cluster, &elect("unclean"))?;
    ensure!(told.contains("Valid replica already elected for partitions torn-0"), "{told}");
    cluster.start_broker(1)?;
    in_sync(cluster, json!([2, 1]))?;
    done(cluster, &elect("preferred"))?;
    let now = partition(cluster, "torn", 0)?;
    ensure!(now["leader"] == json!(1), "{now}");
    let told = refused(cluster, "elect --election-type preferred --topic nothing", 1)?;
    ensure!(told.contains("for topic nothing: there is no topic `nothing`"), "{told}");
    Ok(())
}

#[test]
fn replicas_move_brokers_are_drained_and_leaders_elected_by_hand() -> Result<()> {
    let options = ClusterOptions {
        registry: RegistryKind::Embedded,
        coordinators: 2,
        brokers: 4,
        session_timeout: Duration::from_secs(4),
        ..ClusterOptions::three("reassign")
    };
    let mut cluster = Cluster::start(options)?;
    done(&cluster, "topics --create --topic moved --replica-assignment 1:2,2:3")?;
    let full =
        LoadOptions { value_len: 20_000, ..LoadOptions::new(&cluster.bootstrap(), "moved", 0) };
    let filling = Load::start(LoadOptions { rate: 500, ..full.clone() })?;
    filling.wait_for_more(600, LIMIT)?;
    let mut sent = filling.stop()?;
    let few = LoadOptions { producer: 1, rate: 200, value_len: 100, ..full };
    let load = Load::start(few)?;
    let moved = a_move(&mut cluster).and_then(|()| a_cancellation(&cluster));
    load.wait_for_more(100, LIMIT)?;
    ensure!(load.failed() == 0, "{} records failed", load.failed());
    sent.extend(load.stop()?);
    moved?;
    a_drain(&mut cluster)?;
    let verdict = checker::check(&sent, &read_all(&cluster.bootstrap(), "moved", 2)?);
    ensure!(verdict.is_clean(), "{verdict}");
    an_unclean_election(&mut cluster)?;
    cluster.check_alive()
}
