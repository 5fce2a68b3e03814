//! The window against a model of one partition: hundreds of thousands of random steps with lost
//! connections whose last requests arrive late, errors before and after the append, refusals and
//! timeouts. The log must end ascending and without duplicates, and hold what was acknowledged.

use std::collections::{BTreeSet, VecDeque};

use fastrand::Rng;

use super::*;

/// What a broker remembers of the producer, and its log of batch numbers.
struct ModelBroker {
    epoch: ProducerEpoch,
    next: i32,
    remembered: VecDeque<i32>,
    window: usize,
    log: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Request {
    ticket: Ticket,
    batch: u32,
    records: i32,
    stamp: ProducerStamp,
}

impl ModelBroker {
    fn append(&mut self, request: &Request) -> Option<Answer> {
        let stamp = request.stamp;
        if stamp.epoch < self.epoch {
            return None; // fenced
        }
        if stamp.epoch > self.epoch {
            if stamp.base_sequence != 0 {
                return Some(Answer::OutOfOrder);
            }
            (self.epoch, self.next) = (stamp.epoch, 0);
            self.remembered.clear();
        }
        if self.remembered.contains(&stamp.base_sequence) {
            return Some(Answer::Appended);
        }
        if stamp.base_sequence != self.next {
            return Some(Answer::OutOfOrder);
        }
        self.next = advance(self.next, request.records);
        self.remembered.push_back(stamp.base_sequence);
        if self.remembered.len() > self.window {
            self.remembered.pop_front();
        }
        self.log.push(request.batch);
        Some(Answer::Appended)
    }
}

#[derive(Default)]
struct Pipe {
    requests: VecDeque<Request>,
    answers: Vec<(Ticket, Answer)>,
}

struct Simulation {
    rng: Rng,
    window: Window<u32>,
    broker: ModelBroker,
    pipe: Pipe,
    /// Requests in the sockets of connections the client has given up.
    late: Vec<VecDeque<Request>>,
    next_batch: u32,
    /// Every batch that was sent, the parts of those that were split instead of them.
    sent: BTreeSet<u32>,
    acknowledged: BTreeSet<u32>,
    refused: BTreeSet<u32>,
    timed_out: BTreeSet<u32>,
    /// Timed out and told not to be in doubt.
    safe_to_resend: BTreeSet<u32>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let max_in_flight = [1, 2, 5, 16, 64][rng.usize(..5)];
        let mut window = Window::idempotent(max_in_flight);
        window.set_producer(7, 0);
        Self {
            rng,
            window,
            broker: ModelBroker {
                epoch: -1,
                next: 0,
                remembered: VecDeque::new(),
                window: max_in_flight,
                log: Vec::new(),
            },
            pipe: Pipe::default(),
            late: Vec::new(),
            next_batch: 0,
            sent: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            refused: BTreeSet::new(),
            timed_out: BTreeSet::new(),
            safe_to_resend: BTreeSet::new(),
        }
    }

    fn poisoned(batch: u32) -> bool {
        batch / STEP % 97 == 41
    }

    fn too_large(batch: u32) -> bool {
        batch / STEP % 31 == 7 && batch.is_multiple_of(STEP)
    }

    fn send(&mut self) {
        if let Some(resend) = self.window.resend() {
            let (ticket, stamp, batch) = (resend.ticket, resend.stamp, *resend.batch);
            self.pipe.requests.push_back(Request { ticket, batch, records: records(batch), stamp });
        } else if self.window.has_room() {
            let batch = self.next_batch;
            self.next_batch += STEP;
            self.sent.insert(batch);
            let stamp = self.window.next_stamp();
            let ticket = self.window.push(batch, records(batch));
            self.pipe.requests.push_back(Request { ticket, batch, records: records(batch), stamp });
        }
    }

    fn serve(&mut self, faults: bool) {
        let Some(request) = self.pipe.requests.pop_front() else { return };
        let fault = if faults { self.rng.u32(..40) } else { 9 };
        let answer = match fault {
            0 => Answer::Retry,
            1 => {
                let _ = self.append(&request);
                Answer::RetryInDoubt
            }
            _ if Self::poisoned(request.batch) || Self::too_large(request.batch) => Answer::Refused,
            _ => self.append(&request).expect("a live request is never fenced"),
        };
        self.pipe.answers.push((request.ticket, answer));
    }

    fn append(&mut self, request: &Request) -> Option<Answer> {
        let is_refused = Self::poisoned(request.batch) || Self::too_large(request.batch);
        if is_refused { None } else { self.broker.append(request) }
    }

    fn serve_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let at = self.rng.usize(..self.late.len());
        match self.late[at].pop_front() {
            Some(request) => {
                let _ = self.append(&request);
            }
            None => {
                self.late.swap_remove(at);
            }
        }
    }

    fn receive(&mut self) {
        if self.pipe.answers.is_empty() {
            return;
        }
        // Answers may overtake one another.
        let near = self.pipe.answers.len().min(4);
        let (ticket, answer) = self.pipe.answers.remove(self.rng.usize(..near));
        if answer == Answer::Refused
            && let Some(&batch) = self.window.on_wire_batch(ticket)
            && Self::too_large(batch)
        {
            return self.split(ticket, batch);
        }
        if let Some(batch) = self.window.answered(ticket, answer) {
            match answer {
                Answer::Appended => self.acknowledged.insert(batch),
                _ => self.refused.insert(batch),
            };
        }
    }

    fn split(&mut self, ticket: Ticket, batch: u32) {
        let parts = [batch + 1, batch + 2];
        self.sent.remove(&batch);
        self.sent.extend(parts);
        if self.timed_out.contains(&batch) {
            self.timed_out.extend(parts);
        }
        self.window.split(ticket, parts.map(|part| (part, records(part))).into());
    }

    fn disconnect(&mut self) {
        let pipe = std::mem::take(&mut self.pipe);
        let arrives = self.rng.usize(..=pipe.requests.len());
        self.late.push(pipe.requests.into_iter().take(arrives).collect());
        self.window.lost();
    }

    fn expire(&mut self) {
        let until = self.next_batch.saturating_sub(STEP * self.rng.u32(..40));
        let (timed_out, safe) = (&mut self.timed_out, &mut self.safe_to_resend);
        let dropped = self.window.expire(|batch, in_doubt| {
            let is_over = *batch < until && timed_out.insert(*batch);
            if is_over && !in_doubt {
                safe.insert(*batch);
            }
            is_over
        });
        assert!(dropped.iter().all(|batch| self.safe_to_resend.contains(batch)));
    }

    fn step(&mut self) {
        match self.rng.u32(..1000) {
            0..300 => self.send(),
            300..550 => self.serve(true),
            550..800 => self.receive(),
            800..980 => self.serve_late(),
            980..990 => self.disconnect(),
            990..992 => self.expire(),
            _ => {}
        }
        self.settle();
    }

    fn settle(&mut self) {
        for batch in self.window.settle() {
            assert!(self.timed_out.contains(&batch), "{batch} was dropped alive");
        }
        if self.window.mode() == Mode::NoId {
            // The model tells producers apart by epoch alone.
            self.broker.epoch = -1;
            self.window.set_producer(8, 0);
        }
    }

    fn finish(&mut self) {
        for _ in 0..100_000 {
            if self.window.is_empty() {
                break;
            }
            if self.window.mode() == Mode::Resending {
                self.send();
            }
            self.serve(false);
            self.serve_late();
            self.receive();
            self.settle();
        }
        assert!(self.window.is_empty(), "stuck in {:?}", self.window.mode());
    }

    fn check(&self) {
        let log = &self.broker.log;
        assert!(log.is_sorted_by(|a, b| a < b), "duplicate or out of order");
        let in_log: BTreeSet<u32> = log.iter().copied().collect();
        for &batch in &self.sent {
            let told = self.timed_out.contains(&batch);
            if self.acknowledged.contains(&batch) {
                assert!(in_log.contains(&batch), "acknowledged {batch} is lost");
            } else {
                assert!(self.refused.contains(&batch) || told, "{batch} was forgotten");
            }
            let absent = self.refused.contains(&batch) || self.safe_to_resend.contains(&batch);
            assert!(!(absent && in_log.contains(&batch)), "{batch} is there although it failed");
        }
    }
}

/// Between the numbers of batches there is room for their parts.
const STEP: u32 = 4;

fn records(batch: u32) -> i32 {
    1 + (batch % 7) as i32
}

#[test]
fn no_loss_no_duplicate_no_reordering_over_many_seeds() {
    let mut appended = 0;
    for seed in 0..1500 {
        let mut simulation = Simulation::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..2000).for_each(|_| simulation.step());
            simulation.finish();
            simulation.check();
        }));
        assert!(outcome.is_ok(), "seed {seed}");
        appended += simulation.acknowledged.len();
    }
    assert!(appended > 100_000, "the simulation hardly sends: {appended}");
}

fn window(batches: u32) -> Window<u32> {
    let mut window = Window::idempotent(8);
    window.set_producer(1, 0);
    (0..batches).for_each(|batch| _ = window.push(batch, 10));
    window
}

fn resent(window: &mut Window<u32>) -> Vec<(u32, i32, ProducerEpoch)> {
    let mut resent = Vec::new();
    while let Some(resend) = window.resend() {
        resent.push((*resend.batch, resend.stamp.base_sequence, resend.stamp.epoch));
    }
    resent
}

#[test]
fn after_a_retry_all_are_resent_in_order_under_their_own_sequences() {
    let mut window = window(3);
    assert_eq!(window.answered(1, Answer::OutOfOrder), None);
    assert!(!window.has_room());
    assert_eq!(window.answered(0, Answer::Retry), None);
    assert!(window.settle().is_empty() && window.mode() == Mode::Draining);
    assert_eq!(window.answered(2, Answer::OutOfOrder), None);
    assert!(window.settle().is_empty());
    assert_eq!(resent(&mut window), [(0, 0, 0), (1, 10, 0), (2, 20, 0)]);
    assert!(window.has_room());
}

#[test]
fn a_gap_before_the_head_bumps_the_epoch() {
    let mut window = window(2);
    assert_eq!(window.answered(0, Answer::OutOfOrder), None);
    assert_eq!(window.answered(1, Answer::OutOfOrder), None);
    window.settle();
    assert_eq!(resent(&mut window), [(0, 0, 1), (1, 10, 1)]);
}

#[test]
fn successors_of_a_refused_batch_are_asked_about_before_the_epoch_is_bumped() {
    let mut window = window(3);
    assert_eq!(window.answered(0, Answer::Refused), Some(0));
    window.lost();
    window.settle();
    assert_eq!(resent(&mut window), [(1, 10, 0), (2, 20, 0)]);
    window.answered(1, Answer::OutOfOrder);
    window.answered(2, Answer::OutOfOrder);
    window.settle();
    assert_eq!(resent(&mut window), [(1, 0, 1), (2, 10, 1)]);
}

#[test]
fn a_timed_out_batch_in_doubt_keeps_its_place_while_a_later_one_lives() {
    let mut window = window(3);
    window.lost();
    window.settle();
    let mut doubts = Vec::new();
    let dropped = window.expire(|batch, in_doubt| {
        doubts.push(in_doubt);
        *batch < 2
    });
    assert!(dropped.is_empty() && doubts == [true; 3]);
    assert!(window.settle().is_empty());
    assert_eq!(resent(&mut window), [(0, 0, 0), (1, 10, 0), (2, 20, 0)]);
    // Nobody is left who waits: all go, and the epoch is new.
    window.lost();
    window.expire(|_, _| true);
    assert_eq!(window.settle(), [0, 1, 2]);
    assert!(window.has_room() && window.next_stamp().epoch == 1);
}

#[test]
fn a_batch_that_is_too_large_gives_way_to_smaller_ones_in_its_place() {
    let mut window = window(4);
    window.answered(0, Answer::RetryInDoubt);
    window.split(1, vec![(10, 4), (11, 6)]);
    window.answered(2, Answer::OutOfOrder);
    window.split(3, vec![(30, 5), (31, 5)]);
    assert!(window.settle().is_empty());
    // What is before it may be in the log: it is settled first, under its own sequence.
    assert_eq!(resent(&mut window), [(0, 0, 0)]);
    assert!(!window.has_room() && window.on_wire() == 1);
    assert_eq!(window.answered(0, Answer::Appended), Some(0));
    window.settle();
    let expected = [(10, 0, 1), (11, 4, 1), (2, 10, 1), (30, 20, 1), (31, 25, 1)];
    assert_eq!(resent(&mut window), expected);
    assert!(window.has_room());
}

#[test]
fn after_the_last_epoch_a_new_id_is_asked_for() {
    let mut window: Window<u32> = Window::idempotent(8);
    window.set_producer(1, ProducerEpoch::MAX);
    window.push(0, 10);
    window.push(1, 10);
    window.answered(0, Answer::OutOfOrder);
    window.answered(1, Answer::OutOfOrder);
    window.settle();
    assert_eq!(window.mode(), Mode::NoId);
    window.set_producer(2, 0);
    assert_eq!(resent(&mut window), [(0, 0, 0), (1, 10, 0)]);
    assert_eq!(window.next_stamp(), ProducerStamp { id: 2, epoch: 0, base_sequence: 20 });
}

#[test]
fn without_idempotence_one_is_in_flight_and_retried() {
    let mut window: Window<u32> = Window::plain();
    let ticket = window.push(0, 10);
    assert!(!window.has_room());
    window.answered(ticket, Answer::Retry);
    window.settle();
    assert_eq!(resent(&mut window), [(0, -1, -1)]);
    assert_eq!(window.expire(|_, _| true), [0]);
    window.settle();
    assert!(window.is_empty() && window.has_room());
}

#[test]
fn sequences_wrap_as_kafkas() {
    assert_eq!(advance(i32::MAX, 1), 0);
    assert_eq!(advance(i32::MAX - 1, 1), i32::MAX);
    assert_eq!(advance(i32::MAX - 4, 10), 5);
}
