//! One record, borrowed from its batch.
//!
//! | field | encoding |
//! |---|---|
//! | length of what follows | varint |
//! | attributes: unused, 0 | one byte |
//! | timestamp less the base timestamp | varlong |
//! | offset less the base offset | varint |
//! | key: length or -1 for null, bytes | varint, bytes |
//! | value: length or -1 for null, bytes | varint, bytes |
//! | number of headers | varint |
//! | each header: key length, key in UTF-8, value length or -1 for null, value | |

use std::borrow::Cow;
use std::fmt;

use super::varint::{read_varint, varint_len};
use crate::Offset;

/// A name with a value beside a record's own; the same name may come more than once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    key: &'a [u8],
    value: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// A header to be encoded.
    pub fn new(key: &'a str, value: Option<&'a [u8]>) -> Self {
        Self { key: key.as_bytes(), value }
    }

    /// The name; bytes that are no UTF-8 are replaced.
    pub fn key(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.key)
    }

    /// The name as it came.
    pub fn key_bytes(&self) -> &'a [u8] {
        self.key
    }

    /// The value; `None` is null, which is not empty.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// Bytes of the header in a record.
    pub(super) fn encoded_len(&self) -> usize {
        varint_len(self.key.len() as i64)
            + self.key.len()
            + varint_len(nullable_len(self.value))
            + self.value.map_or(0, <[u8]>::len)
    }
}

impl fmt::Debug for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.map(String::from_utf8_lossy);
        f.debug_struct("Header").field("key", &self.key()).field("value", &value).finish()
    }
}

/// The length field of something that may be null.
#[inline]
pub(super) fn nullable_len(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| bytes.len() as i64)
}

/// A record, borrowed from its batch.
#[derive(Debug, Clone)]
pub struct RecordRef<'a> {
    /// Its number in the partition.
    pub offset: Offset,
    /// Milliseconds since the epoch; which clock, the batch's attributes tell.
    pub timestamp: i64,
    /// `None` is null, which is not empty.
    pub key: Option<&'a [u8]>,
    /// `None` is null (a tombstone in a compacted topic), which is not empty.
    pub value: Option<&'a [u8]>,
    /// In the order they were sent, duplicates included.
    pub headers: Headers<'a>,
}

/// The headers of a record: an iterator, cheap to clone.
#[derive(Clone, Default)]
pub struct Headers<'a> {
    left: usize,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Checks that `bytes` are `count` headers and nothing else; `None` where they are not.
    pub(super) fn parse(count: i32, bytes: &'a [u8]) -> Option<Self> {
        let left = usize::try_from(count).ok()?;
        // A header takes two bytes or more.
        if left > bytes.len() / 2 {
            return None;
        }
        let mut rest = bytes;
        for _ in 0..left {
            take_header(&mut rest)?;
        }
        rest.is_empty().then_some(Self { left, bytes })
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        take_header(&mut self.bytes)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Headers<'_> {}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

fn take_header<'a>(rest: &mut &'a [u8]) -> Option<Header<'a>> {
    let key = take_nullable(rest)??;
    let value = take_nullable(rest)?;
    Some(Header { key, value })
}

/// Takes a length and as many bytes; the inner `None` is null.
#[inline(always)]
pub(super) fn take_nullable<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let len = read_varint(rest)?;
    if len == -1 {
        return Some(None);
    }
    let (bytes, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = after;
    Some(Some(bytes))
}
