//! Leader epochs: logs of replicas that changed leaders find where they part, and cut no more than
//! that (KIP-101, KIP-279).

use super::append_fetched::{Pair, all_bytes, append_as_fetched, bytes_from, follow, lead};
use super::*;

/// Cuts a follower's log, as the leader answers, until it is the front of the leader's; says how
/// often.
fn agree(leader: &Log, follower: &Log) -> u32 {
    let mut cuts = 0;
    loop {
        let last = follower.last_record_epoch();
        if last == LeaderEpoch::UNKNOWN {
            return cuts;
        }
        let Some((known, end)) = leader.diverging(last, follower.log_end()) else { return cuts };
        let own = known.and_then(|epoch| follower.end_of_epoch(epoch));
        let own = own.map_or(follower.log_start(), |(_, end)| end);
        let before = follower.log_end();
        follower.truncate_to(own.min(end)).unwrap();
        assert!(follower.log_end() < before, "a cut makes progress");
        cuts += 1;
    }
}

/// Appends as leaders of these epochs, so many records each, which say who wrote them.
fn history(log: &Log, name: &str, epochs: &[(i32, usize)]) {
    for &(epoch, records) in epochs {
        log.begin_epoch(LeaderEpoch(epoch)).unwrap();
        for record in 0..records {
            lead(log, epoch, &batch(&[&format!("{name} {epoch} {record}")]), 5).unwrap();
        }
    }
}

/// Both logs begin with `shared`, and go on apart; the follower agrees with the leader and fetches.
/// Where it was cut to, and in how many rounds.
fn parted(
    shared: &[(i32, usize)],
    leader: &[(i32, usize)],
    follower: &[(i32, usize)],
) -> (i64, u32) {
    let pair = Pair::new(|config| config.log.segment_bytes = 1_000);
    let (_sets, [at_leader, at_follower]) = pair.open();
    history(&at_leader, "shared", shared);
    follow(&at_leader, &at_follower, 500);
    history(&at_leader, "leader", leader);
    history(&at_follower, "follower", follower);
    let cuts = agree(&at_leader, &at_follower);
    let end = at_follower.log_end().0;
    follow(&at_leader, &at_follower, 500);
    assert!(all_bytes(&at_leader) == all_bytes(&at_follower));
    for epoch in 0..20 {
        let epoch = LeaderEpoch(epoch);
        let ends = (at_leader.end_of_epoch(epoch), at_follower.end_of_epoch(epoch));
        if at_leader.start_of_epoch(epoch).is_some_and(|start| start < at_leader.log_end()) {
            assert_eq!(ends.0, ends.1, "{epoch}");
        }
    }
    (end, cuts)
}

#[test]
fn kip_101_fast_leader_change_leaves_no_divergence() {
    // The old leader has a record that the new one replaced by another at the same offset.
    assert_eq!(parted(&[(0, 1)], &[(1, 1)], &[(0, 1)]), (1, 1));
    assert_eq!(parted(&[(0, 10)], &[(2, 7)], &[(1, 3)]), (10, 1));
}

#[test]
fn kip_101_a_follower_keeps_what_only_its_high_watermark_does_not_know() {
    let pair = Pair::new(|_| ());
    let (sets, [leader, follower]) = pair.open();
    history(&leader, "leader", &[(0, 2)]);
    follow(&leader, &follower, 500);
    follower.set_high_watermark(Offset(1));
    drop((sets, leader, follower));
    // Both were killed; the follower comes back first, and is asked to agree with who leads.
    let (_sets, [leader, follower]) = pair.open();
    assert_eq!((agree(&leader, &follower), follower.log_end()), (0, Offset(2)));
    // Had it been made the leader, the other one agrees with it.
    follower.begin_epoch(LeaderEpoch(1)).unwrap();
    assert_eq!((agree(&follower, &leader), leader.log_end()), (0, Offset(2)));
}

#[test]
fn kip_279_fast_fail_overs_are_cut_in_several_rounds() {
    // Epochs that the other side has not, on both sides, in turns.
    let (leader, follower) = ([(2, 5), (4, 10), (6, 1)], [(3, 10), (5, 10)]);
    assert_eq!(parted(&[(1, 10)], &leader, &follower), (10, 2));
    // The leader knows the follower's epoch, from before.
    assert_eq!(parted(&[(1, 3)], &[(4, 2)], &[(1, 2), (2, 2), (3, 2)]), (3, 1));
    // The follower is far ahead, or the leader is.
    assert_eq!(parted(&[(1, 3)], &[], &[(2, 400)]), (3, 1));
    assert_eq!(parted(&[(1, 3)], &[(2, 400)], &[]), (3, 0));
    assert_eq!(parted(&[(1, 3)], &[(3, 1)], &[(1, 50)]), (3, 1));
}

#[test]
fn kip_279_nothing_in_common_goes_back_to_the_log_start() {
    assert_eq!(parted(&[], &[(7, 5)], &[(3, 5), (4, 5)]), (0, 1));
    assert_eq!(parted(&[], &[(3, 5)], &[(7, 5)]), (0, 1));
}

#[test]
fn epochs_without_records_part_nobody() {
    assert_eq!(parted(&[(1, 3)], &[(4, 0), (6, 0), (7, 2)], &[(5, 0)]), (3, 0));
    assert_eq!(parted(&[(1, 3)], &[(4, 0)], &[(5, 0)]), (3, 0));
    assert_eq!(parted(&[(1, 3), (2, 0), (3, 0)], &[(4, 1)], &[(5, 2), (6, 0)]), (3, 1));
}

/// A broker was elected and wrote nothing; the next leader has older records where it began.
#[test]
fn an_epoch_without_records_gives_way_to_older_ones_also_over_a_kill() {
    let pair = Pair::new(|_| ());
    let (sets, [leader, elected]) = pair.open();
    history(&leader, "old", &[(4, 3)]);
    follow(&leader, &elected, 500);
    history(&leader, "old", &[(4, 2)]);
    elected.begin_epoch(LeaderEpoch(5)).unwrap();
    assert_eq!(
        (elected.latest_epoch(), elected.last_record_epoch()),
        (LeaderEpoch(5), LeaderEpoch(4))
    );
    leader.begin_epoch(LeaderEpoch(6)).unwrap();
    assert_eq!(agree(&leader, &elected), 0);
    follow(&leader, &elected, 500);
    let ends = |log: &Log| [4, 5].map(|epoch| log.end_of_epoch(LeaderEpoch(epoch)));
    let expected = [Some((LeaderEpoch(4), Offset(5))); 2];
    assert_eq!(ends(&elected), expected);
    drop((sets, leader, elected));
    let (_sets, [_, elected]) = pair.open();
    assert_eq!((ends(&elected), elected.last_record_epoch()), (expected, LeaderEpoch(4)));
}

/// Many leaders, each with a part of what the others wrote: whoever leads last, the others are cut
/// exactly to what they share with it.
#[test]
fn whatever_the_leaders_were_a_follower_is_cut_to_what_it_shares() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let pairs = [Pair::new(|config| config.log.segment_bytes = 700), Pair::new(|_| ())];
        let ((_a, [one, two]), (_b, [three, four])) = (pairs[0].open(), pairs[1].open());
        let logs = [one, two, three, four];
        for epoch in 0..12 {
            let at = random.usize(..4);
            let records = random.usize(..4);
            history(&logs[at], &format!("{at}"), &[(epoch, records)]);
            for (other, log) in logs.iter().enumerate().filter(|(other, _)| *other != at) {
                if random.bool() {
                    let shared = shared_end(&logs[at], log);
                    agree(&logs[at], log);
                    assert_eq!(log.log_end(), shared, "seed {seed}, {other} follows {at}");
                    let rounds = random.usize(..3);
                    for _ in (0..rounds).take_while(|_| log.log_end() < logs[at].log_end()) {
                        append_as_fetched(log, bytes_from(&logs[at], log.log_end(), 200), 5)
                            .unwrap();
                    }
                }
            }
        }
        for log in &logs[1..] {
            let shared = shared_end(&logs[0], log);
            agree(&logs[0], log);
            assert_eq!(log.log_end(), shared, "seed {seed}");
            follow(&logs[0], log, 300);
            assert!(all_bytes(&logs[0]) == all_bytes(log), "seed {seed}");
        }
    }
}

/// Up to where two logs of one-record batches are the same.
fn shared_end(one: &Log, other: &Log) -> Offset {
    let (a, b) = (all_bytes(one), all_bytes(other));
    let same = Batches::new(&a).zip(Batches::new(&b)).take_while(|(a, b)| {
        let (a, b) = (a.as_ref().unwrap(), b.as_ref().unwrap());
        a.header() == b.header()
    });
    Offset(same.count() as i64)
}
