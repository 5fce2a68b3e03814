//! Records that come as they should, from leaders that come, go and move.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::{BrokerId, LeaderEpoch, Offset, TopicPartition};

use super::fake_leader::FakeLeader;
use super::rig::{Follower, assert_same, config, eventually};
use crate::config::ReplicationConfig;
use crate::replication::follower::LeaderAddress;
use crate::storage::{FlushPolicy, LogConfig};

/// Of a failing run, to be set as `SEED`.
fn seed() -> u64 {
    std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121)
}

#[test]
fn logs_are_the_same_after_random_batches() {
    let mut random = fastrand::Rng::with_seed(seed());
    // Large enough for all that comes at once: nobody falls behind.
    let large = ReplicationConfig { fetch_max_bytes: 1 << 20, ..config() };
    let (leader, follower) = (FakeLeader::start(), Follower::with(large));
    leader.create("t", 5);
    let small = LogConfig { segment_bytes: 1 << 20, ..LogConfig::default() };
    for partition in 0..5 {
        follower.follow_with(&leader, "t", partition, small.clone());
    }
    for _ in 0..300 {
        let partition = random.i32(0..5);
        let records = random.usize(1..50);
        leader.change("t", partition, |p| p.append(records));
        if random.u8(..) < 30 {
            follower.catches_up(&leader, "t", partition);
        }
    }
    for partition in 0..5 {
        follower.catches_up(&leader, "t", partition);
    }
    let (connections, streams, _) = leader.seen();
    assert_eq!((connections, streams), (1, 1));
    let replica = leader.replica().unwrap();
    assert_eq!((replica.broker_id, replica.incarnation.len()), (2, 16));
}

#[test]
fn two_thousand_partitions_share_one_stream() {
    const PARTITIONS: i32 = 2_000;
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("many", PARTITIONS);
    let followed: Vec<_> = (0..PARTITIONS).map(|p| follower.follow(&leader, "many", p)).collect();
    eventually("adding", || (0..PARTITIONS).all(|p| leader.read("many", p, |p| p.added == 1)));
    let before = leader.seen().2;
    let begin = Instant::now();
    leader
        .change_all("many", |number, p| (0..i32::from(number % 7 == 0)).for_each(|_| p.append(3)));
    let expected = |partition: i32| if partition % 7 == 0 { 3 } else { 0 };
    eventually("all of them", || {
        (0..PARTITIONS)
            .zip(&followed)
            .all(|(number, partition)| partition.log().log_end().0 == expected(number))
    });
    println!("2,000 partitions: {} ms", begin.elapsed().as_millis());
    let (connections, streams, rounds) = leader.seen();
    assert_eq!((connections, streams), (1, 1));
    eventually("progress", || leader.read("many", 7, |p| p.told.last() == Some(&3)));
    assert!(rounds - before < 300, "{} rounds", rounds - before);
    assert_eq!(follower.fetchers.len(), PARTITIONS as usize);
}

#[test]
fn what_is_held_is_told_at_once_though_nothing_else_comes() {
    let waits_long = ReplicationConfig { fetch_wait_max: Duration::from_secs(20), ..config() };
    let (leader, follower) = (FakeLeader::start(), Follower::with(waits_long));
    leader.create("t", 1);
    follower.follow(&leader, "t", 0);
    for round in 1..=20 {
        let begin = Instant::now();
        leader.change("t", 0, |p| p.append(1));
        eventually("progress", || leader.read("t", 0, |p| p.told.last() == Some(&round)));
        assert!(begin.elapsed() < Duration::from_secs(5), "it waited for the long poll");
    }
}

#[test]
fn what_is_flushed_is_told_at_once_though_a_long_poll_is_under_way() {
    let waits_long = ReplicationConfig { fetch_wait_max: Duration::from_secs(40), ..config() };
    let (leader, follower) = (FakeLeader::start(), Follower::with(waits_long));
    leader.create("t", 1);
    let safe = LogConfig { flush: FlushPolicy::BeforeAck, ..LogConfig::default() };
    let here = follower.follow_with(&leader, "t", 0, safe);
    for round in 1..=20 {
        let begin = Instant::now();
        leader.change("t", 0, |p| p.append(1));
        eventually("the record", || here.log().log_end().0 == round);
        eventually("progress", || leader.read("t", 0, |p| p.told.last() == Some(&round)));
        assert!(begin.elapsed() < Duration::from_secs(20), "it waited for the long poll");
    }
}

/// A leader may have put aside what it was told: when this broker left an ISR.
#[test]
fn what_is_held_is_told_again_though_nothing_changes() {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("t", 1);
    follower.follow(&leader, "t", 0);
    leader.change("t", 0, |p| p.append(1));
    eventually("progress", || leader.read("t", 0, |p| p.told.last() == Some(&1)));
    for _ in 0..2 {
        leader.change("t", 0, |p| p.told.clear());
        eventually("progress again", || leader.read("t", 0, |p| p.told.last() == Some(&1)));
    }
    assert_eq!(leader.read("t", 0, |p| p.added), 1, "on the same handle");
}

#[test]
fn before_ack_only_what_is_on_stable_storage_is_told() {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("t", 3);
    let safe = LogConfig { flush: FlushPolicy::BeforeAck, ..LogConfig::default() };
    let logs: Vec<_> =
        (0..3).map(|p| follower.follow_with(&leader, "t", p, safe.clone())).collect();
    for round in 1..=30 {
        for partition in 0..3 {
            leader.change("t", partition, |p| p.append(1));
        }
        for (number, here) in (0..3).zip(&logs) {
            eventually("progress", || {
                // In this order: it was flushed when it was told.
                let told = leader.read("t", number, |p| p.told.last().copied());
                let flushed = here.log().flushed().0;
                assert!(
                    told.is_none_or(|told| told <= flushed),
                    "{told:?} told, {flushed} flushed"
                );
                told == Some(round)
            });
        }
    }
}

#[test]
fn before_ack_a_log_is_flushed_before_it_says_where_it_begins() {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("t", 1);
    leader.change("t", 0, |p| p.append(4));
    // Fetched while its topic flushed when the system liked.
    let lazy = LogConfig { flush: FlushPolicy::Os, ..LogConfig::default() };
    let here = follower.follow_with(&leader, "t", 0, lazy);
    eventually("progress", || leader.read("t", 0, |p| p.told.last() == Some(&4)));
    follower.fetchers.stop(here.name());
    assert_eq!(here.log().flushed(), Offset(0));
    here.log().set_config(LogConfig { flush: FlushPolicy::BeforeAck, ..LogConfig::default() });
    leader.change("t", 0, |p| p.told.clear());
    follower.follow(&leader, "t", 0);
    eventually("the add", || leader.read("t", 0, |p| p.told.last() == Some(&4)));
    assert_eq!(here.log().flushed(), Offset(4));
}

#[test]
fn positions_follow_the_leaders() {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("t", 1);
    leader.change("t", 0, |p| {
        (0..4).for_each(|_| p.append(5));
        p.high_watermark = Some(7);
    });
    let here = follower.follow(&leader, "t", 0);
    follower.catches_up(&leader, "t", 0);
    eventually("the high watermark", || here.log().high_watermark() == Offset(7));
    leader.change("t", 0, |p| p.high_watermark = Some(20));
    eventually("a high watermark without records", || here.log().high_watermark() == Offset(20));
    leader.change("t", 0, |p| {
        p.batches.remove(0);
        p.log_start = 5;
        p.append(1);
    });
    eventually("the log start", || here.log().log_start() == Offset(5));
    eventually("the leader knows", || {
        // In this order: it was written down when it was told.
        let told = leader.read("t", 0, |p| p.told_starts.last().copied());
        let stored = here.log().stored_start().0;
        assert!(told.is_none_or(|told| told <= stored), "{told:?} told, {stored} stored");
        told == Some(5)
    });
}

#[test]
fn a_leader_that_comes_back_or_moves_is_found_again() {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("t", 2);
    (0..2).for_each(|p| drop(follower.follow(&leader, "t", p)));
    for _ in 0..3 {
        leader.change("t", 0, |p| p.append(2));
        follower.catches_up(&leader, "t", 0);
        leader.kill();
        leader.change("t", 1, |p| p.append(2));
        leader.listen();
        follower.catches_up(&leader, "t", 1);
    }
    leader.move_away();
    (0..2).for_each(|p| drop(follower.follow(&leader, "t", p)));
    leader.change("t", 0, |p| p.append(2));
    follower.catches_up(&leader, "t", 0);
    assert_eq!(follower.rig.metrics.replica_fetchers.get(), 1, "the old one has ended");
}

#[test]
fn a_leader_that_does_not_live_is_left_and_found_again() {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("t", 1);
    follower.follow(&leader, "t", 0);
    leader.change("t", 0, |p| p.append(2));
    follower.catches_up(&leader, "t", 0);
    // Its answers stay out; the connection is alive. Records that come later are not lost.
    leader.silence(true);
    leader.change("t", 0, |p| p.append(2));
    leader.silence(false);
    follower.catches_up(&leader, "t", 0);
}

#[test]
fn an_epoch_that_one_of_both_has_not_heard_of_is_waited_for() {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("t", 1);
    leader.change("t", 0, |p| p.append(2));
    let here = follower.open("t", 0, LogConfig::default());
    let address = LeaderAddress { id: BrokerId(1), address: leader.address() };
    // The follower knows of the epoch first.
    here.follow(LeaderEpoch(4));
    follower.fetchers.follow(Arc::clone(&here), address.clone(), LeaderEpoch(4));
    eventually("refusals", || follower.rig.metrics.replica_fetch_failures.get() > 2);
    assert_eq!(here.log().log_end(), Offset(0));
    leader.change("t", 0, |p| p.epoch = 4);
    follower.catches_up(&leader, "t", 0);
    // The leader does.
    leader.change("t", 0, |p| {
        p.epoch = 5;
        p.append(3);
    });
    let failures = follower.rig.metrics.replica_fetch_failures.get();
    leader.kill();
    leader.listen();
    eventually("fenced", || follower.rig.metrics.replica_fetch_failures.get() > failures + 2);
    assert_eq!(here.log().log_end(), Offset(2));
    here.follow(LeaderEpoch(5));
    follower.fetchers.follow(Arc::clone(&here), address, LeaderEpoch(5));
    follower.catches_up(&leader, "t", 0);
}

#[test]
fn nothing_is_appended_after_stop() {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("t", 3);
    let logs: Vec<_> = (0..3).map(|p| follower.follow(&leader, "t", p)).collect();
    let grow = || (0..3).for_each(|p| leader.change("t", p, |p| p.append(20)));
    for _ in 0..30 {
        let before = logs[1].log().log_end();
        grow();
        eventually("growth", || logs[1].log().log_end() > before);
        grow();
        follower.fetchers.stop(logs[1].name());
        let stopped = logs[1].log().log_end();
        grow();
        follower.catches_up(&leader, "t", 0);
        assert_eq!(logs[1].log().log_end(), stopped);
        follower.follow(&leader, "t", 1);
    }
    assert_same(&logs[0], &leader);
    follower.fetchers.close();
    let ends: Vec<_> = logs.iter().map(|log| log.log().log_end()).collect();
    grow();
    follower.follow(&leader, "t", 2);
    assert!(follower.fetchers.is_empty());
    std::thread::park_timeout(Duration::from_millis(50));
    assert_eq!(ends, logs.iter().map(|log| log.log().log_end()).collect::<Vec<_>>());
}

#[test]
fn what_is_followed_already_is_not_begun_anew() {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("t", 1);
    for _ in 0..10 {
        follower.follow(&leader, "t", 0);
    }
    leader.change("t", 0, |p| p.append(2));
    follower.catches_up(&leader, "t", 0);
    assert_eq!(leader.read("t", 0, |p| p.added), 1);
    follower.fetchers.stop(&TopicPartition::new("t", 0));
    follower.fetchers.stop(&TopicPartition::new("t", 0));
    eventually("its end", || follower.rig.metrics.replica_fetchers.get() == 0);
    assert!(!Bytes::from(leader.read("t", 0, |p| p.bytes())).is_empty());
}
