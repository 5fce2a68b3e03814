//! Waits for a future on a plain thread.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Parks the thread until `future` is done. Not for use inside an async task: it would hold up the
/// runtime's thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    block_on_polling(future, Duration::ZERO)
}

/// The same, but looks for `span` whether it is woken before it parks (`busy.poll.us`).
pub(crate) fn block_on_polling<F: Future>(future: F, span: Duration) -> F::Output {
    let mut future = pin!(future);
    let unpark = Arc::new(Unpark { thread: std::thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&unpark));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        let began = (!span.is_zero()).then(Instant::now);
        while began.is_some_and(|began| began.elapsed() < span) {
            if unpark.woken.load(Ordering::Acquire) {
                break;
            }
            std::thread::yield_now();
        }
        // Not reset with the park: its token is there where this one is.
        if !unpark.woken.swap(false, Ordering::Acquire) {
            std::thread::park();
        }
    }
}
