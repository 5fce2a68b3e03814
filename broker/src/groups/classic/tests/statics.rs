//! Static members.

use super::super::*;
use super::rig::{DELAY, REBALANCE, Rig, SESSION, limits, named, subscription};
use crate::groups::GroupError;

fn fixed(rig: &mut Rig, instance: &str, protocol: Protocol) -> Join {
    let request = rig.request("");
    Join { instance: Some(instance.into()), protocols: vec![protocol], ..request }
}

/// Two static members, `a` leading, in a stable group.
fn two(rig: &mut Rig) -> (std::sync::Arc<str>, std::sync::Arc<str>) {
    let request = fixed(rig, "a", subscription(&["t"], b""));
    let a = rig.send_join(request);
    let request = fixed(rig, "b", subscription(&["t"], b""));
    let b = rig.send_join(request);
    rig.pass(DELAY * 2);
    let (a, b) = (rig.joined(a).member_id.clone(), rig.joined(b).member_id.clone());
    assert_eq!(rig.group.leader(), Some(&a));
    rig.sync(&a, &[(&a, "of a"), (&b, "of b")]);
    rig.sync(&b, &[]);
    rig.store_all(Ok(()));
    (a, b)
}

#[test]
fn e9_an_instance_that_comes_back_takes_its_place_without_a_rebalance() {
    let mut rig = Rig::new();
    let (a, b) = two(&mut rig);
    // What it owns is said behind the topics, and is another thing after a restart.
    let request = fixed(&mut rig, "b", subscription(&["t"], b"owned"));
    let back = rig.send_join(request);
    assert!(rig.waits(back), "its new id is stored first");
    assert!(rig.stores[0].1.members.iter().all(|member| member.id != b));
    rig.store_all(Ok(()));
    let joined = rig.joined(back).clone();
    assert_eq!((joined.generation, &joined.leader), (1, &a));
    assert_ne!(joined.member_id, b);
    assert_eq!(rig.group.state(), State::Stable);
    let token = rig.sync(&joined.member_id, &[]);
    assert_eq!(&rig.sync_answer(token).unwrap().assignment[..], b"of b");
}

#[test]
fn e9_the_old_id_is_fenced_everywhere() {
    let mut rig = Rig::new();
    let (_, b) = two(&mut rig);
    let request = fixed(&mut rig, "b", subscription(&["t"], b""));
    rig.send_join(request);
    rig.store_all(Ok(()));
    let fenced = Err(GroupError::FencedInstanceId);
    let caller = Caller { instance: Some("b".into()), ..rig.caller(&b) };
    assert_eq!(rig.group.heartbeat(&caller, rig.now), fenced);
    assert_eq!(rig.group.check_commit(&caller, rig.now), fenced);
    let token = rig.sync_as(caller, &[]);
    assert_eq!(rig.sync_answer(token).map(|_| ()), fenced);
    let join = Join { instance: Some("b".into()), ..rig.request(&b) };
    let token = rig.send_join(join);
    assert_eq!(rig.join_refusal(token).error, GroupError::FencedInstanceId);
    let leaving = Leaving { member_id: b.clone(), instance: Some("b".into()) };
    assert_eq!(rig.leave(&[leaving]), [fenced]);
    // Without its instance it is unknown.
    assert_eq!(rig.heartbeat(&b), Err(GroupError::UnknownMemberId));
}

#[test]
fn e9_who_waits_under_the_old_id_is_fenced_at_once() {
    let mut rig = Rig::new();
    let request = fixed(&mut rig, "a", subscription(&["t"], b""));
    let first = rig.send_join(request);
    let request = fixed(&mut rig, "a", subscription(&["t"], b""));
    let second = rig.send_join(request);
    assert_eq!(rig.join_refusal(first).error, GroupError::FencedInstanceId);
    rig.pass(DELAY * 2);
    assert_eq!((rig.joined(second).generation, rig.group.size()), (1, 1));
    let id = rig.joined(second).member_id.clone();
    let waiting = rig.sync_as(Caller { instance: Some("a".into()), ..rig.caller(&id) }, &[]);
    let request = fixed(&mut rig, "a", subscription(&["t"], b""));
    let third = rig.send_join(request);
    assert_eq!(rig.sync_answer(waiting), Err(GroupError::FencedInstanceId));
    assert_eq!(rig.joined(third).generation, 2, "its generation was not assigned yet");
}

#[test]
fn e9_an_instance_that_reads_other_topics_rebalances_the_group() {
    for protocol in [subscription(&["t", "u"], b""), named("range")] {
        let mut rig = Rig::new();
        two(&mut rig);
        let request = fixed(&mut rig, "b", protocol);
        let back = rig.send_join(request);
        assert_eq!(rig.group.state(), State::PreparingRebalance);
        assert!(rig.waits(back));
    }
}

#[test]
fn e9_a_leader_that_comes_back_leads_and_does_not_assign() {
    let mut rig = Rig::new();
    let (a, _) = two(&mut rig);
    let request = fixed(&mut rig, "a", subscription(&["t"], b""));
    let back = rig.send_join(request);
    rig.store_all(Ok(()));
    let joined = rig.joined(back).clone();
    assert!(joined.skip_assignment && joined.leader == joined.member_id);
    assert_eq!(joined.members.len(), 2);
    // A client that does not know of this is told that another one leads.
    let old = fixed(&mut rig, "a", subscription(&["t"], b""));
    let old = Join { skips_assignment: false, ..old };
    let back = rig.send_join(old);
    rig.store_all(Ok(()));
    let again = rig.joined(back);
    assert!(!again.skip_assignment && again.members.is_empty());
    assert_eq!(again.leader, joined.member_id);
    assert_ne!(again.leader, a);
}

#[test]
fn e9_a_new_id_that_cannot_be_stored_is_not_told() {
    let mut rig = Rig::new();
    two(&mut rig);
    let request = fixed(&mut rig, "b", subscription(&["t"], b""));
    let back = rig.send_join(request);
    rig.store_all(Err(GroupError::NotCoordinator));
    assert_eq!(rig.join_refusal(back).error, GroupError::NotCoordinator);
}

#[test]
fn a_rebalance_that_overtakes_a_return_answers_it() {
    let mut rig = Rig::new();
    let (a, _) = two(&mut rig);
    let request = fixed(&mut rig, "b", subscription(&["t"], b""));
    let back = rig.send_join(request);
    let late = std::mem::take(&mut rig.stores);
    let leader = Join { instance: Some("a".into()), ..rig.request(&a) };
    let leader = Join { protocols: vec![subscription(&["t"], b"")], ..leader };
    let leader = rig.send_join(leader);
    assert_eq!((rig.joined(leader).generation, rig.joined(back).generation), (2, 2));
    rig.stores = late;
    rig.store_all(Ok(()));
    assert_eq!(rig.group.state(), State::CompletingRebalance);
}

#[test]
fn e9_static_members_stay_while_they_are_away_until_their_session_ends() {
    let mut rig = Rig::new();
    let (a, b) = two(&mut rig);
    let leader = Join { instance: Some("a".into()), ..rig.request(&a) };
    let leader = Join {
        protocols: vec![subscription(&["t"], b"")],
        rebalance_timeout: SESSION / 2,
        ..leader
    };
    // `b` asked for a long rebalance timeout: it would be waited for, were it not for its session.
    rig.send_join(leader);
    assert_eq!(rig.group.size(), 2);
    rig.pass(SESSION);
    assert!(rig.group.members().all(|member| *member.id() != b));
    assert_eq!(rig.group.state(), State::CompletingRebalance);
}

#[test]
fn e9_an_instance_leaves_by_its_name() {
    let mut rig = Rig::new();
    let (_, b) = two(&mut rig);
    let by_name = |name: &str| Leaving { member_id: "".into(), instance: Some(name.into()) };
    let answers = rig.leave(&[by_name("nobody"), by_name("b")]);
    assert_eq!(answers, [Err(GroupError::UnknownMemberId), Ok(())]);
    assert!(rig.group.members().all(|member| *member.id() != b));
    assert_eq!(rig.group.state(), State::PreparingRebalance);
}

#[test]
fn an_instance_finds_its_place_in_a_full_group() {
    let mut rig = Rig::with(Limits { size_max: 2, ..limits() });
    two(&mut rig);
    let request = fixed(&mut rig, "b", subscription(&["t"], b""));
    let back = rig.send_join(request);
    rig.store_all(Ok(()));
    assert_eq!(rig.joined(back).generation, 1);
    let request = fixed(&mut rig, "c", subscription(&["t"], b""));
    let third = rig.send_join(request);
    assert_eq!(rig.join_refusal(third).error, GroupError::GroupMaxSizeReached);
}

#[test]
fn static_members_that_are_all_away_make_no_generation() {
    let mut rig = Rig::new();
    two(&mut rig);
    let request = Join { requires_member_id: false, ..rig.request("") };
    let third = Join {
        protocols: vec![subscription(&["t"], b"")],
        rebalance_timeout: SESSION * 3,
        ..request
    };
    rig.send_join(third);
    let id = rig.group.members().find(|member| member.instance().is_none()).unwrap().id().clone();
    rig.leave(&[Leaving { member_id: id, instance: None }]);
    assert_eq!(rig.group.state(), State::PreparingRebalance);
    rig.pass(SESSION);
    assert_eq!((rig.group.state(), rig.group.size()), (State::Empty, 0));
}

#[test]
fn an_instance_that_no_longer_can_what_was_agreed_on_rebalances_the_group() {
    let mut rig = Rig::new();
    let both = |first: &str, second: &str| vec![named(first), named(second)];
    let join = |rig: &mut Rig, instance: &str, protocols: Vec<Protocol>| {
        let request = fixed(rig, instance, named("x"));
        rig.send_join(Join { protocols, ..request })
    };
    let a = join(&mut rig, "a", both("x", "y"));
    join(&mut rig, "b", both("x", "y"));
    rig.pass(DELAY * 2);
    let a = rig.joined(a).member_id.clone();
    rig.sync(&a, &[]);
    rig.store_all(Ok(()));
    assert_eq!(rig.group.protocol().map(|name| &**name), Some("x"));
    // It says the same for what was agreed on, and prefers the other: so does its leader's vote.
    let leader = rig.group.leader().cloned().unwrap();
    assert_eq!(leader, a);
    join(&mut rig, "a", both("y", "x"));
    assert_eq!(rig.group.state(), State::PreparingRebalance);
}

#[test]
fn what_other_kinds_of_groups_say_is_compared_whole() {
    let mut rig = Rig::new();
    let join = |rig: &mut Rig, behind: &[u8]| {
        let request = fixed(rig, "a", subscription(&["t"], behind));
        rig.send_join(Join { protocol_type: "connect".into(), ..request })
    };
    let a = join(&mut rig, b"1");
    rig.pass(DELAY * 2);
    let a = rig.joined(a).member_id.clone();
    let caller = rig.caller(&a);
    let mut out = Effects::new();
    let token = rig.token();
    let (protocol_type, protocol) = (None, None);
    let request = Sync { token, caller, protocol_type, protocol, assignments: Vec::new() };
    rig.group.sync(request, rig.now, &mut out);
    rig.took(out);
    rig.store_all(Ok(()));
    assert_eq!(rig.group.state(), State::Stable);
    let again = join(&mut rig, b"2");
    assert_eq!(rig.joined(again).generation, 2);
}

#[test]
fn a_static_leader_that_is_away_stays_a_member_and_leads_no_more() {
    let mut rig = Rig::new();
    let session = REBALANCE * 3;
    let join = |rig: &mut Rig, id: &str, instance: &str, topic: &str| {
        let request = fixed(rig, instance, subscription(&[topic], b""));
        rig.send_join(Join { member_id: id.into(), session_timeout: session, ..request })
    };
    let a = join(&mut rig, "", "a", "t");
    let b = join(&mut rig, "", "b", "t");
    rig.pass(DELAY * 2);
    let (a, b) = (rig.joined(a).member_id.clone(), rig.joined(b).member_id.clone());
    rig.sync(&a, &[]);
    rig.sync(&b, &[]);
    rig.store_all(Ok(()));
    let again = join(&mut rig, &b, "b", "u");
    rig.pass(REBALANCE + SESSION);
    let joined = rig.joined(again).clone();
    assert_eq!((joined.generation, &joined.leader), (2, &b));
    assert_eq!((joined.members.len(), rig.group.size()), (2, 2), "{a} is away, and in it");
}

#[test]
fn a_return_that_is_being_stored_waits_for_the_rebalance_that_overtakes_it() {
    let mut rig = Rig::new();
    let (a, _) = two(&mut rig);
    let request = fixed(&mut rig, "b", subscription(&["t"], b""));
    let back = rig.send_join(request);
    let request = fixed(&mut rig, "c", subscription(&["t"], b""));
    let third = rig.send_join(request);
    rig.store_all(Ok(()));
    assert!(rig.waits(back) && rig.waits(third), "generation 1 is over");
    let request = fixed(&mut rig, "a", subscription(&["t"], b""));
    rig.send_join(Join { member_id: a, ..request });
    assert_eq!((rig.joined(back).generation, rig.joined(third).generation), (2, 2));
}
