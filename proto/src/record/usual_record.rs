//! A record as nearly all are, put together and taken apart with few checks.
//!
//! | field | here |
//! |---|---|
//! | length | up to 8191 |
//! | timestamp and offset less the base | from -8192 to 8191 |
//! | key | none, or up to 63 bytes |
//! | value | none, or up to 8191 bytes |
//! | headers | none |
//!
//! All up to the key's length lies in the first eight bytes then: one load or store, and shifts. What does
//! not fit is left to the encoder and the decoder of every record, and so is what does not hold: nothing is
//! accepted here that the decoder refuses, and it says what is wrong.

use super::record::Header;
use super::varint::zigzag;

/// The small fields of such a record, encoded.
#[derive(Debug)]
pub(super) struct UsualFields {
    /// What comes before the key, lowest byte first: so many bytes of it.
    pub(super) front: u64,
    pub(super) front_len: usize,
    /// The value's length field, the same way.
    pub(super) value_len: u16,
    pub(super) value_len_len: usize,
    /// Bytes of the record.
    pub(super) whole: usize,
}

impl UsualFields {
    /// `None` where the record is none of these.
    #[inline(always)]
    pub(super) fn of(
        timestamp_delta: i64,
        offset_delta: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Option<Self> {
        let (timestamp, timestamp_len) = encoded(zigzag(timestamp_delta))?;
        let (offset, offset_len) = encoded(zigzag(offset_delta.into()))?;
        let (value_len, value_len_len) = encoded(length_field(value))?;
        let key_len = length_field(key);
        if key_len >= 0x80 || !headers.is_empty() {
            return None;
        }
        let lens = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        // With attributes, the key's length and the number of headers.
        let body = 3 + timestamp_len + offset_len + value_len_len + lens;
        let (length, length_len) = encoded(2 * body as u64)?;
        let timestamp_at = length_len + 1;
        let offset_at = timestamp_at + timestamp_len;
        let key_at = offset_at + offset_len;
        let front = length
            | timestamp << (8 * timestamp_at)
            | offset << (8 * offset_at)
            | key_len << (8 * key_at);
        let (front_len, whole) = (key_at + 1, length_len + body);
        Some(Self { front, front_len, value_len: value_len as u16, value_len_len, whole })
    }
}

/// The length of what may be null (-1), zig-zag: no length is negative.
#[inline(always)]
fn length_field(bytes: Option<&[u8]>) -> u64 {
    bytes.map_or(NULL.into(), |bytes| 2 * bytes.len() as u64)
}

/// A varint of one or two bytes, lowest first, and how many.
#[inline(always)]
fn encoded(zigzag: u64) -> Option<(u64, usize)> {
    match zigzag {
        0..0x80 => Some((zigzag, 1)),
        0x80..0x4000 => Some((zigzag & 0x7f | 0x80 | (zigzag >> 7) << 8, 2)),
        _ => None,
    }
}

/// Fields of such a record, and what follows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UsualRecord<'a> {
    pub(super) timestamp_delta: i32,
    pub(super) offset_delta: i32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) rest: &'a [u8],
}

impl<'a> UsualRecord<'a> {
    /// The record at the front of `bytes`; `None` where it is none of these.
    #[inline(always)]
    pub(super) fn split_off(bytes: &'a [u8]) -> Option<Self> {
        let word = u64::from_le_bytes(*bytes.first_chunk()?);
        let (length, at) = varint(word)?;
        // An odd one is negative, here and below.
        if length & 1 != 0 {
            return None;
        }
        let (record, rest) = bytes.split_at_checked(at + (length >> 1) as usize)?;
        let at = at + 1; // attributes
        let (timestamp, len) = varint(word >> (8 * at))?;
        let at = at + len;
        let (offset, len) = varint(word >> (8 * at))?;
        let at = at + len;
        let key_len = (word >> (8 * at)) as u8;
        let (key, at) = match key_len {
            NULL => (None, at + 1),
            _ if key_len & 0x81 != 0 => return None,
            _ => {
                let (from, end) = (at + 1, at + 1 + usize::from(key_len >> 1));
                (Some(record.get(from..end)?), end)
            }
        };
        // The number of headers follows, so a value's length is never the last byte.
        let [first, second] = *record.get(at..)?.first_chunk()?;
        let (value_len, len) = varint(u64::from(first) | u64::from(second) << 8)?;
        let (fields, headers) = record.split_at(record.len() - 1);
        let value = fields.get(at + len..)?;
        let value = match value_len {
            1 if value.is_empty() => None,
            _ if value_len as usize == 2 * value.len() => Some(value),
            _ => return None,
        };
        (headers == [0]).then_some(Self {
            timestamp_delta: (timestamp >> 1) as i32 ^ -((timestamp & 1) as i32),
            offset_delta: (offset >> 1) as i32 ^ -((offset & 1) as i32),
            key,
            value,
            rest,
        })
    }
}

/// The length field of what is null.
const NULL: u8 = 1;

/// The varint of one or two bytes at the low end of `word`, still zig-zag, and its length.
#[inline(always)]
fn varint(word: u64) -> Option<(u32, usize)> {
    let word = word as u32;
    if word & 0x80 == 0 {
        Some((word & 0x7f, 1))
    } else if word & 0x8000 == 0 {
        Some((word & 0x7f | word >> 1 & 0x3f80, 2))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::reader::decode_any;
    use super::super::record::nullable_len;
    use super::super::varint::push_varint;
    use super::*;

    /// Around every bound of the table.
    fn bytes(lens: [usize; 5]) -> impl Strategy<Value = Option<Vec<u8>>> {
        let len =
            prop::sample::select(lens.to_vec()).prop_flat_map(|len| len.saturating_sub(2)..len + 2);
        prop::option::of(len.prop_flat_map(|len| prop::collection::vec(any::<u8>(), len)))
    }

    fn delta() -> impl Strategy<Value = i64> {
        prop_oneof![-70i64..70, -8200i64..-8185, 8185i64..8200, any::<i32>().prop_map(i64::from)]
    }

    /// By the table in [`super::super::record`], field by field.
    fn plainly(timestamp: i64, offset: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Vec<u8> {
        let mut body = vec![0];
        push_varint(&mut body, timestamp);
        push_varint(&mut body, offset);
        for field in [key, value] {
            push_varint(&mut body, nullable_len(field));
            body.extend_from_slice(field.unwrap_or_default());
        }
        body.push(0);
        let mut whole = Vec::new();
        push_varint(&mut whole, body.len() as i64);
        [whole, body].concat()
    }

    /// What is accepted is what the decoder of every record makes of it.
    fn agrees(bytes: &[u8]) -> bool {
        let Some(usual) = UsualRecord::split_off(bytes) else { return false };
        let (record, rest) = decode_any(bytes).unwrap();
        assert_eq!(record.offset.0, i64::from(usual.offset_delta));
        assert_eq!(record.timestamp, i64::from(usual.timestamp_delta));
        assert_eq!((record.key, record.value, rest), (usual.key, usual.value, usual.rest));
        assert_eq!(record.headers.len(), 0);
        true
    }

    proptest! {
        #[test]
        fn what_fits_is_written_and_read_as_by_the_general_way(
            timestamp in delta(),
            offset in delta(),
            key in bytes([2, 10, 63, 64, 200]),
            value in bytes([2, 50, 63, 64, 8192]),
            behind in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let (key, value) = (key.as_deref(), value.as_deref());
            let plain = plainly(timestamp, offset, key, value);
            let small = |delta: i64| (-8192..8192).contains(&delta);
            let is_usual = plain.len() < 8194
                && small(timestamp)
                && small(offset)
                && key.is_none_or(|key| key.len() < 64);
            let fields = UsualFields::of(timestamp, offset as i32, key, value, &[]);
            prop_assert_eq!(fields.is_some(), is_usual);
            if let Some(fields) = fields {
                let front = &fields.front.to_le_bytes()[..fields.front_len];
                let value_len = &fields.value_len.to_le_bytes()[..fields.value_len_len];
                let parts = [front, key.unwrap_or_default(), value_len, value.unwrap_or_default(), &[0]];
                prop_assert_eq!(parts.concat(), plain.clone());
                prop_assert_eq!(fields.whole, plain.len());
            }
            let whole = [plain, behind].concat();
            prop_assert_eq!(agrees(&whole), is_usual && whole.len() >= 8);
            for len in 0..whole.len().min(40) {
                agrees(&whole[..len]);
            }
        }

        #[test]
        fn nothing_is_accepted_that_the_general_way_refuses(
            mut bytes in prop::collection::vec(prop_oneof![0u8..24, any::<u8>()], 0..40),
            length in any::<bool>(),
        ) {
            if length && !bytes.is_empty() {
                bytes[0] = 2 * (bytes.len() as u8 - 1);
            }
            agrees(&bytes);
        }

        #[test]
        fn changed_bytes_are_seen_alike(at in 0usize..90, byte in any::<u8>()) {
            let mut bytes = plainly(5, 70, Some(b"key"), Some(&[b'v'; 75]));
            bytes.extend_from_slice(&[0; 10]);
            bytes[at % 90] = byte;
            agrees(&bytes);
        }
    }
}
