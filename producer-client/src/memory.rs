//! `buffer.memory`: what open, waiting and unacknowledged batches may take together.
//!
//! Taking never waits here: who finds no room stands in the [line](crate::line).
//!
//! The memory of batches that have ended is kept for the next ones ([`Buffers`]): fresh memory has
//! to be mapped and cleared by the kernel page by page, at about a third of what encoding costs.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

/// What is kept at most, and what is kept where nothing is under way.
const KEPT_MAX: usize = 8 << 20;
const KEPT_IDLE: usize = 1 << 20;

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

    /// What is not taken.
    pub(crate) fn free(&self) -> usize {
        self.total - self.taken()
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
        self.free() >= self.total / 16
    }
}

/// Memory of batches that have ended, all of one size; the last one to come is the first to go.
#[derive(Debug)]
pub(crate) struct Buffers {
    size: usize,
    free: Mutex<Vec<Vec<u8>>>,
    /// Length of `free`, readable without the lock.
    count: AtomicUsize,
}

impl Buffers {
    /// Keeps the memory of batches of `size` bytes.
    pub(crate) fn new(size: usize) -> Self {
        Self { size, free: Mutex::default(), count: AtomicUsize::new(0) }
    }

    /// Memory for a batch of `size` bytes: none where none of that size is kept.
    pub(crate) fn take(&self, size: usize) -> Vec<u8> {
        if size != self.size {
            return Vec::new();
        }
        let mut free = self.free.lock();
        let buffer = free.pop().unwrap_or_default();
        self.count.store(free.len(), Ordering::Relaxed);
        buffer
    }

    /// Keeps what a batch was in, if nobody else has it, while all that is kept fits in `room`.
    pub(crate) fn give(&self, batch: Bytes, room: usize) {
        let mut free = self.free.lock();
        if self.size == 0 || (free.len() + 1) * self.size > room.min(KEPT_MAX) {
            return;
        }
        let Ok(mut bytes) = batch.try_into_mut() else { return };
        // Before it becomes a vector, which would move what is in it.
        bytes.clear();
        let buffer = Vec::from(bytes);
        // Others, also compressed batches, have a size of their own.
        if (self.size..self.size + self.size / 8 + 64).contains(&buffer.capacity()) {
            free.push(buffer);
            self.count.store(free.len(), Ordering::Relaxed);
        }
    }

    /// Nothing is under way: gives back most of what is kept.
    pub(crate) fn rest(&self) {
        let keep = KEPT_IDLE / self.size.max(1);
        if self.count.load(Ordering::Relaxed) > keep {
            let mut free = self.free.lock();
            free.truncate(keep);
            free.shrink_to_fit();
            self.count.store(free.len(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Buffers, KEPT_IDLE, KEPT_MAX, Memory};

    fn batch(capacity: usize) -> Bytes {
        let mut buffer = Vec::with_capacity(capacity);
        buffer.push(b'x');
        buffer.into()
    }

    #[test]
    fn buffers_of_the_size_are_used_again_up_to_a_bound() {
        let buffers = Buffers::new(64 << 10);
        let used = batch(64 << 10);
        let (at, other) = (used.as_ptr(), used.clone());
        buffers.give(used, usize::MAX);
        assert_eq!(buffers.take(64 << 10).capacity(), 0, "somebody else had it");
        buffers.give(other, usize::MAX);
        assert_eq!(buffers.take(1000).capacity(), 0);
        let buffer = buffers.take(64 << 10);
        assert!(buffer.is_empty() && buffer.as_ptr() == at);
        buffers.give(batch(10), usize::MAX);
        buffers.give(batch(1 << 20), usize::MAX);
        buffers.give(batch(64 << 10), 1000);
        assert_eq!(buffers.take(64 << 10).capacity(), 0);
        (0..1000).for_each(|_| buffers.give(batch(64 << 10), usize::MAX));
        assert_eq!(buffers.free.lock().len(), KEPT_MAX >> 16);
        buffers.rest();
        assert_eq!(buffers.free.lock().len(), KEPT_IDLE >> 16);
    }

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
