//! The in-sync replicas of a partition: who leaves, who joins, who may lead. Pure; leaders, starting
//! brokers and the controller all decide by it, each with a write conditional on the state it read.
//!
//! | what happened | ISR | electable (KIP-966) | leader |
//! |---|---|---|---|
//! | members fell behind or died ([`shrink`]) | without them, but never empty | with them while the ISR is below the minimum | as it was |
//! | replicas caught up ([`grow`]) | with them | empty at the minimum, else without them | as it was |
//! | a member lost what it had ([`lose`]) | without it | without it | none, if it led |
//! | the leader is gone ([`elect`]) | as it was, or the electable member alone | the rest of those with everything committed | the new one |
//!
//! Below the minimum the leader's high watermark stands still, so that electable members have
//! everything that was ever committed.

use proto::BrokerId;

use crate::zk::payload::PartitionState;

/// Members leave the ISR. The last ones stay: nobody else is known to have everything.
/// `min_insync` is the topic's `min.insync.replicas`, at most its number of replicas.
pub fn shrink(state: &PartitionState, gone: &[BrokerId], min_insync: usize) -> PartitionState {
    let (left, isr): (Vec<_>, Vec<_>) = state.isr.iter().partition(|id| gone.contains(id));
    let mut shrunk = state.clone();
    if isr.is_empty() {
        return shrunk;
    }
    if isr.len() < min_insync {
        shrunk.electable.extend(left);
    }
    shrunk.isr = isr;
    shrunk
}

/// Replicas have caught up with everything committed.
pub fn grow(state: &PartitionState, joined: &[BrokerId], min_insync: usize) -> PartitionState {
    let mut grown = state.clone();
    for id in joined {
        if !grown.isr.contains(id) {
            grown.isr.push(*id);
        }
    }
    if grown.isr.len() >= min_insync {
        grown.electable.clear();
    } else {
        grown.electable.retain(|id| !grown.isr.contains(id));
    }
    grown
}

/// A replica lost records it had acknowledged (power cut, disk). It counts for nothing until it has
/// caught up again. The ISR may become empty: then only an unclean election helps.
pub fn lose(state: &PartitionState, id: BrokerId) -> PartitionState {
    let mut without = state.clone();
    without.isr.retain(|member| *member != id);
    without.electable.retain(|member| *member != id);
    if without.leader == Some(id) {
        without.leader = None;
    }
    without
}

/// A new leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elected {
    /// Who.
    pub leader: BrokerId,
    /// The ISR it begins with, the leader in it.
    pub isr: Vec<BrokerId>,
    /// Who else has everything committed.
    pub electable: Vec<BrokerId>,
    /// It may not have everything committed.
    pub unclean: bool,
}

/// Chooses a leader: the first of `replicas` that may lead and is in the ISR; else the first that is
/// electable; else, only where `unclean` allows it, the first at all. `None`: nobody can.
pub fn elect(
    state: &PartitionState,
    replicas: &[BrokerId],
    may_lead: impl Fn(BrokerId) -> bool,
    unclean: bool,
) -> Option<Elected> {
    let first = |among: &[BrokerId]| {
        replicas.iter().copied().find(|id| among.contains(id) && may_lead(*id))
    };
    if let Some(leader) = first(&state.isr) {
        let (isr, electable) = (state.isr.clone(), state.electable.clone());
        return Some(Elected { leader, isr, electable, unclean: false });
    }
    if let Some(leader) = first(&state.electable) {
        let complete = state.isr.iter().chain(&state.electable).copied();
        let electable = complete.filter(|id| *id != leader).collect();
        return Some(Elected { leader, isr: vec![leader], electable, unclean: false });
    }
    let leader = first(replicas).filter(|_| unclean)?;
    Some(Elected { leader, isr: vec![leader], electable: Vec::new(), unclean: true })
}

#[cfg(test)]
mod tests {
    use proto::LeaderEpoch;

    use super::*;

    fn ids(ids: &[i32]) -> Vec<BrokerId> {
        ids.iter().copied().map(BrokerId).collect()
    }

    fn state(isr: &[i32], electable: &[i32]) -> PartitionState {
        PartitionState {
            leader: Some(BrokerId(1)),
            leader_epoch: LeaderEpoch(3),
            isr: ids(isr),
            electable: ids(electable),
            controller_epoch: 1,
        }
    }

    #[test]
    fn who_leaves_below_the_minimum_stays_electable_and_the_last_member_never_leaves() {
        assert_eq!(shrink(&state(&[1, 2, 3], &[]), &ids(&[3]), 2), state(&[1, 2], &[]));
        assert_eq!(shrink(&state(&[1, 2], &[]), &ids(&[2]), 2), state(&[1], &[2]));
        assert_eq!(shrink(&state(&[1], &[2]), &ids(&[1]), 2), state(&[1], &[2]));
        assert_eq!(shrink(&state(&[1, 2], &[]), &ids(&[1, 2]), 2), state(&[1, 2], &[]));
        assert_eq!(shrink(&state(&[1, 2], &[]), &ids(&[2]), 1), state(&[1], &[]));
    }

    #[test]
    fn at_the_minimum_nobody_else_is_electable() {
        assert_eq!(grow(&state(&[1], &[2, 3]), &ids(&[2]), 2), state(&[1, 2], &[]));
        assert_eq!(grow(&state(&[1], &[2, 3]), &ids(&[2]), 3), state(&[1, 2], &[3]));
        assert_eq!(grow(&state(&[1, 2], &[]), &ids(&[2]), 2), state(&[1, 2], &[]));
    }

    #[test]
    fn who_lost_data_counts_for_nothing() {
        let lost = lose(&state(&[1, 2], &[3]), BrokerId(1));
        assert_eq!((lost.leader, &lost.isr, &lost.electable), (None, &ids(&[2]), &ids(&[3])));
        assert_eq!(lose(&state(&[2], &[3]), BrokerId(3)), state(&[2], &[]));
    }

    #[test]
    fn the_leader_comes_from_the_isr_then_from_the_electable_then_only_uncleanly() {
        let replicas = ids(&[2, 1, 3]);
        let live = |alive: &'static [i32]| move |id: BrokerId| alive.contains(&id.0);
        let of = |state: &PartitionState, alive: &'static [i32], unclean: bool| {
            elect(state, &replicas, live(alive), unclean).map(|e| (e.leader.0, e.isr, e.unclean))
        };
        let full = state(&[1, 2, 3], &[]);
        assert_eq!(of(&full, &[1, 2, 3], false), Some((2, ids(&[1, 2, 3]), false)));
        assert_eq!(of(&full, &[3, 1], false), Some((1, ids(&[1, 2, 3]), false)));
        let low = state(&[1], &[3]);
        assert_eq!(of(&low, &[2, 3], false), Some((3, ids(&[3]), false)));
        assert_eq!(elect(&low, &replicas, live(&[3]), false).unwrap().electable, ids(&[1]));
        assert_eq!(of(&low, &[2], false), None);
        assert_eq!(of(&low, &[2], true), Some((2, ids(&[2]), true)));
    }
}
