//! Tests of the batch format as a whole: bytes against an independent encoder, random records there
//! and back, hostile bytes.

mod golden;
mod hostile;
mod round_trip;

use bytes::Bytes;

use super::*;

/// A record as tests write it down.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct OwnedRecord {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn build(records: &[OwnedRecord], stamp: ProducerStamp) -> Bytes {
    let mut builder = BatchBuilder::new(usize::MAX >> 44);
    for (i, record) in records.iter().enumerate() {
        let headers: Vec<_> =
            record.headers.iter().map(|(k, v)| Header::new(k, v.as_deref())).collect();
        let before = builder.size_in_bytes();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        assert!(builder.would_take(key, value, &headers));
        let delta = builder.append(record.timestamp, key, value, &headers).unwrap();
        assert_eq!(delta, i as i32);
        assert!(builder.size_in_bytes() >= before + 7);
    }
    let size = builder.size_in_bytes();
    let bytes = builder.finish(stamp);
    assert_eq!(bytes.len(), size);
    bytes
}

fn owned(record: &RecordRef<'_>) -> OwnedRecord {
    OwnedRecord {
        timestamp: record.timestamp,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: record
            .headers
            .clone()
            .map(|h| (h.key().into_owned(), h.value().map(<[u8]>::to_vec)))
            .collect(),
    }
}

/// Renews the CRC, so that what lies behind it is reached.
fn with_crc(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(&bytes[21..]).to_be_bytes();
    bytes[17..21].copy_from_slice(&crc);
    bytes
}
