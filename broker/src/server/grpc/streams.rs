//! [`Streams`]: the requests of one connection, worked on by the connection's own task.
//!
//! A task of its own for each would stay on the thread where it began when the connection goes to
//! another ([`super::seat`]), and costs a turn of the scheduler for each message.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where HTTP/2 puts the requests it begins.
#[derive(Clone, Default)]
pub(super) struct Begun(Arc<Mutex<Vec<Stream>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Begun {
    fn execute(&self, stream: F) {
        // A panic ends this request, not the others of the connection.
        let stream = AssertUnwindSafe(stream).catch_unwind().map(|_| ());
        self.0.lock().push(Box::pin(stream));
    }
}

/// Requests under way; dropped with their connection.
#[derive(Default)]
pub(super) struct Streams {
    begun: Begun,
    under_way: FuturesUnordered<Stream>,
}

impl Streams {
    /// For HTTP/2.
    pub(super) fn begun(&self) -> Begun {
        self.begun.clone()
    }

    /// Works on those that can go on.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        loop {
            self.under_way.extend(self.begun.0.lock().drain(..));
            match self.under_way.poll_next_unpin(cx) {
                Poll::Ready(Some(())) => {}
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use hyper::rt::Executor;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn each_goes_on_when_it_can_and_a_panic_ends_one() {
        let mut streams = Streams::default();
        let mut cx = Context::from_waker(Waker::noop());
        streams.poll(&mut cx);
        let (sender, receiver) = oneshot::channel::<()>();
        let (answer, mut answered) = oneshot::channel::<()>();
        streams.begun().execute(async { panic!("injected") });
        streams.begun().execute(async move {
            let _ = receiver.await;
            let _ = answer.send(());
        });
        streams.poll(&mut cx);
        assert_eq!(streams.under_way.len(), 1);
        sender.send(()).unwrap();
        streams.poll(&mut cx);
        assert!(answered.try_recv().is_ok() && streams.under_way.is_empty());
    }
}
