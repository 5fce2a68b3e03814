//! Records that found no room, or whose topic is not known yet, in the order they came.
//!
//! While somebody stands in line nobody passes it, so the order in which one thread sends is kept and
//! every sender gets its turn. The sender task lets the line move whenever memory comes free or
//! metadata arrives; it encodes the waiting copies itself, so a future that nobody polls holds up
//! nobody. The line takes a quarter of `buffer.memory` on top of it.
//!
//! One line for all partitions: one that has no leader for long can fill the memory, and then the front of
//! the line, for all (until `delivery.timeout.ms` of what it holds and `max.block.ms` of who waits), as in
//! Kafka's producer and librdkafka's, whose buffers are shared by all partitions too. Records without a key
//! go elsewhere meanwhile. Letting others pass would take a line, and a share of the memory, each.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::batch::{Admission, Receipt};
use crate::error::SendError;
use crate::record::OwnedRecord;

/// One waiting record.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) record: OwnedRecord,
    pub(crate) size: usize,
    pub(crate) admission: Arc<Admission>,
    pub(crate) since: Instant,
}

/// The queue, under its lock. Lock order: the line before any partition's queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: VecDeque<Waiting>,
    /// Records of topics that are not known yet; what comes later for such a topic follows them.
    parked: HashMap<Box<str>, VecDeque<Waiting>>,
    len: usize,
    bytes: usize,
    closed: bool,
    /// Records that left with an error since it was last asked, and the first such error.
    failed: Option<(u64, SendError)>,
}

/// What to do with the record at the front.
pub(crate) enum Step {
    /// It has its answer.
    Admitted(Result<Receipt, SendError>),
    /// Its topic is not known: let others pass.
    Park,
    /// There is no room: nobody moves.
    Stop,
}

impl Queue {
    /// Offers records to `admit` from the front until it says stop.
    pub(crate) fn admit_while(&mut self, mut admit: impl FnMut(&Waiting) -> Step) {
        while let Some(front) = self.waiting.pop_front() {
            if let Some(parked) = self.parked.get_mut(front.record.topic()) {
                parked.push_back(front);
                continue;
            }
            match admit(&front) {
                Step::Admitted(result) => self.leave(&front, result),
                Step::Park => {
                    self.parked.entry(front.record.topic().into()).or_default().push_back(front);
                }
                Step::Stop => {
                    self.waiting.push_front(front);
                    return;
                }
            }
        }
    }

    /// The topic is known now: its records go to the front.
    pub(crate) fn unpark(&mut self, topic: &str) {
        for waiting in self.parked.remove(topic).into_iter().flatten().rev() {
            self.waiting.push_front(waiting);
        }
    }

    /// The topics that records wait for.
    pub(crate) fn parked_topics(&self) -> impl Iterator<Item = &str> {
        self.parked.keys().map(|topic| &**topic)
    }

    /// Removes those in line since `before` or longer, with the error `why` gives each (told whether
    /// it waits for its topic).
    pub(crate) fn expire(
        &mut self,
        before: Instant,
        mut why: impl FnMut(&Waiting, bool) -> SendError,
    ) {
        let is_over = |waiting: Option<&Waiting>| waiting.is_some_and(|w| w.since <= before);
        while is_over(self.waiting.front())
            && let Some(front) = self.waiting.pop_front()
        {
            let error = why(&front, false);
            self.leave(&front, Err(error));
        }
        let mut parked = std::mem::take(&mut self.parked);
        for queue in parked.values_mut() {
            while is_over(queue.front())
                && let Some(front) = queue.pop_front()
            {
                let error = why(&front, true);
                self.leave(&front, Err(error));
            }
        }
        parked.retain(|_, queue| !queue.is_empty());
        self.parked = parked;
    }

    /// Removes all records of `topic` with `error`.
    pub(crate) fn fail_topic(&mut self, topic: &str, error: &SendError) {
        for waiting in self.parked.remove(topic).into_iter().flatten() {
            self.leave(&waiting, Err(error.clone()));
        }
    }

    /// Removes everybody and lets nobody in again.
    pub(crate) fn close(&mut self, error: &SendError) {
        self.closed = true;
        let parked = std::mem::take(&mut self.parked);
        let waiting = std::mem::take(&mut self.waiting);
        for waiting in waiting.into_iter().chain(parked.into_values().flatten()) {
            self.leave(&waiting, Err(error.clone()));
        }
    }

    /// Everybody in line.
    pub(crate) fn admissions(&self) -> Vec<Arc<Admission>> {
        let everybody = self.waiting.iter().chain(self.parked.values().flatten());
        everybody.map(|waiting| Arc::clone(&waiting.admission)).collect()
    }

    fn leave(&mut self, waiting: &Waiting, result: Result<Receipt, SendError>) {
        self.len -= 1;
        self.bytes -= waiting.size;
        if let Err(error) = &result {
            self.failed.get_or_insert_with(|| (0, error.clone())).0 += 1;
        }
        waiting.admission.decide(result);
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Line {
    queue: Mutex<Queue>,
    /// Length, readable without the lock; lowered only after a record is in its batch.
    len: AtomicUsize,
    room: Condvar,
    limit: usize,
}

/// Why a record did not get into line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
}

impl Line {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            queue: Mutex::new(Queue::default()),
            len: AtomicUsize::new(0),
            room: Condvar::new(),
            limit,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }

    /// Puts `waiting` at the end. With a full line it waits for room until `deadline`, blocking the
    /// thread, or not at all with `None`.
    pub(crate) fn push(&self, waiting: Waiting, deadline: Option<Instant>) -> Result<(), Refused> {
        let mut queue = self.queue.lock();
        while !queue.closed && queue.len > 0 && queue.bytes + waiting.size > self.limit {
            let Some(deadline) = deadline else { return Err(Refused::Full) };
            if self.room.wait_until(&mut queue, deadline).timed_out() {
                return Err(Refused::Full);
            }
        }
        if queue.closed {
            return Err(Refused::Closed);
        }
        queue.bytes += waiting.size;
        queue.len += 1;
        queue.waiting.push_back(waiting);
        self.len.store(queue.len, Ordering::Release);
        Ok(())
    }

    /// Works on the queue under its lock, then publishes its length and wakes who waits for room. Also
    /// returns how many records left with an error, and the first such error.
    pub(crate) fn advance<R>(
        &self,
        f: impl FnOnce(&mut Queue) -> R,
    ) -> (R, Option<(u64, SendError)>) {
        let mut queue = self.queue.lock();
        let result = f(&mut queue);
        self.len.store(queue.len, Ordering::Release);
        self.room.notify_all();
        (result, queue.failed.take())
    }
}

#[cfg(test)]
mod tests;
