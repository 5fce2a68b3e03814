//! How many bytes a second replicas that catch up may fetch
//! (`follower.replication.throttled.rate`), all fetchers of the broker together.
//!
//! A bucket that fills at the rate and may go into debt: what comes is counted when it has come, so
//! that one batch larger than the bucket gets through, and is paid for by the wait after it.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The bucket never holds more than what comes in this time.
const BURST: Duration = Duration::from_millis(500);

/// Shared by the fetchers that catch up.
#[derive(Debug)]
pub(super) struct Throttle(Mutex<Option<Bucket>>);

#[derive(Debug)]
struct Bucket {
    /// Bytes a second.
    rate: u64,
    /// Below zero: debt.
    bytes: i64,
    filled: Instant,
}

impl Throttle {
    /// `None`: no limit.
    pub(super) fn new(rate: Option<u64>, now: Instant) -> Self {
        Self(Mutex::new(rate.map(|rate| Bucket::new(rate, now))))
    }

    /// Another rate from now on; what is owed stays owed.
    pub(super) fn set_rate(&self, rate: Option<u64>, now: Instant) {
        let mut bucket = self.0.lock();
        *bucket = match (bucket.take(), rate) {
            (_, None) => None,
            (None, Some(rate)) => Some(Bucket::new(rate, now)),
            (Some(mut old), Some(rate)) => {
                old.fill(now);
                Some(Bucket { rate: rate.max(1), ..old })
            }
        };
    }

    /// The bytes a round may ask for now, or the moment to look again.
    pub(super) fn room(&self, most: u64, now: Instant) -> Result<u64, Instant> {
        let mut bucket = self.0.lock();
        let Some(bucket) = &mut *bucket else { return Ok(most) };
        bucket.fill(now);
        match bucket.bytes {
            1.. => Ok(most.min(bucket.burst().max(1))),
            owed => {
                let wait = (1 - owed) as f64 / bucket.rate as f64;
                Err(now + Duration::from_secs_f64(wait.min(60.0)))
            }
        }
    }

    /// Bytes came.
    pub(super) fn take(&self, bytes: u64, now: Instant) {
        if let Some(bucket) = &mut *self.0.lock() {
            bucket.fill(now);
            bucket.bytes = bucket.bytes.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }
}

impl Bucket {
    fn new(rate: u64, now: Instant) -> Self {
        let bucket = Self { rate: rate.max(1), bytes: 0, filled: now };
        Self { bytes: bucket.burst() as i64, ..bucket }
    }

    fn burst(&self) -> u64 {
        ((self.rate as f64 * BURST.as_secs_f64()) as u64).min(i64::MAX as u64)
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled);
        let fresh = (passed.as_secs_f64() * self.rate as f64) as i64;
        if fresh > 0 {
            self.bytes = self.bytes.saturating_add(fresh).min(self.burst() as i64);
            self.filled = now;
        }
    }
}
