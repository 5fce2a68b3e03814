//! Every write whose answer is lost is resolved by reading back: applied or not, its result says
//! what happened. Run by `registries`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coordinator::rebalance::TopicInput;
use coordinator::registry::fence::Change;
use coordinator::registry::{
    FencedError, RegistryError, brokers, consumers, owners, partitions, plan, producer_ids, topics,
};
use coordinator::zk::election::{self, Election};
use coordinator::zk::payload::Member;
use coordinator::zk::{Client, Live, Payload, paths};
use integration_tests::lossy::{Fault, Lossy};
use proto::{BrokerId, TopicId};
use uuid::Uuid;

use crate::group_registries::{claim_of, claimed, committed, plan_of, reads, value};
use crate::registries::{create_topic, elected, session, state};
use crate::sessions::some_broker;

const FAULTS: [Fault; 3] = [Fault::None, Fault::LoseAnswer, Fault::LoseRequest];

pub(crate) async fn all(connect: &str) -> Result<()> {
    let lossy = Lossy::start(connect).await?;
    for fault in FAULTS {
        let chroot = format!("lost-{}", fault as u8);
        let session = session(&lossy.connect(), &chroot).await?;
        let live = session.live().await?;
        registrations(&lossy, fault, &live).await.with_context(|| format!("{fault:?}"))?;
        controller_writes(&lossy, fault, &live.client)
            .await
            .with_context(|| format!("{fault:?}"))?;
        group_writes(&lossy, fault, &live.client).await.with_context(|| format!("{fault:?}"))?;
        ensure!(session.live().await?.number == 1, "no session was lost on the way");
        session.close().await;
    }
    Ok(())
}

/// Runs one call with the fault at its first write.
async fn hit<T, E>(
    lossy: &Lossy,
    fault: Fault,
    what: &str,
    call: impl Future<Output = std::result::Result<T, E>>,
) -> Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let before = lossy.fired();
    lossy.arm(fault);
    let limit = Duration::from_secs(10);
    let result = tokio::time::timeout(limit, call).await.with_context(|| what.to_owned())?;
    let expected = usize::from(fault != Fault::None);
    ensure!(lossy.fired() == before + expected, "{what}: the fault was not met");
    result.with_context(|| what.to_owned())
}

async fn registrations(lossy: &Lossy, fault: Fault, live: &Live) -> Result<()> {
    let client = &live.client;
    let patience = Duration::from_secs(1);
    let broker = some_broker(Uuid::new_v4());
    let id = BrokerId(1);
    let call = brokers::register(client, id, &broker, &[], patience);
    hit(lossy, fault, "register", call).await?;
    let found = brokers::read(client, id).await?.context("registered")?;
    ensure!(found.ephemeral_owner == live.session_id());
    let member = Member { subscription: reads("t"), host: "h".into(), start_time_ms: 0 };
    // The group's parents are made first, so the fault hits one of those, too.
    let call = consumers::join(client, "g", "a", &member, patience);
    hit(lossy, fault, "join a new group", call).await?;
    let call = consumers::join(client, "g", "b", &member, patience);
    hit(lossy, fault, "join", call).await?;
    ensure!(consumers::members(client, "g").await?.len() == 2);
    hit(lossy, fault, "leave", consumers::leave(client, "g", "b")).await?;
    ensure!(consumers::members(client, "g").await?.len() == 1);
    // Made first, so that the fault hits the taking of a block.
    let first = producer_ids::take_block(client, 10).await?;
    let block = hit(lossy, fault, "block", producer_ids::take_block(client, 10)).await?;
    let next = hit(lossy, fault, "block", producer_ids::take_block(client, 10)).await?;
    ensure!(first.end == block.start && block.end == next.start, "{first:?} {block:?} {next:?}");
    Ok(())
}

async fn controller_writes(lossy: &Lossy, fault: Fault, client: &Client) -> Result<()> {
    // Makes the epoch node, so that the fault hits the election itself.
    elected(client).await?;
    election::resign(client).await?;
    let call = election::elect(client, "a:1", Uuid::new_v4());
    let Election::Elected(fence) = hit(lossy, fault, "elect", call).await? else {
        anyhow::bail!("nobody else is there");
    };
    ensure!(fence.epoch == 2, "elected once: {fence:?}");
    create_topic(client, fence, "small", 2).await?;
    create_topic(client, fence, "large", 1500).await?;
    let next = state(1);
    let call = partitions::set(client, "small", 0, &next, 0);
    ensure!(hit(lossy, fault, "state", call).await? == Some(1));
    // The controller reads everything anew where this says that the answer was lost.
    let (path, bytes) = (paths::partition_state("small", 0), state(2).encode()?);
    let change = Change::Set { path, bytes, version: Some(1) };
    lossy.arm(fault);
    let written = fence.commit(client, &[change]).await;
    let version = partitions::read(client, "small", 0).await?.context("a state")?.version;
    match fault {
        Fault::None => ensure!(matches!(written.as_deref(), Ok([2])), "{written:?}"),
        _ => {
            let lost = |error: &FencedError| {
                matches!(error, FencedError::Registry(RegistryError::AnswerLost { .. }))
            };
            ensure!(written.as_ref().is_err_and(lost), "{written:?}");
        }
    }
    ensure!(version == if fault == Fault::LoseRequest { 1 } else { 2 });
    hit(lossy, fault, "remove", topics::remove(client, fence, "small")).await?;
    hit(lossy, fault, "remove", topics::remove(client, fence, "large")).await?;
    ensure!(topics::names(client).await?.is_empty());
    hit(lossy, fault, "resign", election::resign(client)).await?;
    ensure!(election::read(client).await?.is_none());
    Ok(())
}

async fn group_writes(lossy: &Lossy, fault: Fault, client: &Client) -> Result<()> {
    let input = TopicInput { topic_id: TopicId::random(), partitions: 1 };
    let (first, second) = (plan_of(&["a", "b"], "t", input), plan_of(&["a"], "t", input));
    let written = hit(lossy, fault, "plan", plan::write(client, "g", &first, None)).await?;
    ensure!(written == Some(0));
    let written = hit(lossy, fault, "plan", plan::write(client, "g", &second, Some(0))).await?;
    ensure!(written == Some(1));
    owners::prepare(client, "g", "t").await?;
    let claim = claim_of("a", input, 0, 1);
    lossy.arm(fault);
    let mine = claimed(client, &claim).await.context("first claim")?;
    ensure!(mine.committed.is_none());
    let mut fence = mine.fence;
    for offset in 1..=10 {
        lossy.arm(fault);
        fence = committed(client, &value(offset, input.topic_id, "a"), 0, fence)
            .await
            .with_context(|| format!("commit {offset}"))?;
    }
    lossy.arm(fault);
    let again = claimed(client, &claim).await.context("claim what is held")?;
    ensure!(again.fence == fence + 1, "rewritten once: {} after {fence}", again.fence);
    hit(lossy, fault, "release", owners::release(client, "g", "t", 0)).await?;
    ensure!(owners::read(client, "g", "t", 0).await?.is_none());
    lossy.arm(fault);
    let third = claimed(client, &claim).await.context("claim with an offset")?;
    ensure!(third.fence == again.fence + 1, "rewritten once");
    ensure!(third.committed.and_then(|found| found.offset) == Some(proto::Offset(10)));
    Ok(())
}
