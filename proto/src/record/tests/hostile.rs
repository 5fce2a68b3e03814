//! Bytes of a faulty or malicious peer: no panic, no endless loop, no allocation from a length field.

use proptest::prelude::*;

use super::*;

fn sample() -> Vec<u8> {
    let records: Vec<OwnedRecord> = (0..3)
        .map(|i| OwnedRecord {
            timestamp: 1_700_000_000_000 + i * 100,
            key: (i != 1).then(|| b"key".to_vec()),
            value: (i != 2).then(|| vec![b'v'; 70]),
            headers: vec![("a".into(), None), ("a".into(), Some(b"b".to_vec()))],
        })
        .collect();
    build(&records, ProducerStamp { id: 5, epoch: 0, base_sequence: 0 }).to_vec()
}

/// Reads everything there is to read; the number of records is bounded by the bytes.
fn read_all(bytes: &[u8]) {
    for batch in Batches::new(bytes) {
        let Ok(batch) = batch else { continue };
        let mut records = 0;
        for record in batch.records() {
            records += 1;
            if let Ok(record) = record {
                let _ = record.headers.map(|h| h.key().len()).sum::<usize>();
                let _ = record.key.and_then(control_type);
            }
        }
        assert!(records <= bytes.len() / 7 + 1);
    }
    let _ = check_chunks(&[Bytes::copy_from_slice(bytes)]);
}

#[test]
fn every_flipped_bit_under_the_crc_is_found() {
    let good = sample();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let parsed = Batch::parse(&bad);
            // Base offset and leader epoch lie outside the CRC; all else is protected.
            if at < 8 || (12..16).contains(&at) {
                continue;
            }
            assert!(parsed.is_err(), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn every_changed_byte_behind_a_valid_crc_is_survived() {
    let good = sample();
    for at in 0..good.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff, good[at].wrapping_add(1), good[at] ^ 0x40] {
            let mut bad = good.clone();
            bad[at] = value;
            read_all(&with_crc(bad));
        }
    }
}

#[test]
fn every_cut_is_refused() {
    let good = sample();
    for len in 0..good.len() {
        let needed = if len < HEADER_LEN { HEADER_LEN } else { good.len() };
        let error = Batch::parse(&good[..len]).unwrap_err();
        assert_eq!(error, BatchError::Truncated { needed, available: len });
    }
    // Cut and told so in the length field, with a valid CRC.
    for len in HEADER_LEN..good.len() {
        let mut bad = good[..len].to_vec();
        bad[8..12].copy_from_slice(&(len as i32 - 12).to_be_bytes());
        let bad = with_crc(bad);
        let all_good =
            Batch::parse(&bad).is_ok_and(|batch| batch.records().all(|record| record.is_ok()));
        assert!(!all_good, "cut to {len}");
    }
}

#[test]
fn impossible_headers_are_refused() {
    let set = |at: usize, bytes: &[u8]| {
        let mut bad = sample();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        BatchHeader::parse(&bad)
    };
    assert!(matches!(set(16, &[1]), Err(BatchError::UnsupportedMagic(1))));
    for length in [i32::MIN, -1, 0, 48] {
        let refused = set(8, &length.to_be_bytes());
        assert!(matches!(refused, Err(BatchError::InvalidLength(l)) if l == length));
    }
    let fields: [(usize, &[u8]); 6] = [
        (0, &(-1i64).to_be_bytes()),
        (0, &i64::MAX.to_be_bytes()),
        (23, &(-1i32).to_be_bytes()),
        (57, &(-1i32).to_be_bytes()),
        (57, &4i32.to_be_bytes()),
        (57, &i32::MAX.to_be_bytes()),
    ];
    for (at, bytes) in fields {
        let refused = set(at, bytes);
        assert!(matches!(refused, Err(BatchError::InvalidField { .. })), "{at}: {refused:?}");
    }
    // 2 GiB announced, nothing there.
    let header = set(8, &i32::MAX.to_be_bytes()).unwrap();
    assert_eq!(header.size_in_bytes(), i32::MAX as usize + 12);
}

#[test]
fn more_records_than_bytes_are_refused_before_they_are_counted() {
    let mut bad = sample();
    bad[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
    bad[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    assert!(matches!(Batch::parse(&with_crc(bad)), Err(BatchError::InvalidField { .. })));
}

#[test]
fn gaps_are_accepted_and_steps_back_are_not() {
    // Three records whose offset deltas are set by hand; the last offset delta is 9.
    let with_deltas = |deltas: [u8; 3]| {
        let records = vec![OwnedRecord::default(); 3];
        let mut bytes = build(&records, ProducerStamp::NONE).to_vec();
        bytes[23..27].copy_from_slice(&9i32.to_be_bytes());
        for (i, delta) in deltas.into_iter().enumerate() {
            bytes[HEADER_LEN + i * 7 + 3] = delta * 2;
        }
        with_crc(bytes)
    };
    let offsets = |bytes: &[u8]| -> Result<Vec<i64>, RecordError> {
        Batch::parse(bytes).unwrap().records().map(|r| r.map(|r| r.offset.0)).collect()
    };
    assert_eq!(offsets(&with_deltas([1, 4, 9])).unwrap(), [1, 4, 9]);
    for bad in [[1, 1, 2], [2, 1, 3], [0, 1, 10]] {
        assert!(offsets(&with_deltas(bad)).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn random_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read_all(&bytes);
        // The same with a plausible header, so that the records are reached.
        if bytes.len() > HEADER_LEN {
            let length = (bytes.len() - 12) as i32;
            bytes[0] = 0;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[16] = 2;
            bytes[21..27].copy_from_slice(&[0, 0, 0, 0, 0, 60]);
            bytes[57..61].copy_from_slice(&[0, 0, 0, 5]);
            read_all(&with_crc(bytes));
        }
    }
}
