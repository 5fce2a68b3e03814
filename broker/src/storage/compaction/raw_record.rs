//! The records of a batch as bytes to be kept or left out: decoded no further than the key.
//!
//! `proto::record::Records` lends decoded fields to consumers; the cleaner copies whole records, or
//! all but the timestamp, and needs to know where these lie. For bytes whose CRC holds, but which
//! some producer may have made up: nothing here panics, and nothing is allocated.

use proto::record::varint::{push_varint, read_varint, read_varlong, varint_len};

/// The records contradict their header or themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// One record.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawRecord<'a> {
    attributes: u8,
    /// Counts from the batch's base timestamp.
    pub(super) timestamp_delta: i64,
    /// Counts from the batch's base offset.
    pub(super) offset_delta: i32,
    /// `None` is null.
    pub(super) key: Option<&'a [u8]>,
    /// The value is null.
    pub(super) is_tombstone: bool,
    /// All of it, its length included.
    pub(super) whole: &'a [u8],
    /// What follows the timestamp.
    tail: &'a [u8],
}

impl RawRecord<'_> {
    /// Appends the record under another timestamp delta.
    pub(super) fn push_with_delta(&self, timestamp_delta: i64, out: &mut Vec<u8>) {
        let len = 1 + varint_len(timestamp_delta) + self.tail.len();
        push_varint(out, len as i64);
        out.push(self.attributes);
        push_varint(out, timestamp_delta);
        out.extend_from_slice(self.tail);
    }
}

/// The records of a batch in order; ends after the first error.
#[derive(Debug, Clone)]
pub(super) struct RawRecords<'a> {
    rest: &'a [u8],
    left: i32,
    previous_delta: i32,
    last_delta: i32,
}

impl<'a> RawRecords<'a> {
    /// Over uncompressed records: `count` of them, with offset deltas up to `last_delta`.
    pub(super) fn new(bytes: &'a [u8], count: i32, last_delta: i32) -> Self {
        Self { rest: bytes, left: count, previous_delta: -1, last_delta }
    }

    fn decode(&mut self) -> Option<RawRecord<'a>> {
        let from = self.rest;
        let length = usize::try_from(read_varint(&mut self.rest)?).ok()?;
        let (body, rest) = self.rest.split_at_checked(length)?;
        let whole = &from[..from.len() - rest.len()];
        self.rest = rest;
        let (&attributes, mut fields) = body.split_first()?;
        let timestamp_delta = read_varlong(&mut fields)?;
        let tail = fields;
        let offset_delta = read_varint(&mut fields)?;
        if offset_delta <= self.previous_delta || offset_delta > self.last_delta {
            return None;
        }
        self.previous_delta = offset_delta;
        let key = take_nullable(&mut fields)?;
        let value = take_nullable(&mut fields)?;
        // The number of headers: at least there.
        read_varint(&mut fields).filter(|&headers| headers >= 0)?;
        let is_tombstone = value.is_none();
        Some(RawRecord {
            attributes,
            timestamp_delta,
            offset_delta,
            key,
            is_tombstone,
            whole,
            tail,
        })
    }
}

impl<'a> Iterator for RawRecords<'a> {
    type Item = Result<RawRecord<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            let rest = std::mem::take(&mut self.rest);
            return (!rest.is_empty()).then_some(Err(Malformed));
        }
        self.left -= 1;
        let record = self.decode().ok_or(Malformed);
        if record.is_err() {
            (self.left, self.rest) = (0, &[]);
        }
        Some(record)
    }
}

/// A length and as many bytes; the inner `None` is null.
fn take_nullable<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let len = read_varint(rest)?;
    if len == -1 {
        return Some(None);
    }
    let (bytes, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = after;
    Some(Some(bytes))
}
