//! When and by whom logs are compacted.

use std::sync::atomic::Ordering;

use super::*;

fn due_after(log: &Log, set: &LogSet, world: &World, by: Duration) -> bool {
    let before = see(log, log.log_start().0).len();
    world.clock.advance(by);
    set.run_due();
    see(log, log.log_start().0).len() < before
}

#[allow(clippy::disallowed_methods, reason = "what another thread does is polled, to a deadline")]
fn pause() {
    std::thread::sleep(Duration::from_millis(1));
}

const BACKOFF: Duration = Duration::from_secs(15);

#[test]
fn the_dirtiest_log_comes_first_and_clean_ones_wait() {
    let (_disk, world) = compacted(|config| config.log.min_cleanable_dirty_ratio = 0.6);
    let (set, log) = world.open_log();
    let other = TopicPartition::new("logs", 1);
    let other = set.create(&other, topic_id(), world.config.log.clone()).unwrap();
    for _ in 0..10 {
        put(&log, "k", "v");
        put(&other, "k", "v");
    }
    settle(&log);
    settle(&other);
    set.run_due();
    assert_eq!((offsets(&log), offsets(&other)), (vec![9], vec![9]));
    assert_eq!(set.cleaner_usage().max_dirty_percent, 0, "of the last look");
    // What was written is less than six tenths of the log: the keys are long.
    put(&log, &"l".repeat(500), "v");
    settle(&log);
    set.clean_now();
    put(&log, "k", "v");
    settle(&log);
    assert!(!due_after(&log, &set, &world, BACKOFF));
    for _ in 0..20 {
        put(&log, "k", "v");
    }
    settle(&log);
    assert!(due_after(&log, &set, &world, BACKOFF));
    let usage = set.cleaner_usage();
    assert_eq!((usage.cleanings, usage.failures, usage.restarts), (5, 0, 0));
    assert!(usage.read_bytes > usage.written_bytes && usage.recopy_percent < 100);
    assert_eq!(usage.since_last_run_ms, Some(0));
}

#[test]
fn nothing_is_looked_at_before_the_backoff_is_over_or_when_cleaners_are_off() {
    let (_disk, world) = compacted(|_| {});
    let (set, log) = world.open_log();
    set.run_due();
    put(&log, "k", "v");
    put(&log, "k", "v");
    settle(&log);
    assert!(!due_after(&log, &set, &world, BACKOFF - Duration::from_millis(1)));
    assert!(due_after(&log, &set, &world, Duration::from_millis(1)));
    let (_disk, world) = compacted(|config| config.cleaner.enable = false);
    let (set, log) = world.open_log();
    put(&log, "k", "v");
    put(&log, "k", "v");
    settle(&log);
    assert!(!due_after(&log, &set, &world, BACKOFF));
}

#[test]
fn young_records_stay_and_old_ones_make_a_log_due_even_in_the_active_segment() {
    let (_disk, world) = compacted(|config| {
        config.log.min_compaction_lag_ms = 60_000;
        config.log.min_cleanable_dirty_ratio = 0.0;
    });
    let (set, log) = world.open_log();
    put(&log, "k", "v");
    put(&log, "k", "v");
    settle(&log);
    assert!(!due_after(&log, &set, &world, Duration::from_secs(59)));
    assert!(due_after(&log, &set, &world, BACKOFF));

    let (_disk, world) = compacted(|config| {
        config.log.max_compaction_lag_ms = Some(60_000);
        config.log.min_cleanable_dirty_ratio = 1.0;
    });
    let (set, log) = world.open_log();
    put(&log, "k", "v");
    put(&log, "k", "v");
    log.set_high_watermark(log.log_end());
    assert!(!due_after(&log, &set, &world, Duration::from_secs(60)));
    assert_eq!(log.segment_count(), 1);
    assert!(due_after(&log, &set, &world, BACKOFF), "rolled and compacted");
}

#[test]
fn a_log_that_changes_meanwhile_is_left_alone() {
    let (_disk, world) = compacted(|config| {
        config.log.cleanup_policy = CleanupPolicy { delete: true, compact: true };
        config.log.retention_ms = Some(1000);
        config.log.segment_bytes = 2000;
        // Slow enough to be overtaken, and by nobody else's thread.
        config.background = Background::Threads;
        config.cleaner.enable = false;
        config.cleaner.io_bytes_per_second = Some(20_000);
    });
    let (set, log) = world.open_log();
    for i in 0..60 {
        put(&log, &format!("key-{}", i % 3), &"v".repeat(300));
    }
    settle(&log);
    let compacting = {
        let log = log.clone();
        std::thread::spawn(move || log.compact())
    };
    let names = || log.context.disk.list(&log.folder()).unwrap();
    let begun = std::time::Instant::now();
    while !names().iter().any(|entry| entry.name.ends_with("log.cleaned")) {
        assert!(begun.elapsed() < Duration::from_secs(20) && !compacting.is_finished());
        pause();
    }
    world.clock.advance(Duration::from_secs(2));
    log.apply_retention().unwrap();
    assert_eq!(log.log_start(), log.log_end());
    let error = compacting.join().unwrap().unwrap_err();
    assert!(matches!(error, CompactionError::Overtaken), "{error}");
    assert_eq!(leftovers(&log), [""; 0]);
    assert!(log.offline().is_none() && log.uncleanable().is_none());
    put(&log, "k", "v");
    assert_eq!(offsets(&log).len(), 1);
    set.close();
}

#[test]
fn deleting_or_closing_ends_a_compaction_at_once() {
    for close in [false, true] {
        let (_disk, world) = compacted(|config| {
            config.background = Background::Threads;
            config.cleaner.io_bytes_per_second = Some(100);
            config.cleaner.backoff = Duration::from_millis(1);
        });
        let (set, log) = world.open_log();
        for _ in 0..10 {
            put(&log, "k", &"v".repeat(100));
        }
        settle(&log);
        let begun = std::time::Instant::now();
        while !log.compaction.is_running() {
            assert!(begun.elapsed() < Duration::from_secs(20));
            pause();
        }
        match close {
            true => set.close(),
            false => set.delete(&partition(), topic_id()).unwrap(),
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "the throttle would take minutes");
        set.close();
        drop((set, log));
        let (set, report) = world.open();
        assert!(report.failed.is_empty() && report.damaged.is_empty());
        assert_eq!(set.get(&partition()).is_some(), close);
    }
}

#[test]
fn a_poison_log_does_not_stop_the_others_and_is_left_alone_for_a_while() {
    let (_disk, world) = compacted(|_| {});
    let (set, log) = world.open_log();
    let other = TopicPartition::new("logs", 1);
    let other = set.create(&other, topic_id(), world.config.log.clone()).unwrap();
    for log in [&log, &other] {
        put(log, "k", "v");
        put(log, "k", "v");
        settle(log);
    }
    log.compaction.poisoned.store(true, Ordering::Relaxed);
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    set.run_due();
    std::panic::set_hook(quiet);
    assert_eq!((offsets(&log), offsets(&other)), (vec![0, 1], vec![1]));
    let usage = set.cleaner_usage();
    assert_eq!((usage.restarts, usage.uncleanable_partitions, usage.cleanings), (1, 1, 1));
    assert!(log.uncleanable().unwrap().contains("panicked"));
    log.compaction.poisoned.store(false, Ordering::Relaxed);
    assert!(!due_after(&log, &set, &world, BACKOFF), "it rests");
    assert!(due_after(&log, &set, &world, Duration::from_secs(60)));
    assert_eq!(log.uncleanable(), None);
}

#[test]
fn readers_and_a_writer_go_on_while_segments_are_replaced_under_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::real(dir.path());
    world.config.log.cleanup_policy = CleanupPolicy { delete: false, compact: true };
    world.config.log.segment_bytes = 20_000;
    // Files are closed and opened again all the time.
    world.config.open_files = 3;
    let (set, log) = world.open_log();
    let over = std::sync::atomic::AtomicBool::new(false);
    let value = |offset: i64| format!("{offset}-{}", "v".repeat(offset as usize % 300));
    let read = |seed: u64| {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut looks = 0;
        while !over.load(Ordering::Relaxed) || looks < 3 {
            let from = random.i64(0..=log.log_end().0);
            let mut last = from - 1;
            for seen in see_upto(&log, from) {
                assert!(seen.offset > last);
                assert_eq!(seen.value, Some(value(seen.offset)));
                last = seen.offset;
            }
            looks += 1;
        }
    };
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let read = &read;
            scope.spawn(move || read(seed));
        }
        let writer = scope.spawn(|| {
            for offset in 0..1500 {
                put(&log, &format!("key-{}", offset % 50), &value(offset));
                if offset % 100 == 0 {
                    log.flush().unwrap();
                    log.set_high_watermark(log.log_end());
                }
            }
        });
        while !writer.is_finished() {
            log.compact().unwrap();
        }
        settle(&log);
        log.compact().unwrap();
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(offsets(&log), (1450..1500).collect::<Vec<_>>());
    assert!(log.offline().is_none() && log.uncleanable().is_none() && log.damaged().is_empty());
    set.close();
    drop((set, log));
    let (_set, log) = world.open_log();
    assert_eq!(offsets(&log).len(), 50);
}

/// Reads some slices; the log may grow meanwhile.
fn see_upto(log: &Log, from: i64) -> Vec<Seen> {
    let mut cursor = Cursor::at(Offset(from));
    let mut all = Vec::new();
    for _ in 0..10 {
        let limits = ReadLimits { max_bytes: 9000, upto: log.log_end(), first_batch_whole: true };
        let slice = log.read(cursor, limits, Wait::Allowed).unwrap();
        for batch in Batches::new(slice.bytes()).map(|batch| batch.unwrap()) {
            for record in batch.records().map(|record| record.unwrap()) {
                if record.offset.0 >= from {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    let (key, value) = (record.key.map(text), record.value.map(text));
                    let (offset, timestamp) = (record.offset.0, record.timestamp);
                    all.push(Seen { offset, key, value, timestamp });
                }
            }
        }
        cursor = slice.next();
    }
    all
}
