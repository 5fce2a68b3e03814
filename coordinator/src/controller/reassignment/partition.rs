//! One partition on its way from one set of replicas to another: what happens next. Pure.
//!
//! `target` is what it is to have, `original` what it had when it all began. Who is in neither is a
//! *leftover*: it was in a target that another one has replaced, or that was taken back.
//!
//! | replicas | in sync | next |
//! |---|---|---|
//! | lack a member of `target`, or are in another order | not yet enough for the end | `target`, then the others; leader and epoch as they are |
//! | have leftovers | enough without them | without the leftovers |
//! | any | all that come, and enough of `target` | the end: `target` alone |
//! | `target`, then the others | not enough | wait |
//!
//! *In sync* is who is in the ISR, lives, and is not about to stop. *Enough* is: as many members of
//! `target` in sync as of `original`, and `min.insync.replicas` of them, where `target` has so many.
//! So nobody goes before its successor is in sync, a partition that has lost a replica can still
//! be moved off another, and a request taken back does not wait for
//! who was dead before. Whoever goes, goes out of the ISR and the electable too. Then the leader
//! epoch is raised, whether the leader changes or not: the leader of the old epoch may be about to
//! count somebody in who is no replica any more, and is stopped by that. A leader that goes is
//! succeeded by the first of `target` that is in sync and may lead; as long as there is none, nobody
//! goes.
//!
//! Taking back is a reassignment to `original`. Each step can be done again after a crash: what is to
//! be is told by the recorded pair alone, never by how far it went.

use proto::BrokerId;

use crate::controller::state::PartitionState;
use crate::zk::payload::Reassignment;

/// What is next for a partition that is being reassigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing to write: replicas have to catch up, or to come back.
    Wait,
    /// This state; the reassignment goes on.
    Step(PartitionState),
    /// This state, which has the target alone; the reassignment is done.
    Finish(PartitionState),
}

/// What is next. `min_insync` is the topic's `min.insync.replicas`.
pub(crate) fn next(
    state: &PartitionState,
    reassignment: &Reassignment,
    min_insync: usize,
    may_lead: impl Fn(BrokerId) -> bool,
) -> Next {
    let Reassignment { target, original } = reassignment;
    let counts = |id: BrokerId| state.isr.contains(&id) && may_lead(id);
    let in_sync = |of: &[BrokerId]| of.iter().filter(|id| counts(**id)).count();
    let enough = target.len().min(min_insync.max(in_sync(original)).max(1));
    if in_sync(target) >= enough
        && reassignment.adding().all(counts)
        && let Some(end) = cut(state, target.clone(), &may_lead)
    {
        return Next::Finish(end);
    }
    let others = state.replicas.iter().copied().filter(|id| !target.contains(id));
    let all: Vec<BrokerId> = target.iter().copied().chain(others).collect();
    let needed: Vec<BrokerId> =
        all.iter().copied().filter(|id| target.contains(id) || original.contains(id)).collect();
    let spare = in_sync(&needed) >= original.len().min(in_sync(&all));
    if needed.len() < all.len()
        && spare
        && let Some(without) = cut(state, needed, &may_lead)
    {
        return Next::Step(without);
    }
    match all == state.replicas {
        true => Next::Wait,
        false => Next::Step(PartitionState { replicas: all, ..state.clone() }),
    }
}

/// The state with these replicas alone, some of whom it may not have yet; `None` while none of them
/// can lead.
fn cut(
    state: &PartitionState,
    replicas: Vec<BrokerId>,
    may_lead: impl Fn(BrokerId) -> bool,
) -> Option<PartitionState> {
    let stay = |ids: &[BrokerId]| -> Vec<BrokerId> {
        ids.iter().copied().filter(|id| replicas.contains(id)).collect()
    };
    let isr = stay(&state.isr);
    let can = |id: &BrokerId| isr.contains(id) && may_lead(*id);
    let leader =
        state.leader.filter(can).or_else(|| replicas.iter().copied().find(|id| can(id)))?;
    let goes = state.replicas.iter().any(|id| !replicas.contains(id));
    // That nobody is electable any more, at the minimum, is for the leader to say.
    let electable = stay(&state.electable);
    let mut cut = PartitionState { isr, electable, leader: Some(leader), ..state.clone() };
    cut.replicas = replicas;
    if goes || cut.leader != state.leader {
        cut.leader_epoch.0 += 1;
    }
    Some(cut)
}

#[cfg(test)]
mod tests;
