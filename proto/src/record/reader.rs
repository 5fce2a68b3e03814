//! Decodes the records of a batch to borrowed fields, without copying.

use super::batch_header::{BatchError, BatchHeader, TimestampType};
use super::compression::{Compression, DecompressError, UnknownCompression};
use super::record::{Headers, RecordRef, take_nullable};
use super::usual_record::UsualRecord;
use super::varint::{read_varint, read_varlong};
use crate::Offset;

/// Why a record cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The records are compressed, and whoever reads them does not decompress.
    #[error(
        "the records of the batch at offset {offset} are compressed with {codec}, and are read \
         without decompressing them: this is a fault of the program"
    )]
    UnsupportedCompression {
        /// The batch's base offset.
        offset: Offset,
        /// Its codec.
        codec: Compression,
    },
    /// The records cannot be decompressed.
    #[error(
        "the records of the batch at offsets {offset} to {last_offset} cannot be read: {source}; \
         the batch's CRC holds, so its producer wrote it so: seek behind the batch to go on"
    )]
    Compressed {
        /// The batch's base offset.
        offset: Offset,
        /// The batch's last offset.
        last_offset: Offset,
        /// Why.
        source: DecompressError,
    },
    /// The batch around the records does not hold.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The codec number is not known.
    #[error("{0}")]
    UnknownCompression(#[from] UnknownCompression),
    /// A record contradicts itself or its batch.
    #[error(
        "record {index} of the batch at offset {offset} is malformed: {what}; the batch's CRC \
         holds, so its producer wrote it so: seek behind the batch to go on"
    )]
    Malformed {
        /// The batch's base offset.
        offset: Offset,
        /// Which record of the batch, from 0.
        index: i32,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// The records of a batch in order; ends after the first error.
///
/// Checks that each record fills its length exactly, that offsets ascend inside the batch, and that
/// the records fill the batch.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
    index: i32,
    count: i32,
    base_offset: Offset,
    base_timestamp: i64,
    /// All ones; zero where the broker stamped one time for all records, which is the base then.
    timestamp_delta_mask: i64,
    last_offset_delta: i32,
    previous_delta: i32,
    /// Why no record can be decoded; then `index` is `count` and `rest` is empty.
    refused: Option<RecordError>,
}

impl<'a> Records<'a> {
    /// Over the bytes after the header.
    pub(super) fn new(header: &BatchHeader, bytes: &'a [u8]) -> Self {
        let offset = header.base_offset;
        let refused = match header.attributes.compression() {
            Ok(Compression::None) => return Self::over(header, bytes),
            // An empty batch, which compaction leaves where nothing survived.
            _ if header.record_count == 0 && bytes.is_empty() => return Self::over(header, bytes),
            Ok(codec) => RecordError::UnsupportedCompression { offset, codec },
            Err(unknown) => unknown.into(),
        };
        Self { refused: Some(refused), count: 0, ..Self::over(header, &[]) }
    }

    /// Over the records themselves, whatever codec the header names.
    #[inline]
    pub(super) fn over(header: &BatchHeader, bytes: &'a [u8]) -> Self {
        let append_time = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
        Self {
            rest: bytes,
            index: 0,
            count: header.record_count,
            base_offset: header.base_offset,
            base_timestamp: if append_time { header.max_timestamp } else { header.base_timestamp },
            timestamp_delta_mask: if append_time { 0 } else { -1 },
            last_offset_delta: header.last_offset_delta,
            previous_delta: -1,
            refused: None,
        }
    }

    #[inline(always)]
    fn decode(&mut self) -> Result<RecordRef<'a>, &'static str> {
        if let Some(usual) = UsualRecord::split_off(self.rest)
            && self.is_in_order(usual.offset_delta)
        {
            self.rest = usual.rest;
            return Ok(self.place(RecordRef {
                offset: Offset(i64::from(usual.offset_delta)),
                timestamp: i64::from(usual.timestamp_delta),
                key: usual.key,
                value: usual.value,
                headers: Headers::default(),
            }));
        }
        // By value: what stays in registers must not have its address taken.
        let (record, rest) = decode_any(self.rest)?;
        if !self.is_in_order(record.offset.0 as i32) {
            return Err("its offset is out of order");
        }
        self.rest = rest;
        Ok(self.place(record))
    }

    #[inline(always)]
    fn is_in_order(&self, offset_delta: i32) -> bool {
        offset_delta > self.previous_delta && offset_delta <= self.last_offset_delta
    }

    /// The record itself, of one with deltas for offset and timestamp.
    #[inline(always)]
    fn place(&mut self, deltas: RecordRef<'a>) -> RecordRef<'a> {
        self.previous_delta = deltas.offset.0 as i32;
        let timestamp_delta = deltas.timestamp & self.timestamp_delta_mask;
        RecordRef {
            // Does not overflow: the header was checked for its last offset.
            offset: Offset(self.base_offset.0.wrapping_add(deltas.offset.0)),
            timestamp: self.base_timestamp.wrapping_add(timestamp_delta),
            ..deltas
        }
    }

    fn end(&mut self) {
        self.index = self.count;
        self.rest = &[];
    }
}

/// Any record at the front of `rest`, with deltas for offset and timestamp, and what follows it.
#[inline(never)]
pub(super) fn decode_any(mut rest: &[u8]) -> Result<(RecordRef<'_>, &[u8]), &'static str> {
    let length = read_varint(&mut rest).ok_or("its length is cut off")?;
    let length = usize::try_from(length).map_err(|_| "its length is negative")?;
    let (mut body, rest) = rest.split_at_checked(length).ok_or("it is longer than its batch")?;
    let [_attributes, fields @ ..] = body else { return Err("it is empty") };
    body = fields;
    let timestamp_delta = read_varlong(&mut body).ok_or("its timestamp is cut off")?;
    let offset_delta = read_varint(&mut body).ok_or("its offset is cut off")?;
    let key = take_nullable(&mut body).ok_or("its key is longer than the record")?;
    let value = take_nullable(&mut body).ok_or("its value is longer than the record")?;
    let headers = match *body {
        [0] => Headers::default(),
        _ => {
            let count = read_varint(&mut body).ok_or("its header count is cut off")?;
            Headers::parse(count, body).ok_or("its headers do not fill it")?
        }
    };
    let offset = Offset(i64::from(offset_delta));
    Ok((RecordRef { offset, timestamp: timestamp_delta, key, value, headers }, rest))
}

#[cold]
fn malformed(offset: Offset, index: i32, what: &'static str) -> RecordError {
    RecordError::Malformed { offset, index, what }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordRef<'a>, RecordError>;

    // Nothing here lends `self` to a function that is not inlined: it all stays in registers.
    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let what = if self.index < self.count {
            match self.decode() {
                Ok(record) => {
                    self.index += 1;
                    return Some(Ok(record));
                }
                Err(what) => what,
            }
        } else if let Some(error) = self.refused.take() {
            return Some(Err(error));
        } else if self.rest.is_empty() {
            return None;
        } else {
            "the batch goes on after its last record"
        };
        let error = malformed(self.base_offset, self.index, what);
        self.end();
        Some(Err(error))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some((self.count - self.index) as usize + 1))
    }
}
