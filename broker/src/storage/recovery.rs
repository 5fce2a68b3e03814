//! Makes a log from a partition's folder.
//!
//! After a clean stop the indexes are believed and nothing is read. After anything else the log is
//! read with CRCs from the recovery point on: at or above it the log ends at the first bad batch
//! and what follows is put aside in `.cut` files; below it bad bytes become damaged ranges and the
//! rest is served.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proto::{Offset, TopicId, TopicPartition};

use super::compaction;
use super::config::LogConfig;
use super::context::Context;
use super::damage::{self, DamagedRange};
use super::disk::{self, Disk, DiskFile, OpenMode, read_fully, replace_file, write_fully};
use super::epoch_history::{self, EpochHistory};
use super::log::{Log, LogParts, Writer};
use super::log_dir::LogDir;
use super::opening::{self, Cut, Opening};
use super::positions_checkpoint::Positions;
use super::producer_state::ProducerState;
use super::replay;
use super::segment::{Segment, file_name, parse_file_name};
use super::segment_recovery::{self, Expectation};
use super::segments::Segments;
use super::set_aside::SetAside;

/// Small files of a partition are at most this long.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What opening a log had to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Bytes read and checked.
    pub scanned_bytes: u64,
    /// Bytes put aside because the log ends before them.
    pub cut_bytes: u64,
    /// Damaged ranges below the recovery point, those found earlier included.
    pub damaged: Vec<DamagedRange>,
}

/// Where a partition is, and what was written down about it.
pub(super) struct Source<'a> {
    pub(super) folder: PathBuf,
    pub(super) partition: TopicPartition,
    pub(super) topic_id: TopicId,
    /// Of the last checkpoint.
    pub(super) positions: Option<Positions>,
    /// Whether the last stop was clean.
    pub(super) clean: bool,
    /// Whether bytes that were not flushed may be gone.
    pub(super) unsynced_lost: bool,
    /// Whether a start before this one may have put losses right that nobody was told of.
    pub(super) losses_untold: bool,
    /// Whether there was a log before.
    pub(super) existed: bool,
    pub(super) config: &'a LogConfig,
}

/// Opens a log, recovering it as need be.
pub(super) fn open(
    context: &Arc<Context>,
    dir: &Arc<LogDir>,
    source: &Source<'_>,
) -> io::Result<(Arc<Log>, RecoveryReport)> {
    let mut recovery = Recovery {
        context,
        source,
        list: Vec::new(),
        epochs: EpochHistory::default(),
        cut: Cut::Nothing,
        report: RecoveryReport::default(),
    };
    let bases = recovery.tidy_names()?;
    let epochs_known = recovery.load_epochs();
    recovery.open_segments(&bases)?;
    recovery.add_known_damage()?;
    let parts = recovery.finish(&bases, epochs_known)?;
    let report = recovery.report;
    if report.cut_bytes > 0 || !report.damaged.is_empty() {
        tracing::warn!(
            partition = %source.partition, cut_bytes = report.cut_bytes,
            damaged_ranges = report.damaged.len(), log_end = parts.log_end.0,
            "recovered with loss"
        );
    }
    let log = Log::new(context.clone(), dir.clone(), source.config.clone(), parts);
    dir.adopt(&log);
    if !source.clean && log.producer_count() > 0 {
        // Retention may delete the batches they were found in.
        let (snapshot, window) = log.encode_producers();
        if let Err(error) = log.write_snapshot(log.log_end(), &snapshot, &window) {
            tracing::warn!(partition = %source.partition, %error, "producer snapshot not written");
        }
    }
    // Kept dirty and tried again when it fails.
    let _ = log.save_epochs();
    Ok((log, report))
}

struct Recovery<'a> {
    context: &'a Arc<Context>,
    source: &'a Source<'a>,
    list: Vec<Arc<Segment>>,
    epochs: EpochHistory,
    cut: Cut,
    report: RecoveryReport,
}

impl Recovery<'_> {
    fn disk(&self) -> &dyn Disk {
        &*self.context.disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.source.folder.join(name)
    }

    /// All below was on stable storage once. Where that was not written down, or cannot be read,
    /// closed segments are taken to be: a bad batch in one of them must not end the log.
    fn recovery_point(&self, bases: &[Offset]) -> Offset {
        let last = bases.last().copied().unwrap_or(Offset::ZERO);
        self.source.positions.map_or(last, |positions| positions.recovery_point)
    }

    /// Completes or removes what a crash left half done; returns the base offsets of segments, in order.
    fn tidy_names(&self) -> io::Result<Vec<Offset>> {
        compaction::recover(self.disk(), &self.source.folder)?;
        let entries = self.disk().list(&self.source.folder)?;
        let mut bases: Vec<_> = entries
            .iter()
            .filter(|entry| !entry.is_dir)
            .filter_map(|entry| parse_file_name(&entry.name))
            .filter(|(_, extension)| *extension == "log")
            .map(|(base, _)| base)
            .collect();
        bases.sort_unstable();
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            let half_done = entry.name.ends_with(".tmp");
            let orphan = parse_file_name(&entry.name).is_some_and(|(base, extension)| {
                matches!(extension, "index" | "timeindex") && bases.binary_search(&base).is_err()
            });
            if half_done || orphan {
                self.disk().remove_file(&self.path(&entry.name))?;
            }
        }
        Ok(bases)
    }

    /// False when the file was missing or unreadable though there may be epochs.
    fn load_epochs(&mut self) -> bool {
        let bytes =
            disk::read_file(self.disk(), &self.path(epoch_history::FILE_NAME), FILE_BYTES_MAX);
        let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let epochs = text.and_then(|text| EpochHistory::decode(&text));
        let known = epochs.is_some();
        self.epochs = epochs.unwrap_or_default();
        known
    }

    /// Adds what was found damaged by earlier runs and still is: a file may have been repaired or
    /// brought back since. Holes are found anew by every start.
    fn add_known_damage(&mut self) -> io::Result<()> {
        let known = self.known_damage().unwrap_or_default();
        for range in known.into_iter().filter(|range| range.bytes() > 0) {
            let segment = self.list.iter().find(|segment| segment.base_offset == range.segment);
            if segment.is_some_and(|segment| segment.tip().size >= range.end_position)
                && let Some(segment) = segment
                && segment_recovery::is_still_damaged(segment, range)?
            {
                damage::add(&mut self.report.damaged, range);
            }
        }
        Ok(())
    }

    /// What earlier runs wrote down, where it can be read.
    fn known_damage(&self) -> Option<Vec<DamagedRange>> {
        let path = self.path(damage::FILE_NAME);
        damage::decode(&disk::read_file(self.disk(), &path, FILE_BYTES_MAX).ok()?)
    }

    fn open_segments(&mut self, bases: &[Offset]) -> io::Result<()> {
        let now_ms = self.context.clock.now_ms();
        let recovery_point = self.recovery_point(bases);
        for (number, &base) in bases.iter().enumerate() {
            let segment = Segment::open(self.context, &self.source.folder, base)?;
            let expected = Expectation {
                recovery_point,
                next_base: bases.get(number + 1).copied(),
                index_interval: self.source.config.index_interval_bytes,
                segment_ms: self.source.config.segment_ms,
            };
            let below = expected.next_base.is_some_and(|next| next <= expected.recovery_point);
            let written_down = self.source.positions.is_some();
            let believed = (self.source.clean || (below && written_down))
                && segment_recovery::resume_by_index(&segment, expected, now_ms)?;
            let mut cut = None;
            if !believed || !self.reaches(&segment, expected) {
                // Not closed between the reading and the fsync that proves it.
                let _open = segment.file.pin()?;
                let found = segment_recovery::scan(&segment, expected, now_ms)?;
                self.report.scanned_bytes += found.scanned;
                self.context.scanned.fetch_add(found.scanned, Ordering::Relaxed);
                self.report.damaged.extend(found.damage);
                cut = found.cut;
                if let Some(position) = cut {
                    self.cut = self.judge(&segment, &bases[number + 1..])?;
                    self.cut_file(&segment, position)?;
                }
                if let Err(error) = segment.file.give_back() {
                    let partition = &self.source.partition;
                    tracing::warn!(%partition, %error, "room on the disk not given back");
                }
                segment.sync(self.context, &self.source.folder)?;
                if expected.next_base.is_some()
                    && let Err(error) = segment.close_indexes()
                {
                    tracing::warn!(partition = %self.source.partition, %error, "indexes not written");
                }
            }
            self.list.push(Arc::new(segment));
            if cut.is_some() {
                return self.cut_later(&bases[number + 1..]);
            }
        }
        Ok(())
    }

    /// Whether the last segment has all that was flushed.
    fn reaches(&self, segment: &Segment, expected: Expectation) -> bool {
        expected.next_base.is_some() || segment.tip().end_offset >= expected.recovery_point
    }

    /// What is going to be cut off behind a segment's end.
    fn judge(&self, segment: &Segment, later: &[Offset]) -> io::Result<Cut> {
        let cut = opening::judge_cut(&*segment.file, segment.tip(), self.source.unsynced_lost)?;
        for &base in later {
            let path = self.path(&file_name(base, "log"));
            // A new segment is made where the one before ended.
            if base > segment.tip().end_offset
                || self.disk().open(&path, OpenMode::Existing)?.size()? > 0
            {
                return Ok(Cut::Records);
            }
        }
        Ok(cut)
    }

    /// Moves what lies behind `position` to the segment's `.cut` file.
    fn cut_file(&mut self, segment: &Segment, position: u64) -> io::Result<()> {
        let len = segment.file.size()?;
        if len <= position {
            return Ok(());
        }
        self.report.cut_bytes += len - position;
        let name = format!("{}.cut", file_name(segment.base_offset, "log"));
        let copied = copy_range(self.disk(), &*segment.file, position, len, &self.path(&name));
        match copied {
            Err(error) if disk::is_full(&error) => {
                tracing::warn!(
                    partition = %self.source.partition, bytes = len - position,
                    "the disk is full: bytes behind the log's end are dropped, not kept aside"
                );
                let _ = self.disk().remove_file(&self.path(&name));
            }
            copied => copied?,
        }
        segment.file.set_len(position)
    }

    /// Puts whole segments aside that follow the log's end.
    fn cut_later(&mut self, bases: &[Offset]) -> io::Result<()> {
        for &base in bases {
            let path = self.path(&file_name(base, "log"));
            self.report.cut_bytes += self.disk().open(&path, OpenMode::Existing)?.size()?;
            self.disk().rename(&path, &self.path(&format!("{}.cut", file_name(base, "log"))))?;
            for extension in ["index", "timeindex"] {
                match self.disk().remove_file(&self.path(&file_name(base, extension))) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        self.disk().sync_dir(&self.source.folder)
    }

    /// Puts positions, epochs and producers together.
    fn finish(&mut self, bases: &[Offset], epochs_known: bool) -> io::Result<LogParts> {
        if self.list.is_empty() {
            // Offsets that were once given away are not given away again.
            let base = self.recovery_point(bases);
            let segment = Segment::create(self.context, &self.source.folder, base)?;
            self.list.push(Arc::new(segment));
        }
        self.begin_behind_damage()?;
        let ends = self.list.first().zip(self.list.last());
        let (first, log_end) =
            ends.map_or((Offset::ZERO, Offset::ZERO), |(f, l)| (f.base_offset, l.tip().end_offset));
        // Records may be deleted up to the middle of a segment; only the checkpoint knows.
        let known_start = self.source.positions.map_or(first, |p| p.log_start);
        let log_start = known_start.clamp(first, log_end);
        self.settle_damage(first, log_end)?;
        let before = self.epochs.clone();
        self.epochs.cut_end(log_end);
        let from = if epochs_known { self.recovery_point(bases) } else { first };
        let (list, damaged, epochs) = (&self.list, &self.report.damaged, &mut self.epochs);
        if !self.source.clean || !epochs_known {
            // What began here and left no record may have given way to an older leader's batches.
            epochs.cut_end(from);
            replay::each_header(list, damaged, from, |header| {
                epochs.assign(header.leader_epoch, header.base_offset);
            })?;
        }
        self.epochs.cut_start(log_start);
        let mut producers = ProducerState::new(self.context.producers.clone());
        let folder = &self.source.folder;
        replay::load_producers(self.context, folder, list, damaged, log_end, &mut producers)?;
        let written_back = self.list.last().map_or(0, |last| last.tip().size);
        let set_aside = SetAside::default();
        let writer = Writer { producers, written_back, set_aside };
        Ok(LogParts {
            partition: self.source.partition.clone(),
            topic_id: self.source.topic_id,
            folder: self.source.folder.clone(),
            segments: Segments::new(std::mem::take(&mut self.list)),
            log_start,
            log_end,
            // What was scanned was synced, what was believed was flushed before.
            flushed: log_end,
            high_watermark: self.source.positions.map_or(log_start, |p| p.high_watermark),
            writer,
            epochs_unsaved: self.epochs != before,
            epochs: std::mem::take(&mut self.epochs),
            damage: self.report.damaged.clone(),
            opened_clean: self.source.clean && self.report.scanned_bytes == 0,
            opening: Opening {
                existed: self.source.existed && !bases.is_empty(),
                unsynced_lost: self.source.unsynced_lost,
                losses_untold: self.source.losses_untold,
                cut: self.cut,
                damaged_from: self.report.damaged.iter().map(|range| range.from).min(),
            },
        })
    }

    /// A log that ends with damage goes on in a new segment: inside one, batches follow each other
    /// without a gap, which is how the next start tells what is damaged.
    fn begin_behind_damage(&mut self) -> io::Result<()> {
        let Some(last) = self.list.last() else { return Ok(()) };
        let (segment, tip) = (last.base_offset, last.tip());
        let at_end =
            |range: &&DamagedRange| range.segment == segment && range.end_position == tip.size;
        let end = self.report.damaged.iter().filter(at_end).map(|range| range.to).max();
        let Some(end) = end.filter(|&end| end > segment) else { return Ok(()) };
        last.close_indexes()?;
        let next = Segment::create(self.context, &self.source.folder, end)?;
        next.sync(self.context, &self.source.folder)?;
        self.list.push(Arc::new(next));
        Ok(())
    }

    /// Keeps each damaged range of the log once, and writes the list down. `first` is where the
    /// first segment begins: damage below the log start is still in the way of who walks it.
    fn settle_damage(&mut self, first: Offset, log_end: Offset) -> io::Result<()> {
        let there = |range: &DamagedRange| range.to > first && range.from < log_end;
        let mut damaged = Vec::new();
        for range in std::mem::take(&mut self.report.damaged).into_iter().filter(there) {
            damage::add(&mut damaged, range);
        }
        let before = self.known_damage();
        if before.as_deref().unwrap_or_default() != damaged {
            let known = before.unwrap_or_default();
            for range in damaged.iter().filter(|range| !known.contains(range)) {
                damage::log(&self.source.partition, range);
            }
            let text = damage::encode(&damaged);
            replace_file(self.disk(), &self.path(damage::FILE_NAME), text.as_bytes())?;
        }
        self.report.damaged = damaged;
        Ok(())
    }
}

/// Copies bytes `[from, to)` of a file to a new one. Nothing but zeros is not worth a copy.
fn copy_range(
    disk: &dyn Disk,
    file: &dyn DiskFile,
    from: u64,
    to: u64,
    path: &Path,
) -> io::Result<()> {
    const BLOCK: u64 = 1 << 20;
    let mut copy = None;
    let mut at = from;
    while at < to {
        let mut block = vec![0; (to - at).min(BLOCK) as usize];
        let read = read_fully(file, &mut block, at)?;
        if read == 0 {
            break;
        }
        if copy.is_none() && block[..read].iter().any(|&byte| byte != 0) {
            copy = Some(disk.open(path, OpenMode::Truncate)?);
        }
        if let Some(copy) = &copy {
            write_fully(&**copy, &block[..read], at - from)?;
        }
        at += read as u64;
    }
    copy.map_or(Ok(()), |copy| copy.sync())
}
