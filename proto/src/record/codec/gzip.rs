//! gzip (RFC 1952), as `java.util.zip.GZIPOutputStream` and zlib write and read it.

use std::io::Read;
use std::ops::RangeInclusive;

use flate2::bufread::MultiGzDecoder;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::decompressor::Fault;

/// Kafka's bounds of `compression.gzip.level`.
pub(super) const LEVELS: RangeInclusive<i32> = 1..=9;

/// Magic, deflate, no flags, no time, no extra flags, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// Deflate makes no more than this of a byte.
const RATIO_MAX: usize = 1032;
/// The step in which output grows first.
const GROW_MIN: usize = 16 << 10;

/// Writes members of one level.
pub(super) struct Encoder(Compress);

impl Encoder {
    pub(super) fn new(level: Option<i32>) -> Self {
        let level = level.and_then(|level| u32::try_from(level).ok());
        Self(Compress::new(level.map_or_else(Compression::default, Compression::new), false))
    }

    /// Appends one member to `out`.
    pub(super) fn compress(&mut self, block: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        out.reserve(block.len() / 4 + 64);
        out.extend_from_slice(&HEADER);
        self.0.reset();
        loop {
            let rest = block.get(self.0.total_in() as usize..).unwrap_or_default();
            let status = self.0.compress_vec(rest, out, FlushCompress::Finish);
            match status.map_err(|error| error.to_string())? {
                Status::StreamEnd => break,
                Status::Ok | Status::BufError => out.reserve(block.len() / 4 + 64),
            }
        }
        let mut crc = Crc::new();
        crc.update(block);
        out.extend_from_slice(&crc.sum().to_le_bytes());
        out.extend_from_slice(&crc.amount().to_le_bytes());
        Ok(())
    }
}

/// All members of `block`, one after the other.
pub(super) fn decompress(block: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut reader = MultiGzDecoder::new(block);
    let mut filled = 0;
    // One byte more than allowed tells a block that ends at `max` from one that goes on; the end of
    // the stream has to be read in any case, for its checksum.
    let limit = max.saturating_add(1).min(block.len().saturating_mul(RATIO_MAX));
    loop {
        if filled == out.len() {
            if filled > max {
                return Err(Fault::TooLarge);
            }
            let hint = if filled == 0 { size_hint(block) } else { filled };
            let grown = filled.saturating_add(hint.max(GROW_MIN)).min(limit);
            // Full at the limit that the input's length sets: only the end may follow.
            out.resize(grown.max(filled + 1), 0);
        }
        match reader.read(&mut out[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) => return Err(Fault::Malformed(error.to_string().into())),
        }
    }
    // More than `max` would have filled the output to the last byte and been refused above.
    out.truncate(filled);
    Ok(())
}

/// What the last member says its size is: right for whoever writes one member, else corrected by
/// growing.
fn size_hint(block: &[u8]) -> usize {
    block.last_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size) as usize + 1)
}
