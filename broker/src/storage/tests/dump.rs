//! Dumps and repairs of real files, whole and damaged in every place.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use proto::record::{Compression, Compressor, Header};

use super::*;
use crate::storage::dump::{
    DumpError, DumpOptions, DumpReport, DumpSink, Dumper, Field, Kind, RepairError, Value, repair,
};

const ALL: DumpOptions = DumpOptions {
    deep: true,
    print_data: true,
    verify: true,
    index_entries: true,
    allow_gaps: false,
};

/// Keeps everything it is told.
#[derive(Default)]
struct Collected {
    items: Vec<(Kind, BTreeMap<&'static str, String>)>,
    bytes: u64,
}

impl DumpSink for Collected {
    fn wants(&self, _kind: Kind) -> bool {
        true
    }

    fn item(&mut self, kind: Kind, fields: &[Field<'_>]) -> io::Result<()> {
        let text = |value: &Value<'_>| match value {
            Value::Int(number) => number.to_string(),
            Value::Optional(number) => number.map_or("null".into(), |number| number.to_string()),
            Value::Text(text) => (*text).to_owned(),
            Value::Owned(text) => text.clone(),
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => format!("{other:?}"),
        };
        let fields = fields.iter().map(|(name, value)| (*name, text(value))).collect();
        self.items.push((kind, fields));
        Ok(())
    }

    fn progress(&mut self, bytes: u64) {
        self.bytes += bytes;
    }
}

impl Collected {
    fn of(&self, kind: Kind) -> Vec<&BTreeMap<&'static str, String>> {
        self.items.iter().filter(|(k, _)| *k == kind).map(|(_, fields)| fields).collect()
    }
}

fn dump(paths: &[PathBuf]) -> (DumpReport, Collected) {
    let mut sink = Collected::default();
    let report = Dumper::new(ALL, &mut sink).run(paths).unwrap();
    (report, sink)
}

/// In memory where the system has such a place: thousands of small files are written.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[allow(clippy::disallowed_methods, reason = "damages files as nobody else should")]
fn put(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    std::fs::write(path, bytes).unwrap();
}

fn small_segments(dir: &Path) -> World {
    let mut world = World::real(dir);
    world.config.log = LogConfig {
        segment_bytes: 700,
        index_interval_bytes: 100,
        retention_ms: None,
        ..LogConfig::default()
    };
    world
}

/// Batches of one to three records of an idempotent producer, in several segments.
fn write_log(world: &World, batches: i32) -> Vec<(i64, Vec<u8>)> {
    let (set, log) = world.open_log();
    let mut written = Vec::new();
    for number in 0..batches {
        let count = number % 3 + 1;
        let values: Vec<_> = (0..count).map(|i| format!("value-{number}-{i}")).collect();
        let values: Vec<_> = values.iter().map(|value| value.as_bytes()).collect();
        let base_sequence = written.len() as i32;
        let stamp = ProducerStamp { id: 7, epoch: 0, base_sequence };
        let time = START_MS + i64::from(number);
        append(&log, &batch_of(&values, time, stamp)).unwrap();
        written.extend(values.iter().map(|value| value.to_vec()));
    }
    log.set_high_watermark(log.log_end());
    set.close();
    written.into_iter().enumerate().map(|(offset, value)| (offset as i64, value)).collect()
}

fn files_of(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_file()).map(|p| (p.clone(), std::fs::read(p).unwrap())).collect()
}

fn logs_of(folder: &Path) -> Vec<PathBuf> {
    files_of(folder).into_keys().filter(|p| p.extension().is_some_and(|e| e == "log")).collect()
}

#[test]
fn a_whole_partition_is_told_file_by_file_and_found_good() {
    let dir = scratch();
    let world = small_segments(dir.path());
    let written = write_log(&world, 30);
    let folder = dir.path().join("logs-0");
    let before = files_of(&folder);
    let (report, sink) = dump(&[dir.path().to_owned()]);
    assert_eq!(report.damages, 0, "{:?}", sink.of(Kind::Damage));
    assert!(sink.of(Kind::Note).is_empty(), "{:?}", sink.of(Kind::Note));
    assert_eq!((report.batches, report.records), (30, written.len() as u64));
    assert_eq!(sink.bytes, report.bytes);
    assert_eq!(Dumper::size_of(&[dir.path().to_owned()]).unwrap(), report.bytes);
    assert_eq!(report.files as usize, before.len() + 1, "with positions-checkpoint");
    let records = sink.of(Kind::Record);
    for (record, (offset, value)) in records.iter().zip(&written) {
        assert_eq!(record["offset"], offset.to_string());
        assert_eq!(record["sequence"], offset.to_string());
        assert_eq!(record["payload"].as_bytes(), value);
    }
    let entries = sink.of(Kind::Entry);
    for field in ["position", "timestamp", "producerId", "epoch", "topicId", "recoveryPoint"] {
        assert!(entries.iter().any(|entry| entry.contains_key(field)), "{field}");
    }
    assert_eq!(files_of(&folder), before, "nothing is written to what is read");
}

#[test]
fn the_growing_end_of_the_last_segment_is_no_damage() {
    let dir = scratch();
    let world = small_segments(dir.path());
    write_log(&world, 12);
    let folder = dir.path().join("logs-0");
    let logs = logs_of(&folder);
    let (first, last) = (&logs[0], &logs[logs.len() - 1]);
    let whole = std::fs::read(last).unwrap();
    for cut in 1..whole.len() {
        put(last, &whole[..cut]);
        std::fs::remove_file(last.with_extension("index")).ok();
        std::fs::remove_file(last.with_extension("timeindex")).ok();
        let (report, sink) = dump(std::slice::from_ref(last));
        assert_eq!(report.damages, 0, "cut at {cut}: {:?}", sink.of(Kind::Damage));
    }
    let mut zeros = whole.clone();
    zeros.resize(whole.len() + 5000, 0);
    put(last, &zeros);
    assert_eq!(dump(std::slice::from_ref(last)).0.damages, 0, "room that is not written yet");
    zeros[whole.len() + 4000] = 1;
    put(last, &zeros);
    assert_eq!(dump(std::slice::from_ref(last)).0.damages, 1, "garbage is not a write under way");
    put(last, &whole);

    let whole = std::fs::read(first).unwrap();
    put(first, &whole[..whole.len() - 1]);
    let (report, sink) = dump(std::slice::from_ref(first));
    assert!(report.damages > 0, "a closed segment does not grow: {:?}", sink.items);
}

#[test]
fn every_flipped_byte_of_a_log_is_found_and_repaired_around() {
    let dir = scratch();
    let world = small_segments(dir.path());
    let written = write_log(&world, 10);
    let folder = dir.path().join("logs-0");
    let log = &logs_of(&folder)[0];
    let whole = std::fs::read(log).unwrap();
    let batch_ends: Vec<_> = Batches::new(&whole)
        .scan(0, |end, batch| {
            let batch = batch.unwrap();
            *end += batch.bytes().len();
            Some((*end, batch.header().clone()))
        })
        .collect();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        put(log, &bytes);
        // The leader epoch is in no CRC and follows from nothing.
        let (_, hit) = batch_ends.iter().find(|(end, _)| at < *end).unwrap();
        let begin = batch_ends.iter().map(|(end, _)| *end).filter(|&end| end <= at).max();
        let in_epoch = (12..16).contains(&(at - begin.unwrap_or(0)));
        let (report, sink) = dump(std::slice::from_ref(&folder));
        assert_eq!(report.damages > 0, !in_epoch, "byte {at}: {:?}", sink.of(Kind::Damage));
        if at % 37 != 0 {
            continue;
        }
        let out = scratch();
        let mut sink = Collected::default();
        repair(std::slice::from_ref(&folder), out.path(), &mut sink).unwrap();
        let lost = hit.base_offset.0..hit.next_offset().0;
        let expected: Vec<_> = (written.iter())
            .filter(|(offset, _)| in_epoch || !lost.contains(offset))
            .cloned()
            .collect();
        assert_eq!(repaired_records(&world, out.path()), expected, "byte {at}");
    }
}

/// Opens a repaired log directory, which must need no recovery, and reads it all.
fn repaired_records(world: &World, dir: &Path) -> Vec<(i64, Vec<u8>)> {
    let again = World { config: world.config.clone(), ..small_segments(dir) };
    let mut config = again.config.clone();
    config.dirs = vec![dir.to_owned()];
    let (set, report) = LogSet::open(config, again.disk.clone(), again.clock.clone()).unwrap();
    assert!(report.failed.is_empty() && report.damaged.is_empty(), "{report:?}");
    assert_eq!(report.cut_bytes, 0);
    let log = set.create(&partition(), topic_id(), again.config.log.clone()).unwrap();
    let records = read_all(&log, log.log_start()).unwrap();
    append(&log, &batch(&["it goes on"])).unwrap();
    drop(log);
    set.close();
    let (damaged, sink) = dump(&[dir.to_owned()]);
    assert_eq!(damaged.damages, 0, "{:?}", sink.of(Kind::Damage));
    records
}

#[test]
fn a_log_damaged_in_many_ways_keeps_all_that_is_good() {
    let dir = scratch();
    let world = small_segments(dir.path());
    let written = write_log(&world, 60);
    let folder = dir.path().join("logs-0");
    let logs = logs_of(&folder);
    assert!(logs.len() > 7, "{logs:?}");
    // The offsets of a segment: from its name to the next one's.
    let base = |number: usize| -> i64 {
        logs[number].file_stem().unwrap().to_str().unwrap().parse().unwrap()
    };
    let mut lost = Vec::new();
    // A middle segment is gone, another is an old one's copy, one is all zeros.
    std::fs::remove_file(&logs[1]).unwrap();
    std::fs::copy(&logs[0], &logs[3]).unwrap();
    let len = std::fs::metadata(&logs[5]).unwrap().len() as usize;
    put(&logs[5], vec![0; len]);
    for number in [1, 3, 5] {
        lost.push(base(number)..base(number + 1));
    }
    // One has its first batch damaged, with a lie behind it: a batch of a far offset.
    let mut bytes = std::fs::read(&logs[6]).unwrap();
    let headers: Vec<_> =
        Batches::new(&bytes).map(|batch| batch.unwrap().header().clone()).collect();
    bytes[30] ^= 1;
    let second = headers[0].size_in_bytes();
    bytes[second + 5] ^= 1;
    put(&logs[6], &bytes);
    lost.push(headers[0].base_offset.0..headers[1].next_offset().0);
    // Indexes, snapshots and checkpoints are anything.
    std::fs::remove_file(logs[2].with_extension("index")).unwrap();
    put(logs[4].with_extension("timeindex"), [0xff; 60]);
    put(folder.join("leader-epoch-checkpoint"), "0\n9\n");
    put(logs[6].with_extension("snapshot"), [1; 30]);

    let before = files_of(&folder);
    let out = dir.path().join("repaired");
    let mut sink = Collected::default();
    let report = repair(std::slice::from_ref(&folder), &out, &mut sink).unwrap();
    assert_eq!(files_of(&folder), before, "what is read is not changed");
    let expected: Vec<_> = (written.iter())
        .filter(|(offset, _)| !lost.iter().any(|range| range.contains(offset)))
        .cloned()
        .collect();
    assert_eq!(repaired_records(&world, &out), expected);
    assert!(report.left_out >= 4, "{report:?}");
    for range in &lost {
        let told = sink.of(Kind::Damage).iter().any(|fields| {
            fields["from"] == range.start.to_string() && fields["to"] == range.end.to_string()
        });
        assert!(told, "{range:?} is not told: {:?}", sink.of(Kind::Damage));
    }
}

#[test]
fn lost_records_at_the_end_do_not_give_their_offsets_away_again() {
    let dir = scratch();
    let world = small_segments(dir.path());
    let written = write_log(&world, 20);
    let folder = dir.path().join("logs-0");
    let last = logs_of(&folder).pop().unwrap();
    let base: i64 = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    std::fs::remove_file(&last).unwrap();
    let out = dir.path().join("repaired");
    repair(std::slice::from_ref(&folder), &out, &mut Collected::default()).unwrap();
    let expected: Vec<_> = written.iter().filter(|(offset, _)| *offset < base).cloned().collect();
    assert_eq!(repaired_records(&world, &out), expected);
    let (_, sink) = dump(&[out]);
    let last = sink.of(Kind::Record).last().unwrap()["offset"].clone();
    assert_eq!(last, written.len().to_string(), "the record appended after the repair");
}

#[test]
fn indexes_that_do_not_agree_with_their_log_are_found() {
    let dir = scratch();
    let world = small_segments(dir.path());
    write_log(&world, 30);
    let folder = dir.path().join("logs-0");
    for extension in ["index", "timeindex"] {
        let index = logs_of(&folder)[0].with_extension(extension);
        let whole = std::fs::read(&index).unwrap();
        assert!(whole.len() > 24);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            put(&index, &bytes);
            assert!(dump(std::slice::from_ref(&folder)).0.damages > 0, "{extension} byte {at}");
            let (alone, sink) = dump(std::slice::from_ref(&index));
            assert!(alone.damages > 0, "{extension} byte {at} alone: {:?}", sink.items);
        }
        put(&index, &whole);
    }
    assert_eq!(dump(std::slice::from_ref(&folder)).0.damages, 0);
}

#[test]
fn any_bytes_in_any_file_are_survived() {
    let dir = scratch();
    let world = small_segments(dir.path());
    write_log(&world, 8);
    let folder = dir.path().join("logs-0");
    let log = &logs_of(&folder)[0];
    std::fs::copy(log, folder.join("00000000000000000000.log.cut")).unwrap();
    put(folder.join("00000000000000000000.txnindex"), [3; 80]);
    let ranges = "1\n2c9e3ae6\n1\n3 5 0 100 200\n";
    put(folder.join("damaged-ranges"), ranges);
    let mut random = fastrand::Rng::with_seed(3);
    let mut paths: Vec<_> = files_of(&folder).into_keys().collect();
    paths.push(dir.path().join("positions-checkpoint"));
    for path in paths {
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            match at % 3 {
                0 => bytes.truncate(at),
                1 => bytes[at] = !bytes[at],
                _ => bytes[at..].fill_with(|| random.u8(..)),
            }
            put(&path, &bytes);
            dump(std::slice::from_ref(&path));
        }
        put(&path, &whole);
    }
}

#[test]
fn a_batch_with_nulls_headers_and_strange_bytes_is_told_in_full() {
    let dir = scratch();
    let world = small_segments(dir.path());
    let (set, log) = world.open_log();
    let mut builder = BatchBuilder::new(1000);
    let headers = [Header::new("trace", Some(b"1")), Header::new("none", None)];
    builder.append(START_MS, Some(b"key"), None, &headers).unwrap();
    builder.append(START_MS + 5, None, Some(&[0xff, 0]), &[]).unwrap();
    append(&log, &builder.finish(ProducerStamp::NONE)).unwrap();
    set.close();
    let (_, sink) = dump(&logs_of(&dir.path().join("logs-0")));
    let records = sink.of(Kind::Record);
    assert_eq!((records[0]["keySize"].as_str(), records[0]["valueSize"].as_str()), ("3", "-1"));
    assert_eq!(records[0]["key"], "key");
    assert!(!records[0].contains_key("payload") && !records[1].contains_key("key"));
    assert_eq!(records[1]["sequence"], "-1");
    assert_eq!(records[1]["CreateTime"], (START_MS + 5).to_string());
}

#[test]
fn compressed_batches_are_told_record_by_record() {
    let dir = scratch();
    let mut world = small_segments(dir.path());
    world.config.log.segment_bytes = 1 << 20;
    let (set, log) = world.open_log();
    let value = "the same again and again ".repeat(40);
    for codec in Compression::ALL {
        let mut builder = BatchBuilder::new(10_000);
        for _ in 0..3 {
            builder.append(START_MS, None, Some(value.as_bytes()), &[]).unwrap();
        }
        let mut compressor = Compressor::new(codec, None).unwrap();
        let bytes = builder.finish_compressed(&mut compressor, ProducerStamp::NONE);
        append(&log, &bytes).unwrap();
    }
    set.close();
    let (report, sink) = dump(&logs_of(&dir.path().join("logs-0")));
    assert_eq!(report.damages, 0, "{:?}", sink.of(Kind::Damage));
    let codecs: Vec<_> = sink.of(Kind::Batch).iter().map(|b| b["compresscodec"].clone()).collect();
    assert_eq!(codecs, ["none", "gzip", "snappy", "lz4", "zstd"]);
    let records = sink.of(Kind::Record);
    assert_eq!(records.len(), 15);
    assert!(records.iter().all(|record| record["payload"] == value));
}

#[test]
fn a_repair_writes_only_where_nothing_is() {
    let dir = scratch();
    let world = small_segments(dir.path());
    write_log(&world, 3);
    let folder = dir.path().join("logs-0");
    let before = files_of(&folder);
    let attempt = |folders: &[PathBuf], out: &Path| {
        repair(folders, out, &mut Collected::default()).map(|report| report.partitions)
    };
    let refused = |result| matches!(result, Err(RepairError::Output { .. }));
    let one = std::slice::from_ref(&folder);
    assert!(refused(attempt(one, dir.path())), "not empty");
    assert!(refused(attempt(one, &folder)), "the source itself");
    assert!(refused(attempt(one, &folder.join("new/deeper"))), "inside the source");
    assert!(refused(attempt(one, &folder.join("partition.metadata"))), "a file");
    let out = dir.path().join("out");
    assert!(refused(attempt(&[folder.clone(), folder.clone()], &out)), "twice the same");
    let nothing = attempt(&[dir.path().to_owned()], &out);
    assert!(matches!(nothing, Err(RepairError::NotAPartition { .. })), "{nothing:?}");
    assert!(!out.exists());
    assert_eq!(attempt(one, &out).unwrap(), 1);
    assert!(refused(attempt(one, &out)), "a second time");
    assert_eq!(files_of(&folder), before);
    let missing = Dumper::new(ALL, &mut Collected::default()).run(&[dir.path().join("nothing")]);
    assert!(matches!(missing, Err(DumpError::NotALog { .. })));
}
