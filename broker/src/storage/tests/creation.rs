//! Many logs made at once.

use std::time::Instant;

use super::*;
use crate::storage::disk::faulty::FaultyDisk;

const DIRS: [&str; 2] = ["/data/a", "/data/b"];

fn new(number: i32) -> NewLog {
    let partition = TopicPartition::new("logs", number);
    NewLog { partition, topic_id: topic_id(), config: LogConfig::default() }
}

#[test]
fn many_logs_are_made_at_once_in_order_and_outlive_a_power_cut() {
    for seed in 0..8 {
        let disk = FaultyDisk::new(Path::new("/data"));
        let mut world = World::new(Arc::new(disk.clone()), Path::new(DIRS[0]));
        world.config.dirs.push(DIRS[1].into());
        let (set, _) = world.open();
        let there = set.create_all(&[new(3)]).pop().unwrap().unwrap();
        append(&there, &batch(&["kept"])).unwrap();
        let mut wanted: Vec<NewLog> = (0..40).map(new).collect();
        wanted.insert(7, new(5));
        wanted.push(NewLog { topic_id: TopicId::from_slice(&[8; 16]).unwrap(), ..new(3) });
        let created = set.create_all(&wanted);
        assert_eq!(created.len(), 42);
        for (log, wanted) in created[..41].iter().zip(&wanted) {
            assert_eq!(log.as_ref().unwrap().partition(), &wanted.partition);
        }
        assert!(Arc::ptr_eq(created[5].as_ref().unwrap(), created[7].as_ref().unwrap()));
        assert!(Arc::ptr_eq(created[3].as_ref().unwrap(), &there));
        // Asked for under its own name before, in the same call: the first one counts.
        assert!(Arc::ptr_eq(created[41].as_ref().unwrap(), &there));
        let other = NewLog { topic_id: TopicId::from_slice(&[8; 16]).unwrap(), ..new(3) };
        let refused = set.create_all(&[other]).pop().unwrap();
        assert!(matches!(refused, Err(LogSetError::OtherTopic { .. })));
        let in_first = set.logs().iter().filter(|log| log.folder().starts_with(DIRS[0])).count();
        assert_eq!((in_first, set.logs().len()), (20, 40), "spread over the directories");

        disk.power_cut(&mut fastrand::Rng::with_seed(seed));
        let (set, report) = world.open();
        assert_eq!((report.opened, report.failed.len()), (40, 0), "seed {seed}");
        assert!((0..40).all(|number| set.get(&new(number).partition).is_some()));
    }
}

#[test]
fn a_disk_that_fails_meanwhile_costs_its_own_logs() {
    let disk = FaultyDisk::new(Path::new("/data"));
    let mut world = World::new(Arc::new(disk.clone()), Path::new(DIRS[0]));
    world.config.dirs.push(DIRS[1].into());
    let (set, _) = world.open();
    disk.set_faults(|faults| faults.failing_writes = Some("b/logs-".to_owned()));
    let created = set.create_all(&(0..10).map(new).collect::<Vec<_>>());
    let failed = created.iter().filter(|log| matches!(log, Err(LogSetError::Io { .. }))).count();
    assert_eq!((failed, set.logs().len()), (5, 5));
    disk.set_faults(|faults| faults.failing_writes = None);
    let created = set.create_all(&(0..10).map(new).collect::<Vec<_>>());
    assert!(created.iter().all(Result::is_ok) && set.logs().len() == 10);
}

/// Prints how long logs take on the disk of this machine; how many by the environment variable
/// OTTLA_LOGS.
#[test]
fn making_logs_at_once_and_one_by_one() {
    let count = std::env::var("OTTLA_LOGS").ok().and_then(|n| n.parse().ok()).unwrap_or(24);
    let dir = tempfile::tempdir().unwrap();
    let (set, _) = World::real(dir.path()).open();
    let begun = Instant::now();
    assert!((0..count).all(|number| set.create_all(&[new(number)])[0].is_ok()));
    let one_by_one = begun.elapsed();
    let begun = Instant::now();
    let more: Vec<_> = (count..2 * count).map(new).collect();
    assert!(set.create_all(&more).iter().all(Result::is_ok));
    println!("{count} logs: {one_by_one:?} one by one, {:?} at once", begun.elapsed());
    assert_eq!(set.logs().len(), 2 * count as usize);
}
