//! Dumps a `.log` file: its batches, on demand their records, and how it agrees with its indexes.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use proto::Offset;
use proto::record::{
    Batch, BatchDecoder, BatchHeader, ControlType, RecordRef, TimestampType, control_type,
};

use super::dumper::{DumpError, Dumper};
use super::index_check::IndexCheck;
use super::item::{Field, Kind, Value};
use super::segment_walk::{Bad, Bounds, Part, SegmentWalk};
use crate::storage::DECOMPRESSED_MAX;
use crate::storage::disk::{DiskFile, ReadOnlyFile, read_fully};

/// Batches longer than this have their records left out.
const BATCH_BYTES_MAX: usize = 256 << 20;
/// Progress is told after so many bytes.
const PROGRESS_BYTES: u64 = 1 << 20;

/// What is known about a log file besides its bytes.
#[derive(Debug, Clone)]
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    pub(super) base: Option<Offset>,
    pub(super) next_base: Option<Offset>,
    /// Bytes that recovery put aside: nothing in them is missed.
    pub(super) cut: bool,
    /// Compare with the indexes beside it.
    pub(super) indexes: bool,
    /// Say something about its batches; otherwise only the indexes are looked at.
    pub(super) print: bool,
}

#[derive(Debug, Default)]
struct Counts {
    batches: u64,
    empty: u64,
    records: u64,
    damaged_ranges: u64,
    damaged_bytes: u64,
    first: Option<Offset>,
    newest: Option<i64>,
}

/// Dumps the file.
pub(super) fn dump(dumper: &mut Dumper<'_>, log: &LogFile) -> Result<(), DumpError> {
    let read = |error| DumpError::Read { path: log.path.clone(), error };
    let folder = log.path.parent().unwrap_or(Path::new("."));
    let base = log.base.filter(|_| log.indexes);
    // Before the log's length is taken: entries are written after what they point at.
    let check = base.map(|base| IndexCheck::open(folder, base)).transpose().map_err(read)?;
    let file = ReadOnlyFile::open(&log.path).map_err(read)?;
    let bounds = Bounds {
        base: log.base,
        next_base: log.next_base,
        len: file.size().map_err(read)?,
        check_crc: dumper.options.verify && log.print,
        allow_gaps: dumper.options.allow_gaps || log.cut,
    };
    if log.print {
        dumper.begin(&log.path, bounds.len)?;
    }
    let walk = SegmentWalk::new(&file, bounds);
    let (counts, decoder) = (Counts::default(), BatchDecoder::new(DECOMPRESSED_MAX));
    let mut going = Going { dumper, log, file: &file, walk, check, counts, decoder };
    going.run()?;
    going.finish(bounds)
}

/// A dump under way.
struct Going<'a, 'd, 's> {
    dumper: &'d mut Dumper<'s>,
    log: &'a LogFile,
    file: &'a ReadOnlyFile,
    walk: SegmentWalk<'a>,
    check: Option<IndexCheck>,
    counts: Counts,
    decoder: BatchDecoder,
}

impl Going<'_, '_, '_> {
    fn read_error(&self) -> impl Fn(io::Error) -> DumpError + use<> {
        let path = self.log.path.clone();
        move |error| DumpError::Read { path: path.clone(), error }
    }

    fn run(&mut self) -> Result<(), DumpError> {
        let read = self.read_error();
        let mut told = 0;
        while let Some(part) = self.walk.step().map_err(&read)? {
            match part {
                Part::Batch { position, header } => self.batch(position, &header)?,
                Part::Bad(bad) => self.bad(&bad)?,
            }
            let done = self.walk.position();
            if done - told >= PROGRESS_BYTES && self.log.print {
                self.dumper.sink.progress(done - told);
                told = done;
            }
        }
        if self.log.print {
            self.dumper.sink.progress(self.walk.position() - told);
        }
        Ok(())
    }

    fn batch(&mut self, position: u64, header: &BatchHeader) -> Result<(), DumpError> {
        let read = self.read_error();
        let counts = &mut self.counts;
        counts.batches += 1;
        counts.empty += u64::from(header.record_count == 0);
        counts.records += u64::from(header.record_count.unsigned_abs());
        counts.first.get_or_insert(header.base_offset);
        counts.newest = counts.newest.max(Some(header.max_timestamp));
        if let Some(check) = &mut self.check {
            check.batch(position, header).map_err(&read)?;
        }
        if !self.log.print {
            return Ok(());
        }
        if self.dumper.sink.wants(Kind::Batch) {
            let fields = batch_fields(position, header);
            self.dumper.sink.item(Kind::Batch, &fields).map_err(DumpError::Output)?;
        }
        if self.dumper.options.deep {
            self.records(position, header)?;
        }
        Ok(())
    }

    fn records(&mut self, position: u64, header: &BatchHeader) -> Result<(), DumpError> {
        let size = header.size_in_bytes();
        if size > BATCH_BYTES_MAX {
            let what = format!("records of a batch of {size} bytes are left out");
            return self.dumper.note(&self.log.path, what);
        }
        let mut bytes = std::mem::take(&mut self.dumper.buffer);
        bytes.clear();
        bytes.resize(size, 0);
        let read = read_fully(self.file, &mut bytes, position).map_err(self.read_error())?;
        bytes.truncate(read);
        let outcome = match Batch::parse_without_crc(&bytes) {
            Ok(batch) => self.each_record(position, &batch),
            Err(error) => malformed(self.dumper, self.log, position, header, &error),
        };
        self.dumper.buffer = bytes;
        outcome
    }

    fn each_record(&mut self, position: u64, batch: &Batch<'_>) -> Result<(), DumpError> {
        let header = batch.header();
        let records = match self.decoder.records(batch) {
            Ok(records) => records,
            Err(error) => return malformed(self.dumper, self.log, position, header, &error),
        };
        let wanted = self.dumper.sink.wants(Kind::Record);
        for record in records {
            match record {
                Ok(record) if wanted => {
                    let fields = record_fields(header, &record, self.dumper.options.print_data);
                    self.dumper.sink.item(Kind::Record, &fields).map_err(DumpError::Output)?;
                }
                Ok(_) => {}
                Err(error) => return malformed(self.dumper, self.log, position, header, &error),
            }
        }
        Ok(())
    }

    fn bad(&mut self, bad: &Bad) -> Result<(), DumpError> {
        let read = self.read_error();
        if let Some(check) = &mut self.check {
            check.damage(bad.end_position).map_err(&read)?;
        }
        if !self.log.print {
            return Ok(());
        }
        let bytes = bad.end_position - bad.position;
        let growing = bad.incomplete && self.log.next_base.is_none();
        let mut fields = vec![
            ("what", Value::Text(bad.cause.as_str())),
            ("from", Value::Optional(bad.from.map(|offset| offset.0))),
            ("to", Value::Optional(bad.to.or(self.log.next_base).map(|offset| offset.0))),
            ("position", Value::Int(bad.position as i64)),
            ("endPosition", Value::Int(bad.end_position as i64)),
        ];
        if self.log.cut {
            return self.dumper.note_fields(&self.log.path, &fields);
        }
        if growing {
            let text = format!(
                "the last {bytes} bytes are no whole batch ({}): a broker is writing it, or was \
                 stopped while it did; recovery puts such bytes aside",
                bad.cause
            );
            fields[0].1 = Value::Owned(text);
            return self.dumper.note_fields(&self.log.path, &fields);
        }
        self.counts.damaged_ranges += 1;
        self.counts.damaged_bytes += bytes;
        self.dumper.damage(&self.log.path, &fields)
    }

    fn finish(self, bounds: Bounds) -> Result<(), DumpError> {
        let read = self.read_error();
        let Going { dumper, log, walk, check, counts, .. } = self;
        let end = walk.expected();
        if log.print {
            if let (Some(end), Some(next)) = (end, log.next_base)
                && end < next
                && !bounds.allow_gaps
                && !log.cut
            {
                let what = format!("the segment ends at offset {end}, the next begins at {next}");
                let fields = [
                    ("what", Value::Owned(what)),
                    ("from", Value::Int(end.0)),
                    ("to", Value::Int(next.0)),
                    ("position", Value::Int(bounds.len as i64)),
                ];
                dumper.damage(&log.path, &fields)?;
            }
            summarise(dumper, log, &counts, end, bounds.len)?;
        }
        let Some(check) = check else { return Ok(()) };
        for extension in check.missing() {
            let what =
                format!("there is no .{extension} beside it; a start of the broker makes one");
            dumper.note(&log.path, what)?;
        }
        for finding in check.finish(bounds.len).map_err(read)? {
            let what = [("what", Value::Text(finding.what.as_str()))];
            dumper.damage(&finding.file, &what)?;
        }
        Ok(())
    }
}

/// A batch whose CRC holds and whose records make no sense.
fn malformed(
    dumper: &mut Dumper<'_>,
    log: &LogFile,
    position: u64,
    header: &BatchHeader,
    cause: &dyn Display,
) -> Result<(), DumpError> {
    let fields = [
        ("what", Value::Owned(cause.to_string())),
        ("from", Value::Int(header.base_offset.0)),
        ("to", Value::Int(header.next_offset().0)),
        ("position", Value::Int(position as i64)),
    ];
    dumper.damage(&log.path, &fields)
}

fn summarise(
    dumper: &mut Dumper<'_>,
    log: &LogFile,
    counts: &Counts,
    end: Option<Offset>,
    len: u64,
) -> Result<(), DumpError> {
    dumper.report.batches += counts.batches;
    dumper.report.records += counts.records;
    dumper.report.bytes += len;
    let int = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
    let fields = [
        ("batches", int(counts.batches)),
        ("emptyBatches", int(counts.empty)),
        ("records", int(counts.records)),
        ("bytes", int(len)),
        ("firstOffset", Value::Optional(counts.first.map(|offset| offset.0))),
        ("endOffset", Value::Optional(end.map(|offset| offset.0))),
        ("maxTimestamp", Value::Optional(counts.newest)),
        ("damagedRanges", int(counts.damaged_ranges)),
        ("damagedBytes", int(counts.damaged_bytes)),
    ];
    dumper.summary(&log.path, &fields)
}

/// The batch's line, in the order and the words of Kafka's tool.
fn batch_fields(position: u64, header: &BatchHeader) -> [Field<'static>; 18] {
    let codec = match header.attributes.compression() {
        Ok(codec) => Value::Text(codec.name()),
        Err(_) => Value::Text("unknown"),
    };
    let horizon = header.delete_horizon_ms();
    [
        ("baseOffset", Value::Int(header.base_offset.0)),
        ("lastOffset", Value::Int(header.last_offset().0)),
        ("count", Value::Int(header.record_count.into())),
        ("baseSequence", Value::Int(header.base_sequence.into())),
        ("lastSequence", Value::Int(header.last_sequence().into())),
        ("producerId", Value::Int(header.producer_id)),
        ("producerEpoch", Value::Int(header.producer_epoch.into())),
        ("partitionLeaderEpoch", Value::Int(header.leader_epoch.0.into())),
        ("isTransactional", Value::Bool(header.attributes.is_transactional())),
        ("isControl", Value::Bool(header.attributes.is_control())),
        ("deleteHorizonMs", Value::Optional(horizon)),
        ("position", Value::Int(position as i64)),
        (time_name(header), Value::Int(header.max_timestamp)),
        ("size", Value::Int(header.size_in_bytes() as i64)),
        ("magic", Value::Int(proto::record::MAGIC.into())),
        ("compresscodec", codec),
        ("crc", Value::Int(header.crc.into())),
        ("isvalid", Value::Bool(true)),
    ]
}

fn time_name(header: &BatchHeader) -> &'static str {
    match header.attributes.timestamp_type() {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    }
}

/// The record's line.
fn record_fields<'a>(
    batch: &BatchHeader,
    record: &RecordRef<'a>,
    print_data: bool,
) -> Vec<Field<'a>> {
    let size = |bytes: Option<&[u8]>| Value::Int(bytes.map_or(-1, |bytes| bytes.len() as i64));
    let sequence = match batch.base_sequence {
        ..0 => -1,
        base => base.wrapping_add((record.offset.0 - batch.base_offset.0) as i32) & i32::MAX,
    };
    let headers = record.headers.clone().map(|header| header.key_bytes()).collect();
    let mut fields = vec![
        ("offset", Value::Int(record.offset.0)),
        (time_name(batch), Value::Int(record.timestamp)),
        ("keySize", size(record.key)),
        ("valueSize", size(record.value)),
        ("sequence", Value::Int(sequence.into())),
        ("headerKeys", Value::List(headers)),
    ];
    if let Some(marker) = marker_fields(batch, record) {
        fields.extend(marker);
    } else if print_data {
        let data = [("key", record.key), ("payload", record.value)];
        let data = data.into_iter().filter_map(|(name, bytes)| Some((name, Value::Bytes(bytes?))));
        fields.extend(data);
    }
    fields
}

/// What the end marker of a transaction says.
fn marker_fields<'a>(batch: &BatchHeader, record: &RecordRef<'a>) -> Option<[Field<'a>; 2]> {
    let marker = match control_type(record.key?).filter(|_| batch.attributes.is_control())? {
        ControlType::Commit => "COMMIT",
        ControlType::Abort => "ABORT",
        ControlType::Other(_) => return None,
    };
    // version: i16, epoch of the transaction's coordinator: i32
    let epoch = record.value?.get(2..)?.first_chunk().map(|bytes| i32::from_be_bytes(*bytes))?;
    let epoch = Value::Int(epoch.into());
    Some([("endTxnMarker", Value::Text(marker)), ("coordinatorEpoch", epoch)])
}
