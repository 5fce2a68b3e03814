//! What is written for a wish, by the state that was read.

use proto::LeaderEpoch;

use super::*;
use crate::replication::Replica;

const ME: BrokerId = BrokerId(1);

fn ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

fn state(isr: &[i32], electable: &[i32]) -> PartitionState {
    PartitionState {
        leader: Some(ME),
        leader_epoch: LeaderEpoch(3),
        isr: ids(isr),
        electable: ids(electable),
        controller_epoch: 1,
    }
}

/// A wish for this ISR, with the second half joining in the runs of the same numbers.
fn wish(isr: &[i32], joining: &[i32]) -> IsrWish {
    let run = |&id| Replica { broker_id: BrokerId(id), incarnation: Uuid::from_u128(id as u128) };
    IsrWish {
        epoch: LeaderEpoch(3),
        version: 5,
        isr: ids(isr),
        lost: Vec::new(),
        joining: joining.iter().map(run).collect(),
    }
}

fn live(runs: &[(i32, u128)]) -> Runs {
    runs.iter().map(|&(id, run)| (BrokerId(id), Uuid::from_u128(run))).collect()
}

fn decided(state: &PartitionState, wish: &IsrWish, runs: &[(i32, u128)]) -> Decision {
    decide(state, wish, ME, 2, &live(runs))
}

#[test]
fn who_lags_leaves_and_who_caught_up_joins() {
    let leaves = decided(&state(&[1, 2, 3], &[]), &wish(&[1, 2], &[]), &[]);
    assert_eq!(leaves, Decision::Write(state(&[1, 2], &[])));
    let below = decided(&state(&[1, 2], &[]), &wish(&[1], &[]), &[]);
    assert_eq!(below, Decision::Write(state(&[1], &[2])));
    let joins = decided(&state(&[1], &[2]), &wish(&[1, 2], &[2]), &[(2, 2)]);
    assert_eq!(joins, Decision::Write(state(&[1, 2], &[])));
    let both = decided(&state(&[1, 2], &[]), &wish(&[1, 3], &[3]), &[(3, 3)]);
    assert_eq!(both, Decision::Write(state(&[1, 3], &[])));
    assert_eq!(decided(&state(&[1, 2], &[]), &wish(&[1, 2], &[]), &[]), Decision::AsItIs);
}

#[test]
fn another_run_than_the_one_that_caught_up_does_not_join() {
    let state = state(&[1, 2], &[]);
    assert_eq!(decided(&state, &wish(&[1, 2, 3], &[3]), &[(3, 9)]), Decision::AsItIs);
    assert_eq!(decided(&state, &wish(&[1, 2, 3], &[3]), &[]), Decision::AsItIs);
}

#[test]
fn a_leader_that_was_succeeded_changes_nothing() {
    let mut other = state(&[1, 2, 3], &[]);
    other.leader = Some(BrokerId(2));
    assert_eq!(decided(&other, &wish(&[1], &[]), &[]), Decision::NotLeader);
    let mut later = state(&[1, 2, 3], &[]);
    later.leader_epoch = LeaderEpoch(4);
    assert_eq!(decided(&later, &wish(&[1], &[]), &[]), Decision::NotLeader);
}

#[test]
fn at_the_minimum_the_electable_are_none_any_more() {
    let cleared = decided(&state(&[1, 2], &[3]), &wish(&[1, 2], &[]), &[]);
    assert_eq!(cleared, Decision::Write(state(&[1, 2], &[])));
}

#[test]
fn who_lost_records_is_not_electable() {
    let lost = IsrWish { lost: ids(&[2]), ..wish(&[1], &[]) };
    assert_eq!(decided(&state(&[1, 2], &[]), &lost, &[]), Decision::Write(state(&[1], &[])));
    assert_eq!(decided(&state(&[1], &[2]), &lost, &[]), Decision::Write(state(&[1], &[])));
}

#[test]
fn a_read_that_is_behind_the_own_epoch_is_repeated() {
    let mut earlier = state(&[1, 2, 3], &[]);
    earlier.leader_epoch = LeaderEpoch(2);
    assert_eq!(decided(&earlier, &wish(&[1], &[]), &[]), Decision::ReadAgain);
}
