//! The window against a model of one partition with one or three replicas: hundreds of thousands of
//! random steps with lost connections whose last requests arrive late, errors before and after the append,
//! refusals, timeouts, and leaders that change, pushed to the client or found out by errors. The log must
//! end ascending and without duplicates, and hold what was acknowledged (where all replicas had to have
//! it).

use std::collections::{BTreeSet, VecDeque};

use fastrand::Rng;

use super::*;

/// A batch as logs hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stored {
    batch: u32,
    records: i32,
    stamp: ProducerStamp,
}

/// What a replica remembers of the producer, and its log.
#[derive(Clone)]
struct Replica {
    epoch: ProducerEpoch,
    next: i32,
    remembered: VecDeque<i32>,
    window: usize,
    log: Vec<Stored>,
}

#[derive(Clone, Copy)]
struct Request {
    ticket: Ticket,
    route: u64,
    stored: Stored,
}

impl Replica {
    fn new(window: usize) -> Self {
        Self { epoch: -1, next: 0, remembered: VecDeque::new(), window, log: Vec::new() }
    }

    /// What the producer's state becomes goes with the batch, at followers too.
    fn take(&mut self, stored: Stored) {
        if stored.stamp.epoch != self.epoch {
            self.epoch = stored.stamp.epoch;
            self.remembered.clear();
        }
        self.next = advance(stored.stamp.base_sequence, stored.records);
        self.remembered.push_back(stored.stamp.base_sequence);
        if self.remembered.len() > self.window {
            self.remembered.pop_front();
        }
        self.log.push(stored);
    }

    fn append(&mut self, stored: Stored) -> Option<Answer> {
        let stamp = stored.stamp;
        if stamp.epoch < self.epoch {
            return None; // fenced
        }
        if stamp.epoch > self.epoch {
            if stamp.base_sequence != 0 {
                return Some(Answer::OutOfOrder);
            }
        } else if self.remembered.contains(&stamp.base_sequence) {
            return Some(Answer::Appended);
        } else if stamp.base_sequence != self.next {
            return Some(Answer::OutOfOrder);
        }
        self.take(stored);
        Some(Answer::Appended)
    }

    fn cut(&mut self, len: usize) {
        let kept = std::mem::take(&mut self.log).into_iter().take(len);
        *self = Self::new(self.window);
        kept.for_each(|stored| self.take(stored));
    }
}

/// The replicas of the partition, all of them in sync. Each log is the leader's, up to some point.
struct Partition {
    replicas: Vec<Replica>,
    leader: usize,
    /// Counts the leaders: requests for an earlier one are fenced.
    epoch: u64,
}

impl Partition {
    fn leader(&mut self) -> &mut Replica {
        &mut self.replicas[self.leader]
    }

    fn high_watermark(&self) -> usize {
        self.replicas.iter().map(|replica| replica.log.len()).min().unwrap()
    }

    /// A follower fetches up to so many batches.
    fn replicate(&mut self, follower: usize, most: usize) {
        let from = self.replicas[follower].log.len();
        let more: Vec<Stored> =
            self.replicas[self.leader].log.iter().skip(from).take(most).copied().collect();
        more.into_iter().for_each(|stored| self.replicas[follower].take(stored));
    }

    /// What the new leader does not have is gone everywhere.
    fn lead(&mut self, leader: usize) {
        let len = self.replicas[leader].log.len();
        self.replicas.iter_mut().filter(|r| r.log.len() > len).for_each(|r| r.cut(len));
        (self.leader, self.epoch) = (leader, self.epoch + 1);
    }
}

#[derive(Default)]
struct Pipe {
    requests: VecDeque<Request>,
    /// Appended, and not acknowledged before every replica has so many batches.
    pending: Vec<(Request, usize)>,
    answers: Vec<(Request, Answer)>,
}

struct Simulation {
    rng: Rng,
    window: Window<u32>,
    partition: Partition,
    acks_all: bool,
    pipe: Pipe,
    /// As the sender counts: answers of an earlier route are void unless they say appended.
    route: u64,
    /// Requests in the sockets of connections the client has given up, and the leader they are for.
    late: Vec<(u64, VecDeque<Request>)>,
    next_batch: u32,
    /// Every batch that was sent, the parts of those that were split instead of them.
    sent: BTreeSet<u32>,
    acknowledged: BTreeSet<u32>,
    refused: BTreeSet<u32>,
    timed_out: BTreeSet<u32>,
    /// Timed out and told not to be in doubt.
    safe_to_resend: BTreeSet<u32>,
    leader_changes: usize,
    late_acknowledgements: usize,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let max_in_flight = [1, 2, 5, 16, 64][rng.usize(..5)];
        let mut window = Window::idempotent(max_in_flight);
        window.set_producer(7, 0);
        let replicas = vec![Replica::new(max_in_flight); [1, 3, 3][seed as usize % 3]];
        Self {
            window,
            partition: Partition { replicas, leader: 0, epoch: 0 },
            acks_all: rng.u32(..4) > 0,
            rng,
            pipe: Pipe::default(),
            route: 0,
            late: Vec::new(),
            next_batch: 0,
            sent: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            refused: BTreeSet::new(),
            timed_out: BTreeSet::new(),
            safe_to_resend: BTreeSet::new(),
            leader_changes: 0,
            late_acknowledgements: 0,
        }
    }

    fn poisoned(batch: u32) -> bool {
        batch / STEP % 97 == 41
    }

    fn too_large(batch: u32) -> bool {
        batch / STEP % 31 == 7 && batch.is_multiple_of(STEP)
    }

    fn send(&mut self) {
        let (ticket, batch, stamp) = if let Some(resend) = self.window.resend() {
            (resend.ticket, *resend.batch, resend.stamp)
        } else if self.window.has_room() {
            let batch = self.next_batch;
            self.next_batch += STEP;
            self.sent.insert(batch);
            let stamp = self.window.next_stamp();
            (self.window.push(batch, records(batch)), batch, stamp)
        } else {
            return;
        };
        let stored = Stored { batch, records: records(batch), stamp };
        self.pipe.requests.push_back(Request { ticket, route: self.route, stored });
    }

    fn serve(&mut self, faults: bool) {
        let Some(request) = self.pipe.requests.pop_front() else { return };
        let batch = request.stored.batch;
        let fault = if faults { self.rng.u32(..40) } else { 9 };
        let answer = match fault {
            0 => Answer::Retry,
            1 => {
                let _ = self.append(&request);
                Answer::RetryInDoubt
            }
            _ if Self::poisoned(batch) || Self::too_large(batch) => Answer::Refused,
            _ => self.append(&request).expect("a live request is never fenced"),
        };
        let log = &self.partition.leader().log;
        if answer == Answer::Appended && self.acks_all {
            // A duplicate waits for the high watermark too.
            let at = log.iter().rposition(|stored| *stored == request.stored).unwrap();
            self.pipe.pending.push((request, at + 1));
            self.acknowledge();
        } else {
            self.pipe.answers.push((request, answer));
        }
    }

    fn append(&mut self, request: &Request) -> Option<Answer> {
        let batch = request.stored.batch;
        let is_refused = Self::poisoned(batch) || Self::too_large(batch);
        if is_refused { None } else { self.partition.leader().append(request.stored) }
    }

    /// Answers for what every replica has.
    fn acknowledge(&mut self) {
        let high_watermark = self.partition.high_watermark();
        let done = self.pipe.pending.extract_if(.., |(_, end)| *end <= high_watermark);
        self.pipe.answers.extend(done.map(|(request, _)| (request, Answer::Appended)));
    }

    fn replicate(&mut self, most: usize) {
        let follower = self.rng.usize(..self.partition.replicas.len());
        self.partition.replicate(follower, most);
        self.acknowledge();
    }

    fn serve_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let at = self.rng.usize(..self.late.len());
        let (epoch, requests) = &mut self.late[at];
        let is_current = *epoch == self.partition.epoch;
        match requests.pop_front() {
            Some(request) if is_current => {
                let _ = self.append(&request);
            }
            Some(_) => {}
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
        let (request, answer) = self.pipe.answers.remove(self.rng.usize(..near));
        let ticket = request.ticket;
        if request.route != self.route {
            if answer == Answer::Appended
                && let Some(batch) = self.window.appended_before(ticket)
            {
                assert_eq!(batch, request.stored.batch);
                self.acknowledged.insert(batch);
                self.late_acknowledgements += 1;
            }
            return;
        }
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
        let epoch = self.partition.epoch;
        self.late.push((epoch, pipe.requests.into_iter().take(arrives).collect()));
        self.window.lost();
    }

    /// Another replica leads. What was under way to the old one is refused by it; the client hears of
    /// the change by that, or by a push, and then does not wait for it.
    fn change_leader(&mut self) {
        let leader = self.rng.usize(..self.partition.replicas.len());
        self.partition.lead(leader);
        self.leader_changes += 1;
        let Pipe { requests, pending, answers } = &mut self.pipe;
        let unanswered = pending.drain(..).map(|(request, _)| request).chain(requests.drain(..));
        answers.extend(unanswered.map(|request| (request, Answer::RetryInDoubt)));
        if self.rng.bool() {
            self.route += 1;
            self.window.lost();
        }
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
            550..770 => self.receive(),
            770..870 => self.serve_late(),
            870..980 => {
                let most = self.rng.usize(1..20);
                self.replicate(most);
            }
            980..988 => self.disconnect(),
            988..990 => self.expire(),
            990..995 if self.partition.replicas.len() > 1 => self.change_leader(),
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
            self.partition.replicas.iter_mut().for_each(|replica| replica.epoch = -1);
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
            self.replicate(usize::MAX);
            self.receive();
            self.settle();
        }
        assert!(self.window.is_empty(), "stuck in {:?}", self.window.mode());
    }

    fn check(&mut self) {
        let log: Vec<u32> = self.partition.leader().log.iter().map(|s| s.batch).collect();
        assert!(log.is_sorted_by(|a, b| a < b), "duplicate or out of order");
        let in_log: BTreeSet<u32> = log.iter().copied().collect();
        // A leader that alone had it may have been followed by one that has not.
        let may_be_lost = !self.acks_all && self.leader_changes > 0;
        for &batch in &self.sent {
            let told = self.timed_out.contains(&batch);
            if self.acknowledged.contains(&batch) {
                assert!(may_be_lost || in_log.contains(&batch), "acknowledged {batch} is lost");
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
    let (mut acknowledged, mut leader_changes, mut late) = (0, 0, 0);
    for seed in 0..1500 {
        let mut simulation = Simulation::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..2000).for_each(|_| simulation.step());
            simulation.finish();
            simulation.check();
        }));
        assert!(outcome.is_ok(), "seed {seed}");
        acknowledged += simulation.acknowledged.len();
        leader_changes += simulation.leader_changes;
        late += simulation.late_acknowledgements;
    }
    assert!(acknowledged > 100_000, "the simulation hardly sends: {acknowledged}");
    assert!(leader_changes > 5_000 && late > 500, "{leader_changes} changes, {late} late");
}
