//! The 61 bytes in front of every record batch.
//!
//! | at | bytes | field | in the CRC |
//! |---|---|---|---|
//! | 0 | 8 | base offset | no |
//! | 8 | 4 | batch length: bytes after this field | no |
//! | 12 | 4 | partition leader epoch | no |
//! | 16 | 1 | magic: 2 | no |
//! | 17 | 4 | CRC-32C over all that follows | – |
//! | 21 | 2 | attributes | yes |
//! | 23 | 4 | last offset delta | yes |
//! | 27 | 8 | base timestamp, ms | yes |
//! | 35 | 8 | max timestamp, ms | yes |
//! | 43 | 8 | producer id, or -1 | yes |
//! | 51 | 2 | producer epoch, or -1 | yes |
//! | 53 | 4 | base sequence, or -1 | yes |
//! | 57 | 4 | records | yes |
//!
//! Big-endian. Base offset and leader epoch are outside the CRC so that a broker stamps them on
//! append without touching the rest. Compaction keeps the last offset delta, so that a batch may
//! have fewer records than offsets.

use super::compression::{Compression, UnknownCompression};
use super::crc::{Crc32c, crc32c};
use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

const BASE_OFFSET_AT: usize = 0;
const BATCH_LENGTH_AT: usize = BASE_OFFSET_AT + 8;
const LEADER_EPOCH_AT: usize = BATCH_LENGTH_AT + 4;
const MAGIC_AT: usize = LEADER_EPOCH_AT + 4;
const CRC_AT: usize = MAGIC_AT + 1;
pub(super) const ATTRIBUTES_AT: usize = CRC_AT + 4;
const LAST_OFFSET_DELTA_AT: usize = ATTRIBUTES_AT + 2;
const BASE_TIMESTAMP_AT: usize = LAST_OFFSET_DELTA_AT + 4;
const MAX_TIMESTAMP_AT: usize = BASE_TIMESTAMP_AT + 8;
const PRODUCER_ID_AT: usize = MAX_TIMESTAMP_AT + 8;
const PRODUCER_EPOCH_AT: usize = PRODUCER_ID_AT + 8;
const BASE_SEQUENCE_AT: usize = PRODUCER_EPOCH_AT + 2;
const RECORD_COUNT_AT: usize = BASE_SEQUENCE_AT + 4;

/// Bytes of a batch header.
pub const HEADER_LEN: usize = RECORD_COUNT_AT + 4;
/// The version of the batch format.
pub const MAGIC: i8 = 2;
/// Bytes before those that the batch length counts.
pub(super) const LENGTH_PREFIX: usize = BATCH_LENGTH_AT + 4;
/// The batch length of a batch without records.
const BATCH_LENGTH_MIN: i32 = (HEADER_LEN - LENGTH_PREFIX) as i32;
/// The shortest record: its length and six one-byte fields.
const RECORD_LEN_MIN: i64 = 7;

const _: () = assert!(HEADER_LEN == 61 && LENGTH_PREFIX == 12 && ATTRIBUTES_AT == 21);

/// Why bytes are not a record batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end inside the batch.
    #[error(
        "the record batch is cut off: {needed} bytes are needed, {available} are there; \
         a write was torn, or the bytes were split at the wrong place"
    )]
    Truncated {
        /// Bytes of the whole batch, or of its header.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// Not format version 2.
    #[error(
        "the record batch has format version {0}, only 2 is supported; clients older than \
         Kafka 0.11 must be upgraded"
    )]
    UnsupportedMagic(i8),
    /// The length field cannot be true.
    #[error("the record batch has an impossible length of {0}; the bytes are not a record batch")]
    InvalidLength(i32),
    /// Counts or offsets contradict each other.
    #[error(
        "the record batch has an impossible {field} of {value}; the writer is faulty or the \
         bytes are damaged"
    )]
    InvalidField {
        /// The field's name.
        field: &'static str,
        /// What it says.
        value: i64,
    },
    /// The CRC does not match.
    #[error(
        "the record batch is damaged: its CRC-32C is {computed:08x}, its header says \
         {stored:08x}; check the disk or the network between"
    )]
    CrcMismatch {
        /// As the header says.
        stored: u32,
        /// Over the bytes.
        computed: u32,
    },
}

/// Which clock a batch's timestamps come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's at the append: the batch's max timestamp holds for all its records.
    LogAppendTime,
}

/// The attribute bits of a batch: 0-2 codec, 3 timestamp type, 4 transactional, 5 control,
/// 6 the base timestamp is a delete horizon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    /// How the records are compressed.
    #[inline]
    pub fn compression(self) -> Result<Compression, UnknownCompression> {
        Compression::from_id((self.0 & 7) as u8)
    }

    /// Whether the records are not compressed.
    #[inline]
    pub fn is_plain(self) -> bool {
        self.0 & 7 == 0
    }

    /// Which clock the timestamps come from.
    #[inline]
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// The same with another timestamp type.
    #[must_use]
    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        match timestamp_type {
            TimestampType::CreateTime => Self(self.0 & !Self::LOG_APPEND_TIME),
            TimestampType::LogAppendTime => Self(self.0 | Self::LOG_APPEND_TIME),
        }
    }

    /// The same with another codec.
    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Self {
        Self(self.0 & !7 | compression as i16)
    }

    /// The same, saying that the base timestamp is a delete horizon (KIP-534), or that it is none.
    #[must_use]
    pub fn with_delete_horizon(self, is_horizon: bool) -> Self {
        match is_horizon {
            true => Self(self.0 | Self::DELETE_HORIZON),
            false => Self(self.0 & !Self::DELETE_HORIZON),
        }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the records are control records, which applications never see.
    #[inline]
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }
}

/// Where a batch lies and which leader appended it: what is looked up of a header whose checks are left
/// to who reads the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outline {
    pub(super) base_offset: Offset,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) size_in_bytes: usize,
}

impl Outline {
    /// Of the header at the front of `bytes`; `None` where it is cut off or cannot be one.
    #[inline]
    pub(super) fn peek(bytes: &[u8]) -> Option<Self> {
        let raw = bytes.first_chunk::<HEADER_LEN>()?;
        let batch_length = i32::from_be_bytes(field(raw, BATCH_LENGTH_AT));
        let holds = raw[MAGIC_AT] as i8 == MAGIC && batch_length >= BATCH_LENGTH_MIN;
        holds.then(|| Self {
            base_offset: Offset(i64::from_be_bytes(field(raw, BASE_OFFSET_AT))),
            leader_epoch: LeaderEpoch(i32::from_be_bytes(field(raw, LEADER_EPOCH_AT))),
            size_in_bytes: LENGTH_PREFIX + batch_length as usize,
        })
    }
}

/// A batch's header, decoded.
///
/// After [`BatchHeader::parse`]: `batch_length >= 49`, `0 <= record_count <= last_offset_delta + 1`,
/// `base_offset >= 0` and `base_offset + last_offset_delta` does not overflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record (of the first offset, after compaction).
    pub base_offset: Offset,
    /// Bytes after this field: 12 less than the whole batch.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch.
    pub leader_epoch: LeaderEpoch,
    /// As stored; see [`BatchHeader::compute_crc`].
    pub crc: u32,
    /// Codec, timestamp type, transactional, control.
    pub attributes: Attributes,
    /// Last offset less the base offset.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas count from, in milliseconds since the epoch.
    pub base_timestamp: i64,
    /// Greatest timestamp of the records; the append time with [`TimestampType::LogAppendTime`].
    pub max_timestamp: i64,
    /// -1 without idempotence.
    pub producer_id: ProducerId,
    /// -1 without idempotence.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of the first record; -1 without idempotence.
    pub base_sequence: i32,
    /// Records in the batch.
    pub record_count: i32,
}

impl BatchHeader {
    /// Decodes the header at the front of `bytes` and checks what can be checked without the rest.
    ///
    /// The caller bounds [`BatchHeader::size_in_bytes`] before it waits or allocates for the rest.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some((raw, _)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(BatchError::Truncated { needed: HEADER_LEN, available: bytes.len() });
        };
        let magic = raw[MAGIC_AT] as i8;
        if magic != MAGIC {
            return Err(BatchError::UnsupportedMagic(magic));
        }
        let header = Self {
            base_offset: Offset(i64::from_be_bytes(field(raw, BASE_OFFSET_AT))),
            batch_length: i32::from_be_bytes(field(raw, BATCH_LENGTH_AT)),
            leader_epoch: LeaderEpoch(i32::from_be_bytes(field(raw, LEADER_EPOCH_AT))),
            crc: u32::from_be_bytes(field(raw, CRC_AT)),
            attributes: Attributes(i16::from_be_bytes(field(raw, ATTRIBUTES_AT))),
            last_offset_delta: i32::from_be_bytes(field(raw, LAST_OFFSET_DELTA_AT)),
            base_timestamp: i64::from_be_bytes(field(raw, BASE_TIMESTAMP_AT)),
            max_timestamp: i64::from_be_bytes(field(raw, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(field(raw, PRODUCER_ID_AT)),
            producer_epoch: i16::from_be_bytes(field(raw, PRODUCER_EPOCH_AT)),
            base_sequence: i32::from_be_bytes(field(raw, BASE_SEQUENCE_AT)),
            record_count: i32::from_be_bytes(field(raw, RECORD_COUNT_AT)),
        };
        header.check()?;
        Ok(header)
    }

    #[inline]
    fn check(&self) -> Result<(), BatchError> {
        let invalid = |field, value| Err(BatchError::InvalidField { field, value });
        if self.batch_length < BATCH_LENGTH_MIN {
            return Err(BatchError::InvalidLength(self.batch_length));
        }
        let last = i64::from(self.last_offset_delta);
        if self.base_offset.0 < 0 || self.base_offset.0.checked_add(last + 1).is_none() {
            return invalid("base offset", self.base_offset.0);
        }
        if last < 0 {
            return invalid("last offset delta", last);
        }
        let count = i64::from(self.record_count);
        let records_len = (self.size_in_bytes() - HEADER_LEN) as i64;
        let compressed = !self.attributes.is_plain();
        if count < 0
            || count > last + 1
            || (!compressed && count.saturating_mul(RECORD_LEN_MIN) > records_len)
        {
            return invalid("record count", count);
        }
        Ok(())
    }

    /// Checks the CRC over `whole`, the batch that this is the header of.
    #[inline]
    pub fn check_crc(&self, whole: &[u8]) -> Result<(), BatchError> {
        let computed = crc32c(whole.get(ATTRIBUTES_AT..).unwrap_or_default());
        match computed == self.crc {
            true => Ok(()),
            false => Err(BatchError::CrcMismatch { stored: self.crc, computed }),
        }
    }

    /// The header as bytes. The CRC is written as the field says: see [`BatchHeader::compute_crc`].
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut raw = [0; HEADER_LEN];
        put(&mut raw, BASE_OFFSET_AT, self.base_offset.0.to_be_bytes());
        put(&mut raw, BATCH_LENGTH_AT, self.batch_length.to_be_bytes());
        put(&mut raw, LEADER_EPOCH_AT, self.leader_epoch.0.to_be_bytes());
        raw[MAGIC_AT] = MAGIC as u8;
        put(&mut raw, CRC_AT, self.crc.to_be_bytes());
        put(&mut raw, ATTRIBUTES_AT, self.attributes.0.to_be_bytes());
        put(&mut raw, LAST_OFFSET_DELTA_AT, self.last_offset_delta.to_be_bytes());
        put(&mut raw, BASE_TIMESTAMP_AT, self.base_timestamp.to_be_bytes());
        put(&mut raw, MAX_TIMESTAMP_AT, self.max_timestamp.to_be_bytes());
        put(&mut raw, PRODUCER_ID_AT, self.producer_id.to_be_bytes());
        put(&mut raw, PRODUCER_EPOCH_AT, self.producer_epoch.to_be_bytes());
        put(&mut raw, BASE_SEQUENCE_AT, self.base_sequence.to_be_bytes());
        put(&mut raw, RECORD_COUNT_AT, self.record_count.to_be_bytes());
        raw
    }

    /// The CRC this header should carry, given the bytes after it in as many pieces as they come.
    pub fn compute_crc<'a>(&self, records: impl IntoIterator<Item = &'a [u8]>) -> u32 {
        let mut crc = Crc32c::new();
        crc.update(&self.encode()[ATTRIBUTES_AT..]);
        for piece in records {
            crc.update(piece);
        }
        crc.finish()
    }

    /// Takes over the length, codec and CRC of a batch with this header and `block` behind it, which
    /// is compressed with `codec`.
    pub fn set_block(&mut self, codec: Compression, block: &[u8]) {
        self.batch_length = (HEADER_LEN - LENGTH_PREFIX + block.len()) as i32;
        self.attributes = self.attributes.with_compression(codec);
        self.crc = self.compute_crc([block]);
    }

    /// Bytes of the whole batch, this header included.
    #[inline]
    pub fn size_in_bytes(&self) -> usize {
        LENGTH_PREFIX + self.batch_length as usize
    }

    /// The greatest offset of the batch, whether or not a record still has it.
    #[inline]
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta))
    }

    /// When compaction may drop the batch's tombstones, where it has noted that in place of the base
    /// timestamp.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        let noted = self.attributes.0 & Attributes::DELETE_HORIZON != 0;
        noted.then_some(self.base_timestamp)
    }

    /// The offset after the batch.
    #[inline]
    pub fn next_offset(&self) -> Offset {
        self.last_offset().plus(1)
    }

    /// Whether a producer numbered the records, so that retries can be told.
    pub fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }

    /// Sequence of the last record; -1 without one. Sequences wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        ((i64::from(self.base_sequence) + i64::from(self.last_offset_delta)) & 0x7fff_ffff) as i32
    }

    /// Checks what holds for a batch fresh from a producer: at least one record, an offset for each,
    /// a base sequence where there is a producer id, and no control batch.
    pub fn check_produced(&self) -> Result<(), BatchError> {
        let invalid = |field, value| Err(BatchError::InvalidField { field, value });
        let count = i64::from(self.record_count);
        if count < 1 || count != i64::from(self.last_offset_delta) + 1 {
            return invalid("record count", count);
        }
        if self.attributes.is_control() {
            return invalid("control attribute", 1);
        }
        if let Some(horizon) = self.delete_horizon_ms() {
            // Compaction's word: a producer's would have tombstones dropped at once.
            return invalid("delete horizon", horizon);
        }
        if self.is_idempotent() && (self.base_sequence < 0 || self.producer_epoch < 0) {
            return invalid("base sequence", i64::from(self.base_sequence));
        }
        Ok(())
    }
}

#[inline]
fn field<const N: usize>(raw: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&raw[at..at + N]);
    bytes
}

#[inline]
fn put<const N: usize>(raw: &mut [u8; HEADER_LEN], at: usize, bytes: [u8; N]) {
    raw[at..at + N].copy_from_slice(&bytes);
}
