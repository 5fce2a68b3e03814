//! Reading: slices of whole batches, without copying where the bytes are mapped and in memory.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use bytes::Bytes;
use proto::Offset;

use super::damage::{self, DamagedRange};
use super::disk;
use super::error::ReadError;
use super::header_walk::{HeaderWalk, WalkError};
use super::log::Log;
use super::maps::Mapped;
use super::open_files::Handle;
use super::segment::{Segment, Tip};
use super::segments::position_of;
use super::wait::Wait;

/// Shorter slices are copied: HTTP/2 copies them anyway.
const COPY_BELOW: u64 = 4096;

/// A place to go on reading: an offset, and where it is if that is known. Cheap to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    offset: Offset,
    /// The segment the position is meant in; 0 is none.
    generation: u64,
    position: u64,
}

impl Cursor {
    /// At an offset whose place is yet to be looked up.
    pub fn at(offset: Offset) -> Self {
        Self { offset, generation: 0, position: 0 }
    }

    /// The next offset to be read.
    pub fn offset(&self) -> Offset {
        self.offset
    }
}

/// How much to read.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// At most this many bytes.
    pub max_bytes: usize,
    /// Only batches that end at or before this offset (exclusive): high watermark, flushed, or log
    /// end, whatever the reader may see.
    pub upto: Offset,
    /// The first batch is given whole, also when it is larger than `max_bytes`.
    pub first_batch_whole: bool,
}

/// Whole batches that follow each other in one segment. The first one contains the offset asked
/// for; records before it are the reader's to drop.
#[derive(Debug, Clone)]
pub struct ReadSlice {
    bytes: Bytes,
    mapped: bool,
    next: Cursor,
    segment: Option<(Arc<Segment>, u64)>,
}

impl ReadSlice {
    fn empty(at: Cursor) -> Self {
        Self { bytes: Bytes::new(), mapped: false, next: at, segment: None }
    }

    /// How many bytes; 0 when there is nothing to read yet, or `max_bytes` was too few.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The batches.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The batches.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Whether the bytes are the page cache itself. They were all in memory a moment ago.
    pub fn is_mapped(&self) -> bool {
        self.mapped
    }

    /// Where to go on.
    pub fn next(&self) -> Cursor {
        self.next
    }

    /// The offset after the last batch.
    pub fn next_offset(&self) -> Offset {
        self.next.offset
    }

    /// The file and the position of the bytes, for `sendfile`. Opens the file where it was closed,
    /// so it may wait for the disk; `None` where it is gone, or not the machine's.
    pub fn file_range(&self) -> Option<FileRange> {
        let (segment, position) = self.segment.as_ref()?;
        let handle = segment.file.pin().ok()?;
        handle.file.fd()?;
        Some(FileRange { handle, position: *position })
    }
}

/// A place in an open file, which stays open while this lives.
pub struct FileRange {
    handle: Arc<Handle>,
    position: u64,
}

impl FileRange {
    /// The descriptor.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.handle.file.fd()
    }

    /// Where the bytes begin.
    pub fn position(&self) -> u64 {
        self.position
    }
}

/// What stopped a step of a read.
enum Stop {
    /// The segment was replaced: look it up again.
    Retired,
    Walk(WalkError),
}

impl From<WalkError> for Stop {
    fn from(error: WalkError) -> Self {
        Self::Walk(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Walk(error.into())
    }
}

impl Log {
    /// Reads batches from a cursor on. Nobody waits for the writer; with [`Wait::Never`] nobody
    /// waits for the disk either.
    pub fn read(
        &self,
        from: Cursor,
        limits: ReadLimits,
        wait: Wait,
    ) -> Result<ReadSlice, ReadError> {
        self.read_copying(from, limits, wait, COPY_BELOW)
    }

    /// The same into memory of the process, whatever its length: for who looks at the bytes itself,
    /// which nobody may do where they are mapped. Waits for the disk.
    pub fn read_copied(&self, from: Cursor, limits: ReadLimits) -> Result<ReadSlice, ReadError> {
        self.read_copying(from, limits, Wait::Allowed, u64::MAX)
    }

    /// [`Log::read`] where slices below `copy_below` are copied.
    pub fn read_copying(
        &self,
        from: Cursor,
        limits: ReadLimits,
        wait: Wait,
        copy_below: u64,
    ) -> Result<ReadSlice, ReadError> {
        self.check_online()?;
        loop {
            let (log_start, log_end) = (self.log_start(), self.log_end());
            let offset = from.offset;
            if offset < log_start || offset > log_end {
                return Err(ReadError::OutOfRange { offset, log_start, log_end });
            }
            let upto = limits.upto.min(log_end);
            if offset >= upto {
                return Ok(ReadSlice::empty(from));
            }
            let damage = self.damage.load();
            if let Some(range) = damage.iter().find(|range| range.contains(offset)) {
                return Err(ReadError::Damaged { from: range.from, to: range.to });
            }
            let Some(segment) = self.segment_of(offset) else { return Ok(ReadSlice::empty(from)) };
            let limits = ReadLimits { upto, ..limits };
            match self.read_segment(&segment, from, limits, &damage, (wait, copy_below)) {
                Ok(slice) => return Ok(slice),
                Err(Stop::Retired) => {}
                // Cut under the reader's feet by a truncation: nothing wrong with the disk.
                Err(Stop::Walk(_)) if segment.is_retired() => {}
                Err(Stop::Walk(WalkError::Io(error))) => return Err(self.read_failed(&error)),
                // Takes reading a good part of the segment, so a caller that waits.
                Err(Stop::Walk(WalkError::Bad { .. })) if wait == Wait::Never => {
                    return Err(ReadError::WouldBlock);
                }
                Err(Stop::Walk(WalkError::Bad { position, .. })) => {
                    self.discover(&segment, position)?;
                }
            }
        }
    }

    /// The segment that has `offset`, or the first after it (where a hole is known as damage).
    pub(super) fn segment_of(&self, offset: Offset) -> Option<Arc<Segment>> {
        let list = self.segments.load();
        let at = position_of(&list, offset);
        let segment = list.get(at)?;
        if offset < segment.tip().end_offset {
            Some(segment.clone())
        } else {
            list.get(at + 1).cloned()
        }
    }

    fn read_segment(
        &self,
        segment: &Arc<Segment>,
        from: Cursor,
        limits: ReadLimits,
        damage: &[DamagedRange],
        (wait, copy_below): (Wait, u64),
    ) -> Result<ReadSlice, Stop> {
        let tip = segment.tip();
        let skip = |position| damage::skip(damage, segment.base_offset, position);
        let mut start = if from.generation == segment.generation && from.position <= tip.size {
            Tip { end_offset: from.offset, size: from.position }
        } else {
            segment.locate(from.offset, tip, &skip, wait)?
        };
        // Foreign bytes between two batches: no offset is missing, so nobody need be told.
        while let Some(end) = skip(start.size).filter(|end| end.end_offset == start.end_offset) {
            start = end;
        }
        let mut limit = match limits.upto >= tip.end_offset {
            true => tip,
            false => segment.locate(limits.upto, tip, &skip, wait)?,
        };
        let ahead = damage.iter().filter(|r| {
            let within = start.end_offset <= r.from && r.from < limit.end_offset;
            r.segment == segment.base_offset && within && start.size <= r.position
        });
        if let Some(range) = ahead.min_by_key(|range| (range.from, range.position)) {
            limit = Tip { end_offset: range.from, size: range.position };
        }
        let end = slice_end(segment, start, limit, limits, wait)?;
        if end.size <= start.size {
            return Ok(ReadSlice::empty(from));
        }
        let (bytes, mapped) = self.bytes_of(segment, start.size, end.size, (wait, copy_below))?;
        let next =
            Cursor { offset: end.end_offset, generation: segment.generation, position: end.size };
        Ok(ReadSlice { bytes, mapped, next, segment: Some((segment.clone(), start.size)) })
    }

    /// Bytes `[start, end)` of the segment's file, and whether they are mapped.
    fn bytes_of(
        &self,
        segment: &Segment,
        start: u64,
        end: u64,
        (wait, copy_below): (Wait, u64),
    ) -> Result<(Bytes, bool), Stop> {
        let len = (end - start) as usize;
        if end - start >= copy_below {
            if !segment.hand_out(end) {
                return Err(Stop::Retired);
            }
            let room = u64::from(self.config.load().segment_bytes);
            let now = self.context.clock.elapsed();
            match segment.maps.slice(&*segment.file, start, len, room, now, wait) {
                Mapped::Slice(bytes) => return Ok((bytes, true)),
                Mapped::Cold if wait == Wait::Never => {
                    return Err(io::Error::from(io::ErrorKind::WouldBlock).into());
                }
                Mapped::Cold | Mapped::Unavailable => {}
            }
        }
        let mut buffer = vec![0; len];
        if wait.read(&*segment.file, &mut buffer, start)? < len {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok((buffer.into(), false))
    }

    /// An error of the disk takes its whole directory offline: it cannot be trusted any more.
    pub(super) fn read_failed(&self, error: &io::Error) -> ReadError {
        if error.kind() == io::ErrorKind::WouldBlock {
            return ReadError::WouldBlock;
        }
        if disk::is_out_of_files(error) {
            tracing::error!(partition = %self.partition, %error, "cannot open a segment");
            return ReadError::OutOfFiles { partition: self.partition.clone() };
        }
        if let Some(offline) = self.offline.get() {
            // Its folder may have been renamed under the reader's feet.
            return offline.clone().into();
        }
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.fail(&format!("a segment file is shorter than it was: {error}")).into();
        }
        self.dir.fail(&format!("reading failed: {error}"));
        self.fail(&format!("reading failed: {error}")).into()
    }
}

/// Where a slice from `start` ends: a batch boundary at most `max_bytes` on, found by the index, or
/// by stepping over headers where the index has no entry between.
fn slice_end(
    segment: &Segment,
    start: Tip,
    limit: Tip,
    limits: ReadLimits,
    wait: Wait,
) -> Result<Tip, WalkError> {
    let target = start.size.saturating_add(limits.max_bytes as u64);
    if limit.size <= target {
        return Ok(limit);
    }
    if let Some(entry) = segment.index.floor_position(target, wait)?
        && (start.size + 1..=target).contains(&entry.position)
    {
        let mut walk = HeaderWalk::new(&*segment.file, entry.position, limit, wait);
        // An index that does not fit the log is not believed.
        match walk.peek() {
            Ok(Some((size, header))) if header.last_offset() == entry.last_offset => {
                return Ok(Tip { end_offset: header.base_offset, size });
            }
            Err(WalkError::Io(error)) => return Err(error.into()),
            _ => {}
        }
    }
    let mut end = start;
    let walk = HeaderWalk::new(&*segment.file, start.size, limit, wait);
    let mut walk = walk.expecting(start.end_offset);
    loop {
        let (position, header) = match walk.step() {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            // What is good before a bad batch is given; the next read meets the bad one itself.
            Err(WalkError::Bad { .. }) if end.size > start.size => break,
            Err(error) => return Err(error),
        };
        let after = position + header.size_in_bytes() as u64;
        let first = position == start.size;
        if after > target && !(first && limits.first_batch_whole) {
            break;
        }
        end = Tip { end_offset: header.next_offset(), size: after };
    }
    Ok(end)
}
