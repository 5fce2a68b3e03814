//! Encodes records straight into the buffer that is sent: no copy and no object a record.
//!
//! The caller serialises calls (an open batch sits under its partition's short lock). The header is
//! written once, at the end, with one CRC pass.

use bytes::Bytes;

use super::batch_header::{ATTRIBUTES_AT, Attributes, BatchHeader, HEADER_LEN, LENGTH_PREFIX};
#[cfg(feature = "compression")]
use super::codec::Compressor;
#[cfg(feature = "compression")]
use super::compression::Compression;
use super::crc::crc32c;
use super::record::{Header, nullable_len};
use super::usual_record::UsualFields;
use super::varint::{VARLONG_LEN_MAX, push_varint, varint_len, zigzag};
use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// The greatest size of a batch: its length field is an `i32`, and some room for what surrounds it.
const BATCH_LEN_MAX: usize = i32::MAX as usize - (1 << 20);

/// Who sends a batch, and which of the producer's records to the partition is its first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    /// The producer's id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The sequence of the batch's first record.
    pub base_sequence: i32,
}

impl ProducerStamp {
    /// Without idempotence.
    pub const NONE: Self = Self { id: -1, epoch: -1, base_sequence: -1 };
}

/// Why a record was not appended; the batch is as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The batch has records already and no room for this one: finish it and begin another.
    #[error("the batch is full")]
    Full,
    /// No batch can ever hold it.
    #[error("the record takes {0} bytes, and a batch holds at most {BATCH_LEN_MAX}: split it")]
    RecordTooLarge(usize),
}

/// A batch being filled.
#[derive(Debug)]
pub struct BatchBuilder {
    /// Begins with room for the header.
    buffer: Vec<u8>,
    capacity: usize,
    record_count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

/// What a record takes: the bytes after its length field, and those with it.
struct RecordSize {
    body: usize,
    whole: usize,
}

impl BatchBuilder {
    /// An empty batch that takes records up to `capacity` bytes, header included. The memory is taken
    /// at once. The first record is always taken, also a larger one.
    pub fn new(capacity: usize) -> Self {
        Self::with_buffer(Vec::new(), capacity)
    }

    /// The same in the memory of `buffer`, whose content is dropped.
    pub fn with_buffer(mut buffer: Vec<u8>, capacity: usize) -> Self {
        let capacity = capacity.min(BATCH_LEN_MAX);
        buffer.clear();
        buffer.reserve_exact(capacity.max(HEADER_LEN) + Front::LEN_MAX);
        buffer.resize(HEADER_LEN, 0);
        Self { buffer, capacity, record_count: 0, base_timestamp: 0, max_timestamp: i64::MIN }
    }

    /// Appends a record and returns its offset less the batch's base offset.
    #[inline]
    pub fn append(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<i32, AppendError> {
        let delta = self.record_count;
        if delta == 0 {
            self.base_timestamp = timestamp_ms;
        }
        let timestamp_delta = timestamp_ms.wrapping_sub(self.base_timestamp);
        match UsualFields::of(timestamp_delta, delta, key, value, headers) {
            Some(usual) => self.put_usual(&usual, key, value)?,
            None => self.put_any(timestamp_delta, key, value, headers)?,
        }
        self.record_count = delta + 1;
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        Ok(delta)
    }

    #[inline(always)]
    fn put_usual(
        &mut self,
        fields: &UsualFields,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<(), AppendError> {
        self.check_room(fields.whole)?;
        // One check for all: what is stored of the fields before key and value is cut off again.
        self.buffer.reserve(fields.whole + size_of_val(&fields.front));
        let front_end = self.buffer.len() + fields.front_len;
        self.buffer.extend_from_slice(&fields.front.to_le_bytes());
        self.buffer.truncate(front_end);
        if let Some(key) = key {
            self.buffer.extend_from_slice(key);
        }
        let value_at = self.buffer.len() + fields.value_len_len;
        self.buffer.extend_from_slice(&fields.value_len.to_le_bytes());
        self.buffer.truncate(value_at);
        if let Some(value) = value {
            self.buffer.extend_from_slice(value);
        }
        self.buffer.push(0); // headers
        Ok(())
    }

    #[inline(never)]
    fn put_any(
        &mut self,
        timestamp_delta: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<(), AppendError> {
        let delta = self.record_count;
        let size = record_size(timestamp_delta, delta, key, value, headers);
        self.check_room(size.whole)?;
        self.buffer.reserve(size.whole + Front::LEN_MAX);

        let mut front = Front::default();
        front.push_varint(&mut self.buffer, size.body as i64);
        front.push_byte(0); // attributes
        front.push_varint(&mut self.buffer, timestamp_delta);
        front.push_varint(&mut self.buffer, i64::from(delta));
        front.push_varint(&mut self.buffer, nullable_len(key));
        if let Some(key) = key {
            front.flush(&mut self.buffer);
            self.buffer.extend_from_slice(key);
        }
        front.push_varint(&mut self.buffer, nullable_len(value));
        front.flush(&mut self.buffer);
        if let Some(value) = value {
            self.buffer.extend_from_slice(value);
        }
        if headers.is_empty() {
            self.buffer.push(0);
        } else {
            self.put_headers(headers);
        }
        Ok(())
    }

    /// Whether such a record would be taken; a timestamp far from the first may still take some
    /// bytes more.
    pub fn would_take(
        &self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> bool {
        let size = record_size(0, self.record_count, key, value, headers);
        self.check_room(size.whole).is_ok()
    }

    /// Bytes of the batch so far, header included.
    pub fn size_in_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes up to which records are taken.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Records so far.
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Writes the header and hands out the batch, base offset 0, leader epoch unknown: the broker
    /// stamps both. An empty batch is no batch: the caller has appended at least one record.
    pub fn finish(mut self, stamp: ProducerStamp) -> Bytes {
        let mut header = self.header(stamp);
        self.buffer[..HEADER_LEN].copy_from_slice(&header.encode());
        header.crc = crc32c(&self.buffer[ATTRIBUTES_AT..]);
        self.buffer[..HEADER_LEN].copy_from_slice(&header.encode());
        Bytes::from(self.buffer)
    }

    /// The same with the records compressed. Records that the codec makes no smaller (few, short or
    /// compressed already) go uncompressed, as librdkafka does it: nobody has to decompress for
    /// nothing. So do records for whose compression memory is short.
    #[cfg(feature = "compression")]
    pub fn finish_compressed(self, compressor: &mut Compressor, stamp: ProducerStamp) -> Bytes {
        let plain = &self.buffer[HEADER_LEN..];
        let codec = compressor.codec();
        if codec == Compression::None {
            return self.finish(stamp);
        }
        match compressor.compress(plain) {
            Ok(block) if block.len() < plain.len() => {
                let mut header = self.header(stamp);
                header.set_block(codec, block);
                [&header.encode()[..], block].concat().into()
            }
            Ok(_) => self.finish(stamp),
            Err(error) => {
                tracing::warn!(%error, "a batch goes uncompressed");
                self.finish(stamp)
            }
        }
    }

    /// Of the batch as it is, plain, with no CRC yet.
    fn header(&self, stamp: ProducerStamp) -> BatchHeader {
        debug_assert!(self.record_count > 0, "a batch has a record");
        BatchHeader {
            base_offset: Offset::ZERO,
            batch_length: (self.buffer.len() - LENGTH_PREFIX) as i32,
            leader_epoch: LeaderEpoch::UNKNOWN,
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: self.record_count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: stamp.id,
            producer_epoch: stamp.epoch,
            base_sequence: stamp.base_sequence,
            record_count: self.record_count,
        }
    }

    #[inline]
    fn check_room(&self, record_len: usize) -> Result<(), AppendError> {
        let needed = self.buffer.len().saturating_add(record_len);
        if needed > self.capacity && self.record_count > 0 {
            return Err(AppendError::Full);
        }
        if needed > BATCH_LEN_MAX {
            return Err(AppendError::RecordTooLarge(record_len));
        }
        Ok(())
    }

    fn put_headers(&mut self, headers: &[Header<'_>]) {
        push_varint(&mut self.buffer, headers.len() as i64);
        for header in headers {
            push_varint(&mut self.buffer, header.key_bytes().len() as i64);
            self.buffer.extend_from_slice(header.key_bytes());
            push_varint(&mut self.buffer, nullable_len(header.value()));
            self.buffer.extend_from_slice(header.value().unwrap_or_default());
        }
    }
}

/// The small fields before a key or a value, gathered in a register and stored at once: bytes
/// stored one by one and then copied as one piece would stall the copy.
#[derive(Default)]
struct Front {
    bytes: u128,
    used_bits: u32,
}

impl Front {
    /// What is stored at once. Cut off again where less is used.
    const LEN_MAX: usize = 16;

    #[inline(always)]
    fn push_varint(&mut self, buffer: &mut Vec<u8>, value: i64) {
        if self.used_bits as usize + 8 * VARLONG_LEN_MAX > 8 * Self::LEN_MAX
            && self.used_bits as usize + 8 * varint_len(value) > 8 * Self::LEN_MAX
        {
            self.flush(buffer);
        }
        let mut rest = zigzag(value);
        while rest >= 0x80 {
            self.push_byte(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.push_byte(rest as u8);
    }

    #[inline(always)]
    fn push_byte(&mut self, byte: u8) {
        self.bytes |= u128::from(byte) << self.used_bits;
        self.used_bits += 8;
    }

    #[inline(always)]
    fn flush(&mut self, buffer: &mut Vec<u8>) {
        let end = buffer.len() + self.used_bits as usize / 8;
        buffer.extend_from_slice(&self.bytes.to_le_bytes());
        buffer.truncate(end);
        *self = Self::default();
    }
}

#[inline(always)]
fn record_size(
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) -> RecordSize {
    let mut body = 1 + varint_len(timestamp_delta) + varint_len(i64::from(offset_delta));
    for bytes in [key, value] {
        body += varint_len(nullable_len(bytes)) + bytes.map_or(0, <[u8]>::len);
    }
    body += match headers {
        [] => 1,
        headers => {
            let each = headers.iter().map(Header::encoded_len);
            varint_len(headers.len() as i64) + each.sum::<usize>()
        }
    };
    RecordSize { body, whole: varint_len(body as i64) + body }
}
