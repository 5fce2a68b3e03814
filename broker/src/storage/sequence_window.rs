//! `<offset>.window`: each producer's remembered batches below that offset. A file of our own,
//! because Kafka's snapshot holds only the last batch.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | `OTWN` |
//! | 4 | 4 | CRC-32 of all that follows |
//! | 8 | 2 | version: 1 |
//! | 10 | 4 | producers |
//!
//! for each producer: id (8), epoch (2), window (2; 0 where it declared none), last used in ms (8),
//! batches (4); for each batch, oldest first: base sequence (4), last sequence (4), base offset (8),
//! timestamp (8).

use std::collections::VecDeque;

use proto::{Offset, ProducerId};

use super::byte_reader::ByteReader;
use super::producer_state::{Producer, ProducerBatch, ProducerState, WINDOW_DEFAULT, WINDOW_MAX};

const MAGIC: &[u8; 4] = b"OTWN";
const VERSION: i16 = 1;
const CRC_END: usize = 8;
const PRODUCER_LEN: usize = 24;
const BATCH_LEN: usize = 24;

/// The file's bytes.
pub(super) fn encode(producers: &ProducerState) -> Vec<u8> {
    encode_all(&producers.sorted())
}

/// Bytes that a producer takes.
pub(super) fn len_of(producer: &Producer) -> usize {
    PRODUCER_LEN + producer.batches.len() * BATCH_LEN
}

/// The same for some producers, in their order.
pub(super) fn encode_all(all: &[(ProducerId, &Producer)]) -> Vec<u8> {
    let batches: usize = all.iter().map(|(_, producer)| producer.batches.len()).sum();
    let mut bytes = Vec::with_capacity(14 + all.len() * PRODUCER_LEN + batches * BATCH_LEN);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&(all.len() as u32).to_be_bytes());
    for (id, producer) in all {
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&producer.epoch.to_be_bytes());
        bytes.extend_from_slice(&producer.window.unwrap_or(0).to_be_bytes());
        bytes.extend_from_slice(&producer.last_used_ms.to_be_bytes());
        bytes.extend_from_slice(&(producer.batches.len() as u32).to_be_bytes());
        for batch in &producer.batches {
            bytes.extend_from_slice(&batch.base_sequence.to_be_bytes());
            bytes.extend_from_slice(&batch.last_sequence.to_be_bytes());
            bytes.extend_from_slice(&batch.base_offset.0.to_be_bytes());
            bytes.extend_from_slice(&batch.timestamp.to_be_bytes());
        }
    }
    let crc = crc32fast::hash(&bytes[CRC_END..]);
    bytes[CRC_END - 4..CRC_END].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// Reads the file; `None` when it is not whole and right.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<(ProducerId, Producer)>> {
    let mut reader = ByteReader::new(bytes);
    if reader.take(4)? != MAGIC || reader.u32()? != crc32fast::hash(reader.rest()) {
        return None;
    }
    if reader.i16()? != VERSION {
        return None;
    }
    let count = reader.u32()?;
    let mut all = Vec::new();
    for _ in 0..count {
        let id = reader.i64()?;
        let epoch = reader.i16()?;
        let window = u16::try_from(reader.i16()?).ok()?;
        let last_used_ms = reader.i64()?;
        let batches = usize::try_from(reader.u32()?).ok()?;
        let mut batch_bytes = ByteReader::new(reader.take(batches.checked_mul(BATCH_LEN)?)?);
        let mut list = VecDeque::with_capacity(batches);
        for _ in 0..batches {
            list.push_back(ProducerBatch {
                base_sequence: batch_bytes.i32()?,
                last_sequence: batch_bytes.i32()?,
                base_offset: Offset(batch_bytes.i64()?),
                timestamp: batch_bytes.i64()?,
            });
        }
        let window = (window > 0).then(|| window.clamp(WINDOW_DEFAULT, WINDOW_MAX));
        all.push((id, Producer { epoch, window, batches: list, last_used_ms }));
    }
    reader.rest().is_empty().then_some(all)
}
