//! Blocks and batches of every codec there and back, as other writers shape them, and hostile.

mod batches;
mod foreign;
mod golden;
mod hostile;

use proptest::prelude::*;

use super::super::*;

/// The codecs that compress.
const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// Lines as a log has them.
fn text(len: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(len + 100);
    let mut seed = 7u32;
    while text.len() < len {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let line = format!("INFO dfs.DataNode: Received block blk_{seed} of size {}\n", seed >> 7);
        text.extend_from_slice(line.as_bytes());
    }
    text.truncate(len);
    text
}

/// Bytes no codec can shorten.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[test]
fn blocks_of_every_size_survive() {
    for codec in CODECS {
        let mut compressor = Compressor::new(codec, None).unwrap();
        let mut decompressor = Decompressor::new();
        let mut out = Vec::new();
        for len in [1, 2, 12, 13, 32_767, 32_768, 32_769, 65_535, 65_536, 65_537, 300_000] {
            for block in [text(len), noise(len), vec![0; len]] {
                let compressed = compressor.compress(&block).unwrap().to_vec();
                decompressor.decompress(codec, &compressed, len, &mut out).unwrap();
                assert!(out == block, "{codec} {len}");
                let error = decompressor.decompress(codec, &compressed, len - 1, &mut out);
                assert_eq!(error, Err(DecompressError::TooLarge { codec, max: len - 1 }));
                assert!(out.is_empty());
            }
        }
    }
}

#[test]
fn levels_are_the_codecs_own() {
    let block = text(40_000);
    for codec in CODECS {
        let Some(levels) = codec.levels() else {
            assert!(Compressor::new(codec, Some(1)).is_err(), "{codec} has no levels");
            continue;
        };
        let mut sizes = Vec::new();
        for level in [*levels.start(), 1, 6, *levels.end()] {
            let compressed = compress(codec, Some(level), &block).unwrap();
            assert!(decompress(codec, &compressed, block.len()).unwrap() == block);
            sizes.push(compressed.len());
        }
        assert!(sizes.first() > sizes.last(), "{codec}: {sizes:?}");
        for level in [levels.start() - 1, levels.end() + 1] {
            let error = Compressor::new(codec, Some(level)).unwrap_err();
            assert_eq!(error, InvalidLevel { codec, level });
            let expected = format!("expected {} to {}", levels.start(), levels.end());
            assert!(error.to_string().contains(&expected), "{error}");
        }
    }
    assert_eq!(*Compression::Zstd.levels().unwrap().end(), ::zstd::zstd_safe::max_c_level());
    assert_eq!(*Compression::Zstd.levels().unwrap().start(), ::zstd::zstd_safe::min_c_level());
}

proptest! {
    #[test]
    fn any_block_survives(
        pieces in proptest::collection::vec((any::<Vec<u8>>(), 1..200usize), 1..8),
    ) {
        let block: Vec<u8> = pieces.iter().flat_map(|(piece, n)| piece.repeat(*n)).collect();
        for codec in CODECS {
            let compressed = compress(codec, None, &block).unwrap();
            prop_assert!(decompress(codec, &compressed, block.len()).unwrap() == block, "{codec}");
        }
    }

    #[test]
    fn garbage_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for codec in CODECS {
            let mut out = Vec::new();
            let _ = Decompressor::new().decompress(codec, &bytes, 10_000, &mut out);
            prop_assert!(out.capacity() <= 20_100, "{codec} took {}", out.capacity());
        }
    }
}
