//! Zstandard (RFC 8878).
//!
//! A block is decompressed in one call straight into the output, so that the output is the window:
//! a frame's window may be of any size and takes no memory of its own. How much can come out is
//! read off the frame and block headers first ([`output_max`]).

use std::ops::RangeInclusive;

use zstd::zstd_safe::{self, CCtx, DCtx};

use super::decompressor::{Fault, malformed};

/// Kafka's bounds of `compression.zstd.level`, which are the library's.
pub(super) const LEVELS: RangeInclusive<i32> = -131_072..=22;

const MAGIC: u32 = 0xfd2f_b528;
const SKIPPABLE: RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;
/// No block holds more, whatever its frame's window.
const BLOCK_LEN_MAX: u64 = 128 << 10;
/// The library's number for "the output is too small", which its documentation calls stable.
const TOO_SMALL: usize = 70;

/// Writes frames of one level.
pub(super) struct Encoder {
    level: i32,
    context: Option<CCtx<'static>>,
}

impl Encoder {
    pub(super) fn new(level: Option<i32>) -> Self {
        Self { level: level.unwrap_or(zstd_safe::CLEVEL_DEFAULT), context: None }
    }

    /// Appends one frame to `out`.
    pub(super) fn compress(&mut self, block: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        if self.context.is_none() {
            self.context = CCtx::try_create();
        }
        let context = self.context.as_mut().ok_or("no memory for its tables")?;
        let at = out.len();
        out.resize(at + zstd_safe::compress_bound(block.len()), 0);
        match context.compress(&mut out[at..], block, self.level) {
            Ok(len) => {
                out.truncate(at + len);
                Ok(())
            }
            Err(code) => {
                self.context = None;
                Err(zstd_safe::get_error_name(code).into())
            }
        }
    }
}

/// Reads frames.
#[derive(Default)]
pub(super) struct Decoder(Option<DCtx<'static>>);

impl Decoder {
    /// All frames of `block`.
    pub(super) fn decompress(
        &mut self,
        block: &[u8],
        max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let possible = match output_max(block)? {
            OutputMax::Exactly(len) if len > max as u64 => return Err(Fault::TooLarge),
            OutputMax::Exactly(len) | OutputMax::AtMost(len) => len.min(max as u64) as usize,
        };
        if self.0.is_none() {
            self.0 = DCtx::try_create();
        }
        let Some(context) = &mut self.0 else { return malformed("no memory for its tables") };
        out.resize(possible, 0);
        match context.decompress(&mut out[..], block) {
            Ok(len) => {
                out.truncate(len);
                Ok(())
            }
            Err(code) if code.wrapping_neg() == TOO_SMALL && possible == max => {
                Err(Fault::TooLarge)
            }
            Err(code) => Err(Fault::Malformed(zstd_safe::get_error_name(code).into())),
        }
    }
}

/// What can come out of frames, by their headers alone.
#[derive(Debug, PartialEq, Eq)]
enum OutputMax {
    /// If they are right.
    Exactly(u64),
    AtMost(u64),
}

/// Walks the frame and block headers. `Exactly` where every frame names its content size.
///
/// | bytes | field of a frame |
/// |---|---|
/// | 4 | magic |
/// | 1 | flags: 6-7 width of the content size, 5 single segment, 2 checksum, 0-1 width of the dictionary id |
/// | 0 or 1 | window, unless single segment |
/// | 0, 1, 2 or 4 | dictionary id |
/// | 0, 1, 2, 4 or 8 | content size |
/// | then for each block: 3 | last (bit 0), type (1-2): raw, run, compressed; size |
/// | | as many bytes; one for a run |
/// | 0 or 4 | checksum |
fn output_max(block: &[u8]) -> Result<OutputMax, Fault> {
    let mut rest = block;
    let (mut total, mut exact) = (0u64, true);
    if rest.is_empty() {
        return Err(Fault::CUT_OFF);
    }
    while !rest.is_empty() {
        let magic = take_number(&mut rest, 4)?;
        if SKIPPABLE.contains(&(magic as u32)) {
            let len = take_number(&mut rest, 4)?;
            skip(&mut rest, len as usize)?;
            continue;
        }
        if magic != u64::from(MAGIC) {
            return malformed("there is no zstd frame where one should begin");
        }
        let (content_size, blocks_max) = walk_frame(&mut rest)?;
        exact &= content_size.is_some();
        // A frame cannot hold more than its blocks can, whatever it says.
        total = total.saturating_add(content_size.unwrap_or(blocks_max).min(blocks_max));
    }
    Ok(if exact { OutputMax::Exactly(total) } else { OutputMax::AtMost(total) })
}

/// The content size a frame names, and what its blocks hold at most.
fn walk_frame(rest: &mut &[u8]) -> Result<(Option<u64>, u64), Fault> {
    let flags = take_number(rest, 1)?;
    let single_segment = flags & 1 << 5 != 0;
    if !single_segment {
        skip(rest, 1)?;
    }
    skip(rest, [0, 1, 2, 4][flags as usize & 3])?;
    let content_size = match flags >> 6 {
        0 if single_segment => Some(take_number(rest, 1)?),
        0 => None,
        1 => Some(take_number(rest, 2)? + 256),
        2 => Some(take_number(rest, 4)?),
        _ => Some(take_number(rest, 8)?),
    };
    let mut blocks_max = 0u64;
    loop {
        let field = take_number(rest, 3)?;
        let size = field >> 3;
        let (stored, regenerated) = match field >> 1 & 3 {
            0 => (size, size),
            1 => (1, size),
            2 => (size, BLOCK_LEN_MAX),
            _ => return malformed("a block's type is not known"),
        };
        skip(rest, stored as usize)?;
        blocks_max = blocks_max.saturating_add(regenerated.min(BLOCK_LEN_MAX));
        if field & 1 != 0 {
            break;
        }
    }
    skip(rest, if flags & 1 << 2 != 0 { 4 } else { 0 })?;
    Ok((content_size, blocks_max))
}

/// A little-endian number of up to eight bytes.
fn take_number(rest: &mut &[u8], len: usize) -> Result<u64, Fault> {
    let (bytes, after) = rest.split_at_checked(len).ok_or(Fault::CUT_OFF)?;
    *rest = after;
    Ok(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

fn skip(rest: &mut &[u8], len: usize) -> Result<(), Fault> {
    *rest = rest.get(len..).ok_or(Fault::CUT_OFF)?;
    Ok(())
}
