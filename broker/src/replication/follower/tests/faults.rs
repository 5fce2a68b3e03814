//! Leaders that refuse and damage, disks that fail: nothing wrong is appended, and fetching goes on.

use proto::{ErrorCode, Offset};

use super::fake_leader::{FakeLeader, Fault};
use super::rig::{Follower, eventually};
use crate::storage::LogConfig;

#[test]
fn every_error_code_is_got_over() {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("t", 2);
    (0..2).for_each(|p| drop(follower.follow(&leader, "t", p)));
    for &code in ErrorCode::ALL {
        leader.change("t", 0, |p| {
            p.faults.extend([Fault::Refused(code); 2]);
            p.append(1);
        });
        leader.change("t", 1, |p| p.append(1));
        follower.catches_up(&leader, "t", 1);
        follower.catches_up(&leader, "t", 0);
        assert!(leader.read("t", 0, |p| p.faults.is_empty()), "{code:?}");
    }
    assert_eq!(leader.seen().0, 1, "no connection was lost over it");
}

#[test]
fn bytes_that_do_not_hold_are_never_appended_and_verified_when_it_goes_on() {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("t", 2);
    let here = follower.follow(&leader, "t", 0);
    follower.follow(&leader, "t", 1);
    leader.change("t", 0, |p| {
        p.faults.extend([Fault::Garbled]);
        p.append(5);
    });
    follower.catches_up(&leader, "t", 0);
    assert_eq!(leader.read("t", 0, |p| p.verified), 0);
    leader.change("t", 0, |p| {
        p.faults.extend([Fault::Garbled; 6]);
        p.append(5);
    });
    eventually("a verification", || leader.read("t", 0, |p| p.verified) >= 2);
    leader.change("t", 1, |p| p.append(1));
    follower.catches_up(&leader, "t", 1);
    follower.catches_up(&leader, "t", 0);
    assert_eq!(follower.rig.metrics.replica_corrupt_answers.get(), 7);
    assert_eq!(leader.read("t", 0, |p| p.held_twice), 0, "the leader was not told to forget");
    assert_eq!(here.log().log_end(), Offset(10));
}

#[test]
fn an_offline_log_is_left_alone_and_the_others_go_on() {
    let (follower, disk) = Follower::breakable();
    let leader = FakeLeader::start();
    leader.create("t", 2);
    let (broken, well) = (follower.follow(&leader, "t", 0), follower.follow(&leader, "t", 1));
    leader.change("t", 0, |p| p.append(1));
    eventually("the first", || broken.log().log_end() == Offset(1));
    disk.set_faults(|faults| faults.failing_writes = Some("t-0".to_owned()));
    leader.change("t", 0, |p| p.append(1));
    eventually("the end", || broken.log().offline().is_some());
    let added = leader.read("t", 0, |p| p.added);
    for end in 1..5 {
        leader.change("t", 0, |p| p.append(1));
        leader.change("t", 1, |p| p.append(1));
        eventually("the other", || well.log().log_end() == Offset(end));
    }
    assert_eq!(leader.read("t", 0, |p| p.added), added, "it is not asked for any more");
}

#[test]
fn a_full_disk_is_waited_for() {
    let (follower, disk) = Follower::breakable();
    let leader = FakeLeader::start();
    leader.create("t", 1);
    let here = follower.follow_with(&leader, "t", 0, LogConfig::default());
    disk.set_faults(|faults| faults.capacity = Some(0));
    leader.change("t", 0, |p| p.append(3));
    eventually("the failure", || follower.rig.metrics.replica_fetch_failures.get() > 0);
    assert!(here.log().offline().is_none());
    assert_eq!(here.log().log_end(), Offset(0));
    disk.set_faults(|faults| faults.capacity = None);
    eventually("the second try", || here.log().log_end() == Offset(3));
}

#[test]
fn what_comes_before_a_damaged_batch_is_taken_so_that_the_leader_is_asked_about_that_one() {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("t", 1);
    leader.change("t", 0, |p| {
        // The last byte of each answer: the last batch.
        p.faults.extend([Fault::Garbled; 8]);
        (0..3).for_each(|_| p.append(4));
    });
    let here = follower.follow(&leader, "t", 0);
    eventually("the front", || here.log().log_end() == Offset(8));
    eventually("a verification", || leader.read("t", 0, |p| p.verified) >= 1);
    assert!(leader.read("t", 0, |p| !p.faults.is_empty()), "it still damages what it sends");
    follower.catches_up(&leader, "t", 0);
}

#[test]
fn a_leader_whose_batches_do_not_follow_is_asked_to_look_at_its_disk() {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("t", 1);
    leader.change("t", 0, |p| {
        p.faults.extend([Fault::Jump; 6]);
        p.append(4);
    });
    follower.follow(&leader, "t", 0);
    eventually("a verification", || leader.read("t", 0, |p| p.verified) >= 1);
    follower.catches_up(&leader, "t", 0);
    assert_eq!(follower.rig.metrics.replica_corrupt_answers.get(), 0);
}
