//! The partition that records without a key go to at the moment.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// One topic's current partition and how much went to it. Racing threads may lose a count or carry
/// one over: the partition then changes some records later or sooner, nothing else.
#[derive(Debug)]
pub(crate) struct Sticky {
    partition: AtomicI32,
    bytes: AtomicU64,
    turn_bytes: u64,
}

impl Sticky {
    /// `turn_bytes` go to one partition before the next is drawn.
    pub(crate) fn new(turn_bytes: u64) -> Self {
        Self { partition: AtomicI32::new(-1), bytes: AtomicU64::new(0), turn_bytes }
    }

    /// The current partition; `draw` chooses one (given the last, -1 at first) when its turn is over.
    pub(crate) fn current(&self, draw: impl FnOnce(i32) -> i32) -> i32 {
        let partition = self.partition.load(Ordering::Relaxed);
        if partition >= 0 && self.bytes.load(Ordering::Relaxed) < self.turn_bytes {
            return partition;
        }
        let next = draw(partition);
        self.bytes.store(0, Ordering::Relaxed);
        self.partition.store(next, Ordering::Relaxed);
        next
    }

    /// Counts what was written to the current partition.
    pub(crate) fn wrote(&self, bytes: usize) {
        // Not `fetch_add`, which would cost more than the sum.
        let sum = self.bytes.load(Ordering::Relaxed).saturating_add(bytes as u64);
        self.bytes.store(sum, Ordering::Relaxed);
    }

    /// Ends the turn: the partition lost its leader.
    pub(crate) fn leave(&self, partition: i32) {
        // Not by way of `bytes`, where a racing count could undo it.
        let (left, relaxed) = (-1, Ordering::Relaxed);
        let _ = self.partition.compare_exchange(partition, left, relaxed, relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_for_a_turn_then_draws_again() {
        let sticky = Sticky::new(100);
        assert_eq!(sticky.current(|last| last + 4), 3);
        sticky.wrote(99);
        assert_eq!(sticky.current(|_| 9), 3);
        sticky.wrote(1);
        assert_eq!(sticky.current(|last| last + 1), 4);
        assert_eq!(sticky.current(|_| 9), 4);
        sticky.leave(3);
        assert_eq!(sticky.current(|_| 9), 4);
        sticky.leave(4);
        assert_eq!(sticky.current(|_| 9), 9);
    }
}
