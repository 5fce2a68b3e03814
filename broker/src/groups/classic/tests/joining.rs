//! Who may join, and under which id.

use std::time::Duration;

use super::super::*;
use super::rig::{DELAY, REBALANCE, Rig, SESSION, limits, named, range};
use crate::groups::GroupError;

#[test]
fn e1_a_new_member_is_given_an_id_to_join_with() {
    let mut rig = Rig::new();
    let request = rig.request("");
    let fresh = request.fresh_member_id.clone();
    let first = rig.send_join(request);
    let refusal = rig.join_refusal(first);
    assert_eq!((refusal.error, &refusal.member_id), (GroupError::MemberIdRequired, &fresh));
    let second = rig.rejoin(&fresh);
    rig.pass(DELAY * 2);
    assert_eq!(rig.joined(second).member_id, fresh);
}

#[test]
fn e1_an_id_that_nobody_joins_with_is_forgotten_after_the_session_timeout() {
    let mut rig = Rig::new();
    let request = rig.request("");
    let fresh = request.fresh_member_id.clone();
    rig.send_join(request);
    assert!(!rig.group.is_untouched());
    rig.pass(SESSION);
    assert!(rig.group.is_untouched(), "and so is the group");
    let late = rig.rejoin(&fresh);
    assert_eq!(rig.join_refusal(late).error, GroupError::UnknownMemberId);
}

#[test]
fn e1_old_clients_and_static_members_join_at_once() {
    let mut rig = Rig::new();
    let old = Join { requires_member_id: false, ..rig.request("") };
    let fixed = Join { instance: Some("i".into()), ..rig.request("") };
    let (old, fixed) = (rig.send_join(old), rig.send_join(fixed));
    rig.pass(DELAY * 2);
    assert_eq!(rig.joined(old).generation, 1);
    assert_eq!(rig.joined(fixed).generation, 1);
}

#[test]
fn e2_bounds_of_the_session_are_inclusive() {
    let mut rig = Rig::new();
    let ms = Duration::from_millis(1);
    let Limits { session_timeout_min: min, session_timeout_max: max, .. } = limits();
    for (timeout, error) in [
        (min - ms, GroupError::InvalidSessionTimeout),
        (min, GroupError::MemberIdRequired),
        (max, GroupError::MemberIdRequired),
        (max + ms, GroupError::InvalidSessionTimeout),
    ] {
        let request = Join { session_timeout: timeout, ..rig.request("") };
        let token = rig.send_join(request);
        assert_eq!(rig.join_refusal(token).error, error, "{timeout:?}");
    }
}

#[test]
fn e2_members_have_a_protocol_and_the_kind_of_group_in_common() {
    let mut rig = Rig::new();
    let inconsistent = |rig: &mut Rig, request: Join| {
        let token = rig.send_join(request);
        assert_eq!(rig.join_refusal(token).error, GroupError::InconsistentGroupProtocol);
    };
    let request = Join { protocols: vec![], ..rig.request("") };
    inconsistent(&mut rig, request);
    let request = Join { protocol_type: "".into(), ..rig.request("") };
    inconsistent(&mut rig, request);
    let request = Join { protocols: vec![range("a"), range("b")], ..rig.request("") };
    inconsistent(&mut rig, request);
    rig.stable(2);
    let request = Join { protocols: vec![named("sticky")], ..rig.request("") };
    inconsistent(&mut rig, request);
    let request = Join { protocol_type: "connect".into(), ..rig.request("") };
    inconsistent(&mut rig, request);
}

#[test]
fn e2_strangers_are_told_that_they_are_and_a_full_group_takes_nobody() {
    let mut rig = Rig::with(Limits { size_max: 2, ..limits() });
    let stranger = rig.rejoin("stranger");
    assert_eq!(rig.join_refusal(stranger).error, GroupError::UnknownMemberId);
    let ids = rig.stable(2);
    let third = rig.rejoin("");
    assert_eq!(rig.join_refusal(third).error, GroupError::GroupMaxSizeReached);
    let again = rig.rejoin(&ids[1]);
    assert_eq!(rig.joined(again).generation, 1, "who is in it stays in it");
}

#[test]
fn e2_ids_handed_out_count_against_the_size() {
    let mut rig = Rig::with(Limits { size_max: 3, ..limits() });
    for error in [GroupError::MemberIdRequired; 3] {
        let token = rig.rejoin("");
        assert_eq!(rig.join_refusal(token).error, error);
    }
    let token = rig.rejoin("");
    assert_eq!(rig.join_refusal(token).error, GroupError::GroupMaxSizeReached);
}

#[test]
fn e3_only_the_leader_is_told_the_members() {
    let mut rig = Rig::new();
    let (one, first) = rig.enter();
    let (two, second) = rig.enter();
    rig.pass(DELAY * 2);
    let leader = rig.joined(first).leader.clone();
    assert_eq!(leader, one, "the first one leads");
    let members: Vec<_> = rig.joined(first).members.iter().map(|one| one.id.clone()).collect();
    let mut both = vec![one, two];
    both.sort();
    assert_eq!(members, both);
    assert!(rig.joined(second).members.is_empty());
    assert_eq!(rig.joined(second).leader, leader);
    assert_eq!(rig.joined(second).protocol.as_deref(), Some("range"));
}

#[test]
fn e3_an_empty_group_waits_for_others_to_come_but_not_for_ever() {
    let mut rig = Rig::new();
    let (_, first) = rig.enter();
    rig.pass(DELAY - Duration::from_millis(1));
    assert!(rig.waits(first));
    let (_, second) = rig.enter();
    rig.pass(DELAY);
    assert!(rig.waits(first), "the second one put it off");
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.joined(first).generation, 1);
    assert_eq!(rig.joined(second).generation, 1);

    let mut rig = Rig::new();
    let (_, first) = rig.enter();
    let mut waited = Duration::ZERO;
    while rig.waits(first) {
        rig.enter();
        rig.pass(DELAY / 2);
        waited += DELAY / 2;
        assert!(waited <= REBALANCE + DELAY, "put off without end");
    }
    assert!(waited >= REBALANCE - DELAY);
}

#[test]
fn e3_a_group_without_delay_begins_at_once() {
    let mut rig = Rig::with(Limits { initial_rebalance_delay: Duration::ZERO, ..limits() });
    let (_, token) = rig.enter();
    assert_eq!(rig.joined(token).generation, 1);
}

#[test]
fn e3_who_follows_and_joins_again_unchanged_is_told_the_generation() {
    let mut rig = Rig::new();
    let ids = rig.stable(2);
    let again = rig.rejoin(&ids[1]);
    assert_eq!(rig.joined(again).generation, 1);
    assert_eq!(rig.group.state(), State::Stable);
    let changed = Join { protocols: vec![range("other")], ..rig.request(&ids[1]) };
    let changed = rig.send_join(changed);
    assert!(rig.waits(changed));
    assert_eq!(rig.group.state(), State::PreparingRebalance);
}

#[test]
fn e3_the_leader_has_the_group_assigned_anew_by_joining_again() {
    let mut rig = Rig::new();
    let ids = rig.stable(2);
    let leader = rig.rejoin(&ids[0]);
    assert_eq!(rig.group.state(), State::PreparingRebalance);
    assert_eq!(rig.heartbeat(&ids[1]), Err(GroupError::RebalanceInProgress));
    let follower = rig.rejoin(&ids[1]);
    assert_eq!((rig.joined(leader).generation, rig.joined(follower).generation), (2, 2));
    assert_eq!(rig.joined(leader).members.len(), 2);
}

#[test]
fn a_lost_answer_is_given_again_while_the_assignment_is_awaited() {
    let mut rig = Rig::new();
    let (id, _) = rig.enter();
    rig.pass(DELAY * 2);
    assert_eq!(rig.group.state(), State::CompletingRebalance);
    let again = rig.rejoin(&id);
    assert_eq!((rig.joined(again).generation, rig.joined(again).members.len()), (1, 1));
}

#[test]
fn who_joins_twice_is_answered_twice() {
    let mut rig = Rig::new();
    let (id, first) = rig.enter();
    let second = rig.rejoin(&id);
    assert_eq!(rig.join_refusal(first).error, GroupError::RebalanceInProgress);
    rig.pass(DELAY * 2);
    assert_eq!(rig.joined(second).generation, 1);
}

#[test]
fn members_agree_on_what_most_prefer_of_what_all_can_do() {
    let mut rig = Rig::new();
    let (a, b, c) = ("a", "b", "c");
    for names in [&[a, b, c][..], &[b, a], &[b, a], &[a, b]] {
        let protocols = names.iter().map(|name| named(name)).collect();
        let request = Join { requires_member_id: false, protocols, ..rig.request("") };
        rig.send_join(request);
    }
    let last = Join {
        requires_member_id: false,
        protocols: vec![named("c"), named("b"), named("a")],
        ..rig.request("")
    };
    let token = rig.send_join(last);
    rig.pass(DELAY * 3);
    assert_eq!(
        rig.joined(token).protocol.as_deref(),
        Some("b"),
        "2 for a, 3 for b, c is not all's"
    );
}

#[test]
fn a_level_vote_goes_to_what_the_leader_prefers() {
    for (first, second) in [("x", "y"), ("y", "x")] {
        let mut rig = Rig::new();
        let mut last = None;
        for order in [[first, second], [second, first]] {
            let protocols = order.iter().map(|name| named(name)).collect();
            let request = Join { requires_member_id: false, protocols, ..rig.request("") };
            last = Some(rig.send_join(request));
        }
        rig.pass(DELAY * 2);
        assert_eq!(rig.joined(last.unwrap()).protocol.as_deref(), Some(first));
    }
}

#[test]
fn who_joins_again_is_alive_and_may_ask_for_another_session() {
    let mut rig = Rig::new();
    let ids = rig.stable(2);
    for _ in 0..4 {
        rig.pass(SESSION * 2 / 3);
        rig.heartbeat(&ids[0]).unwrap();
        // Unchanged: the generation is told again.
        let again = rig.rejoin(&ids[1]);
        assert_eq!(rig.joined(again).generation, 1);
    }
    let longer = Join { session_timeout: SESSION * 5, ..rig.request(&ids[0]) };
    rig.send_join(longer);
    let other = rig.rejoin(&ids[1]);
    assert_eq!(rig.joined(other).generation, 2);
    rig.sync(&ids[0], &[]);
    rig.sync(&ids[1], &[]);
    rig.store_all(Ok(()));
    rig.pass(SESSION * 2);
    let caller = Caller { generation: 2, ..rig.caller(&ids[0]) };
    assert_ne!(rig.group.heartbeat(&caller, rig.now), Err(GroupError::UnknownMemberId));
}
