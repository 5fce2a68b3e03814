//! Logs whose files are mostly closed: what stays open, what a reader meets, and what happens when
//! there is no descriptor left.

use std::time::Duration;

use super::*;
use crate::storage::disk::DiskFile;
use crate::storage::disk::faulty::FaultyDisk;
use crate::storage::open_files::OpenFiles;
use crate::storage::pooled_file::Role;

const PARTITIONS: i32 = 10;

/// A disk, and a set of partitions of several segments each, with this budget.
fn world(open_files: usize, flush: FlushPolicy) -> (FaultyDisk, World, LogSet, Vec<Arc<Log>>) {
    let dir = Path::new("/data");
    let disk = FaultyDisk::new(dir);
    let mut world = World::new(Arc::new(disk.clone()), dir);
    world.config.open_files = open_files;
    world.config.log.flush = flush;
    world.config.log.segment_bytes = 400;
    world.config.log.index_interval_bytes = 0;
    let (set, _) = world.open();
    let logs = (0..PARTITIONS).map(|number| {
        let name = TopicPartition::new("logs", number);
        set.create(&name, topic_id(), world.config.log.clone()).unwrap()
    });
    let logs = logs.collect();
    (disk, world, set, logs)
}

fn fill(logs: &[Arc<Log>], rounds: usize) {
    for round in 0..rounds {
        for log in logs {
            append(log, &batch(&[&format!("{round} {}", "x".repeat(100))])).unwrap();
        }
    }
}

fn read_at(log: &Log, offset: i64, wait: Wait) -> Result<ReadSlice, ReadError> {
    let limits = ReadLimits { max_bytes: 1000, upto: log.log_end(), first_batch_whole: true };
    log.read(Cursor::at(Offset(offset)), limits, wait)
}

#[test]
fn files_are_bounded_and_everything_is_readable_after_a_clean_stop_and_after_a_kill() {
    let (disk, world, mut set, logs) = world(8, FlushPolicy::Os);
    fill(&logs, 12);
    drop(logs);
    for kill in [false, true, false] {
        set.logs().iter().for_each(|log| assert!(log.flush().is_ok()));
        set.run_due();
        for log in set.logs() {
            assert!(log.segment_count() > 3);
            assert_eq!(read_all(&log, Offset(0)).unwrap().len(), 12);
            assert!(disk.open_now() <= 9, "{} files are open", disk.open_now());
        }
        let usage = set.usage();
        assert!(usage.open_files <= 8 && usage.files_closed > 0, "{usage:?}");
        match kill {
            true => disk.kill(),
            false => set.close(),
        }
        drop(set);
        assert_eq!(disk.open_now(), 0);
        let report;
        (set, report) = world.open();
        assert_eq!((report.opened as i32, report.failed.len()), (PARTITIONS, 0));
    }
}

#[test]
fn a_file_with_unsynced_bytes_stays_open_so_that_its_failed_sync_is_not_missed() {
    let (disk, world, set, logs) = world(1, FlushPolicy::Os);
    fill(&logs, 1);
    assert!(disk.open_now() >= logs.len(), "one for each log with unsynced bytes");
    for log in &logs[1..] {
        log.flush().unwrap();
    }
    for _ in 0..2 {
        world.clock.advance(Duration::from_secs(10));
        set.run_due();
    }
    assert!(disk.open_now() <= 4, "{} files are open", disk.open_now());
    disk.set_faults(|faults| faults.failing_syncs = Some(("logs-0/".into(), 1)));
    assert!(logs[0].flush().is_err());
    assert!(logs[0].offline().is_some());
}

#[test]
fn a_sync_covers_what_was_written_before_it_began_and_nothing_else() {
    let disk = FaultyDisk::new(Path::new("/d"));
    let files = OpenFiles::new(Arc::new(disk.clone()), 1);
    let log = files.file(Path::new("/d/a"), OpenMode::Create, Role::Log).unwrap();
    let others = || {
        for name in ["/d/b", "/d/c", "/d/d"] {
            files.file(Path::new(name), OpenMode::Create, Role::Index).unwrap();
        }
    };
    others();
    assert!(!log.is_open(), "clean: closed");
    disk::write_fully(&*log, b"one", 0).unwrap();
    others();
    assert!(log.is_open(), "dirty");
    log.sync().unwrap();
    log.set_len(2).unwrap();
    others();
    assert!(log.is_open(), "dirty again");
    log.sync().unwrap();
    let pin = log.pin().unwrap();
    others();
    assert!(log.is_open(), "in use");
    drop(pin);
    others();
    assert!(!log.is_open());
    let mut bytes = [0; 2];
    assert_eq!(log.read_resident(&mut bytes, 0).unwrap(), None, "must not wait for an open");
    assert_eq!(disk::read_fully(&*log, &mut bytes, 0).unwrap(), 2);
    assert_eq!(&bytes, b"on");
    log.retire();
    assert!(log.is_open(), "who has it open goes on");
    others();
    others();
    assert!(log.read_at(&mut bytes, 0).is_err(), "not opened again");
}

#[test]
fn who_may_not_wait_is_sent_to_a_disk_thread_for_a_closed_segment() {
    let (_disk, _world, _set, logs) = world(1, FlushPolicy::Os);
    fill(&logs, 12);
    logs.iter().for_each(|log| assert!(log.flush().is_ok()));
    let other = || assert_eq!(read_all(&logs[1], Offset(0)).unwrap().len(), 12);
    other();
    other();
    assert!(matches!(read_at(&logs[0], 0, Wait::Never), Err(ReadError::WouldBlock)));
    assert!(!read_at(&logs[0], 0, Wait::Allowed).unwrap().is_empty());
}

#[test]
fn a_segment_deleted_while_its_file_is_closed_is_gone_for_its_readers_and_nothing_else_happens() {
    let (_disk, world, set, logs) = world(1, FlushPolicy::Os);
    let log = &logs[0];
    fill(&logs, 12);
    logs.iter().for_each(|log| assert!(log.flush().is_ok()));
    log.set_high_watermark(log.log_end());
    let slice = read_at(log, 0, Wait::Allowed).unwrap();
    let held = log.segments.load().first().unwrap().clone();
    read_all(&logs[1], Offset(0)).unwrap();
    read_all(&logs[1], Offset(0)).unwrap();
    log.set_config(LogConfig { retention_bytes: Some(500), ..world.config.log.clone() });
    assert!(log.apply_retention().unwrap() > 0);
    assert!(held.file.read_at(&mut [0], 0).is_err());
    assert!(matches!(read_at(log, 0, Wait::Allowed), Err(ReadError::OutOfRange { .. })));
    assert_eq!(slice.bytes().len(), slice.len(), "what was handed out stays");
    assert!(slice.file_range().is_none());
    assert!(log.offline().is_none() && set.failed_dirs().is_empty());
    assert!(read_all(log, log.log_start()).unwrap().len() < 12);
}

#[test]
fn a_truncation_finds_closed_segments() {
    let (_disk, _world, _set, logs) = world(1, FlushPolicy::Os);
    fill(&logs, 12);
    logs.iter().for_each(|log| assert!(log.flush().is_ok()));
    let slices: Vec<_> = (0..12).map(|at| read_at(&logs[0], at, Wait::Allowed).unwrap()).collect();
    let bytes: Vec<_> = slices.iter().map(|slice| slice.bytes().to_vec()).collect();
    read_all(&logs[1], Offset(0)).unwrap();
    assert_eq!(logs[0].truncate_to(Offset(4)).unwrap(), Offset(4));
    assert_eq!(read_all(&logs[0], Offset(0)).unwrap().len(), 4);
    fill(&logs[..1], 3);
    assert_eq!(read_all(&logs[0], Offset(0)).unwrap().len(), 7);
    assert!(slices.iter().zip(bytes).all(|(slice, bytes)| slice.bytes()[..] == bytes[..]));
}

#[test]
fn without_a_descriptor_requests_fail_and_nothing_goes_offline() {
    let (disk, _world, set, logs) = world(1, FlushPolicy::Os);
    fill(&logs, 12);
    logs.iter().for_each(|log| assert!(log.flush().is_ok()));
    read_all(&logs[1], Offset(0)).unwrap();
    let log = &logs[0];
    // The one that the budget keeps open is closed where it helps.
    disk.set_faults(|faults| faults.descriptors = Some(1));
    assert_eq!(read_all(&logs[2], Offset(0)).unwrap().len(), 12);
    disk.set_faults(|faults| faults.descriptors = Some(0));
    set.inner.context.files.list(Path::new("/data")).unwrap();
    assert!(matches!(read_at(log, 0, Wait::Allowed), Err(ReadError::OutOfFiles { .. })));
    for _ in 0..3 {
        let error = append(log, &batch(&["refused"])).unwrap_err();
        assert!(matches!(error, AppendError::OutOfFiles { .. }), "{error}");
    }
    set.run_due();
    assert!(logs.iter().all(|log| log.offline().is_none()) && set.failed_dirs().is_empty());
    disk.set_faults(|faults| faults.descriptors = None);
    append(log, &batch(&["again"])).unwrap();
    assert_eq!(read_all(log, Offset(0)).unwrap().len(), 13);
}
