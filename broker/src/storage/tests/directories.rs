//! Several log directories, some of them broken: what is served, what is not, and that nothing is
//! made anew that exists on a disk that is missing.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::storage::disk::faulty::FaultyDisk;

const A: &str = "/data/a";
const B: &str = "/data/b";

fn world() -> (FaultyDisk, World) {
    let disk = FaultyDisk::new(Path::new("/data"));
    let mut world = World::new(Arc::new(disk.clone()), Path::new(A));
    world.config.dirs.push(B.into());
    world.config.log.flush = FlushPolicy::Os;
    (disk, world)
}

fn name(partition: i32) -> TopicPartition {
    TopicPartition::new("logs", partition)
}

fn create(set: &LogSet, partition: i32) -> Result<Arc<Log>, LogSetError> {
    set.create(&name(partition), topic_id(), LogConfig::default())
}

/// Four partitions, two in each directory: even numbers in A.
fn fill(set: &LogSet) -> Vec<Arc<Log>> {
    let logs: Vec<_> = (0..4).map(|partition| create(set, partition).unwrap()).collect();
    for (number, log) in logs.iter().enumerate() {
        assert!(log.folder().starts_with([A, B][number % 2]));
        append(log, &batch(&[&format!("of {number}")])).unwrap();
    }
    logs
}

fn check(set: &LogSet, partitions: &[i32]) {
    for &partition in partitions {
        let log = set.get(&name(partition)).unwrap();
        let values = read_all(&log, Offset(0)).unwrap();
        assert_eq!(values, [(0, format!("of {partition}").into_bytes())]);
    }
}

#[test]
fn a_directory_that_is_broken_at_start_keeps_its_partitions_and_the_others_serve() {
    let (disk, world) = world();
    let (set, _) = world.open();
    fill(&set);
    set.close();
    drop(set);
    disk.set_faults(|faults| faults.dead = Some(B.into()));
    for _ in 0..2 {
        let (set, report) = world.open();
        assert_eq!((report.opened, report.failed_dirs.len(), report.clean), (2, 1, true));
        assert_eq!((set.failed_dirs().len(), set.usable_dirs()), (1, vec![A.into()]));
        check(&set, &[0, 2]);
        for partition in [1, 3] {
            let error = create(&set, partition).unwrap_err();
            assert!(matches!(error, LogSetError::Absent { .. }), "{error}");
            assert!(error.to_string().contains(B), "{error}");
            assert!(set.absence(&name(partition), topic_id()).is_some());
        }
        // Another topic of the name is none of those.
        assert!(set.absence(&name(1), TopicId::from_slice(&[9; 16]).unwrap()).is_none());
        assert_eq!(set.absent_count(), 2);
        let states = set.describe(|_| true);
        let offline = states.iter().find(|state| state.failed.is_some()).unwrap();
        assert_eq!((offline.path.as_path(), offline.logs.len()), (Path::new(B), 2));
        set.close();
    }
    disk.set_faults(|faults| faults.dead = None);
    let (set, report) = world.open();
    assert_eq!((report.opened, report.failed_dirs.len()), (4, 0));
    check(&set, &[0, 1, 2, 3]);
}

#[test]
fn a_new_partition_goes_to_a_directory_that_works_and_stays_known_there() {
    let (disk, world) = world();
    let (set, _) = world.open();
    fill(&set);
    set.close();
    drop(set);
    disk.set_faults(|faults| faults.dead = Some(B.into()));
    let (set, _) = world.open();
    assert!(create(&set, 7).unwrap().folder().starts_with(A));
    set.close();
    drop(set);
    disk.set_faults(|faults| faults.dead = Some(A.into()));
    let (set, report) = world.open();
    assert_eq!(report.opened, 2);
    check(&set, &[1, 3]);
    // Made while B was away: what B knows is older.
    assert!(create(&set, 0).is_err());
}

#[test]
fn a_topic_made_anew_while_a_disk_was_away_is_served_when_it_is_back() {
    let (disk, world) = world();
    let (set, _) = world.open();
    fill(&set);
    set.close();
    drop(set);
    disk.set_faults(|faults| faults.dead = Some(B.into()));
    let (set, _) = world.open();
    let newer = TopicId::from_slice(&[9; 16]).unwrap();
    let log = set.create(&name(1), newer, LogConfig::default()).unwrap();
    append(&log, &batch(&["of 1"])).unwrap();
    set.close();
    drop((set, log));
    disk.set_faults(|faults| faults.dead = None);
    for _ in 0..2 {
        let (set, report) = world.open();
        assert_eq!((report.opened, report.failed.len()), (4, 0), "{report:?}");
        let log = set.get(&name(1)).unwrap();
        assert!(log.topic_id() == newer && log.folder().starts_with(A));
        check(&set, &[0, 1, 2, 3]);
        set.close();
    }
    let stray = |entry: &disk::Entry| entry.name.starts_with("logs-1.") && entry.is_dir;
    assert!(disk.list(Path::new(B)).unwrap().iter().any(stray), "kept for a person");
}

#[test]
fn an_unmounted_disk_is_not_taken_for_a_new_one_until_somebody_says_so() {
    let (disk, world) = world();
    let (set, _) = world.open();
    fill(&set);
    set.close();
    drop(set);
    disk.rename(Path::new(B), Path::new("/data/away")).unwrap();
    for _ in 0..2 {
        let (set, report) = world.open();
        assert!(report.failed_dirs[0].1.contains("not mounted"), "{report:?}");
        assert!(create(&set, 1).is_err());
        set.close();
    }
    // The right disk again.
    disk.remove_dir_all(Path::new(B)).unwrap();
    disk.rename(Path::new("/data/away"), Path::new(B)).unwrap();
    let (set, _) = world.open();
    check(&set, &[0, 1, 2, 3]);
    set.close();
    drop(set);
    // A new one, on purpose.
    disk.remove_dir_all(Path::new(B)).unwrap();
    disk.create_dir_all(Path::new(B)).unwrap();
    disk.open(Path::new("/data/b/replaced"), OpenMode::Create).unwrap();
    let (set, report) = world.open();
    assert_eq!((report.opened, report.failed_dirs.len()), (2, 0));
    assert_eq!(create(&set, 1).unwrap().log_end(), Offset(0));
    check(&set, &[0, 2]);
}

#[test]
fn a_disk_unmounted_under_a_running_broker_takes_its_partitions_offline_and_is_not_written_to() {
    let (disk, world) = world();
    let (set, _) = world.open();
    let logs = fill(&set);
    disk.rename(Path::new(B), Path::new("/data/away")).unwrap();
    disk.create_dir_all(Path::new(B)).unwrap();
    set.checkpoint();
    let offline: Vec<_> = logs.iter().map(|log| log.offline().is_some()).collect();
    assert_eq!(offline, [false, true, false, true]);
    assert!(matches!(create(&set, 1), Err(LogSetError::Offline(_))));
    assert!(matches!(set.reopen(&name(1)), Err(LogSetError::Offline(_))));
    assert!(create(&set, 9).unwrap().folder().starts_with(A));
    check(&set, &[0, 2]);
    assert!(disk.list(Path::new(B)).unwrap().is_empty(), "nothing is put under the mount point");
    set.close();
    drop(set);
    assert!(disk.list(Path::new(B)).unwrap().is_empty());
}

#[test]
fn a_listener_is_told_of_what_fails_and_of_nothing_else() {
    let (disk, world) = world();
    let (set, _) = world.open();
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    set.on_trouble(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    fill(&set);
    set.checkpoint();
    assert_eq!(told.load(Ordering::SeqCst), 0);
    disk.rename(Path::new(B), Path::new("/data/away")).unwrap();
    disk.create_dir_all(Path::new(B)).unwrap();
    set.checkpoint();
    assert_eq!(told.load(Ordering::SeqCst), 3, "two logs and their directory");
    set.checkpoint();
    assert_eq!(told.load(Ordering::SeqCst), 3, "once");
}

#[test]
fn a_disk_that_dies_takes_its_partitions_offline_one_by_one_or_all_at_once() {
    for how in 0..3 {
        let (disk, world) = world();
        let (set, _) = world.open();
        let logs = fill(&set);
        disk.set_faults(|faults| faults.dead = Some(B.into()));
        match how {
            0 => assert!(matches!(append(&logs[1], &batch(&["x"])), Err(AppendError::Offline(_)))),
            1 => assert!(matches!(read_all(&logs[1], Offset(0)), Err(ReadError::Offline(_)))),
            _ => assert!(logs[1].flush().is_err()),
        }
        assert!(logs[1].offline().is_some());
        assert!(set.reopen(&name(1)).is_err());
        set.checkpoint();
        assert!(logs[3].offline().is_some());
        assert_eq!(set.usable_dirs(), [Path::new(A)]);
        check(&set, &[0, 2]);
        append(&logs[0], &batch(&["goes on"])).unwrap();
        disk.set_faults(|faults| faults.dead = Some("/data".into()));
        set.checkpoint();
        assert!(set.usable_dirs().is_empty());
    }
}

#[test]
fn a_partition_found_in_two_directories_is_served_from_neither() {
    let (disk, world) = world();
    let (set, _) = world.open();
    fill(&set);
    set.close();
    drop(set);
    let from = Path::new("/data/a/logs-0");
    let to = Path::new("/data/b/logs-0");
    disk.create_dir_all(to).unwrap();
    for entry in disk.list(from).unwrap() {
        let bytes = disk::read_file(&disk, &from.join(&entry.name), 1 << 20).unwrap();
        disk::replace_file(&disk, &to.join(&entry.name), &bytes).unwrap();
    }
    let (set, report) = world.open();
    assert_eq!((report.opened, report.failed_dirs.len()), (3, 0));
    assert!(report.failed.iter().all(|(_, cause)| cause.contains(A) && cause.contains(B)));
    assert!(set.get(&name(0)).is_none() && create(&set, 0).is_err());
    check(&set, &[1, 2, 3]);
    set.close();
    drop(set);
    disk.remove_dir_all(to).unwrap();
    check(&world.open().0, &[0, 1, 2, 3]);
}

#[test]
fn directories_of_another_broker_and_the_same_one_twice_are_refused() {
    let (disk, mut world) = world();
    let (set, _) = world.open();
    set.close();
    drop(set);
    world.config.broker_id = 2;
    let opened = LogSet::open(world.config.clone(), world.disk.clone(), world.clock.clone());
    assert!(matches!(opened, Err(OpenError::OtherBroker { found: 1, asked: 2, .. })));
    world.config.broker_id = 1;
    let identity = disk::read_file(&disk, Path::new("/data/a/directory"), 4096).unwrap();
    disk::replace_file(&disk, Path::new("/data/b/directory"), &identity).unwrap();
    let (_set, report) = world.open();
    assert!(report.failed_dirs[0].1.contains("same directory"), "{report:?}");
}
