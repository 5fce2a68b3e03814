//! Leaders that break the protocol: they are left, or the partition waits; no log takes harm.

use proto::Offset;

use super::fake_leader::{FakeLeader, Fault};
use super::rig::{Follower, eventually};

/// One partition is lied about, another one shares the stream.
fn got_over(fault: Fault, leaves: bool) {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("t", 2);
    let here = follower.follow(&leader, "t", 0);
    follower.follow(&leader, "t", 1);
    leader.change("t", 0, |p| p.append(2));
    follower.catches_up(&leader, "t", 0);
    let connections = leader.seen().0;
    leader.change("t", 0, |p| {
        p.faults.push_back(fault);
        p.append(2);
    });
    leader.change("t", 1, |p| p.append(2));
    eventually("the lie", || leader.read("t", 0, |p| p.faults.is_empty()));
    follower.catches_up(&leader, "t", 0);
    follower.catches_up(&leader, "t", 1);
    assert!(here.log().offline().is_none());
    assert_eq!(leader.seen().0 > connections, leaves, "{fault:?}");
    assert!(follower.rig.metrics.replica_fetch_failures.get() > 0);
}

#[test]
fn offsets_that_jump_keep_one_partition_waiting() {
    got_over(Fault::Jump, false);
    got_over(Fault::WrongNext, false);
}

#[test]
fn strange_handles_and_rounds_end_the_connection() {
    got_over(Fault::UnknownHandle, true);
    got_over(Fault::WrongRound, true);
}

#[test]
fn messages_beyond_all_bounds_end_the_connection() {
    got_over(Fault::Oversized, true);
}

#[test]
fn a_stream_that_ends_is_opened_again() {
    got_over(Fault::Ends, true);
}

#[test]
fn a_divergence_without_a_place_cuts_nothing() {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("t", 1);
    let here = follower.follow(&leader, "t", 0);
    leader.change("t", 0, |p| p.append(4));
    follower.catches_up(&leader, "t", 0);
    leader.change("t", 0, |p| p.faults.extend([Fault::DivergesAtEnd; 3]));
    leader.kill();
    leader.listen();
    eventually("the lies", || leader.read("t", 0, |p| p.faults.is_empty()));
    leader.change("t", 0, |p| p.append(1));
    follower.catches_up(&leader, "t", 0);
    assert_eq!(here.log().log_end(), Offset(5));
    assert_eq!(follower.rig.metrics.replica_truncations.get(), 0);
}
