//! Topics that force a codec: what is stored, in which order, and what is refused.

use std::sync::Arc;

use bytes::Bytes;
use proto::record::{
    Batch, BatchBuilder, BatchDecoder, BatchHeader, Batches, Compression, Compressor,
    DecompressError, HEADER_LEN, ProducerStamp, RecodeError, RecordError,
};
use proto::{LeaderEpoch, Offset};

use super::super::*;
use super::rig::*;
use crate::storage::{
    AppendError, CompressionPolicy, Cursor, DECOMPRESSED_MAX, LogConfig, ReadLimits, Wait,
};

fn forced(codec: Compression) -> LogConfig {
    LogConfig { compression: CompressionPolicy::Forced(codec), ..LogConfig::default() }
}

fn sent(codec: Compression, records: usize, value: &str, base_sequence: i32) -> Bytes {
    let mut builder = BatchBuilder::new(1 << 20);
    for i in 0..records {
        let (key, time) = (format!("key {i}"), 1_000 + i as i64);
        builder.append(time, Some(key.as_bytes()), Some(value.as_bytes()), &[]).unwrap();
    }
    let mut compressor = Compressor::with_default_level(codec);
    let stamp = ProducerStamp { id: 7, epoch: 1, base_sequence };
    builder.finish_compressed(&mut compressor, stamp)
}

fn queue(partition: &Arc<Partition>, batches: &[Bytes]) -> Outcome {
    let (mut job, outcome) = job(batches.concat().into(), LeaderEpoch::UNKNOWN);
    job.window = 100;
    partition.queue(job);
    outcome
}

fn append(partition: &Arc<Partition>, batches: &[Bytes]) -> Outcome {
    let outcome = queue(partition, batches);
    partition.drive();
    eventually("the answer", || outcome.lock().is_some());
    outcome
}

fn stored(partition: &Partition) -> Bytes {
    let end = partition.visible_end();
    let limits = ReadLimits { max_bytes: 64 << 20, upto: end, first_batch_whole: true };
    let slice = partition.log().read(Cursor::at(Offset(0)), limits, Wait::Allowed).unwrap();
    Bytes::copy_from_slice(slice.bytes())
}

#[test]
fn what_comes_with_another_codec_is_stored_with_the_topics_own() {
    for to in Compression::ALL {
        let rig = Rig::new();
        let partition = rig.lead("t", 0, forced(to));
        let batches: Vec<Bytes> = (0..)
            .zip(Compression::ALL)
            .map(|(i, codec)| sent(codec, 30, "a value that comes again and again", i * 30))
            .collect();
        // One request with all of them, then some more of one each.
        let outcome = append(&partition, &batches);
        assert_eq!(outcome.lock().as_ref().unwrap().as_ref().unwrap().base_offset, Offset(0));
        let again: Vec<Bytes> = (5..)
            .zip(Compression::ALL)
            .map(|(i, codec)| sent(codec, 30, "another", i * 30))
            .collect();
        let outcomes: Vec<_> =
            again.iter().map(|batch| queue(&partition, std::slice::from_ref(batch))).collect();
        partition.drive();
        eventually("every answer", || outcomes.iter().all(|outcome| outcome.lock().is_some()));
        for outcome in outcomes {
            outcome.lock().take().unwrap().unwrap();
        }
        assert_eq!(rig.metrics.recoded_batches.get(), 8);
        assert_eq!(partition.visible_end(), Offset(300));
        let (bytes, mut decoder) = (stored(&partition), BatchDecoder::new(1 << 20));
        let originals = batches.iter().chain(&again);
        for ((number, batch), original) in (0..).zip(Batches::new(&bytes)).zip(originals) {
            let (batch, original) = (batch.unwrap(), Batch::parse(original).unwrap());
            let mut expected = original.header().clone();
            expected.base_offset = Offset(number * 30);
            expected.leader_epoch = LeaderEpoch(0);
            expected.set_block(to, batch.block());
            assert_eq!(*batch.header(), expected);
            let values = decoder.records(&batch).unwrap().map(|r| r.unwrap().timestamp);
            assert_eq!(values.collect::<Vec<_>>(), (1_000..1_030).collect::<Vec<_>>());
        }
    }
}

#[test]
fn the_producers_codec_stays_where_the_topic_forces_none() {
    let rig = Rig::new();
    let partition = rig.lead("t", 0, LogConfig::default());
    for codec in Compression::ALL {
        append(&partition, &[sent(codec, 30, "a value", codec as i32 * 30)]);
    }
    let codecs = |bytes: &Bytes| -> Vec<Compression> {
        let codec = |b: Batch<'_>| b.header().attributes.compression().unwrap();
        Batches::new(bytes).map(|batch| codec(batch.unwrap())).collect()
    };
    assert_eq!(codecs(&stored(&partition)), Compression::ALL);
    assert_eq!(rig.metrics.recoded_batches.get(), 0);
}

#[test]
fn batches_of_many_threads_keep_their_producers_order() {
    let rig = Rig::new();
    let partition = rig.lead("t", 0, forced(Compression::Lz4));
    let threads: Vec<_> = (0..3)
        .map(|id| {
            let partition = Arc::clone(&partition);
            std::thread::spawn(move || {
                let outcomes: Vec<Outcome> = (0..40)
                    .map(|n| {
                        let mut bytes = sent(Compression::Zstd, 5, "value value value", n * 5);
                        let stamp = ProducerStamp { id, epoch: 0, base_sequence: n * 5 };
                        bytes = proto::record::restamp_producer(&bytes, stamp).unwrap();
                        let outcome = queue(&partition, &[bytes]);
                        partition.drive();
                        outcome
                    })
                    .collect();
                eventually("every answer", || outcomes.iter().all(|o| o.lock().is_some()));
                outcomes.into_iter().all(|outcome| outcome.lock().take().unwrap().is_ok())
            })
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap()), "sequences out of order");
    assert_eq!(partition.visible_end(), Offset(600));
}

#[test]
fn what_cannot_be_read_is_refused_and_the_rest_goes_on() {
    let rig = Rig::new();
    let partition = rig.lead("t", 0, forced(Compression::Zstd));
    // A right checksum over a block that is no gzip, and over records that are none.
    let mut header = BatchHeader::parse(&sent(Compression::Gzip, 30, "value", 0)).unwrap();
    header.set_block(Compression::Gzip, b"no gzip at all");
    let garbage = [&header.encode()[..], b"no gzip at all"].concat();
    let nonsense = proto::record::compress(Compression::Gzip, None, b"no records").unwrap();
    header.set_block(Compression::Gzip, &nonsense);
    let nonsense = [&header.encode()[..], &nonsense].concat();
    let zeros = vec![0; DECOMPRESSED_MAX + 1];
    let bomb = proto::record::compress(Compression::Lz4, None, &zeros).unwrap();
    header.set_block(Compression::Lz4, &bomb);
    let bomb = [&header.encode()[..], &bomb].concat();
    let outcomes = [garbage, nonsense, bomb].map(|bytes| queue(&partition, &[bytes.into()]));
    let good = append(&partition, &[sent(Compression::Gzip, 30, "value", 0)]);
    let [garbage, nonsense, bomb] =
        outcomes.map(|outcome| outcome.lock().take().unwrap().unwrap_err());
    let PartitionError::Recode(RecodeError::Record(RecordError::Compressed { source, .. })) =
        garbage
    else {
        panic!("{garbage}")
    };
    assert!(matches!(source, DecompressError::Malformed { .. }));
    let malformed = matches!(
        nonsense,
        PartitionError::Recode(RecodeError::Record(RecordError::Malformed { .. }))
    );
    assert!(malformed, "{nonsense}");
    assert!(bomb.to_string().contains("lz4") && bomb.to_string().contains("67108864"), "{bomb}");
    assert_eq!(good.lock().take().unwrap().unwrap().base_offset, Offset(0));
}

#[test]
fn a_batch_that_is_too_large_uncompressed_is_refused_as_such() {
    let rig = Rig::new();
    let config = LogConfig { max_message_bytes: 2_000, ..forced(Compression::None) };
    let partition = rig.lead("t", 0, config);
    let bytes = sent(Compression::Gzip, 100, "the same value", 0);
    assert!(bytes.len() < 2_000 && bytes.len() > HEADER_LEN);
    let refused = append(&partition, &[bytes]).lock().take().unwrap().unwrap_err();
    let too_large =
        matches!(refused, PartitionError::Append(AppendError::BatchTooLarge { limit: 2_000, .. }));
    assert!(too_large, "{refused}");
}
