//! A follower's log: what it fetches becomes the same bytes, epochs and producers as at the leader.

use proto::record::BatchHeader;

use super::super::disk::faulty::FaultyDisk;
use super::super::producer_state::Producer;
use super::*;

const DIR: &str = "/logs";

fn stamp(id: i64, sequence: i32) -> ProducerStamp {
    ProducerStamp { id, epoch: 0, base_sequence: sequence }
}

/// Appends as the leader of an epoch.
fn lead(log: &Log, epoch: i32, bytes: &Bytes, window: u16) -> Result<Appended, AppendError> {
    let chunks = [bytes.clone()];
    let headers = check_chunks(&chunks).unwrap();
    let leader_epoch = LeaderEpoch(epoch);
    let request = AppendRequest { chunks: &chunks, headers: &headers, leader_epoch, window };
    log.append(&[request]).pop().unwrap()
}

/// The bytes of the log from an offset on, at most so many.
fn bytes_from(log: &Log, from: Offset, max_bytes: usize) -> Bytes {
    let limits = ReadLimits { max_bytes, upto: log.log_end(), first_batch_whole: true };
    log.read(Cursor::at(from), limits, Wait::Allowed).unwrap().bytes().clone()
}

/// Everything, as bytes.
fn all_bytes(log: &Log) -> Vec<u8> {
    let (mut all, mut cursor) = (Vec::new(), Cursor::at(log.log_start()));
    loop {
        let limits = ReadLimits { max_bytes: 5000, upto: log.log_end(), first_batch_whole: true };
        let slice = log.read(cursor, limits, Wait::Allowed).unwrap();
        if slice.is_empty() {
            return all;
        }
        all.extend_from_slice(slice.bytes());
        cursor = slice.next();
    }
}

fn append_as_fetched(to: &Log, bytes: Bytes, window: u16) -> Result<(), AppendError> {
    // In pieces, as a connection brings them.
    let chunks: Vec<_> = (0..bytes.len())
        .step_by(777)
        .map(|at| bytes.slice(at..(at + 777).min(bytes.len())))
        .collect();
    to.append_fetched(&chunks, &check_chunks(&chunks).unwrap(), window)
}

/// Fetches until the follower has what the leader has.
fn follow(leader: &Log, follower: &Log, max_bytes: usize) {
    while follower.log_end() < leader.log_end() {
        let bytes = bytes_from(leader, follower.log_end(), max_bytes);
        append_as_fetched(follower, bytes, leader.producer_window()).unwrap();
    }
}

struct Pair {
    worlds: [World; 2],
}

impl Pair {
    fn new(change: impl Fn(&mut LogSetConfig)) -> Self {
        let disks = [FaultyDisk::new(Path::new(DIR)), FaultyDisk::new(Path::new(DIR))];
        let worlds = disks.each_ref().map(|disk| {
            let mut world = World::new(Arc::new(disk.clone()), Path::new(DIR));
            change(&mut world.config);
            world
        });
        Self { worlds }
    }
}

fn producers(log: &Log) -> Vec<(i64, Vec<(i32, i64)>)> {
    let writer = log.writer.lock();
    let batches = |producer: &Producer| {
        producer.batches.iter().map(|batch| (batch.base_sequence, batch.base_offset.0)).collect()
    };
    writer.producers.sorted().into_iter().map(|(id, producer)| (id, batches(producer))).collect()
}

#[test]
fn a_followers_log_is_the_leaders_byte_for_byte_over_rolls_epochs_and_restarts() {
    let pair = Pair::new(|config| config.log.segment_bytes = 20_000);
    let (_set, leader) = pair.worlds[0].open_log();
    let (set, follower) = pair.worlds[1].open_log();
    for i in 0..600 {
        let value = "v".repeat(1 + (i as usize * 37) % 300);
        let values = [value.as_bytes(), b"second"];
        let stamp = if i % 3 == 0 { ProducerStamp::NONE } else { stamp(i % 3, (i / 3) as i32 * 2) };
        lead(&leader, (i / 100) as i32 * 2, &batch_of(&values, START_MS + i, stamp), 40).unwrap();
    }
    follow(&leader, &follower, 9000);
    assert!(follower.segment_count() > 5);
    assert!(all_bytes(&leader) == all_bytes(&follower));
    assert_eq!(follower.last_record_epoch(), LeaderEpoch(10));
    for epoch in 0..12 {
        let epoch = LeaderEpoch(epoch);
        assert_eq!(leader.end_of_epoch(epoch), follower.end_of_epoch(epoch));
        assert_eq!(leader.start_of_epoch(epoch), follower.start_of_epoch(epoch));
    }
    assert_eq!(follower.start_of_epoch(LeaderEpoch(4)), Some(Offset(400)));
    assert_eq!(follower.start_of_epoch(LeaderEpoch(3)), None);
    assert_eq!(producers(&leader), producers(&follower));
    assert_eq!(producers(&follower)[0].1.len(), 40);
    assert_eq!(follower.producer_window(), 40);
    for time in [START_MS, START_MS + 300, START_MS + 599] {
        let end = follower.log_end();
        let found = follower.offset_for_time(time, end).unwrap();
        assert_eq!(found, leader.offset_for_time(time, end).unwrap());
    }
    // A kill: what the page cache has is there again, the epochs too.
    let before = (all_bytes(&follower), producers(&follower));
    drop((set, follower));
    let (_set, follower) = pair.worlds[1].open_log();
    assert!(before.0 == all_bytes(&follower));
    // Nobody said how deep their windows are: all the log has is remembered.
    let newest = |all: Vec<(i64, Vec<(i32, i64)>)>| -> Vec<_> {
        all.into_iter().map(|(id, batches)| (id, batches[batches.len() - 40..].to_vec())).collect()
    };
    assert_eq!(newest(producers(&follower)), before.1);
    assert_eq!(follower.end_of_epoch(LeaderEpoch(5)), leader.end_of_epoch(LeaderEpoch(5)));
}

#[test]
fn what_does_not_follow_the_log_end_or_goes_back_in_epochs_is_refused() {
    let pair = Pair::new(|_| ());
    let (_set, leader) = pair.worlds[0].open_log();
    let (_set, follower) = pair.worlds[1].open_log();
    for epoch in [1, 1, 5, 5] {
        lead(&leader, epoch, &batch(&["a", "b"]), 5).unwrap();
    }
    let all = bytes_from(&leader, Offset(0), 1 << 20);
    let one = all.len() / 4;
    let refused = append_as_fetched(&follower, all.slice(one..), 5).unwrap_err();
    assert!(matches!(refused, AppendError::NotNext { log_end: Offset(0), found: Offset(2), .. }));
    assert_eq!(follower.log_end(), Offset(0));
    // The good front of what was fetched stays.
    let holed = [all.slice(..one), all.slice(2 * one..)];
    let headers = check_chunks(&holed).unwrap();
    let refused = follower.append_fetched(&holed, &headers, 5).unwrap_err();
    assert!(matches!(refused, AppendError::NotNext { log_end: Offset(2), found: Offset(4), .. }));
    assert_eq!(follower.log_end(), Offset(2));
    append_as_fetched(&follower, all.slice(one..), 5).unwrap();
    // Twice the same: it is not next any more.
    append_as_fetched(&follower, all.slice(3 * one..), 5).unwrap_err();
    let mut older = BatchHeader::parse(&all[..one]).unwrap();
    older.base_offset = Offset(8);
    older.leader_epoch = LeaderEpoch(4);
    let mut bytes = all[..one].to_vec();
    bytes[..proto::record::HEADER_LEN].copy_from_slice(&older.encode());
    let refused = append_as_fetched(&follower, bytes.into(), 5).unwrap_err();
    assert!(matches!(refused, AppendError::OlderEpoch { latest: LeaderEpoch(5), .. }), "{refused}");
    assert_eq!(follower.log_end(), Offset(8));
    let headers = check_chunks(&[all.slice(..one)]).unwrap();
    let refused = follower.append_fetched(&[all.slice(..one - 1)], &headers, 5).unwrap_err();
    assert!(matches!(refused, AppendError::LengthMismatch { .. }));
}
