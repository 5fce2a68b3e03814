//! What stays and what goes, by example.

use super::*;

/// The table everybody explains compaction with: where drivers were last.
fn drivers(log: &Log) {
    for (key, value) in [
        ("driver-1", "a"),
        ("driver-1", "b"),
        ("driver-2", "a"),
        ("driver-1", "c"),
        ("driver-2", "b"),
    ] {
        put(log, key, value);
    }
}

#[test]
fn of_the_drivers_only_the_last_places_remain_under_their_offsets() {
    let (_disk, world) = compacted(|_| {});
    let (set, log) = world.open_log();
    drivers(&log);
    settle(&log);
    let report = log.compact().unwrap();
    assert_eq!((report.records, report.kept, report.clean_end), (5, 2, Offset(5)));
    let expected = [(3, "c".to_owned()), (4, "b".to_owned())];
    assert_eq!(values(&log), expected);
    for from in 0..=3 {
        assert_eq!(see(&log, from)[0].offset, 3, "a removed offset reads as the next one");
    }
    assert_eq!((log.log_start(), log.log_end()), (Offset(0), Offset(5)));
    assert_eq!(leftovers(&log), [""; 0]);
    // The producers may go on, and a start finds all as it was.
    put(&log, "driver-3", "z");
    assert_eq!(offsets(&log), [3, 4, 5]);
    set.close();
    drop((set, log));
    let (_set, log) = world.open_log();
    assert_eq!(offsets(&log), [3, 4, 5]);
    let again = log.compact().unwrap();
    assert_eq!((again.passes, again.clean_end), (0, Offset(5)), "nothing is dirty");
}

#[test]
fn the_active_segment_and_what_is_not_committed_or_flushed_stay() {
    let (_disk, world) = compacted(|config| config.log.flush = FlushPolicy::Os);
    let (_set, log) = world.open_log();
    drivers(&log);
    log.set_high_watermark(log.log_end());
    assert_eq!(log.compact().unwrap().passes, 0, "all of it is active");
    log.roll().unwrap();
    log.set_high_watermark(Offset(4));
    assert_eq!(log.compact().unwrap().passes, 0, "not committed to its end");
    assert_eq!(offsets(&log), [0, 1, 2, 3, 4]);
    log.set_high_watermark(Offset(5));
    log.compact().unwrap();
    assert_eq!(offsets(&log), [3, 4]);
    let mut config = (*log.config()).clone();
    config.cleanup_policy = CleanupPolicy { delete: true, compact: false };
    log.set_config(config);
    assert!(matches!(log.compact(), Err(CompactionError::NotCompacted(_))));
}

#[test]
fn records_without_a_key_go_and_batches_shrink_to_what_stays() {
    let (_disk, world) = compacted(|_| {});
    let (_set, log) = world.open_log();
    for codec in Compression::ALL {
        let long = "x".repeat(300);
        let records = [
            (Some("a"), Some(long.as_str())),
            (None, Some(long.as_str())),
            (Some("b"), Some("")),
            (Some(""), Some(long.as_str())),
        ];
        append(&log, &keyed(&records, START_MS, codec, ProducerStamp::NONE)).unwrap();
    }
    settle(&log);
    let size = log.size();
    log.compact().unwrap();
    assert_eq!(offsets(&log), [16, 18, 19]);
    assert!(log.size() < size / 2);
    let last = see(&log, 19);
    assert_eq!(last[0].key.as_deref(), Some(""), "an empty key is a key");
    assert_eq!(last[0].timestamp, START_MS + 3);
}

#[test]
fn small_segments_become_one_and_a_segment_that_loses_nothing_stays_itself() {
    let (_disk, world) = compacted(|config| config.log.segment_bytes = 1000);
    let (_set, log) = world.open_log();
    for round in 0..20 {
        put(&log, &format!("key-{}", round % 2), &"v".repeat(400));
    }
    settle(&log);
    assert!(log.segment_count() > 9);
    log.compact().unwrap();
    assert_eq!(offsets(&log), [18, 19]);
    assert_eq!(log.segment_count(), 2, "empty batches with the last two records; the active one");
    let before = log.segments.load()[0].generation;
    put(&log, "other", &"w".repeat(700));
    settle(&log);
    log.compact().unwrap();
    assert_eq!(log.segments.load()[0].generation, before);
    assert_eq!(offsets(&log), [18, 19, 20]);
}

#[test]
fn a_tombstone_removes_its_key_and_goes_itself_after_its_time() {
    let (_disk, world) = compacted(|config| config.log.delete_retention_ms = 10_000);
    let (set, log) = world.open_log();
    put(&log, "gone", "v");
    put(&log, "stays", "v");
    delete(&log, "gone");
    settle(&log);
    let compact = |log: &Log| {
        put(log, "more", "v");
        settle(log);
        log.compact().unwrap();
        see(log, 0)
    };
    let seen = compact(&log);
    assert_eq!(seen.iter().map(|s| s.offset).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(seen[1].timestamp, START_MS, "the delete horizon does not change record times");
    world.clock.advance(Duration::from_millis(9_999));
    assert_eq!(compact(&log)[1].offset, 2, "still there");
    set.close();
    drop((set, log));
    let (set, log) = world.open_log();
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(compact(&log).iter().map(|s| s.offset).collect::<Vec<_>>(), [1, 5]);
    drop(set);
}

#[test]
fn ripe_tombstones_make_a_clean_log_due() {
    let (_disk, world) = compacted(|config| config.log.delete_retention_ms = 60_000);
    let (set, log) = world.open_log();
    delete(&log, "gone");
    settle(&log);
    set.run_due();
    world.clock.advance(Duration::from_secs(59));
    set.run_due();
    assert_eq!(offsets(&log), [0]);
    world.clock.advance(Duration::from_secs(16));
    set.run_due();
    assert_eq!(offsets(&log), [0; 0]);
    assert_eq!(set.cleaner_usage().cleanings, 2);
}

#[test]
fn times_are_found_in_what_is_left() {
    let (_disk, world) = compacted(|_| {});
    let (_set, log) = world.open_log();
    for i in 0..10 {
        let record = [(Some(if i < 9 { "k" } else { "l" }), Some("v"))];
        let at_ms = START_MS + 1000 - 100 * i;
        append(&log, &keyed(&record, at_ms, Compression::None, ProducerStamp::NONE)).unwrap();
    }
    settle(&log);
    log.compact().unwrap();
    assert_eq!(offsets(&log), [8, 9]);
    let found = log.offset_for_time(START_MS, log.log_end()).unwrap().unwrap();
    assert_eq!((found.offset, found.timestamp), (Offset(8), START_MS + 200));
    assert_eq!(log.offset_for_time(START_MS + 201, log.log_end()).unwrap(), None);
    assert_eq!(log.newest_record().unwrap().offset, Offset(8));
}

#[test]
fn a_reader_of_a_replaced_segment_reads_on_and_the_disk_space_goes_when_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::real(dir.path());
    world.config.log.cleanup_policy = CleanupPolicy { delete: false, compact: true };
    let (_set, log) = world.open_log();
    for i in 0..100 {
        put(&log, &format!("key-{}", i % 3), &"v".repeat(200));
    }
    settle(&log);
    let limits = ReadLimits { max_bytes: 8000, upto: Offset(100), first_batch_whole: true };
    let held = log.read(Cursor::at(Offset(0)), limits, Wait::Allowed).unwrap();
    assert!(held.is_mapped());
    let old = Arc::downgrade(&log.segments.load()[0]);
    log.compact().unwrap();
    let count = Batches::new(held.bytes()).filter(|batch| batch.is_ok()).count();
    assert!(count > 10, "the slice still has its batches");
    let next = log.read(held.next(), limits, Wait::Allowed).unwrap();
    assert_eq!(next.next_offset(), Offset(100), "and its reader goes on in the new segment");
    assert!(old.upgrade().is_some());
    drop(held);
    assert!(old.upgrade().is_none(), "nobody has the old file open any more");
    assert_eq!(offsets(&log), [97, 98, 99]);
}

#[test]
fn a_producer_is_known_after_its_records_are_gone_and_its_snapshots_lost() {
    let (disk, world) = compacted(|_| {});
    let (set, log) = world.open_log();
    let numbered = |id: i64, sequence: i32| {
        let stamp = ProducerStamp { id, epoch: 3, base_sequence: sequence };
        keyed(&[(Some("k"), Some("v")), (Some("l"), Some("v"))], START_MS, Compression::None, stamp)
    };
    for sequence in 0..4 {
        append(&log, &numbered(7, 2 * sequence)).unwrap();
    }
    put(&log, "k", "last");
    put(&log, "l", "last");
    settle(&log);
    log.compact().unwrap();
    assert_eq!(offsets(&log), [8, 9]);
    disk.kill();
    let folder = log.folder();
    for entry in disk.list(&folder).unwrap() {
        if entry.name.ends_with(".window") || entry.name.ends_with(".snapshot") {
            disk.remove_file(&folder.join(entry.name)).unwrap();
        }
    }
    drop((set, log));
    let (set, log) = world.open_log();
    let again = append(&log, &numbered(7, 6)).unwrap();
    assert!(again.duplicate);
    assert_eq!((again.base_offset, again.last_offset), (Offset(6), Offset(7)));
    assert!(append(&log, &numbered(7, 12)).is_err(), "a gap is one");
    append(&log, &numbered(7, 8)).unwrap();
    // Another batch is its last one now: the old one goes.
    settle(&log);
    log.compact().unwrap();
    let walked = headers(&log);
    assert_eq!(walked.iter().filter(|h| h.producer_id == 7).count(), 1);
    drop(set);
}

fn headers(log: &Log) -> Vec<proto::record::BatchHeader> {
    let mut all = Vec::new();
    let list = log.segments.load();
    replay::each_header(&list, &[], Offset(0), |h| all.push(h.clone())).unwrap();
    all
}

#[test]
fn empty_runs_keep_leader_epochs_apart() {
    let (_disk, world) = compacted(|_| {});
    let (set, log) = world.open_log();
    for epoch in [0, 0, 2, 2, 5, 5] {
        let chunks =
            [keyed(&[(Some("k"), Some("v"))], START_MS, Compression::None, ProducerStamp::NONE)];
        let headers = check_chunks(&chunks).unwrap();
        let leader_epoch = LeaderEpoch(epoch);
        let request = AppendRequest { chunks: &chunks, headers: &headers, leader_epoch, window: 5 };
        log.append(&[request]).pop().unwrap().unwrap();
    }
    settle(&log);
    let ends = |log: &Log| [0, 1, 2, 4, 5].map(|epoch| log.end_of_epoch(LeaderEpoch(epoch)));
    let before = ends(&log);
    log.compact().unwrap();
    assert_eq!(offsets(&log), [5]);
    assert_eq!(ends(&log), before);
    let runs: Vec<_> = headers(&log).iter().map(|h| (h.base_offset.0, h.leader_epoch.0)).collect();
    assert_eq!(runs, [(0, 0), (2, 2), (4, 5), (5, 5)]);
    set.close();
    let history = log.folder().join("leader-epoch-checkpoint");
    world.disk.remove_file(&history).unwrap();
    drop((set, log));
    let (_set, log) = world.open_log();
    assert_eq!(ends(&log), before, "derived from the batches");
}

#[test]
fn keys_that_do_not_fit_are_compacted_in_several_passes() {
    let (_disk, world) = compacted(|config| {
        config.cleaner.dedupe_buffer_bytes = 24 * 12;
        config.log.segment_bytes = 3000;
    });
    let (_set, log) = world.open_log();
    for round in 0..3 {
        for key in 0..40 {
            put(&log, &format!("key-{key}"), &format!("value-{round}"));
        }
    }
    settle(&log);
    let report = log.compact().unwrap();
    assert!(report.passes > 5, "{report:?}");
    assert!(report.keys <= 10);
    assert_eq!(offsets(&log), (80..120).collect::<Vec<_>>());
    assert_eq!(report.clean_end, Offset(120));
}

#[test]
fn a_batch_of_more_keys_than_fit_is_said_so_and_hurts_nobody() {
    let (_disk, world) = compacted(|config| config.cleaner.dedupe_buffer_bytes = 24 * 12);
    let (set, log) = world.open_log();
    let keys: Vec<_> = (0..30).map(|i| i.to_string()).collect();
    let records: Vec<_> = keys.iter().map(|key| (Some(key.as_str()), Some("v"))).collect();
    append(&log, &keyed(&records, START_MS, Compression::None, ProducerStamp::NONE)).unwrap();
    settle(&log);
    let error = log.compact().unwrap_err();
    assert!(matches!(error, CompactionError::TooManyKeys { capacity: 10, .. }), "{error}");
    assert!(log.uncleanable().unwrap().contains("log.cleaner.dedupe.buffer.size"));
    assert_eq!(offsets(&log).len(), 30);
    let usage = set.cleaner_usage();
    assert_eq!((usage.uncleanable_partitions, usage.failures), (1, 1));
    assert_eq!(usage.uncleanable_bytes, log.size());
}

#[test]
fn cleaning_ends_before_damage_and_says_so() {
    let (disk, world) = compacted(|_| {});
    let (set, log) = world.open_log();
    for _ in 0..3 {
        drivers(&log);
        settle(&log);
    }
    // A flipped bit in the value of the second segment's first record.
    let path = log.folder().join("00000000000000000005.log");
    disk.damage(&path, |bytes| bytes[75] ^= 1);
    let error = log.compact().unwrap_err();
    assert!(matches!(error, CompactionError::Damaged(bad) if bad.offset == Offset(5)), "{error}");
    assert_eq!(log.damaged().len(), 1);
    assert_eq!((log.damaged()[0].from, log.damaged()[0].to), (Offset(5), Offset(6)));
    assert!(log.uncleanable().is_some());
    let report = log.compact().unwrap();
    assert_eq!(report.clean_end, Offset(5), "what lies before is compacted");
    assert!(log.uncleanable().unwrap().contains("damaged"), "and it is still said");
    assert_eq!(set.cleaner_usage().uncleanable_partitions, 1);
    let (before, behind) = (see_below(&log, 5), see(&log, 6));
    assert_eq!(before, [3, 4]);
    assert_eq!(behind.len(), 9, "no good record is lost");
}

fn see_below(log: &Log, end: i64) -> Vec<i64> {
    let limits = ReadLimits { max_bytes: 1 << 20, upto: Offset(end), first_batch_whole: true };
    let slice = log.read(Cursor::at(Offset(0)), limits, Wait::Allowed).unwrap();
    let batches = Batches::new(slice.bytes()).map(|batch| batch.unwrap());
    batches.flat_map(|b| b.records().map(|r| r.unwrap().offset.0).collect::<Vec<_>>()).collect()
}

#[test]
fn a_log_that_is_cut_is_dirty_again_from_there_and_a_new_one_of_the_name_from_its_start() {
    let (_disk, world) = compacted(|_| {});
    let (set, log) = world.open_log();
    for _ in 0..2 {
        drivers(&log);
        settle(&log);
    }
    assert_eq!(log.compact().unwrap().clean_end, Offset(10));
    assert_eq!(log.truncate_to(Offset(8)).unwrap(), Offset(8));
    // A key of its own, both records of it where the log was clean once.
    put(&log, "driver-3", "a");
    put(&log, "driver-3", "b");
    drivers(&log);
    settle(&log);
    let report = log.compact().unwrap();
    assert_eq!((report.passes, report.clean_end), (1, Offset(15)));
    assert_eq!(offsets(&log), [9, 13, 14]);
    set.delete(&partition(), topic_id()).unwrap();
    let log = set.create(&partition(), topic_id(), world.config.log.clone()).unwrap();
    drivers(&log);
    settle(&log);
    assert_eq!(log.compact().unwrap().kept, 2);
}

#[test]
fn a_lost_or_damaged_checkpoint_costs_another_cleaning_only() {
    let (disk, world) = compacted(|_| {});
    let (mut set, mut log) = world.open_log();
    drivers(&log);
    settle(&log);
    log.compact().unwrap();
    let path = Path::new("/data/cleaner-offset-checkpoint");
    let changes: [fn(&mut Vec<u8>); 3] =
        [|b| b.truncate(5), |b| *b = b"0\n1\nlogs 0 99\n".to_vec(), |b| b.fill(0xff)];
    for change in changes {
        set.close();
        drop((set, log));
        disk.damage(path, change);
        (set, log) = world.open_log();
        let report = log.compact().unwrap();
        assert_eq!((report.passes, report.clean_end, report.replaced_segments), (1, Offset(5), 0));
        assert_eq!(offsets(&log), [3, 4]);
    }
    drop(set);
}

#[test]
fn retention_and_compaction_together_do_both() {
    let (_disk, world) = compacted(|config| {
        config.log.cleanup_policy = CleanupPolicy { delete: true, compact: true };
        config.log.retention_ms = Some(60_000);
    });
    let (_set, log) = world.open_log();
    drivers(&log);
    settle(&log);
    log.compact().unwrap();
    assert_eq!(offsets(&log), [3, 4]);
    world.clock.advance(Duration::from_secs(50));
    put(&log, "driver-1", "d");
    settle(&log);
    assert_eq!(log.apply_retention().unwrap(), 0);
    world.clock.advance(Duration::from_secs(20));
    assert_eq!(log.apply_retention().unwrap(), 1);
    assert_eq!(offsets(&log), [5]);
    log.compact().unwrap();
    assert_eq!((log.log_start(), offsets(&log)), (Offset(5), vec![5]));
}
