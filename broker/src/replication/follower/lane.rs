//! Which of the two streams to a leader a partition is fetched on. Pure.
//!
//! Partitions that keep up share one stream; those far behind (a new replica, a lost disk) have
//! another, on a connection and a thread of its own, where the throttle is. So refilling never
//! makes a replica in sync wait, neither for bytes nor for the disk.
//!
//! A replica is behind while its log ends below the leader's high watermark: one in the ISR never
//! does. It goes back to the other stream as soon as it is not; the leader adds it to the ISR then.

use std::time::{Duration, Instant};

use proto::Offset;

/// A partition that caught up stays unthrottled at least so long, even if it falls behind again:
/// the leader needs a moment to take it into the ISR.
const SETTLES_FOR: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Lane {
    /// Keeps up.
    InSync,
    /// Catches up, throttled.
    Refill,
}

impl Lane {
    /// The name in threads' names and log lines.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::InSync => "fetch",
            Self::Refill => "refill",
        }
    }

    /// Where a partition belongs after an answer. `since`: when it came to this lane from the other;
    /// `None` where it began here.
    pub(super) fn after(
        self,
        log_end: Offset,
        high_watermark: Offset,
        since: Option<Instant>,
        now: Instant,
    ) -> Self {
        let settled = since.is_none_or(|since| now.duration_since(since) >= SETTLES_FOR);
        match self {
            Self::Refill if log_end >= high_watermark => Self::InSync,
            Self::InSync if log_end < high_watermark && settled => Self::Refill,
            stays => stays,
        }
    }
}
