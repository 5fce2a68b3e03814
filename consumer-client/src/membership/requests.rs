//! One request to the registry each, for one effect of the member; its outcome is a report.

use std::time::Duration;

use coordinator::rebalance::{Plan, Strategy};
use coordinator::registry::offsets::CommitOutcome;
use coordinator::registry::owners::{Claim, ClaimOutcome};
use coordinator::registry::{RegistryError, consumers, offsets, owners, plan};
use coordinator::zk::Live;
use coordinator::zk::payload::Member;
use proto::TopicPartition;

use super::commits::{Write, Written};
use super::member::{Input, Seen, Share};
use super::zookeeper_group::{ClaimReport, Report};

const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Makes the id node in this session; `None` where the session ended meanwhile.
///
/// With `anew` the node is taken back first, so that the others see a change of what it says.
pub(super) async fn register(
    live: Live,
    group: String,
    consumer: String,
    member: Member,
    anew: bool,
) -> Option<Report> {
    let patience = live.timeout * 3;
    loop {
        if anew && ended(&consumers::leave(&live.client, &group, &consumer).await) {
            return None;
        }
        match consumers::join(&live.client, &group, &consumer, &member, patience).await {
            Ok(()) => return Some(Report::Input(Input::Registered)),
            Err(consumers::JoinError::Registry(RegistryError::SessionEnded { .. })) => return None,
            Err(error) => {
                tracing::warn!(group, consumer, %error, "cannot join the group");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

fn ended(result: &Result<(), RegistryError>) -> bool {
    matches!(result, Err(RegistryError::SessionEnded { .. }))
}

/// Computes a plan and writes it if nobody was quicker.
pub(super) async fn write_plan(
    live: Live,
    group: String,
    strategy: Strategy,
    expected: Option<i32>,
    seen: Seen,
) -> Report {
    let written = async {
        let previous = plan::read(&live.client, &group).await.map_err(|e| e.to_string())?;
        if previous.as_ref().map(|agreed| agreed.generation) != expected {
            return Ok(None);
        }
        let previous = previous.map(|agreed| agreed.plan);
        let plan = Plan::compute(strategy, &seen.members, &seen.topics, previous.as_ref());
        let written = plan::write(&live.client, &group, &plan, expected).await;
        written.map_err(|error| error.to_string())
    };
    match written.await {
        Ok(generation) => {
            if let Some(generation) = generation {
                tracing::info!(group, generation, members = seen.members.len(), "plan written");
            }
            Report::Input(Input::PlanWritten)
        }
        Err(error) => {
            tracing::warn!(group, error, "cannot write the group's plan");
            Report::Input(Input::PlanNotWritten)
        }
    }
}

/// Claims a partition.
pub(super) async fn claim(live: Live, claim: Claim, share: Share, running: bool) -> Report {
    let outcome = match owners::claim(&live.client, &claim).await {
        Ok(ClaimOutcome::Claimed(claimed)) => ClaimReport::Granted(claimed),
        Ok(ClaimOutcome::Held { owner, watcher }) => ClaimReport::Held { owner, watcher },
        Ok(ClaimOutcome::PlanChanged) => ClaimReport::PlanMoved,
        Err(error) => {
            tracing::debug!(topic = claim.topic, partition = claim.partition, %error, "not claimed");
            ClaimReport::Unanswered
        }
    };
    Report::Claimed {
        partition: TopicPartition::new(claim.topic, claim.partition),
        session: live.number,
        generation: claim.generation,
        share,
        running,
        outcome,
    }
}

/// Writes an offset.
pub(super) async fn commit(live: Live, group: String, write: Write) -> Report {
    let Write { partition, value, fence, claim } = write;
    let (topic, number) = (&partition.topic, partition.partition);
    let outcome = match offsets::commit(&live.client, &group, topic, number, &value, fence).await {
        Ok(CommitOutcome::Committed { fence }) => Written::Committed { fence },
        Ok(CommitOutcome::Fenced) => Written::Fenced,
        Err(error) => {
            tracing::debug!(%partition, %error, "offset not written");
            Written::Unanswered
        }
    };
    Report::Written { partition, claim, outcome }
}

/// Deletes the owner node, if this session made it.
pub(super) async fn release(live: Live, group: String, partition: TopicPartition) -> Report {
    loop {
        let (topic, number) = (&partition.topic, partition.partition);
        match owners::release(&live.client, &group, topic, number).await {
            Err(error) if error.is_transient() && !ended_error(&error) => {
                tokio::time::sleep(RETRY_AFTER).await;
            }
            Err(error) => {
                tracing::debug!(%partition, %error, "owner node not deleted");
                return Report::Input(Input::Released(partition));
            }
            Ok(()) => return Report::Input(Input::Released(partition)),
        }
    }
}

fn ended_error(error: &RegistryError) -> bool {
    matches!(error, RegistryError::SessionEnded { .. })
}
