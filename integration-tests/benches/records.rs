//! How fast records are encoded and decoded on one core: JSON lines, one a figure.
//!
//! `bench-records [SECONDS_A_FIGURE] [NAME]`: 200-byte values in 64 KiB batches out of 64 MiB of
//! generated log lines, read back over 16 MiB of finished batches. Rates are by the thread's CPU time;
//! each figure is the best and the median of five runs, because other work on the machine only ever
//! makes a run slower. `memcpy`, which copies the values and nothing else, is the limit the others
//! are measured against.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use proto::record::{Batch, BatchBuilder, ProducerStamp};

#[path = "bench/lines.rs"]
mod lines;

const VALUE_LEN: usize = 200;
const KEY_LEN: usize = 16;
const BATCH_LEN: usize = 64 << 10;
const SOURCE_LEN: usize = 64 << 20;
const KEPT_BATCHES: usize = 256;
const RUNS: usize = 5;
const NOW_MS: i64 = 1_790_000_000_000;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let seconds: f64 = args.next().map_or(Ok(0.2), |text| text.parse()).context("SECONDS")?;
    let only = args.next().unwrap_or_default();
    let source = lines::fixed_lines(SOURCE_LEN / VALUE_LEN, VALUE_LEN);
    let run = Bench { source, span: Duration::from_secs_f64(seconds), only };

    run.figure("memcpy", |bench, at| bench.copy(at));
    for (name, with_key) in [("no key", false), ("16 B key", true)] {
        run.figure(&format!("encode, {name}"), |bench, at| bench.encode(at, with_key));
        let kept = run.kept(with_key);
        run.figure(&format!("decode borrowed, {name}"), |_, at| decode(&kept, at, true));
        run.figure(&format!("decode borrowed, crc known, {name}"), |_, at| {
            decode(&kept, at, false)
        });
        run.figure(&format!("decode to Bytes, {name}"), |_, at| decode_slices(&kept, at));
    }
    Ok(())
}

struct Bench {
    /// Values, one after the other.
    source: Vec<u8>,
    span: Duration,
    only: String,
}

impl Bench {
    /// Runs `step` over and over; it is given a counter and returns how many records it did.
    fn figure(&self, name: &str, mut step: impl FnMut(&Self, usize) -> usize) {
        if !name.contains(&self.only) {
            return;
        }
        let mut rates: Vec<f64> = (0..RUNS)
            .map(|_| {
                let (start, cpu) = (Instant::now(), thread_cpu_seconds());
                let (mut records, mut at) = (0, 0);
                while start.elapsed() < self.span {
                    records += step(self, at);
                    at += 1;
                }
                records as f64 / (thread_cpu_seconds() - cpu) / 1e6
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        let line = serde_json::json!({
            "figure": name, "unit": "M records/s",
            "best": rounded(rates[RUNS - 1]), "median": rounded(rates[RUNS / 2]),
            "value_bytes": VALUE_LEN, "batch_bytes": BATCH_LEN, "runs": RUNS,
        });
        println!("{line}");
    }

    /// As many values as a batch takes, the `at`-th such group of the source.
    fn values(&self, at: usize) -> impl Iterator<Item = &[u8]> {
        let all = self.source.len() / VALUE_LEN;
        let group = BATCH_LEN / VALUE_LEN;
        let first = at * group % (all - group);
        self.source[first * VALUE_LEN..].chunks_exact(VALUE_LEN)
    }

    fn copy(&self, at: usize) -> usize {
        let mut buffer = Vec::with_capacity(BATCH_LEN);
        for value in self.values(at) {
            if buffer.len() + VALUE_LEN > BATCH_LEN {
                break;
            }
            buffer.extend_from_slice(value);
        }
        black_box(&buffer).len() / VALUE_LEN
    }

    fn encode(&self, at: usize, with_key: bool) -> usize {
        let (batch, records) = self.batch(at, with_key);
        black_box(&batch);
        records
    }

    fn batch(&self, at: usize, with_key: bool) -> (Bytes, usize) {
        let mut builder = BatchBuilder::new(BATCH_LEN);
        for value in self.values(at) {
            let key = with_key.then(|| &value[..KEY_LEN]);
            let timestamp = NOW_MS + i64::from(builder.record_count() / 100);
            if builder.append(timestamp, key, Some(value), &[]).is_err() {
                break;
            }
        }
        let records = builder.record_count() as usize;
        (builder.finish(ProducerStamp { id: 7, epoch: 0, base_sequence: 0 }), records)
    }

    fn kept(&self, with_key: bool) -> Vec<Bytes> {
        (0..KEPT_BATCHES).map(|at| self.batch(at, with_key).0).collect()
    }
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

fn parsed(bytes: &[u8], check_crc: bool) -> Batch<'_> {
    let batch = if check_crc { Batch::parse(bytes) } else { Batch::parse_without_crc(bytes) };
    batch.expect("a batch this program built")
}

fn decode(kept: &[Bytes], at: usize, check_crc: bool) -> usize {
    let batch = parsed(&kept[at % kept.len()], check_crc);
    let (mut records, mut sum) = (0, 0);
    for record in batch.records() {
        let record = record.expect("a record this program built");
        let fields = [record.key, record.value].map(|field| field.map_or(0, <[u8]>::len) as i64);
        sum += record.offset.0 + record.timestamp + fields[0] + fields[1];
        records += 1;
    }
    black_box(sum);
    records
}

fn decode_slices(kept: &[Bytes], at: usize) -> usize {
    let bytes = &kept[at % kept.len()];
    let fields: Vec<(i64, i64, Option<Bytes>, Option<Bytes>)> = parsed(bytes, true)
        .records()
        .map(|record| {
            let record = record.expect("a record this program built");
            let slice = |field: Option<&[u8]>| field.map(|field| bytes.slice_ref(field));
            (record.offset.0, record.timestamp, slice(record.key), slice(record.value))
        })
        .collect();
    black_box(&fields).len()
}
