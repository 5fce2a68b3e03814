//! What clients were told, and whether it still holds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use proto::record::Batches;
use proto::{BrokerId, LeaderEpoch, Offset};

use crate::replication::Partition;
use crate::storage::{Cursor, Log, ReadLimits, Wait};

/// Values by offset.
#[derive(Default)]
pub(super) struct Truth {
    /// Shown to a consumer, or acknowledged by all in-sync replicas.
    told: BTreeMap<i64, u64>,
    /// The highest end shown in each epoch.
    shown: HashMap<LeaderEpoch, Offset>,
    pub(super) acknowledged: u64,
    /// Somebody was told that all below is deleted.
    deleted: Offset,
}

impl Truth {
    /// A record was seen below the high watermark, or acknowledged with acks=all.
    pub(super) fn tell(&mut self, offset: i64, value: u64, how: &str) {
        let before = *self.told.entry(offset).or_insert(value);
        assert_eq!(before, value, "another value at offset {offset}, {how}");
    }

    /// A consumer reads what a leader shows; zombies show only what stays, too.
    pub(super) fn consume(&mut self, partition: &Arc<Partition>, from: Offset) -> Offset {
        let Some(epoch) = partition.leading() else { return from };
        let end = partition.visible_end();
        let before = self.shown.insert(epoch, end);
        if let Some(shown) = before {
            assert!(shown <= end, "the high watermark went back from {shown} to {end} in {epoch}");
            if shown == end {
                return from;
            }
        }
        for (offset, value) in values(partition.log(), from, end) {
            self.tell(offset, value, &format!("shown by the leader of epoch {epoch}"));
        }
        end.max(from)
    }

    /// Who asks this leader to delete what it has deleted already is answered now.
    pub(super) fn deletions(&mut self, partition: &Partition) {
        let Some(epoch) = partition.leading() else { return };
        if let Ok(low_watermark) = partition.low_watermark(epoch) {
            self.deleted = self.deleted.max(low_watermark);
        }
    }

    /// The log of the leader that the registry has shows nothing of what is deleted.
    pub(super) fn check_start(&self, log: &Log) {
        let (start, deleted) = (log.log_start(), self.deleted);
        assert!(start >= deleted, "the leader's log starts at {start}, {deleted} was told");
    }

    /// This log, of one who may be elected, reaches as far as what was told.
    pub(super) fn check_end(&self, log: &Log, of: BrokerId) {
        let end = log.log_end();
        if let Some((last, _)) = self.told.last_key_value() {
            assert!(end.0 > *last, "broker {of} may lead, ends at {end}, {last} was told");
        }
    }

    /// Everything ever told is in this log, at its place, and nothing is there twice.
    pub(super) fn check(&self, log: &Log) {
        let all = values(log, log.log_start(), log.log_end());
        let there: BTreeMap<i64, u64> = all.iter().copied().collect();
        for (offset, value) in self.told.range(log.log_start().0..) {
            let found = there.get(offset);
            assert_eq!(found, Some(value), "what was told of offset {offset} is lost");
        }
        let mut seen = HashSet::new();
        for (offset, value) in all {
            assert!(seen.insert(value), "{value} is twice in the log, again at offset {offset}");
        }
    }
}

/// The records of a log from one offset to another.
pub(super) fn values(log: &Log, from: Offset, upto: Offset) -> Vec<(i64, u64)> {
    let from = from.max(log.log_start());
    let (mut cursor, mut all) = (Cursor::at(from), Vec::new());
    while cursor.offset() < upto {
        let limits = ReadLimits { max_bytes: 1 << 20, upto, first_batch_whole: true };
        let slice = log.read(cursor, limits, Wait::Allowed).expect("a log is readable");
        if slice.is_empty() {
            break;
        }
        for batch in Batches::new(slice.bytes()) {
            for record in batch.expect("whole batches").records() {
                let record = record.expect("whole records");
                let value = record.value.and_then(|value| value.try_into().ok());
                if record.offset >= from {
                    all.push((record.offset.0, u64::from_be_bytes(value.expect("eight bytes"))));
                }
            }
        }
        cursor = slice.next();
    }
    all
}

/// The bytes of a log below an offset.
pub(super) fn bytes(log: &Log, from: Offset, upto: Offset) -> Vec<u8> {
    let (mut cursor, mut all) = (Cursor::at(from), Vec::new());
    while cursor.offset() < upto {
        let limits = ReadLimits { max_bytes: 1 << 20, upto, first_batch_whole: true };
        let slice = log.read(cursor, limits, Wait::Allowed).expect("a log is readable");
        if slice.is_empty() {
            break;
        }
        all.extend_from_slice(slice.bytes());
        cursor = slice.next();
    }
    all
}
