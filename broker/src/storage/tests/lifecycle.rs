//! Retention, rolls, truncation under readers, and what a log set does with its folders.

use std::time::Duration;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn disk_names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        RealDisk.list(dir).unwrap().into_iter().filter(|e| e.is_dir).map(|e| e.name).collect();
    names.sort();
    names
}

/// Appends a record an hour for so many hours, as they pass.
fn live(world: &World, set: &LogSet, log: &Log, hours: u32) {
    for _ in 0..hours {
        let values: [&[u8]; 1] = [&[b'm'; 100]];
        append(log, &batch_of(&values, world.clock.now_ms(), ProducerStamp::NONE)).unwrap();
        log.set_high_watermark(log.log_end());
        world.clock.advance(HOUR);
        set.run_due();
    }
}

#[test]
fn size_retention_keeps_at_least_its_bytes_and_waits_for_the_high_watermark() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::real(dir.path());
    world.config.log.retention_ms = None;
    world.config.log.segment_bytes = 10_000;
    world.config.log.retention_bytes = Some(50_000);
    let (_set, log) = world.open_log();
    for _ in 0..1000 {
        append(&log, &batch(&[&"t".repeat(100)])).unwrap();
    }
    assert_eq!(log.apply_retention().unwrap(), 0, "nothing is committed");
    log.set_high_watermark(Offset(100));
    log.apply_retention().unwrap();
    assert!(log.log_start() <= Offset(100) && log.log_start() > Offset(0));
    log.set_high_watermark(log.log_end());
    log.apply_retention().unwrap();
    assert!((50_000..60_000).contains(&log.size()), "{}", log.size());
    let files = RealDisk.list(&log.folder()).unwrap();
    let logs = files.iter().filter(|entry| entry.name.ends_with(".log")).count();
    assert_eq!(logs, log.segment_count());
}

#[test]
fn a_topic_that_is_only_compacted_keeps_its_old_segments() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::real(dir.path());
    world.config.log.cleanup_policy = CleanupPolicy { delete: false, compact: true };
    world.config.cleaner.enable = false;
    world.config.log.retention_ms = Some(3_600_000);
    world.config.log.retention_bytes = Some(0);
    world.config.log.segment_ms = 3_600_000;
    let (set, log) = world.open_log();
    live(&world, &set, &log, 20);
    assert_eq!((log.log_start(), log.apply_retention().unwrap()), (Offset(0), 0));
    let both = CleanupPolicy { delete: true, compact: true };
    log.set_config(LogConfig { cleanup_policy: both, ..world.config.log.clone() });
    assert!(log.apply_retention().unwrap() > 15);
}

#[test]
fn a_slice_survives_truncation_and_deletion_and_counts_as_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::real(dir.path());
    let (set, log) = world.open_log();
    for i in 0..100 {
        append(&log, &batch(&[&format!("{i}{}", "s".repeat(400))])).unwrap();
    }
    let limits = ReadLimits { max_bytes: 1 << 20, upto: Offset(100), first_batch_whole: true };
    let slice = log.read(Cursor::at(Offset(0)), limits, Wait::Allowed).unwrap();
    assert!(slice.is_mapped());
    let before = slice.bytes().to_vec();
    assert_eq!(log.truncate_to(Offset(10)).unwrap(), Offset(10));
    for _ in 0..200 {
        append(&log, &batch(&[&"other".repeat(80)])).unwrap();
    }
    assert!(slice.bytes()[..] == before[..], "the bytes of a slice never change");
    let late = log.read(slice.next(), limits, Wait::Allowed).unwrap();
    assert!(late.is_empty() || late.next_offset() > slice.next_offset());
    assert_eq!(read_all(&log, Offset(0)).unwrap().len(), 210);
    // Nothing is mapped of the new file: it is cut in place.
    assert_eq!(log.truncate_to(Offset(200)).unwrap(), Offset(200));
    set.delete(&partition(), topic_id()).unwrap();
    drop((log, late));
    assert!(slice.bytes()[..] == before[..]);
    world.clock.advance(Duration::from_secs(61));
    set.run_due();
    assert!(disk_names(dir.path()).is_empty());
    drop(set);
    assert!(slice.bytes()[..] == before[..]);
}

#[test]
fn mappings_stay_within_their_budget_and_go_when_idle() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::real(dir.path());
    world.config.mmap_bytes = 1 << 20;
    world.config.log.segment_bytes = 300_000;
    let (set, log) = world.open_log();
    for _ in 0..500 {
        append(&log, &batch(&[&"w".repeat(4000)])).unwrap();
    }
    let limits = ReadLimits { max_bytes: 50_000, upto: Offset(500), first_batch_whole: true };
    let mut cursor = Cursor::at(Offset(0));
    let (mut mapped, mut copied) = (0, 0);
    while cursor.offset() < Offset(500) {
        let slice = log.read(cursor, limits, Wait::Allowed).unwrap();
        *if slice.is_mapped() { &mut mapped } else { &mut copied } += 1;
        assert!(set.usage().mapped_bytes <= 1 << 20);
        cursor = slice.next();
    }
    assert!(mapped > 0 && copied > 0, "{mapped} {copied}");
    let held = log.read(Cursor::at(Offset(0)), limits, Wait::Allowed).unwrap();
    world.clock.advance(Duration::from_secs(60));
    set.run_due();
    let usage = set.usage();
    assert!(usage.pinned_bytes > 0 && usage.mapped_bytes == usage.pinned_bytes, "{usage:?}");
    drop(held);
    assert_eq!(set.usage().pinned_bytes, 0);
    assert_eq!(set.usage().mapped_bytes, 0);
}

#[test]
fn quiet_segments_roll_by_time_and_times_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::real(dir.path());
    world.config.log.segment_ms = 10_000;
    world.config.log.message_timestamp_type = TimestampType::LogAppendTime;
    let (set, log) = world.open_log();
    for _ in 0..10 {
        let appended = append(&log, &batch(&["a", "b"])).unwrap();
        assert_eq!(appended.log_append_time, Some(world.clock.now_ms()));
        world.clock.advance(Duration::from_millis(3000));
    }
    assert_eq!(log.segment_count(), 3);
    world.clock.advance(Duration::from_secs(100));
    set.run_due();
    assert_eq!(log.segment_count(), 4);
    for i in 0..10 {
        let found = log.offset_for_time(START_MS + i * 3000 - 1, log.log_end()).unwrap().unwrap();
        assert_eq!((found.offset.0, found.timestamp), (2 * i, START_MS + i * 3000));
    }
    assert_eq!(log.offset_for_time(START_MS + 40_000, log.log_end()).unwrap(), None);
    // The stamped batches carry a right CRC.
    let limits = ReadLimits { max_bytes: 1 << 20, upto: log.log_end(), first_batch_whole: true };
    let slice = log.read(Cursor::at(Offset(0)), limits, Wait::Allowed).unwrap();
    assert!(Batches::new(slice.bytes()).all(|batch| batch.is_ok()));
}

#[test]
fn partitions_are_deleted_set_aside_and_never_mistaken_for_another_topics() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::real(dir.path());
    let (set, log) = world.open_log();
    append(&log, &batch(&["old"])).unwrap();
    let other = TopicId::from_slice(&[8; 16]).unwrap();
    let error = set.create(&partition(), other, LogConfig::default()).unwrap_err();
    assert!(matches!(error, LogSetError::OtherTopic { found, .. } if found == topic_id()));
    assert!(matches!(set.delete(&partition(), other), Err(LogSetError::OtherTopic { .. })));
    let aside = set.set_aside(&partition()).unwrap();
    assert!(aside.to_string_lossy().ends_with("-stray"));
    assert!(append(&log, &batch(&["late"])).is_err());
    let log = set.create(&partition(), other, LogConfig::default()).unwrap();
    assert_eq!(log.log_end(), Offset(0));
    let long = TopicPartition::new("n".repeat(249), 12345);
    set.create(&long, other, LogConfig::default()).unwrap();
    set.delete(&long, other).unwrap();
    set.delete(&partition(), other).unwrap();
    assert!(set.get(&partition()).is_none() && set.logs().is_empty());
    assert_eq!(disk_names(dir.path()).len(), 3);
    set.close();
    drop(set);
    // Found at the next start, the rest of a deletion is done then.
    let (set, report) = world.open();
    assert!(report.clean && report.opened == 0);
    set.run_due();
    let names = disk_names(dir.path());
    assert!(names.len() == 1 && names[0].ends_with("-stray"));
}

#[test]
fn a_directory_is_used_by_one_broker_at_a_time_and_a_new_boot_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::real(dir.path());
    let (set, _log) = world.open_log();
    let second = LogSet::open(world.config.clone(), world.disk.clone(), world.clock.clone());
    assert!(matches!(second, Err(OpenError::Locked(_))));
    drop((set, _log));
    let (set, report) = world.open();
    assert!(!report.clean && !report.unsynced_lost, "killed, but the machine went on");
    set.close();
}

#[test]
fn threads_flush_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::real(dir.path());
    world.config.background = Background::Threads;
    world.config.log.flush = FlushPolicy::BeforeAck;
    let clock = Arc::new(SystemClock::new());
    let (set, _) = LogSet::open(world.config.clone(), world.disk.clone(), clock).unwrap();
    let log = set.create(&partition(), topic_id(), world.config.log.clone()).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let appended = append(&log, &batch(&["t"])).unwrap();
                    let sender = sender.clone();
                    let done = Box::new(move |result| sender.send(result).unwrap());
                    log.flush_to(appended.last_offset.plus(1), done);
                }
            });
        }
    });
    for _ in 0..100 {
        receiver.recv_timeout(Duration::from_secs(30)).unwrap().unwrap();
    }
    assert_eq!(log.flushed(), Offset(100));
    set.close();
    drop(set);
    let (_, report) = world.open();
    assert!(report.clean);
}

#[test]
fn a_time_inside_a_compressed_batch_finds_its_record() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::real(dir.path());
    let (_set, log) = world.open_log();
    for (round, codec) in (0..).zip(Compression::ALL) {
        let mut builder = BatchBuilder::new(1 << 16);
        for i in 0..50 {
            let time = START_MS + (round * 50 + i) * 10;
            builder.append(time, None, Some(b"the same value"), &[]).unwrap();
        }
        let mut compressor = proto::record::Compressor::with_default_level(codec);
        append(&log, &builder.finish_compressed(&mut compressor, ProducerStamp::NONE)).unwrap();
    }
    for offset in 0..250 {
        let time = START_MS + offset * 10;
        for (asked, wait) in [(time - 9, 0), (time, 0), (time + 1, 1)] {
            let found = log.offset_for_time(asked, log.log_end()).unwrap();
            let expected = (offset + wait < 250).then(|| TimedOffset {
                offset: Offset(offset + wait),
                timestamp: time + wait * 10,
            });
            assert_eq!(found, expected, "{asked}");
        }
    }
}
