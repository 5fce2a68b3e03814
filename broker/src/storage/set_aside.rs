//! Room on the disk set aside for what is appended next: bytes that come to blocks which are there
//! already cost a third less than those that need blocks of their own (`integration-tests/benches`).
//!
//! It lies behind the file's end and changes nothing about its length, so that neither readers nor
//! recovery see it. How much it is grows with the segment, so that thousands of small partitions
//! set nothing aside, and stays an eighth of it at most. It is given back when the segment is
//! closed, when the log is, and when a log is opened that was not; none is taken where the disk
//! has little left.

use std::io;

use super::disk::DiskFile;
use super::log::Log;
use super::room::Room;
use super::segment::Segment;

/// Of a segment below it is an eighth of this nothing is set aside.
const LEAST: u64 = 1 << 20;
/// Most that is set aside at once.
const MOST: u64 = 32 << 20;
/// Part of a segment that is set aside for what follows it.
const PART: u64 = 8;
/// Part of the file system that has to be free, above the mark.
const FREE_PART: u64 = 16;

/// How much of the active segment has its room: a state of the log's writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SetAside {
    /// Up to where; nothing is known of what lies behind.
    upto: u64,
    /// The file system does not do it, or cannot now: not asked again for this segment.
    refused: bool,
}

/// How many bytes are set aside behind a segment that has `size` bytes.
fn ahead(size: u64) -> u64 {
    match (size / PART).min(MOST) {
        too_few if too_few < LEAST => 0,
        bytes => bytes,
    }
}

/// Whether the disk has so much left that some may be set aside.
fn is_plenty(room: &Room) -> bool {
    let space = room.space();
    space.free.saturating_sub(room.mark()) > space.total / FREE_PART
}

impl SetAside {
    /// Sets room aside for a write of `[from, to)`, and for more, where that has none yet.
    pub(super) fn look_ahead(
        &mut self,
        segment: &Segment,
        room: &Room,
        (from, to): (u64, u64),
        segment_bytes: u32,
    ) {
        let upto = (to + ahead(to)).min(u64::from(segment_bytes));
        if to <= self.upto || self.refused || ahead(to) == 0 || upto < to || !is_plenty(room) {
            return;
        }
        match segment.file.reserve(from, upto - from) {
            Ok(()) => self.upto = upto,
            Err(error) => {
                tracing::debug!(?segment, %error, "no room is set aside");
                self.refused = true;
            }
        }
    }
}

impl Log {
    /// Gives back what is set aside in the active segment; the log gets no more batches.
    pub(super) fn give_back_room(&self) -> io::Result<()> {
        // No append may come between its parts: what is behind the end when it begins is cut off.
        let mut writer = self.writer.lock();
        writer.set_aside = SetAside::default();
        match self.segments.active() {
            Some(active) => active.file.give_back(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eighth_is_set_aside_within_bounds() {
        assert_eq!([ahead(0), ahead(8 * LEAST - 1)], [0, 0]);
        assert_eq!([ahead(8 * LEAST), ahead(80 * LEAST)], [LEAST, 10 * LEAST]);
        assert_eq!([ahead(1 << 30), ahead(u64::MAX)], [MOST, MOST]);
    }
}
