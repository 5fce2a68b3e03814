//! A token bucket: how long to wait so that bytes do not flow faster than a rate. Waiting is the
//! caller's.

use std::time::Duration;

use parking_lot::Mutex;

/// Saved up at most: what flows in so long a time.
const BURST: Duration = Duration::from_millis(500);

/// Bytes per second, shared by who takes from it.
#[derive(Debug)]
pub(super) struct Throttle {
    /// `None`: as fast as may be.
    bytes_per_second: Option<f64>,
    /// When last taken, and what was left then; less than nothing is a debt.
    state: Mutex<(Duration, f64)>,
}

impl Throttle {
    /// At most so many bytes a second.
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        let bytes_per_second = bytes_per_second.map(|rate| rate.max(1) as f64);
        Self { bytes_per_second, state: Mutex::new((Duration::ZERO, 0.0)) }
    }

    /// Takes bytes at a time of the clock's `elapsed`; says how long to wait before using them.
    pub(super) fn take(&self, bytes: usize, now: Duration) -> Duration {
        let Some(rate) = self.bytes_per_second else { return Duration::ZERO };
        let mut state = self.state.lock();
        let (last, left) = *state;
        let gained = now.saturating_sub(last).as_secs_f64() * rate;
        let left = (left + gained).min(rate * BURST.as_secs_f64()) - bytes as f64;
        *state = (now.max(last), left);
        Duration::try_from_secs_f64((-left / rate).max(0.0)).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_flow_at_the_rate_and_idle_time_saves_up_half_a_second() {
        let throttle = Throttle::new(Some(1000));
        let second = Duration::from_secs(1);
        assert_eq!(throttle.take(1000, Duration::ZERO), second);
        assert_eq!(throttle.take(500, Duration::ZERO), second * 3 / 2, "debts add up");
        assert_eq!(throttle.take(0, second * 3 / 2), Duration::ZERO);
        assert_eq!(throttle.take(500, second * 100), Duration::ZERO, "saved up");
        assert_eq!(throttle.take(500, second * 100), second / 2);
        assert_eq!(Throttle::new(None).take(usize::MAX, Duration::ZERO), Duration::ZERO);
    }
}
