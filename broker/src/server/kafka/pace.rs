//! How slowly a peer may send a request or take an answer.
//!
//! A peer that does nothing for `socket.stalled.timeout.ms` is cut off. One that moves a byte now and
//! then is not still, yet it keeps a request's room from others for as long as it likes: so what it
//! moves has to be done in that time and as long as it takes at a rate that any line has. While others wait
//! for room the rate is one that a line in use has.

use std::time::Duration;

/// Bytes a second that every peer manages.
const RATE_MIN: u64 = 1 << 10;
/// Bytes a second that a peer has to manage while others wait for room.
const RATE_PRESSED: u64 = 64 << 10;

/// How long a request or an answer of so many bytes may be under way.
pub(super) fn allowed(stalled: Duration, bytes: usize, is_pressed: bool) -> Duration {
    let rate = if is_pressed { RATE_PRESSED } else { RATE_MIN };
    let micros = (bytes as u64).saturating_mul(1_000_000) / rate;
    stalled.saturating_add(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_slow_gets_time_and_less_of_it_while_others_wait() {
        let stalled = Duration::from_secs(30);
        assert_eq!(allowed(stalled, 0, false), stalled);
        assert_eq!(allowed(stalled, 1 << 20, false), stalled + Duration::from_secs(1024));
        assert_eq!(allowed(stalled, 1 << 20, true), stalled + Duration::from_secs(16));
        assert!(allowed(stalled, usize::MAX, false) > stalled);
    }
}
