//! The append token: of all who want to write to a partition one writes for everybody.
//!
//! Whoever finds the token free takes it, writes what is queued until nothing is left, and puts it
//! back; whoever finds it taken leaves its job in the queue and goes on with other work. Nobody
//! waits. Knows nothing of what a job is.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// What a job weighs, so that one write does not grow without limit.
pub(crate) trait Weight {
    /// Bytes this job adds to a write.
    fn weight(&self) -> usize;
}

/// How [`AppendQueue::drive`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driven {
    /// The queue was empty when the token was put back.
    Empty,
    /// Somebody else holds the token and will write what is queued.
    Elsewhere,
    /// The given number of writes was made and jobs are left: drive again, or let another do it.
    More,
}

/// Jobs waiting for one partition, and the token.
///
/// Invariant: a queued job is written by the holder of the token, or the queue is not held and
/// whoever pushed the job still has its call to [`AppendQueue::drive`] before it.
pub(crate) struct AppendQueue<J> {
    state: Mutex<State<J>>,
}

struct State<J> {
    jobs: VecDeque<J>,
    held: bool,
}

/// Puts the token back if the writer panics, so that the partition does not stand still for ever.
struct Held<'a, J>(&'a AppendQueue<J>, bool);

impl<J> Drop for Held<'_, J> {
    fn drop(&mut self) {
        if self.1 {
            self.0.state.lock().held = false;
        }
    }
}

impl<J: Weight> AppendQueue<J> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State { jobs: VecDeque::new(), held: false }) }
    }

    /// Queues a job. The caller must call [`AppendQueue::drive`] afterwards, or have it called.
    pub(crate) fn push(&self, job: J) {
        self.state.lock().jobs.push_back(job);
    }

    /// Jobs not yet taken by the writer.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.state.lock().jobs.len()
    }

    /// Takes the token if it is free and calls `write` with queued jobs, in order, at most
    /// `max_weight` together (but at least one), until none is left or `max_writes` are made.
    pub(crate) fn drive(
        &self,
        max_weight: usize,
        max_writes: usize,
        mut write: impl FnMut(Vec<J>),
    ) -> Driven {
        {
            let mut state = self.state.lock();
            if state.held {
                return Driven::Elsewhere;
            }
            if state.jobs.is_empty() {
                return Driven::Empty;
            }
            state.held = true;
        }
        let mut held = Held(self, true);
        for _ in 0..max_writes {
            let Some(jobs) = self.take(max_weight) else {
                held.1 = false;
                return Driven::Empty;
            };
            write(jobs);
        }
        let mut state = self.state.lock();
        state.held = false;
        held.1 = false;
        if state.jobs.is_empty() { Driven::Empty } else { Driven::More }
    }

    /// The next jobs; when there are none, the token is put back under the same lock, so that a job
    /// pushed later finds it free.
    fn take(&self, max_weight: usize) -> Option<Vec<J>> {
        let mut state = self.state.lock();
        if state.jobs.is_empty() {
            state.held = false;
            return None;
        }
        let mut weight = 0;
        let mut count = 0;
        for job in &state.jobs {
            weight += job.weight();
            if count > 0 && weight > max_weight {
                break;
            }
            count += 1;
        }
        Some(state.jobs.drain(..count).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    impl Weight for usize {
        fn weight(&self) -> usize {
            *self
        }
    }

    #[test]
    fn jobs_are_written_in_order_and_in_bounded_groups() {
        let queue = AppendQueue::new();
        for job in [10, 20, 5, 100, 1] {
            queue.push(job);
        }
        let mut groups = Vec::new();
        assert_eq!(queue.drive(35, 10, |jobs| groups.push(jobs)), Driven::Empty);
        assert_eq!(groups, [vec![10, 20, 5], vec![100], vec![1]]);
    }

    #[test]
    fn a_job_pushed_while_the_token_is_held_is_written_by_its_holder() {
        let queue = AppendQueue::new();
        queue.push(1);
        let mut seen = Vec::new();
        queue.drive(100, 10, |jobs| {
            if jobs == [1] {
                queue.push(2);
                assert_eq!(queue.drive(100, 10, |_| unreachable!()), Driven::Elsewhere);
            }
            seen.extend(jobs);
        });
        assert_eq!(seen, [1, 2]);
    }

    #[test]
    fn writes_are_bounded_and_the_rest_is_reported() {
        let queue = AppendQueue::new();
        (0..4).for_each(|_| queue.push(10));
        assert_eq!(queue.drive(10, 3, |_| ()), Driven::More);
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.drive(10, 3, |_| ()), Driven::Empty);
    }

    #[test]
    fn a_panicking_writer_gives_the_token_back() {
        let queue = AppendQueue::new();
        queue.push(1);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            queue.drive(10, 1, |_| panic!("injected"));
        }));
        assert!(outcome.is_err());
        queue.push(2);
        assert_eq!(queue.drive(10, 1, |jobs| assert_eq!(jobs, [2])), Driven::Empty);
    }

    #[test]
    fn no_job_is_left_behind_under_contention() {
        let queue = Arc::new(AppendQueue::new());
        let written = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (queue, written) = (Arc::clone(&queue), Arc::clone(&written));
                std::thread::spawn(move || {
                    for _ in 0..5_000 {
                        queue.push(1);
                        while queue.drive(64, 4, |jobs| {
                            written.fetch_add(jobs.len(), Ordering::Relaxed);
                        }) == Driven::More
                        {}
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(written.load(Ordering::Relaxed), 20_000);
        assert_eq!(queue.len(), 0);
    }
}
