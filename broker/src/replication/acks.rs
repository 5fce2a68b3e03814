//! The purgatory of a led partition: requests with acks=all that are appended and wait until every
//! in-sync replica has them.
//!
//! | what happens | who is told what |
//! |---|---|
//! | the high watermark passes the end of a request | it is done |
//! | the ISR falls below the minimum | all: not enough replicas after the append |
//! | the leadership or the log is lost | all: why |
//! | the request's time is over | it: timed out |
//!
//! Each is told once, since telling takes it out. No timer runs here: those who wait for the answer
//! have timers of their own, and what is out of time is taken out when others come, or by
//! [`Purgatory::expire`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::Offset;

use super::{OnAppended, PartitionError};
use crate::metrics::Metrics;
use crate::storage::Appended;

/// Requests that wait on one broker; more are refused before they are appended.
pub(super) const WAITING_MAX: usize = 1 << 18;
/// The waiting are not searched for expired ones more often.
const EXPIRE_EVERY: Duration = Duration::from_millis(100);

/// A request that was appended.
pub(super) struct Waiting {
    /// What the high watermark has to reach (exclusive).
    pub(super) upto: Offset,
    /// What it is told then.
    pub(super) answer: Result<Appended, PartitionError>,
    /// When it is answered at the latest.
    pub(super) due: Instant,
    pub(super) done: OnAppended,
}

/// A request that waits no longer. To be told without locks.
#[must_use]
pub(super) struct Completed {
    done: OnAppended,
    outcome: Result<Appended, PartitionError>,
}

impl Completed {
    pub(super) fn tell(self) {
        self.done.tell(self.outcome);
    }

    /// To be told by the caller.
    pub(super) fn into_answer(self) -> (OnAppended, Result<Appended, PartitionError>) {
        (self.done, self.outcome)
    }
}

/// The requests, by the offset the high watermark has to reach.
pub(super) struct Purgatory {
    waiting: BTreeMap<(Offset, u64), Waiting>,
    next: u64,
    /// No request is due before.
    expire_at: Option<Instant>,
    metrics: Arc<Metrics>,
}

impl Purgatory {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { waiting: BTreeMap::new(), next: 0, expire_at: None, metrics }
    }

    /// Takes a request in.
    pub(super) fn add(&mut self, request: Waiting) {
        self.expire_at = Some(self.expire_at.map_or(request.due, |at| at.min(request.due)));
        self.waiting.insert((request.upto, self.next), request);
        self.next += 1;
        self.metrics.produce_purgatory.add(1);
    }

    /// All below `high_watermark` is committed.
    pub(super) fn reached(&mut self, high_watermark: Offset, out: &mut Vec<Completed>) {
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= high_watermark
        {
            let Waiting { answer, done, .. } = first.remove();
            out.push(Completed { done, outcome: answer });
            self.metrics.produce_purgatory.add(-1);
        }
    }

    /// Nobody gets what it waits for.
    pub(super) fn fail_all(&mut self, error: &PartitionError, out: &mut Vec<Completed>) {
        for Waiting { done, .. } in std::mem::take(&mut self.waiting).into_values() {
            out.push(Completed { done, outcome: Err(error.clone()) });
            self.metrics.produce_purgatory.add(-1);
        }
    }

    /// The ISR is below the minimum: each is told where its records stand, and that they may go.
    pub(super) fn fall_short(&mut self, in_sync: usize, minimum: usize, out: &mut Vec<Completed>) {
        for Waiting { done, answer, .. } in std::mem::take(&mut self.waiting).into_values() {
            let outcome = answer.and_then(|Appended { base_offset, .. }| {
                Err(PartitionError::NotEnoughReplicasAfterAppend { in_sync, minimum, base_offset })
            });
            out.push(Completed { done, outcome });
            self.metrics.produce_purgatory.add(-1);
        }
    }

    /// Takes out who is out of time.
    pub(super) fn expire(&mut self, now: Instant, out: &mut Vec<Completed>) {
        if self.expire_at.is_none_or(|at| at > now) {
            return;
        }
        let due = self.waiting.iter().filter(|(_, request)| request.due <= now);
        let due: Vec<(Offset, u64)> = due.map(|(key, _)| *key).collect();
        for key in due {
            let Some(Waiting { done, .. }) = self.waiting.remove(&key) else { continue };
            out.push(Completed { done, outcome: Err(PartitionError::TimedOut) });
            self.metrics.produce_purgatory.add(-1);
        }
        let next = self.waiting.values().map(|request| request.due).min();
        self.expire_at = next.map(|at| at.max(now + EXPIRE_EVERY));
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl Drop for Purgatory {
    fn drop(&mut self) {
        let mut left = Vec::new();
        self.fail_all(&PartitionError::NotLeader, &mut left);
        left.into_iter().for_each(Completed::tell);
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[derive(Default, Clone)]
    struct Told(Arc<Mutex<Vec<(i64, &'static str)>>>);

    fn request(told: &Told, last_offset: i64, due: Instant) -> Waiting {
        let told = Arc::clone(&told.0);
        let done = OnAppended::new(move |outcome| {
            let what = match outcome {
                Ok(_) => "done",
                Err(PartitionError::TimedOut) => "timed out",
                Err(PartitionError::NotLeader) => "not leader",
                Err(_) => "other",
            };
            told.lock().push((last_offset, what));
        });
        let appended = Appended {
            base_offset: Offset(last_offset),
            last_offset: Offset(last_offset),
            duplicate: false,
            log_append_time: None,
        };
        Waiting { upto: Offset(last_offset + 1), answer: Ok(appended), due, done }
    }

    fn tell(run: impl FnOnce(&mut Vec<Completed>)) {
        let mut out = Vec::new();
        run(&mut out);
        out.into_iter().for_each(Completed::tell);
    }

    #[test]
    fn every_request_is_told_once_by_whatever_comes_first() {
        let metrics = Arc::new(Metrics::default());
        let mut purgatory = Purgatory::new(Arc::clone(&metrics));
        let (told, now) = (Told::default(), Instant::now());
        let soon = now + Duration::from_secs(1);
        let late = now + Duration::from_secs(60);
        for (offset, due) in [(4, late), (2, late), (9, soon), (12, late), (4, late)] {
            purgatory.add(request(&told, offset, due));
        }
        assert_eq!((purgatory.len(), metrics.produce_purgatory.get()), (5, 5));
        tell(|out| purgatory.reached(Offset(4), out));
        assert_eq!(*told.0.lock(), [(2, "done")], "the record at 4 is not below 4");
        tell(|out| purgatory.reached(Offset(5), out));
        assert_eq!(told.0.lock()[1..], [(4, "done"), (4, "done")]);
        tell(|out| purgatory.expire(now, out));
        tell(|out| purgatory.expire(soon, out));
        tell(|out| purgatory.reached(Offset(10), out));
        assert_eq!(told.0.lock()[3..], [(9, "timed out")]);
        drop(purgatory);
        assert_eq!(told.0.lock()[4..], [(12, "not leader")]);
        assert_eq!(metrics.produce_purgatory.get(), 0);
    }

    #[test]
    fn the_waiting_are_searched_now_and_then_only() {
        let mut purgatory = Purgatory::new(Arc::default());
        let (told, now) = (Told::default(), Instant::now());
        let at = |ms| now + Duration::from_millis(ms);
        (1..=3).for_each(|n| purgatory.add(request(&told, n, at(n as u64))));
        tell(|out| purgatory.expire(at(1), out));
        tell(|out| purgatory.expire(at(3), out));
        assert_eq!(told.0.lock().len(), 1);
        tell(|out| purgatory.expire(at(101), out));
        assert_eq!(told.0.lock().len(), 3);
    }
}
