//! Assignments: who gets which, and when.

use super::super::*;
use super::rig::{DELAY, REBALANCE, Rig, SESSION};
use crate::groups::GroupError;

#[test]
fn e4_assignments_are_answered_once_stored_and_whom_the_leader_gave_nothing_gets_nothing() {
    let mut rig = Rig::new();
    let (one, first) = rig.enter();
    let (two, _) = rig.enter();
    rig.pass(DELAY * 2);
    assert_eq!(rig.joined(first).leader, one);
    let follower = rig.sync(&two, &[]);
    let leader = rig.sync(&one, &[(&one, "all"), ("stranger", "x")]);
    assert!(rig.waits(follower) && rig.waits(leader), "nothing before it is stored");
    let (ticket, stored) = rig.stores[0].clone();
    assert!(ticket.is_some());
    assert_eq!((stored.generation, stored.members.len()), (1, 2));
    assert_eq!(stored.leader.as_deref(), Some(&*one));
    rig.store_all(Ok(()));
    assert_eq!(&rig.sync_answer(leader).unwrap().assignment[..], b"all");
    assert_eq!(&rig.sync_answer(follower).unwrap().assignment[..], b"");
    let again = rig.sync(&one, &[(&one, "other")]);
    assert_eq!(&rig.sync_answer(again).unwrap().assignment[..], b"all", "one generation, one plan");
}

#[test]
fn e4_wrong_generations_protocols_and_states_are_told_apart() {
    let mut rig = Rig::new();
    assert_eq!(
        {
            let token = rig.sync("nobody", &[]);
            rig.sync_answer(token)
        },
        Err(GroupError::UnknownMemberId)
    );
    let ids = rig.stable(2);
    let stale = Caller { generation: 0, ..rig.caller(&ids[1]) };
    let token = rig.sync_as(stale, &[]);
    assert_eq!(rig.sync_answer(token), Err(GroupError::IllegalGeneration));
    for (kind, protocol) in [("connect", "range"), ("consumer", "sticky")] {
        let token = rig.token();
        let request = Sync {
            token,
            caller: rig.caller(&ids[1]),
            protocol_type: Some(kind.into()),
            protocol: Some(protocol.into()),
            assignments: vec![],
        };
        let mut out = Effects::new();
        rig.group.sync(request, rig.now, &mut out);
        rig.took(out);
        assert_eq!(rig.sync_answer(token), Err(GroupError::InconsistentGroupProtocol));
    }
    rig.rejoin(&ids[0]);
    let token = rig.sync(&ids[1], &[]);
    assert_eq!(rig.sync_answer(token), Err(GroupError::RebalanceInProgress));
}

#[test]
fn e4_who_never_syncs_is_removed_after_the_rebalance_timeout() {
    let mut rig = Rig::new();
    let (one, _) = rig.enter();
    let (two, _) = rig.enter();
    rig.pass(DELAY * 2);
    rig.sync(&one, &[]);
    rig.store_all(Ok(()));
    assert_eq!(rig.group.state(), State::Stable);
    let mut left = REBALANCE + DELAY;
    while left > DELAY && rig.group.state() == State::Stable {
        // Alive, both of them; but one does not take its assignment.
        rig.pass(SESSION / 2);
        let _ = (rig.heartbeat(&one), rig.heartbeat(&two));
        left = left.saturating_sub(SESSION / 2);
    }
    assert_eq!(rig.group.state(), State::PreparingRebalance);
    assert_eq!(rig.heartbeat(&two), Err(GroupError::UnknownMemberId));
    let again = rig.rejoin(&one);
    assert_eq!(rig.joined(again).generation, 2);
}

#[test]
fn a_leader_that_never_syncs_keeps_nobody_waiting() {
    let mut rig = Rig::new();
    let (one, _) = rig.enter();
    let (two, _) = rig.enter();
    rig.pass(DELAY * 2);
    let waiting = rig.sync(&two, &[]);
    rig.pass(SESSION);
    assert_eq!(rig.sync_answer(waiting), Err(GroupError::RebalanceInProgress));
    let again = rig.rejoin(&two);
    assert_eq!(rig.joined(again).leader, two, "{one} is out");
}

#[test]
fn an_assignment_that_cannot_be_stored_is_nobodys() {
    let mut rig = Rig::new();
    let (one, _) = rig.enter();
    rig.pass(DELAY * 2);
    let token = rig.sync(&one, &[(&one, "all")]);
    rig.store_all(Err(GroupError::NotCoordinator));
    assert_eq!(rig.sync_answer(token), Err(GroupError::NotCoordinator));
    assert_eq!(rig.group.state(), State::PreparingRebalance);
    let again = rig.rejoin(&one);
    assert_eq!(rig.joined(again).generation, 2);
}

#[test]
fn a_write_of_an_earlier_generation_changes_nothing() {
    let mut rig = Rig::new();
    let (one, _) = rig.enter();
    rig.pass(DELAY * 2);
    rig.sync(&one, &[(&one, "old")]);
    let late = std::mem::take(&mut rig.stores);
    let (two, second) = rig.enter();
    let first = rig.rejoin(&one);
    assert_eq!((rig.joined(first).generation, rig.joined(second).generation), (2, 2));
    rig.stores = late;
    rig.store_all(Ok(()));
    assert_eq!(rig.group.state(), State::CompletingRebalance, "that was generation 1");
    let token = rig.sync(&one, &[(&two, "new")]);
    rig.store_all(Ok(()));
    assert_eq!(&rig.sync_answer(token).unwrap().assignment[..], b"");
}

#[test]
fn a_late_write_is_not_taken_for_the_one_that_is_waited_for() {
    let mut rig = Rig::new();
    let (one, _) = rig.enter();
    rig.pass(DELAY * 2);
    rig.sync(&one, &[(&one, "old")]);
    let late = std::mem::take(&mut rig.stores);
    let (two, _) = rig.enter();
    rig.rejoin(&one);
    let first = rig.sync(&one, &[(&one, "new"), (&two, "new")]);
    let newer = std::mem::replace(&mut rig.stores, late);
    rig.store_all(Ok(()));
    assert!(rig.waits(first), "its own write is under way");
    rig.stores = newer;
    rig.store_all(Ok(()));
    assert_eq!(&rig.sync_answer(first).unwrap().assignment[..], b"new");
}

#[test]
fn a_leader_that_syncs_twice_assigns_once() {
    let mut rig = Rig::new();
    let (one, _) = rig.enter();
    rig.pass(DELAY * 2);
    rig.sync(&one, &[(&one, "first")]);
    let again = rig.sync(&one, &[(&one, "second")]);
    assert_eq!(rig.stores.len(), 1);
    rig.store_all(Ok(()));
    assert_eq!(&rig.sync_answer(again).unwrap().assignment[..], b"first");
}

#[test]
fn who_had_not_synced_is_not_removed_from_the_next_rebalance() {
    let mut rig = Rig::new();
    let (one, _) = rig.enter();
    rig.pass(DELAY * 2);
    // The end of the wait for its sync comes while the next members are collected.
    rig.pass(SESSION / 2);
    for _ in 0..9 {
        rig.heartbeat(&one).unwrap();
        rig.pass(SESSION / 2);
    }
    rig.enter();
    for _ in 0..5 {
        assert_eq!(rig.heartbeat(&one), Err(GroupError::RebalanceInProgress));
        rig.pass(SESSION / 2);
    }
}

#[test]
fn a_sync_is_a_sign_of_life() {
    let mut rig = Rig::new();
    let ids = rig.stable(1);
    for _ in 0..4 {
        rig.pass(SESSION * 2 / 3);
        let token = rig.sync(&ids[0], &[]);
        assert!(rig.sync_answer(token).is_ok());
    }
}
