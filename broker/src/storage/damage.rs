//! Ranges of a log whose bytes are not what was written: served around, never silently.

use proto::{Offset, TopicPartition};

use super::checked_text;
use super::segment::{Tip, file_name};

/// Damaged bytes in one segment, or a segment that is missing.
///
/// `from <= to` (equal where foreign bytes were put between batches). The bytes are `[position,
/// end_position)` of the segment with `segment` as its base
/// offset; the two are equal where a whole segment is missing behind that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DamagedRange {
    /// First offset that cannot be read.
    pub from: Offset,
    /// First offset after it that can.
    pub to: Offset,
    /// Base offset of the segment.
    pub segment: Offset,
    /// Where the damage begins in the segment's file.
    pub position: u64,
    /// Where the next good batch begins.
    pub end_position: u64,
}

impl DamagedRange {
    /// Whether an offset lies in it.
    pub fn contains(&self, offset: Offset) -> bool {
        self.from <= offset && offset < self.to
    }

    /// How many offsets cannot be read.
    pub fn offsets(&self) -> i64 {
        self.to.0 - self.from.0
    }

    /// How many bytes are damaged; 0 where a whole segment is missing.
    pub fn bytes(&self) -> u64 {
        self.end_position - self.position
    }
}

/// Where the log goes on behind the damage that begins at this place of a segment, for walks to
/// step over it.
pub(super) fn skip(ranges: &[DamagedRange], segment: Offset, position: u64) -> Option<Tip> {
    ranges
        .iter()
        .find(|r| r.segment == segment && r.position == position && r.end_position > position)
        .map(|r| Tip { end_offset: r.to, size: r.end_position })
}

/// Adds a range to a list in order of offsets; ranges that lie in it go. False when it was there.
pub(super) fn add(ranges: &mut Vec<DamagedRange>, range: DamagedRange) -> bool {
    let covers = |of: &DamagedRange, other: &DamagedRange| {
        of.segment == other.segment
            && (of.from <= other.from && other.to <= of.to)
            && (of.position <= other.position && other.end_position <= of.end_position)
    };
    if ranges.iter().any(|known| covers(known, &range)) {
        return false;
    }
    ranges.retain(|known| !covers(&range, known));
    ranges.push(range);
    ranges.sort_unstable_by_key(|r| (r.from, r.position, r.to));
    true
}

/// Says by name what cannot be read.
pub(super) fn log(partition: &TopicPartition, range: &DamagedRange) {
    tracing::error!(
        %partition, from = range.from.0, to = range.to.0,
        file = file_name(range.segment, "log"),
        position = range.position, end_position = range.end_position,
        "damaged batches on disk; the rest of the partition is served"
    );
}

/// The name of the file that keeps them over a restart: a line for each, its fields in order.
pub(super) const FILE_NAME: &str = "damaged-ranges";

/// The file's text.
pub(super) fn encode(ranges: &[DamagedRange]) -> String {
    let line = |r: &DamagedRange| {
        format!("{} {} {} {} {}", r.from, r.to, r.segment, r.position, r.end_position)
    };
    checked_text::encode(&ranges.iter().map(line).collect::<Vec<_>>())
}

/// Reads the file; `None` when it is not whole and right.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<DamagedRange>> {
    checked_text::decode(bytes)?.into_iter().map(decode_line).collect()
}

fn decode_line(line: &str) -> Option<DamagedRange> {
    let fields: Vec<i64> =
        line.split(' ').map(|field| field.parse().ok()).collect::<Option<_>>()?;
    let &[from, to, segment, position, end_position] = &fields[..] else { return None };
    if from < 0 || to < from || segment < 0 || end_position < position {
        return None;
    }
    Some(DamagedRange {
        from: Offset(from),
        to: Offset(to),
        segment: Offset(segment),
        position: u64::try_from(position).ok()?,
        end_position: u64::try_from(end_position).ok()?,
    })
}
