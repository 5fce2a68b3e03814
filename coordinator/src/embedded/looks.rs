//! When the engine looks at its sessions: every [`TICK`] while one may soon expire, and not before that
//! otherwise, so that an idle registry sleeps.
//!
//! A look that comes late shows that the process itself stood still, and could have heard nobody. That
//! holds however long the sleep before it was: a look is planned [`NEAR`] before any session's end,
//! so a session that is overdue at the first look after a stall is so because the look was late.

use std::time::{Duration, Instant};

/// How often sessions are looked at while one of them is near its end.
const TICK: Duration = Duration::from_millis(100);
/// What counts as near.
const NEAR: Duration = Duration::from_millis(500);
/// The longest sleep: other things are looked at on the same occasion.
const LONGEST: Duration = Duration::from_secs(10);
/// A look this late is no delay of the scheduler any more.
const LATE: Duration = Duration::from_millis(200);

// What a look may be late without being forgiven never ends a session that was not near its end.
const _: () = assert!(LATE.as_millis() < NEAR.as_millis());

/// The time of the next look.
#[derive(Debug)]
pub(super) struct Looks {
    next: Instant,
}

impl Looks {
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now + TICK }
    }

    /// When to look next.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Begins a look; how long the process stood still, if it did.
    pub(super) fn begin(&self, now: Instant) -> Option<Duration> {
        let late = now.saturating_duration_since(self.next);
        (late > LATE).then_some(late + TICK)
    }

    /// Ends a look: of the sessions there are, the first may expire `remaining` from `now`.
    pub(super) fn plan(&mut self, now: Instant, remaining: Option<Duration>) {
        let sleep = remaining.unwrap_or(LONGEST).saturating_sub(NEAR).clamp(TICK, LONGEST);
        self.next = now + sleep;
    }

    /// There is a new session of this timeout.
    pub(super) fn hasten(&mut self, now: Instant, timeout: Duration) {
        self.next = self.next.min(now + timeout.saturating_sub(NEAR).max(TICK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Looks in a minute at sessions that are heard from every `heard`.
    fn looks_in_a_minute(timeout: Duration, heard: Duration) -> u32 {
        let start = Instant::now();
        let mut looks = Looks::new(start);
        let mut count = 0;
        while looks.next() < start + ms(60_000) {
            let now = looks.next();
            assert_eq!(looks.begin(now), None);
            let silent = (now - start).as_millis() as u64 % heard.as_millis() as u64;
            looks.plan(now, Some(timeout.saturating_sub(ms(silent))));
            count += 1;
        }
        count
    }

    #[test]
    fn sessions_that_are_heard_from_wake_nobody_every_tick() {
        assert!(looks_in_a_minute(ms(2_000), ms(300)) <= 51);
        assert!(looks_in_a_minute(ms(6_000), ms(1_000)) <= 14);
        assert!(looks_in_a_minute(ms(600_000), ms(1_000)) <= 7);
    }

    #[test]
    fn without_sessions_it_sleeps() {
        let now = Instant::now();
        let mut looks = Looks::new(now);
        looks.plan(now, None);
        assert!(looks.next() >= now + LONGEST - NEAR);
        looks.hasten(now, ms(400));
        assert_eq!(looks.next(), now + TICK);
        looks.hasten(now, ms(60_000));
        assert_eq!(looks.next(), now + TICK, "a longer one delays no look");
    }

    #[test]
    fn near_its_end_a_session_is_looked_at_every_tick() {
        let now = Instant::now();
        let mut looks = Looks::new(now);
        for remaining in [599, 500, 100, 0] {
            looks.plan(now, Some(ms(remaining)));
            assert_eq!(looks.next(), now + TICK, "{remaining}");
        }
        looks.plan(now, Some(ms(1_700)));
        assert_eq!(looks.next(), now + ms(1_200));
    }

    #[test]
    fn a_stall_is_found_after_a_long_sleep_too() {
        let now = Instant::now();
        let mut looks = Looks::new(now);
        let remaining = ms(6_000);
        looks.plan(now, Some(remaining));
        // However long it stood still: what is forgiven leaves the session its life.
        for stall in [501, 700, 5_000] {
            let woken = looks.next() + ms(stall);
            let forgiven = looks.begin(woken).unwrap();
            assert!(woken < now + remaining + forgiven);
        }
        assert_eq!(looks.begin(looks.next() + ms(199)), None);
    }
}
