//! How long to wait before the next try.

use std::time::Duration;

/// Waits that double from `initial` to `max`, each shortened or lengthened by up to a fifth at random
/// so that clients that failed together do not come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// Before the first failure.
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, failures: 0 }
    }

    /// Counts a failure and tells how long to wait after it.
    pub fn after_failure(&mut self) -> Duration {
        let doubled = self.initial.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.max).mul_f64(0.8 + 0.4 * fastrand::f64())
    }

    /// Failures in a row so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// After a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for expected in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.after_failure().as_millis();
            assert!((expected * 79 / 100..=expected * 121 / 100).contains(&wait), "{wait}");
        }
        for _ in 0..1000 {
            assert!(backoff.after_failure() <= Duration::from_millis(1200));
        }
        backoff.reset();
        assert!(backoff.after_failure() <= Duration::from_millis(120));
    }
}
