//! Blocks as other writers shape them, made with the libraries' own writers.

use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::*;

fn reads(codec: Compression, bytes: &[u8], expected: &[u8]) {
    let read = decompress(codec, bytes, expected.len()).unwrap();
    assert!(read == expected, "{codec}: {} bytes of {}", read.len(), expected.len());
    // Nothing may follow.
    let mut more = bytes.to_vec();
    more.push(7);
    let error = decompress(codec, &more, 1 << 20).unwrap_err();
    assert!(matches!(error, DecompressError::Malformed { .. }), "{codec}: {error}");
}

#[test]
fn gzip_members_follow_each_other() {
    let (a, b) = (text(30_000), noise(500));
    let mut whole = Vec::new();
    for part in [&a, &b] {
        let builder = flate2::GzBuilder::new().filename("records").comment("c").mtime(1);
        let mut member = builder.write(&mut whole, flate2::Compression::best());
        member.write_all(part).unwrap();
        member.finish().unwrap();
    }
    reads(Compression::Gzip, &whole, &[a, b].concat());
}

#[test]
fn our_gzip_is_read_by_zlib() {
    let block = text(100_000);
    let ours = compress(Compression::Gzip, Some(9), &block).unwrap();
    let mut read = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(&ours[..]);
    std::io::Read::read_to_end(&mut reader, &mut read).unwrap();
    assert!(read == block);
}

#[test]
fn snappy_is_read_without_framing() {
    let block = text(200_000);
    let raw = snap::raw::Encoder::new().compress_vec(&block).unwrap();
    assert!(decompress(Compression::Snappy, &raw, block.len()).unwrap() == block);
}

#[test]
fn snappy_streams_follow_each_other() {
    let (a, b) = (text(70_000), text(10));
    let [first, second] = [&a, &b].map(|part| compress(Compression::Snappy, None, part).unwrap());
    reads(Compression::Snappy, &[first, second].concat(), &[a, b].concat());
}

#[test]
fn snappy_is_framed_as_snappy_java_frames_it() {
    let framed = compress(Compression::Snappy, None, b"abc").unwrap();
    assert_eq!(framed[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    assert_eq!(framed[16..], *b"\0\0\0\x05\x03\x08abc");
    let long = compress(Compression::Snappy, None, &text(100_000)).unwrap();
    let mut rest = &long[16..];
    let mut lens = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk::<4>() {
        let (block, after) = after.split_at(u32::from_be_bytes(*len) as usize);
        lens.push(snap::raw::decompress_len(block).unwrap());
        rest = after;
    }
    assert_eq!(lens, [32_768, 32_768, 32_768, 1696]);
}

fn lz4_frame(info: FrameInfo, block: &[u8]) -> Vec<u8> {
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(block).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn lz4_frames_of_every_kind_are_read() {
    // Noise makes stored blocks, the text before it what linked blocks refer to.
    let block = [text(150_000), noise(70_000), text(150_000)].concat();
    for mode in [BlockMode::Independent, BlockMode::Linked] {
        for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max4MB] {
            for checked in [false, true] {
                let info = FrameInfo::new()
                    .block_mode(mode)
                    .block_size(size)
                    .block_checksums(checked)
                    .content_checksum(checked)
                    .content_size(checked.then_some(block.len() as u64));
                reads(Compression::Lz4, &lz4_frame(info, &block), &block);
            }
        }
    }
}

#[test]
fn lz4_frames_follow_each_other_and_may_be_skipped() {
    let block = text(90_000);
    let linked = lz4_frame(FrameInfo::new().block_mode(BlockMode::Linked), &block);
    let skipped = [&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let whole = [skipped, linked.clone(), linked].concat();
    reads(Compression::Lz4, &whole, &[&block[..], &block].concat());
}

#[test]
fn our_lz4_is_read_by_the_library() {
    for block in [text(200_000), noise(70_000), text(1)] {
        let ours = compress(Compression::Lz4, None, &block).unwrap();
        let mut read = Vec::new();
        let mut reader = lz4_flex::frame::FrameDecoder::new(&ours[..]);
        std::io::Read::read_to_end(&mut reader, &mut read).unwrap();
        assert!(read == block);
    }
}

#[test]
fn zstd_frames_of_every_kind_are_read() {
    let block = [text(300_000), noise(1000), vec![0; 200_000]].concat();
    for (size, checksum) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut encoder = ::zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(checksum).unwrap();
        encoder.include_contentsize(size).unwrap();
        // As of level 22: its window is larger than any batch.
        encoder.window_log(27).unwrap();
        if size {
            encoder.set_pledged_src_size(Some(block.len() as u64)).unwrap();
        }
        encoder.write_all(&block).unwrap();
        let frame = encoder.finish().unwrap();
        reads(Compression::Zstd, &frame, &block);
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0][..], b"ab"].concat();
        let whole = [frame.clone(), skipped, frame].concat();
        reads(Compression::Zstd, &whole, &[&block[..], &block].concat());
    }
}
