//! The cleaner threads: each takes the dirtiest log that is due and nobody else works on, compacts
//! it, and looks again; with nothing due it waits `log.cleaner.backoff.ms`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use proto::TopicPartition;

use super::cleaner::CompactionReport;
use super::error::CompactionError;
use super::swap;
use crate::storage::log::Log;
use crate::storage::log_set::{Inner, LogSet};
use crate::storage::panics::text_of;

/// A thread of the pool: until told to stop, or until the log set is gone.
pub(in crate::storage) fn run(inner: &Weak<Inner>) {
    let Some(cleaning) = inner.upgrade().map(|inner| inner.context.cleaning.clone()) else {
        return;
    };
    while !cleaning.is_stopping() {
        let Some(alive) = inner.upgrade() else { return };
        let cleaned = catch_unwind(AssertUnwindSafe(|| clean_dirtiest(&alive)));
        // Not kept alive while waiting.
        drop(alive);
        let cleaned = cleaned.unwrap_or_else(|panic| {
            cleaning.figures.restarts.fetch_add(1, Ordering::Relaxed);
            tracing::error!(panic = text_of(&*panic), "a log cleaner panicked, it goes on");
            false
        });
        if !cleaned && cleaning.pause(cleaning.config.backoff) {
            return;
        }
    }
}

/// Compacts all that is due, on the caller's thread, when `log.cleaner.backoff.ms` is over; for
/// `Background::Caller`.
pub(in crate::storage) fn run_due(inner: &Inner) {
    let cleaning = &inner.context.cleaning;
    if !cleaning.config.enable || !cleaning.is_due() {
        return;
    }
    // Each log once, and a look that finds nothing: one that others keep changing stays due.
    let logs = inner.logs.read().len();
    for _ in 0..=logs {
        if !clean_dirtiest(inner) {
            return;
        }
    }
}

impl LogSet {
    /// Compacts every log with `cleanup.policy=compact` that has anything dirty, due or not, on the
    /// caller's thread.
    pub fn clean_now(&self) -> Vec<(TopicPartition, Result<CompactionReport, CompactionError>)> {
        let logs = self.logs();
        let compacted = logs.iter().filter(|log| is_candidate(log));
        compacted.map(|log| (log.partition().clone(), clean(log))).collect()
    }
}

/// Whether a log is compacted at all.
pub(super) fn is_candidate(log: &Log) -> bool {
    log.config.load().cleanup_policy.compact && log.offline().is_none()
}

/// True when there was something to do.
fn clean_dirtiest(inner: &Inner) -> bool {
    let logs: Vec<Arc<Log>> = inner.logs.read().values().cloned().collect();
    let mut dirtiest: Option<(f64, &Arc<Log>)> = None;
    let mut max_ratio = 0.0_f64;
    for log in logs.iter().filter(|log| is_candidate(log)) {
        log.roll_if_overdue();
        let range = log.compactable();
        let ratio = range.selection.dirty_ratio();
        max_ratio = max_ratio.max(ratio);
        let due = range.selection.is_due(&log.config())
            || (!range.segments.is_empty() && log.has_ripe_tombstones());
        let free = !log.rests() && !log.compaction.is_running();
        if due && free && dirtiest.is_none_or(|(most, _)| ratio > most) {
            dirtiest = Some((ratio, log));
        }
    }
    let figures = &inner.context.cleaning.figures;
    figures.max_dirty_percent.store((max_ratio * 100.0) as u64, Ordering::Relaxed);
    let Some((_, log)) = dirtiest else { return false };
    // Noted and logged where it fails.
    let _ = clean(log);
    true
}

/// Compacts a log; a panic is noted as its trouble, so that it is left alone for a while.
fn clean(log: &Log) -> Result<CompactionReport, CompactionError> {
    let figures = &log.context.cleaning.figures;
    let begun = log.context.clock.elapsed();
    let result = catch_unwind(AssertUnwindSafe(|| log.compact())).unwrap_or_else(|panic| {
        figures.restarts.fetch_add(1, Ordering::Relaxed);
        swap::discard(log);
        let error = CompactionError::Panicked(text_of(&*panic));
        log.note_trouble(&error);
        Err(error)
    });
    if let Ok(report) = &result {
        figures.cleanings.fetch_add(1, Ordering::Relaxed);
        figures.passes.fetch_add(report.passes.into(), Ordering::Relaxed);
        figures.records_read.fetch_add(report.records, Ordering::Relaxed);
        figures.records_removed.fetch_add(report.records - report.kept, Ordering::Relaxed);
        figures.buffer_percent.store(report.map_percent, Ordering::Relaxed);
        if let Some(percent) = (report.written_bytes * 100).checked_div(report.read_bytes) {
            figures.recopy_percent.store(percent, Ordering::Relaxed);
        }
        let took = log.context.clock.elapsed().saturating_sub(begun);
        tracing::info!(
            partition = %log.partition, passes = report.passes, read = report.read_bytes,
            written = report.written_bytes, records = report.records, kept = report.kept,
            clean_end = report.clean_end.0, ?took, "partition compacted"
        );
    }
    figures.last_run_ms.store(log.context.clock.now_ms(), Ordering::Relaxed);
    result
}

impl Log {
    /// Begins a new segment when the active one has waited longer than `max.compaction.lag.ms`:
    /// the active one is never compacted.
    fn roll_if_overdue(&self) {
        let Some(lag_ms) = self.config.load().max_compaction_lag_ms else { return };
        let now_ms = self.context.clock.now_ms();
        let active = self.segments.active();
        let first = active.and_then(|active| active.first_append_ms());
        let waited = first.map_or(0, |first| now_ms.saturating_sub(first));
        if u64::try_from(waited).is_ok_and(|waited| waited > lag_ms)
            && let Err(error) = self.roll()
        {
            tracing::warn!(partition = %self.partition, %error, "cannot make a new segment");
        }
    }
}
