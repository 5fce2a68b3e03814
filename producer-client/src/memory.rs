//! `buffer.memory`: what open, waiting and unacknowledged batches may take together.
//!
//! Taking never waits here: who finds no room stands in the [line](crate::line).

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts bytes; always `taken <= total`.
#[derive(Debug)]
pub(crate) struct Memory {
    total: usize,
    taken: AtomicUsize,
}

impl Memory {
    pub(crate) fn new(total: usize) -> Self {
        Self { total, taken: AtomicUsize::new(0) }
    }

    pub(crate) fn total(&self) -> usize {
        self.total
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    /// Takes `bytes`, or nothing and false.
    pub(crate) fn try_take(&self, bytes: usize) -> bool {
        let more = |taken: usize| taken.checked_add(bytes).filter(|&sum| sum <= self.total);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// Gives back what was taken.
    pub(crate) fn give(&self, bytes: usize) {
        let before = self.taken.fetch_sub(bytes, Ordering::AcqRel);
        debug_assert!(before >= bytes, "more was given back than taken");
    }

    /// Whether it is worth letting the line move: a sixteenth is free, so that one wake-up admits
    /// more than one record.
    pub(crate) fn is_roomy(&self) -> bool {
        self.total - self.taken() >= self.total / 16
    }
}

#[cfg(test)]
mod tests {
    use super::Memory;

    #[test]
    fn never_takes_more_than_there_is() {
        let memory = Memory::new(160);
        assert!(memory.try_take(155));
        assert!(!memory.is_roomy());
        assert!(!memory.try_take(6) && !memory.try_take(usize::MAX));
        assert!(memory.try_take(5));
        memory.give(155);
        assert!(memory.is_roomy() && memory.taken() == 5);
    }
}
