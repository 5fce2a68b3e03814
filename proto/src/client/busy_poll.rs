//! Looking for what comes instead of sleeping (`busy.poll.us`).
//!
//! A thread that sleeps until a socket has something is woken tens of microseconds late where its core
//! went idle meanwhile. With a span set, a task of the runtime yields in a loop for so long after each
//! sign of traffic: every turn then polls sockets and timers without waiting, and all other tasks run as
//! ever. It costs the core it runs on, so it has to pay:
//!
//! | what happens | then |
//! |---|---|
//! | traffic within the span | the span begins anew, credit rises |
//! | nothing within the span | the thread sleeps, credit falls |
//! | no credit is left | traffic is not followed by polling so many times, doubling up to a bound; then one try |
//!
//! Where no traffic is, nothing polls. On a runtime of several threads one of them polls for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// Spans without traffic before polling is given up, at most.
const CREDIT_MAX: u32 = 8;
/// How many times traffic is not followed by polling, at first …
const PAUSE_MIN: u32 = 8;
/// … and at most.
const PAUSE_MAX: u32 = 256;

/// What sockets tell of traffic and a [`Polling`] task looks at; one a runtime, cheap to clone. The
/// default is off, and costs nothing.
#[derive(Debug, Clone, Default)]
pub struct BusyPoll(Option<Arc<Signs>>);

#[derive(Debug)]
struct Signs {
    span: Duration,
    /// Counts signs of traffic.
    traffic: AtomicU64,
    /// The task sleeps and wants to be woken by traffic.
    asleep: AtomicBool,
    wake: Notify,
}

/// The task that polls; ends when this is dropped.
#[derive(Debug)]
pub struct Polling(AbortHandle);

impl Drop for Polling {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl BusyPoll {
    /// The longest span that settings may ask for, in microseconds.
    pub const MICROS_MAX: u64 = 1000;

    /// Polls for `span` after traffic; off where it is zero.
    pub fn new(span: Duration) -> Self {
        let signs = |span| Signs {
            span,
            traffic: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            wake: Notify::new(),
        };
        Self((!span.is_zero()).then(|| Arc::new(signs(span))))
    }

    /// Something was received or sent.
    pub fn traffic(&self) {
        let Some(signs) = &self.0 else { return };
        // Count, then look whether it sleeps; the task says so, then looks at the count: one of the two
        // sees the other.
        signs.traffic.fetch_add(1, Ordering::SeqCst);
        if signs.asleep.load(Ordering::SeqCst) && signs.asleep.swap(false, Ordering::SeqCst) {
            signs.wake.notify_one();
        }
    }

    /// Starts the task on the current runtime; `None` where polling is off.
    pub fn start(&self) -> Option<Polling> {
        let signs = Arc::clone(self.0.as_ref()?);
        Some(Polling(tokio::spawn(async move { signs.poll().await }).abort_handle()))
    }
}

impl Signs {
    async fn poll(&self) {
        let mut worth = Worth::default();
        let mut seen = 0;
        loop {
            seen = self.traffic_after(seen).await;
            if !worth.is_polled() {
                continue;
            }
            let mut since = Instant::now();
            loop {
                // Runs the runtime's other tasks, then has it poll the sockets without waiting.
                tokio::task::yield_now().await;
                let (traffic, now) = (self.traffic.load(Ordering::Acquire), Instant::now());
                if traffic != seen {
                    (seen, since) = (traffic, now);
                    worth.paid();
                } else if now.duration_since(since) >= self.span {
                    worth.in_vain();
                    break;
                } else {
                    // Whoever shares this core comes first.
                    std::thread::yield_now();
                }
            }
        }
    }

    /// Sleeps until there was traffic beyond `seen`; returns what there was.
    async fn traffic_after(&self, seen: u64) -> u64 {
        loop {
            self.asleep.store(true, Ordering::SeqCst);
            let traffic = self.traffic.load(Ordering::SeqCst);
            if traffic != seen {
                self.asleep.store(false, Ordering::SeqCst);
                return traffic;
            }
            self.wake.notified().await;
        }
    }
}

/// Whether polling pays: see the module's table.
#[derive(Debug, PartialEq, Eq)]
struct Worth {
    credit: u32,
    /// Traffic that is still to pass without polling.
    passes: u32,
    pause: u32,
}

impl Default for Worth {
    fn default() -> Self {
        Self { credit: CREDIT_MAX, passes: 0, pause: PAUSE_MIN }
    }
}

impl Worth {
    /// There is traffic: whether it is to be followed by polling.
    fn is_polled(&mut self) -> bool {
        let polled = self.passes == 0;
        self.passes = self.passes.saturating_sub(1);
        polled
    }

    fn paid(&mut self) {
        self.credit = (self.credit + 1).min(CREDIT_MAX);
        self.pause = PAUSE_MIN;
    }

    fn in_vain(&mut self) {
        self.credit = self.credit.saturating_sub(1);
        if self.credit == 0 {
            self.passes = self.pause;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current_thread() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn polling_is_given_up_where_it_does_not_pay_and_tried_again() {
        let mut worth = Worth::default();
        let mut in_vain = 0;
        for _ in 0..10_000 {
            if worth.is_polled() {
                in_vain += 1;
                worth.in_vain();
            }
        }
        assert!(in_vain < 60, "{in_vain}");
        // One time that pays: the pause is short again, and a second one is not passed over.
        while !worth.is_polled() {}
        worth.paid();
        assert_eq!((worth.credit, worth.pause), (1, PAUSE_MIN));
        assert!(worth.is_polled());
    }

    #[test]
    fn where_it_pays_every_traffic_is_followed_by_polling() {
        let mut worth = Worth::default();
        for _ in 0..1_000 {
            assert!(worth.is_polled());
            worth.paid();
            worth.paid();
            worth.in_vain();
        }
    }

    /// Waits for as long as a slow machine may need; in vain only where the task does not yield.
    async fn falls_asleep(signs: &Signs) {
        let asleep = async {
            while !signs.asleep.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), asleep)
            .await
            .expect("it polls on without traffic");
    }

    #[test]
    fn without_traffic_nothing_polls() {
        let busy_poll = BusyPoll::new(Duration::from_micros(BusyPoll::MICROS_MAX));
        current_thread().block_on(async {
            let signs = Arc::clone(busy_poll.0.as_ref().unwrap());
            let _polling = busy_poll.start();
            falls_asleep(&signs).await;
            for _ in 0..20 {
                busy_poll.traffic();
                assert!(!signs.asleep.load(Ordering::SeqCst));
                falls_asleep(&signs).await;
            }
        });
    }

    #[test]
    fn timers_and_tasks_go_on_while_it_polls() {
        // So long a span that the task polls throughout, however slow the machine is.
        let busy_poll = BusyPoll::new(Duration::from_secs(3600));
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            current_thread().block_on(async {
                let signs = Arc::clone(busy_poll.0.as_ref().unwrap());
                let _polling = busy_poll.start();
                falls_asleep(&signs).await;
                busy_poll.traffic();
                for _ in 0..20 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    tokio::spawn(async {}).await.unwrap();
                    assert!(!signs.asleep.load(Ordering::SeqCst), "the span is not over");
                }
                done.send(()).unwrap();
            });
        });
        is_done
            .recv_timeout(Duration::from_secs(60))
            .expect("the polling task lets nothing else run");
    }

    #[test]
    fn the_task_ends_with_its_owner_and_off_is_off() {
        current_thread().block_on(async {
            assert!(BusyPoll::default().start().is_none());
            assert!(BusyPoll::new(Duration::ZERO).start().is_none());
            let busy_poll = BusyPoll::new(Duration::from_micros(50));
            let polling = busy_poll.start();
            assert_eq!(Arc::strong_count(busy_poll.0.as_ref().unwrap()), 2);
            drop(polling);
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            assert_eq!(Arc::strong_count(busy_poll.0.as_ref().unwrap()), 1);
        });
    }

    /// Signs that come from other threads are never missed for good.
    #[test]
    fn traffic_of_another_thread_wakes_the_task() {
        let busy_poll = BusyPoll::new(Duration::from_micros(10));
        let teller = busy_poll.clone();
        let thread = std::thread::spawn(move || (0..20_000).for_each(|_| teller.traffic()));
        current_thread().block_on(async {
            let signs = Arc::clone(busy_poll.0.as_ref().unwrap());
            let _polling = busy_poll.start();
            while !thread.is_finished() {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(signs.asleep.load(Ordering::SeqCst), "all traffic was seen");
            busy_poll.traffic();
            assert!(!signs.asleep.load(Ordering::SeqCst), "the next one wakes it");
        });
        thread.join().unwrap();
    }
}
