//! How long a session is certain to be alive, by this machine's own monotonic clock.
//!
//! A session's reported state lags: a paused process still reads `Connected` when it wakes, and
//! the servers may have given its ephemerals away. The lease does not: it counts from the *sending*
//! of the last request that the ensemble's leader answered, so it has run out before the leader can
//! have expired the session. It bounds how long one acts on old knowledge; it fences nothing: every
//! write that matters is conditional as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The lease of one session; clones share it.
#[derive(Debug, Clone)]
pub struct Lease {
    base: Instant,
    /// Milliseconds after `base` at which it runs out; only grows, until it is ended (0).
    until_ms: Arc<AtomicU64>,
    span: Duration,
}

impl Lease {
    /// A lease of a session with the granted `timeout`, not yet valid.
    ///
    /// It lasts three quarters of the timeout: the rest covers the time a follower takes to tell the
    /// leader that it heard from us (half a tick), and the difference of two clocks' speeds.
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            // What it is extended from may have been sent a little before this call.
            base: Instant::now().checked_sub(timeout).unwrap_or_else(Instant::now),
            until_ms: Arc::new(AtomicU64::new(0)),
            span: timeout.mul_f64(0.75),
        }
    }

    /// True while no other process can have been given what this session holds.
    pub fn is_valid(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// For how long it stays valid if nothing is heard any more.
    pub fn remaining(&self) -> Duration {
        let until = Duration::from_millis(self.until_ms.load(Ordering::Acquire));
        until.saturating_sub(self.base.elapsed())
    }

    /// The leader has answered what was sent at `sent`.
    pub(super) fn extend(&self, sent: Instant) {
        let Some(after) = sent.checked_duration_since(self.base) else { return };
        let until = after + self.span;
        self.until_ms.fetch_max(until.as_millis() as u64, Ordering::AcqRel);
    }

    /// The session is over or given up.
    pub(super) fn end(&self) {
        self.until_ms.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_from_the_sending() {
        let lease = Lease::new(Duration::from_secs(8));
        assert!(!lease.is_valid());
        let now = Instant::now();
        lease.extend(now);
        assert!(lease.is_valid());
        assert!(lease.remaining() <= Duration::from_secs(6));
        assert!(lease.remaining() > Duration::from_secs(5));
        lease.end();
        assert!(!lease.is_valid());
        let late = Lease::new(Duration::from_millis(100));
        late.extend(now - Duration::from_secs(1));
        assert!(!late.is_valid());
    }
}
