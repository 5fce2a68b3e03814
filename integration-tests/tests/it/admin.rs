//! The operator's tool and the controller: spellings, exit codes, takeover, fencing, deletion.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use coordinator::zk::payload::Controller;
use coordinator::zk::{Session, SessionOptions, election};
use integration_tests::cluster::{Cluster, ClusterOptions};
use integration_tests::eventually;
use integration_tests::tool::{done, json, refused};
use nix::sys::signal::Signal;
use proto::client::{Connection, SocketOptions};
use proto::v1;
use proto::v1::admin_client::AdminClient;

const LIMIT: Duration = Duration::from_secs(15);

#[test]
fn the_tool_speaks_both_spellings_and_ends_with_a_code() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::one("admin-tool"))?;
    ensure!(done(&cluster, "topics --list")?.is_empty());
    ensure!(done(&cluster, "topics list")?.is_empty());
    ensure!(done(&cluster, "groups --list")?.is_empty());
    let create = "topics --create --topic logs --partitions 2 --config retention.ms=60000";
    ensure!(done(&cluster, create)? == "Created topic logs.\n");
    let exists = refused(&cluster, create, 1)?;
    ensure!(exists.contains("topic `logs` exists"), "{exists}");
    done(&cluster, "topics create logs --if-not-exists")?;
    ensure!(done(&cluster, "topics --list")? == "logs\n");

    let described = done(&cluster, "topics --describe --topic logs")?;
    let lines: Vec<&str> = described.lines().collect();
    let head: Vec<&str> = lines[0].split('\t').collect();
    ensure!(head[0] == "Topic: logs" && head[1].starts_with("TopicId: "), "{described}");
    ensure!(
        head[2..] == ["PartitionCount: 2", "ReplicationFactor: 1", "Configs: retention.ms=60000"]
    );
    ensure!(
        lines[1]
            == "\tTopic: logs\tPartition: 0\tLeader: 1\tReplicas: 1\tIsr: 1\
                \tLogStart: 0\tLogEnd: 0\tSize: 0",
        "{described}"
    );

    done(&cluster, "topics alter logs --partitions 5")?;
    let topics = json(&cluster, "topics describe")?;
    ensure!(topics[0]["partition_count"] == 5, "{topics}");
    let wrong = refused(&cluster, "topics --alter --topic logs --partitions 3", 1)?;
    ensure!(wrong.contains("never removed"), "{wrong}");
    let near = refused(&cluster, "topics describe log", 1)?;
    ensure!(near.contains("did you mean `logs`"), "{near}");
    refused(&cluster, "topics --create --topic a/b", 1)?;
    refused(&cluster, "topics --create --topic t --replication-factor 3", 1)?;
    refused(&cluster, "topics frobnicate", 2)?;
    refused(&cluster, "topics list --bootstrap-server 127.0.0.1:1", 3)?;

    let by_registry = format!("topics list --zookeeper {}", cluster.zookeeper());
    ensure!(done(&cluster, &by_registry)? == "logs\n");
    let brokers = json(&cluster, "brokers")?;
    ensure!(brokers["brokers"][0]["leaders"] == 5, "{brokers}");

    done(&cluster, "configs --alter --topic logs --add-config segment.ms=5000")?;
    let bad = refused(&cluster, "configs alter --topic logs --add-config segment.mss=1", 1)?;
    ensure!(bad.contains("did you mean `segment.ms`"), "{bad}");
    done(
        &cluster,
        "configs --alter --entity-type topics --entity-name logs --delete-config segment.ms",
    )?;
    let configs = done(&cluster, "configs describe --topic logs")?;
    ensure!(configs == "Dynamic configs for topic logs are:\n  retention.ms=60000\n", "{configs}");

    let dry = done(&cluster, "groups --reset-offsets --group g --topic logs:1 --to-earliest")?;
    ensure!(dry.lines().count() == 2, "{dry}");
    refused(&cluster, "groups describe g", 1)?;
    done(&cluster, "groups reset-offsets --group g --topic logs:1 --to-latest --execute")?;
    let group = json(&cluster, "groups describe g")?;
    let partition = &group[0]["partitions"][0];
    ensure!(partition["committed"] == 0 && partition["lag"] == 0, "{group}");
    let listed = done(&cluster, "groups list")?;
    ensure!(listed.starts_with("GROUP  KIND") && listed.contains("zookeeper"), "{listed}");
    done(&cluster, "groups delete g")?;
    done(&cluster, "topics --delete --topic logs")?;
    ensure!(done(&cluster, "topics --list")?.is_empty());
    Ok(())
}

/// The active controller as the registry has it.
async fn active(zookeeper: &str) -> Result<Option<Controller>> {
    let options = SessionOptions::new(zookeeper.parse()?).failing_after(LIMIT);
    let session = Session::start(options).await?;
    let live = session.live().await?;
    let found = election::read(&live.client).await?;
    drop(live);
    session.close().await;
    Ok(found)
}

/// Waits until another coordinator than that of `old` is registered.
async fn successor(zookeeper: &str, old: &Controller) -> Result<Controller> {
    eventually("another controller", LIMIT, async || {
        Ok(active(zookeeper).await?.filter(|now| now.epoch > old.epoch))
    })
    .await
}

async fn admin(address: &str) -> Result<AdminClient<Connection>> {
    Ok(AdminClient::new(Connection::connect(address, &SocketOptions::default()).await?))
}

fn create(id: u8, name: &str) -> v1::CreateTopicsRequest {
    let topic = v1::NewTopic { name: name.to_owned(), partitions: 3, ..Default::default() };
    v1::CreateTopicsRequest {
        request_id: Bytes::from(vec![id; 16]),
        topics: vec![topic],
        ..Default::default()
    }
}

/// Sends a creation until somebody answers it; the code of the one topic's error, 0 for none.
async fn created(address: &str, request: v1::CreateTopicsRequest) -> Result<i32> {
    eventually("an answer", LIMIT, async || {
        let mut admin = admin(address).await?;
        let answer = admin.create_topics(request.clone()).await?.into_inner();
        Ok(Some(answer.results[0].error.as_ref().map_or(0, |error| error.code)))
    })
    .await
}

/// The coordinator that listens at `address`, by what the controller node says.
fn index_of(cluster: &mut Cluster, address: &str) -> Result<usize> {
    let elected = format!("address=\"{address}\"");
    let found = cluster.coordinators().iter().position(|c| c.log_text().contains(&elected));
    found.context("no coordinator says that it was elected")
}

fn two_coordinators(name: &str) -> ClusterOptions {
    ClusterOptions { coordinators: 2, ..ClusterOptions::three(name) }
}

#[tokio::test]
async fn a_standby_takes_over_and_a_retry_is_not_done_twice() -> Result<()> {
    let mut cluster = Cluster::start(two_coordinators("admin-takeover"))?;
    let zookeeper = cluster.zookeeper();
    done(&cluster, "topics --create --topic spread --partitions 12")?;
    let brokers = json(&cluster, "brokers")?;
    for broker in brokers["brokers"].as_array().context("no brokers")? {
        ensure!(broker["partitions"] == 4, "not balanced: {brokers}");
    }
    let first = active(&zookeeper).await?.context("no controller")?;
    ensure!(created(&first.address, create(1, "retried")).await? == 0);
    let index = index_of(&mut cluster, &first.address)?;
    cluster.coordinators()[index].kill()?;
    let began = Instant::now();
    let second = successor(&zookeeper, &first).await?;
    println!("taken over after {} ms", began.elapsed().as_millis());
    ensure!(created(&second.address, create(1, "retried")).await? == 0, "done twice");
    ensure!(created(&second.address, create(2, "retried")).await? == 36, "another request");
    // Brokers forward to the new one.
    done(&cluster, "topics --create --topic later --partitions 3")?;
    // And with none at all the refusal comes in time.
    for coordinator in cluster.coordinators() {
        if coordinator.is_running() {
            coordinator.kill()?;
        }
    }
    let began = Instant::now();
    let error = refused(&cluster, "topics --create --topic never", 3)?;
    ensure!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    ensure!(error.contains("controller"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_controller_stopped_past_its_session_writes_nothing_when_it_wakes() -> Result<()> {
    let mut cluster = Cluster::start(two_coordinators("admin-fenced"))?;
    let zookeeper = cluster.zookeeper();
    let first = active(&zookeeper).await?.context("no controller")?;
    let index = index_of(&mut cluster, &first.address)?;
    cluster.coordinators()[index].signal(Signal::SIGSTOP)?;
    let second = successor(&zookeeper, &first).await?;
    ensure!(created(&second.address, create(1, "second")).await? == 0);
    // Requests that reach the old one as it wakes: refused, or too late; never done.
    let late = tokio::spawn(async move {
        let mut admin = admin(&first.address).await?;
        Ok::<_, anyhow::Error>(admin.create_topics(create(2, "late")).await)
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    cluster.coordinators()[index].signal(Signal::SIGCONT)?;
    let answer = late.await??;
    ensure!(answer.is_err(), "a controller of the past answered: {answer:?}");
    let topics = done(&cluster, "topics --list")?;
    ensure!(topics == "second\n", "{topics}");
    let now = active(&zookeeper).await?.context("no controller")?;
    ensure!(now.epoch == second.epoch, "the role moved without need");
    Ok(())
}

#[tokio::test]
async fn a_deletion_is_finished_without_a_dead_broker_and_by_the_next_controller() -> Result<()> {
    let mut cluster = Cluster::start(two_coordinators("admin-deletion"))?;
    let zookeeper = cluster.zookeeper();
    done(&cluster, "topics --create --topic doomed --partitions 6")?;
    let id = json(&cluster, "topics describe doomed")?[0]["topic_id"].clone();
    // Broker 3 is silent but its session lives: the deletion is accepted and waits.
    cluster.broker_process(3)?.signal(Signal::SIGSTOP)?;
    let first = active(&zookeeper).await?.context("no controller")?;
    let delete = v1::DeleteTopicsRequest {
        request_id: Bytes::from(vec![7; 16]),
        topics: vec!["doomed".to_owned()],
        if_exists: false,
    };
    let mut client = admin(&first.address).await?;
    let deleting = tokio::spawn(async move { client.delete_topics(delete).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let index = index_of(&mut cluster, &first.address)?;
    cluster.coordinators()[index].kill()?;
    ensure!(deleting.await?.is_err(), "the answer came from a dead process");
    let second = successor(&zookeeper, &first).await?;
    cluster.kill_broker(3)?;
    eventually("the topic's end", LIMIT, async || {
        Ok((created(&second.address, create(8, "doomed")).await? == 0).then_some(()))
    })
    .await?;
    cluster.start_broker(3)?;
    // The broker that slept through it serves the new topic and sets the old directories aside.
    let described = eventually("three leaders", LIMIT, async || {
        let described = json(&cluster, "topics describe doomed")?;
        let led = described[0]["partitions"].as_array().context("no partitions")?;
        Ok(led.iter().all(|p| p["leader"].is_i64()).then_some(described.clone()))
    })
    .await?;
    ensure!(described[0]["topic_id"] != id, "{described}");
    ensure!(described[0]["partitions"].as_array().map(Vec::len) == Some(3), "{described}");
    Ok(())
}

#[test]
fn a_broker_that_hangs_is_passed_by() -> Result<()> {
    let session_timeout = Duration::from_secs(30);
    let options = ClusterOptions { session_timeout, ..ClusterOptions::three("hangs") };
    let mut cluster = Cluster::start(options)?;
    done(&cluster, "topics --create --topic logs")?;
    // The first that is asked; the kernel takes connections for it all the same.
    cluster.broker_process(1)?.signal(Signal::SIGSTOP)?;
    let listed = done(&cluster, "topics --list --timeout-ms 10000")?;
    cluster.broker_process(1)?.signal(Signal::SIGCONT)?;
    ensure!(listed == "logs\n", "{listed}");
    Ok(())
}
