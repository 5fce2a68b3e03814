//! The registries, over a connect string: the same tests against a real ZooKeeper and against the
//! embedded registry. Lost answers are in `lost_answers`, groups in `group_registries`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coordinator::registry::brokers::{self, RegisterError};
use coordinator::registry::configs::{self, Kind};
use coordinator::registry::topics::{self, NewTopic};
use coordinator::registry::{
    EpochFence, FencedError, cluster_id, deletions, partitions, producer_ids,
};
use coordinator::zk::election::{self, Election};
use coordinator::zk::payload::{Deletion, Overrides, PartitionState, Stored, Topic};
use coordinator::zk::{Client, Session, SessionOptions};
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
    overrides(connect).await.context("overrides")?;
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

pub(crate) fn new_topic(partitions: usize) -> NewTopic {
    NewTopic {
        topic: Topic {
            topic_id: TopicId::random(),
            partitions: vec![vec![BrokerId(1)]; partitions],
        },
        states: vec![state(0); partitions],
        overrides: Overrides::default(),
    }
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
        brokers::deregister(&mine.client, id).await
    };
    let (waited, left) = tokio::join!(waiting, leaving);
    waited?;
    left?;
    // What is another's is left alone; what is provably dead is taken over at once.
    brokers::deregister(&mine.client, id).await?;
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
    topics::create(&first.client, fence, "before", &new_topic(1)).await?;

    expire(connect, &first).await?;
    tokio::time::timeout(Duration::from_secs(4), watcher.changed()).await.context("the watch")?;
    let next = elected(&second.client).await?;
    ensure!(next.epoch == 2, "the epoch is raised");
    // The first one, with a new session and its old epoch, can change nothing.
    let late = one.live_after(first.number).await?;
    let refused = topics::create(&late.client, fence, "late", &new_topic(1)).await;
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
    let (none, names, watch) = topics::list_and_watch(client).await?;
    ensure!(none.is_empty() && names.is_empty());
    let mut new = new_topic(3);
    new.overrides.values.insert("segment.bytes".into(), "4096".into());
    topics::create(client, fence, "logs", &new).await?;
    watch.changed().await;
    let again = topics::create(client, fence, "logs", &new_topic(1)).await;
    ensure!(matches!(again, Err(FencedError::Exists { .. })), "{again:?}");
    let found = topics::read(client, "logs").await?.context("created")?;
    ensure!(found.value == new.topic);
    let states = partitions::read_all(client, "logs", 3).await?;
    ensure!(states.iter().flatten().all(|found| found.value == state(0)) && states.len() == 3);
    let config = configs::read(client, Kind::Topic, "logs").await?.context("overrides")?;
    ensure!(config.value == new.overrides);

    let mut grown = new.topic.clone();
    grown.partitions.resize(5, vec![BrokerId(1)]);
    let added = vec![state(7); 2];
    topics::grow(client, fence, "logs", &found, &grown, &added).await?;
    let stale = topics::grow(client, fence, "logs", &found, &grown, &added).await;
    ensure!(stale.is_err(), "grown from a version that is gone");
    ensure!(topics::read(client, "logs").await?.context("still there")?.value == grown);
    let states = partitions::read_all(client, "logs", 5).await?;
    ensure!(states[4].as_ref().context("added")?.value == state(7));
    // A second growth meets what the refused one left.
    let found = topics::read(client, "logs").await?.context("still there")?;
    grown.partitions.resize(6, vec![BrokerId(1)]);
    topics::grow(client, fence, "logs", &found, &grown, &[state(8)]).await?;

    let stored = Stored { partitions: vec![0, 1] };
    brokers::set_stored(client, "logs", BrokerId(1), &stored).await?;
    let deletion = Deletion { topic_id: grown.topic_id, accepted_ms: 1 };
    deletions::mark(client, fence, "logs", &deletion).await?;
    deletions::mark(client, fence, "logs", &deletion).await.context("idempotent")?;
    ensure!(deletions::list(client).await?["logs"] == deletion);
    topics::remove(client, fence, "logs").await?;
    topics::remove(client, fence, "logs").await.context("idempotent")?;
    ensure!(topics::names(client).await?.is_empty() && deletions::list(client).await?.is_empty());
    ensure!(configs::read(client, Kind::Topic, "logs").await?.is_none());
    brokers::set_stored(client, "logs", BrokerId(1), &stored).await.context("topic is gone")?;
    topics::create(client, fence, "logs", &new_topic(2)).await.context("created again")
}

/// More partitions than one request may carry.
async fn large_topic(connect: &str) -> Result<()> {
    let session = session(connect, "large").await?;
    let client = &session.live().await?.client;
    let fence = elected(client).await?;
    let new = new_topic(4000);
    let began = Instant::now();
    topics::create(client, fence, "large", &new).await?;
    println!("topic of 4,000 partitions created in {:?}", began.elapsed());
    ensure!(topics::read(client, "large").await?.context("created")?.value == new.topic);
    let states = partitions::read_all(client, "large", 4000).await?;
    ensure!(states.iter().all(Option::is_some));
    let began = Instant::now();
    topics::remove(client, fence, "large").await?;
    println!("and removed in {:?}", began.elapsed());
    ensure!(topics::names(client).await?.is_empty());
    Ok(())
}

async fn partition_states(connect: &str) -> Result<()> {
    let session = session(connect, "states").await?;
    let client = &session.live().await?.client;
    let fence = elected(client).await?;
    topics::create(client, fence, "t", &new_topic(2)).await?;
    let (read, watch) = partitions::read_and_watch(client, "t", 0).await?;
    let read = read.context("a state")?;
    let version = partitions::set(client, "t", 0, &state(1), read.version).await?;
    let version = version.context("nobody else wrote")?;
    watch.changed().await;
    let late = partitions::set(client, "t", 0, &state(2), read.version).await?;
    ensure!(late.is_none(), "a version that is gone");
    let update = |partition, epoch, expected| partitions::StateUpdate {
        topic: "t".into(),
        partition,
        state: state(epoch),
        expected,
    };
    let updates = [update(0, 3, version), update(1, 3, 9), update(7, 3, 0)];
    let written = partitions::set_fenced(client, fence, &updates).await;
    ensure!(matches!(written[0], Ok(new) if new == version + 1), "{:?}", written[0]);
    ensure!(matches!(written[1], Err(FencedError::Conflict { .. })), "{:?}", written[1]);
    ensure!(matches!(written[2], Err(FencedError::Conflict { .. })), "{:?}", written[2]);
    let old = EpochFence { version: fence.version - 1, ..fence };
    let fenced = partitions::set_fenced(client, old, &[update(0, 4, version + 1)]).await;
    ensure!(matches!(fenced[0], Err(FencedError::Fenced { .. })), "{:?}", fenced[0]);
    Ok(())
}

async fn overrides(connect: &str) -> Result<()> {
    let session = session(connect, "configs").await?;
    let client = &session.live().await?.client;
    let fence = elected(client).await?;
    let some = |value: &str| Overrides { values: [("k".to_owned(), value.to_owned())].into() };
    let (none, watch) = configs::read_and_watch(client, Kind::Broker, "1").await?;
    ensure!(none.is_none());
    configs::set(client, fence, Kind::Broker, "1", &some("a"), None).await?;
    watch.changed().await;
    let raced = configs::set(client, fence, Kind::Broker, "1", &some("b"), None).await;
    ensure!(matches!(raced, Err(FencedError::Exists { .. })), "{raced:?}");
    configs::set(client, fence, Kind::Broker, "1", &some("b"), Some(0)).await?;
    let raced = configs::set(client, fence, Kind::Broker, "1", &some("c"), Some(0)).await;
    ensure!(matches!(raced, Err(FencedError::Conflict { .. })), "{raced:?}");
    ensure!(configs::list(client, Kind::Broker).await?["1"] == some("b"));
    ensure!(configs::list(client, Kind::Client).await?.is_empty());
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
