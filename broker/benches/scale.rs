//! How the storage of one broker bears many partitions and much data. Prints what it measured and
//! with what; asserts nothing about time.
//!
//! `cargo bench -p broker --bench scale -- DIR [open|recover|tail]` (all three by default); `--help`
//! says the same.
//!
//! The data is sparse where only headers are read: segments of real batch headers a mebibyte apart,
//! with real indexes, and holes for the records. An open after a clean stop and a walk by headers
//! read the same places as in a full log; a recovery reads everything, so its data is real. The
//! page cache is as the run left it: warm, unless the machine's memory is small.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::storage::disk::RealDisk;
use broker::storage::{
    AppendRequest, Cursor, FlushPolicy, Log, LogConfig, LogSet, LogSetConfig, ReadLimits,
    SystemClock, Wait,
};
use bytes::Bytes;
use proto::record::{BatchBuilder, HEADER_LEN, ProducerStamp, check_chunks};
use proto::{LeaderEpoch, Offset, TopicId, TopicPartition};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Bytes from one sparse batch to the next.
const SPARSE_BATCH: u64 = MIB;

const USAGE: &str = "\
Usage: cargo bench -p broker --bench scale -- DIR [open|recover|tail]

  DIR      a directory on the disk to be measured, made if it is missing; its sub-directories
           open, open-many, recover and tail are emptied
  open     a start after a clean stop, with 2,000 partitions
  recover  a start after a crash, by 1, 2 and 4 threads
  tail     appends and reads at the end of a log of 1 and of 100 GiB
Without a word: all three.";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{USAGE}");
        return;
    }
    let known = |word: &String| ["open", "recover", "tail"].contains(&word.as_str());
    let flag = arguments.first().filter(|dir| dir.starts_with('-'));
    let wrong = flag.or_else(|| arguments.iter().skip(1).find(|word| !known(word)));
    if let Some(wrong) = wrong {
        eprintln!("scale: `{wrong}` is not understood\n\n{USAGE}");
        std::process::exit(2);
    }
    let Some(dir) = arguments.first().map(PathBuf::from) else {
        println!("scale: nothing measured; give a directory on the disk to be measured");
        return;
    };
    let wants = |what: &str| arguments.get(1).is_none_or(|wanted| wanted == what);
    if wants("open") {
        open(&dir.join("open"), 2000, 50 * MIB, 1);
        open(&dir.join("open-many"), 2000, 5 * MIB, 10);
    }
    if wants("recover") {
        [1, 2, 4].into_iter().for_each(|threads| recover(&dir.join("recover"), threads));
    }
    if wants("tail") {
        [1, 100].into_iter().for_each(|gib| tail(&dir.join("tail"), gib));
    }
}

fn settings(dir: &Path) -> LogSetConfig {
    let mut config = LogSetConfig::new(vec![dir.to_owned()]);
    config.log.flush = FlushPolicy::Os;
    config.log.retention_ms = None;
    config
}

fn log_set(config: LogSetConfig) -> (LogSet, Duration, broker::storage::StartReport) {
    let begun = Instant::now();
    let opened = LogSet::open(config, Arc::new(RealDisk), Arc::new(SystemClock::new()));
    let (set, report) = opened.expect("the directory can be opened");
    (set, begun.elapsed(), report)
}

fn batch(bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(bytes + 256);
    let value: Vec<u8> = (0..bytes).map(|_| fastrand::u8(..)).collect();
    builder.append(1_700_000_000_000, None, Some(&value), &[]).expect("one record fits");
    builder.finish(ProducerStamp::NONE)
}

fn append(log: &Log, batch: &Bytes) {
    let chunks = [batch.clone()];
    let headers = check_chunks(&chunks).expect("a good batch");
    let leader_epoch = LeaderEpoch(0);
    let request = AppendRequest { chunks: &chunks, headers: &headers, leader_epoch, window: 5 };
    log.append(&[request]).pop().expect("one result").expect("appended");
}

/// Puts a sparse segment of `bytes` into a folder, from `base` on; returns the next offset.
fn sparse_segment(folder: &Path, base: i64, bytes: u64) -> i64 {
    let create = |extension: &str| {
        let path = folder.join(format!("{base:020}.{extension}"));
        File::create(path).expect("a file of a segment")
    };
    let template = check_chunks(&[batch(10)]).expect("a good batch").remove(0);
    let log = create("log");
    let (mut index, mut times) = (Vec::new(), Vec::new());
    let mut offset = base;
    for position in (0..bytes).step_by(SPARSE_BATCH as usize) {
        let mut header = template.clone();
        header.base_offset = Offset(offset);
        header.leader_epoch = LeaderEpoch(0);
        header.batch_length = SPARSE_BATCH as i32 - 12;
        header.max_timestamp += offset;
        log.write_all_at(&header.encode()[..HEADER_LEN], position).expect("a header");
        if position > 0 {
            let relative = (header.last_offset().0 - base) as u32;
            index.extend(relative.to_be_bytes());
            index.extend((position as u32).to_be_bytes());
            times.extend(header.max_timestamp.to_be_bytes());
            times.extend(relative.to_be_bytes());
        }
        offset = header.next_offset().0;
    }
    log.set_len(bytes).expect("the length of a segment");
    create("index").write_all_at(&index, 0).expect("an index");
    create("timeindex").write_all_at(&times, 0).expect("an index");
    offset
}

/// Partitions of sparse segments, closed cleanly.
fn make(dir: &Path, partitions: i32, segment: u64, segments: u64) {
    let _ = fs::remove_dir_all(dir);
    let (set, ..) = log_set(settings(dir));
    for partition in 0..partitions {
        let name = TopicPartition::new("scale", partition);
        let log = set.create(&name, topic(), settings(dir).log).expect("a partition");
        log.begin_epoch(LeaderEpoch(0)).expect("an epoch");
        let mut base = 0;
        for _ in 0..segments {
            base = sparse_segment(&log.folder(), base, segment);
        }
    }
    set.close();
    drop(set);
    // Opened and closed once, so that everything is as a clean stop leaves it.
    let (set, took, _) = log_set(settings(dir));
    println!("  made, and first opened in {took:.2?}");
    set.close();
}

fn topic() -> TopicId {
    TopicId::from_slice(&[7; 16]).expect("16 bytes")
}

fn open(dir: &Path, partitions: i32, segment: u64, segments: u64) {
    let gib = partitions as u64 * segment * segments / GIB;
    println!(
        "open after a clean stop: {partitions} partitions, {segments} segments each, {gib} GiB"
    );
    make(dir, partitions, segment, segments);
    for open_files in [4096, 256] {
        let before = machine();
        let (set, took, report) = log_set(LogSetConfig { open_files, ..settings(dir) });
        assert!(report.clean && report.scanned_bytes == 0 && report.failed.is_empty());
        let after = machine();
        println!(
            "  log.open.files.max {open_files}: {took:.2?}; descriptors {} -> {}, mappings {} -> {}, \
             RssAnon {} -> {} KiB",
            before.fds, after.fds, before.maps, after.maps, before.anon_kib, after.anon_kib
        );
        let begun = Instant::now();
        for log in set.logs() {
            read(&log, Offset(0), 4096);
        }
        println!("  a read of each: {:.2?}, {:?}", begun.elapsed(), set.usage());
        let begun = Instant::now();
        set.close();
        println!("  closed in {:.2?}", begun.elapsed());
    }
    let _ = fs::remove_dir_all(dir);
}

fn recover(dir: &Path, threads: usize) {
    let _ = fs::remove_dir_all(dir);
    let config = LogSetConfig { recovery_threads: threads, ..settings(dir) };
    {
        let (set, ..) = log_set(config.clone());
        let batch = batch(64 << 10);
        for partition in 0..8 {
            let name = TopicPartition::new("scale", partition);
            let log = set.create(&name, topic(), config.log.clone()).expect("a partition");
            for _ in 0..(GIB / 8) / batch.len() as u64 {
                append(&log, &batch);
            }
        }
        // Dropped and not closed: nothing was flushed, no clean stop is marked.
    }
    #[allow(clippy::disallowed_methods, reason = "the dropped set's threads let go of the lock")]
    std::thread::sleep(Duration::from_millis(200));
    let (_set, took, report) = log_set(config);
    let rate = report.scanned_bytes as f64 / 1e6 / took.as_secs_f64();
    println!(
        "recovery of {} MiB in 8 partitions, {threads} threads: {took:.2?}, {rate:.0} MB/s \
         (with the fsync of what was checked)",
        report.scanned_bytes >> 20
    );
    let _ = fs::remove_dir_all(dir);
}

fn tail(dir: &Path, gib: u64) {
    const APPENDS: u32 = 50_000;
    make(dir, 1, GIB, gib);
    let (set, took, _) = log_set(settings(dir));
    let log = set.get(&TopicPartition::new("scale", 0)).expect("the partition");
    let size = log.size();
    let config = LogConfig { segment_bytes: 256 << 20, ..settings(dir).log };
    log.set_config(config);
    let batch = batch(1000);
    let begun = Instant::now();
    (0..APPENDS).for_each(|_| append(&log, &batch));
    let appended = begun.elapsed();
    let mut at = Offset(log.log_end().0 - i64::from(APPENDS));
    let begun = Instant::now();
    let mut rounds = 0;
    while at < log.log_end() {
        at = read(&log, at, 4096);
        rounds += 1;
    }
    let tailed = begun.elapsed();
    let begun = Instant::now();
    for _ in 0..2000 {
        read(&log, Offset(fastrand::i64(0..log.log_end().0 - 1)), 4096);
    }
    println!(
        "{} GiB in {} segments (opened in {took:.2?}): append of 1 kB {:.2} us, tail read {:.2} us, \
         read at a random offset {:.1} us",
        size / GIB,
        log.segment_count(),
        appended.as_secs_f64() * 1e6 / f64::from(APPENDS),
        tailed.as_secs_f64() * 1e6 / f64::from(rounds),
        begun.elapsed().as_secs_f64() * 1e6 / 2000.0
    );
    set.close();
    let _ = fs::remove_dir_all(dir);
}

/// Reads from an offset; returns the next one.
fn read(log: &Log, from: Offset, max_bytes: usize) -> Offset {
    let limits = ReadLimits { max_bytes, upto: log.log_end(), first_batch_whole: true };
    let slice = log.read(Cursor::at(from), limits, Wait::Allowed).expect("readable");
    assert!(slice.next_offset() > from);
    slice.next_offset()
}

struct Machine {
    fds: usize,
    maps: usize,
    anon_kib: u64,
}

/// What the process takes.
fn machine() -> Machine {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let anon = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    Machine {
        fds: fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        maps: fs::read_to_string("/proc/self/maps").unwrap_or_default().lines().count(),
        anon_kib: anon
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
            .unwrap_or(0),
    }
}
