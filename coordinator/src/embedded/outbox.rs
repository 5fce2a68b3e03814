//! What waits to be written to one connection. The engine puts replies and events in, the
//! connection takes them out; a peer that does not read is closed at the bound instead of being
//! remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Counters and bounds that all connections share.
#[derive(Debug)]
pub(crate) struct OutputBudget {
    pub(crate) per_connection: usize,
    pub(crate) total: usize,
    queued: AtomicUsize,
    /// The zxid up to which everything is on disk; pings tell it.
    pub(crate) durable: AtomicI64,
}

impl OutputBudget {
    pub(crate) fn new(per_connection: usize, total: usize) -> Self {
        Self { per_connection, total, queued: AtomicUsize::new(0), durable: AtomicI64::new(0) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// Close when what is queued has been written.
    AfterFlush,
    /// Close at once.
    Now,
}

#[derive(Debug)]
struct Queue {
    bytes: Vec<u8>,
    /// Taken out, not yet written.
    in_flight: usize,
    end: End,
}

/// The queue of one connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    budget: Arc<OutputBudget>,
    filled: Notify,
    killed: Notify,
}

impl Outbox {
    pub(crate) fn new(budget: Arc<OutputBudget>) -> Self {
        let queue = Queue { bytes: Vec::new(), in_flight: 0, end: End::Open };
        Self { queue: Mutex::new(queue), budget, filled: Notify::new(), killed: Notify::new() }
    }

    pub(crate) fn budget(&self) -> &OutputBudget {
        &self.budget
    }

    /// Queues a frame. Beyond the bounds the connection is closed; one frame is always taken where
    /// nothing else waits.
    pub(crate) fn push(&self, frame: &[u8]) {
        let mut queue = self.queue.lock();
        if queue.end != End::Open {
            return;
        }
        let waiting = queue.bytes.len() + queue.in_flight;
        let total = self.budget.queued.load(Ordering::Relaxed) + frame.len();
        let over = waiting + frame.len() > self.budget.per_connection || total > self.budget.total;
        if waiting > 0 && over {
            tracing::warn!(bytes = waiting, "registry client does not read, connection closed");
            self.end_now(&mut queue);
            return;
        }
        self.budget.queued.fetch_add(frame.len(), Ordering::Relaxed);
        queue.bytes.extend_from_slice(frame);
        drop(queue);
        self.filled.notify_one();
    }

    /// Closes the connection once all that is queued has been written.
    pub(crate) fn close(&self) {
        let mut queue = self.queue.lock();
        if queue.end == End::Open {
            queue.end = End::AfterFlush;
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// Closes the connection at once.
    pub(crate) fn kill(&self) {
        let mut queue = self.queue.lock();
        self.end_now(&mut queue);
    }

    fn end_now(&self, queue: &mut Queue) {
        queue.end = End::Now;
        let left = queue.bytes.len() + std::mem::take(&mut queue.in_flight);
        self.budget.queued.fetch_sub(left, Ordering::Relaxed);
        queue.bytes = Vec::new();
        self.killed.notify_one();
        self.filled.notify_one();
    }

    /// Waits until the connection is killed.
    pub(crate) async fn killed(&self) {
        self.killed.notified().await;
    }

    /// What is to be written next; `None` when the connection is to be closed. Tells that what it
    /// gave out before has been written.
    pub(crate) async fn next(&self) -> Option<Vec<u8>> {
        loop {
            {
                let mut queue = self.queue.lock();
                self.budget.queued.fetch_sub(queue.in_flight, Ordering::Relaxed);
                queue.in_flight = 0;
                if !queue.bytes.is_empty() {
                    queue.in_flight = queue.bytes.len();
                    return Some(std::mem::take(&mut queue.bytes));
                }
                if queue.end != End::Open {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let queue = self.queue.get_mut();
        let left = queue.bytes.len() + queue.in_flight;
        self.budget.queued.fetch_sub(left, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_too_slow_is_closed_and_its_bytes_are_given_back() {
        let budget = Arc::new(OutputBudget::new(10, 15));
        let one = Outbox::new(budget.clone());
        let two = Outbox::new(budget.clone());
        one.push(&[0; 20]); // alone in its queue: taken whatever its size
        one.push(&[0; 1]);
        assert_eq!(one.queue.lock().end, End::Now);
        assert_eq!(budget.queued.load(Ordering::Relaxed), 0);
        two.push(&[0; 8]);
        two.push(&[0; 2]);
        assert_eq!(two.queue.lock().end, End::Open);
        drop(two);
        assert_eq!(budget.queued.load(Ordering::Relaxed), 0);
    }
}
