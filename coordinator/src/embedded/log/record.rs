//! The log file byte for byte. All integers are big-endian.
//!
//! | bytes | log header |
//! |---|---|
//! | 8 | magic `OTTLALOG` |
//! | 4 | version, 1 |
//!
//! | bytes | record |
//! |---|---|
//! | 4 | length of what follows the checksum; 0 marks the end of the log |
//! | 4 | CRC-32 of the length and all that follows this field |
//! | 8 | zxid: one more than that of the record before |
//! | 8 | synced: every record up to this zxid was on disk when this one was written |
//! | 8 | time, ms since 1970 |
//! | 8 | session |
//! | 4 | operation |
//! | rest | body of the request |
//! | 1 | `0xa5`: no record ends in zeros, so zeros at the end of the file are none of a record |
//!
//! Behind the last record there are zeros up to the end of the file.

use super::super::options::FRAME_BYTES_MAX;
use super::super::state::Record;
use super::super::transaction::Stamp;
use super::super::wire::Input;

pub(crate) const HEADER: [u8; 12] = *b"OTTLALOG\0\0\0\x01";
const PREFIX_BYTES: usize = 8;
const FIELDS_BYTES: usize = 36;
const MARK: u8 = 0xa5;
const FIXED_BYTES: usize = FIELDS_BYTES + 1;
/// The longest a record can be; no request is longer than a frame.
pub(crate) const RECORD_BYTES_MAX: usize = PREFIX_BYTES + FIXED_BYTES + FRAME_BYTES_MAX;

/// A record as found in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Logged<'a> {
    pub(crate) record: Record<'a>,
    pub(crate) synced: i64,
    /// With its prefix.
    pub(crate) len: usize,
}

/// What stands at a position of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Record(Logged<'a>),
    /// Zeros, bytes that are no record, or the end of the file.
    End,
}

/// Appends the record to `log`.
pub(crate) fn encode(record: Record<'_>, synced: i64, log: &mut Vec<u8>) {
    let start = log.len();
    let len = u32::try_from(FIXED_BYTES + record.body.len()).unwrap_or(u32::MAX);
    log.extend_from_slice(&len.to_be_bytes());
    log.extend_from_slice(&[0; 4]);
    for field in [record.stamp.zxid, synced, record.stamp.time_ms, record.stamp.session] {
        log.extend_from_slice(&field.to_be_bytes());
    }
    log.extend_from_slice(&record.op.to_be_bytes());
    log.extend_from_slice(record.body);
    log.push(MARK);
    let crc = checksum(&log[start..start + 4], &log[start + PREFIX_BYTES..]);
    log[start + 4..start + PREFIX_BYTES].copy_from_slice(&crc.to_be_bytes());
}

fn checksum(len: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(len);
    hasher.update(rest);
    hasher.finalize()
}

/// Looks at the front of `bytes`.
pub(crate) fn decode(bytes: &[u8]) -> Found<'_> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<4>() else { return Found::End };
    let len = u32::from_be_bytes(*prefix) as usize;
    if !(FIXED_BYTES..=RECORD_BYTES_MAX - PREFIX_BYTES).contains(&len) {
        return Found::End;
    }
    decode_whole(prefix, rest, len).map_or(Found::End, Found::Record)
}

/// Whether some record in `tail` was written after record `zxid` had been synced: then what stands
/// in place of `zxid` is no torn write.
pub(crate) fn proves_synced(tail: &[u8], zxid: i64) -> bool {
    let field = |at: usize| {
        let bytes = tail.get(at..)?.first_chunk::<8>()?;
        Some(i64::from_be_bytes(*bytes))
    };
    (0..tail.len()).any(|at| {
        // Cheap tests first: this looks at every byte.
        let (Some(found), Some(synced)) = (field(at + 8), field(at + 16)) else { return false };
        synced >= zxid && found > synced && matches!(decode(&tail[at..]), Found::Record(_))
    })
}

fn decode_whole<'a>(prefix: &[u8; 4], rest: &'a [u8], len: usize) -> Option<Logged<'a>> {
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let payload = rest.get(..len)?;
    if checksum(prefix, payload) != u32::from_be_bytes(*crc) {
        return None;
    }
    let mut input = Input::new(payload);
    let (zxid, synced) = (input.i64().ok()?, input.i64().ok()?);
    let (time_ms, session) = (input.i64().ok()?, input.i64().ok()?);
    let op = input.i32().ok()?;
    let body = payload.get(FIELDS_BYTES..)?.strip_suffix(&[MARK])?;
    let record = Record { stamp: Stamp { session, zxid, time_ms }, op, body };
    Some(Logged { record, synced, len: PREFIX_BYTES + len })
}
