//! A disk that is almost full: what is refused, what goes on, and that it ends by itself.

use std::time::Duration;

use super::*;
use crate::storage::disk::Space;
use crate::storage::disk::faulty::FaultyDisk;

#[test]
fn below_the_mark_produce_is_refused_and_everything_else_goes_on_until_there_is_room() {
    let disk = FaultyDisk::new(Path::new("/data"));
    let mut world = World::new(Arc::new(disk.clone()), Path::new("/data"));
    world.config.free_mark = FreeMark { bytes: 1000, percent: 50 };
    world.config.log.segment_bytes = 400;
    let (set, log) = world.open_log();
    for number in 0..10 {
        append(&log, &batch(&[&format!("{number} {}", "x".repeat(100))])).unwrap();
    }
    let free = |bytes| {
        let space = Some(Space { total: 1_000_000, free: bytes });
        disk.set_faults(|faults| faults.space = space);
        world.clock.advance(Duration::from_secs(1));
        set.run_due();
    };
    free(1000);
    append(&log, &batch(&["at the mark"])).unwrap();
    log.set_high_watermark(log.log_end());
    log.flush().unwrap();
    log.set_config(LogConfig { retention_bytes: Some(400), ..world.config.log.clone() });
    let before = log.log_start();
    free(999);
    let error = append(&log, &batch(&["refused"])).unwrap_err();
    assert!(matches!(error, AppendError::LowSpace { free: 999, mark: 1000, .. }), "{error}");
    assert!(log.log_start() > before, "retention makes room at once");
    let state = set.describe(|_| true).remove(0);
    assert!(state.low && state.space.free == 999 && state.failed.is_none());
    read_all(&log, log.log_start()).unwrap();
    log.truncate_to(Offset(10)).unwrap();
    set.create(&TopicPartition::new("other", 0), topic_id(), LogConfig::default()).unwrap();
    set.checkpoint();
    free(1249);
    assert!(append(&log, &batch(&["refused"])).is_err(), "not a quarter above the mark");
    free(1250);
    assert_eq!(append(&log, &batch(&["again"])).unwrap().base_offset, Offset(10));
}

#[test]
fn a_fast_producer_does_not_outrun_the_look_at_the_disk() {
    let disk = FaultyDisk::new(Path::new("/data"));
    let mut world = World::new(Arc::new(disk.clone()), Path::new("/data"));
    world.config.free_mark = FreeMark { bytes: 8000, percent: 0 };
    let (_set, log) = world.open_log();
    append(&log, &batch(&["one"])).unwrap();
    disk.set_faults(|faults| faults.space = Some(Space { total: 1_000_000, free: 7000 }));
    // No time passes.
    let refused = (0..4).position(|_| append(&log, &batch(&[&"x".repeat(500)])).is_err());
    assert!(refused.is_some_and(|count| count > 0), "{refused:?}");
}

#[test]
fn a_start_on_an_almost_full_disk_knows_it() {
    let disk = FaultyDisk::new(Path::new("/data"));
    let world = World::new(Arc::new(disk.clone()), Path::new("/data"));
    disk.set_faults(|faults| faults.space = Some(Space { total: 1_000_000, free: 7000 }));
    let (_set, log) = world.open_log();
    assert!(matches!(append(&log, &batch(&["x"])), Err(AppendError::LowSpace { .. })));
}
