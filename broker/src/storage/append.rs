//! Appending: sequences checked, offsets assigned, headers stamped, bytes written, in that order.
//!
//! Requests of one call are coalesced to writes of up to 256 KiB. The bytes are not copied: each
//! batch is its 61-byte header, copied and stamped, followed by the chunks as they came.

use std::io::{self, IoSlice};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use proto::record::{BatchHeader, HEADER_LEN, TimestampType};
use proto::{LeaderEpoch, Offset};

use super::config::LogConfig;
use super::disk::{self, DiskFile};
use super::error::{AppendError, Offline, SequenceError};
use super::log::{Log, Writer};
use super::producer_state::{ProducerState, Verdict};
use super::segment::{Segment, Tip};

/// Bytes of one write; larger ones are slower.
const WRITE_BYTES: usize = 256 * 1024;
/// Slices of one write (`IOV_MAX`).
const WRITE_SLICES: usize = 1024;
/// Write-back is started after this many bytes, to stay below the kernel's dirty limit.
const WRITE_BACK_BYTES: u64 = 8 << 20;

/// What one client wants appended: whole batches, appended together or not at all.
#[derive(Debug, Clone, Copy)]
pub struct AppendRequest<'a> {
    /// The batches' bytes, as they came.
    pub chunks: &'a [Bytes],
    /// Their headers, with CRCs checked (`proto::record::check_chunks`).
    pub headers: &'a [BatchHeader],
    /// The epoch of the leader that appends.
    pub leader_epoch: LeaderEpoch,
    /// How many batches the producer keeps in flight; 0 is Kafka's five.
    pub window: u16,
}

/// Where a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record (inclusive); flush to the one after it before acknowledging with
    /// `before-ack`, for a duplicate too.
    pub last_offset: Offset,
    /// Whether it had been appended before.
    pub duplicate: bool,
    /// The time stamped on the batches, where the topic wants the broker's.
    pub log_append_time: Option<i64>,
}

/// A part of a write.
enum Piece<'a> {
    /// A stamped header, by its number in the group.
    Header(usize),
    /// Bytes of a chunk.
    Bytes(&'a [u8]),
}

/// Requests that are staged and not yet written.
struct Group<'a> {
    headers: Vec<[u8; HEADER_LEN]>,
    batches: Vec<(u64, BatchHeader)>,
    pieces: Vec<Piece<'a>>,
    /// Numbers of the requests whose results depend on the write.
    requests: Vec<usize>,
    /// Where the segment ended before the group, and will end after it.
    start: Tip,
    end: Tip,
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

impl Group<'_> {
    fn at(tip: Tip) -> Self {
        Self {
            headers: Vec::new(),
            batches: Vec::new(),
            pieces: Vec::new(),
            requests: Vec::new(),
            start: tip,
            end: tip,
        }
    }

    fn bytes(&self) -> u64 {
        self.end.size - self.start.size
    }
}

type AppendResult = Result<Appended, AppendError>;

impl Log {
    /// Appends requests in order and returns a result for each, in order. A request that fails
    /// does not keep later ones from being tried (their producers' sequences do).
    ///
    /// After return, successful requests are in the page cache and readable; the flush policy and
    /// [`Log::flush_to`] decide about stable storage. Calls exclude each other.
    pub fn append(&self, requests: &[AppendRequest<'_>]) -> Vec<AppendResult> {
        let mut writer = self.writer.lock();
        let tip = self.segments.active().map_or(Tip::ZERO, |active| active.tip());
        let mut appending = Appending {
            log: self,
            writer: &mut writer,
            config: &self.config.load_full(),
            group: Group::at(tip),
            results: Vec::with_capacity(requests.len()),
            failure: None,
        };
        for request in requests {
            let result = appending.take(request);
            appending.results.push(result);
            if appending.group.bytes() >= WRITE_BYTES as u64 {
                appending.commit();
            }
        }
        appending.commit();
        let Appending { results, failure, .. } = appending;
        let new_epoch = writer.epochs_dirty;
        drop(writer);
        if new_epoch {
            // Tried again with the next checkpoint when it fails.
            let _ = self.save_epochs();
        }
        if let Some(cause) = failure {
            self.fail(&cause);
        } else if results.iter().any(|result| result.as_ref().is_ok_and(|a| !a.duplicate)) {
            self.dir.flusher.appended(self);
            let log_end = self.log_end();
            self.tell(|listener| listener.log_end_advanced(log_end));
        }
        results
    }
}

/// One call of [`Log::append`], under the writer lock.
struct Appending<'l, 'a> {
    log: &'l Log,
    writer: &'l mut Writer,
    config: &'l LogConfig,
    group: Group<'a>,
    /// Of the requests taken so far; those of the group may yet turn into errors.
    results: Vec<AppendResult>,
    /// Why the partition must go offline.
    failure: Option<String>,
}

impl<'a> Appending<'_, 'a> {
    fn take(&mut self, request: &AppendRequest<'a>) -> AppendResult {
        self.check(request)?;
        if !self.has_room(request) {
            self.commit();
            self.check_failure()?;
            self.roll()?;
        }
        if let Some(duplicate) = check_sequences(&self.writer.producers, request.headers)? {
            // It may be a duplicate of a batch in the group, and share its fate.
            self.group.requests.push(self.results.len());
            return Ok(duplicate);
        }
        Ok(self.stage(request))
    }

    /// Checks what needs no state but the settings.
    fn check(&self, request: &AppendRequest<'_>) -> Result<(), AppendError> {
        self.log.check_online()?;
        self.check_failure()?;
        let bytes = request.chunks.iter().map(Bytes::len).sum();
        let described = request.headers.iter().map(BatchHeader::size_in_bytes).sum();
        if bytes != described || request.headers.is_empty() {
            return Err(AppendError::LengthMismatch { bytes, described });
        }
        for header in request.headers {
            let (size, limit) = (header.size_in_bytes(), self.config.max_message_bytes);
            if size > limit as usize {
                return Err(AppendError::BatchTooLarge { size, limit });
            }
            header.check_produced()?;
        }
        self.check_room()
    }

    /// Whether the disk has room for more than what is to stay free.
    fn check_room(&self) -> Result<(), AppendError> {
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

    fn check_failure(&self) -> Result<(), Offline> {
        let partition = self.log.partition.clone();
        match &self.failure {
            Some(cause) => Err(Offline { partition, cause: cause.clone() }),
            None => Ok(()),
        }
    }

    fn has_room(&self, request: &AppendRequest<'_>) -> bool {
        let Some(active) = self.log.segments.active() else { return false };
        let old = self.log.is_old(&active, self.config, self.log.context.clock.now_ms());
        let bytes = request.headers.iter().map(|h| h.size_in_bytes() as u64).sum();
        let records = request.headers.iter().map(|h| i64::from(h.record_count)).sum();
        !old && active.has_room(self.group.end, bytes, records, self.config.segment_bytes)
    }

    /// Goes on in a new segment. The group is empty.
    fn roll(&mut self) -> Result<(), AppendError> {
        if let Err(error) = self.log.roll_locked(self.writer) {
            tracing::warn!(partition = %self.log.partition, %error, "cannot make a new segment");
            if disk::is_out_of_files(&error) {
                return Err(AppendError::OutOfFiles { partition: self.log.partition.clone() });
            }
            if !disk::is_full(&error) {
                self.failure = Some(format!("a new segment could not be made: {error}"));
                self.check_failure()?;
            }
            return Err(AppendError::DiskFull { partition: self.log.partition.clone() });
        }
        let tip = self.log.segments.active().map_or(Tip::ZERO, |active| active.tip());
        self.group = Group::at(tip);
        Ok(())
    }

    /// Assigns offsets and queues the bytes; its notes are taken back if the write fails.
    fn stage(&mut self, request: &AppendRequest<'a>) -> Appended {
        let now_ms = self.log.context.clock.now_ms();
        let wanted = self.config.message_timestamp_type;
        let stamp_time = wanted == TimestampType::LogAppendTime;
        let group = &mut self.group;
        let base_offset = group.end.end_offset;
        let mut chunks = ChunkCursor::new(request.chunks);
        for header in request.headers {
            let mut header = header.clone();
            header.base_offset = group.end.end_offset;
            header.leader_epoch = request.leader_epoch;
            group.pieces.push(Piece::Header(group.headers.len()));
            let from = group.pieces.len();
            chunks.skip(HEADER_LEN);
            chunks
                .take(header.size_in_bytes() - HEADER_LEN, |b| group.pieces.push(Piece::Bytes(b)));
            if stamp_time || header.attributes.timestamp_type() != wanted {
                header.attributes = header.attributes.with_timestamp_type(wanted);
                header.max_timestamp = if stamp_time { now_ms } else { header.max_timestamp };
                header.crc = header.compute_crc(group.pieces[from..].iter().map(Piece::bytes));
            }
            self.writer.producers.push(&header, request.window, now_ms);
            group.headers.push(header.encode());
            let position = group.end.size;
            group.end.end_offset = header.next_offset();
            group.end.size += header.size_in_bytes() as u64;
            group.batches.push((position, header));
        }
        group.requests.push(self.results.len());
        Appended {
            base_offset,
            last_offset: Offset(group.end.end_offset.0 - 1),
            duplicate: false,
            log_append_time: stamp_time.then_some(now_ms),
        }
    }

    /// Writes the group and publishes it, or takes all of it back and says so in the results.
    fn commit(&mut self) {
        let next = Group::at(self.group.end);
        let group = std::mem::replace(&mut self.group, next);
        let Some(segment) = self.log.segments.active().filter(|_| group.bytes() > 0) else {
            return;
        };
        match write(&*segment.file, &group) {
            Ok(()) => self.publish(&segment, &group),
            Err(error) => {
                self.writer.producers.rollback();
                self.group = Group::at(group.start);
                self.write_failed(&segment, &group, &error);
            }
        }
    }

    fn publish(&mut self, segment: &Segment, group: &Group<'_>) {
        let (log, writer) = (self.log, &mut *self.writer);
        let mut new_epoch = false;
        let mut records = 0;
        for (position, header) in &group.batches {
            segment.note(*position, header, self.config.index_interval_bytes);
            new_epoch |= writer.epochs.assign(header.leader_epoch, header.base_offset);
            records += u64::from(header.record_count.unsigned_abs());
        }
        segment.appended_at(log.context.clock.now_ms());
        segment.publish(group.end);
        writer.producers.commit();
        log.log_end.store(group.end.end_offset.0, Ordering::Release);
        log.appended_bytes.fetch_add(group.bytes(), Ordering::Relaxed);
        log.flush.count(records);
        if log.dir.room.appended(group.bytes()) {
            log.dir.look_for_room(&*log.context.disk);
        }
        writer.epochs_dirty |= new_epoch;
        if group.end.size - writer.written_back >= WRITE_BACK_BYTES {
            let from = writer.written_back;
            segment.file.start_write_back(from, group.end.size - from);
            writer.written_back = group.end.size;
        }
    }

    /// Cuts the file back to its last whole batch. A full disk, or no descriptor to open it with,
    /// is the requests' error only; any other failure takes the partition offline.
    fn write_failed(&mut self, segment: &Segment, group: &Group<'_>, error: &io::Error) {
        tracing::warn!(partition = %self.log.partition, %error, "append failed, cutting it back");
        // Not opened, so nothing was written: what is written to stays open until it is synced.
        let unopened = disk::is_out_of_files(error);
        let cut = if unopened { Ok(()) } else { segment.file.set_len(group.start.size) };
        if let Err(e) = cut {
            self.failure = Some(format!("an append failed ({error}), and cutting it back ({e})"));
        } else if !unopened && !disk::is_full(error) {
            self.failure = Some(format!("an append failed: {error}"));
        }
        for &number in &group.requests {
            let partition = self.log.partition.clone();
            let failure = self.check_failure().map_err(AppendError::Offline).err();
            let passing = match unopened {
                true => AppendError::OutOfFiles { partition },
                false => AppendError::DiskFull { partition },
            };
            if let Some(result) = self.results.get_mut(number) {
                *result = Err(failure.unwrap_or(passing));
            }
        }
    }
}

/// Whether the producer may append these batches: all of one producer, following each other, and
/// all new; or, giving where they went, all appended before.
fn check_sequences(
    producers: &ProducerState,
    headers: &[BatchHeader],
) -> Result<Option<Appended>, SequenceError> {
    let Some((first, rest)) = headers.split_first() else { return Ok(None) };
    let mut duplicate = match producers.check(first)? {
        Verdict::Fresh => None,
        Verdict::Duplicate(batch) => Some(batch),
    };
    let base_offset = duplicate.map(|batch| batch.base_offset);
    let mut before = first;
    for header in rest {
        let expected = match before.is_idempotent() {
            true => before.last_sequence().wrapping_add(1) & i32::MAX,
            false => before.base_sequence,
        };
        let follows = (header.producer_id, header.producer_epoch, header.base_sequence)
            == (before.producer_id, before.producer_epoch, expected);
        let seen = match duplicate {
            None => Verdict::Fresh,
            Some(_) => producers.check(header)?,
        };
        match (duplicate, seen) {
            (None, _) if follows => {}
            (Some(_), Verdict::Duplicate(batch)) if follows => duplicate = Some(batch),
            _ => {
                let (producer_id, found) = (header.producer_id, header.base_sequence);
                return Err(SequenceError::OutOfOrder { producer_id, expected, found });
            }
        }
        before = header;
    }
    Ok(duplicate.zip(base_offset).map(|(last, base_offset)| Appended {
        base_offset,
        last_offset: last.last_offset(),
        duplicate: true,
        log_append_time: None,
    }))
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
struct ChunkCursor<'a> {
    chunks: std::slice::Iter<'a, Bytes>,
    rest: &'a [u8],
}

impl<'a> ChunkCursor<'a> {
    fn new(chunks: &'a [Bytes]) -> Self {
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

    fn skip(&mut self, len: usize) {
        self.take(len, |_| {});
    }
}
