//! Dumps everything that is no log: indexes entry by entry, snapshots, windows, checkpoints.

use std::path::Path;

use proto::Offset;

use super::dumper::{DumpError, Dumper};
use super::file_kind::FileKind;
use super::index_check::{Entries, decode_offset, decode_time};
use super::item::Value;
use crate::storage::byte_reader::ByteReader;
use crate::storage::disk::{DiskFile, ReadOnlyFile, read_fully};
use crate::storage::epoch_history::EpochHistory;
use crate::storage::{
    damage, partition_metadata, positions_checkpoint, producer_snapshot, sequence_window,
};

/// Larger files than this are none of ours.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Bytes of an entry of `.txnindex`.
const TRANSACTION_LEN: usize = 34;

/// Dumps a file that is read whole.
pub(super) fn dump(dumper: &mut Dumper<'_>, path: &Path, kind: FileKind) -> Result<(), DumpError> {
    if let FileKind::TransactionIndex(_) = kind {
        return transaction_index(dumper, path);
    }
    let read = |error| DumpError::Read { path: path.to_owned(), error };
    let file = ReadOnlyFile::open(path).map_err(read)?;
    let len = file.size().map_err(read)?;
    dumper.begin(path, len)?;
    if len > FILE_BYTES_MAX {
        let what = format!("{len} bytes are too many for such a file");
        return dumper.damage(path, &[("what", Value::Owned(what))]);
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let there = read_fully(&file, &mut bytes, 0).map_err(read)?;
    bytes.truncate(there);
    let readable = match kind {
        FileKind::Snapshot(_) => snapshot(dumper, &bytes)?,
        FileKind::Window(_) => window(dumper, &bytes)?,
        FileKind::Epochs => epochs(dumper, &bytes)?,
        FileKind::Metadata => metadata(dumper, &bytes)?,
        FileKind::Positions => positions(dumper, &bytes)?,
        FileKind::DamagedRanges => damaged_ranges(dumper, path, &bytes)?,
        _ => true,
    };
    if readable {
        return Ok(());
    }
    let what = "its version, checksum, count or order is wrong; the broker makes it anew from the \
                log, and nothing but time is lost";
    dumper.damage(path, &[("what", Value::Text(what))])
}

/// `.index`
pub(super) fn index(dumper: &mut Dumper<'_>, path: &Path, base: Offset) -> Result<(), DumpError> {
    each_entry(dumper, path, |dumper, entry| {
        let (offset, position) = decode_offset(base, entry);
        dumper.entry(&[("offset", Value::Int(offset)), ("position", Value::Int(position as i64))])
    })
}

/// `.timeindex`
pub(super) fn time_index(
    dumper: &mut Dumper<'_>,
    path: &Path,
    base: Offset,
) -> Result<(), DumpError> {
    each_entry(dumper, path, |dumper, entry| {
        let (timestamp, offset) = decode_time(base, entry);
        dumper.entry(&[("timestamp", Value::Int(timestamp)), ("offset", Value::Int(offset))])
    })
}

/// `.txnindex`, Kafka's: aborted transactions.
fn transaction_index(dumper: &mut Dumper<'_>, path: &Path) -> Result<(), DumpError> {
    each_entry(dumper, path, |dumper, entry: [u8; TRANSACTION_LEN]| {
        let mut reader = ByteReader::new(&entry);
        let version = i64::from(reader.i16().unwrap_or_default());
        let mut number = || Value::Int(reader.i64().unwrap_or_default());
        let fields = [
            ("version", Value::Int(version)),
            ("producerId", number()),
            ("firstOffset", number()),
            ("lastOffset", number()),
            ("lastStableOffset", number()),
        ];
        dumper.entry(&fields)
    })
}

fn each_entry<const N: usize>(
    dumper: &mut Dumper<'_>,
    path: &Path,
    mut each: impl FnMut(&mut Dumper<'_>, [u8; N]) -> Result<(), DumpError>,
) -> Result<(), DumpError> {
    let read = |error| DumpError::Read { path: path.to_owned(), error };
    let mut entries = Entries::<N>::open(path).map_err(read)?;
    dumper.begin(path, entries.len)?;
    if dumper.options.index_entries {
        while let Some(entry) = entries.step().map_err(read)? {
            each(dumper, entry)?;
        }
    }
    if entries.torn() > 0 {
        let what = format!(
            "{} bytes at the end are no whole entry: it is being written, or a write was torn; \
             a start of the broker cuts them off",
            entries.torn()
        );
        dumper.note(path, what)?;
    }
    if !dumper.options.index_entries {
        return Ok(());
    }
    let number = i64::try_from(entries.number()).unwrap_or(i64::MAX);
    dumper.summary(path, &[("entries", Value::Int(number))])
}

fn snapshot(dumper: &mut Dumper<'_>, bytes: &[u8]) -> Result<bool, DumpError> {
    let Some(all) = producer_snapshot::decode(bytes, 0) else { return Ok(false) };
    for (id, producer) in all {
        let Some(last) = producer.batches.back() else { continue };
        dumper.entry(&[
            ("producerId", Value::Int(id)),
            ("producerEpoch", Value::Int(producer.epoch.into())),
            // Kafka's words; there are no transactions yet.
            ("coordinatorEpoch", Value::Int(-1)),
            ("currentTxnFirstOffset", Value::Optional(None)),
            ("lastTimestamp", Value::Int(last.timestamp)),
            ("firstSequence", Value::Int(last.base_sequence.into())),
            ("lastSequence", Value::Int(last.last_sequence.into())),
            ("lastOffset", Value::Int(last.last_offset().0)),
            ("offsetDelta", Value::Int(last.offset_delta().into())),
            ("timestamp", Value::Int(last.timestamp)),
        ])?;
    }
    Ok(true)
}

fn window(dumper: &mut Dumper<'_>, bytes: &[u8]) -> Result<bool, DumpError> {
    let Some(all) = sequence_window::decode(bytes) else { return Ok(false) };
    for (id, producer) in all {
        for batch in &producer.batches {
            dumper.entry(&[
                ("producerId", Value::Int(id)),
                ("producerEpoch", Value::Int(producer.epoch.into())),
                ("window", Value::Int(producer.window.unwrap_or(0).into())),
                ("lastUsedMs", Value::Int(producer.last_used_ms)),
                ("firstSequence", Value::Int(batch.base_sequence.into())),
                ("lastSequence", Value::Int(batch.last_sequence.into())),
                ("baseOffset", Value::Int(batch.base_offset.0)),
                ("lastOffset", Value::Int(batch.last_offset().0)),
                ("timestamp", Value::Int(batch.timestamp)),
            ])?;
        }
    }
    Ok(true)
}

fn epochs(dumper: &mut Dumper<'_>, bytes: &[u8]) -> Result<bool, DumpError> {
    let history = std::str::from_utf8(bytes).ok().and_then(EpochHistory::decode);
    let Some(history) = history else { return Ok(false) };
    for &(epoch, start) in history.entries() {
        let fields = [("epoch", Value::Int(epoch.0.into())), ("startOffset", Value::Int(start.0))];
        dumper.entry(&fields)?;
    }
    Ok(true)
}

fn metadata(dumper: &mut Dumper<'_>, bytes: &[u8]) -> Result<bool, DumpError> {
    let Some(topic_id) = partition_metadata::decode(bytes) else { return Ok(false) };
    dumper.entry(&[("topicId", Value::Owned(topic_id.to_string()))])?;
    Ok(true)
}

fn positions(dumper: &mut Dumper<'_>, bytes: &[u8]) -> Result<bool, DumpError> {
    let Some(all) = positions_checkpoint::decode(bytes) else { return Ok(false) };
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for (partition, positions) in all {
        dumper.entry(&[
            ("partition", Value::Owned(partition.to_string())),
            ("topicId", Value::Owned(positions.topic_id.to_string())),
            ("logStartOffset", Value::Int(positions.log_start.0)),
            ("recoveryPoint", Value::Int(positions.recovery_point.0)),
            ("highWatermark", Value::Int(positions.high_watermark.0)),
        ])?;
    }
    Ok(true)
}

/// What the broker knows to be damaged. The log itself is damaged there, not this file.
fn damaged_ranges(dumper: &mut Dumper<'_>, path: &Path, bytes: &[u8]) -> Result<bool, DumpError> {
    let Some(ranges) = damage::decode(bytes) else { return Ok(false) };
    for range in ranges {
        dumper.note_fields(
            path,
            &[
                ("what", Value::Text("the broker serves around this damage")),
                ("from", Value::Int(range.from.0)),
                ("to", Value::Int(range.to.0)),
                ("segment", Value::Int(range.segment.0)),
                ("position", Value::Int(range.position as i64)),
                ("endPosition", Value::Int(range.end_position as i64)),
            ],
        )?;
    }
    Ok(true)
}
