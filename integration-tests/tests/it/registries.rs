//! The registries, over a connect string: the same tests against a real ZooKeeper and against the
//! embedded registry. Lost answers are in `lost_answers`, groups in `group_registries`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coordinator::registry::brokers::{self, RegisterError};
use coordinator::registry::configs::{self, Kind};
use coordinator::registry::fence::Change;
use coordinator::registry::{
    EpochFence, FencedError, RegistryError, cluster_id, deletions, partitions, producer_ids, topics,
};
use coordinator::zk::election::{self, Election};
use coordinator::zk::payload::{Deletion, Overrides, PartitionState, Stored, Topic};
use coordinator::zk::{Client, Payload, Session, SessionOptions, paths};
use futures_util::future::join_all;
use integration_tests::lossy::expire;
use integration_tests::scratch;
use integration_tests::zookeeper::{Registry, RegistryKind};
use proto::{BrokerId, LeaderEpoch, TopicId};
use uuid::Uuid;

use crate::group_registries;
use crate::lost_answers;
use crate::sessions::some_broker;

#[tokio::test]
async fn registries_on_zookeeper() -> Result<()> {
    on(RegistryKind::ZooKeeper(1), "registries-zookeeper").await
}

#[tokio::test]
async fn registries_on_embedded() -> Result<()> {
    on(RegistryKind::Embedded, "registries-embedded").await
}

async fn on(kind: RegistryKind, name: &str) -> Result<()> {
    let dir = scratch(name)?;
    let registry = Registry::start(kind, dir.path())?;
    all(registry.connect()).await
}

async fn all(connect: &str) -> Result<()> {
    one_cluster_id(connect).await.context("one_cluster_id")?;
    broker_ids(connect).await.context("broker_ids")?;
    one_controller(connect).await.context("one_controller")?;
    topic_life(connect).await.context("topic_life")?;
    large_topic(connect).await.context("large_topic")?;
    partition_states(connect).await.context("partition_states")?;
    producer_id_blocks(connect).await.context("producer_id_blocks")?;
    group_registries::all(connect).await?;
    lost_answers::all(connect).await
}

/// A session below a chroot of its own.
pub(crate) async fn session(connect: &str, chroot: &str) -> Result<Session> {
    let options = SessionOptions::new(format!("{connect}/{chroot}").parse()?)
        .with_timeout(Duration::from_secs(2))
        .failing_after(Duration::from_secs(10));
    Ok(Session::start(options).await?)
}

pub(crate) async fn elected(client: &Client) -> Result<EpochFence> {
    match election::elect(client, "127.0.0.1:9097", Uuid::new_v4()).await? {
        Election::Elected(fence) => Ok(fence),
        Election::Standby { controller, .. } => anyhow::bail!("{controller:?} is"),
    }
}

/// Registers a topic as the controller does: its own node last, so that readers see it whole.
pub(crate) async fn create_topic(
    client: &Client,
    fence: EpochFence,
    name: &str,
    count: usize,
) -> Result<Topic, FencedError> {
    let create = |path: String, bytes: Vec<u8>| Change::Create { path, bytes };
    let topic = Topic { topic_id: TopicId::random(), partitions: vec![vec![BrokerId(1)]; count] };
    let mut changes = vec![
        create(paths::topic(name), Vec::new()),
        create(paths::partitions(name), Vec::new()),
        create(paths::stored_parent(name), Vec::new()),
    ];
    for partition in 0.. {
        if partition as usize == count {
            break;
        }
        changes.push(create(paths::partition(name, partition), Vec::new()));
        changes.push(create(paths::partition_state(name, partition), state(0).encode()?));
    }
    let (path, bytes) = (paths::topic(name), topic.encode()?);
    changes.push(Change::Set { path, bytes, version: Some(0) });
    for part in changes.chunks(1000) {
        fence.commit(client, part).await?;
    }
    Ok(topic)
}

pub(crate) fn state(epoch: i32) -> PartitionState {
    PartitionState {
        leader: Some(BrokerId(1)),
        leader_epoch: LeaderEpoch(epoch),
        isr: vec![BrokerId(1)],
        electable: vec![],
        controller_epoch: 1,
    }
}

async fn one_cluster_id(connect: &str) -> Result<()> {
    let sessions = join_all((0..5).map(|_| session(connect, "id"))).await;
    let ids = join_all(sessions.iter().map(|session| async move {
        let live = session.as_ref().ok().context("a session")?.live().await?;
        Ok::<_, anyhow::Error>(cluster_id::read_or_create(&live.client).await?)
    }));
    let ids: BTreeSet<Uuid> = ids.await.into_iter().collect::<Result<_>>()?;
    ensure!(ids.len() == 1, "{ids:?}");
    Ok(())
}

async fn broker_ids(connect: &str) -> Result<()> {
    let (one, two) = (session(connect, "brokers").await?, session(connect, "brokers").await?);
    let (mine, theirs) = (one.live().await?, two.live().await?);
    let patience = Duration::from_millis(200);
    let broker = some_broker(Uuid::new_v4());
    let id = BrokerId(1);
    let (none, watch) = brokers::list_and_watch(&theirs.client).await?;
    ensure!(none.is_empty());
    brokers::register(&mine.client, id, &broker, &[], patience).await?;
    brokers::register(&mine.client, id, &broker, &[], patience).await.context("idempotent")?;
    tokio::time::timeout(Duration::from_secs(1), watch.changed()).await.context("the watch")?;
    ensure!(brokers::list(&theirs.client).await?[&id] == broker);

    // Another process with the same id.
    let other = some_broker(Uuid::new_v4());
    let refused = brokers::register(&theirs.client, id, &other, &[], patience).await;
    let refused = refused.err().context("the id is taken")?;
    ensure!(matches!(refused, RegisterError::Taken { .. }), "{refused}");
    ensure!(refused.to_string().contains("another id"), "{refused}");
    // It gets the id once the first has gone.
    let waiting = brokers::register(&theirs.client, id, &other, &[], patience * 20);
    let leaving = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        one.close().await;
    };
    let (waited, ()) = tokio::join!(waiting, leaving);
    waited?;
    // What is provably dead is taken over at once.
    let three = session(connect, "brokers").await?;
    let mine = three.live().await?;
    ensure!(brokers::list(&mine.client).await?[&id] == other);
    let began = Instant::now();
    let dead = [other.incarnation];
    brokers::register(&mine.client, id, &broker, &dead, patience).await?;
    ensure!(began.elapsed() < patience, "took {:?}", began.elapsed());
    Ok(())
}

async fn one_controller(connect: &str) -> Result<()> {
    let (one, two) = (session(connect, "election").await?, session(connect, "election").await?);
    let (first, second) = (one.live().await?, two.live().await?);
    let incarnation = Uuid::new_v4();
    let Election::Elected(fence) = election::elect(&first.client, "a:1", incarnation).await? else {
        anyhow::bail!("nobody else is there");
    };
    ensure!(fence.epoch == 1);
    let again = election::elect(&first.client, "a:1", incarnation).await?;
    ensure!(matches!(again, Election::Elected(same) if same == fence), "idempotent");
    let Election::Standby { controller, watcher } =
        election::elect(&second.client, "b:1", Uuid::new_v4()).await?
    else {
        anyhow::bail!("two controllers");
    };
    ensure!(controller.address == "a:1");
    create_topic(&first.client, fence, "before", 1).await?;

    expire(connect, &first).await?;
    tokio::time::timeout(Duration::from_secs(4), watcher.changed()).await.context("the watch")?;
    let next = elected(&second.client).await?;
    ensure!(next.epoch == 2, "the epoch is raised");
    // The first one, with a new session and its old epoch, can change nothing.
    let late = one.live_after(first.number).await?;
    let refused = create_topic(&late.client, fence, "late", 1).await;
    ensure!(matches!(refused, Err(FencedError::Fenced { epoch: 1 })), "{refused:?}");
    ensure!(topics::read(&late.client, "late").await?.is_none());
    election::resign(&late.client).await?;
    ensure!(election::read(&late.client).await?.is_some(), "another's node is left alone");
    election::resign(&second.client).await?;
    ensure!(election::read(&late.client).await?.is_none());
    Ok(())
}

async fn topic_life(connect: &str) -> Result<()> {
    let session = session(connect, "topics").await?;
    let client = &session.live().await?.client;
    let fence = elected(client).await?;
    let (names, watch) = topics::names_and_watch(client).await?;
    ensure!(names.is_empty() && topics::list(client).await?.is_empty());
    let topic = create_topic(client, fence, "logs", 3).await?;
    watch.changed().await;
    let again = create_topic(client, fence, "logs", 1).await;
    ensure!(matches!(again, Err(FencedError::Exists { .. })), "{again:?}");
    let (found, watch) = topics::read_and_watch(client, "logs").await?;
    ensure!(found.is_some_and(|found| found.value == topic));
    let states = partitions::read_all(client, "logs", 3).await?;
    ensure!(states.iter().flatten().all(|found| found.value == state(0)) && states.len() == 3);

    let some = Overrides { values: [("segment.bytes".to_owned(), "4096".to_owned())].into() };
    let deletion = Deletion { topic_id: topic.topic_id, accepted_ms: 1 };
    let (config, mark) = (paths::config("topics", "logs"), paths::admin_delete("logs"));
    let changes = [
        Change::Create { path: config, bytes: some.encode()? },
        Change::Create { path: mark, bytes: deletion.encode()? },
    ];
    fence.commit(client, &changes).await?;
    ensure!(configs::list(client, Kind::Topic).await?["logs"] == some);
    ensure!(deletions::list(client).await?["logs"] == deletion);
    let stored = Stored { partitions: vec![0, 1] };
    brokers::set_stored(client, "logs", BrokerId(1), &stored).await?;

    topics::remove(client, fence, "logs").await?;
    watch.changed().await;
    topics::remove(client, fence, "logs").await.context("idempotent")?;
    ensure!(topics::names(client).await?.is_empty() && deletions::list(client).await?.is_empty());
    ensure!(configs::list(client, Kind::Topic).await?.is_empty());
    brokers::set_stored(client, "logs", BrokerId(1), &stored).await.context("topic is gone")?;
    create_topic(client, fence, "logs", 2).await.context("created again")?;

    // What a creation that ended half-way leaves is no topic, and can be cleared up.
    let half = Change::Create { path: paths::topic("half"), bytes: Vec::new() };
    fence.commit(client, &[half]).await?;
    ensure!(topics::read(client, "half").await?.is_none());
    ensure!(topics::names(client).await? == ["half", "logs"]);
    ensure!(topics::list(client).await?.keys().eq(["logs"]));
    topics::remove(client, fence, "half").await?;
    ensure!(topics::names(client).await? == ["logs"]);
    Ok(())
}

/// More partitions than one request may carry.
async fn large_topic(connect: &str) -> Result<()> {
    let session = session(connect, "large").await?;
    let client = &session.live().await?.client;
    let fence = elected(client).await?;
    let topic = create_topic(client, fence, "large", 4000).await?;
    ensure!(topics::read(client, "large").await?.context("created")?.value == topic);
    let began = Instant::now();
    let states = partitions::read_all(client, "large", 4000).await?;
    println!("4,000 partition states read in {:?}", began.elapsed());
    ensure!(states.iter().all(Option::is_some));
    let began = Instant::now();
    topics::remove(client, fence, "large").await?;
    println!("and removed in {:?}", began.elapsed());
    ensure!(topics::names(client).await?.is_empty());
    // What no request may carry is refused before it closes the connection.
    let huge = Change::Create { path: "/huge".into(), bytes: vec![0; 1 << 20] };
    let refused = fence.commit(client, &[huge]).await;
    ensure!(matches!(refused, Err(FencedError::Registry(RegistryError::Payload(_)))));
    Ok(())
}

async fn partition_states(connect: &str) -> Result<()> {
    let session = session(connect, "states").await?;
    let client = &session.live().await?.client;
    let fence = elected(client).await?;
    create_topic(client, fence, "t", 2).await?;
    let read = partitions::read(client, "t", 0).await?.context("a state")?;
    let version = partitions::set(client, "t", 0, &state(1), read.version).await?;
    let version = version.context("nobody else wrote")?;
    let late = partitions::set(client, "t", 0, &state(2), read.version).await?;
    ensure!(late.is_none(), "a version that is gone");
    let none = partitions::set(client, "t", 7, &state(2), 0).await?;
    ensure!(none.is_none(), "a partition that is not there");
    let change = |epoch, version| -> Result<Change> {
        let (path, bytes) = (paths::partition_state("t", 0), state(epoch).encode()?);
        Ok(Change::Set { path, bytes, version: Some(version) })
    };
    ensure!(fence.commit(client, &[change(3, version)?]).await? == [version + 1]);
    let raced = fence.commit(client, &[change(4, version)?]).await;
    ensure!(matches!(raced, Err(FencedError::Conflict { .. })), "{raced:?}");
    let old = EpochFence { version: fence.version - 1, ..fence };
    let fenced = old.commit(client, &[change(4, version + 1)?]).await;
    ensure!(matches!(fenced, Err(FencedError::Fenced { .. })), "{fenced:?}");
    Ok(())
}

async fn producer_id_blocks(connect: &str) -> Result<()> {
    let (one, two) = (session(connect, "ids").await?, session(connect, "ids").await?);
    let (one, two) = (one.live().await?, two.live().await?);
    let blocks = join_all((0..40).map(|i| {
        let client = if i % 2 == 0 { &one.client } else { &two.client };
        producer_ids::take_block(client, 10)
    }));
    let mut firsts = BTreeSet::new();
    for block in blocks.await {
        let block = block?;
        ensure!(block.end - block.start == 10 && firsts.insert(block.start), "{block:?} again");
    }
    ensure!(firsts.last() == Some(&390), "{firsts:?}");
    Ok(())
}
