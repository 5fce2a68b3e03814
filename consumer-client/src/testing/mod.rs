//! Batches for the tests of this crate.

use bytes::{Bytes, BytesMut};
use proto::Offset;
use proto::record::{BatchBuilder, BatchHeader, Compression, Compressor, ProducerStamp};

/// A batch of `count` records with keys `k<offset>` and this value, as a broker stamped it.
pub(crate) fn batch_at(base: i64, count: usize, value: &str) -> Bytes {
    compressed_batch_at(Compression::None, base, count, value)
}

/// The same, compressed where that makes it smaller.
pub(crate) fn compressed_batch_at(
    codec: Compression,
    base: i64,
    count: usize,
    value: &str,
) -> Bytes {
    let mut builder = BatchBuilder::new(16 << 10);
    for i in 0..count {
        let key = format!("k{}", base + i as i64);
        builder
            .append(1_000 + base + i as i64, Some(key.as_bytes()), Some(value.as_bytes()), &[])
            .unwrap();
    }
    let mut compressor = Compressor::new(codec, None).unwrap();
    let bytes = builder.finish_compressed(&mut compressor, ProducerStamp::NONE);
    let mut header = BatchHeader::parse(&bytes).unwrap();
    header.base_offset = Offset(base);
    let mut stamped = BytesMut::from(&bytes[..]);
    stamped[..proto::record::HEADER_LEN].copy_from_slice(&header.encode());
    stamped.freeze()
}

/// The same batch as the leader of this epoch would have stamped it.
pub(crate) fn in_epoch(batch: &Bytes, epoch: i32) -> Bytes {
    let mut header = BatchHeader::parse(batch).unwrap();
    header.leader_epoch = proto::LeaderEpoch(epoch);
    let mut stamped = BytesMut::from(&batch[..]);
    stamped[..proto::record::HEADER_LEN].copy_from_slice(&header.encode());
    stamped.freeze()
}

pub(crate) mod fake_broker;

/// Waits until a condition holds, at most ten seconds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "not within ten seconds: {what}");
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
}
