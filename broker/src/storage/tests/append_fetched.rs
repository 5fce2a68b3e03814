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
pub(super) fn lead(
    log: &Log,
    epoch: i32,
    bytes: &Bytes,
    window: u16,
) -> Result<Appended, AppendError> {
    let chunks = [bytes.clone()];
    let headers = check_chunks(&chunks).unwrap();
    let leader_epoch = LeaderEpoch(epoch);
    let request = AppendRequest { chunks: &chunks, headers: &headers, leader_epoch, window };
    log.append(&[request]).pop().unwrap()
}

/// The bytes of the log from an offset on, at most so many.
pub(super) fn bytes_from(log: &Log, from: Offset, max_bytes: usize) -> Bytes {
    let limits = ReadLimits { max_bytes, upto: log.log_end(), first_batch_whole: true };
    log.read(Cursor::at(from), limits, Wait::Allowed).unwrap().bytes().clone()
}

/// Everything, as bytes.
pub(super) fn all_bytes(log: &Log) -> Vec<u8> {
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

pub(super) fn append_as_fetched(
    to: &Log,
    bytes: impl Into<Bytes>,
    window: u16,
) -> Result<(), AppendError> {
    // In pieces, as a connection brings them.
    let bytes: Bytes = bytes.into();
    let chunks: Vec<_> = (0..bytes.len())
        .step_by(777)
        .map(|at| bytes.slice(at..(at + 777).min(bytes.len())))
        .collect();
    to.append_fetched(&chunks, &check_chunks(&chunks).unwrap(), window)
}

/// Fetches until the follower has what the leader has.
pub(super) fn follow(leader: &Log, follower: &Log, max_bytes: usize) {
    while follower.log_end() < leader.log_end() {
        let bytes = bytes_from(leader, follower.log_end(), max_bytes);
        append_as_fetched(follower, bytes, leader.producer_window()).unwrap();
    }
}

pub(super) struct Pair {
    pub(super) disks: [FaultyDisk; 2],
    pub(super) worlds: [World; 2],
}

impl Pair {
    pub(super) fn new(change: impl Fn(&mut LogSetConfig)) -> Self {
        let disks = [FaultyDisk::new(Path::new(DIR)), FaultyDisk::new(Path::new(DIR))];
        let worlds = disks.each_ref().map(|disk| {
            let mut world = World::new(Arc::new(disk.clone()), Path::new(DIR));
            change(&mut world.config);
            world
        });
        Self { disks, worlds }
    }

    pub(super) fn open(&self) -> ([LogSet; 2], [Arc<Log>; 2]) {
        let [(set, leader), (other, follower)] = self.worlds.each_ref().map(World::open_log);
        ([set, other], [leader, follower])
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
    let refused = append_as_fetched(&follower, bytes, 5).unwrap_err();
    assert!(matches!(refused, AppendError::OlderEpoch { latest: LeaderEpoch(5), .. }), "{refused}");
    assert_eq!(follower.log_end(), Offset(8));
    let headers = check_chunks(&[all.slice(..one)]).unwrap();
    let refused = follower.append_fetched(&[all.slice(..one - 1)], &headers, 5).unwrap_err();
    assert!(matches!(refused, AppendError::LengthMismatch { .. }));
}

#[test]
fn a_log_begins_anew_where_its_leaders_begins_also_within_a_batch() {
    let pair = Pair::new(|config| config.log.segment_bytes = 2_000);
    let (sets, [leader, follower]) = pair.open();
    for i in 0..20 {
        let bytes = batch_of(&[b"a", b"b", b"c"], START_MS, stamp(9, i * 3));
        lead(&leader, i / 5, &bytes, 5).unwrap();
        if i == 3 {
            follow(&leader, &follower, 500);
        }
    }
    leader.set_high_watermark(leader.log_end());
    leader.delete_records(DeleteUpTo::Offset(Offset(31))).unwrap();
    let bytes = bytes_from(&leader, Offset(31), 5_000);
    let first = BatchHeader::parse(&bytes).unwrap().base_offset;
    assert!(first < Offset(31) && first > follower.log_end());
    follower.restart_at(first).unwrap();
    assert_eq!((follower.log_start(), follower.log_end(), follower.size()), (first, first, 0));
    assert_eq!(
        (follower.last_record_epoch(), follower.producer_count()),
        (LeaderEpoch::UNKNOWN, 0)
    );
    append_as_fetched(&follower, bytes, 5).unwrap();
    follow(&leader, &follower, 700);
    follower.advance_log_start(Offset(31)).unwrap();
    follower.advance_log_start(Offset(5)).unwrap();
    assert_eq!(follower.log_start(), Offset(31));
    assert!(follower.high_watermark() >= Offset(31));
    assert_eq!(read_all(&follower, Offset(31)).unwrap(), read_all(&leader, Offset(31)).unwrap());
    assert_eq!(follower.end_of_epoch(LeaderEpoch(2)), leader.end_of_epoch(LeaderEpoch(2)));
    sets[1].checkpoint();
    drop((sets, leader, follower));
    pair.disks[1].power_cut(&mut fastrand::Rng::with_seed(1));
    let (_set, follower) = pair.worlds[1].open_log();
    assert_eq!(follower.log_start(), Offset(31));
    assert!(follower.log_end() >= Offset(31));
}

#[test]
fn a_restart_that_a_power_cut_interrupts_leaves_a_log_that_can_be_restarted() {
    for seed in 0..300 {
        let pair = Pair::new(|config| config.log.segment_bytes = 1_000);
        let (sets, [_, log]) = pair.open();
        for i in 0..15 {
            lead(&log, i, &batch(&["value", "value"]), 5).unwrap();
        }
        let mut random = fastrand::Rng::with_seed(seed);
        if random.bool() {
            log.flush().unwrap();
            sets[1].checkpoint();
        }
        // At any write or change of names.
        pair.disks[1].set_faults(|faults| faults.changes_left = Some(random.u64(1..60)));
        let done = log.restart_at(Offset(100)).is_ok();
        drop((sets, log));
        pair.disks[1].power_cut(&mut random);
        let (_set, log) = pair.worlds[1].open_log();
        let (start, end) = (log.log_start(), log.log_end());
        assert!(end == Offset(100) || (!done && end <= Offset(30)), "seed {seed}: {end}");
        assert!(log.damaged().is_empty(), "seed {seed}: {:?}", log.damaged());
        assert_eq!(read_all(&log, start).unwrap().len() as i64, end.0 - start.0);
        log.restart_at(Offset(200)).unwrap();
        append(&log, &batch(&["new"])).unwrap();
        assert_eq!(read_all(&log, Offset(200)).unwrap(), [(200, b"new".to_vec())]);
    }
}

#[test]
fn of_an_empty_batch_that_begins_before_the_log_end_the_rest_is_taken() {
    let pair = Pair::new(|_| ());
    let (_sets, [_, follower]) = pair.open();
    lead(&follower, 1, &batch(&["a", "b"]), 5).unwrap();
    let mut run = BatchHeader::parse(&batch(&["x"])).unwrap();
    run.leader_epoch = LeaderEpoch(2);
    run.last_offset_delta = 9;
    run.record_count = 0;
    (run.base_timestamp, run.max_timestamp) = (-1, -1);
    run.set_block(Compression::None, &[]);
    let empty = |header: &BatchHeader| Bytes::copy_from_slice(&header.encode());
    append_as_fetched(&follower, empty(&run), 5).unwrap();
    assert_eq!(follower.log_end(), Offset(10));
    let header = BatchHeader::parse(&bytes_from(&follower, Offset(5), 500)).unwrap();
    assert_eq!((header.base_offset, header.next_offset()), (Offset(2), Offset(10)));
    // All of it is here already, or it is no empty one.
    let refused = append_as_fetched(&follower, empty(&run), 5).unwrap_err();
    assert!(matches!(refused, AppendError::NotNext { .. }));
    let mut full = BatchHeader::parse(&batch(&["x", "y"])).unwrap();
    full.base_offset = Offset(9);
    let mut bytes = batch(&["x", "y"]).to_vec();
    bytes[..proto::record::HEADER_LEN].copy_from_slice(&full.encode());
    append_as_fetched(&follower, bytes, 5).unwrap_err();
}

#[test]
fn a_full_disk_is_an_error_that_passes_and_what_fitted_stays() {
    let pair = Pair::new(|_| ());
    let (_sets, [leader, follower]) = pair.open();
    for i in 0..40 {
        lead(&leader, 0, &batch(&[&format!("{i}{}", "x".repeat(20_000))]), 5).unwrap();
    }
    pair.disks[1].set_faults(|faults| faults.capacity = Some(500_000));
    let all = bytes_from(&leader, Offset(0), 10 << 20);
    let refused = append_as_fetched(&follower, all, 5).unwrap_err();
    assert!(matches!(refused, AppendError::DiskFull { .. }), "{refused}");
    assert!(follower.log_end() > Offset(5) && follower.log_end() < Offset(40));
    pair.disks[1].set_faults(|faults| faults.capacity = None);
    follow(&leader, &follower, 100_000);
    assert!(all_bytes(&leader) == all_bytes(&follower));
}

/// Deep windows, truncation, a kill and another leader: a retry is known wherever its batch is in
/// the log, and nowhere else.
#[test]
fn sequence_windows_are_what_the_log_says_after_truncation_restart_and_re_election() {
    const WINDOW: u16 = 1_024;
    let pair = Pair::new(|config| config.log.segment_bytes = 60_000);
    let (sets, [leader, follower]) = pair.open();
    let of = |i: i32| batch_of(&[b"one", b"two"], START_MS, stamp(7, i * 2));
    for i in 0..2_000 {
        lead(&leader, 0, &of(i), WINDOW).unwrap();
        if i % 500 == 499 {
            sets.iter().for_each(|set| {
                set.run_due();
            });
        }
        if i == 1_799 {
            follow(&leader, &follower, 50_000);
        }
    }
    assert_eq!(follower.producer_window(), WINDOW);
    let known = |log: &Log, from: i32, upto: i32| {
        for i in from..upto {
            let again = lead(log, 1, &of(i), WINDOW).unwrap();
            let place = (again.duplicate, again.base_offset.0);
            assert_eq!(place, (true, i64::from(i) * 2), "batch {i}");
        }
    };
    // The follower is elected: what it has is known, what it has not is new, in order.
    known(&follower, 1_800 - i32::from(WINDOW), 1_800);
    let gap = lead(&follower, 1, &of(1_801), WINDOW).unwrap_err();
    assert!(matches!(gap, AppendError::Sequence(SequenceError::OutOfOrder { .. })));
    for i in 1_800..1_900 {
        assert!(!lead(&follower, 1, &of(i), WINDOW).unwrap().duplicate);
    }
    // The old leader follows: what was cut was never appended.
    assert_eq!(leader.truncate_to(Offset(3_600)).unwrap(), Offset(3_600));
    known(&leader, 1_800 - i32::from(WINDOW), 1_800);
    follow(&follower, &leader, 50_000);
    assert!(all_bytes(&leader) == all_bytes(&follower));
    drop((sets, leader, follower));
    let (_sets, [leader, follower]) = pair.open();
    for log in [&leader, &follower] {
        known(log, 1_900 - i32::from(WINDOW), 1_900);
        assert_eq!(log.truncate_to(Offset(2_000)).unwrap(), Offset(2_000));
        known(log, 0, 1_000);
        assert!(!lead(log, 2, &of(1_000), WINDOW).unwrap().duplicate);
    }
}

#[test]
fn a_log_that_begins_anew_knows_the_producers_before_it() {
    let dir = Path::new(DIR);
    let disks = [FaultyDisk::new(dir), FaultyDisk::new(dir)];
    let worlds = disks.clone().map(|disk| World::new(Arc::new(disk), dir));
    let (_leading, leader) = worlds[0].open_log();
    let (following, follower) = worlds[1].open_log();
    let numbered = |id, sequence| batch_of(&[b"v"], START_MS, stamp(id, sequence));
    for sequence in 0..20 {
        lead(&leader, 0, &numbered(9, sequence), 8).unwrap();
    }
    lead(&leader, 0, &numbered(4, 0), 5).unwrap();
    let begin = leader.log_end();
    lead(&leader, 0, &numbered(4, 1), 5).unwrap();
    assert_eq!((begin, leader.log_end()), (Offset(21), Offset(22)));

    let told = leader.producers_before(begin);
    let rest = bytes_from(&leader, begin, 1 << 20);
    follower.restart_at(begin).unwrap();
    append_as_fetched(&follower, rest.clone(), 8).unwrap();
    follower.adopt_producers(&told);
    assert_eq!(follower.producer_count(), 1, "the log has begun: what comes late is not believed");

    follower.restart_at(begin).unwrap();
    follower.adopt_producers(b"what nobody ever wrote");
    assert_eq!(follower.producer_count(), 0);
    follower.adopt_producers(&told);
    assert_eq!((follower.producer_count(), follower.producer_window()), (2, 8));
    append_as_fetched(&follower, rest, 8).unwrap();

    drop((follower, following));
    disks[1].kill();
    let (_following, follower) = worlds[1].open_log();
    for (id, sequence, offset) in [(9, 19, 19), (9, 12, 12), (4, 0, 20), (4, 1, 21)] {
        let retried = lead(&follower, 1, &numbered(id, sequence), 8).unwrap();
        assert!(retried.duplicate && retried.base_offset == Offset(offset), "{id} {sequence}");
    }
    let forgotten = lead(&follower, 1, &numbered(9, 3), 8).unwrap_err();
    let is_duplicate =
        |error| matches!(error, AppendError::Sequence(SequenceError::Duplicate { .. }));
    assert!(is_duplicate(forgotten), "not in the window, and not appended again");
    assert_eq!(lead(&follower, 1, &numbered(9, 20), 8).unwrap().base_offset, Offset(22));
    assert_eq!(lead(&follower, 1, &numbered(4, 2), 8).unwrap().base_offset, Offset(23));
    assert!(lead(&follower, 1, &numbered(7, 5), 8).is_err(), "of this one nobody knows");
}
