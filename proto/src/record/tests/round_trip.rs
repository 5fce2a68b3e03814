//! Random records there and back, in one piece and in chunks.

use proptest::prelude::*;

use super::*;
use crate::Offset;

fn nullable(max: usize) -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..max))
}

fn record() -> impl Strategy<Value = OwnedRecord> {
    let timestamp =
        prop_oneof![0..2_000_000_000_000i64, -5..5i64, any::<i32>().prop_map(i64::from)];
    let headers = proptest::collection::vec((".{0,6}", nullable(20)), 0..4);
    (timestamp, nullable(40), nullable(400), headers)
        .prop_map(|(timestamp, key, value, headers)| OwnedRecord { timestamp, key, value, headers })
}

fn batches() -> impl Strategy<Value = Vec<Vec<OwnedRecord>>> {
    proptest::collection::vec(proptest::collection::vec(record(), 1..12), 1..5)
}

/// Cuts `bytes` into chunks whose lengths come from `lens`, around and around.
fn cut(bytes: &Bytes, lens: &[usize]) -> Vec<Bytes> {
    let mut rest = bytes.clone();
    let mut lens = lens.iter().cycle();
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        chunks.push(rest.split_to((*lens.next().unwrap()).min(rest.len())));
    }
    chunks
}

proptest! {
    #[test]
    fn records_survive(records in proptest::collection::vec(record(), 1..60)) {
        let bytes = build(&records, ProducerStamp::NONE);
        let batch = Batch::parse(&bytes).unwrap();
        batch.header().check_produced().unwrap();
        let max = records.iter().map(|r| r.timestamp).max().unwrap();
        prop_assert_eq!(batch.header().max_timestamp, max);
        for (i, record) in batch.records().enumerate() {
            let record = record.unwrap();
            prop_assert_eq!(record.offset, Offset(i as i64));
            prop_assert_eq!(&owned(&record), &records[i]);
        }
        prop_assert_eq!(batch.records().count(), records.len());
    }

    #[test]
    fn chunks_are_divided_as_the_whole_is(
        batches in batches(),
        lens in proptest::collection::vec(prop_oneof![1..90usize, 1..2000usize], 1..6),
    ) {
        let built: Vec<Bytes> = batches.iter().map(|b| build(b, ProducerStamp::NONE)).collect();
        let whole = Bytes::from(built.concat());
        let chunks = cut(&whole, &lens);

        let headers = check_chunks(&chunks).unwrap();
        let expected: Vec<_> =
            Batches::new(&whole).map(|batch| batch.unwrap().header().clone()).collect();
        prop_assert_eq!(&headers, &expected);

        let divided: Vec<Bytes> =
            ChunkedBatches::new(chunks).map(|batch| batch.unwrap().into_bytes()).collect();
        prop_assert_eq!(divided, built);
    }

    #[test]
    fn chunks_that_end_inside_a_batch_are_refused(
        records in proptest::collection::vec(record(), 1..5),
        lens in proptest::collection::vec(1..90usize, 1..4),
        missing in 1..60usize,
    ) {
        let whole = build(&records, ProducerStamp::NONE);
        let chunks = cut(&whole.slice(..whole.len() - missing), &lens);
        let truncated = matches!(check_chunks(&chunks), Err(BatchError::Truncated { .. }));
        prop_assert!(truncated);
        let divided: Vec<_> = ChunkedBatches::new(chunks).collect();
        let truncated = matches!(divided.last(), Some(Err(BatchError::Truncated { .. })));
        prop_assert!(truncated && divided.len() == 1);
    }
}

#[test]
fn a_full_batch_refuses_and_stays_as_it_is() {
    let mut builder = BatchBuilder::new(100);
    builder.append(1, None, Some(&[7; 20]), &[]).unwrap();
    let size = builder.size_in_bytes();
    assert_eq!(size, HEADER_LEN + 27);
    assert!(!builder.would_take(None, Some(&[7; 20]), &[]));
    assert_eq!(builder.append(99, None, Some(&[7; 20]), &[]), Err(AppendError::Full));
    assert_eq!((builder.size_in_bytes(), builder.record_count()), (size, 1));
    // To the last byte.
    assert!(builder.would_take(None, Some(&[7; 5]), &[]));
    builder.append(1, None, Some(&[7; 5]), &[]).unwrap();
    assert_eq!(builder.size_in_bytes(), 100);
    let bytes = builder.finish(ProducerStamp::NONE);
    assert_eq!(Batch::parse(&bytes).unwrap().header().max_timestamp, 1);
}

#[test]
fn the_first_record_is_taken_whatever_its_size() {
    let mut builder = BatchBuilder::new(100);
    builder.append(1, None, Some(&[7; 5000]), &[]).unwrap();
    let bytes = builder.finish(ProducerStamp::NONE);
    let record = Batch::parse(&bytes).unwrap().records().next().unwrap().unwrap().value.unwrap();
    assert_eq!(record, [7; 5000]);
}
