//! The supervised session: first connection, close, expiry, lease. Each test runs against a real
//! ZooKeeper and against the embedded registry.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coordinator::rebalance::TopicInput;
use coordinator::registry::{brokers, consumers, offsets, plan};
use coordinator::zk::payload::{Broker, Member, Subscription};
use coordinator::zk::{Client, Live, Session, SessionOptions, SessionState, paths};
use integration_tests::lossy::expire;
use integration_tests::scratch;
use integration_tests::zookeeper::{Registry, RegistryKind};
use proto::{BrokerId, Offset, TopicId};
use uuid::Uuid;
use zookeeper_client::{Acls, CreateMode};

use crate::group_registries::{claim_of, claimed, committed, plan_of, value};

const TIMEOUT: Duration = Duration::from_secs(2);

fn options(connect: &str) -> Result<SessionOptions> {
    let options = SessionOptions::new(connect.parse()?).with_timeout(TIMEOUT);
    Ok(options.failing_after(Duration::from_secs(10)))
}

async fn start(connect: &str, chroot: &str) -> Result<Session> {
    Ok(Session::start(options(&format!("{connect}/{chroot}"))?).await?)
}

pub(crate) fn some_broker(incarnation: Uuid) -> Broker {
    Broker {
        host: "127.0.0.1".into(),
        grpc_port: 9094,
        kafka: Vec::new(),
        http_port: None,
        rack: String::new(),
        incarnation,
        start_time_ms: 0,
        clean: true,
    }
}

#[tokio::test]
async fn sessions_on_zookeeper() -> Result<()> {
    on(RegistryKind::ZooKeeper(1), "sessions-zookeeper").await
}

#[tokio::test]
async fn sessions_on_embedded() -> Result<()> {
    on(RegistryKind::Embedded, "sessions-embedded").await
}

async fn on(kind: RegistryKind, name: &str) -> Result<()> {
    let dir = scratch(name)?;
    let registry = Registry::start(kind, dir.path())?;
    all(registry.connect()).await
}

async fn all(connect: &str) -> Result<()> {
    makes_the_chroot(connect).await.context("makes_the_chroot")?;
    close_removes_ephemerals(connect).await.context("close_removes_ephemerals")?;
    drop_closes(connect).await.context("drop_closes")?;
    close_of_the_last_handle_is_seen(connect).await.context("close_is_seen")?;
    a_hundred_expiries(connect).await.context("a_hundred_expiries")?;
    Ok(())
}

async fn makes_the_chroot(connect: &str) -> Result<()> {
    let session = start(connect, "made/by/session").await?;
    let live = session.live().await?;
    ensure!(live.number == 1 && live.lease_valid(), "a fresh session has a lease");
    for root in paths::ROOTS {
        ensure!(live.client.check_stat(root).await?.is_some(), "{root} is missing");
    }
    session.close().await;
    ensure!(session.live().await.is_err(), "closed is final");
    Ok(())
}

async fn exists(connect: &str, path: &str) -> Result<bool> {
    let other = Client::connect(connect).await?;
    Ok(other.check_stat(path).await?.is_some())
}

async fn hold(live: &Live) -> Result<()> {
    let ephemeral = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    live.client.create("/brokers/ids/77", b"", &ephemeral).await?;
    Ok(())
}

/// Also while others hold clones of the client, which keeps ZooKeeper's session open.
async fn close_removes_ephemerals(connect: &str) -> Result<()> {
    let session = start(connect, "close").await?;
    let live = session.live().await?;
    hold(&live).await?;
    ensure!(exists(connect, "/close/brokers/ids/77").await?, "registered");
    let began = Instant::now();
    session.close().await;
    ensure!(began.elapsed() < Duration::from_secs(1), "close took {:?}", began.elapsed());
    ensure!(!exists(connect, "/close/brokers/ids/77").await?, "still registered");
    ensure!(!live.lease_valid(), "a closed session has no lease");
    Ok(())
}

async fn drop_closes(connect: &str) -> Result<()> {
    let session = start(connect, "drop").await?;
    hold(&session.live().await?).await?;
    drop(session);
    integration_tests::eventually("the ephemeral to go", TIMEOUT / 2, async || {
        Ok((!exists(connect, "/drop/brokers/ids/77").await?).then_some(()))
    })
    .await
}

async fn close_of_the_last_handle_is_seen(connect: &str) -> Result<()> {
    let session = start(connect, "seen").await?;
    let mut states = session.watch();
    let other = session.clone();
    other.close().await;
    let closed = states.wait_for(|state| matches!(state, SessionState::Closed)).await;
    ensure!(closed.is_ok_and(|state| state.live().is_none()), "closed is published");
    Ok(())
}

/// After each forced expiry: a new session, and everything registered again in it.
async fn a_hundred_expiries(connect: &str) -> Result<()> {
    let session = start(connect, "expiries").await?;
    let (id, broker) = (BrokerId(5), some_broker(Uuid::new_v4()));
    let member = Member {
        subscription: Subscription::Topics([("t".to_owned(), 1)].into()),
        host: "h".into(),
        start_time_ms: 0,
    };
    let mut number = 0;
    let began = Instant::now();
    for round in 0..=100 {
        let live = session.live_after(number).await?;
        ensure!(live.number > number, "numbers grow");
        number = live.number;
        brokers::register(&live.client, id, &broker, &[], TIMEOUT * 2).await?;
        consumers::join(&live.client, "g", "c", &member, TIMEOUT * 2).await?;
        let found = brokers::read(&live.client, id).await?.context("registered")?;
        ensure!(found.ephemeral_owner == live.session_id(), "registered by an older session");
        let members = consumers::members(&live.client, "g").await?;
        ensure!(members.len() == 1, "round {round}: {members:?}");
        ensure!(live.lease_valid(), "round {round}: a serving session has a lease");
        if round < 100 {
            expire(connect, &live).await?;
        }
    }
    println!("100 forced expiries with re-registration: {:?}", began.elapsed());
    session.close().await;
    Ok(())
}

#[tokio::test]
async fn no_registry_is_told_clearly() -> Result<()> {
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let connect = format!("127.0.0.1:{free}/ottla");
    let options = SessionOptions::new(connect.parse()?).failing_after(Duration::ZERO);
    let began = Instant::now();
    let error = Session::start(options).await.err().context("nobody is there")?.to_string();
    ensure!(began.elapsed() < Duration::from_secs(2), "took {:?}", began.elapsed());
    ensure!(error.contains(&connect) && error.contains("--zookeeper"), "{error}");

    // Asked to wait, it returns at once and says what it is waiting for.
    let session = Session::start(SessionOptions::new(connect.parse()?)).await?;
    ensure!(session.connected().is_none(), "there is nobody");
    let mut states = session.watch();
    let live = tokio::time::timeout(Duration::from_millis(300), session.live()).await;
    ensure!(live.is_err(), "still waiting");
    ensure!(
        matches!(*states.borrow_and_update(), SessionState::Connecting { .. }),
        "still connecting"
    );
    let began = Instant::now();
    session.close().await;
    ensure!(began.elapsed() < Duration::from_secs(1), "close while connecting");
    Ok(())
}

/// The whole ensemble goes away: a short absence keeps the session, a long one gives a new one, and
/// the lease runs out before the session can be anybody else's.
#[tokio::test]
async fn absence_of_the_ensemble() -> Result<()> {
    let dir = scratch("sessions-absence")?;
    let registry = Registry::start(RegistryKind::ZooKeeper(1), dir.path())?;
    let ensemble = registry.ensemble()?;
    // Long enough that a slow machine starts a server again meanwhile.
    let options = options(&format!("{}/absence", registry.connect()))?.with_timeout(3 * TIMEOUT);
    let session = Session::start(options).await?;
    let mut states = session.watch();
    let first = session.live().await?;
    hold(&first).await?;

    ensemble.kill(1)?;
    let away = states.wait_for(|state| matches!(state, SessionState::Disconnected { .. }));
    tokio::time::timeout(first.timeout, away).await.context("disconnected is published")??;
    ensemble.restart(1)?;
    let back = Instant::now();
    let again = tokio::time::timeout(first.timeout, session.live()).await??;
    println!("connected again {:?} after the server was back", back.elapsed());
    ensure!(again.number == first.number, "a short absence keeps the session");
    ensure!(again.client.check_stat("/brokers/ids/77").await?.is_some(), "and its ephemerals");
    let leased = async || Ok(again.lease_valid().then_some(()));
    integration_tests::eventually("a lease again", TIMEOUT, leased).await?;

    let stopped = Instant::now();
    ensemble.stop()?;
    while first.lease_valid() {
        ensure!(stopped.elapsed() < first.timeout, "the lease outlives the session");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("timeout {:?}: lease over {:?} after the stop", first.timeout, stopped.elapsed());
    let expired = states.wait_for(|state| state.live().is_none());
    tokio::time::timeout(first.timeout * 2, expired).await.context("expiry is published")??;
    println!("expired {:?} after the stop", stopped.elapsed());
    ensemble.start_again()?;
    let back = Instant::now();
    let next = tokio::time::timeout(first.timeout * 2, session.live()).await??;
    println!("new session {:?} after the server was back", back.elapsed());
    ensure!(next.number > first.number, "a long absence ends the session");
    ensure!(next.lease_valid(), "the new one has a lease");
    session.close().await;
    Ok(())
}

/// Three servers, and the one that leads them is killed under a stream of commits: the session
/// stays, and every commit says truly what happened to it.
#[tokio::test]
async fn a_killed_leader_ends_no_session() -> Result<()> {
    let dir = scratch("sessions-leader")?;
    let registry = Registry::start(RegistryKind::ZooKeeper(3), dir.path())?;
    let ensemble = registry.ensemble()?;
    // Long enough for an election on a slow machine.
    let options = options(&format!("{}/leader", registry.connect()))?.with_timeout(10 * TIMEOUT);
    let session = Session::start(options).await?;
    let live = session.live().await?;
    let client = &live.client;
    let input = TopicInput { topic_id: TopicId::random(), partitions: 1 };
    plan::write(client, "g", &plan_of(&["a"], "t", input), None).await?;
    let mut fence = claimed(client, &claim_of("a", input, 0, 0)).await?.fence;
    let began = Instant::now();
    let mut offset = 0;
    let mut longest = Duration::ZERO;
    for _ in 0..2 {
        let leader = ensemble.leader()?;
        ensemble.kill(leader)?;
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            offset += 1;
            let sent = Instant::now();
            let next = value(offset, input.topic_id, "a");
            fence = committed(client, &next, 0, fence).await.context("a commit")?;
            longest = longest.max(sent.elapsed());
        }
        ensemble.restart(leader)?;
    }
    let stored = offsets::read(client, "g", "t", 0).await?.context("committed")?;
    ensure!(stored.value.offset == Some(Offset(offset)) && stored.version == fence);
    ensure!(stored.version == i32::try_from(offset)?, "every commit was written once");
    ensure!(session.live().await?.number == 1, "the session was lost");
    println!("{offset} commits in {:?}, the longest took {longest:?}", began.elapsed());
    session.close().await;
    Ok(())
}
