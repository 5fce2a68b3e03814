//! Retention as people set it, over weeks of an injected clock and over restarts: emails seven days,
//! metrics two hours, temp_sensor ten gigabytes. And what must not hold it up.

use std::time::Duration;

use super::sparse_disk::SparseDisk;
use super::*;
use crate::storage::disk::faulty::FaultyDisk;

const DIR: &str = "/r";
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

fn faulty() -> (FaultyDisk, World) {
    let disk = FaultyDisk::new(Path::new(DIR));
    let mut world = World::new(Arc::new(disk.clone()), Path::new(DIR));
    disk.set_clock(world.clock.clone());
    world.config.log.segment_jitter_ms = Some(0);
    (disk, world)
}

fn at(world: &World, ms: u64) {
    world.clock.advance(Duration::from_millis(ms));
}

fn append_at(log: &Log, timestamp: i64) {
    let values: [&[u8]; 1] = [b"a record"];
    append(log, &batch_of(&values, timestamp, ProducerStamp::NONE)).unwrap();
    log.set_high_watermark(log.log_end());
}

/// A topic with a record every so often, kept for a time.
struct Example {
    retention_ms: u64,
    segment_ms: u64,
    every_ms: u64,
    records: u64,
    /// After these records the broker is killed, or stopped.
    kills: &'static [u64],
    stops: &'static [u64],
}

impl Example {
    /// Lives through all records and on until nothing is left, and checks the log start at each.
    fn hold(&self) {
        let (disk, mut world) = faulty();
        world.config.log.retention_ms = Some(self.retention_ms);
        world.config.log.segment_ms = self.segment_ms;
        let per_segment = (self.segment_ms / self.every_ms) as i64;
        let (mut set, mut log) = world.open_log();
        for number in 0..self.records {
            append_at(&log, world.clock.now_ms());
            if self.kills.contains(&number) || self.stops.contains(&number) {
                match self.kills.contains(&number) {
                    true => disk.kill(),
                    false => set.close(),
                }
                drop((set, log));
                (set, log) = world.open_log();
                log.set_high_watermark(log.log_end());
            }
            at(&world, self.every_ms);
            set.run_due();
            assert_eq!(log.log_start().0, self.first_kept(number as i64, per_segment), "{number}");
            assert_eq!(log.log_end().0, number as i64 + 1);
        }
        // It falls quiet: the last record goes when it is older than allowed, and no sooner.
        let last = START_MS + ((self.records - 1) * self.every_ms) as i64;
        at(&world, self.retention_ms - self.every_ms);
        assert_eq!(world.clock.now_ms() - last, self.retention_ms as i64);
        set.run_due();
        log.apply_retention().unwrap();
        assert_eq!(
            read_all(&log, log.log_start()).unwrap().last().unwrap().0 as u64,
            self.records - 1
        );
        at(&world, 1);
        log.apply_retention().unwrap();
        assert_eq!((log.log_start(), log.size()), (log.log_end(), 0));
        let deleted = set.deleted_segments();
        assert!(deleted.by_time > 0 && deleted.by_size + deleted.below_start == 0);
        set.close();
        drop((set, log));
        let (_set, log) = world.open_log();
        append_at(&log, world.clock.now_ms());
        assert_eq!(read_all(&log, Offset(self.records as i64)).unwrap().len(), 1);
    }

    /// The first record there is a period after record `number` was appended: segments go whole,
    /// when their last record is older than allowed.
    fn first_kept(&self, number: i64, per_segment: i64) -> i64 {
        let now = (number + 1) * self.every_ms as i64;
        let gone = |segment: &i64| {
            let last = ((segment + 1) * per_segment - 1) * self.every_ms as i64;
            now - last > self.retention_ms as i64
        };
        (0..).take_while(gone).count() as i64 * per_segment
    }
}

#[test]
fn emails_are_kept_seven_days() {
    let example = Example {
        retention_ms: 7 * DAY,
        segment_ms: DAY,
        every_ms: HOUR,
        records: 20 * 24,
        kills: &[35, 200],
        stops: &[71, 250, 400],
    };
    example.hold();
}

#[test]
fn metrics_are_kept_two_hours() {
    let example = Example {
        retention_ms: 2 * HOUR,
        segment_ms: 10 * MINUTE,
        every_ms: MINUTE,
        records: 6 * 60,
        kills: &[7, 133],
        stops: &[55, 200, 201],
    };
    example.hold();
}

#[test]
fn temp_sensor_is_kept_at_ten_gigabytes() {
    const KEEP: u64 = 10 << 30;
    const BATCH: usize = 64 << 20;
    let disk = SparseDisk::new(Path::new(DIR));
    let mut world = World::new(Arc::new(disk.clone()), Path::new(DIR));
    world.config.log.max_message_bytes = 2 * BATCH as u32;
    world.config.log.retention_ms = None;
    world.config.log.retention_bytes = Some(KEEP);
    let zeros = vec![0; BATCH];
    let bytes: &'static [u8] = batch_of(&[&zeros], START_MS, ProducerStamp::NONE).to_vec().leak();
    disk.trust_zeros(&bytes[4096..]);
    let bytes = Bytes::from_static(bytes);
    // The checksum over zeros is the same each time, and computed once.
    let headers = check_chunks(std::slice::from_ref(&bytes)).unwrap();
    let size = headers[0].size_in_bytes() as u64;
    let per_segment = (1 << 30) / size;
    let (mut set, mut log) = world.open_log();
    let batches = KEEP / size + 3 * per_segment;
    let mut deleted = 0;
    for number in 1..=batches {
        let chunks = [bytes.clone()];
        let request = AppendRequest {
            chunks: &chunks,
            headers: &headers,
            leader_epoch: LeaderEpoch(0),
            window: 5,
        };
        log.append(&[request]).pop().unwrap().unwrap();
        log.set_high_watermark(log.log_end());
        log.flush().unwrap();
        deleted += log.apply_retention().unwrap() as u64;
        // One segment more goes only when ten gigabytes stay without it.
        let expected = (number * size).saturating_sub(KEEP) / (per_segment * size);
        assert_eq!(deleted, expected, "after {number} batches");
        assert_eq!(log.log_start().0 as u64, deleted * per_segment);
        assert_eq!(log.size(), number * size - deleted * per_segment * size);
        if number == batches - per_segment {
            set.close();
            drop((set, log));
            (set, log) = world.open_log();
        }
    }
    assert!(deleted >= 2 && (KEEP..KEEP + per_segment * size).contains(&log.size()));
    // Quiet, it stays as it is; with less to keep it shrinks at once.
    at(&world, 400 * DAY);
    set.run_due();
    assert_eq!(log.apply_retention().unwrap(), 0);
    log.set_config(LogConfig { retention_bytes: Some(KEEP / 2), ..world.config.log.clone() });
    assert!(log.apply_retention().unwrap() >= 5);
    assert!((KEEP / 2..KEEP / 2 + per_segment * size).contains(&log.size()));
    assert!(disk.kept_bytes() < 64 << 20, "zeros take no memory");
}

#[test]
fn stamps_of_the_future_and_no_stamps_expire_by_their_append_also_over_restarts() {
    for (stamp, kill) in
        [(i64::MAX / 4, true), (START_MS + 900 * DAY as i64, false), (-1, true), (-1, false)]
    {
        let (disk, mut world) = faulty();
        world.config.log.retention_ms = Some(2 * HOUR);
        let (mut set, mut log) = world.open_log();
        append_at(&log, stamp);
        at(&world, HOUR);
        append_at(&log, stamp);
        for _ in 0..3 {
            at(&world, 30 * MINUTE);
            match kill {
                true => disk.kill(),
                false => set.close(),
            }
            drop((set, log));
            (set, log) = world.open_log();
            log.set_high_watermark(log.log_end());
            assert_eq!(log.apply_retention().unwrap(), 0);
        }
        at(&world, 30 * MINUTE);
        assert_eq!(log.apply_retention().unwrap(), 0, "exactly as old as allowed");
        at(&world, 1);
        assert_eq!(log.apply_retention().unwrap(), 1, "{stamp}");
        assert_eq!(log.log_start(), Offset(2));
        drop(set);
    }
}

#[test]
fn retention_of_zero_for_ever_and_changed_at_run_time() {
    let (_disk, mut world) = faulty();
    world.config.log.retention_ms = None;
    let (set, log) = world.open_log();
    for _ in 0..3 {
        append_at(&log, world.clock.now_ms());
        at(&world, 8 * DAY);
        set.run_due();
    }
    assert_eq!((log.log_start(), log.segment_count()), (Offset(0), 4));
    let keep = |ms| LogConfig { retention_ms: Some(ms), ..world.config.log.clone() };
    log.set_config(keep(17 * DAY));
    assert_eq!(log.apply_retention().unwrap(), 1);
    append_at(&log, world.clock.now_ms());
    log.set_config(keep(0));
    assert_eq!(log.apply_retention().unwrap(), 2, "what came this very millisecond stays");
    at(&world, 1);
    assert_eq!(log.apply_retention().unwrap(), 1);
    append_at(&log, world.clock.now_ms());
    log.set_config(LogConfig { retention_bytes: Some(0), ..world.config.log.clone() });
    assert_eq!(log.apply_retention().unwrap(), 1);
    assert_eq!((log.log_start(), log.log_end()), (Offset(5), Offset(5)));
}

#[test]
fn a_restart_rolls_nobody_early_and_quiet_segments_still_roll() {
    // Old records that were loaded today, records of today, and records of tomorrow.
    for stamp in [1_000, START_MS, START_MS + 900 * DAY as i64, -1] {
        let (disk, mut world) = faulty();
        world.config.log.retention_ms = None;
        world.config.log.segment_ms = 7 * DAY;
        let (set, log) = world.open_log();
        append_at(&log, stamp);
        at(&world, DAY);
        disk.kill();
        drop((set, log));
        let (set, log) = world.open_log();
        set.run_due();
        append_at(&log, stamp);
        assert_eq!(log.segment_count(), 1, "stamp {stamp}");
        at(&world, 6 * DAY + HOUR);
        set.run_due();
        assert_eq!(log.segment_count(), 2, "stamp {stamp}: within segment.ms of its first append");
    }
}

#[test]
fn a_slice_outlives_the_segment_that_retention_deletes_and_its_reader_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::real(dir.path());
    let (_set, log) = world.open_log();
    for _ in 0..20 {
        append(&log, &batch(&[&"s".repeat(1000)])).unwrap();
    }
    log.set_high_watermark(log.log_end());
    let limits = ReadLimits { max_bytes: 10_000, upto: log.log_end(), first_batch_whole: true };
    let slice = log.read(Cursor::at(Offset(0)), limits, Wait::Allowed).unwrap();
    let before = slice.bytes().to_vec();
    log.delete_records(DeleteUpTo::HighWatermark).unwrap();
    assert_eq!(log.apply_retention().unwrap(), 1);
    assert!(slice.is_mapped() && slice.bytes()[..] == before[..]);
    let next = log.read(slice.next(), limits, Wait::Allowed);
    assert!(matches!(next, Err(ReadError::OutOfRange { log_start: Offset(20), .. })), "{next:?}");
    assert_eq!(log.offset_for_time(0, log.log_end()).unwrap(), None);
}

#[test]
fn append_time_is_what_readers_see_and_the_type_changes_between_batches() {
    let (_disk, world) = faulty();
    let (_set, log) = world.open_log();
    let stamping =
        |message_timestamp_type| LogConfig { message_timestamp_type, ..LogConfig::default() };
    let mut expected = Vec::new();
    for (number, kind) in
        [TimestampType::LogAppendTime, TimestampType::CreateTime].iter().cycle().take(4).enumerate()
    {
        log.set_config(stamping(*kind));
        append_at(&log, 5);
        let append_time = *kind == TimestampType::LogAppendTime;
        expected.push((number as i64, if append_time { world.clock.now_ms() } else { 5 }));
        at(&world, 10);
    }
    let limits = ReadLimits { max_bytes: 1 << 20, upto: log.log_end(), first_batch_whole: true };
    let slice = log.read(Cursor::at(Offset(0)), limits, Wait::Allowed).unwrap();
    let mut seen = Vec::new();
    for batch in Batches::new(slice.bytes()) {
        // Its CRC covers attributes and timestamps, and is right.
        let batch = batch.unwrap();
        seen.extend(batch.records().map(Result::unwrap).map(|r| (r.offset.0, r.timestamp)));
    }
    assert_eq!(seen, expected);
}
