//! How far senders that wait for nothing run ahead of the network.
//!
//! A thread that sends without awaiting anything encodes several times faster than a broker takes it,
//! so it would fill `buffer.memory` and every batch would lie there until it has left the caches:
//! checksum and socket then read it from memory, which costs more than encoding did. Blocked a
//! little earlier the thread loses nothing, as it had to wait anyway, and its batches stay near.
//!
//! `buffer.memory` remains the bound, and all of it is used where the network does not move: a
//! partition from which nothing is taken for [`PATIENCE`] holds nobody up until something is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::accumulator::PartitionQueue;

/// Full batches of all partitions may take so many bytes before a thread waits...
const FAR: usize = 4 << 20;
/// ...until they take so many.
const NEAR: usize = 2 << 20;
/// A partition with fewer full batches than this holds nobody up.
const BACKLOG: usize = 2;
/// How long nothing may be taken from a partition before it counts as stalled.
const PATIENCE: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug)]
pub(crate) struct Pace {
    patience: Duration,
    /// Bytes of full batches that the sender has not taken.
    ahead: AtomicUsize,
    waiting: AtomicUsize,
    lock: Mutex<()>,
    moved: Condvar,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            patience: PATIENCE,
            ahead: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            lock: Mutex::new(()),
            moved: Condvar::new(),
        }
    }
}

impl Pace {
    /// A batch of `bytes` is full.
    pub(crate) fn filled(&self, bytes: usize) {
        self.ahead.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It was taken from `queue`, to be sent or for good.
    pub(crate) fn took(&self, queue: &PartitionQueue, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let before = self.ahead.fetch_sub(bytes, Ordering::SeqCst);
        let is_near = before > NEAR && before.saturating_sub(bytes) <= NEAR;
        // Who waits has counted itself before it looks at `ahead`: one of both sees the other.
        if (is_near || queue.backlog() < BACKLOG) && self.waiting.load(Ordering::SeqCst) > 0 {
            drop(self.lock.lock());
            self.moved.notify_all();
        }
    }

    /// Blocks the thread, which has just filled a batch of `queue`, while it is far ahead.
    pub(crate) fn keep(&self, queue: &PartitionQueue) {
        if self.ahead.load(Ordering::Relaxed) > FAR
            && queue.backlog() >= BACKLOG
            && !queue.is_stalled()
        {
            self.wait(queue);
        }
    }

    #[cold]
    fn wait(&self, queue: &PartitionQueue) {
        let mut guard = self.lock.lock();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        while self.ahead.load(Ordering::SeqCst) > NEAR && queue.backlog() >= BACKLOG {
            let before = queue.backlog();
            let is_late = self.moved.wait_for(&mut guard, self.patience).timed_out();
            if is_late && queue.backlog() >= before {
                queue.set_stalled();
                break;
            }
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::accumulator::{Accumulator, Taken};
    use crate::config::ProducerConfig;
    use crate::record::Record;
    use proto::TopicPartition;

    fn accumulator() -> (Accumulator, Arc<PartitionQueue>) {
        let accumulator = Accumulator::new(&ProducerConfig::default());
        let queue = PartitionQueue::new(TopicPartition::new("t", 0), 0);
        let taken_up = Arc::clone(&queue);
        accumulator.topic("t").update(|routes| routes.queues.push(taken_up));
        (accumulator, queue)
    }

    fn send(accumulator: &Accumulator, bytes: usize) {
        let value = [0; 1000];
        for _ in 0..bytes / value.len() {
            accumulator.append_detached(&Record::to("t").value(&value), true).unwrap();
        }
    }

    #[test]
    fn a_partition_that_stalls_takes_all_memory_after_one_wait() {
        let (accumulator, _queue) = accumulator();
        let began = Instant::now();
        send(&accumulator, 30 << 20);
        let took = began.elapsed();
        assert!(took >= PATIENCE, "{took:?}");
        assert!(accumulator.memory.taken() >= 30 << 20);
        assert!(accumulator.pace.ahead.load(Ordering::Relaxed) > 29 << 20);
    }

    #[test]
    fn while_batches_are_taken_the_sender_stays_near() {
        let (mut accumulator, queue) = accumulator();
        // Whoever takes batches may lose its processor for longer than what counts as a stall.
        accumulator.pace.patience = Duration::from_secs(60);
        let mut most = 0;
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| send(&accumulator, 40 << 20));
            while !sending.is_finished() {
                most = most.max(accumulator.pace.ahead.load(Ordering::Relaxed));
                match queue.take(Instant::now(), Duration::from_secs(60)) {
                    Taken::Batch(batch) => {
                        accumulator.pace.took(&queue, batch.ahead);
                        accumulator.memory.give(batch.charged);
                    }
                    _ => std::thread::yield_now(),
                }
            }
        });
        assert!(most <= FAR + (1 << 20), "{most}");
    }
}
