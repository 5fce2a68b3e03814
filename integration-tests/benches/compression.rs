//! What each codec makes of real log files, and how fast on one core: JSON lines, one a file, codec
//! and level.
//!
//! `bench-compression [--batch-size BYTES] [--seconds S] FILE…`: the lines of each file, a record
//! each, in batches of that many bytes before compression. `ratio` is the bytes of all batches
//! uncompressed by those compressed, headers included. Rates are records by the thread's CPU time:
//! `compress` from encoded records to the compressed block, `read` from the compressed batch to every
//! record borrowed, checksum included. Each is the median and the best of five runs. `none` is the
//! measure: it copies.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Parser;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use proto::record::{
    Batch, BatchBuilder, BatchDecoder, BatchHeader, Compression, Compressor, HEADER_LEN,
    ProducerStamp,
};

const RUNS: usize = 5;
const NOW_MS: i64 = 1_790_000_000_000;
const DECOMPRESSED_MAX: usize = 64 << 20;
const SETTINGS: [(Compression, Option<i32>); 10] = [
    (Compression::None, None),
    (Compression::Gzip, Some(1)),
    (Compression::Gzip, Some(6)),
    (Compression::Gzip, Some(9)),
    (Compression::Snappy, None),
    (Compression::Lz4, None),
    (Compression::Zstd, Some(1)),
    (Compression::Zstd, Some(3)),
    (Compression::Zstd, Some(9)),
    (Compression::Zstd, Some(19)),
];

#[derive(Debug, Parser)]
struct Args {
    /// Log files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Bytes of a batch before compression.
    #[arg(long, default_value_t = 64 << 10)]
    batch_size: usize,
    /// Seconds a run.
    #[arg(long, default_value_t = 0.1)]
    seconds: f64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    for file in &args.files {
        let text = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        let batches = batches(&text, args.batch_size);
        ensure!(!batches.is_empty(), "{} has no lines", file.display());
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        for (codec, level) in SETTINGS {
            let figures = measure(&batches, codec, level, Duration::from_secs_f64(args.seconds))?;
            let line = serde_json::json!({
                "file": name, "file_bytes": text.len(), "batch_bytes": args.batch_size,
                "codec": codec.name(), "level": level, "ratio": rounded(figures.ratio),
                "unit": "M records/s of CPU",
                "compress": figures.compress, "read": figures.read, "runs": RUNS,
            });
            println!("{line}");
        }
    }
    Ok(())
}

/// The lines of a file, a record each.
fn batches(text: &[u8], batch_size: usize) -> Vec<Bytes> {
    let stamp = ProducerStamp { id: 7, epoch: 0, base_sequence: 0 };
    let (mut batches, mut builder) = (Vec::new(), BatchBuilder::new(batch_size));
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let time = NOW_MS + i64::from(builder.record_count() / 100);
        if builder.append(time, None, Some(line), &[]).is_err() {
            let full = std::mem::replace(&mut builder, BatchBuilder::new(batch_size));
            batches.push(full.finish(stamp));
            // An empty batch takes any record.
            let _ = builder.append(NOW_MS, None, Some(line), &[]);
        }
    }
    if !builder.is_empty() {
        batches.push(builder.finish(stamp));
    }
    batches
}

struct Figures {
    ratio: f64,
    compress: serde_json::Value,
    read: serde_json::Value,
}

fn measure(
    plain: &[Bytes],
    codec: Compression,
    level: Option<i32>,
    span: Duration,
) -> Result<Figures> {
    let mut compressor = Compressor::new(codec, level)?;
    let mut compressed = Vec::with_capacity(plain.len());
    let mut counts = Vec::with_capacity(plain.len());
    for batch in plain {
        let block = compressor.compress(&batch[HEADER_LEN..])?;
        let mut header = BatchHeader::parse(batch)?;
        header.set_block(codec, block);
        counts.push(header.record_count as usize);
        compressed.push(Bytes::from([&header.encode()[..], block].concat()));
    }
    let bytes = |batches: &[Bytes]| batches.iter().map(Bytes::len).sum::<usize>() as f64;
    let compress = rates(span, |at| {
        let at = at % plain.len();
        let block = compressor.compress(&plain[at][HEADER_LEN..]);
        black_box(block.expect("compressed once already").len());
        counts[at]
    });
    let mut decoder = BatchDecoder::new(DECOMPRESSED_MAX);
    let read = rates(span, |at| {
        let batch = Batch::parse(&compressed[at % compressed.len()]).expect("as built");
        let (mut records, mut sum) = (0, 0);
        for record in decoder.records(&batch).expect("as compressed") {
            let record = record.expect("as built");
            sum += record.offset.0 + record.value.map_or(0, <[u8]>::len) as i64;
            records += 1;
        }
        black_box(sum);
        records
    });
    Ok(Figures { ratio: bytes(plain) / bytes(&compressed), compress, read })
}

/// Runs `step` over and over; it is given a counter and returns how many records it did.
fn rates(span: Duration, mut step: impl FnMut(usize) -> usize) -> serde_json::Value {
    let mut rates: Vec<f64> = (0..RUNS)
        .map(|_| {
            let (start, cpu) = (Instant::now(), thread_cpu_seconds());
            let (mut records, mut at) = (0, 0);
            while start.elapsed() < span {
                records += step(at);
                at += 1;
            }
            records as f64 / (thread_cpu_seconds() - cpu) / 1e6
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    serde_json::json!({ "median": rounded(rates[RUNS / 2]), "best": rounded(rates[RUNS - 1]) })
}

/// What this thread has used so far.
fn thread_cpu_seconds() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("a thread's own usage");
    let [user, system] = [usage.user_time(), usage.system_time()];
    (user.num_microseconds() + system.num_microseconds()) as f64 / 1e6
}

fn rounded(rate: f64) -> f64 {
    (rate * 100.0).round() / 100.0
}
