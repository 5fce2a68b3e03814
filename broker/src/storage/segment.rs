//! One segment of a log: a `.log` file of whole batches, with its offset and time index.
//!
//! Knows places and offsets inside its file; knows nothing of other segments, of producers, of
//! flush policies, and never of what records say.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use proto::Offset;
use proto::record::BatchHeader;

use super::context::Context;
use super::disk::{DiskFile, OpenMode};
use super::header_walk::{HeaderWalk, WalkError};
use super::maps::SegmentMaps;
use super::offset_index::{IndexEntry, OffsetIndex};
use super::open_files::Handle;
use super::pooled_file::{PooledFile, Role};
use super::time_index::{TimeEntry, TimeIndex};
use super::wait::Wait;

/// Numbers segments in the order they were opened, so that a cursor into a replaced one is known.
static GENERATIONS: AtomicU64 = AtomicU64::new(1);

/// No log comes to a higher base offset: offsets of a segment are relative in 32 bits.
const BASE_MAX: i64 = i64::MAX - (1 << 33);

/// The name of a file of the segment with that base offset.
pub(super) fn file_name(base_offset: Offset, extension: &str) -> String {
    format!("{:020}.{extension}", base_offset.0)
}

/// The base offset in a file's name, and its extension.
pub(super) fn parse_file_name(name: &str) -> Option<(Offset, &str)> {
    let (stem, extension) = name.split_once('.')?;
    let digits = stem.len() == 20 && stem.bytes().all(|b| b.is_ascii_digit());
    let base_offset: i64 = stem.parse().ok().filter(|_| digits)?;
    if base_offset > BASE_MAX {
        return None;
    }
    Some((Offset(base_offset), extension))
}

/// Where a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tip {
    /// The offset after the last batch.
    pub(super) end_offset: Offset,
    /// Bytes of whole batches: where the next one goes.
    pub(super) size: u64,
}

impl Tip {
    /// Of a log that has nothing.
    pub(super) const ZERO: Self = Self { end_offset: Offset::ZERO, size: 0 };
}

/// A segment. One writer (the holder of the log's writer lock), any number of readers.
///
/// - `base_offset <= tip.end_offset`, `tip.size <=` length of the file; bytes below `tip.size` are
///   whole batches (damaged ranges aside) and never change.
/// - A slice of a map ends at or below `handed_out`; the file is never cut below `handed_out`.
///   Whoever wants to cut sets `retired` first and reads `handed_out` then; a reader raises
///   `handed_out` first and reads `retired` then (both sequentially consistent), so one sees the
///   other.
pub(super) struct Segment {
    pub(super) base_offset: Offset,
    pub(super) generation: u64,
    pub(super) file: Arc<PooledFile>,
    pub(super) index: OffsetIndex,
    pub(super) times: TimeIndex,
    pub(super) maps: SegmentMaps,
    /// Offset after the last batch less the base offset, and the size: one word, so that a reader
    /// sees the two of the same moment.
    tip: AtomicU64,
    marks: Mutex<Marks>,
    handed_out: AtomicU64,
    retired: AtomicBool,
    /// Whether the file's name is known to be durable (a killed process may have left one that is
    /// not, so opening proves nothing).
    name_synced: AtomicBool,
    /// When the first batch was appended, by the clock; `i64::MAX` while empty.
    first_append_ms: AtomicI64,
    /// When the last batch was appended, by the clock; `i64::MAX` where nobody said.
    last_append_ms: AtomicI64,
}

/// What the writer carries from batch to batch.
#[derive(Debug, Clone, Copy)]
struct Marks {
    /// The record with the largest timestamp.
    newest: Option<TimeEntry>,
    /// The timestamp of the last time index entry.
    last_time_entry: Option<i64>,
    /// Log bytes since the last index entry.
    since_index: u64,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("base_offset", &self.base_offset)
            .field("tip", &self.tip())
            .finish_non_exhaustive()
    }
}

impl Segment {
    /// Makes an empty segment. On an error no file of it stays.
    pub(super) fn create(
        context: &Context,
        folder: &Path,
        base_offset: Offset,
    ) -> io::Result<Self> {
        let segment = Self::open_files(context, folder, base_offset, OpenMode::Truncate);
        if segment.is_err() {
            for extension in ["log", "index", "timeindex"] {
                let _ = context.disk.remove_file(&folder.join(file_name(base_offset, extension)));
            }
        }
        segment
    }

    /// Makes an empty segment whose files' names end in `suffix`: they are renamed under it when it
    /// takes its place. On an error no file of it stays.
    pub(super) fn create_as(
        context: &Context,
        folder: &Path,
        base_offset: Offset,
        suffix: &str,
    ) -> io::Result<Self> {
        let segment = Self::open_names(context, folder, base_offset, suffix, OpenMode::Truncate);
        if segment.is_err() {
            for extension in ["log", "index", "timeindex"] {
                let name = format!("{}{suffix}", file_name(base_offset, extension));
                let _ = context.disk.remove_file(&folder.join(name));
            }
        }
        segment
    }

    /// Opens the files; the tip is still at the beginning (see [`Segment::resume`]).
    pub(super) fn open(context: &Context, folder: &Path, base_offset: Offset) -> io::Result<Self> {
        Self::open_files(context, folder, base_offset, OpenMode::Create)
    }

    fn open_files(
        context: &Context,
        folder: &Path,
        base_offset: Offset,
        mode: OpenMode,
    ) -> io::Result<Self> {
        Self::open_names(context, folder, base_offset, "", mode)
    }

    fn open_names(
        context: &Context,
        folder: &Path,
        base_offset: Offset,
        suffix: &str,
        mode: OpenMode,
    ) -> io::Result<Self> {
        let open = |extension, role| {
            let name = format!("{}{suffix}", file_name(base_offset, extension));
            context.files.file(&folder.join(name), mode, role)
        };
        let file = open("log", Role::Log)?;
        let index = OffsetIndex::open(open("index", Role::Index)?, base_offset)?;
        let times = TimeIndex::open(open("timeindex", Role::Index)?, base_offset)?;
        Ok(Self {
            base_offset,
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
            file,
            index,
            times,
            maps: SegmentMaps::new(context.maps.clone()),
            tip: AtomicU64::new(0),
            marks: Mutex::new(Marks { newest: None, last_time_entry: None, since_index: 0 }),
            handed_out: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            name_synced: AtomicBool::new(false),
            first_append_ms: AtomicI64::new(i64::MAX),
            last_append_ms: AtomicI64::new(i64::MAX),
        })
    }

    /// The paths of a segment's files, of what recovery put aside too.
    pub(super) fn paths(folder: &Path, base_offset: Offset) -> [PathBuf; 6] {
        ["log", "index", "timeindex", "snapshot", "window", "log.cut"]
            .map(|extension| folder.join(file_name(base_offset, extension)))
    }

    /// Where it ends, for readers: a consistent pair.
    pub(super) fn tip(&self) -> Tip {
        let word = self.tip.load(Ordering::Acquire);
        Tip {
            end_offset: self.base_offset.plus((word >> 32) as i64),
            size: word & u64::from(u32::MAX),
        }
    }

    /// Whether a batch of these bounds may be appended without leaving the 32 bits of the indexes.
    pub(super) fn has_room(&self, tip: Tip, bytes: u64, records: i64, segment_bytes: u32) -> bool {
        // Only an empty segment takes what is larger than a segment.
        let relative_end = tip.end_offset.0 + records - self.base_offset.0;
        relative_end <= i64::from(i32::MAX)
            && (tip.size == 0 || tip.size + bytes <= u64::from(segment_bytes))
            && tip.size + bytes <= u64::from(u32::MAX)
    }

    /// Takes note of a batch that was written at `position`; readers see it after
    /// [`Segment::publish`].
    pub(super) fn note(&self, position: u64, header: &BatchHeader, index_interval: u32) {
        let mut marks = self.marks.lock();
        let last_offset = header.last_offset();
        // An empty batch, left by compaction, has no record to be found by its time.
        let timed = header.record_count > 0;
        if timed && marks.newest.is_none_or(|newest| header.max_timestamp > newest.timestamp) {
            marks.newest = Some(TimeEntry { timestamp: header.max_timestamp, offset: last_offset });
        }
        if marks.since_index > u64::from(index_interval) {
            self.index.push(IndexEntry { last_offset, position });
            self.push_time(&mut marks);
            marks.since_index = 0;
        }
        marks.since_index += header.size_in_bytes() as u64;
    }

    fn push_time(&self, marks: &mut Marks) {
        let Some(newest) = marks.newest else { return };
        if marks.last_time_entry.is_none_or(|last| newest.timestamp > last) {
            self.times.push(newest);
            marks.last_time_entry = Some(newest.timestamp);
        }
    }

    /// Makes all up to `tip` readable.
    pub(super) fn publish(&self, tip: Tip) {
        let relative = u32::try_from(tip.end_offset.0 - self.base_offset.0);
        let size = u32::try_from(tip.size);
        debug_assert!(relative.is_ok() && size.is_ok(), "{tip:?} of {self:?}");
        let word = u64::from(relative.unwrap_or(u32::MAX)) << 32 | u64::from(size.unwrap_or(0));
        self.tip.store(word, Ordering::Release);
    }

    /// Restores what an opened segment knew: where it ends, and its newest record.
    pub(super) fn resume(&self, tip: Tip, newest: Option<TimeEntry>, first_append_ms: i64) {
        let last_time_entry = self.times.last().ok().flatten().map(|entry| entry.timestamp);
        let indexed = self.index.last().ok().flatten().map_or(0, |entry| entry.position);
        let since_index = tip.size.saturating_sub(indexed);
        *self.marks.lock() = Marks { newest, last_time_entry, since_index };
        if tip.size > 0 {
            self.first_append_ms.store(first_append_ms, Ordering::Relaxed);
        }
        self.publish(tip);
    }

    /// The record with the largest timestamp.
    pub(super) fn newest(&self) -> Option<TimeEntry> {
        self.marks.lock().newest
    }

    /// When the first batch came; `None` while empty.
    pub(super) fn first_append_ms(&self) -> Option<i64> {
        Some(self.first_append_ms.load(Ordering::Relaxed)).filter(|&ms| ms != i64::MAX)
    }

    /// When the last batch came, by the broker's clock; after a restart, when the file was last
    /// written. `None` where that is not known.
    pub(super) fn last_append_ms(&self) -> Option<i64> {
        Some(self.last_append_ms.load(Ordering::Relaxed)).filter(|&ms| ms != i64::MAX)
    }

    /// Remembers that batches came.
    pub(super) fn appended_at(&self, now_ms: i64) {
        if self.first_append_ms.load(Ordering::Relaxed) == i64::MAX {
            self.first_append_ms.store(now_ms, Ordering::Relaxed);
        }
        self.last_append_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Restores when batches came, of an opened segment that has some.
    pub(super) fn set_append_times(&self, first_ms: i64, last_ms: i64) {
        self.first_append_ms.store(first_ms, Ordering::Relaxed);
        self.last_append_ms.store(last_ms, Ordering::Relaxed);
    }

    /// The first batch whose last offset is at or above `offset`, below `tip`; `tip` itself when
    /// there is none. Steps over damaged places (`skip` maps the begin of one to its end).
    pub(super) fn locate(
        &self,
        offset: Offset,
        tip: Tip,
        skip: &dyn Fn(u64) -> Option<Tip>,
        wait: Wait,
    ) -> Result<Tip, WalkError> {
        if offset >= tip.end_offset {
            return Ok(tip);
        }
        // Entries of an index that is not in order may be of any place.
        let entry = self.index.floor_offset(Offset(offset.0 - 1), wait)?;
        let entry = entry.filter(|entry| entry.last_offset < offset);
        let (mut walk, mut position) = self.walk_at(entry, tip, wait)?;
        loop {
            if let Some(end) = skip(position) {
                walk.jump(end);
            }
            match walk.step()? {
                None => return Ok(tip),
                Some((position, header)) if header.last_offset() >= offset => {
                    return Ok(Tip { end_offset: header.base_offset, size: position });
                }
                Some((at, header)) => position = at + header.size_in_bytes() as u64,
            }
        }
    }

    /// The batch that an entry of the time index means; `None` where the entry does not fit the log.
    pub(super) fn time_entry_at(
        &self,
        entry: TimeEntry,
        tip: Tip,
        skip: &dyn Fn(u64) -> Option<Tip>,
    ) -> Result<Option<Tip>, WalkError> {
        let at = self.locate(entry.offset, tip, skip, Wait::Allowed)?;
        let header = HeaderWalk::new(&*self.file, at.size, tip, Wait::Allowed).peek()?;
        let fits = |header: &BatchHeader| {
            header.base_offset <= entry.offset
                && entry.offset <= header.last_offset()
                && header.max_timestamp == entry.timestamp
        };
        Ok(header.filter(|(_, header)| fits(header)).map(|_| at))
    }

    /// A walk that begins at the batch of an index entry, and its position; at the segment's
    /// beginning without an entry, or where the entry does not fit the log.
    pub(super) fn walk_at(
        &self,
        entry: Option<IndexEntry>,
        tip: Tip,
        wait: Wait,
    ) -> Result<(HeaderWalk<'_>, u64), WalkError> {
        if let Some(entry) = entry {
            let mut walk = HeaderWalk::new(&*self.file, entry.position, tip, wait);
            match walk.peek() {
                Ok(Some((position, header))) if header.last_offset() == entry.last_offset => {
                    return Ok((walk, position));
                }
                Err(WalkError::Io(error)) => return Err(error.into()),
                _ => {}
            }
        }
        let walk = HeaderWalk::new(&*self.file, 0, tip, wait);
        Ok((walk.expecting(self.base_offset), 0))
    }

    /// Raises the mark below which the file may not be cut. False when the segment was retired
    /// meanwhile: take no slice, look up the segment again.
    pub(super) fn hand_out(&self, end: u64) -> bool {
        self.handed_out.fetch_max(end, Ordering::SeqCst);
        !self.retired.load(Ordering::SeqCst)
    }

    /// Whether it was replaced or deleted.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// Keeps its files open as long as the handles live, so that their names may change.
    pub(super) fn pin(&self) -> io::Result<[Arc<Handle>; 3]> {
        Ok([self.file.pin()?, self.index.file().pin()?, self.times.file().pin()?])
    }

    /// Its files have their ordinary names now. They have been pinned since before the change.
    pub(super) fn renamed(&self, folder: &Path) {
        let path = |extension| folder.join(file_name(self.base_offset, extension));
        self.file.renamed(&path("log"));
        self.index.file().renamed(&path("index"));
        self.times.file().renamed(&path("timeindex"));
    }

    /// Stops readers from taking more slices, and says up to where they took some. Its files are
    /// not opened any more; who still needs one pins it first. Comes before a file's name goes or
    /// becomes another file's.
    pub(super) fn retire(&self) -> u64 {
        self.retired.store(true, Ordering::SeqCst);
        self.file.retire();
        self.index.retire();
        self.times.retire();
        self.handed_out.load(Ordering::SeqCst)
    }

    /// Makes the log file durable, and its name when that is new.
    pub(super) fn sync(&self, context: &Context, folder: &Path) -> io::Result<()> {
        self.file.sync()?;
        if !self.name_synced.load(Ordering::Relaxed) {
            context.disk.sync_dir(folder)?;
            self.name_synced.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Closes the indexes of a segment that gets no more batches.
    pub(super) fn close_indexes(&self) -> io::Result<()> {
        self.push_time(&mut self.marks.lock());
        self.index.sync()?;
        self.times.sync()
    }
}
