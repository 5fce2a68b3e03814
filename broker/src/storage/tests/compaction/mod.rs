//! Compaction through whole logs: what stays, what goes, and what a crash leaves.

mod basics;
mod crash;
mod pool;
mod random;

use std::time::Duration;

use proto::record::{BatchDecoder, Compression, Compressor};

use super::*;
use crate::storage::disk::faulty::FaultyDisk;

/// A record as a consumer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    offset: i64,
    key: Option<String>,
    value: Option<String>,
    timestamp: i64,
}

type KeyValue<'a> = (Option<&'a str>, Option<&'a str>);

fn keyed(records: &[KeyValue<'_>], at_ms: i64, codec: Compression, stamp: ProducerStamp) -> Bytes {
    let mut builder = BatchBuilder::new(1 << 20);
    for (i, (key, value)) in records.iter().enumerate() {
        let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
        builder.append(at_ms + i as i64, key, value, &[]).unwrap();
    }
    builder.finish_compressed(&mut Compressor::new(codec, None).unwrap(), stamp)
}

/// One plain batch of a record.
fn put(log: &Log, key: &str, value: &str) {
    let at_ms = log.context.clock.now_ms();
    let record = [(Some(key), Some(value))];
    append(log, &keyed(&record, at_ms, Compression::None, ProducerStamp::NONE)).unwrap();
}

fn delete(log: &Log, key: &str) {
    let at_ms = log.context.clock.now_ms();
    append(log, &keyed(&[(Some(key), None)], at_ms, Compression::None, ProducerStamp::NONE))
        .unwrap();
}

/// Closes the active segment; all below is committed and on the disk.
fn settle(log: &Log) {
    log.roll().unwrap();
    log.flush().unwrap();
    log.set_high_watermark(log.log_end());
}

/// Reads to the log end; on the way every offset must be covered by a batch.
fn see(log: &Log, from: i64) -> Vec<Seen> {
    let mut cursor = Cursor::at(Offset(from));
    let mut seen = Vec::new();
    let mut decoder = BatchDecoder::new(1 << 24);
    let mut next: Option<Offset> = None;
    loop {
        let limits = ReadLimits { max_bytes: 3000, upto: log.log_end(), first_batch_whole: true };
        let slice = log.read(cursor, limits, Wait::Allowed).unwrap();
        if slice.is_empty() {
            assert_eq!(cursor.offset(), log.log_end());
            return seen;
        }
        for batch in Batches::new(slice.bytes()) {
            let batch = batch.unwrap();
            let header = batch.header();
            assert!(next.is_none_or(|next| next == header.base_offset), "dense at {header:?}");
            next = Some(header.next_offset());
            for record in decoder.records(&batch).unwrap() {
                let record = record.unwrap();
                let text = |bytes: Option<&[u8]>| {
                    bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
                };
                if record.offset.0 >= from {
                    seen.push(Seen {
                        offset: record.offset.0,
                        key: text(record.key),
                        value: text(record.value),
                        timestamp: record.timestamp,
                    });
                }
            }
        }
        assert!(slice.next_offset() > cursor.offset());
        cursor = slice.next();
    }
}

fn offsets(log: &Log) -> Vec<i64> {
    see(log, log.log_start().0).iter().map(|record| record.offset).collect()
}

fn values(log: &Log) -> Vec<(i64, String)> {
    let all = see(log, log.log_start().0);
    all.into_iter().map(|record| (record.offset, record.value.unwrap_or_default())).collect()
}

/// A world whose logs are compacted.
fn compacted(change: impl FnOnce(&mut LogSetConfig)) -> (FaultyDisk, World) {
    let dir = Path::new("/data");
    let disk = FaultyDisk::new(dir);
    let mut world = World::new(Arc::new(disk.clone()), dir);
    world.config.log.cleanup_policy = CleanupPolicy { delete: false, compact: true };
    change(&mut world.config);
    (disk, world)
}

/// Names in the log's folder that a finished compaction does not leave.
fn leftovers(log: &Log) -> Vec<String> {
    let names = log.context.disk.list(&log.folder()).unwrap().into_iter().map(|entry| entry.name);
    names.filter(|name| name.ends_with(".cleaned") || name.contains(".swap")).collect()
}
