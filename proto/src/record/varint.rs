//! Kafka's variable-length integers: zig-zag, then seven bits a byte, lowest first (as Protocol
//! Buffers' `sint32` and `sint64`).

/// The longest encoding of a 32-bit value.
pub const VARINT_LEN_MAX: usize = 5;
/// The longest encoding of a 64-bit value.
pub const VARLONG_LEN_MAX: usize = 10;

/// Maps small negative numbers to small positive ones: 0, -1, 1, -2 become 0, 1, 2, 3.
#[inline]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Undoes [`zigzag`].
#[inline]
pub fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

/// How many bytes `value` takes.
#[inline]
pub fn varint_len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    // A seventh, rounded up: the same for 1 to 64 bits, without a division.
    (bits * 9 + 64) / 64
}

/// Writes `value` into `out` from `at` on and returns the position after it.
///
/// # Panics
/// Where `out` is too short: callers size it by [`varint_len`] or [`VARLONG_LEN_MAX`].
#[inline]
pub fn put_varint(out: &mut [u8], mut at: usize, value: i64) -> usize {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out[at] = rest as u8 | 0x80;
        rest >>= 7;
        at += 1;
    }
    out[at] = rest as u8;
    at + 1
}

/// Appends `value` to `out`.
pub fn push_varint(out: &mut Vec<u8>, value: i64) {
    let mut bytes = [0; VARLONG_LEN_MAX];
    let end = put_varint(&mut bytes, 0, value);
    out.extend_from_slice(&bytes[..end]);
}

/// Takes a 64-bit value off the front of `input`; `None` where it is cut off or too long.
#[inline(always)]
pub fn read_varlong(input: &mut &[u8]) -> Option<i64> {
    let (value, rest) = split_varlong(input)?;
    *input = rest;
    Some(value)
}

/// By value, and with one code path for what is longer than two bytes: a slice whose address is
/// never taken stays in registers.
#[inline(always)]
fn split_varlong(input: &[u8]) -> Option<(i64, &[u8])> {
    match split_short_form(input) {
        Some((value, rest)) => Some((i64::from(value), rest)),
        None => split_long_form(input),
    }
}

#[inline(always)]
fn split_varint(input: &[u8]) -> Option<(i32, &[u8])> {
    split_short_form(input).or_else(|| {
        let (value, rest) = split_long_form(input)?;
        Some((i32::try_from(value).ok()?, rest))
    })
}

/// A value of one or two bytes, as nearly all are; `None` for every other.
#[inline(always)]
fn split_short_form(input: &[u8]) -> Option<(i32, &[u8])> {
    let (value, rest) = match input {
        [a, rest @ ..] if *a < 0x80 => (u32::from(*a), rest),
        [a, b, rest @ ..] if *b < 0x80 => (u32::from(*a & 0x7f) | u32::from(*b) << 7, rest),
        _ => return None,
    };
    Some(((value >> 1) as i32 ^ -((value & 1) as i32), rest))
}

#[inline(never)]
fn split_long_form(input: &[u8]) -> Option<(i64, &[u8])> {
    let mut value = 0u64;
    for (i, &byte) in input.iter().take(VARLONG_LEN_MAX).enumerate() {
        // The tenth byte has room for one bit.
        if i == VARLONG_LEN_MAX - 1 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Some((unzigzag(value), &input[i + 1..]));
        }
    }
    None
}

/// Takes a 32-bit value off the front of `input`; `None` where it is cut off or does not fit.
#[inline(always)]
pub fn read_varint(input: &mut &[u8]) -> Option<i32> {
    let (value, rest) = split_varint(input)?;
    *input = rest;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_sevenths_of_the_bits() {
        for bits in 1..=64u32 {
            let largest = u64::MAX >> (64 - bits);
            assert_eq!(varint_len(unzigzag(largest)), bits.div_ceil(7) as usize, "{bits}");
        }
    }

    #[test]
    fn known_encodings() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (8191, &[0xfe, 0x7f]),
            (8192, &[0x80, 0x80, 0x01]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ] {
            let mut out = Vec::new();
            push_varint(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(varint_len(value), bytes.len(), "{value}");
            let mut input = bytes;
            assert_eq!(read_varlong(&mut input), Some(value));
            assert!(input.is_empty());
        }
    }

    #[test]
    fn cut_off_or_overlong_encodings_are_refused() {
        for bad in [&[][..], &[0x80], &[0xff, 0xff], &[0xff; 10], &[0xff; 11]] {
            let mut input = bad;
            assert_eq!(read_varlong(&mut input), None, "{bad:?}");
        }
        let mut above_i32 = Vec::new();
        push_varint(&mut above_i32, i64::from(i32::MAX) + 1);
        assert_eq!(read_varint(&mut above_i32.as_slice()), None);
    }
}
