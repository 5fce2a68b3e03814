//! What a log remembers of its compaction.

use std::fmt;

use parking_lot::Mutex;
use proto::Offset;

/// Why a log is not compacted as it should be, and when that is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) reason: String,
    /// By the broker's clock.
    pub(super) retry_at_ms: i64,
    pub(super) attempts: u32,
}

/// See [`CompactionState::memory`].
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) trouble: Option<Trouble>,
    /// The first time from which a tombstone in the clean part may go, as the last cleaning found;
    /// `i64::MAX`: none. Unknown after a start: tombstones then wait for the next dirty records.
    pub(super) next_horizon_ms: Option<i64>,
    /// The segment before which cleaning ended for damage, as last logged.
    pub(super) blocked_at: Option<Offset>,
}

/// Part of every log.
#[derive(Default)]
pub(in crate::storage) struct CompactionState {
    /// Held while a thread compacts the log; others do not wait for it.
    pub(super) cleaning: Mutex<()>,
    /// Held by whoever takes closed segments off the list or replaces them, until the names on the
    /// disk say the same. Taken before all other locks of the log.
    ///
    /// So a swap need not hold the writer lock over its renames and directory syncs, and retention
    /// or a truncation never removes a file that a swap is about to put in place.
    pub(in crate::storage) replacing: Mutex<()>,
    pub(super) memory: Mutex<Memory>,
    /// Makes a compaction panic.
    #[cfg(test)]
    pub(in crate::storage) poisoned: std::sync::atomic::AtomicBool,
}

impl CompactionState {
    /// Whether a thread is at it.
    pub(in crate::storage) fn is_running(&self) -> bool {
        self.cleaning.is_locked()
    }
}

impl fmt::Debug for CompactionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompactionState").field("memory", &self.memory).finish_non_exhaustive()
    }
}
