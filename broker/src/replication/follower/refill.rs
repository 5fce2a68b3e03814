//! How far a replica that catches up has come, and how long it will take.

use std::time::{Duration, Instant};

use proto::Offset;

/// Between two looks at the speed, and between log lines.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(5);
/// Partitions named in one go; the others are only counted.
pub(super) const NAMED_MAX: usize = 8;

/// What came since a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refill {
    since: Instant,
    from: Offset,
    bytes: u64,
}

/// As it is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Speed {
    pub(super) bytes_per_second: u64,
    /// Seconds until the leader's end is reached at this speed; `None`: it does not come nearer.
    pub(super) seconds_left: Option<u64>,
}

impl Refill {
    pub(super) fn new(from: Offset, now: Instant) -> Self {
        Self { since: now, from, bytes: 0 }
    }

    /// Bytes were appended.
    pub(super) fn came(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// The speed since the last look, where enough time has gone by to tell; begins anew then.
    pub(super) fn look(&mut self, log_end: Offset, leader_end: Offset, now: Instant) -> Speed {
        let seconds = now.saturating_duration_since(self.since).as_secs_f64().max(0.001);
        let offsets = (log_end.0 - self.from.0).max(0) as f64 / seconds;
        let left = (leader_end.0 - log_end.0).max(0) as f64;
        let speed = Speed {
            bytes_per_second: (self.bytes as f64 / seconds) as u64,
            seconds_left: (offsets > 0.0).then(|| (left / offsets).ceil() as u64),
        };
        *self = Self::new(log_end, now);
        speed
    }
}
