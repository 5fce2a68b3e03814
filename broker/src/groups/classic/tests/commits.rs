//! Who may commit.

use super::super::*;
use super::rig::{DELAY, Rig};
use crate::groups::GroupError;

#[test]
fn e6_strangers_commit_to_groups_without_members_only() {
    let mut rig = Rig::new();
    assert_eq!(rig.commit("", -1), Ok(()));
    assert_eq!(rig.commit("", 0), Err(GroupError::UnknownMemberId));
    rig.stable(1);
    assert_eq!(rig.commit("", -1), Err(GroupError::UnknownMemberId));
}

#[test]
fn e6_members_commit_in_their_generation() {
    let mut rig = Rig::new();
    let ids = rig.stable(2);
    assert_eq!(rig.commit(&ids[0], 1), Ok(()));
    assert_eq!(rig.commit(&ids[0], 0), Err(GroupError::IllegalGeneration));
    assert_eq!(rig.commit(&ids[0], -1), Err(GroupError::IllegalGeneration));
    assert_eq!(rig.commit("stranger", 1), Err(GroupError::UnknownMemberId));
}

#[test]
fn e6_members_commit_while_they_revoke_and_not_while_they_wait_for_an_assignment() {
    let mut rig = Rig::new();
    let ids = rig.stable(2);
    let leader = rig.rejoin(&ids[0]);
    assert_eq!(rig.group.state(), State::PreparingRebalance);
    assert_eq!(rig.commit(&ids[1], 1), Ok(()));
    rig.rejoin(&ids[1]);
    assert_eq!(rig.joined(leader).generation, 2);
    assert_eq!(rig.commit(&ids[1], 2), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_commit_is_a_sign_of_life() {
    let mut rig = Rig::new();
    let ids = rig.stable(1);
    for _ in 0..10 {
        rig.pass(DELAY * 3);
        assert_eq!(rig.commit(&ids[0], 1), Ok(()));
    }
    assert_eq!(rig.group.state(), State::Stable);
}
