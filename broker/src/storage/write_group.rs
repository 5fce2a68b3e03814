//! Batches on their way into the active segment: staged, written in one go, published or taken back.
//!
//! What leaders append (`append`) and what followers fetched (`append_fetched`) goes through here.
//! Bytes are not copied: a batch is its header, stamped or as it came, and the chunks behind it.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use proto::record::{BatchHeader, HEADER_LEN};

use super::config::{FlushPolicy, LogConfig};
use super::disk::{self, DiskFile};
use super::error::{AppendError, Offline};
use super::log::{Log, Writer};
use super::segment::{Segment, Tip};

/// A group is written when it has so many bytes: larger writes are slower.
const GROUP_BYTES: u64 = 256 * 1024;
/// Most bytes of one write: a group and the batch that filled it, without a small rest.
const WRITE_BYTES: usize = 512 * 1024;
/// Slices of one write (`IOV_MAX`).
const WRITE_SLICES: usize = 1024;
/// Write-back is started after this many bytes, to stay below the kernel's dirty limit.
const WRITE_BACK_BYTES: u64 = 8 << 20;

/// A part of a write.
enum Piece<'a> {
    /// A stamped header, by its number in the group.
    Header(usize),
    /// Bytes of a chunk.
    Bytes(&'a [u8]),
}

impl<'a> Piece<'a> {
    /// The bytes of a chunk; nothing for a header.
    fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Header(_) => &[],
        }
    }
}

/// Batches that are staged and not yet written.
struct Group<'a> {
    headers: Vec<[u8; HEADER_LEN]>,
    batches: Vec<(u64, BatchHeader)>,
    pieces: Vec<Piece<'a>>,
    /// Where the segment ended before the group, and will end after it.
    start: Tip,
    end: Tip,
}

impl Group<'_> {
    fn at(tip: Tip) -> Self {
        let (headers, batches, pieces) = (Vec::new(), Vec::new(), Vec::new());
        Self { headers, batches, pieces, start: tip, end: tip }
    }

    fn bytes(&self) -> u64 {
        self.end.size - self.start.size
    }
}

/// What becomes of a staged batch's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stamp {
    /// It is written as it came.
    AsItCame,
    /// Base offset and leader epoch were set, outside the checksum.
    Placed,
    /// What the checksum covers was changed, too.
    Changed,
}

/// One call's appends, under the writer lock.
pub(super) struct GroupWriter<'l, 'a> {
    pub(super) log: &'l Log,
    pub(super) writer: &'l mut Writer,
    pub(super) config: &'l LogConfig,
    /// The time of the call.
    pub(super) now_ms: i64,
    /// The active segment is as old as segments become.
    is_old: bool,
    group: Group<'a>,
    /// Why the partition must go offline.
    failure: Option<String>,
}

impl<'l, 'a> GroupWriter<'l, 'a> {
    /// At the log end, with nothing staged.
    pub(super) fn new(log: &'l Log, writer: &'l mut Writer, config: &'l LogConfig) -> Self {
        let active = log.segments.active();
        let tip = active.as_ref().map_or(Tip::ZERO, |active| active.tip());
        let now_ms = log.context.clock.now_ms();
        let is_old = active.is_some_and(|active| log.is_old(&active, config, now_ms));
        Self { log, writer, config, now_ms, is_old, group: Group::at(tip), failure: None }
    }

    /// Where the next batch goes.
    pub(super) fn end(&self) -> Tip {
        self.group.end
    }

    /// Whether what is staged is as much as one write takes.
    pub(super) fn is_full(&self) -> bool {
        self.group.bytes() >= GROUP_BYTES
    }

    /// Why the partition must go offline, if so.
    pub(super) fn into_failure(self) -> Option<String> {
        self.failure
    }

    /// Whether the log takes appends: it is online, and its disk has room for more than what is to
    /// stay free.
    pub(super) fn check_open(&self) -> Result<(), AppendError> {
        self.log.check_online()?;
        self.check_failure()?;
        let dir = &self.log.dir;
        if !dir.room.is_low() {
            return Ok(());
        }
        Err(AppendError::LowSpace {
            partition: self.log.partition.clone(),
            free: dir.room.space().free,
            mark: dir.room.mark(),
        })
    }

    pub(super) fn check_failure(&self) -> Result<(), Offline> {
        let partition = self.log.partition.clone();
        match &self.failure {
            Some(cause) => Err(Offline { partition, cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// Whether batches fit the active segment behind what is staged.
    pub(super) fn has_room(&self, headers: &[BatchHeader]) -> bool {
        let Some(active) = self.log.segments.active() else { return false };
        let bytes = headers.iter().map(|h| h.size_in_bytes() as u64).sum();
        let offsets = headers.iter().map(|h| i64::from(h.last_offset_delta) + 1).sum();
        !self.is_old && active.has_room(self.group.end, bytes, offsets, self.config.segment_bytes)
    }

    /// Goes on in a new segment. Nothing is staged.
    pub(super) fn roll(&mut self) -> Result<(), AppendError> {
        if let Err(error) = self.log.roll_locked(self.writer) {
            tracing::warn!(partition = %self.log.partition, %error, "cannot make a new segment");
            if let Some(passing) = AppendError::passing(&self.log.partition, &error) {
                return Err(passing);
            }
            self.failure = Some(format!("a new segment could not be made: {error}"));
            self.check_failure()?;
        }
        let tip = self.log.segments.active().map_or(Tip::ZERO, |active| active.tip());
        self.group = Group::at(tip);
        self.is_old = false;
        Ok(())
    }

    /// Queues a batch: the next in `chunks`, with `header` in place of its own. Notes about its
    /// producer are taken back if the write fails.
    pub(super) fn stage(
        &mut self,
        mut header: BatchHeader,
        stamp: Stamp,
        chunks: &mut ChunkCursor<'a>,
        window: u16,
    ) {
        let group = &mut self.group;
        let mut len = header.size_in_bytes();
        if stamp != Stamp::AsItCame {
            group.pieces.push(Piece::Header(group.headers.len()));
            chunks.skip(HEADER_LEN);
            len -= HEADER_LEN;
        }
        let from = group.pieces.len();
        chunks.take(len, |bytes| group.pieces.push(Piece::Bytes(bytes)));
        if stamp == Stamp::Changed {
            header.crc = header.compute_crc(group.pieces[from..].iter().map(Piece::bytes));
        }
        if stamp != Stamp::AsItCame {
            group.headers.push(header.encode());
        }
        self.writer.producers.push(&header, Some(window), self.now_ms);
        let position = group.end.size;
        group.end.end_offset = header.next_offset();
        group.end.size += header.size_in_bytes() as u64;
        group.batches.push((position, header));
    }

    /// Writes what is staged and publishes it, or takes all of it back.
    pub(super) fn commit(&mut self) -> Result<(), AppendError> {
        let next = Group::at(self.group.end);
        let group = std::mem::replace(&mut self.group, next);
        let Some(segment) = self.log.segments.active().filter(|_| group.bytes() > 0) else {
            return Ok(());
        };
        self.set_room_aside(&segment, &group);
        match write(&*segment.file, &group) {
            Ok(()) => {
                self.publish(&segment, &group);
                Ok(())
            }
            Err(error) => {
                self.writer.producers.rollback();
                self.group = Group::at(group.start);
                Err(self.write_failed(&segment, group.start, &error))
            }
        }
    }

    /// Not where each flush would have to note that the blocks have bytes now.
    fn set_room_aside(&mut self, segment: &Segment, group: &Group<'_>) {
        if self.config.flush == FlushPolicy::BeforeAck {
            return;
        }
        let range = (group.start.size, group.end.size);
        let room = &self.log.dir.room;
        self.writer.set_aside.look_ahead(segment, room, range, self.config.segment_bytes);
    }

    fn publish(&mut self, segment: &Arc<Segment>, group: &Group<'_>) {
        let (log, writer) = (self.log, &mut *self.writer);
        let mut records = 0;
        for (position, header) in &group.batches {
            segment.note(*position, header, self.config.index_interval_bytes);
            log.note_epoch(writer, header.leader_epoch, header.base_offset);
            records += u64::from(header.record_count.unsigned_abs());
        }
        segment.appended_at(self.now_ms);
        segment.publish(group.end);
        writer.producers.commit();
        log.producer_window.store(writer.producers.deepest_window(), Ordering::Relaxed);
        log.log_end.store(group.end.end_offset.0, Ordering::Release);
        log.appended_bytes.fetch_add(group.bytes(), Ordering::Relaxed);
        log.flush.count(records);
        if log.dir.room.appended(group.bytes()) {
            log.dir.look_for_room(&*log.context.disk);
        }
        if group.end.size - writer.written_back >= WRITE_BACK_BYTES {
            let (from, to) = (writer.written_back, group.end.size);
            let started = match self.config.flush {
                // Not behind, nor before, the flushes that producers wait for.
                FlushPolicy::BeforeAck => {
                    segment.file.start_write_back(from, to - from);
                    true
                }
                _ => log.dir.flusher.write_back(Arc::clone(segment), (from, to)),
            };
            if started {
                writer.written_back = to;
            }
        }
    }

    /// Cuts the file back to its last whole batch. A full disk, or no descriptor to open it with,
    /// passes; any other failure takes the partition offline.
    fn write_failed(&mut self, segment: &Segment, start: Tip, error: &io::Error) -> AppendError {
        let partition = &self.log.partition;
        tracing::warn!(%partition, %error, "append failed, cutting it back");
        // Not opened, so nothing was written: what is written to stays open until it is synced.
        let unopened = disk::is_out_of_files(error);
        let cut = if unopened { Ok(()) } else { segment.file.set_len(start.size) };
        let cause = match (cut, AppendError::passing(partition, error)) {
            (Ok(()), Some(passing)) => return passing,
            (Err(e), _) => format!("an append failed ({error}), and cutting it back ({e})"),
            (Ok(()), None) => format!("an append failed: {error}"),
        };
        self.failure = Some(cause.clone());
        Offline { partition: partition.clone(), cause }.into()
    }
}

/// Writes all pieces of a group at its start.
fn write(file: &dyn DiskFile, group: &Group<'_>) -> io::Result<()> {
    let mut position = group.start.size;
    let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(group.pieces.len().min(WRITE_SLICES));
    let mut pending = 0;
    for piece in &group.pieces {
        let mut bytes: &[u8] = match piece {
            Piece::Header(number) => &group.headers[*number],
            Piece::Bytes(bytes) => bytes,
        };
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(WRITE_BYTES - pending));
            slices.push(IoSlice::new(now));
            pending += now.len();
            bytes = later;
            if pending == WRITE_BYTES || slices.len() == WRITE_SLICES {
                write_slices(file, &mut slices, position)?;
                position += pending as u64;
                slices.clear();
                pending = 0;
            }
        }
    }
    write_slices(file, &mut slices, position)
}

fn write_slices(file: &dyn DiskFile, slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
    let mut position = position;
    let mut left = slices;
    while !left.is_empty() {
        match file.write_at(left, position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                position += written as u64;
                IoSlice::advance_slices(&mut left, written);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// A place in a chunk list.
pub(super) struct ChunkCursor<'a> {
    chunks: std::slice::Iter<'a, Bytes>,
    rest: &'a [u8],
}

impl<'a> ChunkCursor<'a> {
    pub(super) fn new(chunks: &'a [Bytes]) -> Self {
        Self { chunks: chunks.iter(), rest: &[] }
    }

    /// The next `len` bytes, in pieces.
    fn take(&mut self, mut len: usize, mut piece: impl FnMut(&'a [u8])) {
        while len > 0 {
            if self.rest.is_empty() {
                let Some(next) = self.chunks.next() else { return };
                self.rest = next;
                continue;
            }
            let (now, later) = self.rest.split_at(len.min(self.rest.len()));
            piece(now);
            len -= now.len();
            self.rest = later;
        }
    }

    pub(super) fn skip(&mut self, len: usize) {
        self.take(len, |_| {});
    }
}
