//! Bytes derived by an independent encoder (a few lines of Python over `struct`, its CRC bit by bit)
//! written from the Kafka protocol guide, and read through by hand.

use super::*;
use crate::{LeaderEpoch, Offset};

const ONE_RECORD: &str = "\
    000000000000000000000040ffffffff02db5e9cdd0000000000000000018bcfe568000000018bcfe56800ff\
    ffffffffffffffffffffffffff000000011c000000066b65790a76616c756500";

/// Null key; null value with duplicate headers, a null and an empty header value; a timestamp before
/// the first with empty key and value; one 2^33 ms later.
const FOUR_RECORDS: &str = "\
    0000000000000000000000aeffffffff0236a4064b0000000000030000018bcfe568000000018dcfe5680000\
    0000000000126700037ffffffe0000000416000000010a6669727374002600f40302026b0106026802310268\
    0104c3a9000c000104000000a80100808080804006066b6b6b8c017878787878787878787878787878787878\
    7878787878787878787878787878787878787878787878787878787878787878787878787878787878787878\
    78787878787878787800";

/// A transaction's commit marker at offset 123,456,789,012 in leader epoch 17.
const COMMIT_MARKER: &str = "\
    0000001cbe991a140000004200000011027b4425550030000000000000018bcfe568000000018bcfe5680000\
    000000000012670003ffffffff000000012000000008000000010c00000000000500";

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn four_records() -> Vec<OwnedRecord> {
    vec![
        OwnedRecord {
            timestamp: 1_700_000_000_000,
            value: Some(b"first".to_vec()),
            ..Default::default()
        },
        OwnedRecord {
            timestamp: 1_700_000_000_250,
            key: Some(b"k".to_vec()),
            value: None,
            headers: vec![
                ("h".into(), Some(b"1".to_vec())),
                ("h".into(), None),
                ("é".into(), Some(vec![])),
            ],
        },
        OwnedRecord {
            timestamp: 1_699_999_999_999,
            key: Some(vec![]),
            value: Some(vec![]),
            headers: vec![],
        },
        OwnedRecord {
            timestamp: 1_700_000_000_000 + (1 << 33),
            key: Some(b"kkk".to_vec()),
            value: Some(vec![b'x'; 70]),
            headers: vec![],
        },
    ]
}

#[test]
fn one_record_is_encoded_as_kafka_encodes_it() {
    let record = OwnedRecord {
        timestamp: 1_700_000_000_000,
        key: Some(b"key".to_vec()),
        value: Some(b"value".to_vec()),
        headers: vec![],
    };
    assert_eq!(build(&[record], ProducerStamp::NONE), bytes_of(ONE_RECORD));
}

#[test]
fn nulls_headers_and_deltas_are_encoded_as_kafka_encodes_them() {
    let stamp = ProducerStamp { id: 4711, epoch: 3, base_sequence: i32::MAX - 1 };
    assert_eq!(build(&four_records(), stamp), bytes_of(FOUR_RECORDS));
}

#[test]
fn four_records_are_decoded() {
    let bytes = bytes_of(FOUR_RECORDS);
    let batch = Batch::parse(&bytes).unwrap();
    let header = batch.header();
    assert_eq!(header.encode(), bytes[..HEADER_LEN]);
    assert_eq!(header.size_in_bytes(), 186);
    assert_eq!((header.base_offset, header.next_offset()), (Offset(0), Offset(4)));
    assert_eq!((header.producer_id, header.producer_epoch), (4711, 3));
    assert_eq!(header.base_sequence, i32::MAX - 1);
    assert_eq!(header.last_sequence(), 1, "sequences wrap to 0");
    assert_eq!(header.max_timestamp, 1_700_000_000_000 + (1 << 33));
    assert_eq!(header.check_produced(), Ok(()));
    let records: Vec<_> = batch.records().map(|r| owned(&r.unwrap())).collect();
    assert_eq!(records, four_records());
}

#[test]
fn a_control_batch_is_recognised() {
    let bytes = bytes_of(COMMIT_MARKER);
    let batch = Batch::parse(&bytes).unwrap();
    let header = batch.header();
    assert!(header.attributes.is_control() && header.attributes.is_transactional());
    assert_eq!(header.base_offset, Offset(123_456_789_012));
    assert_eq!(header.leader_epoch, LeaderEpoch(17));
    assert_eq!(header.last_sequence(), -1);
    assert!(header.check_produced().is_err(), "no producer may write one");
    let record = batch.records().next().unwrap().unwrap();
    assert_eq!(record.offset, Offset(123_456_789_012));
    assert_eq!(control_type(record.key.unwrap()), Some(ControlType::Commit));
}

#[test]
fn a_broker_stamps_outside_the_crc() {
    let mut bytes = bytes_of(ONE_RECORD);
    let mut header = BatchHeader::parse(&bytes).unwrap();
    header.base_offset = Offset(77);
    header.leader_epoch = LeaderEpoch(5);
    bytes[..HEADER_LEN].copy_from_slice(&header.encode());
    let batch = Batch::parse(&bytes).unwrap();
    assert_eq!(batch.records().next().unwrap().unwrap().offset, Offset(77));
}

#[test]
fn append_time_holds_for_every_record() {
    let mut bytes = bytes_of(FOUR_RECORDS);
    let mut header = BatchHeader::parse(&bytes).unwrap();
    header.attributes = header.attributes.with_timestamp_type(TimestampType::LogAppendTime);
    header.max_timestamp = 42;
    header.crc = header.compute_crc([&bytes[HEADER_LEN..90], &bytes[90..]]);
    bytes[..HEADER_LEN].copy_from_slice(&header.encode());
    let batch = Batch::parse(&bytes).unwrap();
    assert!(batch.records().all(|record| record.unwrap().timestamp == 42));
}

#[test]
fn a_compressed_batch_is_a_typed_error() {
    let mut bytes = bytes_of(ONE_RECORD);
    bytes[22] = Compression::Zstd as u8;
    let bytes = with_crc(bytes);
    let records: Vec<_> = Batch::parse(&bytes).unwrap().records().collect();
    assert!(matches!(
        records[..],
        [Err(RecordError::UnsupportedCompression { codec: Compression::Zstd, .. })]
    ));
}

#[test]
fn another_producer_is_stamped_with_its_crc() {
    let stamp = ProducerStamp { id: 9, epoch: 0, base_sequence: 12 };
    let bytes = restamp_producer(&bytes_of(FOUR_RECORDS), stamp).unwrap();
    assert_eq!(bytes, build(&four_records(), stamp));
}
