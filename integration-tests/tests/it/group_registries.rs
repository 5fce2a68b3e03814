//! Groups in the registry: members, the plan, claims, commits and their fences. Run by `registries`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use coordinator::rebalance::{Members, Plan, Strategy, TopicInput, Topics};
use coordinator::registry::consumers::{self, JoinError};
use coordinator::registry::offsets::{self, CommitOutcome};
use coordinator::registry::owners::{self, Claim, ClaimOutcome, Claimed};
use coordinator::registry::{RegistryError, plan};
use coordinator::zk::Client;
use coordinator::zk::payload::{CommittedOffset, Member, Subscription};
use futures_util::future::join_all;
use integration_tests::lossy::expire;
use proto::{LeaderEpoch, Offset, TopicId};

use crate::registries::session;

pub(crate) async fn all(connect: &str) -> Result<()> {
    membership(connect).await.context("membership")?;
    one_plan(connect).await.context("one_plan")?;
    claims_and_commits(connect).await.context("claims_and_commits")?;
    a_late_commit_is_refused(connect).await.context("a_late_commit_is_refused")?;
    offsets_of_a_deleted_topic(connect).await.context("offsets_of_a_deleted_topic")?;
    a_burst_of_claims(connect).await.context("a_burst_of_claims")
}

const PATIENCE: Duration = Duration::from_millis(200);

pub(crate) fn reads(topic: &str) -> Subscription {
    Subscription::Topics([(topic.to_owned(), 1)].into())
}

fn member(topic: &str) -> Member {
    Member { subscription: reads(topic), host: "h".into(), start_time_ms: 0 }
}

pub(crate) fn plan_of(members: &[&str], topic: &str, input: TopicInput) -> Plan {
    let members: Members = members.iter().map(|id| ((*id).to_owned(), reads(topic))).collect();
    let topics: Topics = [(topic.to_owned(), input)].into();
    Plan::compute(Strategy::Range, &members, &topics, None)
}

pub(crate) fn claim_of(
    consumer: &str,
    input: TopicInput,
    partition: i32,
    generation: i32,
) -> Claim {
    Claim {
        group: "g".into(),
        consumer: consumer.into(),
        stream: 0,
        generation,
        topic: "t".into(),
        topic_id: input.topic_id,
        partition,
    }
}

pub(crate) fn value(offset: i64, topic_id: TopicId, by: &str) -> CommittedOffset {
    CommittedOffset {
        offset: Some(Offset(offset)),
        topic_id,
        leader_epoch: LeaderEpoch(0),
        metadata: String::new(),
        by: by.into(),
    }
}

pub(crate) async fn claimed(client: &Client, claim: &Claim) -> Result<Claimed> {
    match owners::claim(client, claim).await? {
        ClaimOutcome::Claimed(claimed) => Ok(claimed),
        other => bail!("not claimed: {other:?}"),
    }
}

pub(crate) async fn committed(
    client: &Client,
    value: &CommittedOffset,
    partition: i32,
    fence: i32,
) -> Result<i32> {
    match offsets::commit(client, "g", "t", partition, value, fence).await? {
        CommitOutcome::Committed { fence } => Ok(fence),
        CommitOutcome::Fenced => bail!("fenced"),
    }
}

async fn membership(connect: &str) -> Result<()> {
    let (first, second) = (session(connect, "members").await?, session(connect, "members").await?);
    let (one, two) = (first.live().await?, second.live().await?);
    let (none, watch) = consumers::members_and_watch(&two.client, "g").await?;
    ensure!(none.is_empty(), "a group that does not exist can be watched");
    consumers::join(&one.client, "g", "c1", &member("t"), PATIENCE).await?;
    consumers::join(&one.client, "g", "c1", &member("t"), PATIENCE).await.context("idempotent")?;
    tokio::time::timeout(Duration::from_secs(1), watch.changed()).await.context("the watch")?;
    consumers::join(&two.client, "g", "c2", &member("u"), PATIENCE).await?;
    let taken = consumers::join(&two.client, "g", "c1", &member("t"), PATIENCE).await;
    ensure!(matches!(taken, Err(JoinError::Taken { .. })), "{taken:?}");
    let members = consumers::members(&one.client, "g").await?;
    ensure!(members.len() == 2 && members["c2"] == member("u"), "{members:?}");
    consumers::leave(&one.client, "g", "c2").await?;
    ensure!(consumers::members(&one.client, "g").await?.len() == 2, "another's is left alone");
    // Gone at the latest when the other's session is.
    let again = member("u");
    let waiting = consumers::join(&two.client, "g", "c1", &again, PATIENCE * 20);
    let (joined, ()) = tokio::join!(waiting, first.close());
    joined?;
    let members = consumers::members(&two.client, "g").await?;
    ensure!(members.len() == 2 && members["c1"] == member("u"), "{members:?}");
    Ok(())
}

/// Members that write at one moment end with one plan.
async fn one_plan(connect: &str) -> Result<()> {
    let session = session(connect, "plan").await?;
    let client = &session.live().await?.client;
    let input = TopicInput { topic_id: TopicId::random(), partitions: 12 };
    let (none, watch) = plan::read_and_watch(client, "g").await?;
    ensure!(none.is_none());
    let plans: Vec<Plan> = (0..5).map(|i| plan_of(&["a", &format!("b{i}")], "t", input)).collect();
    for (round, expected) in [None, Some(0), Some(1)].into_iter().enumerate() {
        let writes = join_all(plans.iter().map(|plan| plan::write(client, "g", plan, expected)));
        let mut winners = Vec::new();
        for (plan, written) in plans.iter().zip(writes.await) {
            if let Some(generation) = written? {
                ensure!(generation == i32::try_from(round)?);
                winners.push(plan);
            }
        }
        ensure!(winners.len() == 1, "{} winners", winners.len());
        let agreed = plan::read(client, "g").await?.context("a plan")?;
        ensure!(agreed.plan == *winners[0] && agreed.generation == i32::try_from(round)?);
    }
    watch.changed().await;
    Ok(())
}

async fn claims_and_commits(connect: &str) -> Result<()> {
    let (one, two) = (session(connect, "claims").await?, session(connect, "claims").await?);
    let (one, two) = (one.live().await?, two.live().await?);
    let input = TopicInput { topic_id: TopicId::random(), partitions: 2 };
    let no_plan = owners::claim(&one.client, &claim_of("a", input, 0, 0)).await?;
    ensure!(matches!(no_plan, ClaimOutcome::PlanChanged), "{no_plan:?}");
    plan::write(&one.client, "g", &plan_of(&["a", "b"], "t", input), None).await?;

    let first = claimed(&one.client, &claim_of("a", input, 0, 0)).await?;
    ensure!(first.committed.is_none() && first.void.is_none());
    let fence = committed(&one.client, &value(10, input.topic_id, "a"), 0, first.fence).await?;
    let fence = committed(&one.client, &value(20, input.topic_id, "a"), 0, fence).await?;
    // The same session may claim again: a new fence, the same owner.
    let again = claimed(&one.client, &claim_of("a", input, 0, 0)).await?;
    ensure!(again.committed == Some(value(20, input.topic_id, "a")), "{again:?}");
    let late = value(21, input.topic_id, "a");
    let late = offsets::commit(&one.client, "g", "t", 0, &late, fence).await?;
    ensure!(late == CommitOutcome::Fenced, "the fence of the claim before");

    let ClaimOutcome::Held { owner, watcher } =
        owners::claim(&two.client, &claim_of("b", input, 0, 0)).await?
    else {
        bail!("claimed twice");
    };
    ensure!(owner.consumer == "a");
    owners::release(&two.client, "g", "t", 0).await?;
    ensure!(owners::read(&one.client, "g", "t", 0).await?.is_some(), "another's is left alone");
    committed(&one.client, &value(30, input.topic_id, "a"), 0, again.fence).await?;
    owners::release(&one.client, "g", "t", 0).await?;
    tokio::time::timeout(Duration::from_secs(1), watcher.changed()).await.context("the watch")?;
    let taken = claimed(&two.client, &claim_of("b", input, 0, 0)).await?;
    let found = taken.committed.context("where the other ended")?;
    ensure!(found.offset == Some(Offset(30)));

    // A newer plan: claims by the older one are refused.
    plan::write(&two.client, "g", &plan_of(&["a"], "t", input), Some(0)).await?;
    let old = owners::claim(&one.client, &claim_of("a", input, 1, 0)).await?;
    ensure!(matches!(old, ClaimOutcome::PlanChanged), "{old:?}");
    claimed(&one.client, &claim_of("a", input, 1, 1)).await?;
    let owned = owners::list(&one.client, "g").await?;
    let consumers: BTreeMap<i32, &str> =
        owned["t"].iter().map(|(p, owner)| (*p, owner.consumer.as_str())).collect();
    ensure!(consumers == [(0, "b"), (1, "a")].into(), "{consumers:?}");
    let stored = offsets::list(&one.client, "g").await?;
    ensure!(stored["t"][&0].offset == Some(Offset(30)) && stored["t"][&1].offset.is_none());
    Ok(())
}

/// The owner before was cut off past its session. The successor's owner node has the very version
/// that its own had, and still its late commit is refused: in the old session, and in a new one.
async fn a_late_commit_is_refused(connect: &str) -> Result<()> {
    let (one, two) = (session(connect, "late").await?, session(connect, "late").await?);
    let (old, next) = (one.live().await?, two.live().await?);
    let input = TopicInput { topic_id: TopicId::random(), partitions: 1 };
    plan::write(&old.client, "g", &plan_of(&["a", "b"], "t", input), None).await?;
    let mine = claimed(&old.client, &claim_of("a", input, 0, 0)).await?;
    let fence = committed(&old.client, &value(5, input.topic_id, "a"), 0, mine.fence).await?;
    let before = owners::read(&old.client, "g", "t", 0).await?.context("owned")?;

    let held = owners::claim(&next.client, &claim_of("b", input, 0, 0)).await?;
    let ClaimOutcome::Held { watcher, .. } = held else { bail!("{held:?}") };
    expire(connect, &old).await?;
    tokio::time::timeout(Duration::from_secs(4), watcher.changed()).await.context("the watch")?;
    let theirs = claimed(&next.client, &claim_of("b", input, 0, 0)).await?;
    let after = owners::read(&next.client, "g", "t", 0).await?.context("owned")?;
    ensure!(before.version == after.version, "versions of ephemerals restart");
    ensure!(before.created_zxid != after.created_zxid);

    let late = value(6, input.topic_id, "a");
    let in_old = offsets::commit(&old.client, "g", "t", 0, &late, fence).await;
    ensure!(matches!(in_old, Err(RegistryError::SessionEnded { .. })), "{in_old:?}");
    let again = one.live_after(old.number).await?;
    let in_new = offsets::commit(&again.client, "g", "t", 0, &late, fence).await?;
    ensure!(in_new == CommitOutcome::Fenced);
    ensure!(theirs.committed.as_ref().and_then(|found| found.offset) == Some(Offset(5)));
    committed(&next.client, &value(7, input.topic_id, "b"), 0, theirs.fence).await?;
    Ok(())
}

async fn offsets_of_a_deleted_topic(connect: &str) -> Result<()> {
    let session = session(connect, "void").await?;
    let client = &session.live().await?.client;
    let old = TopicInput { topic_id: TopicId::random(), partitions: 1 };
    plan::write(client, "g", &plan_of(&["a"], "t", old), None).await?;
    let first = claimed(client, &claim_of("a", old, 0, 0)).await?;
    committed(client, &value(99, old.topic_id, "a"), 0, first.fence).await?;
    owners::release(client, "g", "t", 0).await?;
    let new = TopicInput { topic_id: TopicId::random(), partitions: 1 };
    let again = claimed(client, &claim_of("a", new, 0, 0)).await?;
    ensure!(again.committed.is_none(), "an offset of another topic means nothing");
    ensure!(again.void.and_then(|void| void.offset) == Some(Offset(99)), "but is told");
    committed(client, &value(1, new.topic_id, "a"), 0, again.fence).await?;
    owners::release(client, "g", "t", 0).await?;
    let third = claimed(client, &claim_of("a", new, 0, 0)).await?;
    ensure!(third.committed.is_some() && third.void.is_none());
    Ok(())
}

/// Two members want all of 500 partitions at one moment.
async fn a_burst_of_claims(connect: &str) -> Result<()> {
    let (one, two) = (session(connect, "burst").await?, session(connect, "burst").await?);
    let (one, two) = (one.live().await?, two.live().await?);
    let input = TopicInput { topic_id: TopicId::random(), partitions: 500 };
    plan::write(&one.client, "g", &plan_of(&["a", "b"], "t", input), None).await?;
    owners::prepare(&one.client, "g", "t").await?;
    let all = async |client: &Client, consumer: &str| -> Result<Vec<(i32, i32)>> {
        let claims: Vec<Claim> = (0..500).map(|p| claim_of(consumer, input, p, 0)).collect();
        let outcomes = join_all(claims.iter().map(|claim| owners::claim(client, claim))).await;
        let mut mine = Vec::new();
        for (claim, outcome) in claims.iter().zip(outcomes) {
            match outcome? {
                ClaimOutcome::Claimed(claimed) => mine.push((claim.partition, claimed.fence)),
                ClaimOutcome::Held { .. } => {}
                ClaimOutcome::PlanChanged => bail!("the plan has not changed"),
            }
        }
        Ok(mine)
    };
    let began = Instant::now();
    let (a, b) = tokio::join!(all(&one.client, "a"), all(&two.client, "b"));
    let (a, b) = (a?, b?);
    println!(
        "1,000 claims for 500 partitions in {:?}: {} and {}",
        began.elapsed(),
        a.len(),
        b.len()
    );
    ensure!(a.len() + b.len() == 500, "{} and {}", a.len(), b.len());
    let owned = owners::list(&one.client, "g").await?;
    ensure!(owned["t"].values().filter(|owner| owner.consumer == "a").count() == a.len());
    let began = Instant::now();
    let client = &one.client;
    let commits = a.iter().map(|&(partition, fence)| async move {
        committed(client, &value(1, input.topic_id, "a"), partition, fence).await
    });
    for done in join_all(commits).await {
        done?;
    }
    println!("{} commits in {:?}", a.len(), began.elapsed());
    let releases =
        a.iter().map(|&(partition, _)| owners::release(&one.client, "g", "t", partition));
    for done in join_all(releases).await {
        done?;
    }
    ensure!(owners::list(&one.client, "g").await?["t"].len() == b.len());
    Ok(())
}
