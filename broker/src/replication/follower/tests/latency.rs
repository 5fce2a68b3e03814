//! How many rounds and how much time it takes until the leader knows that a record is held.

use std::time::{Duration, Instant};

use super::fake_leader::FakeLeader;
use super::rig::{Follower, config, eventually};
use crate::config::ReplicationConfig;

#[test]
fn a_record_costs_a_round_or_two() {
    let waits = ReplicationConfig { fetch_wait_max: Duration::from_secs(10), ..config() };
    let (leader, follower) = (FakeLeader::start(), Follower::with(waits));
    leader.create("t", 1);
    follower.follow(&leader, "t", 0);
    leader.change("t", 0, |p| p.append(1));
    follower.catches_up(&leader, "t", 0);
    let before = leader.seen().2;
    let begin = Instant::now();
    const RECORDS: u32 = 200;
    for _ in 0..RECORDS {
        let end = leader.change("t", 0, |p| {
            p.append(1);
            p.end()
        });
        eventually("progress", || leader.read("t", 0, |p| p.told.last() == Some(&end)));
    }
    let rounds = leader.seen().2 - before;
    println!("{rounds} rounds, {:?} a record", begin.elapsed() / RECORDS);
    assert!(rounds <= 2 * RECORDS as usize + 10, "{rounds} rounds for {RECORDS} records");
}
