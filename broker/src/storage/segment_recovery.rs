//! Finds out where an opened segment ends: by its index where that can be trusted, by reading it
//! with CRCs where not.

use std::io;

use proto::Offset;
use proto::record::BatchHeader;

use super::damage::DamagedRange;
use super::disk::DiskFile;
use super::header_walk::{HeaderWalk, WalkError};
use super::offset_index::IndexEntry;
use super::scan::Scan;
use super::segment::{Segment, Tip};
use super::time_index::TimeEntry;
use super::wait::Wait;

/// What is known about a segment before it is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expectation {
    /// All below was on stable storage once.
    pub(super) recovery_point: Offset,
    /// Where the next segment begins; `None` for the last one.
    pub(super) next_base: Option<Offset>,
    /// `index.interval.bytes`.
    pub(super) index_interval: u32,
    /// `segment.ms`.
    pub(super) segment_ms: u64,
}

/// What was found. The segment's tip is set.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Ranges below the recovery point that cannot be read.
    pub(super) damage: Vec<DamagedRange>,
    /// The log ends here, at or above the recovery point: bytes from this position on, and later
    /// segments, are not part of it.
    pub(super) cut: Option<u64>,
    /// Bytes read and checked.
    pub(super) scanned: u64,
}

/// Believes the index's last entry and walks from there. False where something does not fit: the
/// segment must be scanned.
pub(super) fn resume_by_index(
    segment: &Segment,
    expected: Expectation,
    now_ms: i64,
) -> io::Result<bool> {
    let len = segment.file.size()?;
    let mut newest = segment.times.last()?;
    let last = segment.index.last()?;
    let untimed = last.is_some() && newest.is_none();
    let unindexed = last.is_none() && len > 2 * u64::from(expected.index_interval) + (1 << 20);
    if len > u64::from(u32::MAX) || untimed || unindexed {
        return Ok(false);
    }
    let start = last.map_or(0, |entry| entry.position);
    let mut walk = HeaderWalk::new(&*segment.file, start, whole(segment, len), Wait::Allowed);
    let mut tip = Tip { end_offset: segment.base_offset, size: start };
    if let Some(entry) = last {
        match walk.peek() {
            Ok(Some((_, header))) if header.last_offset() == entry.last_offset => {
                tip.end_offset = header.base_offset;
            }
            _ => return Ok(false),
        }
    }
    loop {
        match walk.step() {
            Ok(Some((position, header))) if follows(segment, &header, tip.end_offset, expected) => {
                tip.end_offset = header.next_offset();
                tip.size = position + header.size_in_bytes() as u64;
                newest = newer(newest, &header);
            }
            Ok(None) => break,
            Err(WalkError::Io(error)) => return Err(error),
            _ => return Ok(false),
        }
    }
    if expected.next_base.is_some_and(|next| next != tip.end_offset) {
        return Ok(false);
    }
    // Retention and look-ups by time go by the newest record: an entry that says something else
    // than the log would delete a segment too early.
    if let Some(entry) = segment.times.last()? {
        match segment.time_entry_at(entry, tip, &|_| None) {
            Ok(Some(_)) => {}
            Err(WalkError::Io(error)) => return Err(error),
            _ => return Ok(false),
        }
    }
    segment.resume(tip, newest, now_ms);
    restore_append_times(segment, expected, now_ms)?;
    Ok(true)
}

/// The whole file, whatever its batches say.
fn whole(segment: &Segment, len: u64) -> Tip {
    Tip { end_offset: segment.base_offset.plus(i64::from(i32::MAX)), size: len }
}

/// When the first and the last batch came, as far as can be told. The last: when the file was
/// written last. The first: as its own timestamp says, where that is no longer before the last than
/// a segment lives; a stamp that is missing, old or of the future says nothing about when it came,
/// and the segment then counts from its last batch on, so that a restart rolls nobody early.
fn restore_append_times(segment: &Segment, expected: Expectation, now_ms: i64) -> io::Result<()> {
    let last_ms = segment.file.modified_ms()?.min(now_ms);
    if segment.tip().size == 0 {
        segment.set_append_times(i64::MAX, last_ms);
        return Ok(());
    }
    let mut walk = HeaderWalk::new(&*segment.file, 0, segment.tip(), Wait::Allowed);
    let stamp = walk.peek().ok().flatten().map(|(_, header)| header.max_timestamp);
    let plausible = |&stamp: &i64| {
        let lived = last_ms.checked_sub(stamp).and_then(|lived| u64::try_from(lived).ok());
        stamp >= 0 && lived.is_some_and(|lived| lived <= expected.segment_ms)
    };
    segment.set_append_times(stamp.filter(plausible).unwrap_or(last_ms), last_ms);
    Ok(())
}

fn newer(newest: Option<TimeEntry>, header: &BatchHeader) -> Option<TimeEntry> {
    match newest {
        Some(entry) if entry.timestamp >= header.max_timestamp => newest,
        // An empty batch, left by compaction.
        _ if header.record_count == 0 => newest,
        _ => Some(TimeEntry { timestamp: header.max_timestamp, offset: header.last_offset() }),
    }
}

/// Whether a batch follows another. Offsets are dense; the CRC does not cover the base offset, so
/// that a gap tells of damage.
fn follows(segment: &Segment, header: &BatchHeader, after: Offset, expected: Expectation) -> bool {
    let relative_end = header.next_offset().0 - segment.base_offset.0;
    header.base_offset == after
        && relative_end <= i64::from(i32::MAX)
        && expected.next_base.is_none_or(|next| header.next_offset() <= next)
}

/// Reads the segment from the index entry before the recovery point (from its beginning when the
/// index is no help), rebuilds both indexes from there, and finds out what of it is good.
pub(super) fn scan(segment: &Segment, expected: Expectation, now_ms: i64) -> io::Result<Found> {
    let start = scan_start(segment, expected)?;
    segment.index.truncate_to(start.size)?;
    segment.times.truncate_to(start.end_offset)?;
    segment.resume(start, segment.times.last()?, now_ms);
    let len = segment.file.size()?.min(u64::from(u32::MAX));
    let mut found = Found { scanned: len - start.size, ..Found::default() };
    let mut scan = Scan::new(&*segment.file, len);
    let mut tip = start;
    while tip.size < len {
        let batch = scan.batch_at(tip.size)?;
        if let Some(header) = batch.filter(|h| follows(segment, h, tip.end_offset, expected)) {
            segment.note(tip.size, &header, expected.index_interval);
            tip.end_offset = header.next_offset();
            tip.size += header.size_in_bytes() as u64;
            continue;
        }
        if tip.end_offset >= expected.recovery_point {
            found.cut = Some(tip.size);
            break;
        }
        let until = end_of_damage(tip, expected);
        let limit = expected.next_base.unwrap_or(whole(segment, len).end_offset);
        let next = scan.next_vouched(tip, until, limit)?;
        let after = next.unwrap_or(Tip { end_offset: until, size: len });
        found.damage.push(damage_between(segment, tip, after));
        tip = in_reach(segment, after);
    }
    let due = expected.next_base.unwrap_or(expected.recovery_point);
    if found.cut.is_none() && tip.end_offset < due {
        if tip.end_offset >= expected.recovery_point {
            found.cut = Some(tip.size);
        } else {
            let after = Tip { end_offset: due, size: tip.size };
            found.damage.push(damage_between(segment, tip, after));
            tip = in_reach(segment, after);
        }
    }
    let newest = segment.newest();
    segment.resume(tip, newest, now_ms);
    restore_append_times(segment, expected, now_ms)?;
    Ok(found)
}

/// A hole may reach further than the relative offsets of a segment; readers go by the range then.
fn in_reach(segment: &Segment, tip: Tip) -> Tip {
    Tip { end_offset: tip.end_offset.min(segment.base_offset.plus(i64::from(i32::MAX))), ..tip }
}

/// Where to begin: at a batch whose index entry is right, at or before the recovery point, with
/// an index that is in order up to there.
fn scan_start(segment: &Segment, expected: Expectation) -> io::Result<Tip> {
    let beginning = Tip { end_offset: segment.base_offset, size: 0 };
    if !segment.index.is_in_order()? || !segment.times.is_in_order()? {
        return Ok(beginning);
    }
    // Nothing at or above the next segment's beginning is of this one.
    let before_next = expected.next_base.map_or(Offset(i64::MAX), |next| Offset(next.0 - 1));
    let from = expected.recovery_point.min(before_next);
    let Some(IndexEntry { last_offset, position }) =
        segment.index.floor_offset(from, Wait::Allowed)?
    else {
        return Ok(beginning);
    };
    let len = segment.file.size()?;
    let mut walk = HeaderWalk::new(&*segment.file, position, whole(segment, len), Wait::Allowed);
    match walk.peek() {
        Ok(Some((size, header))) if header.last_offset() == last_offset => {
            Ok(Tip { end_offset: header.base_offset, size })
        }
        _ => Ok(beginning),
    }
}

/// Whether a range that was found damaged before still is, and the log still goes on behind it.
pub(super) fn is_still_damaged(segment: &Segment, range: DamagedRange) -> io::Result<bool> {
    let tip = segment.tip();
    let mut scan = Scan::new(&*segment.file, tip.size);
    let good = |batch: Option<BatchHeader>, offset| batch.is_some_and(|b| b.base_offset == offset);
    let repaired = good(scan.batch_at(range.position)?, range.from) && range.offsets() > 0;
    let at_end = range.end_position == tip.size && range.to == tip.end_offset;
    Ok(!repaired && (at_end || good(scan.batch_at(range.end_position)?, range.to)))
}

/// What damage that reaches to the end of the file covers.
fn end_of_damage(tip: Tip, expected: Expectation) -> Offset {
    expected.next_base.unwrap_or(expected.recovery_point).max(tip.end_offset)
}

fn damage_between(segment: &Segment, from: Tip, to: Tip) -> DamagedRange {
    DamagedRange {
        from: from.end_offset,
        to: to.end_offset,
        segment: segment.base_offset,
        position: from.size,
        end_position: to.size,
    }
}
