//! [`Alarm`]: the timer of who waits again and again, seldom until its time is over.
//!
//! A timer of its own for each wait would mostly be set to an earlier moment than the one the thread
//! sleeps until, for which the runtime wakes itself: two system calls and a turn of its loop for each
//! request that waits. So the timer stays set when a wait is over; it goes off once, early for the wait
//! of that moment, and is set on to that one's end.

use std::pin::Pin;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

use super::seat;

/// For one waiter at a time.
#[derive(Debug, Default)]
pub(in crate::server) struct Alarm(Mutex<Option<(usize, Pin<Box<Sleep>>)>>);

impl Alarm {
    /// Ready from `deadline` on; until then it has the task woken, at the deadline at the latest.
    pub(in crate::server) fn poll(&self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut set = self.0.lock();
        // One of another thread's would wake that thread first.
        if set.as_ref().is_some_and(|(thread, _)| *thread != seat::here()) {
            *set = None;
        }
        let set = set.get_or_insert_with(|| (seat::here(), Box::pin(sleep_until(deadline))));
        let timer = &mut set.1;
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            // Set for a wait before this one.
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_rings_at_each_deadline_and_not_before() {
        let alarm = Alarm::default();
        let begun = Instant::now();
        for millis in [20, 30, 25, 40, 0] {
            let deadline = begun + Duration::from_millis(millis);
            poll_fn(|cx| alarm.poll(deadline, cx)).await;
            assert!(Instant::now() >= deadline, "{millis}");
        }
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_leaves_it_set_and_the_next_ends_in_time() {
        let alarm = Alarm::default();
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        for given_up in [at(60_000), at(10), at(30_000)] {
            let polled = poll_fn(|cx| Poll::Ready(alarm.poll(given_up, cx))).await;
            assert!(polled.is_pending() || Instant::now() >= given_up);
        }
        let set = alarm.0.lock().as_ref().map(|(_, timer)| timer.deadline());
        assert!(set == Some(at(10)) || Instant::now() >= at(10));
        let waits = poll_fn(|cx| alarm.poll(at(50), cx));
        tokio::time::timeout(Duration::from_secs(20), waits).await.unwrap();
        assert!(Instant::now() >= at(50));
    }
}
