//! A crash after every operation on the disk: what the next start finds is the log before the
//! compaction or after it, in each group of segments, and nothing else.

use super::*;

/// What a crash takes: nothing but the process, or what the kernel had not written.
#[derive(Debug, Clone, Copy)]
enum Crash {
    Kill,
    PowerCut(u64),
}

fn small_segments() -> (FaultyDisk, World) {
    compacted(|config| {
        config.log.segment_bytes = 1500;
        config.log.index_interval_bytes = 100;
        config.log.delete_retention_ms = 1000;
    })
}

/// Five or so segments, merged into two by a compaction, with a tombstone in them.
fn fill(log: &Log) {
    for i in 0..24 {
        put(log, &format!("key-{}", i % 7), &"v".repeat(if i < 12 { 150 } else { 300 }));
        if i == 9 {
            delete(log, "key-1");
        }
    }
    settle(log);
}

/// One life: fill, compact until the disk stops, crash, open. False when the compaction was done
/// before the disk stopped.
fn crash_after(changes: u64, crash: Crash) -> bool {
    let (disk, world) = small_segments();
    let (set, log) = world.open_log();
    fill(&log);
    set.checkpoint();
    let before = see(&log, 0);
    disk.set_faults(|faults| faults.changes_left = Some(changes));
    let result = log.compact();
    let mut left = 0;
    disk.set_faults(|faults| left = faults.changes_left.take().unwrap());
    let text = format!("after {changes} changes, {crash:?}, {result:?}");
    match crash {
        Crash::Kill => disk.kill(),
        Crash::PowerCut(seed) => disk.power_cut(&mut fastrand::Rng::with_seed(seed)),
    }
    drop((set, log));
    let (set, report) = world.open();
    assert!(report.damaged.is_empty() && report.failed.is_empty(), "{text}: {report:?}");
    let log = set.get(&partition()).unwrap();
    assert_eq!(leftovers(&log), [""; 0], "{text}");
    let found = see(&log, 0);
    assert!(found.iter().all(|seen| before.contains(seen)), "{text}: nothing is invented");
    for key in (0..7).map(|key| format!("key-{key}")) {
        let newest = |all: &[Seen]| all.iter().rfind(|s| s.key.as_ref() == Some(&key)).cloned();
        assert_eq!(newest(&found), newest(&before), "{text}: the newest of {key}");
    }
    assert_eq!(log.log_end(), Offset(25), "{text}");
    // The segments on the disk are those of before or of after, never a mixture.
    let bases: Vec<_> = log.segments.load().iter().map(|s| s.base_offset.0).collect();
    log.compact().unwrap();
    let kept: Vec<_> = see(&log, 0).iter().map(|seen| seen.offset).collect();
    assert_eq!(kept, (18..25).collect::<Vec<_>>(), "{text}: {bases:?}");
    put(&log, "more", "v");
    settle(&log);
    set.close();
    drop((set, log));
    let (_set, log) = world.open_log();
    assert_eq!(offsets(&log).len(), 8, "{text}");
    left == 0
}

fn everywhere(crash: impl Fn(u64) -> Crash) -> u64 {
    let stops = (0..).find(|&changes| !crash_after(changes, crash(changes))).unwrap();
    assert!(stops > 20, "a compaction changes the disk more than {stops} times");
    stops
}

#[test]
fn a_kill_after_any_change_of_the_disk_leaves_a_whole_log() {
    everywhere(|_| Crash::Kill);
}

#[test]
fn a_power_cut_after_any_change_of_the_disk_leaves_a_whole_log() {
    let seeds = std::env::var("OTTLA_COMPACTION_SEEDS").ok().and_then(|text| text.parse().ok());
    for seed in 0..seeds.unwrap_or(3) {
        everywhere(|changes| Crash::PowerCut(seed * 1000 + changes));
    }
}

#[test]
fn a_swap_that_fails_half_way_takes_the_log_offline_and_opening_it_anew_completes_it() {
    let (disk, world) = small_segments();
    let mut offline = 0;
    for changes in 0.. {
        let (set, log) = world.open_log();
        fill(&log);
        let before = see(&log, 0);
        disk.set_faults(|faults| faults.changes_left = Some(changes));
        let result = log.compact();
        disk.set_faults(|faults| faults.changes_left = None);
        if log.offline().is_some() {
            offline += 1;
            assert!(matches!(result, Err(CompactionError::Offline(_))), "{result:?}");
            let fresh = set.reopen(&partition()).unwrap();
            fresh.set_high_watermark(fresh.log_end());
            assert_eq!(leftovers(&fresh), [""; 0]);
            fresh.compact().unwrap();
            assert_eq!(see(&fresh, 0).len(), 7);
        } else {
            // Given up, with nothing left behind; or done.
            assert!(see(&log, 0).iter().all(|seen| before.contains(seen)));
        }
        set.delete(&partition(), topic_id()).unwrap();
        set.close();
        if result.is_ok() {
            break;
        }
    }
    assert!(offline > 5, "{offline} of the changes come after the commit");
}

#[test]
fn a_full_disk_puts_a_compaction_off() {
    let (disk, world) = small_segments();
    let (set, log) = world.open_log();
    fill(&log);
    disk.set_faults(|faults| faults.capacity = Some(0));
    set.run_due();
    assert!(log.uncleanable().unwrap().contains("free space"), "{:?}", log.uncleanable());
    assert_eq!(leftovers(&log), [""; 0]);
    assert!(log.offline().is_none());
    assert_eq!(see(&log, 0).len(), 25);
    disk.set_faults(|faults| faults.capacity = None);
    world.clock.advance(Duration::from_secs(30));
    set.run_due();
    assert_eq!(set.cleaner_usage().cleanings, 0, "it rests for a while");
    world.clock.advance(Duration::from_secs(31));
    set.run_due();
    assert_eq!(see(&log, 0).len(), 7);
    assert_eq!(log.uncleanable(), None);
}

#[test]
fn a_committed_copy_that_is_damaged_is_set_aside_and_its_sources_are_served() {
    let (disk, world) = small_segments();
    let (set, log) = world.open_log();
    fill(&log);
    let folder = log.folder();
    // As a crash right after the commit leaves it, and then a disk that lied.
    let swap = folder.join("00000000000000000000.log.swap");
    disk.open(&swap, OpenMode::Create).unwrap();
    disk.damage(&swap, |bytes| bytes.resize(200, 7));
    disk.kill();
    drop((set, log));
    let (set, report) = world.open();
    assert!(report.damaged.is_empty());
    let log = set.get(&partition()).unwrap();
    assert_eq!(see(&log, 0).len(), 25);
    assert_eq!(leftovers(&log), ["00000000000000000000.log.swap.damaged"]);
}
