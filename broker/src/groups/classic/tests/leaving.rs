//! Leaving.

use super::super::*;
use super::rig::Rig;
use crate::groups::GroupError;

fn by_id(id: &str) -> Leaving {
    Leaving { member_id: id.into(), instance: None }
}

#[test]
fn e10_each_member_that_leaves_is_answered_for_itself() {
    let mut rig = Rig::new();
    let ids = rig.stable(2);
    let answers = rig.leave(&[by_id("stranger"), by_id(&ids[1]), by_id(&ids[1])]);
    let unknown = Err(GroupError::UnknownMemberId);
    assert_eq!(answers, [unknown, Ok(()), unknown]);
    assert_eq!((rig.group.state(), rig.group.size()), (State::PreparingRebalance, 1));
    let again = rig.rejoin(&ids[0]);
    assert_eq!(rig.joined(again).generation, 2);
}

#[test]
fn e10_the_last_one_leaves_an_empty_group_of_the_next_generation() {
    let mut rig = Rig::new();
    let ids = rig.stable(2);
    assert_eq!(rig.leave(&[by_id(&ids[0]), by_id(&ids[1])]), [Ok(()), Ok(())]);
    assert_eq!((rig.group.state(), rig.group.generation()), (State::Empty, 2));
    assert_eq!(rig.stores.len(), 1, "one rebalance for both");
    assert_eq!(rig.stores[0].1.generation, 2);
}

#[test]
fn who_waits_and_leaves_is_answered() {
    let mut rig = Rig::new();
    let ids = rig.stable(2);
    let waiting = rig.rejoin(&ids[0]);
    rig.leave(&[by_id(&ids[0])]);
    assert_eq!(rig.join_refusal(waiting).error, GroupError::UnknownMemberId);
    let other = rig.rejoin(&ids[1]);
    assert_eq!(rig.joined(other).generation, 2);
}

#[test]
fn an_id_that_was_handed_out_can_be_given_back() {
    let mut rig = Rig::new();
    let ids = rig.stable(1);
    let request = rig.request("");
    let fresh = request.fresh_member_id.clone();
    rig.send_join(request);
    let waiting = rig.rejoin(&ids[0]);
    assert!(rig.waits(waiting), "for the one with the new id");
    assert_eq!(rig.leave(&[by_id(&fresh)]), [Ok(())]);
    assert_eq!(rig.joined(waiting).generation, 2);
    assert_eq!(rig.leave(&[by_id(&fresh)]), [Err(GroupError::UnknownMemberId)]);
}
