//! The bound on bytes of requests taken from clients and not yet done with (`queued.max.bytes`).
//!
//! A request reserves its whole length as soon as its length is known, before more of it is read;
//! when the budget is used up it waits, and the peer's flow-control window fills. A request that
//! has its reservation is read to its end, so requests that are half here never starve each other.
//!
//! What a request comes to beside its bytes, its decoded items and its answer, is known only when it
//! is there, and is *charged* then. While charges make up the whole limit again, nobody who looks
//! ([`Budget::poll_settled`]) begins another request. Who holds a charge waits for nothing here, so
//! charges always come to an end; together they exceed the limit by one request a thread.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::metrics::Metrics;

/// Shared by all connections.
pub(crate) struct Budget {
    limit: usize,
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    used: usize,
    charged: usize,
    waiting: Vec<Waker>,
}

impl State {
    fn wait(&mut self, cx: &Context<'_>) {
        if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
        }
    }
}

/// Bytes of one request; given back when this drops.
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

/// Bytes that a request takes beside its own; given back when this drops.
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

/// Less is not charged: what it comes to over all connections is small.
const CHARGED_MIN: usize = 4 << 10;

impl Budget {
    pub(crate) fn new(limit: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { limit, state: Mutex::default(), metrics })
    }

    /// Reserves `bytes`, or has the task woken when there is room. With nothing reserved any
    /// request gets in, however large: message size has a limit of its own.
    pub(crate) fn poll_reserve(
        self: &Arc<Self>,
        bytes: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Reservation> {
        let mut state = self.state.lock();
        if state.used > 0 && state.used.saturating_add(bytes) > self.limit {
            state.wait(cx);
            return Poll::Pending;
        }
        state.used += bytes;
        drop(state);
        self.metrics.queued_bytes.add(bytes as i64);
        Poll::Ready(Reservation { budget: Arc::clone(self), bytes })
    }

    /// Takes note of bytes that are there already; `None` where they are too few to matter.
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        if bytes < CHARGED_MIN {
            return None;
        }
        self.state.lock().charged += bytes;
        self.metrics.charged_bytes.add(bytes as i64);
        Some(Charge { budget: Arc::clone(self), bytes })
    }

    /// Ready while charges leave room for another request.
    pub(crate) fn poll_settled(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.charged < self.limit {
            return Poll::Ready(());
        }
        state.wait(cx);
        Poll::Pending
    }

    /// Whether somebody waits for room.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.state.lock().waiting.is_empty()
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.budget.state.lock();
            state.charged -= self.bytes;
            if state.charged < self.budget.limit {
                std::mem::take(&mut state.waiting)
            } else {
                Vec::new()
            }
        };
        self.budget.metrics.charged_bytes.add(-(self.bytes as i64));
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.budget.state.lock();
            state.used -= self.bytes;
            std::mem::take(&mut state.waiting)
        };
        self.budget.metrics.queued_bytes.add(-(self.bytes as i64));
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn above_the_limit_a_request_waits_until_another_is_done() {
        let metrics = Arc::new(Metrics::default());
        let budget = Budget::new(100, Arc::clone(&metrics));
        let woken = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);

        let Poll::Ready(first) = budget.poll_reserve(80, &mut cx) else { panic!() };
        assert!(budget.poll_reserve(30, &mut cx).is_pending());
        assert!(budget.poll_reserve(30, &mut cx).is_pending());
        let Poll::Ready(_small) = budget.poll_reserve(20, &mut cx) else { panic!() };
        assert_eq!(metrics.queued_bytes.get(), 100);
        drop(first);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(budget.poll_reserve(30, &mut cx).is_ready());
    }

    #[test]
    fn what_requests_come_to_holds_up_the_next_and_only_while_it_is_much() {
        let metrics = Arc::new(Metrics::default());
        let budget = Budget::new(10_000, Arc::clone(&metrics));
        let woken = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);

        assert!(budget.charge(CHARGED_MIN - 1).is_none());
        let first = budget.charge(9_000);
        assert!(budget.poll_settled(&cx).is_ready() && !budget.is_awaited());
        let second = budget.charge(50_000);
        assert_eq!(metrics.charged_bytes.get(), 59_000);
        assert!(budget.poll_settled(&cx).is_pending() && budget.is_awaited());
        drop(first);
        assert_eq!(woken.0.load(Ordering::SeqCst), 0, "there is still too much");
        assert!(budget.poll_reserve(9_000, &mut cx).is_ready(), "to read is not to begin");
        drop(second);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(budget.poll_settled(&cx).is_ready() && metrics.charged_bytes.get() == 0);
    }

    #[test]
    fn a_request_larger_than_the_budget_goes_alone() {
        let budget = Budget::new(100, Arc::default());
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(large) = budget.poll_reserve(1_000, &mut cx) else { panic!() };
        assert!(budget.poll_reserve(1, &mut cx).is_pending());
        drop(large);
        assert!(budget.poll_reserve(1, &mut cx).is_ready());
    }
}
