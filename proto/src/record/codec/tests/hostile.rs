//! Bombs, cuts and flips: a typed error or the right bytes, and never more memory than allowed.

use std::io::Write;

use super::*;

const MAX: usize = 1 << 20;

/// Decompresses and checks what is promised of memory.
fn attempt(codec: Compression, bytes: &[u8]) -> Result<Vec<u8>, DecompressError> {
    let mut out = Vec::new();
    let done = Decompressor::new().decompress(codec, bytes, MAX, &mut out);
    assert!(out.capacity() <= 2 * MAX + 64, "{codec} took {} bytes", out.capacity());
    assert!(done.is_ok() || out.is_empty());
    done.map(|()| out)
}

#[test]
fn bombs_are_refused() {
    let zeros = vec![0; 64 << 20];
    for codec in CODECS {
        let bomb = compress(codec, None, &zeros).unwrap();
        assert!(codec == Compression::Snappy || bomb.len() < 1 << 20, "{codec}: {}", bomb.len());
        let error = attempt(codec, &bomb).unwrap_err();
        assert_eq!(error, DecompressError::TooLarge { codec, max: MAX });
        assert!(error.to_string().contains("1048576 bytes"), "{error}");
    }
}

#[test]
fn bombs_that_do_not_say_so_are_refused() {
    let zeros = vec![0; 16 << 20];
    // No size anywhere: zstd streamed, and gzip whose trailer lies.
    let mut encoder = ::zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.write_all(&zeros).unwrap();
    let bomb = encoder.finish().unwrap();
    let too_large = |codec| Err(DecompressError::TooLarge { codec, max: MAX });
    assert_eq!(attempt(Compression::Zstd, &bomb), too_large(Compression::Zstd));
    let mut bomb = compress(Compression::Gzip, None, &zeros).unwrap();
    let end = bomb.len();
    bomb[end - 4..].copy_from_slice(&10u32.to_le_bytes());
    assert_eq!(attempt(Compression::Gzip, &bomb), too_large(Compression::Gzip));
    // Raw snappy that says so, with the bytes to be believed.
    let bomb = snap::raw::Encoder::new().compress_vec(&zeros).unwrap();
    assert_eq!(attempt(Compression::Snappy, &bomb), too_large(Compression::Snappy));
}

#[test]
fn sizes_that_cannot_be_true_take_no_memory() {
    // Raw snappy of "4 GiB" in seven bytes; an LZ4 frame of 2^60; a zstd frame of 2^60 in a run of one.
    let snappy = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, b'a'];
    let error = attempt(Compression::Snappy, &snappy).unwrap_err();
    assert!(matches!(error, DecompressError::Malformed { .. }), "{error}");
    let size = (1u64 << 60).to_le_bytes();
    let mut lz4 = [&[0x04, 0x22, 0x4d, 0x18, 0x68, 0x40][..], &size].concat();
    lz4.push((twox_hash::XxHash32::oneshot(0, &lz4[4..]) >> 8) as u8);
    assert!(matches!(attempt(Compression::Lz4, &lz4), Err(DecompressError::TooLarge { .. })));
    let zstd = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &size, &[0x0b, 0, 0, b'a']].concat();
    assert!(matches!(attempt(Compression::Zstd, &zstd), Err(DecompressError::Malformed { .. })));
    // Member after member of nothing.
    let nothing = compress(Compression::Gzip, None, b"").unwrap();
    assert_eq!(attempt(Compression::Gzip, &nothing.repeat(1000)), Ok(vec![]));
}

#[test]
fn every_cut_is_an_error() {
    let block = [text(1500), noise(200), text(300)].concat();
    for codec in CODECS {
        let compressed = compress(codec, None, &block).unwrap();
        for len in 0..compressed.len() {
            let result = attempt(codec, &compressed[..len]);
            // xerial's framing has no end: cut right behind the header it is whole and empty.
            let whole = codec == Compression::Snappy && len == 16;
            assert_eq!(result.is_ok(), whole, "{codec} cut to {len}");
        }
    }
}

#[test]
fn every_flipped_byte_is_survived() {
    let block = [text(1500), noise(200), text(300)].concat();
    for codec in CODECS {
        let compressed = compress(codec, None, &block).unwrap();
        let mut other = 0;
        for at in 0..compressed.len() {
            for flip in [0xff, 1, 0x80, 0x10] {
                let mut bad = compressed.clone();
                bad[at] ^= flip;
                if attempt(codec, &bad).is_ok_and(|out| out != block) {
                    other += 1;
                }
            }
        }
        // gzip has a checksum of its own; the others lean on the batch's CRC.
        assert!(codec != Compression::Gzip || other == 0, "{other}");
    }
}

#[test]
fn an_lz4_header_has_to_have_its_checksum() {
    // Old Kafka clients wrote another one, with record formats before v2 only.
    let mut bytes = compress(Compression::Lz4, None, &text(3000)).unwrap();
    assert_eq!(bytes[6], 0x82);
    bytes[6] ^= 1;
    let error = attempt(Compression::Lz4, &bytes).unwrap_err();
    assert!(error.to_string().contains("header's checksum"), "{error}");
}

#[test]
fn checksums_of_frames_are_checked() {
    let block = text(3000);
    let info = lz4_flex::frame::FrameInfo::new().block_checksums(true).content_checksum(true);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(&block).unwrap();
    let lz4 = encoder.finish().unwrap();
    let mut encoder = ::zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(&block).unwrap();
    let zstd = encoder.finish().unwrap();
    for (codec, bytes) in [(Compression::Lz4, lz4), (Compression::Zstd, zstd)] {
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(
                attempt(codec, &bad).is_err_and(|e| !e.to_string().is_empty())
                // A magic or a window that means the same.
                || attempt(codec, &bad).is_ok_and(|out| out == block),
                "{codec} byte {at}"
            );
        }
    }
}
