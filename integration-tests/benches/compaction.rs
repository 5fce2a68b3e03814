//! How fast a log is compacted and how much memory its keys take: JSON lines, one a figure.
//!
//! `bench-compaction [MIB] [DIR]`: logs of so many MiB (default 512), 16-byte keys and 200-byte
//! values in 64 KiB batches and 64 MiB segments, with one to sixteen records a key, plain and
//! compressed, on the disk of `DIR` (default: the system's folder for temporary files). A rate is by
//! the bytes of the log as it was, every one of which is read twice; the pages are in the cache, as
//! they mostly are for a broker that keeps up. Memory is the highest RssAnon over that before.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use broker::storage::disk::RealDisk;
use broker::storage::{
    AppendRequest, Background, CleanupPolicy, Log, LogSet, LogSetConfig, SystemClock,
};
use bytes::Bytes;
use proto::record::{BatchBuilder, Compression, Compressor, ProducerStamp, check_chunks};
use proto::{LeaderEpoch, TopicId, TopicPartition};

#[path = "bench/lines.rs"]
mod lines;

// As in the executables that people run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE_LEN: usize = 200;
const BATCH_LEN: usize = 64 << 10;
const VALUES: usize = 100_000;
const NOW_MS: i64 = 1_790_000_000_000;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mib: u64 = args.next().map_or(Ok(512), |text| text.parse()).context("MIB")?;
    let dir = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let values = lines::fixed_lines(VALUES, VALUE_LEN);
    for (codec, records_a_key) in [
        (Compression::None, 1),
        (Compression::None, 4),
        (Compression::None, 16),
        (Compression::Lz4, 4),
        (Compression::Zstd, 4),
    ] {
        let scratch = tempfile::tempdir_in(&dir)?;
        figure(scratch.path(), mib << 20, &values, codec, records_a_key)?;
    }
    Ok(())
}

fn figure(
    dir: &Path,
    bytes: u64,
    values: &[u8],
    codec: Compression,
    records_a_key: u64,
) -> Result<()> {
    let mut config = LogSetConfig::new(vec![dir.to_owned()]);
    config.background = Background::Caller;
    config.log.segment_bytes = 64 << 20;
    config.log.cleanup_policy = CleanupPolicy { delete: false, compact: true };
    config.cleaner.dedupe_buffer_bytes = 1 << 30;
    let (set, _) = LogSet::open(config.clone(), Arc::new(RealDisk), Arc::new(SystemClock::new()))?;
    let topic_id = TopicId::from_slice(&[7; 16]).context("a topic id")?;
    let log = set.create(&TopicPartition::new("figures", 0), topic_id, config.log)?;
    let records = fill(&log, bytes, values, codec, records_a_key)?;
    log.roll()?;
    log.flush()?;
    log.set_high_watermark(log.log_end());

    let (size, before) = (log.size(), rss_anon());
    let watch = Watch::start();
    let begun = Instant::now();
    let report = log.compact()?;
    let took = begun.elapsed().as_secs_f64();
    let memory = watch.stop().saturating_sub(before);
    ensure!(report.passes == 1 && report.records == records, "{report:?}");
    let figure = serde_json::json!({
        "figure": "compaction",
        "codec": codec.name(),
        "records_a_key": records_a_key,
        "log_mib": size >> 20,
        "seconds": took,
        "mb_per_second": size as f64 / took / 1e6,
        "records_per_second": records as f64 / took,
        "kept_records": report.kept,
        "left_mib": log.size() >> 20,
        "million_keys": report.keys as f64 / 1e6,
        "memory_mb": memory as f64 / 1e6,
        "map_mb_per_million_keys": 24.0 / 0.9,
    });
    println!("{figure}");
    Ok(())
}

/// Appends batches until the log is large enough; returns how many records it has.
fn fill(
    log: &Log,
    bytes: u64,
    values: &[u8],
    codec: Compression,
    records_a_key: u64,
) -> Result<u64> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut compressor = Compressor::new(codec, None)?;
    // By the plain size, so that every codec has as many records.
    let records_wanted = bytes / (VALUE_LEN as u64 + 30);
    let keys = (records_wanted / records_a_key).max(1);
    let mut records = 0;
    while records < records_wanted {
        let mut builder = BatchBuilder::new(BATCH_LEN);
        loop {
            let key = format!("{:016}", random.u64(..keys));
            let at = (records as usize % VALUES) * VALUE_LEN;
            let value = &values[at..at + VALUE_LEN];
            if builder.append(NOW_MS, Some(key.as_bytes()), Some(value), &[]).is_err() {
                break;
            }
            records += 1;
        }
        let chunks = [builder.finish_compressed(&mut compressor, ProducerStamp::NONE)];
        append(log, &chunks)?;
    }
    Ok(records)
}

fn append(log: &Log, chunks: &[Bytes]) -> Result<()> {
    let headers = check_chunks(chunks)?;
    let leader_epoch = LeaderEpoch(0);
    let request = AppendRequest { chunks, headers: &headers, leader_epoch, window: 0 };
    for appended in log.append(&[request]) {
        appended?;
    }
    Ok(())
}

/// Looks at the memory of this process, on a thread of its own.
struct Watch {
    over: Arc<AtomicBool>,
    highest: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Watch {
    #[allow(clippy::disallowed_methods, reason = "samples at moments, waits for nothing")]
    fn start() -> Self {
        let (over, highest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = {
            let (over, highest) = (over.clone(), highest.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    highest.fetch_max(rss_anon(), Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(10));
                }
            })
        };
        Self { over, highest, thread }
    }

    fn stop(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        // It cannot panic; if it did, the figure is what it saw.
        let _ = self.thread.join();
        self.highest.load(Ordering::Relaxed)
    }
}

fn rss_anon() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = kib.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
