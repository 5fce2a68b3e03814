//! Sessions and rebalances: who is in the next generation.

use std::sync::Arc;
use std::time::Duration;

use super::super::*;
use super::rig::{DELAY, REBALANCE, Rig, SESSION, limits};
use crate::groups::GroupError;

#[test]
fn e5_heartbeats_by_state() {
    let mut rig = Rig::new();
    assert_eq!(rig.heartbeat("nobody"), Err(GroupError::UnknownMemberId));
    let (id, _) = rig.enter();
    rig.pass(DELAY * 2);
    assert_eq!(rig.group.state(), State::CompletingRebalance);
    assert_eq!(rig.heartbeat(&id), Ok(()));
    rig.sync(&id, &[]);
    rig.store_all(Ok(()));
    assert_eq!(rig.heartbeat(&id), Ok(()));
    let stale = Caller { generation: 0, ..rig.caller(&id) };
    assert_eq!(rig.group.heartbeat(&stale, rig.now), Err(GroupError::IllegalGeneration));
    rig.enter();
    assert_eq!(rig.heartbeat(&id), Err(GroupError::RebalanceInProgress));
    let mut out = Effects::new();
    rig.group.close(GroupError::NotCoordinator, rig.now, &mut out);
    assert_eq!(rig.heartbeat(&id), Err(GroupError::CoordinatorNotAvailable));
}

#[test]
fn e5_a_heartbeat_in_a_rebalance_extends_the_session() {
    let mut rig = Rig::new();
    let ids = rig.stable(2);
    rig.rejoin(&ids[0]);
    for _ in 0..4 {
        rig.pass(SESSION - Duration::from_millis(1));
        assert_eq!(rig.heartbeat(&ids[1]), Err(GroupError::RebalanceInProgress));
    }
    rig.pass(SESSION);
    assert_eq!(rig.group.size(), 1, "then it was silent for a whole session");
    assert_eq!(rig.group.state(), State::CompletingRebalance);
}

#[test]
fn e5_who_waits_to_join_does_not_expire() {
    let mut rig = Rig::new();
    let ids = rig.stable(2);
    let waiting = rig.rejoin(&ids[0]);
    for _ in 0..REBALANCE.as_secs() / 5 - 1 {
        rig.pass(Duration::from_secs(5));
        let _ = rig.heartbeat(&ids[1]);
    }
    assert!(rig.waits(waiting), "longer than its session");
    rig.pass(Duration::from_secs(5));
    assert_eq!(rig.joined(waiting).generation, 2, "without the one that did not join in time");
    assert_eq!(rig.group.size(), 1);
}

#[test]
fn a_new_member_that_is_never_told_its_generation_is_not_believed_for_ever() {
    let mut rig = Rig::new();
    let long = Join { rebalance_timeout: Duration::from_secs(3600), ..rig.request("") };
    let long = Join { requires_member_id: false, ..long };
    let first = rig.send_join(long);
    rig.pass(DELAY * 2);
    let id = rig.joined(first).member_id.clone();
    let fresh = Join { requires_member_id: false, ..rig.request("") };
    let fresh = rig.send_join(fresh);
    for _ in 0..60 {
        rig.pass(Duration::from_secs(5));
        let _ = rig.heartbeat(&id);
    }
    assert_eq!(rig.join_refusal(fresh).error, GroupError::UnknownMemberId);
}

#[test]
fn a_member_that_is_silent_is_out_and_the_others_rebalance() {
    let mut rig = Rig::new();
    let ids = rig.stable(3);
    rig.pass(SESSION - Duration::from_secs(1));
    let alive: Vec<Arc<str>> = ids[..2].to_vec();
    alive.iter().for_each(|id| assert_eq!(rig.heartbeat(id), Ok(())));
    rig.pass(Duration::from_secs(1));
    assert_eq!((rig.group.state(), rig.group.size()), (State::PreparingRebalance, 2));
    let tokens: Vec<Token> = alive.iter().map(|id| rig.rejoin(id)).collect();
    assert!(tokens.iter().all(|&token| rig.joined(token).generation == 2));
}

#[test]
fn a_group_whose_members_all_went_silent_is_empty_and_stored_so() {
    let mut rig = Rig::new();
    rig.stable(2);
    rig.pass(SESSION);
    assert_eq!((rig.group.state(), rig.group.generation()), (State::Empty, 2));
    let (ticket, stored) = rig.stores.pop().unwrap();
    assert_eq!((ticket, stored.generation, stored.members.len()), (None, 2, 0));
    assert_eq!((stored.protocol, stored.leader), (None, None));
    assert_eq!(&*stored.protocol_type, "consumer");
    assert_eq!(rig.group.wake_at(), None);
}

#[test]
fn a_rebalance_waits_for_ids_that_were_handed_out() {
    let mut rig = Rig::new();
    let ids = rig.stable(1);
    let request = rig.request("");
    let fresh = request.fresh_member_id.clone();
    rig.send_join(request);
    let again = rig.rejoin(&ids[0]);
    assert!(rig.waits(again));
    let second = rig.rejoin(&fresh);
    assert_eq!((rig.joined(again).generation, rig.joined(second).generation), (2, 2));
    rig.sync(&ids[0], &[]);
    rig.store_all(Ok(()));
    let request = rig.request("");
    rig.send_join(request);
    let again = rig.rejoin(&ids[0]);
    rig.rejoin(&fresh);
    assert!(rig.waits(again));
    rig.pass(SESSION);
    assert_eq!(rig.joined(again).generation, 3, "that one never came");
}

#[test]
fn in_a_group_that_is_collected_anew_the_first_to_come_are_in() {
    let mut rig = Rig::with(Limits { size_max: 2, ..limits() });
    let ids = rig.stable(2);
    // One of two is slow, and somebody else takes its place.
    rig.rejoin(&ids[0]);
    let new = Join { requires_member_id: false, ..rig.request("") };
    let new = rig.send_join(new);
    let slow = rig.rejoin(&ids[1]);
    assert_eq!(rig.join_refusal(slow).error, GroupError::GroupMaxSizeReached);
    assert_eq!(rig.joined(new).generation, 2);
    assert_eq!(rig.group.size(), 2);
}

#[test]
fn a_closed_group_answers_everybody() {
    let mut rig = Rig::new();
    let (one, _) = rig.enter();
    rig.enter();
    rig.pass(DELAY * 2);
    let syncing = rig.sync(&one, &[]);
    let mut out = Effects::new();
    rig.group.close(GroupError::NotCoordinator, rig.now, &mut out);
    rig.took(out);
    assert_eq!(rig.sync_answer(syncing), Err(GroupError::NotCoordinator));
    let late = rig.rejoin(&one);
    assert_eq!(rig.join_refusal(late).error, GroupError::CoordinatorNotAvailable);
    rig.store_all(Ok(()));
    assert_eq!((rig.group.state(), rig.group.wake_at()), (State::Dead, None));
}

#[test]
fn a_group_that_was_stored_goes_on_where_it_was() {
    let mut rig = Rig::new();
    let ids = rig.stable(3);
    let stored = rig.group.to_stored(&rig.group.assignments());
    let loaded = Group::from_stored(stored.clone(), rig.group.limits.clone(), rig.now);
    assert_eq!((loaded.state(), loaded.generation(), loaded.size()), (State::Stable, 1, 3));
    rig.group = loaded;
    assert_eq!(rig.heartbeat(&ids[2]), Ok(()));
    let token = rig.sync(&ids[2], &[]);
    assert_eq!(&rig.sync_answer(token).unwrap().assignment[..], b"given");
    assert_eq!(rig.group.to_stored(&rig.group.assignments()), stored);
    rig.pass(SESSION - Duration::from_millis(1));
    assert_eq!(rig.group.size(), 3);
    rig.pass(Duration::from_millis(1));
    assert_eq!((rig.group.state(), rig.group.size()), (State::Empty, 0));
}
