//! What metrics show of the cleaners.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::pool::is_candidate;
use crate::storage::log::Log;
use crate::storage::log_set::LogSet;

/// Figures of the cleaners; counters since the start, the others of the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CleanerUsage {
    /// Logs compacted.
    pub cleanings: u64,
    /// Passes over logs; more than one a cleaning where keys did not fit.
    pub passes: u64,
    /// Cleanings that failed.
    pub failures: u64,
    /// Cleaners that panicked and were set going again.
    pub restarts: u64,
    /// Threads that should run and do not.
    pub dead_threads: u64,
    /// Bytes read, for key maps too.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Records looked at.
    pub records_read: u64,
    /// Records that went.
    pub records_removed: u64,
    /// Of the last cleaning: bytes written per hundred read.
    pub recopy_percent: u64,
    /// The dirty part of the dirtiest log at the last look.
    pub max_dirty_percent: u64,
    /// How full the key map of the last cleaning was.
    pub buffer_percent: u64,
    /// Milliseconds since a cleaning ended; `None` before the first one.
    pub since_last_run_ms: Option<u64>,
    /// Partitions that are not compacted as they should be.
    pub uncleanable_partitions: u64,
    /// Bytes of those that wait for it.
    pub uncleanable_bytes: u64,
}

impl LogSet {
    /// Figures of the cleaners.
    pub fn cleaner_usage(&self) -> CleanerUsage {
        let figures = &self.inner.context.cleaning.figures;
        let get = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let last_run_ms = figures.last_run_ms.load(Ordering::Relaxed);
        let since = self.inner.context.clock.now_ms().saturating_sub(last_run_ms);
        let mut usage = CleanerUsage {
            cleanings: get(&figures.cleanings),
            passes: get(&figures.passes),
            failures: get(&figures.failures),
            restarts: get(&figures.restarts),
            dead_threads: get(&figures.dead_threads),
            read_bytes: get(&figures.read_bytes),
            written_bytes: get(&figures.written_bytes),
            records_read: get(&figures.records_read),
            records_removed: get(&figures.records_removed),
            recopy_percent: get(&figures.recopy_percent),
            max_dirty_percent: get(&figures.max_dirty_percent),
            buffer_percent: get(&figures.buffer_percent),
            since_last_run_ms: (last_run_ms != 0).then(|| u64::try_from(since).unwrap_or(0)),
            ..CleanerUsage::default()
        };
        let stuck = |log: &&Arc<Log>| is_candidate(log) && log.uncleanable().is_some();
        for log in self.logs().iter().filter(stuck) {
            let first_dirty = log.first_dirty();
            let tips = log.segments.load().iter().map(|s| s.tip()).collect::<Vec<_>>();
            let waiting = tips.iter().filter(|tip| tip.end_offset > first_dirty);
            usage.uncleanable_partitions += 1;
            usage.uncleanable_bytes += waiting.map(|tip| tip.size).sum::<u64>();
        }
        usage
    }
}
