//! The checker finds every injected fault, in random histories, and passes those without one.

use super::*;

const PARTITIONS: i32 = 3;
const GROUP: &str = "g";

/// A clean run: producers whose sends are acknowledged, unknown, or failed (and in the log or not),
/// a group of two with a rebalance and redelivery, a reader that tails, owners, commits.
fn history(random: &mut fastrand::Rng) -> History {
    let mut history = History::default();
    for partition in 0..PARTITIONS {
        history.log.insert(partition, FinalPartition { start: 0, values: Vec::new() });
    }
    for producer in 0..3 {
        history.sends.push(Sends { producer, sends: Vec::new() });
    }
    for at in 0..random.u32(600..1_200) {
        let producer = random.usize(..3);
        let number = history.sends[producer].sends.len() as u64;
        let partition = random.i32(0..PARTITIONS);
        let log = history.log.get_mut(&partition).unwrap();
        let offset = log.end();
        // Control records and compaction leave offsets without a record.
        let offset = if random.u8(..20) == 0 { offset + 1 } else { offset };
        let (outcome, written) = match random.u8(..20) {
            0 => (Outcome::Unknown, true),
            1 => (Outcome::Unknown, false),
            2 => (Outcome::Somewhere, true),
            _ => (Outcome::At(offset), true),
        };
        if written {
            log.put(offset, Value::new(producer as u32, number));
        }
        let partition = (outcome != Outcome::Unknown || random.bool()).then_some(partition);
        let send = Send { partition, outcome, sent: at, ended: at + random.u32(..50) };
        history.sends[producer].sends.push(send);
    }
    deliver(&mut history, random);
    history
}

fn records(log: &FinalPartition) -> impl Iterator<Item = (i64, Value)> + '_ {
    (log.start..).zip(log.values.iter().copied()).filter(|(_, value)| *value != Value::NONE)
}

fn deliver(history: &mut History, random: &mut fastrand::Rng) {
    let mut members = ["a", "b"].map(|name| Delivered::new(name, Some(GROUP)));
    let mut tail = Delivered::new("tail", None);
    for (&partition, log) in &history.log {
        // The first member reads up to somewhere and commits a part of it; the other goes on there.
        let moved = log.end() / 2;
        let committed = moved - random.i64(0..20);
        for (offset, value) in records(log) {
            let place = Position { partition, offset };
            if offset < moved {
                members[0].push(offset as u32, place, value);
            }
            if offset >= committed {
                members[1].push(2_000 + offset as u32, place, value);
            }
            if offset >= 7 {
                tail.push(offset as u32, place, value);
            }
        }
        let commits = [("a", 10, committed, 1_000), ("b", 11, log.end(), 9_000)];
        for (version, (member, generation, offset, begun)) in (0i64..).zip(commits) {
            let (group, member) = (GROUP.to_owned(), member.to_owned());
            let stored = StoredOffset { group: group.clone(), partition, version, offset };
            history.stored.push(stored);
            let claim = Claim { group: group.clone(), partition, generation, member };
            let member = claim.member.clone();
            history.claims.extend([claim.clone(), claim]);
            let ended = begun + 5;
            let confirmed = true;
            let commit = Commit { group, member, partition, offset, begun, ended, confirmed };
            // Asked again behind it, and never answered: may have been written or not.
            let lost = Commit { offset: offset / 2, confirmed: false, ..commit.clone() };
            let (group, member) = (commit.group.clone(), commit.member.clone());
            // Right behind the commit of the other, or from the beginning.
            let (since, offset) = if begun > 1_000 { (1_006, committed) } else { (0, 0) };
            history.resumed.push(Resumed { group, member, partition, offset, since });
            history.commits.extend([commit, Commit { begun: begun + 7, ..lost }]);
        }
    }
    history.delivered.extend(members);
    history.delivered.push(tail);
    for (member, at) in [("a", 0), ("b", 1_006)] {
        let (group, member) = (GROUP.to_owned(), member.to_owned());
        let partitions = (0..PARTITIONS).collect();
        history.taken.push(Taken { group, member, partitions, at });
    }
}

/// An acknowledged record of the log whose offset told where it is, away from the ends.
fn acknowledged(history: &History, random: &mut fastrand::Rng) -> (Position, Value) {
    loop {
        let sends = &history.sends[random.usize(..3)];
        let number = random.usize(..sends.sends.len());
        let send = sends.sends[number];
        let value = Value::new(sends.producer, number as u64);
        if let (Some(partition), Outcome::At(offset)) = (send.partition, send.outcome) {
            let end = history.log[&partition].end();
            if (20..end - 20).contains(&offset) {
                return (Position { partition, offset }, value);
            }
        }
    }
}

/// What readers saw would tell of the fault by other names.
fn forget_readers(history: &mut History) {
    history.delivered.clear();
    history.commits.clear();
    history.stored.clear();
}

/// Takes a record from the group, or from who reads everything.
fn skip(history: &mut History, place: Position, all_reader: bool) {
    for (index, delivered) in history.delivered.iter_mut().enumerate() {
        let mut without = Delivered::new(&delivered.reader, delivered.group.as_deref());
        // A group's record reaches another member as well as not, so both miss it.
        let misses = all_reader == (index == 2);
        for (run, values) in delivered.runs() {
            for (offset, value) in (run.first..).zip(values) {
                let at = Position { partition: run.partition, offset };
                if at != place || !misses {
                    without.push(run.at, at, *value);
                }
            }
        }
        *delivered = without;
    }
}

/// Breaks one promise of this kind.
fn inject(history: &mut History, kind: Kind, random: &mut fastrand::Rng) {
    let (place, value) = acknowledged(history, random);
    let Position { partition, offset } = place;
    let log = history.log.get_mut(&partition).unwrap();
    let index = offset as usize;
    match kind {
        Kind::Lost => {
            log.values[index] = Value::NONE;
            forget_readers(history);
        }
        Kind::Moved | Kind::OutOfOrder => {
            // Two records of one producer change places.
            let same = |v: &Value| *v != Value::NONE && v.producer() == value.producer();
            let other = log.values[index + 1..].iter().position(same).unwrap() + index + 1;
            log.values.swap(index, other);
            forget_readers(history);
        }
        Kind::Duplicated => log.put(log.end(), value),
        Kind::Invented => log.put(log.end(), Value::new(random.u32(3..9), 1)),
        Kind::TwoValues => {
            let other = Value::new(value.producer(), value.number() + 1);
            let reader = random.usize(..history.delivered.len());
            history.delivered[reader].push(7, place, other);
        }
        Kind::Vanished => {
            let beyond = Position { partition, offset: log.end() };
            history.delivered[random.usize(..2)].push(7, beyond, Value::new(0, 0));
        }
        Kind::Skipped => {
            let all_reader = random.usize(..3) == 2;
            skip(history, place, all_reader);
        }
        Kind::TwoOwners => {
            let other = Claim { member: "c".to_owned(), ..history.claims[0].clone() };
            history.claims.push(other);
        }
        Kind::NotGiven => {
            let taken = history.taken[random.usize(..2)].clone();
            let partitions = [partition].into();
            history.taken.push(match random.u8(..3) {
                0 => Taken { partitions, ..taken },
                1 => Taken { member: "c".to_owned(), ..taken },
                _ => Taken { group: "other".to_owned(), ..taken },
            });
        }
        Kind::CommitBack if random.u8(..3) == 0 => {
            let second = |r: &&mut Resumed| r.partition == partition && r.since > 0;
            history.resumed.iter_mut().find(second).unwrap().offset -= 1;
        }
        Kind::CommitBack if random.bool() => {
            let last = history.stored.iter().rfind(|s| s.partition == partition).unwrap().clone();
            let back = last.offset / 2;
            history.stored.push(StoredOffset { version: last.version + 1, offset: back, ..last });
        }
        Kind::CommitBack => {
            let confirmed = |c: &&Commit| c.partition == partition && c.confirmed;
            let last = history.commits.iter().rfind(confirmed).unwrap().clone();
            let (begun, ended, offset) = (last.ended + 1, last.ended + 9, last.offset - 1);
            history.commits.push(Commit { begun, ended, offset, ..last });
        }
    }
}

#[test]
fn clean_histories_pass() {
    for seed in 0..50 {
        let history = history(&mut fastrand::Rng::with_seed(seed));
        let verdict = judge(&history);
        assert!(verdict.is_clean(), "seed {seed}: {verdict}");
    }
}

#[test]
fn every_kind_of_fault_is_found_wherever_it_is() {
    for kind in Kind::ALL {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut history = history(&mut random);
            inject(&mut history, kind, &mut random);
            let verdict = judge(&history);
            assert!(verdict.count(kind) > 0, "{kind:?}, seed {seed}: {verdict}");
            // What else is named follows from the fault itself.
            let follows: &[Kind] = match kind {
                Kind::Moved | Kind::OutOfOrder => &[Kind::Moved, Kind::OutOfOrder],
                Kind::Invented | Kind::Duplicated => &[],
                // The value of another partition, or the last record's number plus one.
                Kind::Vanished => &[Kind::TwoValues],
                _ => &[],
            };
            let unexpected = verdict.counts.keys().find(|k| **k != kind && !follows.contains(k));
            assert_eq!(unexpected, None, "{kind:?}, seed {seed}: {verdict}");
        }
    }
}

#[test]
fn a_violation_says_where_it_is_and_what_is_around_it() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut history = history(&mut random);
    let (place, value) = acknowledged(&history, &mut random);
    history.log.get_mut(&place.partition).unwrap().values[place.offset as usize] = Value::NONE;
    let verdict = judge(&history);
    let lost = verdict.told.iter().find(|v| v.kind == Kind::Lost).unwrap();
    assert_eq!(lost.place, place);
    for expected in [value.to_string(), format!("{}=nothing", place.offset), "delivered".into()] {
        assert!(lost.context.contains(&expected), "{expected} in {}", lost.context);
    }
    // It was read, so it vanished as well.
    assert!(verdict.count(Kind::Vanished) > 0);
    assert!(verdict.to_string().contains("Lost at"), "{verdict}");
}

#[test]
fn counts_are_whole_and_what_is_told_is_bounded() {
    let mut history = history(&mut fastrand::Rng::with_seed(2));
    let acknowledged = history.sends.iter().flat_map(|sends| &sends.sends);
    let acknowledged = acknowledged.filter(|send| send.outcome != Outcome::Unknown).count();
    forget_readers(&mut history);
    history.log.values_mut().for_each(|log| log.values.fill(Value::NONE));
    let verdict = judge(&history);
    assert_eq!(verdict.count(Kind::Lost), acknowledged as u64);
    assert_eq!(verdict.told.len(), 10);
}

#[test]
fn what_retention_deleted_is_not_judged() {
    let mut history = history(&mut fastrand::Rng::with_seed(3));
    for log in history.log.values_mut() {
        log.start = 40;
        log.values.drain(..40);
    }
    for send in history.sends.iter_mut().flat_map(|sends| &mut sends.sends) {
        if send.outcome == Outcome::Somewhere {
            send.outcome = Outcome::Unknown;
        }
    }
    let verdict = judge(&history);
    assert!(verdict.is_clean(), "{verdict}");
}

#[test]
fn sends_and_one_reading_make_a_history() {
    let at = |offset| Position { partition: 0, offset };
    let sent: Vec<Sent> = (0..10)
        .map(|number| Sent { producer: 4, number, acknowledged: Some(at(number as i64)) })
        .chain([Sent { producer: 4, number: 10, acknowledged: None }])
        .collect();
    let read: Vec<Read> =
        (0..10).map(|n| Read { position: at(n), producer: 4, number: n as u64 }).collect();
    assert!(check(&sent, &read).is_clean());
    let twice: Vec<Read> = read.iter().chain(&read).copied().collect();
    assert!(check(&sent, &twice).is_clean());
    assert_eq!(check(&sent, &read[..9]).count(Kind::Lost), 1);
    let other = Read { position: at(3), producer: 4, number: 10 };
    let verdict = check(&sent, &[&read[..], &[other]].concat());
    assert_eq!(verdict.count(Kind::TwoValues), 1, "{verdict}");
}
