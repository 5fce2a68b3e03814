//! Which records of a batch stay, and the batch that is left.
//!
//! The decision is pure: the map of newest offsets, the time, and the bytes of one batch go in. A
//! record stays when it is the newest of its key as far as the map tells. A tombstone that stays
//! waits for its delete horizon (KIP-534): the first cleaning that meets it stamps
//! `now + delete.retention.ms` on its batch, and the first one after that time drops it. The
//! horizon is kept where Kafka keeps it: bit 6 of the attributes says that the base timestamp is
//! one, and the records' deltas count from it, so that readers see the records' times unchanged.

use proto::record::{Batch, BatchHeader, TimestampType};

use super::block::{Blocks, raw_records};
use super::key_map::KeyMap;
use super::raw_record::{Malformed, RawRecord};

/// What a cleaning goes by, the same for all batches of a pass.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    /// The newest offsets of keys below `map_end`.
    pub(super) map: &'a KeyMap,
    /// The broker's clock.
    pub(super) now_ms: i64,
    /// The delete horizon of tombstones met for the first time.
    pub(super) new_horizon_ms: i64,
}

/// What is left of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// All of it, byte for byte.
    Whole,
    /// Some records, or all under a new delete horizon: the new batch is in the buffer.
    Part,
    /// No record.
    Nothing,
    /// It cannot be decoded, so nobody can say: it stays as it is.
    Opaque,
}

/// A judged batch.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) left: Left,
    pub(super) records: u64,
    pub(super) kept: u64,
    /// The delete horizon of tombstones that stayed.
    pub(super) horizon_ms: Option<i64>,
}

impl Judge<'_> {
    /// Judges a batch below the map's end; what is left of it is written to `out` where it is
    /// [`Left::Part`]. With `tombstones_stay` no tombstone goes, however old.
    pub(super) fn judge(
        &self,
        batch: &Batch<'_>,
        tombstones_stay: bool,
        blocks: &mut Blocks,
        out: &mut Vec<u8>,
    ) -> Verdict {
        self.filter(batch, tombstones_stay, blocks, out).unwrap_or(Verdict {
            left: Left::Opaque,
            records: batch.header().record_count.unsigned_abs().into(),
            kept: batch.header().record_count.unsigned_abs().into(),
            horizon_ms: None,
        })
    }

    fn filter(
        &self,
        batch: &Batch<'_>,
        tombstones_stay: bool,
        blocks: &mut Blocks,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, Malformed> {
        let header = batch.header();
        let records = blocks.open(batch)?;
        let horizon_ms = header.delete_horizon_ms();
        let drop_tombstones =
            !tombstones_stay && horizon_ms.is_some_and(|horizon| horizon <= self.now_ms);
        let stays = |record: &RawRecord<'_>| {
            // Without a key a record says nothing in a log of keys.
            let Some(key) = record.key else { return false };
            let offset = header.base_offset.plus(i64::from(record.offset_delta));
            let superseded = self.map.get(key).is_some_and(|newest| newest > offset);
            let expired = record.is_tombstone && drop_tombstones;
            !superseded && !expired
        };
        let mut left = Vec::new();
        let (mut all, mut tombstones) = (0, 0_u64);
        for record in raw_records(header, records) {
            let record = record?;
            all += 1;
            if stays(&record) {
                tombstones += u64::from(record.is_tombstone);
                left.push(record);
            }
        }
        let stamp = tombstones > 0 && horizon_ms.is_none();
        let kept = left.len() as u64;
        let kind = if kept == 0 {
            Left::Nothing
        } else if kept == all && !stamp {
            Left::Whole
        } else {
            let (header, payload) = rebuild(header, &left, stamp.then_some(self.new_horizon_ms));
            blocks.close(header, &payload, out)?;
            Left::Part
        };
        let horizon_ms = (tombstones > 0).then_some(horizon_ms.unwrap_or(self.new_horizon_ms));
        Ok(Verdict { left: kind, records: all, kept, horizon_ms })
    }
}

/// The header and the block of these records: offsets, producer, epoch and codec as they were. The
/// block is not compressed yet.
fn rebuild(
    header: &BatchHeader,
    records: &[RawRecord<'_>],
    new_horizon_ms: Option<i64>,
) -> (BatchHeader, Vec<u8>) {
    let mut header = header.clone();
    let old_base = header.base_timestamp;
    let mut payload = Vec::with_capacity(records.iter().map(|r| r.whole.len()).sum());
    match new_horizon_ms {
        None => records.iter().for_each(|record| payload.extend_from_slice(record.whole)),
        Some(horizon) => {
            header.base_timestamp = horizon;
            header.attributes = header.attributes.with_delete_horizon(true);
            let shift = old_base.wrapping_sub(horizon);
            for record in records {
                record.push_with_delta(record.timestamp_delta.wrapping_add(shift), &mut payload);
            }
        }
    }
    if header.attributes.timestamp_type() == TimestampType::CreateTime {
        let times = records.iter().map(|record| old_base.wrapping_add(record.timestamp_delta));
        header.max_timestamp = times.max().unwrap_or(header.max_timestamp);
    }
    header.record_count = records.len() as i32;
    (header, payload)
}
