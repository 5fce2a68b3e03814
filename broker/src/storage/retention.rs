//! Deleting old segments, by time and by size; whole segments only, the oldest first.
//!
//! Decided and taken off the list under the writer lock; the files go afterwards, off the hot path.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
    /// Its newest record's time; when it has none, when it was written.
    pub(super) newest_ms: i64,
}

/// How many of the oldest segments may go. `segments` is all but the active one, oldest first;
/// `active_size` counts against `retention.bytes` too; above `settled` nothing goes.
pub(super) fn expired(
    segments: &[Age],
    active_size: u64,
    settled: Offset,
    config: &LogConfig,
    now_ms: i64,
) -> usize {
    if !config.cleanup_policy.delete {
        return 0;
    }
    let mut total = active_size + segments.iter().map(|segment| segment.size).sum::<u64>();
    let mut count = 0;
    for segment in segments {
        let too_old = config.retention_ms.is_some_and(|keep| {
            u64::try_from(now_ms.saturating_sub(segment.newest_ms)).is_ok_and(|age| age > keep)
        });
        let too_much = config.retention_bytes.is_some_and(|keep| total - segment.size >= keep);
        if segment.end_offset > settled || !(too_old || too_much) {
            break;
        }
        total -= segment.size;
        count += 1;
    }
    count
}

fn age_of(segment: &Segment) -> Age {
    let tip = segment.tip();
    let stamped = segment.newest().map(|newest| newest.timestamp).filter(|&ms| ms >= 0);
    let newest_ms = stamped.or(segment.first_append_ms()).unwrap_or(i64::MAX);
    Age { end_offset: tip.end_offset, size: tip.size, newest_ms }
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
        let removed = {
            let mut writer = self.writer.lock();
            let list = self.segments.load();
            let Some((active, closed)) = list.split_last() else { return Ok(0) };
            let ages: Vec<_> = closed.iter().map(|segment| age_of(segment)).collect();
            // What is not flushed yet has no producer snapshot behind it either.
            let settled = self.high_watermark().min(self.flushed());
            let count = expired(&ages, active.tip().size, settled, &config, now_ms);
            if count == 0 {
                return Ok(0);
            }
            let (removed, kept) = list.split_at(count);
            let removed = removed.to_vec();
            self.segments.replace(kept.to_vec());
            let log_start = kept.first().map_or(self.log_end(), |first| first.base_offset);
            self.log_start.store(log_start.0, Ordering::Release);
            writer.epochs_dirty |= writer.epochs.cut_start(log_start);
            removed
        };
        let log_start = self.log_start();
        self.forget_damage(|range| range.to > log_start);
        tracing::info!(
            partition = %self.partition, segments = removed.len(), log_start = log_start.0,
            "retention deletes segments"
        );
        self.tell(|listener| listener.log_start_advanced(log_start));
        // Logged where it fails, and tried again with the next checkpoint.
        let _ = self.save_epochs();
        self.remove_files(&removed)?;
        Ok(removed.len())
    }

    /// The active segment goes too when all in it is too old, so that quiet topics expire.
    fn active_expired(&self, config: &LogConfig, now_ms: i64) -> bool {
        let Some(active) = self.segments.active() else { return false };
        let by_time = LogConfig { retention_bytes: None, ..config.clone() };
        active.tip().size > 0
            && expired(&[age_of(&active)], 0, self.high_watermark(), &by_time, now_ms) > 0
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
