//! Deleting records up to an offset, and what of it outlives a restart, a kill and a power cut.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::storage::disk::faulty::FaultyDisk;

const DIR: &str = "/d";

fn faulty() -> (FaultyDisk, World) {
    let disk = FaultyDisk::new(Path::new(DIR));
    let world = World::new(Arc::new(disk.clone()), Path::new(DIR));
    (disk, world)
}

/// Batches of ten records each, a second apart; all committed.
fn fill(world: &World, log: &Log, batches: i64) {
    for number in 0..batches {
        let values: Vec<String> = (0..10).map(|i| format!("{}", number * 10 + i)).collect();
        let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
        let chunks = [batch_of(&values, world.clock.now_ms(), ProducerStamp::NONE)];
        let headers = check_chunks(&chunks).unwrap();
        let leader_epoch = log.latest_epoch().max(LeaderEpoch(0));
        let request = AppendRequest { chunks: &chunks, headers: &headers, leader_epoch, window: 5 };
        log.append(&[request]).pop().unwrap().unwrap();
        world.clock.advance(Duration::from_secs(1));
    }
    log.set_high_watermark(log.log_end());
}

fn to(offset: i64) -> DeleteUpTo {
    DeleteUpTo::Offset(Offset(offset))
}

fn first_offset(log: &Log) -> i64 {
    read_all(log, log.log_start()).unwrap()[0].0
}

#[test]
fn the_log_start_moves_into_a_batch_and_never_back_or_above_the_high_watermark() {
    let (_disk, world) = faulty();
    let (_set, log) = world.open_log();
    fill(&world, &log, 10);
    assert_eq!(log.delete_records(to(25)).unwrap(), Offset(25));
    assert_eq!(log.delete_records(to(7)).unwrap(), Offset(25));
    assert!(matches!(read_all(&log, Offset(24)), Err(ReadError::OutOfRange { .. })));
    let limits = ReadLimits { max_bytes: 1, upto: log.log_end(), first_batch_whole: true };
    let slice = log.read(Cursor::at(Offset(25)), limits, Wait::Allowed).unwrap();
    let batch = Batches::new(slice.bytes()).next().unwrap().unwrap();
    assert_eq!(batch.header().base_offset, Offset(20), "its batch is given whole");
    assert_eq!(first_offset(&log), 25);

    log.set_high_watermark(Offset(60));
    for refused in [-2, 61, 100, i64::MAX] {
        let error = log.delete_records(to(refused)).unwrap_err();
        assert!(matches!(error, DeleteRecordsError::OutOfRange { .. }), "{refused}: {error}");
    }
    assert_eq!(log.delete_records(DeleteUpTo::HighWatermark).unwrap(), Offset(60));
    assert_eq!(log.apply_retention().unwrap(), 0, "the segment goes on");
    let cleanup_policy = CleanupPolicy { delete: false, compact: true };
    log.set_config(LogConfig { cleanup_policy, ..LogConfig::default() });
    let error = log.delete_records(to(61)).unwrap_err();
    assert!(matches!(error, DeleteRecordsError::CompactedOnly(_)));
}

#[test]
fn segments_below_the_start_go_whatever_the_policy_and_a_log_deleted_whole_takes_no_space() {
    let (_disk, mut world) = faulty();
    world.config.log.segment_bytes = 1024;
    let (set, log) = world.open_log();
    fill(&world, &log, 30);
    let segments = log.segment_count();
    assert!(segments > 3);
    log.delete_records(to(95)).unwrap();
    let cleanup_policy = CleanupPolicy { delete: false, compact: true };
    log.set_config(LogConfig { cleanup_policy, ..world.config.log.clone() });
    let gone = log.apply_retention().unwrap();
    assert!(gone > 0 && log.segment_count() == segments - gone);
    assert_eq!((log.log_start(), first_offset(&log)), (Offset(95), 95));
    log.set_config(world.config.log.clone());
    log.delete_records(DeleteUpTo::HighWatermark).unwrap();
    log.apply_retention().unwrap();
    assert_eq!((log.size(), log.segment_count(), log.log_start()), (0, 1, Offset(300)));
    let deleted = set.deleted_segments();
    assert_eq!((deleted.below_start, deleted.by_time, deleted.by_size), (segments as u64, 0, 0));
    assert_eq!(append(&log, &batch(&["on"])).unwrap().base_offset, Offset(300));
}

#[test]
fn an_acknowledged_start_outlives_clean_stops_kills_and_power_cuts() {
    for (seed, how) in ["clean", "kill", "power"].iter().cycle().take(60).enumerate() {
        let (disk, mut world) = faulty();
        let mut random = fastrand::Rng::with_seed(seed as u64);
        world.config.log.segment_bytes = 1024;
        world.config.log.flush = FlushPolicy::Os;
        let (set, log) = world.open_log();
        fill(&world, &log, 20);
        let start = random.i64(1..=200);
        assert_eq!(log.delete_records(to(start)).unwrap(), Offset(start));
        if random.bool() {
            log.apply_retention().unwrap();
        }
        match *how {
            "clean" => set.close(),
            "kill" => disk.kill(),
            _ => disk.power_cut(&mut random),
        }
        drop((set, log));
        let (_set, log) = world.open_log();
        assert_eq!(log.log_start(), Offset(start), "seed {seed}, {how}");
        assert!(log.log_end() >= Offset(start));
        assert!(read_all(&log, Offset(start - 1)).is_err());
        let left = read_all(&log, Offset(start)).unwrap();
        assert!(left.iter().all(|(offset, value)| value == offset.to_string().as_bytes()));
        if *how != "power" {
            assert_eq!(left.len() as i64, 200 - start);
        }
        let end = log.log_end();
        assert_eq!(append(&log, &batch(&["next"])).unwrap().base_offset, end);
        log.set_high_watermark(log.log_end());
        log.apply_retention().unwrap();
        assert_eq!(read_all(&log, end).unwrap().len(), 1);
    }
}

#[test]
fn without_its_checkpoint_a_log_starts_at_its_first_segment() {
    let (disk, mut world) = faulty();
    world.config.log.segment_bytes = 1024;
    let (set, log) = world.open_log();
    fill(&world, &log, 30);
    log.delete_records(to(155)).unwrap();
    log.apply_retention().unwrap();
    let kept_from = 155 - log.log_start().0 % 10;
    set.close();
    drop((set, log));
    disk.damage(&Path::new(DIR).join("positions-checkpoint"), |bytes| bytes[5] ^= 1);
    let (_set, log) = world.open_log();
    let start = log.log_start().0;
    assert!(start < 155 && start > 0 && start <= kept_from, "{start}");
    assert_eq!(read_all(&log, log.log_start()).unwrap().len() as i64, 300 - start);
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_told_and_the_next_one_has_the_start() {
    let (disk, world) = faulty();
    let (set, log) = world.open_log();
    fill(&world, &log, 5);
    disk.set_faults(|faults| faults.failing_writes = Some("positions-checkpoint".to_owned()));
    let other = TopicPartition::new("others", 0);
    let other = set.create(&other, topic_id(), world.config.log.clone()).unwrap();
    let requests = [(log.clone(), to(12)), (log.clone(), to(1000)), (other, to(0))];
    let results = set.delete_records(&requests);
    assert!(matches!(results[0], Err(DeleteRecordsError::NotStored { .. })));
    assert!(matches!(results[1], Err(DeleteRecordsError::OutOfRange { .. })));
    assert!(matches!(results[2], Err(DeleteRecordsError::NotStored { .. })));
    disk.set_faults(|faults| faults.failing_writes = None);
    set.checkpoint();
    disk.kill();
    drop((set, log, requests));
    assert_eq!(world.open_log().1.log_start(), Offset(12));
}

#[test]
fn truncation_below_the_start_takes_it_along_also_over_a_kill() {
    for (offset, end) in [(17, 10), (40, 40), (99, 90)] {
        let (disk, world) = faulty();
        let (set, log) = world.open_log();
        fill(&world, &log, 10);
        log.delete_records(to(35)).unwrap();
        assert_eq!(log.truncate_to(Offset(offset)).unwrap(), Offset(end));
        let start = end.min(35);
        assert_eq!(log.log_start(), Offset(start));
        assert_eq!(log.high_watermark(), Offset(end));
        append(&log, &batch(&["other"])).unwrap();
        log.set_high_watermark(log.log_end());
        disk.kill();
        drop((set, log));
        let (_set, log) = world.open_log();
        assert_eq!((log.log_start(), log.log_end()), (Offset(start), Offset(end + 1)));
        assert_eq!(read_all(&log, Offset(end)).unwrap(), [(end, b"other".to_vec())]);
    }
}

#[test]
fn times_epochs_and_producers_know_the_new_start() {
    let (disk, mut world) = faulty();
    world.config.log.segment_bytes = 1024;
    let (set, log) = world.open_log();
    let stamp = |base_sequence| ProducerStamp { id: 7, epoch: 0, base_sequence };
    append(&log, &batch_of(&[b"p"], START_MS - 5, stamp(0))).unwrap();
    fill(&world, &log, 5);
    log.begin_epoch(LeaderEpoch(4)).unwrap();
    fill(&world, &log, 5);
    // Batches begin at 1, 11, 21, ...
    log.delete_records(to(24)).unwrap();
    let found = |log: &Log, time| log.offset_for_time(time, log.log_end()).unwrap();
    let check = |log: &Log| {
        assert_eq!(found(log, 0).unwrap().offset, Offset(24));
        assert_eq!(found(log, START_MS + 2000).unwrap().offset, Offset(24));
        assert_eq!(found(log, START_MS + 2001).unwrap().offset, Offset(31));
        let (epoch, end) = log.end_of_epoch(LeaderEpoch(3)).unwrap();
        assert_eq!((epoch, end), (LeaderEpoch(0), Offset(51)));
        let again = append(log, &batch_of(&[b"p"], START_MS - 5, stamp(0))).unwrap();
        assert!(again.duplicate, "a retry is known though its record is deleted");
    };
    check(&log);
    log.apply_retention().unwrap();
    check(&log);
    disk.kill();
    drop((set, log));
    // Epochs are also found in the batch that the start lies in.
    let epochs = Path::new(DIR).join("logs-0/leader-epoch-checkpoint");
    disk.damage(&epochs, |bytes| bytes.clear());
    let (_set, log) = world.open_log();
    check(&log);
}

#[test]
fn damage_below_the_start_is_forgotten_for_people_and_kept_for_walks() {
    let (disk, world) = faulty();
    let (set, log) = world.open_log();
    fill(&world, &log, 10);
    log.flush().unwrap();
    set.checkpoint();
    disk.kill();
    drop((set, log));
    let path = Path::new(DIR).join("logs-0/00000000000000000000.log");
    disk.damage(&path, |bytes| bytes[300] ^= 0xff);
    let (set, log) = world.open_log();
    let damage = log.damaged();
    // What a read or the start found, the start reads only from the recovery point on.
    let (from, to_) = match read_all(&log, Offset(0)) {
        Err(ReadError::Damaged { from, to }) => (from, to),
        other => panic!("{other:?} {damage:?}"),
    };
    log.delete_records(DeleteUpTo::Offset(to_)).unwrap();
    assert!(log.damaged().is_empty() && from < to_);
    assert_eq!(read_all(&log, to_).unwrap().len() as i64, 100 - to_.0);
    set.close();
    drop((set, log));
    let (_set, log) = world.open_log();
    assert_eq!(read_all(&log, to_).unwrap().len() as i64, 100 - to_.0);
}

#[test]
fn a_followers_start_is_written_down_at_once_and_not_with_the_next_checkpoint() {
    let (disk, world) = faulty();
    let (set, log) = world.open_log();
    let other = set.create(&TopicPartition::new("logs", 1), topic_id(), LogConfig::default());
    let other = other.unwrap();
    fill(&world, &log, 10);
    fill(&world, &other, 10);
    set.run_due();
    set.checkpoint();
    let before = (log.log_start(), other.log_start());
    assert_eq!(before, (Offset(0), Offset(0)));
    log.advance_log_start(Offset(25)).unwrap();
    other.advance_log_start(Offset(31)).unwrap();
    assert_eq!((log.log_start(), log.stored_start()), (Offset(25), Offset(0)));
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    log.when_start_stored(Box::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    assert_eq!(told.load(Ordering::SeqCst), 0);
    // The flusher's part alone: no time went by, so that no checkpoint is due.
    set.run_due();
    assert_eq!((log.stored_start(), other.stored_start()), (Offset(25), Offset(31)));
    set.checkpoint();
    assert_eq!(told.load(Ordering::SeqCst), 1, "once");
    disk.kill();
    let (set, log) = world.open_log();
    assert_eq!(log.log_start(), Offset(25));
    assert_eq!(set.get(&TopicPartition::new("logs", 1)).unwrap().log_start(), Offset(31));
    assert!(matches!(read_all(&log, Offset(24)), Err(ReadError::OutOfRange { .. })));
    log.begin_epoch(LeaderEpoch(7)).unwrap();
    assert_eq!(first_offset(&log), 25, "as leader, too");
}
