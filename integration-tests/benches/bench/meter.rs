//! What a process uses between two moments: time, CPU, memory at its peak.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Value, json};

const SAMPLE_EVERY: Duration = Duration::from_millis(10);

/// Measures this process from [`Meter::start`] to [`Meter::stop`].
pub(crate) struct Meter {
    start: Instant,
    began: f64,
    cpu: f64,
    memory: Peak,
}

impl Meter {
    pub(crate) fn start() -> Result<Self> {
        let memory = Peak::watch(std::process::id())?;
        Ok(Self { start: Instant::now(), began: wall_seconds(), cpu: own_cpu_seconds(), memory })
    }

    /// Records, seconds, CPU and memory. Memory is less what was there at the start: the values to
    /// send are not the client's.
    pub(crate) fn stop(self, records: u64) -> Value {
        let seconds = self.start.elapsed().as_secs_f64();
        let cpu = own_cpu_seconds() - self.cpu;
        let (peak, file) = self.memory.stop();
        json!({
            "records": records, "seconds": seconds, "client_cpu_seconds": cpu,
            "client_peak_kib": peak, "client_peak_file_kib": file,
            "began": self.began, "ended": self.began + seconds,
        })
    }
}

fn wall_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |span| span.as_secs_f64())
}

/// What several clients did at the same time, as one figure: from the first one's start to the last
/// one's end, everything else added up.
pub(crate) fn together(parts: &[Value]) -> Value {
    let all = |key: &'static str| parts.iter().filter_map(move |part| part[key].as_f64());
    let began = all("began").fold(f64::INFINITY, f64::min);
    let ended = all("ended").fold(0.0, f64::max);
    let records: u64 = parts.iter().filter_map(|part| part["records"].as_u64()).sum();
    let peak = |key| all(key).sum::<f64>() as u64;
    json!({
        "records": records, "seconds": ended - began, "clients": parts.len(),
        "client_cpu_seconds": all("client_cpu_seconds").sum::<f64>(),
        "client_peak_kib": peak("client_peak_kib"),
        "client_peak_file_kib": peak("client_peak_file_kib"),
        "began": began, "ended": ended,
    })
}

/// User and system CPU seconds of this process.
pub(crate) fn own_cpu_seconds() -> f64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return 0.0 };
    let [user, system] = [usage.user_time(), usage.system_time()];
    (user.num_microseconds() + system.num_microseconds()) as f64 / 1e6
}

/// Samples the memory of a process until stopped.
pub(crate) struct Peak {
    stop: Arc<AtomicBool>,
    /// RssAnon + RssShmem less their sum at the start, and RssFile, each at its highest.
    highest: Arc<[AtomicU64; 2]>,
    thread: JoinHandle<()>,
}

impl Peak {
    pub(crate) fn watch(process: u32) -> Result<Self> {
        Self::start(process, memory_kib(process)?.0)
    }

    /// The same, with what was there at the start counted too.
    pub(crate) fn watch_whole(process: u32) -> Result<Self> {
        Self::start(process, 0)
    }

    fn start(process: u32, base: u64) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let highest = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let thread = std::thread::Builder::new().name("memory".into()).spawn({
            let (stop, highest) = (Arc::clone(&stop), Arc::clone(&highest));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((own, file)) = memory_kib(process) {
                        highest[0].fetch_max(own.saturating_sub(base), Ordering::Relaxed);
                        highest[1].fetch_max(file, Ordering::Relaxed);
                    }
                    std::thread::park_timeout(SAMPLE_EVERY);
                }
            }
        })?;
        Ok(Self { stop, highest, thread })
    }

    /// KiB at the peak: own memory, and mapped file pages.
    pub(crate) fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let _ = self.thread.join();
        let [own, file] = &*self.highest;
        (own.load(Ordering::Relaxed), file.load(Ordering::Relaxed))
    }
}

fn memory_kib(process: u32) -> Result<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let text = line.with_context(|| format!("no {name} of process {process}"))?;
        Ok(text.trim().trim_end_matches(" kB").parse()?)
    };
    Ok((field("RssAnon:")? + field("RssShmem:")?, field("RssFile:")?))
}

/// CPU seconds of another process, in steps of 10 ms.
pub(crate) fn cpu_seconds(process: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let rest = stat.rsplit_once(')').context("no name in stat")?.1;
    let field = |at: usize| -> Result<u64> {
        let text = rest.split_whitespace().nth(at).context("a short stat")?;
        Ok(text.parse()?)
    };
    Ok((field(11)? + field(12)?) as f64 / 100.0)
}

/// An empty histogram of microseconds with a tenth of one as its step, up to a minute.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(600_000_000, 3).expect("valid bounds")
}

/// Adds a span.
pub(crate) fn note(histogram: &mut Histogram<u64>, span: Duration) {
    histogram.saturating_record((span.as_nanos() / 100) as u64);
}

/// The percentiles in microseconds.
pub(crate) fn percentiles(histogram: &Histogram<u64>) -> Value {
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 10.0;
    json!({
        "p50_us": at(0.5), "p90_us": at(0.9), "p99_us": at(0.99), "p99_9_us": at(0.999),
        "p99_99_us": at(0.9999), "max_us": histogram.max() as f64 / 10.0,
    })
}

/// Puts the fields of `more` into `value`.
pub(crate) fn merge(value: &mut Value, more: Value) {
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
}
