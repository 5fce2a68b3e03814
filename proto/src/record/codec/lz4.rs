//! The LZ4 frame format, as Kafka writes it since record batches v2: with a right header checksum.
//!
//! | bytes | field |
//! |---|---|
//! | 4 | magic `04 22 4d 18` |
//! | 1 | flags: version (01), independent blocks, block checksums, content size, content checksum, –, dictionary |
//! | 1 | greatest block, bits 4-6: 4 is 64 KiB, 5, 6, 7 four times the one before |
//! | 0 or 8 | content size |
//! | 1 | second byte of xxh32 of the three fields before |
//! | then for each block: 4 | length; the top bit says it is stored uncompressed |
//! | | block, and its xxh32 where the flags say so |
//! | 4 | 0: the end |
//! | 0 or 4 | xxh32 of the content |
//!
//! Little-endian. Linked blocks refer to the 64 KiB before them; those lie in the output already.
//! Skippable frames are skipped. Dictionaries and the legacy format are refused, as Kafka refuses them.
//!
//! Blocks and checksums are the crates'; the frame around them is read here because `lz4_flex`'s own
//! reader takes a frame that is cut off between two blocks for a whole one, and copies twice.

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into_with_dict};
use lz4_flex::block::{decompress_into, get_maximum_output_size};
use twox_hash::XxHash32;

use super::decompressor::{Fault, malformed};

const MAGIC: u32 = 0x184d_2204;
const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;
const STORED: u32 = 1 << 31;
/// Magic, version 1 with independent blocks, blocks of 64 KiB, checksum of these two.
const HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
const BLOCK_LEN: usize = 64 << 10;
/// What linked blocks can refer to.
const WINDOW: usize = 64 << 10;
/// A byte of a match length stands for 255 bytes; the rest is a sequence's own few bytes.
const RATIO_MAX: usize = 255;

/// Writes frames of independent blocks of 64 KiB, all that Kafka's Java reader takes.
pub(super) struct Encoder(CompressTable);

impl Encoder {
    pub(super) fn new() -> Self {
        Self(CompressTable::large())
    }

    /// Appends one frame to `out`.
    pub(super) fn compress(&mut self, block: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(&HEADER);
        for piece in block.chunks(BLOCK_LEN) {
            let at = out.len();
            let begin = at + 4;
            out.resize(begin + get_maximum_output_size(piece.len()), 0);
            let compressed = compress_into_with_table(piece, &mut out[begin..], &mut self.0);
            let len = compressed.map_err(|error| error.to_string())?;
            let field = if len < piece.len() {
                out.truncate(begin + len);
                len as u32
            } else {
                out.truncate(begin);
                out.extend_from_slice(piece);
                piece.len() as u32 | STORED
            };
            out[at..begin].copy_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&[0; 4]);
        Ok(())
    }
}

/// Every frame of `block`.
pub(super) fn decompress(block: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut rest = block;
    if rest.is_empty() {
        return Err(Fault::CUT_OFF);
    }
    while !rest.is_empty() {
        match take_u32(&mut rest)? {
            MAGIC => decompress_frame(&mut rest, max, out)?,
            magic if SKIPPABLE.contains(&magic) => {
                let len = take_u32(&mut rest)? as usize;
                take(&mut rest, len)?;
            }
            _ => return malformed("there is no LZ4 frame where one should begin"),
        }
    }
    Ok(())
}

/// What a frame's header says.
struct Frame {
    independent: bool,
    block_checksums: bool,
    content_checksum: bool,
    content_size: Option<u64>,
    block_len_max: usize,
}

impl Frame {
    fn take(rest: &mut &[u8]) -> Result<Self, Fault> {
        let begin = *rest;
        let [flags, sizes] = *take_array(rest)?;
        if flags >> 6 != 1 {
            return malformed("its version is not known");
        }
        if flags & 1 != 0 {
            return malformed("it needs a dictionary");
        }
        let block_len_max = match sizes >> 4 & 7 {
            id @ 4..=7 => BLOCK_LEN << (2 * (id - 4)),
            _ => return malformed("its block size is not known"),
        };
        let content_size = match flags & 1 << 3 {
            0 => None,
            _ => Some(u64::from_le_bytes(*take_array(rest)?)),
        };
        let described = &begin[..begin.len() - rest.len()];
        let [checksum] = *take_array(rest)?;
        if checksum != (xxh32(described) >> 8) as u8 {
            return malformed("its header's checksum does not hold");
        }
        Ok(Self {
            independent: flags & 1 << 5 != 0,
            block_checksums: flags & 1 << 4 != 0,
            content_checksum: flags & 1 << 2 != 0,
            content_size,
            block_len_max,
        })
    }
}

/// Appends a frame whose magic is taken.
fn decompress_frame(rest: &mut &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    let frame = Frame::take(rest)?;
    let begin = out.len();
    if frame.content_size.is_some_and(|size| size > (max - begin) as u64) {
        return Err(Fault::TooLarge);
    }
    loop {
        let field = take_u32(rest)?;
        if field == 0 {
            break;
        }
        let len = (field & !STORED) as usize;
        if len > frame.block_len_max {
            return malformed("a block is larger than its frame allows");
        }
        let block = take(rest, len)?;
        if frame.block_checksums && take_u32(rest)? != xxh32(block) {
            return malformed("a block's checksum does not hold");
        }
        if field & STORED == 0 {
            let before = if frame.independent { out.len() } else { begin };
            decompress_block(block, frame.block_len_max, before, max, out)?;
        } else if len > max - out.len() {
            return Err(Fault::TooLarge);
        } else {
            out.extend_from_slice(block);
        }
    }
    let content = &out[begin..];
    if frame.content_size.is_some_and(|size| size != content.len() as u64) {
        return malformed("its content has another size than it says");
    }
    if frame.content_checksum && take_u32(rest)? != xxh32(content) {
        return malformed("its content's checksum does not hold");
    }
    Ok(())
}

/// Appends a block, which may refer to the output from `before` on.
fn decompress_block(
    block: &[u8],
    len_max: usize,
    before: usize,
    max: usize,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let at = out.len();
    let possible = len_max.min(block.len().saturating_mul(RATIO_MAX));
    let room = possible.min(max - at);
    out.resize(at + room, 0);
    let (known, free) = out.split_at_mut(at);
    let window = &known[before.max(at.saturating_sub(WINDOW))..];
    let written = if window.is_empty() {
        decompress_into(block, free)
    } else {
        decompress_into_with_dict(block, free, window)
    };
    match written {
        Ok(len) => {
            out.truncate(at + len);
            Ok(())
        }
        Err(lz4_flex::block::DecompressError::OutputTooSmall { .. }) if room < possible => {
            Err(Fault::TooLarge)
        }
        Err(error) => Err(Fault::Malformed(error.to_string().into())),
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], Fault> {
    let (taken, after) = rest.split_at_checked(len).ok_or(Fault::CUT_OFF)?;
    *rest = after;
    Ok(taken)
}

fn take_array<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], Fault> {
    let (taken, after) = rest.split_first_chunk().ok_or(Fault::CUT_OFF)?;
    *rest = after;
    Ok(taken)
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, Fault> {
    Ok(u32::from_le_bytes(*take_array(rest)?))
}

fn xxh32(bytes: &[u8]) -> u32 {
    XxHash32::oneshot(0, bytes)
}
