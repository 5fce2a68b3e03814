//! Compacted topics: records without keys are refused, plain or compressed, and nothing else is.

use std::sync::Arc;

use bytes::Bytes;
use proto::record::{BatchBuilder, Compression, Compressor, ProducerStamp};
use proto::{LeaderEpoch, Offset};

use super::super::*;
use super::rig::*;
use crate::storage::{CleanupPolicy, CompressionPolicy, LogConfig};

fn sent(codec: Compression, keys: &[Option<&str>]) -> Bytes {
    let mut builder = BatchBuilder::new(1 << 20);
    for key in keys {
        let value = "v".repeat(100);
        builder.append(1_000, key.map(str::as_bytes), Some(value.as_bytes()), &[]).unwrap();
    }
    builder.finish_compressed(&mut Compressor::with_default_level(codec), ProducerStamp::NONE)
}

fn append(partition: &Arc<Partition>, bytes: Bytes) -> Outcome {
    let (job, outcome) = job(bytes, LeaderEpoch::UNKNOWN);
    partition.queue(job);
    partition.drive();
    eventually("the answer", || outcome.lock().is_some());
    outcome
}

#[test]
fn records_without_keys_are_refused_by_compacted_topics_only() {
    let rig = Rig::new();
    for (number, compact) in [(0, false), (1, true), (2, true)] {
        let forced = CompressionPolicy::Forced(Compression::Zstd);
        let partition = rig.lead(
            "t",
            number,
            LogConfig {
                cleanup_policy: CleanupPolicy { delete: !compact, compact },
                compression: if number == 2 { forced } else { CompressionPolicy::Producer },
                ..LogConfig::default()
            },
        );
        let mut end = 0;
        for codec in Compression::ALL {
            let outcome = append(&partition, sent(codec, &[Some("a"), Some(""), None]));
            match outcome.lock().take().unwrap() {
                Err(PartitionError::Key(KeyError::Missing { index: 2 })) if compact => {}
                Ok(_) if !compact => end += 3,
                other => panic!("{codec}, compact: {compact}: {other:?}"),
            }
            append(&partition, sent(codec, &[Some("a"), Some("")])).lock().take().unwrap().unwrap();
            end += 2;
            assert_eq!(partition.log().log_end(), Offset(end));
        }
    }
}
