//! `<offset>.snapshot`: each producer's last batch below that offset, in Kafka's format.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 2 | version: 1 |
//! | 2 | 4 | CRC-32C of all that follows |
//! | 6 | 4 | producers |
//!
//! and for each producer:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | producer id |
//! | 8 | 2 | epoch |
//! | 10 | 4 | last sequence |
//! | 14 | 8 | last offset |
//! | 22 | 4 | offsets in the last batch, less one |
//! | 26 | 8 | timestamp of the last batch |
//! | 34 | 4 | coordinator epoch: -1 |
//! | 38 | 8 | first offset of the open transaction: -1 |
//!
//! It has no room for the batches before the last one: `sequence_window` has.

use std::collections::VecDeque;

use proto::record::crc32c;
use proto::{Offset, ProducerId};

use super::byte_reader::ByteReader;
use super::producer_state::{Producer, ProducerBatch, ProducerState};

const VERSION: i16 = 1;
const CRC_END: usize = 6;
const ENTRY_LEN: usize = 46;

/// The file's bytes.
pub(super) fn encode(producers: &ProducerState) -> Vec<u8> {
    let all = producers.sorted();
    let mut bytes = Vec::with_capacity(CRC_END + 4 + all.len() * ENTRY_LEN);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(all.len() as i32).to_be_bytes());
    for (id, producer) in all {
        let Some(last) = producer.batches.back() else { continue };
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&producer.epoch.to_be_bytes());
        bytes.extend_from_slice(&last.last_sequence.to_be_bytes());
        bytes.extend_from_slice(&last.last_offset().0.to_be_bytes());
        bytes.extend_from_slice(&last.offset_delta().to_be_bytes());
        bytes.extend_from_slice(&last.timestamp.to_be_bytes());
        bytes.extend_from_slice(&(-1i32).to_be_bytes());
        bytes.extend_from_slice(&(-1i64).to_be_bytes());
    }
    let crc = crc32c(&bytes[CRC_END..]);
    bytes[CRC_END - 4..CRC_END].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// Reads the file; `None` when it is not whole and right.
pub(super) fn decode(bytes: &[u8], now_ms: i64) -> Option<Vec<(ProducerId, Producer)>> {
    let mut reader = ByteReader::new(bytes);
    if reader.i16()? != VERSION || reader.u32()? != crc32c(reader.rest()) {
        return None;
    }
    let count = usize::try_from(reader.u32()?).ok()?;
    if reader.rest().len() != count.checked_mul(ENTRY_LEN)? {
        return None;
    }
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let id = reader.i64()?;
        let epoch = reader.i16()?;
        let last_sequence = reader.i32()?;
        let last_offset = reader.i64()?;
        let delta = reader.i32()?;
        let timestamp = reader.i64()?;
        let (_, _) = (reader.i32()?, reader.i64()?);
        let batch = ProducerBatch {
            base_sequence: last_sequence.wrapping_sub(delta) & i32::MAX,
            last_sequence,
            base_offset: Offset(last_offset.saturating_sub(delta.into())),
            timestamp,
        };
        let batches = VecDeque::from([batch]);
        all.push((id, Producer { epoch, window: None, batches, last_used_ms: now_ms }));
    }
    Some(all)
}
