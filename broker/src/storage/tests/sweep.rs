//! One thing wrong with the files of a small log, at every place in turn: whatever it is, opening
//! and reading do not panic, no wrong record is given out, what is not given out is reported, and
//! appends go on.
//!
//! Reads as a native consumer does: it checks what it gets, and has the broker verify what it
//! doubts. `OTTLA_SWEEP=all` takes every place with every mask; the default takes them in turn.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use proto::record::Batch;

use super::*;
use crate::storage::disk::faulty::FaultyDisk;

type Image = BTreeMap<PathBuf, Vec<u8>>;

const DIR: &str = "/data";
const MASKS: [u8; 4] = [0x01, 0x80, 0xff, 0x54];
const PRODUCER: i64 = 7;

/// How the broker stopped before the files went bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Cleanly.
    Clean,
    /// Killed, with all of it flushed and written down.
    Flushed,
    /// Killed, with the recovery point in the middle.
    Half,
    /// Killed before a checkpoint was ever written.
    NoCheckpoint,
}

const STOPS: [Stop; 4] = [Stop::Clean, Stop::Flushed, Stop::Half, Stop::NoCheckpoint];

/// What was written, and the files it lies in.
struct Written {
    stop: Stop,
    image: Image,
    /// Value and timestamp by offset.
    records: Vec<(String, i64)>,
    /// Batches by their offsets.
    batches: Vec<Range<i64>>,
    /// At or above it the log may end early.
    recovery_point: i64,
    segments: Vec<i64>,
    /// The last batch, to send again, and its first offset.
    last: (Bytes, i64),
}

fn world(disk: &FaultyDisk) -> World {
    let mut world = World::new(Arc::new(disk.clone()), Path::new(DIR));
    world.config.log.segment_bytes = 420;
    world.config.log.index_interval_bytes = 90;
    world.config.log.retention_ms = None;
    world
}

impl Written {
    fn new(stop: Stop) -> Self {
        let disk = FaultyDisk::new(Path::new(DIR));
        let world = world(&disk);
        let (set, log) = world.open_log();
        let (mut records, mut batches) = (Vec::new(), Vec::new());
        let (mut recovery_point, mut last) = (0, (Bytes::new(), 0));
        for (number, count) in [1, 3, 2, 1, 4, 1, 2, 3, 1].into_iter().enumerate() {
            let first = records.len() as i64;
            let time = START_MS + number as i64 * 1000;
            let values: Vec<_> = (0..count).map(|i| format!("value {}", first + i)).collect();
            let stamp =
                ProducerStamp { id: PRODUCER, epoch: 0, base_sequence: records.len() as i32 };
            let bytes: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
            last = (batch_of(&bytes, time, stamp), first);
            append(&log, &last.0).unwrap();
            records.extend(values.into_iter().map(|value| (value, time)));
            batches.push(first..first + count);
            if stop == Stop::Half && number == 4 {
                set.run_due();
                log.flush().unwrap();
                set.checkpoint();
                recovery_point = records.len() as i64;
            }
        }
        match stop {
            Stop::Clean => set.close(),
            Stop::Flushed => {
                set.run_due();
                log.flush().unwrap();
                set.checkpoint();
            }
            Stop::Half | Stop::NoCheckpoint => set.run_due(),
        }
        disk.kill();
        let mut image = disk.image();
        if stop == Stop::NoCheckpoint {
            image.remove(&Path::new(DIR).join("positions-checkpoint"));
        }
        let names = image.keys().filter_map(|path| path.file_name()?.to_str());
        let segments: Vec<i64> =
            names.filter_map(|name| name.strip_suffix(".log")?.parse().ok()).collect();
        assert_eq!(segments.len(), 3, "{segments:?}");
        match stop {
            Stop::Clean | Stop::Flushed => recovery_point = records.len() as i64,
            Stop::NoCheckpoint => recovery_point = segments[2],
            Stop::Half => {}
        }
        Self { stop, image, records, batches, recovery_point, segments, last }
    }

    fn path(&self, segment: usize, extension: &str) -> PathBuf {
        let name = format!("{:020}.{extension}", self.segments[segment]);
        Path::new(DIR).join(partition().to_string()).join(name)
    }

    /// Files of one kind, or all.
    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let wanted = |path: &&PathBuf| path.to_string_lossy().ends_with(extension);
        self.image.keys().filter(wanted).cloned().collect()
    }

    /// Opens what became of the files and judges it.
    fn judge(&self, what: &str, change: impl FnOnce(&mut Image)) -> Outcome {
        let mut image = self.image.clone();
        change(&mut image);
        let disk = FaultyDisk::of_image(Path::new(DIR), &image);
        let what = format!("{what} after {:?}", self.stop);
        let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let world = world(&disk);
            let (set, _) = world.open();
            let log = set.get(&partition()).expect("the partition is dropped");
            let outcome = self.check(&log);
            if outcome.missing.is_empty() {
                self.check_beside(&log);
            }
            self.check_goes_on(&world, set, &outcome);
            outcome
        }));
        judged.unwrap_or_else(|panic| {
            eprintln!("the sweep failed with: {what}");
            std::panic::resume_unwind(panic)
        })
    }

    /// Reads all, and checks that what is missing is reported.
    fn check(&self, log: &Log) -> Outcome {
        assert_eq!(log.topic_id(), topic_id());
        let read = read_checked(log);
        let end = log.log_end().0;
        for (offset, value) in &read {
            let written = self.records.get(*offset as usize);
            let (written, _) = written.unwrap_or_else(|| panic!("offset {offset} was invented"));
            assert_eq!(value, written.as_bytes(), "a wrong record at {offset}");
        }
        let damage = log.damaged();
        let start = log.log_start().0;
        assert!(end >= self.recovery_point, "the log ends at {end} in what was flushed");
        for offset in start..end.min(self.records.len() as i64) {
            let reported = damage.iter().any(|range| range.contains(Offset(offset)));
            assert!(
                reported != read.contains_key(&offset),
                "offset {offset}: given out {}, reported {reported}: {damage:?}",
                read.contains_key(&offset)
            );
        }
        let missing = (0..self.records.len() as i64).filter(|o| !read.contains_key(o)).collect();
        Outcome { missing, start, end }
    }

    /// Times are found and a retry is told, as far as batches are all there.
    fn check_beside(&self, log: &Log) {
        for (offset, (_, time)) in (0..).zip(&self.records) {
            let first = self.records.partition_point(|(_, other)| other < time) as i64;
            let found = log.offset_for_time(*time, log.log_end()).unwrap();
            assert_eq!(found.map(|found| found.offset.0), Some(first), "time of {offset}");
        }
        let (batch, first) = &self.last;
        let again = append(log, batch).unwrap();
        assert_eq!(again.base_offset.0, *first, "a retry was appended again");
    }

    /// Appends, and opens it once more.
    fn check_goes_on(&self, world: &World, set: LogSet, outcome: &Outcome) {
        let log = set.get(&partition()).unwrap();
        let next = append(&log, &batch(&["next"])).unwrap().base_offset;
        assert_eq!(next.0, outcome.end);
        let damaged = log.damaged();
        set.close();
        drop((log, set));
        let (set, report) = world.open();
        let log = set.get(&partition()).expect("the partition is dropped by the second start");
        assert_eq!(report.cut_bytes, 0);
        let again = read_checked(&log);
        assert_eq!(again.get(&next.0).map(Vec::as_slice), Some(&b"next"[..]));
        for (offset, value) in again.range(..next.0) {
            assert!(!outcome.missing.contains(offset), "{offset} came back");
            assert_eq!(value, self.records[*offset as usize].0.as_bytes());
        }
        assert_eq!(again.range(..next.0).count() + outcome.missing.len(), self.records.len());
        assert_eq!(log.damaged(), damaged, "damage is remembered");
    }

    /// Flips bytes of the files, each place with one mask after the other or in turn.
    fn flip_all(&self, files: &[PathBuf], judge: impl Fn(&Self, &str, &PathBuf, usize, u8)) {
        let all = is_whole();
        for path in files {
            for at in 0..self.image[path].len() {
                for (number, mask) in MASKS.into_iter().enumerate() {
                    if all || (at + self.stop as usize) % MASKS.len() == number {
                        judge(
                            self,
                            &format!("{} byte {at} ^ {mask:#x}", path.display()),
                            path,
                            at,
                            mask,
                        );
                    }
                }
            }
        }
    }

    /// The batch in which a byte of a segment lies.
    fn batch_of_byte(&self, segment: usize, at: usize) -> Range<i64> {
        let mut position = 0;
        for batch in self.batches.iter().filter(|batch| batch.start >= self.segments[segment]) {
            let bytes = &self.image[&self.path(segment, "log")][position..];
            position += Batch::parse(bytes).unwrap().header().size_in_bytes();
            if at < position {
                return batch.clone();
            }
        }
        panic!("no batch at {at}")
    }
}

/// Whether to take every place with everything.
fn is_whole() -> bool {
    std::env::var("OTTLA_SWEEP").is_ok_and(|value| value == "all")
}

/// What a judged log gave.
struct Outcome {
    /// Offsets that were not given out.
    missing: Vec<i64>,
    start: i64,
    end: i64,
}

/// Reads all of the log as a consumer does; values by offset.
fn read_checked(log: &Log) -> BTreeMap<i64, Vec<u8>> {
    let mut read = BTreeMap::new();
    let mut cursor = Cursor::at(log.log_start());
    while cursor.offset() < log.log_end() {
        let limits = ReadLimits { max_bytes: 300, upto: log.log_end(), first_batch_whole: true };
        let slice = match log.read(cursor, limits, Wait::Allowed) {
            Ok(slice) => slice,
            Err(ReadError::Damaged { from, to }) => {
                assert!(from <= cursor.offset() && cursor.offset() < to);
                cursor = Cursor::at(to);
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        assert!(!slice.is_empty(), "reading stands still at {}", cursor.offset());
        let mut wanted = cursor.offset();
        if let Some(doubt) = take(slice.bytes(), &mut wanted, &mut read) {
            match log.verify(wanted) {
                Err(ReadError::Damaged { from, to }) => assert!(from <= wanted && wanted < to),
                other => panic!("{doubt} at {wanted}, and the broker says {other:?}"),
            }
            cursor = Cursor::at(wanted);
            continue;
        }
        assert_eq!(wanted, slice.next_offset());
        cursor = slice.next();
    }
    read
}

/// Takes records from `wanted` on; what made it stop, if not the end.
fn take(bytes: &[u8], wanted: &mut Offset, read: &mut BTreeMap<i64, Vec<u8>>) -> Option<String> {
    let mut rest = bytes;
    let mut first = true;
    while !rest.is_empty() {
        let batch = match Batch::parse(rest) {
            Ok(batch) => batch,
            Err(error) => return Some(error.to_string()),
        };
        let header = batch.header().clone();
        let fits =
            if first { header.base_offset <= *wanted } else { header.base_offset == *wanted };
        if !fits || header.next_offset() <= *wanted {
            return Some(format!("batch {} does not follow", header.base_offset));
        }
        for record in batch.records() {
            let record = record.unwrap();
            if record.offset >= *wanted {
                read.insert(record.offset.0, record.value.unwrap().to_vec());
            }
        }
        *wanted = header.next_offset();
        first = false;
        rest = &rest[header.size_in_bytes()..];
    }
    None
}

#[test]
fn a_flipped_byte_of_a_segment_costs_its_batch_and_no_more() {
    for stop in STOPS {
        let written = Written::new(stop);
        for segment in 0..3 {
            written.flip_all(&[written.path(segment, "log")], |written, what, path, at, mask| {
                let outcome = written.judge(what, |image| image.get_mut(path).unwrap()[at] ^= mask);
                let hit = written.batch_of_byte(segment, at);
                // The leader epoch is outside the CRC, and no offset goes by it.
                if outcome.missing.is_empty() {
                    return;
                }
                let lost = match hit.start >= written.recovery_point {
                    true => hit.start..written.records.len() as i64,
                    false => hit,
                };
                assert_eq!(outcome.missing, lost.collect::<Vec<_>>(), "{what} {stop:?}");
                assert_eq!(outcome.start, 0);
            });
        }
    }
}

#[test]
fn a_flipped_byte_of_any_other_file_costs_nothing() {
    for stop in STOPS {
        let written = Written::new(stop);
        let mut files = written.files("");
        files.retain(|path| !path.to_string_lossy().ends_with(".log"));
        // Kafka's text has no checksum, and nothing else tells the id.
        files.retain(|path| stop != Stop::NoCheckpoint || !path.ends_with("partition.metadata"));
        written.flip_all(&files, |written, what, path, at, mask| {
            let outcome = written.judge(what, |image| image.get_mut(path).unwrap()[at] ^= mask);
            assert!(outcome.missing.is_empty(), "{what} {stop:?}: {:?}", outcome.missing);
        });
        for path in &files {
            let step = if is_whole() { 1 } else { 17 };
            for len in (stop as usize..written.image[path].len()).step_by(step) {
                let what = format!("{} cut to {len}", path.display());
                let outcome =
                    written.judge(&what, |image| image.get_mut(path).unwrap().truncate(len));
                assert!(outcome.missing.is_empty(), "{what} {stop:?}: {:?}", outcome.missing);
            }
            let what = format!("{} deleted", path.display());
            let outcome = written.judge(&what, |image| drop(image.remove(path)));
            assert!(outcome.missing.is_empty(), "{what} {stop:?}: {:?}", outcome.missing);
        }
    }
}

#[test]
fn a_segment_cut_anywhere_costs_what_was_cut() {
    for stop in STOPS {
        let written = Written::new(stop);
        let step = if is_whole() { 1 } else { 3 };
        for segment in 0..3 {
            let path = written.path(segment, "log");
            for len in (stop as usize % 3..written.image[&path].len()).step_by(step) {
                let what = format!("segment {segment} cut to {len}");
                let outcome =
                    written.judge(&what, |image| image.get_mut(&path).unwrap().truncate(len));
                let from = written.batch_of_byte(segment, len).start;
                let closed = written.segments.get(segment + 1).copied();
                let lost = match closed.filter(|_| from < written.recovery_point) {
                    Some(next) => from..next,
                    None => from..written.records.len() as i64,
                };
                assert_eq!(outcome.missing, lost.collect::<Vec<_>>(), "{what} {stop:?}");
            }
        }
    }
}

#[test]
fn zeroed_garbage_and_foreign_bytes_cost_the_batches_they_hit() {
    for stop in STOPS {
        let written = Written::new(stop);
        for segment in 0..3 {
            let path = written.path(segment, "log");
            let len = written.image[&path].len();
            for at in (stop as usize..len).step_by(if is_whole() { 1 } else { 11 }) {
                let kinds = [(1, 0), (61, 0), (200, 0), (30, 0xff), (9000, 2)];
                for (number, (size, fill)) in kinds.into_iter().enumerate() {
                    if !is_whole() && at % kinds.len() != number {
                        continue;
                    }
                    let what = format!("segment {segment} {size} bytes of {fill} at {at}");
                    let outcome = written.judge(&what, |image| {
                        let bytes = image.get_mut(&path).unwrap();
                        bytes[at..(at + size).min(len)].fill(fill);
                    });
                    let first = written.batch_of_byte(segment, at).start;
                    let last = written.batch_of_byte(segment, (at + size).min(len) - 1).end;
                    let above = outcome.missing.iter().filter(|o| !(first..last).contains(*o));
                    let above: Vec<_> = above.collect();
                    let cut = above.iter().all(|offset| **offset >= outcome.end);
                    assert!(cut, "{what} {stop:?}: {:?}", outcome.missing);
                }
                let what = format!("segment {segment} with foreign bytes at {at}");
                written.judge(&what, |image| {
                    let bytes = image.get_mut(&path).unwrap();
                    bytes.splice(at..at, [2; 70]);
                });
            }
        }
    }
}

#[test]
fn foreign_bytes_between_two_batches_cost_nothing() {
    let written = Written::new(Stop::Flushed);
    for segment in 0..3 {
        let path = written.path(segment, "log");
        let at = Batch::parse(&written.image[&path]).unwrap().header().size_in_bytes();
        for extension in ["", "index"] {
            let outcome = written.judge("foreign bytes", |image| {
                image.get_mut(&path).unwrap().splice(at..at, [3; 40]);
                image.retain(|path, _| extension.is_empty() || !path.ends_with(extension));
            });
            assert!(outcome.missing.is_empty(), "{:?}", outcome.missing);
        }
    }
}

#[test]
fn files_swapped_copied_doubled_and_deleted_give_no_wrong_record() {
    for stop in STOPS {
        let written = Written::new(stop);
        for extension in ["log", "index", "timeindex"] {
            for (a, b) in [(0, 1), (0, 2), (1, 2), (1, 0), (2, 0), (2, 1)] {
                let (a, b) = (written.path(a, extension), written.path(b, extension));
                let outcome = written.judge(&format!("{a:?} copied over {b:?}"), |image| {
                    let bytes = image[&a].clone();
                    image.insert(b.clone(), bytes);
                });
                assert!(extension == "log" || outcome.missing.is_empty());
                written.judge(&format!("{a:?} swapped with {b:?}"), |image| {
                    let (x, y) = (image[&a].clone(), image[&b].clone());
                    image.extend([(a.clone(), y), (b.clone(), x)]);
                });
            }
            for segment in 1..3 {
                let path = written.path(segment, extension);
                let outcome = written.judge(&format!("{path:?} deleted"), |image| {
                    image.remove(&path);
                });
                assert!(extension == "log" || outcome.missing.is_empty());
            }
        }
        for base in [1, 2, 5, 9, 16, 18, 19, 100, i64::from(i32::MAX), 1 << 40, i64::MAX] {
            for segment in 0..3 {
                let name = format!("{base:020}.log");
                let path = written.path(0, "log").with_file_name(name);
                if !written.image.contains_key(&path) {
                    written.judge(&format!("segment {segment} doubled at {base}"), |image| {
                        let bytes = image[&written.path(segment, "log")].clone();
                        image.insert(path, bytes);
                    });
                }
            }
        }
        for name in ["x", ".log", "00000000000000000003.txt", "00000000000000000003.index", "1.log"]
        {
            let outcome = written.judge(&format!("foreign {name}"), |image| {
                image.insert(written.path(0, "log").with_file_name(name), vec![7; 30]);
            });
            assert!(outcome.missing.is_empty());
        }
        // A folder where a file could be.
        for name in ["00000000000000000003.log", "x.tmp", "00000000000000000002.index"] {
            let outcome = written.judge(&format!("folder {name}"), |image| {
                image.insert(written.path(0, "log").with_file_name(name).join("f"), Vec::new());
            });
            assert!(outcome.missing.is_empty());
        }
    }
}

#[test]
fn bytes_that_change_under_a_running_broker_are_found_by_its_readers() {
    let written = Written::new(Stop::Clean);
    for segment in 0..3 {
        let path = written.path(segment, "log");
        let step = if is_whole() { 1 } else { 3 };
        for at in (segment..written.image[&path].len()).step_by(step) {
            let disk = FaultyDisk::of_image(Path::new(DIR), &written.image);
            let (set, _) = world(&disk).open();
            let log = set.get(&partition()).unwrap();
            assert_eq!(read_checked(&log).len(), written.records.len());
            disk.damage(&path, |bytes| bytes[at] ^= MASKS[at % MASKS.len()]);
            let outcome = written.check(&log);
            let hit = written.batch_of_byte(segment, at);
            let lost = hit.collect::<Vec<_>>();
            assert!(
                outcome.missing.is_empty() || outcome.missing == lost,
                "segment {segment} {at}"
            );
            assert_eq!(written.check(&log).missing, outcome.missing, "read again");
        }
    }
}
