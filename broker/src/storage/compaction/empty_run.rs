//! The empty batch that stands for a run of offsets whose records are all gone.
//!
//! It keeps the offsets of a segment dense at batch level: a gap in them stays a sign of damage,
//! and every look-up of a removed offset finds a batch, and behind it the next record.

use proto::record::{Attributes, BatchHeader, Compression};
use proto::{LeaderEpoch, Offset};

/// A timestamp, producer or sequence that is none.
const NONE: i64 = -1;

/// Offsets that follow each other, all appended by one leader: an epoch's first offset is found in
/// the batches as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storage) struct EmptyRun {
    base_offset: Offset,
    /// Exclusive.
    end: Offset,
    leader_epoch: LeaderEpoch,
}

impl EmptyRun {
    /// The offsets of a batch.
    pub(super) fn of(header: &BatchHeader) -> Self {
        Self {
            base_offset: header.base_offset,
            end: header.next_offset(),
            leader_epoch: header.leader_epoch,
        }
    }

    /// Of a batch that is such a run already.
    pub(in crate::storage) fn of_empty(header: &BatchHeader) -> Option<Self> {
        let run = Self::of(header);
        (run.header() == *header).then_some(run)
    }

    /// What of it lies at and behind an offset in it.
    pub(in crate::storage) fn from(self, base_offset: Offset) -> Self {
        debug_assert!(self.base_offset <= base_offset && base_offset < self.end);
        Self { base_offset, ..self }
    }

    /// Takes the offsets of the next batch in, if one empty batch can stand for both.
    pub(super) fn extend(&mut self, next: Self) -> bool {
        let joins = next.base_offset == self.end
            && next.leader_epoch == self.leader_epoch
            && next.end.0 - self.base_offset.0 <= i64::from(i32::MAX);
        if joins {
            self.end = next.end;
        }
        joins
    }

    /// The batch.
    pub(in crate::storage) fn header(&self) -> BatchHeader {
        let mut header = BatchHeader {
            base_offset: self.base_offset,
            batch_length: 0,
            leader_epoch: self.leader_epoch,
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: (self.end.0 - self.base_offset.0 - 1) as i32,
            base_timestamp: NONE,
            max_timestamp: NONE,
            producer_id: NONE,
            producer_epoch: NONE as i16,
            base_sequence: NONE as i32,
            record_count: 0,
        };
        header.set_block(Compression::None, &[]);
        header
    }
}

/// The batch of a producer without its records: who wrote it, and up to which sequence, stays.
pub(super) fn without_records(header: &BatchHeader) -> BatchHeader {
    let mut empty = header.clone();
    empty.attributes = header.attributes.with_delete_horizon(false);
    empty.record_count = 0;
    empty.set_block(Compression::None, &[]);
    empty
}

#[cfg(test)]
mod tests {
    use proto::record::Batch;

    use super::*;

    fn run(base: i64, end: i64, epoch: i32) -> EmptyRun {
        let (base_offset, end) = (Offset(base), Offset(end));
        EmptyRun { base_offset, end, leader_epoch: LeaderEpoch(epoch) }
    }

    #[test]
    fn a_run_is_a_batch_of_no_records_over_all_its_offsets() {
        let mut all = run(7, 10, 3);
        assert!(all.extend(run(10, 20, 3)));
        assert!(!all.extend(run(20, 21, 4)), "another leader's");
        assert!(!all.extend(run(21, 22, 3)), "a gap");
        assert!(!all.extend(run(20, 20 + i64::from(i32::MAX), 3)), "more than a batch can tell");
        let bytes = all.header().encode();
        let batch = Batch::parse(&bytes).unwrap();
        let header = batch.header();
        assert_eq!((header.base_offset, header.next_offset()), (Offset(7), Offset(20)));
        assert_eq!((header.leader_epoch, header.is_idempotent()), (LeaderEpoch(3), false));
        assert_eq!(batch.records().count(), 0);
        assert_eq!(EmptyRun::of(header), all);
    }
}
