//! Copies what is good of damaged partitions into a new log directory.
//!
//! Only new files are written, in a folder that is new or empty. Each segment keeps its base
//! offset; offsets whose bytes are damaged or missing are covered by an *empty batch* (no records,
//! no producer), as compaction leaves them, so that the log stays dense and opens like any other.
//! The indexes are built anew. Producers' snapshots, leader epochs and the topic id are taken over
//! where they can be read; the broker makes the rest from the log.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::record::{Attributes, BatchHeader, HEADER_LEN};
use proto::{LeaderEpoch, Offset, TopicPartition};

use super::dumper::{names_in, segments_of};
use super::file_kind::FileKind;
use super::item::{DumpSink, Field, Kind, Value};
use super::repair_report::{RepairError, RepairReport};
use super::segment_walk::{Bad, Bounds, Part, SegmentWalk};
use crate::storage::clock::{Clock, SystemClock};
use crate::storage::compaction::Cleaning;
use crate::storage::config::{LogConfig, LogSetConfig};
use crate::storage::context::Context;
use crate::storage::disk::{
    Disk, DiskFile, ReadOnlyFile, RealDisk, read_fully, replace_file, write_fully,
};
use crate::storage::epoch_history::EpochHistory;
use crate::storage::maps::MapBudget;
use crate::storage::open_files::OpenFiles;
use crate::storage::partition_metadata;
use crate::storage::positions_checkpoint::{self, Positions};
use crate::storage::producer_state::ProducerBudget;
use crate::storage::segment::{Segment, Tip, file_name};
use crate::storage::{producer_snapshot, sequence_window, start};

/// Bytes copied at a time.
const BLOCK: usize = 1 << 20;
/// Small files of a partition are at most this long.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Segments made only to cover a gap; a larger gap comes from a file of a wrong name.
const COVER_SEGMENTS_MAX: i64 = 16;

/// Copies the partitions at `folders` to `output/<folder's name>`; `output` can be used as a log
/// directory then. What is left out is told to `sink` as [`Kind::Damage`].
pub fn repair(
    folders: &[PathBuf],
    output: &Path,
    sink: &mut dyn DumpSink,
) -> Result<RepairReport, RepairError> {
    let sources = check_sources(folders, output)?;
    let now_ms = SystemClock::new().now_ms();
    let context = Context::for_tools(Arc::new(RealDisk));
    let mut report = RepairReport::default();
    let mut lines = Vec::new();
    for (source, target) in &sources {
        let (line, copied) = Repair::run(&context, source, target, now_ms, sink)?;
        lines.extend(line);
        report.partitions += 1;
        report.batches += copied.batches;
        report.left_out += copied.left_out;
    }
    lines.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let path = output.join(positions_checkpoint::FILE_NAME);
    replace_file(&RealDisk, &path, positions_checkpoint::encode(&lines).as_bytes())
        .map_err(|error| RepairError::Io { path, error })?;
    Ok(report)
}

/// The partitions' folders and where they go; makes the output folder.
fn check_sources(
    folders: &[PathBuf],
    output: &Path,
) -> Result<Vec<(PathBuf, PathBuf)>, RepairError> {
    let refuse = |what| RepairError::Output { path: output.to_owned(), what };
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| RepairError::Io { path, error }
    };
    let mut sources = Vec::new();
    for folder in folders {
        let source = folder.canonicalize().map_err(io(folder))?;
        if segments_of(&source).is_empty() {
            return Err(RepairError::NotAPartition { path: folder.clone() });
        }
        let Some(name) = source.file_name() else {
            return Err(RepairError::NotAPartition { path: folder.clone() });
        };
        let target = output.join(name);
        if sources.iter().any(|(_, other)| *other == target) {
            return Err(refuse("two of the folders have the same name"));
        }
        sources.push((source, target));
    }
    // Where it is, or will be: the nearest folder above that is there.
    let absolute = std::path::absolute(output).map_err(io(output))?;
    let there = absolute.ancestors().find(|path| path.exists()).unwrap_or(&absolute);
    let real = there.canonicalize().map_err(io(there))?;
    if sources.iter().any(|(source, _)| real.starts_with(source)) {
        return Err(refuse("it lies in a folder that is read"));
    }
    match fs::read_dir(output) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(refuse("it is not empty"));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(output).map_err(io(output))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(refuse("it is a file"));
        }
        Err(error) => return Err(io(output)(error)),
    }
    Ok(sources)
}

/// The copy of one partition.
struct Repair<'a> {
    context: &'a Context,
    source: &'a Path,
    target: &'a Path,
    sink: &'a mut dyn DumpSink,
    report: RepairReport,
    segment: Option<Segment>,
    tip: Tip,
    /// Of the last good batch: what an empty batch after it carries.
    epoch: LeaderEpoch,
    timestamp: Option<i64>,
    /// Offsets up to here are missing before the next batch.
    missing_to: Option<Offset>,
    now_ms: i64,
    buffer: Vec<u8>,
}

type CheckpointLine = Option<(TopicPartition, Positions)>;

impl<'a> Repair<'a> {
    fn run(
        context: &'a Context,
        source: &'a Path,
        target: &'a Path,
        now_ms: i64,
        sink: &'a mut dyn DumpSink,
    ) -> Result<(CheckpointLine, RepairReport), RepairError> {
        let mut repair = Self {
            context,
            source,
            target,
            sink,
            report: RepairReport::default(),
            segment: None,
            tip: Tip::ZERO,
            epoch: LeaderEpoch(-1),
            timestamp: None,
            missing_to: None,
            now_ms,
            buffer: vec![0; BLOCK],
        };
        repair.copy()
    }

    fn copy(&mut self) -> Result<(CheckpointLine, RepairReport), RepairError> {
        fs::create_dir(self.target).map_err(|error| self.io(self.target, error))?;
        let stored = self.positions();
        let bases = segments_of(self.source);
        for (number, &base) in bases.iter().enumerate() {
            self.copy_segment(base, bases.get(number + 1).copied())?;
        }
        if let Some((_, stored)) = &stored
            && stored.recovery_point > self.tip.end_offset
        {
            // Flushed once and gone: these offsets are not given away again.
            let (from, to) = (self.tip.end_offset, stored.recovery_point);
            let what = "flushed records at the log's end are missing";
            self.tell(Kind::Damage, &range(what, from, Some(to)))?;
            self.report.left_out += 1;
            self.missing_to = Some(to);
        }
        self.cover_missing(None)?;
        self.close()?;
        let log_start = bases.first().copied().unwrap_or(Offset::ZERO);
        self.copy_small_files(stored.as_ref().map(|(_, positions)| *positions))?;
        let end = self.tip.end_offset;
        let fields = [
            ("batches", Value::Int(self.report.batches as i64)),
            ("leftOut", Value::Int(self.report.left_out as i64)),
            ("startOffset", Value::Int(log_start.0)),
            ("endOffset", Value::Int(end.0)),
            ("into", Value::Owned(self.target.display().to_string())),
        ];
        self.tell(Kind::Summary, &fields)?;
        let line = stored.map(|(partition, stored)| {
            let positions = Positions {
                topic_id: stored.topic_id,
                log_start: stored.log_start.clamp(log_start, end),
                recovery_point: end,
                high_watermark: stored.high_watermark.clamp(log_start, end),
            };
            (partition, positions)
        });
        Ok((line, self.report))
    }

    fn io(&self, path: &Path, error: io::Error) -> RepairError {
        RepairError::Io { path: path.to_owned(), error }
    }

    fn tell(&mut self, kind: Kind, fields: &[Field<'_>]) -> Result<(), RepairError> {
        let mut all = vec![("file", Value::Owned(self.source.display().to_string()))];
        all.extend_from_slice(fields);
        if self.sink.wants(kind) {
            self.sink.item(kind, &all).map_err(RepairError::Report)?;
        }
        Ok(())
    }

    fn copy_segment(&mut self, base: Offset, next_base: Option<Offset>) -> Result<(), RepairError> {
        let path = self.source.join(file_name(base, "log"));
        let file = ReadOnlyFile::open(&path).map_err(|error| self.io(&path, error))?;
        let len = file.size().map_err(|error| self.io(&path, error))?;
        self.cover_missing(None)?;
        self.open_segment(base)?;
        let bounds =
            Bounds { base: Some(base), next_base, len, check_crc: true, allow_gaps: false };
        let mut walk = SegmentWalk::new(&file, bounds);
        let mut told = 0;
        loop {
            match walk.step().map_err(|error| self.io(&path, error))? {
                Some(Part::Batch { position, header }) => {
                    self.cover_missing(Some(header.max_timestamp))?;
                    self.copy_batch(&path, &file, position, &header)?;
                }
                Some(Part::Bad(bad)) => self.leave_out(base, &bad, next_base)?,
                None => break,
            }
            self.sink.progress(walk.position() - told);
            told = walk.position();
        }
        let reached = self.missing_to.unwrap_or(self.tip.end_offset);
        if let Some(next) = next_base.filter(|&next| next > reached) {
            self.tell(Kind::Damage, &range("these offsets are missing", reached, Some(next)))?;
            self.report.left_out += 1;
            self.missing_to = Some(next);
        }
        Ok(())
    }

    fn leave_out(
        &mut self,
        base: Offset,
        bad: &Bad,
        next_base: Option<Offset>,
    ) -> Result<(), RepairError> {
        let (from, to) = (bad.from.unwrap_or(self.tip.end_offset), bad.to.or(next_base));
        let mut fields = range(&bad.cause, from, to).to_vec();
        fields.push(("segment", Value::Int(base.0)));
        fields.push(("position", Value::Int(bad.position as i64)));
        fields.push(("endPosition", Value::Int(bad.end_position as i64)));
        let kind = if bad.incomplete && next_base.is_none() { Kind::Note } else { Kind::Damage };
        self.tell(kind, &fields)?;
        self.report.left_out += u64::from(kind == Kind::Damage);
        self.missing_to = to.or(self.missing_to);
        Ok(())
    }

    fn open_segment(&mut self, base: Offset) -> Result<(), RepairError> {
        self.close()?;
        let segment = Segment::create(self.context, self.target, base)
            .map_err(|error| self.io(self.target, error))?;
        self.segment = Some(segment);
        self.tip = Tip { end_offset: base, size: 0 };
        Ok(())
    }

    fn close(&mut self) -> Result<(), RepairError> {
        let Some(segment) = self.segment.take() else { return Ok(()) };
        segment
            .sync(self.context, self.target)
            .and_then(|()| segment.close_indexes())
            .map_err(|error| self.io(self.target, error))
    }

    /// Covers what is missing before the next batch, which has this timestamp.
    fn cover_missing(&mut self, next_timestamp: Option<i64>) -> Result<(), RepairError> {
        let Some(to) = self.missing_to.take() else { return Ok(()) };
        let from = self.tip.end_offset;
        if to.0.saturating_sub(from.0) > COVER_SEGMENTS_MAX * i64::from(i32::MAX) {
            let folder = self.source.to_owned();
            return Err(RepairError::GapTooLarge { folder, from, to });
        }
        let timestamp = self.timestamp.or(next_timestamp).unwrap_or(self.now_ms);
        while self.tip.end_offset < to {
            let base = self.segment.as_ref().map_or(from, |segment| segment.base_offset);
            let room = i64::from(i32::MAX) - (self.tip.end_offset.0 - base.0);
            let offsets = room.min(to.0 - self.tip.end_offset.0);
            if offsets <= 0 {
                self.open_segment(self.tip.end_offset)?;
                continue;
            }
            let header = empty_batch(self.tip.end_offset, offsets, self.epoch, timestamp);
            self.append(&header, &header.encode())?;
        }
        Ok(())
    }

    fn copy_batch(
        &mut self,
        path: &Path,
        file: &ReadOnlyFile,
        position: u64,
        header: &BatchHeader,
    ) -> Result<(), RepairError> {
        let size = header.size_in_bytes();
        if self.tip.size + size as u64 > u64::from(u32::MAX) {
            self.open_segment(self.tip.end_offset)?;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut done = 0;
        while done < size {
            let len = (size - done).min(BLOCK);
            let read = read_fully(file, &mut buffer[..len], position + done as u64)
                .map_err(|error| self.io(path, error))?;
            if read < len {
                return Err(self.io(path, io::ErrorKind::UnexpectedEof.into()));
            }
            self.write(&buffer[..len], self.tip.size + done as u64)?;
            done += len;
        }
        self.buffer = buffer;
        self.wrote(header);
        self.epoch = self.epoch.max(header.leader_epoch);
        self.timestamp = Some(header.max_timestamp);
        self.report.batches += 1;
        Ok(())
    }

    fn append(&mut self, header: &BatchHeader, bytes: &[u8]) -> Result<(), RepairError> {
        self.write(bytes, self.tip.size)?;
        self.wrote(header);
        Ok(())
    }

    fn write(&self, bytes: &[u8], position: u64) -> Result<(), RepairError> {
        let Some(segment) = &self.segment else { return Ok(()) };
        write_fully(&*segment.file, bytes, position).map_err(|error| self.io(self.target, error))
    }

    /// Takes note of a batch that was written at the tip.
    fn wrote(&mut self, header: &BatchHeader) {
        if let Some(segment) = &self.segment {
            segment.note(self.tip.size, header, LogConfig::default().index_interval_bytes);
        }
        self.tip.size += header.size_in_bytes() as u64;
        self.tip.end_offset = header.next_offset();
    }

    /// The partition, and what its log directory's checkpoint says of it.
    fn positions(&self) -> CheckpointLine {
        let partition = start::parse_folder(self.source.file_name()?.to_str()?)?;
        let checkpoint = self.source.parent()?.join(positions_checkpoint::FILE_NAME);
        let all = read_small(&checkpoint).and_then(|bytes| positions_checkpoint::decode(&bytes));
        let metadata = read_small(&self.source.join(partition_metadata::FILE_NAME));
        let topic_id = metadata.and_then(|bytes| partition_metadata::decode(&bytes));
        let stored = all.and_then(|mut all| all.remove(&partition));
        // A line of another topic id is of a deleted topic of the same name.
        let stored = stored.filter(|stored| topic_id.is_none_or(|id| id == stored.topic_id));
        let positions = stored.or(topic_id.map(Positions::new))?;
        Some((partition, positions))
    }

    /// Takes over what can be read and still fits.
    fn copy_small_files(&mut self, stored: Option<Positions>) -> Result<(), RepairError> {
        match stored {
            Some(positions) => {
                let text = partition_metadata::encode(positions.topic_id);
                self.put(partition_metadata::FILE_NAME, text.as_bytes())?;
            }
            None => {
                let what = "the topic id is lost: a broker sets such a folder aside; write \
                            partition.metadata (`coordinator topics describe` shows the id)";
                self.tell(Kind::Note, &[("what", Value::Text(what))])?;
            }
        }
        let end = self.tip.end_offset;
        for (name, _) in names_in(self.source).map_err(|error| self.io(self.source, error))? {
            let Some(kind) = FileKind::of(&name) else { continue };
            let Some(bytes) = read_small(&self.source.join(&name)) else { continue };
            let text = || std::str::from_utf8(&bytes).ok();
            let good = match kind {
                FileKind::Epochs => text().and_then(EpochHistory::decode).is_some(),
                FileKind::Snapshot(at) if at <= end => {
                    producer_snapshot::decode(&bytes, 0).is_some()
                }
                FileKind::Window(at) if at <= end => sequence_window::decode(&bytes).is_some(),
                _ => continue,
            };
            if good {
                self.put(&name, &bytes)?;
            } else {
                let what = format!("{name} cannot be read and is left out");
                self.tell(Kind::Note, &[("what", Value::Owned(what))])?;
            }
        }
        Ok(())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RepairError> {
        let path = self.target.join(name);
        replace_file(&*self.context.disk, &path, bytes).map_err(|error| self.io(&path, error))
    }
}

fn range(what: &str, from: Offset, to: Option<Offset>) -> [Field<'_>; 3] {
    [
        ("what", Value::Text(what)),
        ("from", Value::Int(from.0)),
        ("to", Value::Optional(to.map(|to| to.0))),
    ]
}

/// A batch without records for some offsets, as compaction leaves it.
fn empty_batch(base: Offset, offsets: i64, epoch: LeaderEpoch, timestamp: i64) -> BatchHeader {
    let mut header = BatchHeader {
        base_offset: base,
        batch_length: (HEADER_LEN - 12) as i32,
        leader_epoch: epoch,
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: i32::try_from(offsets - 1).unwrap_or(i32::MAX - 1),
        base_timestamp: timestamp,
        max_timestamp: timestamp,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 0,
    };
    header.crc = header.compute_crc([]);
    header
}

fn read_small(path: &Path) -> Option<Vec<u8>> {
    let file = ReadOnlyFile::open(path).ok()?;
    let len = file.size().ok().filter(|&len| len <= FILE_BYTES_MAX)?;
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    let read = read_fully(&file, &mut bytes, 0).ok()?;
    bytes.truncate(read);
    Some(bytes)
}

impl Context {
    /// For tools that work on files alone.
    fn for_tools(disk: Arc<dyn Disk>) -> Self {
        let config = LogSetConfig::new(Vec::new());
        let files = OpenFiles::new(disk, config.open_files);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        Self {
            cleaning: Cleaning::new(config.cleaner, clock.clone(), config.background),
            disk: files.clone(),
            files,
            clock,
            scanned: std::sync::atomic::AtomicU64::new(0),
            maps: MapBudget::new(config.mmap_bytes, config.mmap_count),
            producers: ProducerBudget::new(config.producer_window_bytes),
            retention: Default::default(),
            troubles: Arc::default(),
        }
    }
}
