//! Files torn, missing, zeroed, filled with garbage: what is good is served, what is not is said,
//! and nothing panics.

use super::*;
use crate::storage::disk::faulty::FaultyDisk;

/// A log of 40 batches of one record in several segments, all flushed, and its recovery point
/// written down; then killed.
struct Wreck {
    disk: FaultyDisk,
    world: World,
    folder: std::path::PathBuf,
    segments: Vec<i64>,
}

const RECORDS: i64 = 40;

impl Wreck {
    fn new(checkpointed: bool) -> Self {
        let dir = Path::new("/data");
        let disk = FaultyDisk::new(dir);
        let mut world = World::new(Arc::new(disk.clone()), dir);
        world.config.log.segment_bytes = 2000;
        world.config.log.index_interval_bytes = 300;
        let (set, log) = world.open_log();
        for i in 0..RECORDS {
            append(&log, &batch(&[&value(i)])).unwrap();
        }
        set.run_due();
        if checkpointed {
            log.flush().unwrap();
            set.checkpoint();
        }
        let folder = log.folder();
        let mut segments: Vec<i64> = disk
            .list(&folder)
            .unwrap()
            .iter()
            .filter_map(|entry| entry.name.strip_suffix(".log")?.parse().ok())
            .collect();
        segments.sort_unstable();
        assert!(segments.len() >= 4);
        disk.kill();
        Self { disk, world, folder, segments }
    }

    fn path(&self, segment: usize, extension: &str) -> std::path::PathBuf {
        self.folder.join(format!("{:020}.{extension}", self.segments[segment]))
    }

    /// Opens the log; checks that every record it gives is right, and says which ones it gives.
    fn open(&self) -> (LogSet, StartReport, Vec<i64>) {
        let (set, report) = self.world.open();
        let Some(log) = set.get(&partition()) else { return (set, report, Vec::new()) };
        let offsets = readable(&log);
        (set, report, offsets)
    }
}

fn value(i: i64) -> String {
    format!("value {i} {}", "p".repeat(100))
}

/// Reads all of the log, stepping over damaged ranges as told.
fn readable(log: &Log) -> Vec<i64> {
    let mut offsets = Vec::new();
    let mut offset = log.log_start();
    while offset < log.log_end() {
        let limits = ReadLimits { max_bytes: 700, upto: log.log_end(), first_batch_whole: true };
        match log.read(Cursor::at(offset), limits, Wait::Allowed) {
            Err(ReadError::Damaged { from, to }) => {
                assert!(from <= offset && offset < to);
                offset = to;
            }
            Err(error) => panic!("{error}"),
            Ok(slice) => {
                // The base offset is outside the CRC: a reader checks that batches follow.
                let mut next = None;
                for batch in Batches::new(slice.bytes()) {
                    let Ok(batch) = batch else { break };
                    let header = batch.header();
                    if next.is_some_and(|next| next != header.base_offset)
                        || header.base_offset > offset && next.is_none()
                        || header.next_offset() > slice.next_offset()
                    {
                        break;
                    }
                    next = Some(header.next_offset());
                    for record in batch.records().map(Result::unwrap) {
                        assert_eq!(record.value.unwrap(), value(record.offset.0).as_bytes());
                        offsets.push(record.offset.0);
                    }
                }
                assert!(slice.next_offset() > offset);
                offset = slice.next_offset();
            }
        }
    }
    offsets
}

fn all_but(missing: std::ops::Range<i64>) -> Vec<i64> {
    (0..RECORDS).filter(|offset| !missing.contains(offset)).collect()
}

#[test]
fn garbage_above_the_recovery_point_ends_the_log_and_is_kept_aside() {
    for garbage in [&b"garbage"[..], &[0xff; 5000]] {
        let wreck = Wreck::new(true);
        let last = wreck.segments.len() - 1;
        wreck.disk.damage(&wreck.path(last, "log"), |bytes| bytes.extend_from_slice(garbage));
        let (set, report, offsets) = wreck.open();
        assert_eq!(offsets, all_but(0..0));
        assert_eq!(report.cut_bytes, garbage.len() as u64);
        assert!(report.damaged.is_empty());
        let mut kept = Vec::new();
        wreck.disk.damage(&wreck.path(last, "log.cut"), |bytes| kept.clone_from(bytes));
        assert_eq!(kept, garbage);
        let log = set.get(&partition()).unwrap();
        assert_eq!(append(&log, &batch(&["next"])).unwrap().base_offset.0, RECORDS);
    }
}

#[test]
fn unflushed_segments_after_a_bad_batch_are_put_aside_whole() {
    let wreck = Wreck::new(false);
    wreck.disk.damage(&wreck.path(1, "log"), |bytes| bytes[100] ^= 1);
    let (_set, report, offsets) = wreck.open();
    assert_eq!(offsets, (0..wreck.segments[1]).collect::<Vec<_>>());
    assert!(report.cut_bytes > 2000 && report.damaged.is_empty());
    let names = wreck.disk.list(&wreck.folder).unwrap();
    let cut = names.iter().filter(|entry| entry.name.ends_with(".log.cut")).count();
    assert_eq!(cut, wreck.segments.len() - 1);
}

#[test]
fn a_bad_batch_below_the_recovery_point_is_a_damaged_range_and_the_rest_is_served() {
    let wreck = Wreck::new(true);
    let last = wreck.segments.len() - 1;
    let first = wreck.segments[last];
    wreck.disk.damage(&wreck.path(last, "log"), |bytes| bytes[30] ^= 1);
    // Without the index the segment is read from its beginning.
    wreck.disk.damage(&wreck.path(last, "index"), Vec::clear);
    let (set, report, offsets) = wreck.open();
    assert_eq!(offsets, all_but(first..first + 1));
    assert_eq!(report.damaged.len(), 1);
    assert_eq!((report.damaged[0].1.from.0, report.damaged[0].1.to.0), (first, first + 1));
    // Known over a clean restart, without reading anything again.
    set.close();
    drop(set);
    let (set, report, offsets) = wreck.open();
    assert_eq!(offsets, all_but(first..first + 1));
    assert_eq!(report.damaged.len(), 1);
    let log = set.get(&partition()).unwrap();
    append(&log, &batch(&["next"])).unwrap();
}

#[test]
fn damage_that_only_a_read_meets_is_found_then() {
    let wreck = Wreck::new(true);
    let first = wreck.segments[1];
    // A header in the middle of a closed segment that nobody reads at start.
    let len = batch(&[&value(first)]).len();
    wreck.disk.damage(&wreck.path(1, "log"), |bytes| bytes[len..len + 61].fill(0));
    let (set, report, offsets) = wreck.open();
    assert!(report.damaged.is_empty());
    assert!(offsets.iter().all(|offset| *offset != first + 1));
    assert_eq!(offsets, all_but(first + 1..first + 2));
    let log = set.get(&partition()).unwrap();
    assert_eq!(log.damaged().len(), 1);
    let limits = ReadLimits { max_bytes: 700, upto: log.log_end(), first_batch_whole: true };
    let error = log.read(Cursor::at(Offset(first + 1)), limits, Wait::Never).unwrap_err();
    assert!(
        matches!(error, ReadError::Damaged { from, to } if from.0 == first + 1 && to.0 == first + 2)
    );
}

#[test]
fn a_missing_segment_leaves_a_hole_and_a_missing_tail_does_not_give_offsets_twice() {
    let wreck = Wreck::new(true);
    wreck.disk.remove_file(&wreck.path(1, "log")).unwrap();
    let (_set, report, offsets) = wreck.open();
    assert_eq!(offsets, all_but(wreck.segments[1]..wreck.segments[2]));
    assert_eq!(report.damaged.len(), 1);

    let wreck = Wreck::new(true);
    let last = wreck.segments.len() - 1;
    wreck.disk.damage(&wreck.path(last, "log"), Vec::clear);
    let (set, report, offsets) = wreck.open();
    assert_eq!(offsets, all_but(wreck.segments[last]..RECORDS));
    assert_eq!(report.damaged.len(), 1);
    let log = set.get(&partition()).unwrap();
    assert_eq!(append(&log, &batch(&["next"])).unwrap().base_offset.0, RECORDS);

    let wreck = Wreck::new(true);
    for segment in 0..wreck.segments.len() {
        wreck.disk.remove_file(&wreck.path(segment, "log")).unwrap();
    }
    let (set, _, _) = wreck.open();
    let log = set.get(&partition()).unwrap();
    assert_eq!((log.log_start().0, log.log_end().0), (RECORDS, RECORDS));
}

#[test]
fn zeroed_and_missing_files_beside_the_log_cost_a_scan_and_nothing_else() {
    let names = ["index", "timeindex", "snapshot", "window"];
    for change in [
        |bytes: &mut Vec<u8>| bytes.fill(0),
        |bytes: &mut Vec<u8>| bytes.clear(),
        |bytes: &mut Vec<u8>| {
            bytes.truncate(bytes.len() / 2 + 1);
        },
    ] {
        let wreck = Wreck::new(true);
        for entry in wreck.disk.list(&wreck.folder).unwrap() {
            let extension = entry.name.rsplit('.').next().unwrap();
            if names.contains(&extension) || entry.name == "leader-epoch-checkpoint" {
                wreck.disk.damage(&wreck.folder.join(&entry.name), change);
            }
        }
        wreck.disk.damage(Path::new("/data/positions-checkpoint"), change);
        let (set, report, offsets) = wreck.open();
        assert_eq!(offsets, all_but(0..0));
        assert!(report.damaged.is_empty() && report.cut_bytes == 0 && report.scanned_bytes > 0);
        let log = set.get(&partition()).unwrap();
        assert_eq!(log.latest_epoch(), LeaderEpoch(0));
        assert_eq!(log.offset_for_time(0, log.log_end()).unwrap().unwrap().offset, Offset(0));
    }
}

#[test]
fn a_folder_whose_topic_id_is_lost_is_never_served() {
    let wreck = Wreck::new(true);
    wreck.disk.remove_file(&wreck.folder.join("partition.metadata")).unwrap();
    let (set, _, offsets) = wreck.open();
    assert_eq!(offsets, all_but(0..0), "the checkpoint knows the id too");
    assert_eq!(set.get(&partition()).unwrap().topic_id(), topic_id());
    drop(set);
    wreck.disk.kill();
    wreck.disk.remove_file(&wreck.folder.join("partition.metadata")).unwrap();
    wreck.disk.remove_file(Path::new("/data/positions-checkpoint")).unwrap();
    let (set, report, _) = wreck.open();
    assert!(set.get(&partition()).is_none() && report.failed.len() == 1);
    let names = wreck.disk.list(Path::new("/data")).unwrap();
    assert!(names.iter().any(|entry| entry.name.ends_with("-stray")));
}

#[test]
fn no_flipped_byte_and_no_cut_makes_it_panic_or_give_a_wrong_record() {
    for checkpointed in [false, true] {
        let whole = Wreck::new(checkpointed);
        for segment in [0, whole.segments.len() - 1] {
            let mut len = 0;
            whole.disk.damage(&whole.path(segment, "log"), |bytes| len = bytes.len());
            for at in (0..len).step_by(23) {
                let flipped = Wreck::new(checkpointed);
                flipped.disk.damage(&flipped.path(segment, "log"), |bytes| bytes[at] ^= 0x55);
                let (_, _, offsets) = flipped.open();
                assert!(checkpointed || offsets.is_sorted());
                if checkpointed {
                    assert!(offsets.len() as i64 >= RECORDS - 8, "{segment} {at}: {offsets:?}");
                }
                let cut = Wreck::new(checkpointed);
                cut.disk.damage(&cut.path(segment, "log"), |bytes| bytes.truncate(at));
                let (set, _, _) = cut.open();
                let log = set.get(&partition()).unwrap();
                let next = append(&log, &batch(&["next"])).unwrap();
                assert!(!checkpointed || next.base_offset.0 == RECORDS);
            }
        }
    }
}

#[test]
fn a_leader_epoch_that_is_not_the_histories_is_damage_when_somebody_asks() {
    let wreck = Wreck::new(true);
    let (set, _, offsets) = wreck.open();
    assert_eq!(offsets.len() as i64, RECORDS);
    let log = set.get(&partition()).unwrap();
    let segment = wreck.segments[1];
    (segment..segment + 3).for_each(|offset| log.verify(Offset(offset)).unwrap());
    wreck.disk.damage(&wreck.path(1, "log"), |bytes| bytes[15] ^= 4);
    let error = log.verify(Offset(segment)).unwrap_err();
    let (from, to) = (Offset(segment), Offset(segment + 1));
    assert!(
        matches!(error, ReadError::Damaged { from: f, to: t } if (f, t) == (from, to)),
        "{error}"
    );
    log.verify(to).unwrap();
}

#[test]
fn entries_in_the_middle_of_an_index_are_believed_only_where_the_log_agrees() {
    let dir = Path::new("/data");
    let disk = FaultyDisk::new(dir);
    let mut world = World::new(Arc::new(disk.clone()), dir);
    world.config.log.index_interval_bytes = 0;
    let (set, log) = world.open_log();
    for i in 0..RECORDS {
        append(&log, &batch_of(&[value(i).as_bytes()], START_MS + i, ProducerStamp::NONE)).unwrap();
    }
    let folder = log.folder();
    drop(log);
    set.close();
    drop(set);
    let mut random = fastrand::Rng::with_seed(3);
    for (extension, len) in [("index", 8), ("timeindex", 12)] {
        disk.damage(&folder.join(format!("{:020}.{extension}", 0)), |bytes| {
            let entries = bytes.len() / len;
            assert!(entries > 20, "{entries}");
            // All but the last are mixed, and some are of no place at all.
            for at in 0..entries - 1 {
                let other = random.usize(0..entries - 1);
                (0..len).for_each(|i| bytes.swap(at * len + i, other * len + i));
                if random.u8(0..4) == 0 {
                    bytes[at * len + random.usize(0..len)] ^= 1 << random.u8(0..8);
                }
            }
        });
    }
    let (set, report) = world.open();
    assert!(report.clean);
    let log = set.get(&partition()).unwrap();
    for i in 0..RECORDS {
        assert_eq!(read_all(&log, Offset(i)).unwrap()[0], (i, value(i).into_bytes()));
        log.verify(Offset(i)).unwrap();
        let found = log.offset_for_time(START_MS + i, log.log_end()).unwrap().unwrap();
        assert_eq!((found.offset, found.timestamp), (Offset(i), START_MS + i));
    }
    assert!(log.damaged().is_empty());
}
