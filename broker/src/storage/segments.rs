//! The segments of a log, in order: replaced whole when one is added or removed, so that readers
//! never wait.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use proto::Offset;

use super::segment::Segment;

/// An ordered list of segments; never empty. The last one is active, the others are closed.
#[derive(Debug)]
pub(super) struct Segments {
    list: ArcSwap<Vec<Arc<Segment>>>,
}

impl Segments {
    /// Over segments in order of base offset; at least one.
    pub(super) fn new(list: Vec<Arc<Segment>>) -> Self {
        debug_assert!(!list.is_empty() && list.is_sorted_by_key(|s| s.base_offset));
        Self { list: ArcSwap::from_pointee(list) }
    }

    /// The list of this moment.
    pub(super) fn load(&self) -> Guard<Arc<Vec<Arc<Segment>>>> {
        self.list.load()
    }

    /// The list of this moment, to be held for longer.
    pub(super) fn load_full(&self) -> Arc<Vec<Arc<Segment>>> {
        self.list.load_full()
    }

    /// Puts another list in place. Callers hold the log's writer lock.
    pub(super) fn replace(&self, list: Vec<Arc<Segment>>) {
        debug_assert!(!list.is_empty() && list.is_sorted_by_key(|s| s.base_offset));
        self.list.store(Arc::new(list));
    }

    /// The active segment.
    pub(super) fn active(&self) -> Option<Arc<Segment>> {
        self.list.load().last().cloned()
    }

    /// Bytes in all segments.
    pub(super) fn size(&self) -> u64 {
        self.list.load().iter().map(|segment| segment.tip().size).sum()
    }
}

/// The place in `list` of the segment that `offset` belongs to: the last that begins at or before
/// it, or the first.
pub(super) fn position_of(list: &[Arc<Segment>], offset: Offset) -> usize {
    list.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1)
}
