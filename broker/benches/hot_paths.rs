//! Guards the hot paths by counting instructions, which a busy machine does not change, as it does times.
//!
//! `cargo bench -p broker --bench hot_paths` starts itself under `valgrind --tool=callgrind` twice a path,
//! the second time with twice the work, and divides the difference: what starting costs falls out. What
//! the kernel does is not counted. A path that takes more than [`TOLERANCE`] above what is written here
//! fails the run; whoever makes one dearer on purpose, or cheaper, writes the new count down.

use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use broker::storage::disk::RealDisk;
use broker::storage::{
    AppendRequest, Cursor, FlushPolicy, Log, LogSet, LogSetConfig, ReadLimits, SystemClock, Wait,
};
use bytes::Bytes;
use proto::record::{
    BatchBuilder, BatchHeader, ChunkedBatches, DecodedBatch, ProducerStamp, check_chunks,
};
use proto::{LeaderEpoch, Offset, TopicId, TopicPartition};

// As in the broker.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One path: what a unit of it is, how many are run, and the instructions a unit is to take.
struct HotPath {
    name: &'static str,
    unit: &'static str,
    units: u64,
    instructions: f64,
    run: fn(u64),
}

/// Compilers and processors differ by some per cent; an added copy or allocation a record costs more.
const TOLERANCE: f64 = 0.20;
const TOOL: &str = "--tool=callgrind";
const OUT: &str = "--callgrind-out-file=/dev/null";
const VALUE: [u8; 200] = [b'v'; 200];
const BATCH_LEN: usize = 64 << 10;
const NOW_MS: i64 = 1_790_000_000_000;

const PATHS: [HotPath; 7] = [
    HotPath {
        name: "encode, batches of 64 KiB",
        unit: "record",
        units: 200_000,
        instructions: 186.0,
        run: |records| encode(records, BATCH_LEN),
    },
    HotPath {
        name: "decode, batches of 64 KiB",
        unit: "record",
        units: 200_000,
        instructions: 177.0,
        run: |records| decode(records, u64::MAX),
    },
    HotPath {
        name: "decode, batches of one record",
        unit: "record",
        units: 50_000,
        instructions: 459.0,
        run: |records| decode(records, 1),
    },
    HotPath {
        name: "append, batches of 64 KiB",
        unit: "batch",
        units: 1_000,
        instructions: 26_000.0,
        run: |batches| append(batches, u64::MAX, 1),
    },
    HotPath {
        name: "append, sixteen batches of one record at once",
        unit: "batch",
        units: 20_000,
        instructions: 1835.0,
        run: |batches| append(batches, 1, 16),
    },
    HotPath {
        name: "plan a fetch of 1 MiB that reads on",
        unit: "fetch",
        units: 5_000,
        instructions: 12_950.0,
        run: |fetches| plan(fetches, true),
    },
    HotPath {
        name: "plan a fetch of 1 MiB from any offset",
        unit: "fetch",
        units: 5_000,
        instructions: 20_170.0,
        run: |fetches| plan(fetches, false),
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.as_slice() {
        [] => guard(),
        [path, units] => {
            let path = path.parse().ok().and_then(|path: usize| PATHS.get(path));
            let (path, units) = path.zip(units.parse().ok()).expect("a path and its units");
            (path.run)(units);
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!(
                "hot_paths takes no arguments; what it does is said at the top of its source"
            );
            ExitCode::from(2)
        }
    }
}

/// Counts every path and compares.
fn guard() -> ExitCode {
    match Command::new("valgrind").args([TOOL, OUT, "true"]).output() {
        Ok(tried) if tried.status.success() => {}
        Ok(tried) => {
            let said = String::from_utf8_lossy(&tried.stderr);
            println!("SKIPPED: valgrind does not work on this machine:\n{said}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            println!("SKIPPED: valgrind cannot be started (apt-get install valgrind): {error}");
            return ExitCode::SUCCESS;
        }
    }
    let mut dearer = 0;
    println!("{:<48} {:>12} {:>12} {:>7}", "path", "instructions", "allowed", "");
    for (index, path) in PATHS.iter().enumerate() {
        let counted = [path.units, 2 * path.units].map(|units| collected(index, units));
        let each = (counted[1] - counted[0]) / path.units as f64;
        let allowed = path.instructions * (1.0 + TOLERANCE);
        let verdict = match each {
            _ if each > allowed => {
                dearer += 1;
                "DEARER"
            }
            _ if each < path.instructions * (1.0 - TOLERANCE) => "cheaper: write it down",
            _ => "",
        };
        println!("{:<48} {each:>12.1} {allowed:>12.1} a {} {verdict}", path.name, path.unit);
    }
    if dearer > 0 {
        println!(
            "{dearer} paths take more instructions than they may: see broker/benches/hot_paths.rs"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Instructions of a whole process that runs the path.
fn collected(path: usize, units: u64) -> f64 {
    let output = Command::new("valgrind")
        .args([TOOL, OUT])
        .arg(std::env::current_exe().expect("this executable"))
        .args([path.to_string(), units.to_string()])
        .output()
        .expect("valgrind starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "under valgrind the path failed:\n{said}");
    let count = said.lines().find_map(|line| line.split_once("Collected :"));
    let count = count.and_then(|(_, count)| count.trim().parse().ok());
    count.unwrap_or_else(|| panic!("valgrind told no count:\n{said}"))
}

/// A batch with as many records as it holds, `records` at most.
fn batch(len: usize, records: u64) -> (Bytes, u64) {
    let mut builder = BatchBuilder::new(len);
    let mut count = 0;
    while count < records && builder.append(NOW_MS, None, Some(&VALUE), &[]).is_ok() {
        count += 1;
    }
    (builder.finish(ProducerStamp::NONE), count)
}

fn encode(records: u64, len: usize) {
    let mut done = 0;
    while done < records {
        let (batch, count) = batch(len, records - done);
        done += count;
        black_box(batch);
    }
}

/// What a consumer does with an answer of about 1 MiB.
fn decode(records: u64, a_batch: u64) {
    let (batch, each) = batch(BATCH_LEN, a_batch);
    let many = ((1 << 20) / batch.len()).max(1);
    let answer = Bytes::from(batch.repeat(many));
    let mut done = 0;
    while done < records {
        let mut batches = ChunkedBatches::new([answer.clone()]);
        while done < records && !batches.front().is_empty() {
            let header = BatchHeader::parse(batches.front()).expect("a header");
            let len = header.size_in_bytes();
            header.check_crc(&batches.front()[..len]).expect("a good batch");
            let batch = DecodedBatch::of_plain(header, batches.split_front(len));
            for record in batch.records() {
                black_box(record.expect("a good record").value);
            }
            done += each;
        }
    }
}

/// A log in a fresh directory, while `work` runs.
fn with_log(work: impl FnOnce(&Log)) {
    let dir = tempfile::tempdir().expect("a directory");
    let set = LogSet::open(settings(dir.path()), Arc::new(RealDisk), Arc::new(SystemClock::new()));
    let (set, _) = set.expect("the directory can be opened");
    let name = TopicPartition::new("hot", 0);
    let topic = TopicId::from_slice(&[7; 16]).expect("16 bytes");
    let log = set.create(&name, topic, settings(dir.path()).log).expect("a partition");
    log.begin_epoch(LeaderEpoch(0)).expect("an epoch");
    work(&log);
    set.close();
}

fn settings(dir: &Path) -> LogSetConfig {
    let mut config = LogSetConfig::new(vec![dir.to_owned()]);
    config.log.flush = FlushPolicy::Os;
    config.log.retention_ms = None;
    config
}

/// What a leader does with batches: checks them, appends `at_once` with one write.
fn append(batches: u64, records: u64, at_once: u64) {
    let (batch, _) = batch(BATCH_LEN, records);
    let chunks = [batch];
    with_log(|log| {
        let mut done = 0;
        while done < batches {
            let headers: Vec<_> =
                (0..at_once).map(|_| check_chunks(&chunks).expect("a good batch")).collect();
            let request = |headers| AppendRequest {
                chunks: &chunks,
                headers,
                leader_epoch: LeaderEpoch(0),
                window: 5,
            };
            let requests: Vec<_> = headers.iter().map(|headers| request(headers)).collect();
            let results = log.append(&requests);
            assert!(results.iter().all(Result::is_ok), "appended");
            done += at_once;
        }
    });
}

/// What a fetch does: finds the place and takes a slice of the page cache.
fn plan(fetches: u64, reads_on: bool) {
    const BATCHES: u64 = 1_000;
    let (batch, records) = batch(BATCH_LEN, u64::MAX);
    let chunks = [batch];
    with_log(|log| {
        let headers = check_chunks(&chunks).expect("a good batch");
        let (leader_epoch, headers) = (LeaderEpoch(0), &headers[..]);
        for _ in 0..BATCHES {
            let request = AppendRequest { chunks: &chunks, headers, leader_epoch, window: 5 };
            log.append(&[request]).pop().expect("a result").expect("appended");
        }
        let end = (BATCHES * records) as i64;
        let mut at = Cursor::at(Offset(0));
        for fetch in 0..fetches {
            if !reads_on {
                // Steps of a prime walk over all of the log.
                at = Cursor::at(Offset((fetch as i64 * 104_729) % end));
            } else if at.offset().0 >= end {
                at = Cursor::at(Offset(0));
            }
            let upto = log.log_end();
            let limits = ReadLimits { max_bytes: 1 << 20, upto, first_batch_whole: true };
            let slice = log.read(at, limits, Wait::Allowed).expect("readable");
            at = slice.next();
            black_box(slice);
        }
    });
}
