//! Compresses blocks with one codec, its tables kept from one block to the next.

use std::ops::RangeInclusive;

use super::super::compression::Compression;
use super::{gzip, lz4, snappy, zstd};

/// A level the codec does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{codec} has no compression level {level}: {}", expected(*codec))]
pub struct InvalidLevel {
    /// The codec.
    pub codec: Compression,
    /// The level asked for.
    pub level: i32,
}

fn expected(codec: Compression) -> String {
    match codec.levels() {
        Some(levels) => format!("expected {} to {}", levels.start(), levels.end()),
        None => "it has none, leave it out".into(),
    }
}

/// A codec could not compress; memory was short. The block can go uncompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{codec} could not compress {len} bytes: {what}")]
pub struct CompressError {
    /// The codec.
    pub codec: Compression,
    /// Bytes of the block.
    pub len: usize,
    /// What the codec says.
    pub what: String,
}

/// Compresses blocks. Reuse it: the tables of gzip and zstd are larger than most batches.
pub struct Compressor {
    codec: Compression,
    engine: Engine,
    out: Vec<u8>,
}

enum Engine {
    None,
    Gzip(gzip::Encoder),
    Snappy(Box<snappy::Encoder>),
    Lz4(Box<lz4::Encoder>),
    Zstd(zstd::Encoder),
}

impl Compression {
    /// The levels of `compression.<codec>.level`; `None` where there is no choice.
    pub fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::Gzip => Some(gzip::LEVELS),
            Self::Zstd => Some(zstd::LEVELS),
            Self::None | Self::Snappy | Self::Lz4 => None,
        }
    }
}

impl Compressor {
    /// With `level`, or the codec's default without one.
    pub fn new(codec: Compression, level: Option<i32>) -> Result<Self, InvalidLevel> {
        if let Some(level) = level
            && !codec.levels().is_some_and(|levels| levels.contains(&level))
        {
            return Err(InvalidLevel { codec, level });
        }
        Ok(Self::with_valid_level(codec, level))
    }

    /// With the codec's default level.
    pub fn with_default_level(codec: Compression) -> Self {
        Self::with_valid_level(codec, None)
    }

    fn with_valid_level(codec: Compression, level: Option<i32>) -> Self {
        let engine = match codec {
            Compression::None => Engine::None,
            Compression::Gzip => Engine::Gzip(gzip::Encoder::new(level)),
            Compression::Snappy => Engine::Snappy(Box::new(snappy::Encoder::new())),
            Compression::Lz4 => Engine::Lz4(Box::new(lz4::Encoder::new())),
            Compression::Zstd => Engine::Zstd(zstd::Encoder::new(level)),
        };
        Self { codec, engine, out: Vec::new() }
    }

    /// The codec.
    pub fn codec(&self) -> Compression {
        self.codec
    }

    /// `block` compressed, until the next call.
    pub fn compress(&mut self, block: &[u8]) -> Result<&[u8], CompressError> {
        self.out.clear();
        let done = match &mut self.engine {
            Engine::None => {
                self.out.extend_from_slice(block);
                Ok(())
            }
            Engine::Gzip(encoder) => encoder.compress(block, &mut self.out),
            Engine::Snappy(encoder) => encoder.compress(block, &mut self.out),
            Engine::Lz4(encoder) => encoder.compress(block, &mut self.out),
            Engine::Zstd(encoder) => encoder.compress(block, &mut self.out),
        };
        match done {
            Ok(()) => Ok(&self.out),
            Err(what) => Err(CompressError { codec: self.codec, len: block.len(), what }),
        }
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").field("codec", &self.codec).finish_non_exhaustive()
    }
}

/// `block` compressed once; for many, keep a [`Compressor`]. An invalid level is the default one.
pub fn compress(
    codec: Compression,
    level: Option<i32>,
    block: &[u8],
) -> Result<Vec<u8>, CompressError> {
    let compressor = Compressor::new(codec, level);
    let mut compressor = compressor.unwrap_or_else(|_| Compressor::with_default_level(codec));
    compressor.compress(block)?;
    Ok(compressor.out)
}
