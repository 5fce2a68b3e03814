//! Tells good bytes from damaged ones while a log is served: where a walk meets what is no batch,
//! and where a reader doubts what it got. What is damaged is noted, so that whoever reads next is
//! told instead of sent it. All of it waits for the disk.

use std::io;

use proto::Offset;
use proto::record::BatchHeader;

use super::damage::{self, DamagedRange};
use super::epoch_history::EpochHistory;
use super::error::ReadError;
use super::header_walk::WalkError;
use super::log::Log;
use super::scan::Scan;
use super::segment::{Segment, Tip};
use super::wait::Wait;

impl Log {
    /// Reads the batch that holds `offset` from the file, past every mapping, and checks all of it.
    /// `Ok` where it holds (or nothing is there yet); else [`ReadError::Damaged`], now and for every
    /// later reader. Reads one batch and a few KiB, more only where it is bad.
    pub fn verify(&self, offset: Offset) -> Result<(), ReadError> {
        loop {
            self.check_online()?;
            let (log_start, log_end) = (self.log_start(), self.log_end());
            if offset < log_start || offset > log_end {
                return Err(ReadError::OutOfRange { offset, log_start, log_end });
            }
            let damage = self.damage.load();
            if let Some(range) = damage.iter().find(|range| range.contains(offset)) {
                return Err(ReadError::Damaged { from: range.from, to: range.to });
            }
            let Some(segment) = self.segment_of(offset) else { return Ok(()) };
            match check(&segment, offset, &damage, &self.epochs.load()) {
                Ok(None) => return Ok(()),
                Err(_) if segment.is_retired() => {}
                Ok(Some(range)) => self.note_or_give_up(&segment, range),
                Err(WalkError::Io(error)) => return Err(self.read_failed(&error)),
                Err(WalkError::Bad { position, .. }) => self.discover(&segment, position)?,
            }
        }
    }

    /// A place that should begin a batch does not: looks for where good batches go on, and takes
    /// note of the range between, so that the next try steps over it or says so.
    pub(super) fn discover(&self, segment: &Segment, position: u64) -> Result<(), ReadError> {
        let damage = self.damage.load();
        let bad = bad_place(segment, position, &damage);
        self.note_damage_at(segment, bad.map_err(|error| self.read_failed(&error))?)
    }

    /// A batch is known not to hold: takes note of the range from there to the next good one.
    pub(super) fn note_damage_at(&self, segment: &Segment, bad: Tip) -> Result<(), ReadError> {
        let range = damage_at(segment, bad, segment.tip());
        self.note_or_give_up(segment, range.map_err(|error| self.read_failed(&error))?);
        Ok(())
    }

    /// Notes the range. Where it was known, walks do not get past it all the same: the rest of the
    /// segment is noted, so that nobody tries without end.
    fn note_or_give_up(&self, segment: &Segment, range: DamagedRange) {
        if !self.note_damage(range) {
            let tip = segment.tip();
            let (to, end_position) = (tip.end_offset, tip.size);
            self.note_damage(DamagedRange { to, end_position, ..range });
        }
    }
}

/// Checks the batch that holds `offset`.
fn check(
    segment: &Segment,
    offset: Offset,
    damage: &[DamagedRange],
    epochs: &EpochHistory,
) -> Result<Option<DamagedRange>, WalkError> {
    let tip = segment.tip();
    let skip = |position| damage::skip(damage, segment.base_offset, position);
    let at = segment.locate(offset, tip, &skip, Wait::Allowed)?;
    if at.end_offset > offset {
        // Batches follow each other, so this is a segment that ends too early.
        return Ok(Some(DamagedRange {
            from: offset,
            to: at.end_offset,
            segment: segment.base_offset,
            position: at.size,
            end_position: at.size,
        }));
    }
    match Scan::new(&*segment.file, tip.size).batch_at(at.size)? {
        Some(header) if is_of_its_epoch(&header, epochs) => Ok(None),
        _ => Ok(Some(damage_at(segment, at, tip)?)),
    }
}

/// Whether a batch is of the leader epoch that the history knows for its records: the checksum does
/// not cover it. What compaction left empty is of any.
fn is_of_its_epoch(header: &BatchHeader, epochs: &EpochHistory) -> bool {
    let last = header.last_offset();
    let begun = epochs.entries().iter().rev().find(|&&(_, start)| start <= last);
    header.record_count == 0 || begun.is_none_or(|&(epoch, _)| epoch == header.leader_epoch)
}

/// The damage that begins at `bad`.
fn damage_at(segment: &Segment, bad: Tip, tip: Tip) -> io::Result<DamagedRange> {
    let mut scan = Scan::new(&*segment.file, tip.size);
    let after = scan.next_vouched(bad, tip.end_offset, tip.end_offset)?.unwrap_or(tip);
    Ok(DamagedRange {
        from: bad.end_offset,
        to: after.end_offset,
        segment: segment.base_offset,
        position: bad.size,
        end_position: after.size,
    })
}

/// Where the damage begins that a walk met at `position`: there, or at the batch before it where
/// that one does not hold, since its length may be what led the walk astray.
pub(super) fn bad_place(
    segment: &Segment,
    position: u64,
    damage: &[DamagedRange],
) -> io::Result<Tip> {
    let tip = segment.tip();
    let beginning = Tip { end_offset: segment.base_offset, size: 0 };
    let Some(before) = position.checked_sub(1) else { return Ok(beginning) };
    let entry = segment.index.floor_position(before, Wait::Allowed)?;
    let entry = entry.filter(|entry| entry.position < position);
    let walk = segment.walk_at(entry, Tip { size: position.min(tip.size), ..tip }, Wait::Allowed);
    let (mut walk, mut at) = walk.map_err(into_io)?;
    let mut last: Option<Tip> = None;
    let mut next = Tip { end_offset: segment.base_offset, size: at };
    while let Some((begin, header)) = {
        if let Some(end) = damage::skip(damage, segment.base_offset, at) {
            walk.jump(end);
            (last, next) = (None, end);
        }
        match walk.step() {
            Ok(batch) => batch,
            Err(WalkError::Io(error)) => return Err(error),
            Err(WalkError::Bad { .. }) => None,
        }
    } {
        last = Some(Tip { end_offset: header.base_offset, size: begin });
        at = begin + header.size_in_bytes() as u64;
        next = Tip { end_offset: header.next_offset(), size: at };
    }
    let mut scan = Scan::new(&*segment.file, tip.size);
    match last {
        Some(last) if scan.batch_at(last.size)?.is_none() => Ok(last),
        _ => Ok(next),
    }
}

fn into_io(error: WalkError) -> io::Error {
    match error {
        WalkError::Io(error) => error,
        WalkError::Bad { .. } => io::Error::other(error),
    }
}
