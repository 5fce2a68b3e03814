//! Decompresses blocks of every codec, bounded.

use std::borrow::Cow;

use super::super::compression::{Compression, DecompressError};
use super::{gzip, lz4, snappy, zstd};

/// Why a codec stopped; the codec is added where it is known.
#[derive(Debug)]
pub(super) enum Fault {
    /// More than the caller allows would come out.
    TooLarge,
    Malformed(Cow<'static, str>),
}

impl Fault {
    pub(super) const CUT_OFF: Self = Self::Malformed(Cow::Borrowed("it is cut off"));
}

/// Shorthand of the codecs.
pub(super) fn malformed<T>(what: &'static str) -> Result<T, Fault> {
    Err(Fault::Malformed(what.into()))
}

/// Decompresses blocks. Reuse it: zstd's tables are larger than most batches.
#[derive(Default)]
pub struct Decompressor {
    zstd: zstd::Decoder,
    snappy: snap::raw::Decoder,
}

impl Decompressor {
    /// No tables are made before they are needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces what is in `out` by `block` decompressed, `max` bytes at most. After an error `out`
    /// is empty. Its memory grows to no more than about twice `max`, and for a small block to no more
    /// than such a block can hold.
    pub fn decompress(
        &mut self,
        codec: Compression,
        block: &[u8],
        max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecompressError> {
        out.clear();
        let done = match codec {
            Compression::None if block.len() > max => Err(Fault::TooLarge),
            Compression::None => {
                out.extend_from_slice(block);
                Ok(())
            }
            Compression::Gzip => gzip::decompress(block, max, out),
            Compression::Snappy => snappy::decompress(&mut self.snappy, block, max, out),
            Compression::Lz4 => lz4::decompress(block, max, out),
            Compression::Zstd => self.zstd.decompress(block, max, out),
        };
        debug_assert!(done.is_err() || out.len() <= max, "{codec} exceeded its bound");
        done.map_err(|fault| {
            out.clear();
            match fault {
                Fault::TooLarge => DecompressError::TooLarge { codec, max },
                Fault::Malformed(what) => DecompressError::Malformed { codec, what },
            }
        })
    }
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

/// `block` decompressed once, `max` bytes at most; for many, keep a [`Decompressor`].
pub fn decompress(
    codec: Compression,
    block: &[u8],
    max: usize,
) -> Result<Vec<u8>, DecompressError> {
    let mut out = Vec::new();
    Decompressor::new().decompress(codec, block, max, &mut out)?;
    Ok(out)
}
