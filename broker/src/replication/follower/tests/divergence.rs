//! Logs that differ from their leader's: they are cut to where both agree, over one epoch or many.

use proto::{LeaderEpoch, Offset};

use super::fake_leader::FakeLeader;
use super::rig::{Follower, assert_same, batch_at, bytes_of, eventually};
use crate::storage::LogConfig;

/// Leads here with batches of (epoch, records), as an earlier leader left them.
fn history(follower: &Follower, topic: &str, batches: &[(i32, usize)]) {
    let here = follower.open(topic, 0, LogConfig::default());
    for &(epoch, records) in batches {
        let batch = batch_at(here.log().log_end().0, records, epoch);
        let headers = proto::record::check_chunks(std::slice::from_ref(&batch)).unwrap();
        here.log().append_fetched(&[batch], &headers, 5).unwrap();
    }
}

fn led(leader: &FakeLeader, topic: &str, batches: &[(i32, usize)], epoch: i32) {
    leader.create(topic, 1);
    leader.change(topic, 0, |p| {
        for &(epoch, records) in batches {
            p.epoch = epoch;
            p.append(records);
        }
        p.epoch = epoch;
    });
}

/// The logs agree afterwards; returns how often the follower cut.
fn agree(here: &[(i32, usize)], there: &[(i32, usize)], epoch: i32) -> u64 {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    led(&leader, "t", there, epoch);
    history(&follower, "t", here);
    let log = follower.follow(&leader, "t", 0);
    let same = || bytes_of(&log) == leader.read("t", 0, |p| p.bytes());
    eventually("agreement", same);
    leader.change("t", 0, |p| p.append(3));
    follower.catches_up(&leader, "t", 0);
    assert_same(&log, &leader);
    follower.rig.metrics.replica_truncations.get()
}

#[test]
fn a_tail_that_the_leader_does_not_have_goes() {
    assert_eq!(agree(&[(0, 10), (0, 5)], &[(0, 10)], 1), 1);
    assert_eq!(agree(&[(0, 10), (1, 5)], &[(0, 10)], 2), 1);
    assert_eq!(agree(&[(0, 10)], &[(0, 10), (2, 5)], 2), 0, "nothing to cut");
}

/// KIP-101: by the high watermark alone, the follower would keep a record that the leader has
/// another one in place of.
#[test]
fn a_record_in_place_of_another_goes() {
    assert_eq!(agree(&[(0, 1), (0, 1)], &[(0, 1), (1, 1)], 1), 1);
    assert_eq!(agree(&[(0, 3), (1, 1)], &[(0, 3), (2, 1)], 2), 1);
}

/// KIP-279: fast fail-overs leave several epochs on either side that the other has not.
#[test]
fn several_epochs_of_difference_are_found_step_by_step() {
    let cuts = agree(&[(0, 10), (1, 3), (3, 2), (5, 4)], &[(0, 10), (2, 1), (4, 6), (6, 1)], 7);
    assert!((1..=4).contains(&cuts), "{cuts} cuts");
    agree(&[(0, 10), (1, 3), (2, 2)], &[(0, 10), (1, 1), (3, 6)], 3);
    agree(&[(0, 4), (2, 4), (4, 4)], &[(1, 5), (3, 5), (5, 5)], 5);
    agree(&[(3, 4)], &[(0, 10), (5, 2)], 5);
}

#[test]
fn random_histories_agree_in_the_end() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..12 {
        let shared: Vec<_> = (0..random.i32(0..4)).map(|e| (e, random.usize(1..6))).collect();
        // Odd epochs here, even ones there: no epoch has two histories.
        let mut own = |parity: i32| -> Vec<(i32, usize)> {
            let epochs = (4..16).filter(|epoch| epoch % 2 == parity && random.bool());
            let epochs: Vec<_> = epochs.collect();
            epochs.into_iter().map(|epoch| (epoch, random.usize(1..6))).collect()
        };
        let here = [shared.clone(), own(1)].concat();
        let there = [shared, own(0)].concat();
        println!("seed {seed}, round {round}: {here:?} against {there:?}");
        agree(&here, &there, 20);
    }
}

#[test]
fn a_log_below_its_leaders_begins_anew_there() {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("t", 1);
    leader.change("t", 0, |p| {
        p.log_start = 50;
        (0..3).for_each(|_| p.append(4));
    });
    history(&follower, "t", &[(0, 10)]);
    let log = follower.follow(&leader, "t", 0);
    follower.catches_up(&leader, "t", 0);
    assert_eq!((log.log().log_start(), log.log().log_end()), (Offset(50), Offset(62)));
    assert_eq!(follower.rig.metrics.replica_restarts.get(), 1);
}

#[test]
fn a_leader_whose_start_lies_in_a_batch_is_followed_from_that_batch_on() {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("t", 1);
    leader.change("t", 0, |p| {
        p.batches = vec![batch_at(40, 10, 0), batch_at(50, 5, 0)];
        p.log_start = 44;
    });
    let log = follower.follow(&leader, "t", 0);
    follower.catches_up(&leader, "t", 0);
    eventually("the log start", || log.log().log_start() == Offset(44));
    assert_eq!(log.log().last_record_epoch(), LeaderEpoch(0));
}

#[test]
fn a_log_out_of_range_that_the_leader_goes_on_from_is_not_thrown_away() {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("t", 1);
    leader.change("t", 0, |p| {
        p.append(10);
        let refused = super::fake_leader::Fault::Refused(proto::ErrorCode::OffsetOutOfRange);
        p.faults.extend([refused; 4]);
    });
    history(&follower, "t", &[(0, 10)]);
    follower.follow(&leader, "t", 0);
    eventually("the lies", || leader.read("t", 0, |p| p.faults.is_empty()));
    leader.change("t", 0, |p| p.append(1));
    follower.catches_up(&leader, "t", 0);
    assert_eq!(follower.rig.metrics.replica_restarts.get(), 0);
}
