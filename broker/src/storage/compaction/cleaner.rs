//! Compacts one log: passes of a key map over the dirty part and a rewrite of all before it, until
//! what was closed when it began is clean.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proto::{Offset, ProducerId};

use super::batch_reader::BatchReader;
use super::block::{Blocks, raw_records};
use super::cleaning::Cleaning;
use super::error::{BadBatch, CompactionError};
use super::filter::Judge;
use super::key_map::KeyMap;
use super::rewrite::{Pass, PassFigures};
use super::selection::{Extent, Selection};
use super::state::Trouble;
use super::swap;
use crate::storage::flush::Reach;
use crate::storage::header_walk::WalkError;
use crate::storage::log::Log;
use crate::storage::segment::{Segment, Tip};
use crate::storage::wait::Wait;

/// How long a log in trouble is left alone at first; doubled with each attempt.
const RETRY_FIRST: Duration = Duration::from_secs(60);
const RETRY_DOUBLINGS_MAX: u32 = 6;

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// Passes: more than one where the keys did not fit at once.
    pub passes: u32,
    /// Bytes of batches read for rewriting.
    pub read_bytes: u64,
    /// Bytes of segments written.
    pub written_bytes: u64,
    /// Records looked at.
    pub records: u64,
    /// Records that stayed.
    pub kept: u64,
    /// Segments that were replaced.
    pub replaced_segments: usize,
    /// Batches that cannot be decoded, which stayed as they are.
    pub opaque_batches: u64,
    /// Keys of the fullest map.
    pub keys: usize,
    /// How full it was, in percent.
    pub map_percent: u64,
    /// All below is clean now (exclusive).
    pub clean_end: Offset,
}

impl CompactionReport {
    fn add(&mut self, pass: &PassFigures) {
        self.passes += 1;
        self.read_bytes += pass.read_bytes;
        self.written_bytes += pass.written_bytes;
        self.records += pass.records;
        self.kept += pass.kept;
        self.replaced_segments += pass.replaced_segments;
        self.opaque_batches += pass.opaque_batches;
    }
}

/// What may be compacted of a log now.
pub(super) struct Range {
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) first_dirty: Offset,
    pub(super) selection: Selection,
    /// The damaged segment that ends the range.
    pub(super) blocked_at: Option<Offset>,
}

impl Range {
    fn end(&self) -> Option<Offset> {
        self.segments.last().map(|segment| segment.tip().end_offset)
    }
}

impl Log {
    /// Compacts what may be, however little of it is dirty, on the caller's thread. Appends, reads
    /// and flushes go on meanwhile.
    ///
    /// After return the log below [`CompactionReport::clean_end`] has of every key only the newest
    /// record there (and none for tombstones whose time is over). Offsets of records do not change.
    /// An error leaves the log compacted in part, which loses nothing.
    pub fn compact(&self) -> Result<CompactionReport, CompactionError> {
        let Some(_cleaning) = self.compaction.cleaning.try_lock() else {
            return Err(CompactionError::Busy(self.partition.clone()));
        };
        let result = self.compact_passes();
        if let Err(error) = &result {
            swap::discard(self);
            self.note_trouble(error);
        }
        result
    }

    fn compact_passes(&self) -> Result<CompactionReport, CompactionError> {
        self.check_online()?;
        #[cfg(test)]
        assert!(!self.compaction.poisoned.load(Ordering::Relaxed), "poisoned by a test");
        if !self.config().cleanup_policy.compact {
            return Err(CompactionError::NotCompacted(self.partition.clone()));
        }
        if !self.flush.closing.lock().is_empty() {
            // A failure takes the log offline; that is seen below.
            let _ = self.flush_reach(Reach::Closed);
        }
        let mut report = CompactionReport { clean_end: self.first_dirty(), ..Default::default() };
        let goal = self.compactable().end();
        while goal.is_some_and(|goal| report.passes == 0 || report.clean_end < goal) {
            self.check_online()?;
            let range = self.compactable();
            self.note_blocked(range.blocked_at);
            let ripe = report.passes == 0 && self.has_ripe_tombstones();
            if range.segments.is_empty() || (range.selection.dirty_bytes == 0 && !ripe) {
                break;
            }
            let cleaning = &*self.context.cleaning;
            let (figures, clean_end) = self
                .pass(cleaning, &range, &mut report)
                .map_err(|error| self.judge_error(error, &range))?;
            report.add(&figures);
            report.clean_end = clean_end;
            let (disk, dir) = (&*self.context.disk, &self.dir);
            if let Err(error) =
                dir.cleaned.advance(disk, &dir.path, &self.partition, report.clean_end)
            {
                tracing::warn!(partition = %self.partition, %error, "cleaner checkpoint not written");
            }
            self.compaction.memory.lock().next_horizon_ms = Some(figures.next_horizon_ms);
        }
        self.compaction.memory.lock().trouble = None;
        Ok(report)
    }

    /// One pass: the map of as much of the dirty part as fits, and the rewrite.
    fn pass(
        &self,
        cleaning: &Cleaning,
        range: &Range,
        report: &mut CompactionReport,
    ) -> Result<(PassFigures, Offset), CompactionError> {
        let now_ms = self.context.clock.now_ms();
        let config = self.config();
        let (map, map_end) = map_dirty(cleaning, range)?;
        report.keys = report.keys.max(map.len());
        report.map_percent =
            report.map_percent.max(map.len() as u64 * 100 / map.capacity().max(1) as u64);
        let keep_ms = i64::try_from(config.delete_retention_ms).unwrap_or(i64::MAX);
        let pass = Pass {
            log: self,
            cleaning,
            judge: Judge { map: &map, now_ms, new_horizon_ms: now_ms.saturating_add(keep_ms) },
            map_end,
            last_batches: self.last_batches(map_end),
        };
        let below = |segment: &&Arc<Segment>| segment.base_offset < map_end;
        let segments: Vec<_> = range.segments.iter().filter(below).cloned().collect();
        Ok((pass.run(&segments)?, map_end))
    }

    /// The last batch below `end` of each producer that is remembered.
    fn last_batches(&self, end: Offset) -> HashMap<ProducerId, Offset> {
        let writer = self.writer.lock();
        let all = writer.producers.sorted();
        let last = all.iter().filter_map(|(id, producer)| {
            let batches = producer.batches.iter().rev();
            let last = batches.map(|batch| batch.base_offset).find(|&base| base < end)?;
            Some((*id, last))
        });
        last.collect()
    }

    /// Below it the log is clean. What the checkpoint says is believed within the log only.
    pub(in crate::storage) fn first_dirty(&self) -> Offset {
        let (disk, dir) = (&*self.context.disk, &self.dir);
        let start = self.segments.load().first().map_or(Offset::ZERO, |s| s.base_offset);
        let known = dir.cleaned.get(disk, &dir.path, &self.partition);
        known.filter(|&offset| start <= offset && offset <= self.log_end()).unwrap_or(start)
    }

    /// What may be compacted now, and how dirty it is.
    pub(super) fn compactable(&self) -> Range {
        let settled = self.high_watermark().min(self.flushed());
        let first_dirty = self.first_dirty();
        let list = self.segments.load();
        let damage = self.damaged();
        let closed = list.split_last().map_or(&[][..], |(_, closed)| closed);
        let extents: Vec<_> = closed
            .iter()
            .map(|segment| Extent {
                end: segment.tip().end_offset,
                size: segment.tip().size,
                newest_ms: segment.newest().map(|newest| newest.timestamp),
                first_append_ms: segment.first_append_ms(),
                damaged: damage.iter().any(|range| range.segment == segment.base_offset),
            })
            .collect();
        let (config, now_ms) = (self.config(), self.context.clock.now_ms());
        let selection = Selection::of(&extents, first_dirty, settled, &config, now_ms);
        let segments = closed[..selection.segments].to_vec();
        let next = closed.get(selection.segments).filter(|_| selection.blocked);
        let blocked_at = next.map(|segment| segment.base_offset);
        Range { segments, first_dirty, selection, blocked_at }
    }

    /// Whether tombstones of the clean part have waited long enough.
    pub(super) fn has_ripe_tombstones(&self) -> bool {
        let next = self.compaction.memory.lock().next_horizon_ms;
        next.is_some_and(|horizon| horizon <= self.context.clock.now_ms())
    }

    /// Why the log is not compacted as it should be, if so.
    pub fn uncleanable(&self) -> Option<String> {
        let memory = self.compaction.memory.lock();
        let blocked = |at| format!("the segment at offset {at} is damaged; it ends before that");
        memory.trouble.as_ref().map(|t| t.reason.clone()).or(memory.blocked_at.map(blocked))
    }

    /// Whether it was in trouble just now and is left alone.
    pub(super) fn rests(&self) -> bool {
        let now_ms = self.context.clock.now_ms();
        self.compaction.memory.lock().trouble.as_ref().is_some_and(|t| now_ms < t.retry_at_ms)
    }

    pub(super) fn note_trouble(&self, error: &CompactionError) {
        if error.is_passing() {
            return;
        }
        self.context.cleaning.figures.failures.fetch_add(1, Ordering::Relaxed);
        let reason = error.to_string();
        let mut memory = self.compaction.memory.lock();
        let before = memory.trouble.take();
        let attempts = before.as_ref().map_or(0, |trouble| trouble.attempts);
        let pause = RETRY_FIRST * (1 << attempts.min(RETRY_DOUBLINGS_MAX));
        if before.is_none_or(|trouble| trouble.reason != reason) {
            tracing::error!(
                partition = %self.partition, reason, retry_after = ?pause,
                "partition cannot be compacted"
            );
        }
        let retry_at_ms = self.context.clock.now_ms().saturating_add(pause.as_millis() as i64);
        memory.trouble = Some(Trouble { reason, retry_at_ms, attempts: attempts + 1 });
    }

    fn note_blocked(&self, at: Option<Offset>) {
        let mut memory = self.compaction.memory.lock();
        if let Some(at) = at.filter(|_| memory.blocked_at != at) {
            tracing::error!(
                partition = %self.partition, segment = at.0,
                "a damaged segment ends compaction: restore the partition from a replica, or let \
                 retention or delete-records take the segment"
            );
        }
        memory.blocked_at = at;
    }

    /// What could not be read may have been cut or deleted meanwhile; else it is damaged, or the disk
    /// fails. (Files are cut and removed only after their segments were retired.)
    fn judge_error(&self, error: CompactionError, range: &Range) -> CompactionError {
        if let Some(offline) = self.offline.get() {
            return offline.clone().into();
        }
        let gone = range.segments.iter().any(|segment| segment.is_retired());
        match error {
            CompactionError::Damaged(_) | CompactionError::Read { .. } if gone => {
                CompactionError::Overtaken
            }
            CompactionError::Damaged(bad) => self.report_damage(bad),
            CompactionError::Read { cause } => {
                self.read_failed(&cause);
                CompactionError::Read { cause }
            }
            other => other,
        }
    }

    /// Takes note of the damaged range, so that consumers hear of it too.
    fn report_damage(&self, bad: BadBatch) -> CompactionError {
        let list = self.segments.load();
        let found = list.iter().find(|segment| segment.base_offset == bad.segment);
        let Some(segment) = found else {
            return CompactionError::Overtaken;
        };
        let at = Tip { end_offset: bad.offset, size: bad.position };
        if let Err(error) = self.note_damage_at(segment, at) {
            tracing::warn!(partition = %self.partition, %error, "the damage is not looked at");
        }
        CompactionError::Damaged(bad)
    }
}

/// The newest offsets of the keys of the dirty part, as far as they fit, and the offset up to which
/// every key is in the map.
///
/// The map may also have some keys of the batch that did not fit any more. That is no fault: their
/// newest records are there, above the end, and stay.
fn map_dirty(cleaning: &Cleaning, range: &Range) -> Result<(KeyMap, Offset), CompactionError> {
    let first_dirty = range.first_dirty;
    let end = range.end().unwrap_or(first_dirty).max(first_dirty);
    let config = &cleaning.config;
    let keys = (end.0 - first_dirty.0).unsigned_abs();
    let mut blocks = Blocks::default();
    let mut map = KeyMap::new(cleaning.map_bytes(), config.dedupe_buffer_load_factor, keys);
    for segment in range.segments.iter().filter(|s| s.tip().end_offset > first_dirty) {
        let start = if first_dirty <= segment.base_offset {
            Tip { end_offset: segment.base_offset, size: 0 }
        } else {
            locate(segment, first_dirty)?
        };
        let mut reader = BatchReader::new(segment, start, cleaning);
        while let Some(batch) = reader.next()? {
            let header = batch.header();
            let Ok(records) = blocks.open(&batch) else { continue };
            if header.attributes.is_control() {
                continue;
            }
            for record in raw_records(header, records).map_while(Result::ok) {
                let offset = header.base_offset.plus(i64::from(record.offset_delta));
                if record.key.is_none_or(|key| map.put(key, offset)) {
                    continue;
                }
                let map_end = header.base_offset;
                if map_end <= first_dirty {
                    return Err(CompactionError::TooManyKeys {
                        offset: header.base_offset,
                        keys: header.record_count.unsigned_abs() as usize,
                        capacity: map.capacity(),
                    });
                }
                return Ok((map, map_end));
            }
        }
    }
    Ok((map, end))
}

fn locate(segment: &Segment, offset: Offset) -> Result<Tip, CompactionError> {
    segment.locate(offset, segment.tip(), &|_| None, Wait::Allowed).map_err(|error| match error {
        WalkError::Io(cause) => CompactionError::Read { cause },
        WalkError::Bad { position, .. } => {
            CompactionError::Damaged(BadBatch { segment: segment.base_offset, position, offset })
        }
    })
}
