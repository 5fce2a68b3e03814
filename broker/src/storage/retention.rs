//! Deleting old segments: whole ones only, the oldest first.
//!
//! Three rules, Kafka's. A segment below the log start goes whatever the policy
//! (`delete_records` moved the start into or behind it). Where `cleanup.policy` has `delete`, one
//! goes as well when its newest record is older than `retention.ms`, and when without it the log
//! still has `retention.bytes`. The active segment is rolled first and then goes too, so that quiet
//! topics expire. Nothing goes above the high watermark.
//!
//! A record counts as as old as its timestamp says, but one of the future holds nothing up: the
//! segment then counts as old as its last append, as it does where records have no timestamps. So
//! a record is kept at least `retention.ms` after its append or its timestamp, what is earlier,
//! and at most about twice that after its append, whatever it is stamped with.
//!
//! Decided and taken off the list under the writer lock; the files go afterwards, off the hot path.
//! They are unlinked at once (Kafka waits `file.delete.delay.ms`): slices that readers hold keep
//! their bytes until they are sent, and who reads on is told that his offset is out of range.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::Offset;

use super::config::LogConfig;
use super::flush::Reach;
use super::log::Log;
use super::segment::Segment;

/// What of a segment retention goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Age {
    /// The offset after its last (exclusive).
    pub(super) end_offset: Offset,
    /// Bytes.
    pub(super) size: u64,
    /// Its newest record's timestamp; `None` where no record has one.
    pub(super) newest_ms: Option<i64>,
    /// When the last batch was appended; `None` while there is none.
    pub(super) last_append_ms: Option<i64>,
}

/// Why a segment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// All of it is below the log start.
    BelowStart,
    /// `retention.ms`.
    Time,
    /// `retention.bytes`.
    Size,
}

/// What retention goes by beside the segments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds<'a> {
    /// The log's settings.
    pub(super) config: &'a LogConfig,
    /// The log start.
    pub(super) log_start: Offset,
    /// Above it nothing goes.
    pub(super) settled: Offset,
    /// The time.
    pub(super) now_ms: i64,
}

/// Segments deleted, by reason, over all logs.
#[derive(Debug, Default)]
pub(super) struct RetentionCounters {
    below_start: AtomicU64,
    time: AtomicU64,
    size: AtomicU64,
}

/// Segments that were deleted since the start, over all logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeletedSegments {
    /// Below the log start: their records had been deleted by request.
    pub below_start: u64,
    /// By `retention.ms`.
    pub by_time: u64,
    /// By `retention.bytes`.
    pub by_size: u64,
}

impl RetentionCounters {
    fn count(&self, reason: Reason) {
        let counter = match reason {
            Reason::BelowStart => &self.below_start,
            Reason::Time => &self.time,
            Reason::Size => &self.size,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The sums so far.
    pub(super) fn totals(&self) -> DeletedSegments {
        DeletedSegments {
            below_start: self.below_start.load(Ordering::Relaxed),
            by_time: self.time.load(Ordering::Relaxed),
            by_size: self.size.load(Ordering::Relaxed),
        }
    }
}

/// How many of the oldest segments may go, and why each does. `segments` is all of the log, oldest
/// first, the active one last.
pub(super) fn expired(segments: &[Age], bounds: Bounds<'_>) -> Vec<Reason> {
    let mut left = segments.iter().map(|segment| segment.size).sum::<u64>();
    let mut reasons = Vec::new();
    for segment in segments {
        let Some(reason) = why(segment, left, bounds) else { break };
        left -= segment.size;
        reasons.push(reason);
    }
    reasons
}

/// Why the oldest segment of a log of `left` bytes goes, if it does.
fn why(segment: &Age, left: u64, bounds: Bounds<'_>) -> Option<Reason> {
    let Bounds { config, log_start, settled, now_ms } = bounds;
    if segment.end_offset > settled {
        return None;
    }
    if segment.end_offset <= log_start {
        return Some(Reason::BelowStart);
    }
    if !config.cleanup_policy.delete {
        return None;
    }
    let stamped = segment.newest_ms.filter(|stamp| (0..=now_ms).contains(stamp));
    let age = stamped.or(segment.last_append_ms).map(|since| now_ms.saturating_sub(since));
    let age = age.and_then(|age| u64::try_from(age).ok());
    if config.retention_ms.is_some_and(|keep| age.is_some_and(|age| age > keep)) {
        return Some(Reason::Time);
    }
    let beyond = |keep| left - segment.size >= keep;
    config.retention_bytes.is_some_and(beyond).then_some(Reason::Size)
}

fn age_of(segment: &Arc<Segment>) -> Age {
    let tip = segment.tip();
    Age {
        end_offset: tip.end_offset,
        size: tip.size,
        newest_ms: segment.newest().map(|newest| newest.timestamp),
        last_append_ms: segment.last_append_ms().or(segment.first_append_ms()),
    }
}

impl Log {
    /// Deletes segments that retention no longer wants; returns how many.
    pub fn apply_retention(&self) -> io::Result<usize> {
        if self.offline.get().is_some() {
            return Ok(0);
        }
        let now_ms = self.context.clock.now_ms();
        let config = self.config();
        if self.active_expired(&config, now_ms)
            && let Err(error) = self.roll()
        {
            // A full disk, perhaps: deleting older segments helps.
            tracing::warn!(partition = %self.partition, %error, "cannot make a new segment");
        }
        if !self.flush.closing.lock().is_empty() && self.flush_reach(Reach::Closed).is_err() {
            return Ok(0);
        }
        // A swap of compacted segments is not to put one back in place.
        let _replacing = self.compaction.replacing.lock();
        let (removed, reasons) = self.take_expired(&config, now_ms);
        if removed.is_empty() {
            return Ok(0);
        }
        let first = removed.last().map_or(Offset::ZERO, |last| last.tip().end_offset);
        self.forget_damage(|range| range.to > first);
        let log_start = self.log_start();
        let count = |reason| reasons.iter().filter(|&&r| r == reason).count();
        tracing::info!(
            partition = %self.partition, log_start = log_start.0,
            below_start = count(Reason::BelowStart), by_time = count(Reason::Time),
            by_size = count(Reason::Size), "retention deletes segments"
        );
        reasons.iter().for_each(|&reason| self.context.retention.count(reason));
        self.tell(|listener| listener.log_start_advanced(log_start));
        // Logged where it fails, and tried again with the next checkpoint.
        let _ = self.save_epochs();
        self.remove_files(&removed)?;
        Ok(removed.len())
    }

    /// Takes what is expired off the list, the active segment left out, and moves the log start.
    fn take_expired(&self, config: &LogConfig, now_ms: i64) -> (Vec<Arc<Segment>>, Vec<Reason>) {
        let mut writer = self.writer.lock();
        let list = self.segments.load();
        // What is not flushed yet has no producer snapshot behind it either.
        let settled = self.high_watermark().min(self.flushed());
        let bounds = Bounds { config, log_start: self.log_start(), settled, now_ms };
        let mut reasons = expired(&list.iter().map(age_of).collect::<Vec<_>>(), bounds);
        reasons.truncate(list.len().saturating_sub(1));
        if reasons.is_empty() {
            return (Vec::new(), reasons);
        }
        let (removed, kept) = list.split_at(reasons.len());
        let removed = removed.to_vec();
        self.segments.replace(kept.to_vec());
        let first = kept.first().map_or(self.log_end(), |first| first.base_offset);
        self.log_start.fetch_max(first.0, Ordering::AcqRel);
        self.cut_epochs_start(&mut writer, self.log_start());
        (removed, reasons)
    }

    /// Whether the active segment would go with all before it.
    fn active_expired(&self, config: &LogConfig, now_ms: i64) -> bool {
        let ages: Vec<_> = self.segments.load().iter().map(age_of).collect();
        let (log_start, settled) = (self.log_start(), self.high_watermark());
        expired(&ages, Bounds { config, log_start, settled, now_ms }).len() == ages.len()
    }

    /// Unlinks a removed segment's files, oldest first, so that a crash leaves no hole. Slices that
    /// readers hold keep their bytes; who has the segment alone is told that it is gone.
    pub(super) fn remove_files(&self, removed: &[Arc<Segment>]) -> io::Result<()> {
        let folder = self.folder();
        for segment in removed {
            segment.retire();
            for path in Segment::paths(&folder, segment.base_offset) {
                match self.context.disk.remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::CleanupPolicy;
    use super::*;

    const NOW: i64 = 1_000_000;

    fn age(end: i64, newest_ms: i64, last_append_ms: i64) -> Age {
        let newest_ms = Some(newest_ms).filter(|&ms| ms >= 0);
        let last_append_ms = Some(last_append_ms);
        Age { end_offset: Offset(end), size: 100, newest_ms, last_append_ms }
    }

    fn reasons(ages: &[Age], config: &LogConfig, log_start: i64, settled: i64) -> Vec<Reason> {
        let (log_start, settled) = (Offset(log_start), Offset(settled));
        expired(ages, Bounds { config, log_start, settled, now_ms: NOW })
    }

    #[test]
    fn what_goes_is_a_run_of_the_oldest() {
        let keep_all = LogConfig { retention_ms: None, ..LogConfig::default() };
        let by_time = LogConfig { retention_ms: Some(1000), ..LogConfig::default() };
        let old = [age(10, NOW - 2000, 0), age(20, NOW - 1000, 0), age(30, NOW - 2000, 0)];
        // Exactly as old as allowed is kept, and shields the older one behind it.
        assert_eq!(reasons(&old, &by_time, 0, 30), [Reason::Time]);
        assert_eq!(reasons(&old, &by_time, 0, 9), []);
        assert_eq!(reasons(&old, &keep_all, 20, 30), [Reason::BelowStart; 2]);
        assert_eq!(reasons(&old, &keep_all, 19, 30), [Reason::BelowStart]);
        let by_size = LogConfig { retention_bytes: Some(200), ..keep_all.clone() };
        assert_eq!(reasons(&old, &by_size, 0, 30), [Reason::Size]);
        let nothing = LogConfig { retention_bytes: Some(0), ..keep_all.clone() };
        assert_eq!(reasons(&old, &nothing, 0, 30), [Reason::Size; 3]);
        let both = LogConfig { retention_bytes: Some(150), ..by_time };
        assert_eq!(reasons(&old, &both, 0, 30), [Reason::Time]);
        let cleanup_policy = CleanupPolicy { delete: false, compact: true };
        let compacted = LogConfig { cleanup_policy, ..nothing };
        assert_eq!(reasons(&old, &compacted, 10, 30), [Reason::BelowStart]);
        assert_eq!(reasons(&[], &compacted, 10, 30), []);
    }

    #[test]
    fn timestamps_of_the_future_and_missing_ones_hold_nothing_up() {
        let config = LogConfig { retention_ms: Some(1000), ..LogConfig::default() };
        let goes = |newest_ms, last_append_ms| {
            !reasons(&[age(10, newest_ms, last_append_ms)], &config, 0, 10).is_empty()
        };
        assert!(goes(i64::MAX, NOW - 1001) && !goes(i64::MAX, NOW - 1000));
        assert!(goes(NOW + 1, NOW - 1001) && !goes(NOW, NOW - 1001));
        assert!(goes(-1, NOW - 1001) && !goes(-1, NOW - 1000));
        // Old records that came just now: their timestamps count, as in Kafka.
        assert!(goes(0, NOW));
        // A clock that was wrong when they came deletes nothing that is young by its timestamp.
        assert!(!goes(NOW - 5, 0));
    }

    #[test]
    fn a_retention_of_zero_deletes_all_that_has_aged() {
        let config = LogConfig { retention_ms: Some(0), ..LogConfig::default() };
        assert_eq!(reasons(&[age(10, NOW - 1, 0)], &config, 0, 10), [Reason::Time]);
        assert_eq!(reasons(&[age(10, NOW, 0)], &config, 0, 10), []);
    }
}
