//! What the log should hold, as simply as it can be said.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

/// A record as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
}

/// Records with their offsets, as read or expected.
pub(super) type Records = Vec<(i64, Record)>;

/// A batch an idempotent producer got acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Acked {
    pub(super) sequence: i32,
    pub(super) base_offset: i64,
    pub(super) end: i64,
    pub(super) bytes: Bytes,
}

/// What the log should hold. `start <= flushed <= end`.
///
/// `history` has every record that may be on the disk, those too that retention deleted or
/// compaction removed: a power cut may bring them back.
#[derive(Default)]
pub(super) struct Truth {
    pub(super) history: BTreeMap<i64, Record>,
    /// Base offsets of the batches as they were appended.
    pub(super) batches: BTreeSet<i64>,
    /// Offsets that compaction removed.
    pub(super) gone: BTreeSet<i64>,
    pub(super) start: i64,
    /// The log start never falls below it: records were deleted up to here, durably.
    pub(super) deleted: i64,
    pub(super) end: i64,
    pub(super) flushed: i64,
    /// Compaction may have been up to here.
    pub(super) clean: i64,
    /// When compactions were, and up to where.
    pub(super) compacted: Vec<(i64, i64)>,
    /// A tombstone stays so long after the first of them.
    pub(super) tombstones_stay_ms: i64,
    /// By producer.
    pub(super) acked: BTreeMap<i64, Vec<Acked>>,
}

impl Truth {
    /// The records from an offset on.
    pub(super) fn expected(&self, from: i64) -> Records {
        self.between(from, self.end).collect()
    }

    /// The records of a range of offsets.
    pub(super) fn between(&self, from: i64, to: i64) -> impl Iterator<Item = (i64, Record)> {
        let there = self.history.range(from..to.max(from));
        there.filter(|(at, _)| !self.gone.contains(at)).map(|(&at, record)| (at, record.clone()))
    }

    /// Takes in a batch at the end.
    pub(super) fn append(&mut self, records: &[Record]) -> i64 {
        let base_offset = self.end;
        self.batches.insert(base_offset);
        for record in records {
            self.gone.remove(&self.end);
            self.history.insert(self.end, record.clone());
            self.end += 1;
        }
        base_offset
    }

    /// Where a log that is cut back to `to` ends at the latest and, what compaction removed aside,
    /// at the earliest: at the beginning of the batch that has the offset.
    pub(super) fn cut_of(&self, to: i64) -> i64 {
        if to >= self.end {
            return self.end;
        }
        self.batches.range(..=to).next_back().copied().unwrap_or(0).min(to)
    }

    /// Whether the log may end at `end` when all below `least` must be there: what is between was
    /// compacted away.
    pub(super) fn may_end(&self, end: i64, least: i64) -> bool {
        end <= self.end && (end >= least || self.between(end, least).next().is_none())
    }

    /// The log ends earlier now.
    pub(super) fn cut(&mut self, end: i64) {
        self.history.split_off(&end);
        self.batches.split_off(&end);
        self.gone.split_off(&end);
        self.end = end;
        self.start = self.start.min(end);
        self.deleted = self.deleted.min(end);
        self.flushed = self.flushed.min(end);
        self.clean = self.clean.min(end);
        for acked in self.acked.values_mut() {
            acked.retain(|acked| acked.end <= end);
        }
    }

    /// Whether compaction up to `clean_end` may remove a record: a later one has its key, or it is
    /// a tombstone that an earlier compaction has seen long enough ago.
    fn may_go(&self, offset: i64, clean_end: i64, now_ms: i64) -> bool {
        let record = &self.history[&offset];
        let newer = || {
            let mut later = self.history.range(offset + 1..clean_end.max(offset + 1));
            later.any(|(_, other)| other.key == record.key)
        };
        let ripe = || {
            let mut seen = self.compacted.iter().filter(|(_, end)| offset < *end);
            seen.any(|(at_ms, _)| at_ms + self.tombstones_stay_ms <= now_ms)
        };
        record.key.is_some() && (newer() || (record.value.is_none() && ripe()))
    }

    /// Compares what the log has with what it should have, compaction up to `clean_end` having
    /// removed something or (after a crash) not; keeps what was found.
    pub(super) fn settle_compaction(&mut self, read: &Records, clean_end: i64, now_ms: i64) {
        let there: BTreeMap<_, _> = read.iter().map(|(offset, record)| (*offset, record)).collect();
        for (offset, record) in &there {
            assert_eq!(Some(*record), self.history.get(offset), "at offset {offset}");
        }
        let expected = self.history.range(self.start..self.end).map(|(&offset, _)| offset);
        let missing: Vec<_> = expected.filter(|offset| !there.contains_key(offset)).collect();
        for &offset in &missing {
            let allowed = self.gone.contains(&offset) || self.may_go(offset, clean_end, now_ms);
            assert!(allowed, "offset {offset} is gone: {:?}", self.history[&offset]);
        }
        self.compacted.push((now_ms, clean_end));
        if !missing.is_empty() {
            self.clean = self.clean.max(clean_end);
        }
        let (start, end) = (self.start, self.end);
        self.gone.retain(|offset| !(start..end).contains(offset));
        self.gone.extend(missing);
        self.check_tombstones();
    }

    /// A value that a tombstone deleted never comes back: where the tombstone is gone, so is all
    /// that was before it.
    fn check_tombstones(&self) {
        let mut present: BTreeMap<&Vec<u8>, i64> = BTreeMap::new();
        for (offset, record) in self.history.range(self.start..self.end) {
            let Some(key) = &record.key else { continue };
            if !self.gone.contains(offset) {
                present.insert(key, *offset);
            } else if record.value.is_none() {
                let left = present.get(key);
                let later = self.history.range(offset + 1..self.end);
                let newer = later
                    .clone()
                    .any(|(at, r)| r.key.as_ref() == Some(key) && !self.gone.contains(at));
                assert!(left.is_none() || newer, "deleted at {offset}, back at {left:?}");
            }
        }
    }

    /// Below `clean_end` there is one record of every key.
    pub(super) fn check_clean(&self, clean_end: i64) {
        let mut seen = BTreeMap::new();
        for (offset, record) in self.between(self.start, clean_end) {
            let before = seen.insert(record.key.clone(), offset);
            assert!(before.is_none(), "{:?} at {before:?} and {offset}", record.key);
        }
    }
}
