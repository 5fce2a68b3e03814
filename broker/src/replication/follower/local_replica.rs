//! One partition as its fetcher's thread knows it.

use std::sync::Arc;
use std::time::Instant;

use proto::Offset;

use super::fetch_state::FetchState;
use super::followed::Followed;
use super::refill::Refill;

/// See the module.
pub(super) struct LocalReplica {
    pub(super) followed: Arc<Followed>,
    pub(super) state: FetchState,
    /// By which the leader holds it.
    pub(super) handle: Option<u32>,
    /// What the leader was last told that is held here.
    pub(super) told: Offset,
    /// Where the leader was last told that the log starts, for good.
    pub(super) told_start: Offset,
    /// Something was appended, flushed, or written down since.
    pub(super) untold: bool,
    /// A flush was asked for, and its end is awaited.
    pub(super) flushing: bool,
    /// The leader's high watermark, as last told.
    pub(super) leader_end: Option<Offset>,
    /// When it came from the other lane; `None` where it began in this one.
    pub(super) since: Option<Instant>,
    pub(super) refill: Refill,
}

impl LocalReplica {
    pub(super) fn new(followed: Arc<Followed>, now: Instant, moved: bool) -> Self {
        let refill = Refill::new(followed.log_end(), now);
        Self {
            followed,
            state: FetchState::new(),
            handle: None,
            told: Offset(-1),
            told_start: Offset(-1),
            untold: false,
            flushing: false,
            leader_end: None,
            since: moved.then_some(now),
            refill,
        }
    }

    /// Offsets that the leader is known to have and this log has not.
    pub(super) fn lag(&self) -> i64 {
        self.leader_end.map_or(0, |end| (end.0 - self.followed.log_end().0).max(0))
    }
}
