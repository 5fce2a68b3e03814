//! Whole batches: built compressed, decoded, recoded, damaged.

use bytes::Bytes;

use super::*;
use crate::{LeaderEpoch, Offset};

const MAX: usize = 1 << 20;

fn builder(records: usize, value: &[u8]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(1 << 20);
    for i in 0..records {
        let key = format!("key-{i}");
        let headers = [Header::new("h", (i % 2 == 0).then_some(&b"x"[..]))];
        let time = 1_700_000_000_000 + i as i64;
        builder.append(time, Some(key.as_bytes()), Some(value), &headers).unwrap();
    }
    builder
}

const STAMP: ProducerStamp = ProducerStamp { id: 9, epoch: 2, base_sequence: 77 };

fn plain(records: usize) -> Bytes {
    builder(records, b"some value that comes again").finish(STAMP)
}

fn compressed(codec: Compression, records: usize) -> Bytes {
    let mut compressor = Compressor::new(codec, None).unwrap();
    builder(records, b"some value that comes again").finish_compressed(&mut compressor, STAMP)
}

/// Everything a record says, to compare.
fn contents(records: Records<'_>) -> Result<Vec<String>, RecordError> {
    records.map(|record| record.map(|record| format!("{record:?}"))).collect()
}

#[test]
fn a_compressed_batch_says_what_the_plain_one_says() {
    let plain = plain(50);
    let expected = contents(Batch::parse(&plain).unwrap().records()).unwrap();
    let mut decoder = BatchDecoder::new(MAX);
    for codec in CODECS {
        let bytes = compressed(codec, 50);
        assert!(bytes.len() < plain.len() / 2);
        let batch = Batch::parse(&bytes).unwrap();
        let header = batch.header();
        assert_eq!(header.size_in_bytes(), bytes.len());
        assert_eq!(header.attributes.compression(), Ok(codec));
        assert_eq!(header.check_produced(), Ok(()));
        // But for length, CRC and codec the header is the plain one's.
        let mut same = header.clone();
        same.set_block(Compression::None, Batch::parse(&plain).unwrap().block());
        assert_eq!(same, *Batch::parse(&plain).unwrap().header());

        assert_eq!(contents(decoder.records(&batch).unwrap()).unwrap(), expected);
        let block = bytes.slice(HEADER_LEN..);
        let decoded = decoder.decode(header, block).unwrap();
        assert_eq!(contents(decoded.records()).unwrap(), expected);
        assert_eq!(check_chunks(&[bytes.slice(..70), bytes.slice(70..)]).unwrap().len(), 1);
    }
    let decoded = decoder.records(&Batch::parse(&plain).unwrap()).map(contents);
    assert_eq!(decoded.unwrap().unwrap(), expected);
}

#[test]
fn what_does_not_shrink_goes_uncompressed() {
    for codec in CODECS {
        let mut compressor = Compressor::new(codec, None).unwrap();
        let noise = noise(300);
        let bytes = builder(1, &noise).finish_compressed(&mut compressor, STAMP);
        assert_eq!(bytes, builder(1, &noise).finish(STAMP), "{codec}");
    }
}

#[test]
fn memory_is_used_again_when_nobody_has_it() {
    let bytes = compressed(Compression::Lz4, 100);
    let batch = Batch::parse(&bytes).unwrap();
    let mut decoder = BatchDecoder::new(MAX);
    let mut decode = || decoder.decode(batch.header(), bytes.slice(HEADER_LEN..)).unwrap();
    let first = decode();
    let at = first.block().as_ptr();
    drop(first);
    let second = decode();
    assert_eq!(second.block().as_ptr(), at);
    let kept = second.block().slice(5..10);
    let before = kept.to_vec();
    drop(second);
    let third = decode();
    assert_ne!(third.block().as_ptr(), at);
    assert_eq!(kept, before);
}

#[test]
fn batches_above_the_bound_are_named() {
    let mut decoder = BatchDecoder::new(1000);
    for codec in CODECS {
        let mut bytes = compressed(codec, 100).to_vec();
        bytes[..8].copy_from_slice(&500i64.to_be_bytes());
        let batch = Batch::parse(&bytes).unwrap();
        let error = decoder.records(&batch).unwrap_err();
        let source = DecompressError::TooLarge { codec, max: 1000 };
        let (offset, last_offset) = (Offset(500), Offset(599));
        assert_eq!(error, RecordError::Compressed { offset, last_offset, source });
        let text = error.to_string();
        for part in ["offsets 500 to 599", codec.name(), "1000 bytes"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

#[test]
fn an_empty_batch_has_no_records_under_any_codec() {
    let bytes = compressed(Compression::Zstd, 3);
    let mut header = Batch::parse(&bytes).unwrap().header().clone();
    header.record_count = 0;
    for codec in Compression::ALL {
        header.set_block(codec, &[]);
        let bytes = header.encode();
        let batch = Batch::parse(&bytes).unwrap();
        assert_eq!(batch.records().count(), 0);
        assert_eq!(BatchDecoder::new(MAX).records(&batch).unwrap().count(), 0);
    }
}

#[test]
fn every_codec_becomes_every_other() {
    let originals = Compression::ALL.map(|codec| match codec {
        Compression::None => plain(40),
        codec => compressed(codec, 40),
    });
    for to in Compression::ALL {
        let mut recoder = Recoder::new(Compressor::new(to, None).unwrap());
        for original in &originals {
            let mut original = original.to_vec();
            let mut stamped = BatchHeader::parse(&original).unwrap();
            (stamped.base_offset, stamped.leader_epoch) = (Offset(12), LeaderEpoch(3));
            original[..HEADER_LEN].copy_from_slice(&stamped.encode());
            let batch = Batch::parse(&original).unwrap();
            let recoded = recoder.recode(&batch, MAX).unwrap();
            let from = batch.header().attributes.compression().unwrap();
            assert_eq!(recoded.is_none(), from == to);
            let Some(recoded) = recoded else { continue };
            let again = Batch::parse(&recoded).unwrap();
            let mut expected = batch.header().clone();
            expected.set_block(to, again.block());
            assert_eq!(*again.header(), expected);
            let mut decoders = [BatchDecoder::new(MAX), BatchDecoder::new(MAX)];
            let [a, b] = &mut decoders;
            let [a, b] = [a.records(&batch), b.records(&again)].map(|r| contents(r.unwrap()));
            assert_eq!(a, b);
        }
    }
}

#[test]
fn recoding_checks_every_record() {
    let bytes = compressed(Compression::Gzip, 5);
    let batch = Batch::parse(&bytes).unwrap();
    let block = decompress(Compression::Gzip, batch.block(), MAX).unwrap();
    let mut recoder = Recoder::new(Compressor::new(Compression::Lz4, None).unwrap());
    let mut recode = |header: &BatchHeader, block: &[u8]| {
        let block = compress(Compression::Gzip, None, block).unwrap();
        let mut header = header.clone();
        header.set_block(Compression::Gzip, &block);
        let bytes = [&header.encode()[..], &block].concat();
        recoder.recode(&Batch::parse(&bytes).unwrap(), MAX)
    };
    assert!(recode(batch.header(), &block).unwrap().is_some());
    let cut = recode(batch.header(), &block[..block.len() - 1]);
    assert!(matches!(cut, Err(RecodeError::Record(RecordError::Malformed { index: 4, .. }))));
    let mut fewer = batch.header().clone();
    fewer.record_count = 4;
    assert!(matches!(recode(&fewer, &block), Err(RecodeError::Record(_))));
}

/// Renews the CRC, so that what lies behind it is reached.
fn with_crc(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(&bytes[21..]).to_be_bytes();
    bytes[17..21].copy_from_slice(&crc);
    bytes
}

#[test]
fn every_changed_byte_behind_a_valid_crc_is_survived() {
    let mut decoder = BatchDecoder::new(20_000);
    for codec in CODECS {
        let good = compressed(codec, 6).to_vec();
        assert_eq!(Batch::parse(&good).unwrap().header().attributes.compression(), Ok(codec));
        for at in 0..good.len() {
            for value in [0, 0xff, good[at].wrapping_add(1), good[at] ^ 0x80, good[at] ^ 4] {
                let mut bad = good.clone();
                bad[at] = value;
                let bad = with_crc(bad);
                let Ok(batch) = Batch::parse(&bad) else { continue };
                let Ok(records) = decoder.records(&batch) else { continue };
                let found = records.map_while(Result::ok).count();
                assert!(found <= 20_000 / 7, "{codec} byte {at}: {found} records");
            }
        }
        for len in HEADER_LEN..good.len() {
            let mut bad = good[..len].to_vec();
            bad[8..12].copy_from_slice(&(len as i32 - 12).to_be_bytes());
            let bad = with_crc(bad);
            let Ok(batch) = Batch::parse(&bad) else { continue };
            let whole = decoder.records(&batch).is_ok_and(|mut r| r.all(|record| record.is_ok()));
            assert!(!whole, "{codec} cut to {len}");
        }
    }
}
