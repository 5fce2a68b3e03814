//! Snappy in the framing of xerial's snappy-java, which Kafka's Java clients write, and without any,
//! as librdkafka writes it. Kafka's readers take both, told apart by the magic.
//!
//! | bytes | field |
//! |---|---|
//! | 8 | magic `82 S N A P P Y 00` |
//! | 4 | version, 1 |
//! | 4 | lowest version that can read it, 1 |
//! | then for each block: 4 | length, big-endian |
//! | | raw snappy |
//!
//! Streams may be joined: where a length is due, the magic of another header may come.

use super::decompressor::{Fault, malformed};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
/// Uncompressed bytes of a block, as snappy-java has it.
const BLOCK_LEN: usize = 32 << 10;
/// The densest element is a copy of 64 bytes in three.
const RATIO_MAX: usize = 22;

/// Writes xerial's framing.
pub(super) struct Encoder(snap::raw::Encoder);

impl Encoder {
    pub(super) fn new() -> Self {
        Self(snap::raw::Encoder::new())
    }

    /// Appends one stream to `out`.
    pub(super) fn compress(&mut self, block: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(&HEADER);
        for piece in block.chunks(BLOCK_LEN) {
            let at = out.len();
            let begin = at + 4;
            out.resize(begin + snap::raw::max_compress_len(piece.len()), 0);
            let len = self.0.compress(piece, &mut out[begin..]).map_err(|e| e.to_string())?;
            out[at..begin].copy_from_slice(&(len as u32).to_be_bytes());
            out.truncate(begin + len);
        }
        Ok(())
    }
}

/// Framed or not.
pub(super) fn decompress(
    decoder: &mut snap::raw::Decoder,
    block: &[u8],
    max: usize,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    if !block.starts_with(&MAGIC) {
        return decompress_raw(decoder, block, max, out);
    }
    let mut rest = block;
    while !rest.is_empty() {
        if rest.starts_with(&MAGIC) {
            rest = rest.get(HEADER.len()..).ok_or(Fault::CUT_OFF)?;
            continue;
        }
        let (len, after) = rest.split_first_chunk::<4>().ok_or(Fault::CUT_OFF)?;
        let len = u32::from_be_bytes(*len) as usize;
        let (piece, after) = after.split_at_checked(len).ok_or(Fault::CUT_OFF)?;
        decompress_raw(decoder, piece, max, out)?;
        rest = after;
    }
    Ok(())
}

/// Appends one raw block.
fn decompress_raw(
    decoder: &mut snap::raw::Decoder,
    block: &[u8],
    max: usize,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    if block.is_empty() {
        return malformed("a block is empty");
    }
    let bad = |error: snap::Error| Fault::Malformed(error.to_string().into());
    let len = snap::raw::decompress_len(block).map_err(bad)?;
    if len > block.len().saturating_mul(RATIO_MAX) {
        return malformed("it claims to hold more than its bytes can");
    }
    let at = out.len();
    if len > max - at {
        return Err(Fault::TooLarge);
    }
    out.resize(at + len, 0);
    let written = decoder.decompress(block, &mut out[at..]).map_err(bad)?;
    out.truncate(at + written);
    Ok(())
}
