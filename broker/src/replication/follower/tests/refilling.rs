//! Replicas that are behind: a stream of their own, throttled; those in sync do not notice.

use std::time::{Duration, Instant};

use super::fake_leader::FakeLeader;
use super::rig::{Follower, config, eventually};
use crate::config::ReplicationConfig;
use crate::replication::follower::lane::Lane;

#[test]
fn a_replica_that_is_behind_moves_to_a_stream_of_its_own_and_back() {
    let (leader, follower) = (FakeLeader::start(), Follower::new());
    leader.create("t", 2);
    leader.change("t", 0, |p| (0..200).for_each(|_| p.append(20)));
    // First, so that the fetcher of those in sync is never without a partition: it would end, and begin anew.
    follower.follow(&leader, "t", 1);
    let behind = follower.follow(&leader, "t", 0);
    follower.catches_up(&leader, "t", 0);
    let lane = || follower.fetchers.shared().lane_of(behind.name());
    eventually("coming back", || lane() == Some(Lane::InSync));
    assert_eq!(leader.seen().0, 2, "a connection of its own");
    eventually("the end of the other fetcher", || follower.rig.metrics.replica_fetchers.get() == 1);
    leader.change("t", 0, |p| p.append(1));
    follower.catches_up(&leader, "t", 0);
    assert_eq!(follower.fetchers.len(), 2);
}

#[test]
fn refilling_keeps_to_its_rate_and_replicas_in_sync_are_not_held_up() {
    let throttled = ReplicationConfig { throttled_rate: Some(100_000), ..config() };
    let (leader, follower) = (FakeLeader::start(), Follower::with(throttled));
    leader.create("t", 3);
    let bytes = leader.change("t", 0, |p| {
        while p.bytes().len() < 300_000 {
            p.append(100);
        }
        p.bytes().len()
    });
    let (behind, _) = (follower.follow(&leader, "t", 0), follower.follow(&leader, "t", 1));
    let begin = Instant::now();
    let end = leader.read("t", 0, |p| p.end());
    let lane = || follower.fetchers.shared().lane_of(behind.name());
    eventually("falling behind", || lane() == Some(Lane::Refill));
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        assert!(behind.log().log_end().0 < end, "no time to compare");
        let sent = Instant::now();
        let end = leader.change("t", 1, |p| {
            p.append(1);
            p.end()
        });
        eventually("progress", || leader.read("t", 1, |p| p.told.last() == Some(&end)));
        slowest = slowest.max(sent.elapsed());
    }
    eventually("the refill", || behind.log().log_end().0 == end);
    let took = begin.elapsed();
    follower.catches_up(&leader, "t", 0);
    println!("{bytes} bytes in {} ms, slowest in sync {slowest:?}", took.as_millis());
    assert!(took > Duration::from_millis(1_800), "{took:?}");
    assert!(took < Duration::from_millis(6_000), "{took:?}");
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
}
