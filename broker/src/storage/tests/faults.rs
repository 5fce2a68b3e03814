//! What a breaking disk does to a log, and what it must not do.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::storage::disk::faulty::FaultyDisk;

fn faulty(change: impl FnOnce(&mut LogSetConfig)) -> (FaultyDisk, World) {
    let dir = Path::new("/data");
    let disk = FaultyDisk::new(dir);
    let mut world = World::new(Arc::new(disk.clone()), dir);
    change(&mut world.config);
    (disk, world)
}

fn with_flush(flush: FlushPolicy) -> (FaultyDisk, World) {
    faulty(|config| config.log.flush = flush)
}

#[test]
fn a_full_disk_refuses_whole_requests_and_producing_resumes_when_there_is_space() {
    let (disk, world) = with_flush(FlushPolicy::Os);
    let (_set, log) = world.open_log();
    append(&log, &batch(&["one", "two"])).unwrap();
    let size = log.size() as usize;
    disk.set_faults(|faults| faults.capacity = Some(size + 100));
    for _ in 0..3 {
        let error = append(&log, &batch(&["x".repeat(500).as_str()])).unwrap_err();
        assert!(matches!(error, AppendError::DiskFull { .. }), "{error}");
        let file = disk.open(&log.folder().join("00000000000000000000.log"), OpenMode::Existing);
        assert_eq!(file.unwrap().size().unwrap() as usize, size, "the torn batch is cut off");
    }
    assert_eq!(read_all(&log, Offset(0)).unwrap().len(), 2, "reading goes on");
    assert!(log.offline().is_none());
    disk.set_faults(|faults| faults.capacity = None);
    assert_eq!(append(&log, &batch(&["three"])).unwrap().base_offset, Offset(2));
    assert_eq!(read_all(&log, Offset(0)).unwrap().len(), 3);
}

#[test]
fn a_full_disk_at_a_roll_passes_too() {
    let (disk, world) = faulty(|config| config.log.segment_bytes = 300);
    let (_set, log) = world.open_log();
    append(&log, &batch(&[&"a".repeat(200)])).unwrap();
    disk.set_faults(|faults| faults.capacity = Some(1));
    append(&log, &batch(&[&"b".repeat(200)])).unwrap_err();
    disk.set_faults(|faults| faults.capacity = None);
    append(&log, &batch(&[&"c".repeat(200)])).unwrap();
    assert_eq!(read_all(&log, Offset(0)).unwrap().len(), 2);
}

#[test]
fn a_sequence_that_failed_makes_its_successors_out_of_order_and_can_be_sent_again() {
    let (disk, world) = with_flush(FlushPolicy::Os);
    let (_set, log) = world.open_log();
    let numbered = |sequence, len: usize| {
        let stamp = ProducerStamp { id: 9, epoch: 0, base_sequence: sequence };
        batch_of(&[&vec![b'v'; len]], START_MS, stamp)
    };
    append(&log, &numbered(0, 10)).unwrap();
    let size = log.size() as usize;
    disk.set_faults(|faults| faults.capacity = Some(size + 200));
    assert!(matches!(append(&log, &numbered(1, 500)), Err(AppendError::DiskFull { .. })));
    // The small successor would fit, but must not overtake.
    let error = append(&log, &numbered(2, 10)).unwrap_err();
    let expected = SequenceError::OutOfOrder { producer_id: 9, expected: 1, found: 2 };
    assert!(matches!(error, AppendError::Sequence(e) if e == expected), "{error}");
    disk.set_faults(|faults| faults.capacity = None);
    assert_eq!(append(&log, &numbered(1, 500)).unwrap().base_offset, Offset(1));
    assert_eq!(append(&log, &numbered(2, 10)).unwrap().base_offset, Offset(2));
    let again = append(&log, &numbered(1, 500)).unwrap();
    assert!(again.duplicate && again.base_offset == Offset(1));
}

#[derive(Default)]
struct Heard {
    failures: AtomicU32,
    flushed: AtomicU32,
    appended: AtomicU32,
}

impl LogListener for Heard {
    fn log_end_advanced(&self, _: Offset) {
        self.appended.fetch_add(1, Ordering::Relaxed);
    }
    fn flushed_advanced(&self, _: Offset) {
        self.flushed.fetch_add(1, Ordering::Relaxed);
    }
    fn log_start_advanced(&self, _: Offset) {}
    fn failed(&self, _: &Offline) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_failed_sync_takes_the_partition_offline_and_is_not_tried_again() {
    let (disk, world) = with_flush(FlushPolicy::BeforeAck);
    let (set, log) = world.open_log();
    let heard = Arc::new(Heard::default());
    log.set_listener(heard.clone());
    append(&log, &batch(&["kept"])).unwrap();
    log.flush().unwrap();
    append(&log, &batch(&["doubtful"])).unwrap();
    disk.set_faults(|faults| faults.failing_syncs = Some((".log".into(), 1)));
    let (sender, receiver) = std::sync::mpsc::channel();
    for _ in 0..3 {
        let sender = sender.clone();
        log.flush_to(Offset(2), Box::new(move |result| sender.send(result).unwrap()));
    }
    assert!(receiver.try_recv().is_err(), "nobody is told before the flush");
    set.run_due();
    assert_eq!(receiver.try_iter().filter(Result::is_err).count(), 3);
    assert_eq!(heard.failures.load(Ordering::Relaxed), 1);
    // The disk would say yes now; it is not asked.
    assert!(log.flush().is_err());
    assert!(matches!(append(&log, &batch(&["no"])), Err(AppendError::Offline(_))));
    assert!(matches!(read_all(&log, Offset(0)), Err(ReadError::Offline(_))));
    assert_eq!(log.flushed(), Offset(1));
    // What is really on the disk is found by reading it.
    let fresh = set.reopen(&partition()).unwrap();
    assert_eq!(read_all(&fresh, Offset(0)).unwrap(), [(0, b"kept".to_vec())]);
    append(&fresh, &batch(&["goes on"])).unwrap();
}

#[test]
fn one_sync_answers_all_who_waited() {
    let (_disk, world) = with_flush(FlushPolicy::BeforeAck);
    let (set, log) = world.open_log();
    let heard = Arc::new(Heard::default());
    log.set_listener(heard.clone());
    let answers = Arc::new(AtomicU32::new(0));
    for i in 0..50 {
        let appended = append(&log, &batch(&[&i.to_string()])).unwrap();
        let answers = answers.clone();
        let done = move |result: Result<(), FlushError>| {
            result.unwrap();
            answers.fetch_add(1, Ordering::Relaxed);
        };
        log.flush_to(appended.last_offset.plus(1), Box::new(done));
    }
    assert_eq!(answers.load(Ordering::Relaxed), 0);
    set.run_due();
    assert_eq!(answers.load(Ordering::Relaxed), 50);
    assert_eq!(heard.flushed.load(Ordering::Relaxed), 1);
    assert_eq!((log.flushed(), heard.appended.load(Ordering::Relaxed)), (Offset(50), 50));
}

#[test]
fn interval_flushes_after_enough_records_or_enough_time() {
    let (_disk, world) = faulty(|config| {
        config.log.flush = FlushPolicy::Interval;
        config.log.flush_messages = 10;
        config.log.flush_ms = 1000;
    });
    let (set, log) = world.open_log();
    for _ in 0..9 {
        append(&log, &batch(&["r"])).unwrap();
    }
    set.run_due();
    assert_eq!(log.flushed(), Offset(0));
    append(&log, &batch(&["r"])).unwrap();
    set.run_due();
    assert_eq!(log.flushed(), Offset(10), "by count");
    append(&log, &batch(&["r"])).unwrap();
    world.clock.advance(Duration::from_millis(999));
    set.run_due();
    assert_eq!(log.flushed(), Offset(10));
    world.clock.advance(Duration::from_millis(1));
    set.run_due();
    assert_eq!(log.flushed(), Offset(11), "by time");
    let mut config = (*log.config()).clone();
    append(&log, &batch(&["r"])).unwrap();
    config.flush_ms = 10;
    log.set_config(config);
    world.clock.advance(Duration::from_millis(10));
    set.run_due();
    assert_eq!(log.flushed(), Offset(12), "by the new time");
}

#[test]
fn a_failed_write_takes_the_partition_offline_and_a_failed_read_the_directory() {
    let (disk, world) = with_flush(FlushPolicy::Os);
    let (set, log) = world.open_log();
    let other = TopicPartition::new("logs", 1);
    let second = set.create(&other, topic_id(), LogConfig::default()).unwrap();
    append(&log, &batch(&["one"])).unwrap();
    append(&second, &batch(&["one"])).unwrap();
    disk.set_faults(|faults| faults.failing_writes = Some("logs-0".into()));
    assert!(matches!(append(&log, &batch(&["two"])), Err(AppendError::Offline(_))));
    append(&second, &batch(&["two"])).unwrap();
    disk.set_faults(|faults| faults.failing_reads = Some(".log".into()));
    assert!(matches!(read_all(&second, Offset(0)), Err(ReadError::Offline(_))));
    assert_eq!(set.failed_dirs().len(), 1);
    let third = set.create(&TopicPartition::new("logs", 2), topic_id(), LogConfig::default());
    assert!(matches!(third, Err(LogSetError::NoDirectory)));
}

#[test]
fn when_cutting_back_fails_too_the_partition_is_offline_and_the_next_start_cuts() {
    let (disk, world) = with_flush(FlushPolicy::Os);
    let (set, log) = world.open_log();
    append(&log, &batch(&["one"])).unwrap();
    let size = log.size() as usize;
    disk.set_faults(|faults| {
        faults.capacity = Some(size + 250);
        faults.failing_cuts = true;
    });
    assert!(matches!(append(&log, &batch(&[&"x".repeat(300)])), Err(AppendError::Offline(_))));
    disk.kill();
    disk.set_faults(|faults| *faults = Default::default());
    drop((set, log));
    let (set, report) = world.open();
    assert!(report.cut_bytes > 0 && report.cut_bytes <= 250);
    let log = set.get(&partition()).unwrap();
    assert_eq!(read_all(&log, Offset(0)).unwrap().len(), 1);
}

#[test]
fn producers_batches_are_known_after_a_kill_and_after_a_clean_stop() {
    let (disk, world) = with_flush(FlushPolicy::Os);
    let (mut set, mut log) = world.open_log();
    let numbered = |sequence: i32| {
        let stamp = ProducerStamp { id: 9, epoch: 2, base_sequence: sequence };
        batch_of(&[b"v"], START_MS, stamp)
    };
    for sequence in 0..2000 {
        append_windowed(&log, &numbered(sequence), 1024).unwrap();
    }
    for round in 0..4 {
        for back in [1, 2, 500, 1024] {
            let appended = append_windowed(&log, &numbered(2000 - back), 1024).unwrap();
            assert!(appended.duplicate, "round {round}, {back} back");
            assert_eq!(appended.base_offset, Offset(i64::from(2000 - back)));
        }
        let error = append_windowed(&log, &numbered(900), 1024).unwrap_err();
        assert!(matches!(error, AppendError::Sequence(SequenceError::Duplicate { .. })));
        let old = ProducerStamp { id: 9, epoch: 1, base_sequence: 0 };
        let error = append(&log, &batch_of(&[b"v"], START_MS, old)).unwrap_err();
        assert!(matches!(error, AppendError::Sequence(SequenceError::Fenced { .. })));
        match round {
            0 => set.close(),
            _ => disk.kill(),
        }
        drop((set, log));
        (set, log) = world.open_log();
    }
    // Idle for more than a day: forgotten.
    world.clock.advance(Duration::from_secs(25 * 60 * 60));
    set.run_due();
    let error = append(&log, &numbered(2000)).unwrap_err();
    assert!(matches!(error, AppendError::Sequence(SequenceError::UnknownProducer { .. })));
}

#[test]
fn a_partition_that_cannot_be_opened_is_not_overwritten_and_keeps_its_recovery_point() {
    let (disk, world) = with_flush(FlushPolicy::Os);
    let (set, log) = world.open_log();
    append(&log, &batch(&["one", "two"])).unwrap();
    log.flush().unwrap();
    set.checkpoint();
    drop((set, log));
    disk.kill();
    disk.set_faults(|faults| faults.failing_reads = Some("logs-0/0".into()));
    let (set, report) = world.open();
    assert_eq!(report.failed.len(), 1);
    let error = set.create(&partition(), topic_id(), LogConfig::default()).unwrap_err();
    assert!(matches!(error, LogSetError::NotOpened { .. }), "{error}");
    set.checkpoint();
    set.close();
    drop(set);
    disk.set_faults(|faults| faults.failing_reads = None);
    // The flushed bytes are zeroed meanwhile: that is damage, not the end of the log.
    let path = Path::new("/data/logs-0/00000000000000000000.log");
    disk.damage(path, |bytes| bytes.fill(0));
    let (_set, report) = world.open();
    assert_eq!(report.damaged.len(), 1);
    assert_eq!((report.damaged[0].1.from, report.damaged[0].1.to), (Offset(0), Offset(2)));
}

#[test]
fn retention_makes_room_on_a_full_disk() {
    let (disk, world) = faulty(|config| {
        config.log.segment_bytes = 2000;
        config.log.flush = FlushPolicy::Os;
        config.log.retention_ms = None;
    });
    let (set, log) = world.open_log();
    for _ in 0..30 {
        append(&log, &batch(&[&"r".repeat(300)])).unwrap();
    }
    set.run_due();
    log.set_high_watermark(log.log_end());
    disk.set_faults(|faults| faults.capacity = Some(1));
    append(&log, &batch(&["full"])).unwrap_err();
    log.set_config(LogConfig { retention_bytes: Some(3000), ..world.config.log.clone() });
    world.clock.advance(Duration::from_secs(60));
    set.run_due();
    assert!(log.size() < 5000, "{}", log.size());
    disk.set_faults(|faults| faults.capacity = Some(20_000));
    append(&log, &batch(&["room again"])).unwrap();
    assert_eq!(read_all(&log, log.log_start()).unwrap().last().unwrap().1, b"room again");
}

#[test]
fn a_slice_outlives_every_truncation_and_not_only_the_first() {
    let (_disk, world) = with_flush(FlushPolicy::Os);
    let (_set, log) = world.open_log();
    for value in ["a", "b", "c"] {
        append(&log, &batch(&[&value.repeat(6000)])).unwrap();
    }
    let limits = ReadLimits { max_bytes: 6200, upto: Offset(2), first_batch_whole: true };
    let slice = log.read(Cursor::at(Offset(1)), limits, Wait::Allowed).unwrap();
    let bytes = slice.bytes().to_vec();
    // The slice ends where the first cut is made, which therefore may be made in place.
    assert_eq!(log.truncate_to(Offset(2)).unwrap(), Offset(2));
    // The disk panics when bytes of a living slice are cut off or written over.
    assert_eq!(log.truncate_to(Offset(1)).unwrap(), Offset(1));
    append(&log, &batch(&[&"d".repeat(6000)])).unwrap();
    assert_eq!(&slice.bytes()[..], bytes);
}
