//! The room on a log directory's file system, and the mark below which nothing more is produced.
//!
//! The mark comes before the disk is full: what frees space (retention, compaction, deletion) and
//! what must be written down (checkpoints, registry) still has room to work in. Above the mark by a
//! quarter producing goes on, so that the state does not flutter.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::disk::Space;

/// How much is to stay free: the smaller of the two, so that one default fits small disks and
/// large ones. A 0 leaves that one out; both 0: no mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FreeMark {
    /// Bytes (`log.min.free.bytes`).
    pub bytes: u64,
    /// Hundredths of the file system (`log.min.free.percent`).
    pub percent: u8,
}

impl FreeMark {
    /// Bytes, on a file system of this size.
    pub(super) fn of(self, total: u64) -> u64 {
        let part = (u128::from(total) * u128::from(self.percent) / 100) as u64;
        match (self.bytes, self.percent) {
            (bytes, 0) => bytes,
            (0, _) => part,
            (bytes, _) => bytes.min(part),
        }
    }
}

/// What was seen last. Read without a lock; written by whoever looks.
#[derive(Debug, Default)]
pub(super) struct Room {
    mark: FreeMark,
    free: AtomicU64,
    total: AtomicU64,
    low: AtomicBool,
    /// Bytes appended since somebody looked.
    unseen: AtomicU64,
}

impl Room {
    pub(super) fn new(mark: FreeMark) -> Self {
        Self { mark, ..Self::default() }
    }

    /// Takes in what the disk says; the new state where it changed.
    pub(super) fn update(&self, space: Space) -> Option<bool> {
        self.unseen.store(0, Ordering::Relaxed);
        self.free.store(space.free, Ordering::Relaxed);
        self.total.store(space.total, Ordering::Relaxed);
        let mark = self.mark.of(space.total);
        let was = self.low.load(Ordering::Relaxed);
        let low = space.free < if was { mark + mark / 4 } else { mark };
        self.low.store(low, Ordering::Relaxed);
        (low != was).then_some(low)
    }

    /// Whether nothing more is to be produced.
    pub(super) fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// Counts appended bytes. True when so many came since somebody looked that the mark may have
    /// been passed by a good part: look now.
    pub(super) fn appended(&self, bytes: u64) -> bool {
        let unseen = self.unseen.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let mark = self.mark.of(self.total.load(Ordering::Relaxed));
        mark > 0 && unseen > mark / 8
    }

    /// As last seen.
    pub(super) fn space(&self) -> Space {
        Space { total: self.total.load(Ordering::Relaxed), free: self.free.load(Ordering::Relaxed) }
    }

    /// Bytes that are to stay free.
    pub(super) fn mark(&self) -> u64 {
        self.mark.of(self.total.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_mark_counts_and_zero_is_none() {
        let mark = |bytes, percent| FreeMark { bytes, percent }.of(1000);
        assert_eq!(
            [mark(10, 5), mark(80, 5), mark(80, 0), mark(0, 5), mark(0, 0)],
            [10, 50, 80, 50, 0]
        );
        assert_eq!(FreeMark { bytes: u64::MAX, percent: 100 }.of(u64::MAX), u64::MAX);
    }

    #[test]
    fn low_begins_below_the_mark_and_ends_a_quarter_above() {
        let room = Room::new(FreeMark { bytes: 100, percent: 0 });
        let update = |free| room.update(Space { total: 1000, free });
        assert_eq!([update(500), update(100)], [None, None]);
        assert_eq!([update(99), update(100), update(124)], [Some(true), None, None]);
        assert_eq!([update(125), update(100)], [Some(false), None]);
        assert!(!room.appended(12) && room.appended(1), "an eighth of the mark");
        let none = Room::new(FreeMark::default());
        assert_eq!(none.update(Space { total: 1000, free: 0 }), None);
        assert!(!none.appended(1 << 40));
    }
}
