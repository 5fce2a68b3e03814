//! The batches of one partition that were sent and are not settled, and their sequences: pure, with
//! no clock, socket or lock, so that a simulation can drive it (see `tests`).
//!
//! Every batch gets, when it is first sent, the producer's id and epoch and the next sequence, and
//! keeps them over every retry, so the broker can tell a retry from a new batch. Up to
//! `max.in.flight` batches are under way; the broker remembers as many.
//!
//! # The window's modes
//!
//! | mode | new batches | waits for | left when |
//! |---|---|---|---|
//! | `NoId` | no | a producer id | `set_producer`: to `Flowing`, or `Resending` if something is unsettled |
//! | `Flowing` | while there is room | answers | an answer says retry or out of order, or the stream is lost: to `Draining` |
//! | `Draining` | no | an answer for each batch on the wire, or the loss of its stream | nothing is on the wire: see below |
//! | `Resending` | no | the sender's backoff and its stream | every waiting batch is on the wire again: to `Flowing` |
//! | `Fenced` | no | – | never |
//!
//! # What an answer does to its batch
//!
//! | answer | batch | window |
//! |---|---|---|
//! | appended, or a duplicate of what was appended | settled | – |
//! | retry (not leader, disk trouble, timeout, …) | waits | `Draining` |
//! | out of order, or unknown producer id | waits | `Draining`; if the batch was *sent as head*, with nothing unsettled before it, the gap before it is real: epoch bump once drained |
//! | refused for good | settled, failed | – (its successors come back out of order) |
//! | too large, of several records | smaller ones will take its place | `Draining`; once it is the first unsettled one: epoch bump |
//! | fenced | all fail | `Fenced` |
//! | none, stream lost, or another leader | waits, in doubt | `Draining` |
//! | appended, of a copy that was given up for another leader | settled, wherever its last copy is | – |
//!
//! # When the window is drained, in this order
//!
//! | found | done |
//! |---|---|
//! | nothing unsettled | `Flowing` |
//! | only batches whose delivery timeout has passed | dropped; epoch + 1, sequences from 0, `Flowing` |
//! | the first was out of order as head, or is too large | timed-out ones dropped, the others stamped anew: epoch + 1, sequences from 0; `Resending` |
//! | else | `Resending`, all in order, under their own sequences |
//!
//! A batch whose **delivery timeout** passes before it was sent is simply dropped: it has no sequence.
//! One that was sent and whose every copy was answered with an error is settled as if refused. If a
//! copy was sent and not answered the batch is in doubt: its records' futures fail at once (and say so),
//! but the batch keeps its place and is resent with the others until the broker says what became of
//! it. Dropping it would leave a gap that the batches after it, in doubt themselves, could not be
//! judged by. So the epoch is bumped only when nothing that somebody still waits for is in doubt: a
//! copy of an old batch that is still in some socket is then either before everything new, or fenced
//! by the newer epoch. The bump is the producer's own doing (as in Kafka's idempotent producer); after
//! epoch 32,767 a new id is asked for.
//!
//! Without idempotence the same machine runs with no stamp and one batch in flight.

use std::collections::VecDeque;

use proto::record::ProducerStamp;
use proto::{ProducerEpoch, ProducerId};

/// What a broker's answer means for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is in the log, once.
    Appended,
    /// Not appended this time; the same batch may be sent again.
    Retry,
    /// Not acknowledged but perhaps appended; the same batch may be sent again.
    RetryInDoubt,
    /// Out of order, or the producer is not known.
    OutOfOrder,
    /// It is not in the log and never will be.
    Refused,
}

/// See the module's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    NoId,
    Flowing,
    Draining,
    Resending,
    Fenced,
}

/// Names a batch in its window until the window is stamped anew.
pub(crate) type Ticket = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    OnWire,
    Waiting,
    Settled,
}

#[derive(Debug)]
struct Entry<B> {
    /// `None` once settled.
    batch: Option<B>,
    /// What takes its place, with the records of each: it was found too large, and neither it nor what
    /// was sent after it can be appended, now or later. Waits; nothing behind it is sent.
    split: Vec<(B, i32)>,
    stamp: ProducerStamp,
    records: i32,
    state: State,
    /// Nothing unsettled was before it when it was last sent.
    sent_as_head: bool,
    /// Some copy of it was sent and not answered, or not for certain. That copy may still be in a
    /// socket, so a later answer does not lift the doubt, only settling does.
    in_doubt: bool,
    /// Its delivery timeout has passed and its futures know.
    expired: bool,
}

/// A batch to be sent (again).
#[derive(Debug)]
pub(crate) struct Resend<'a, B> {
    pub(crate) ticket: Ticket,
    pub(crate) stamp: ProducerStamp,
    pub(crate) batch: &'a mut B,
}

/// See the module.
///
/// Invariants: entries are in sequence order; the front one is unsettled; `on_wire` counts those
/// `OnWire`; in `Flowing` every unsettled entry is `OnWire`, in `Resending` at least one waits.
#[derive(Debug)]
pub(crate) struct Window<B> {
    entries: VecDeque<Entry<B>>,
    first_ticket: Ticket,
    on_wire: usize,
    max_in_flight: usize,
    idempotent: bool,
    id: ProducerId,
    epoch: ProducerEpoch,
    next_sequence: i32,
    mode: Mode,
    bump: bool,
}

impl<B> Window<B> {
    /// An idempotent one, waiting for its producer id.
    pub(crate) fn idempotent(max_in_flight: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            first_ticket: 0,
            on_wire: 0,
            max_in_flight,
            idempotent: true,
            id: -1,
            epoch: -1,
            next_sequence: 0,
            mode: Mode::NoId,
            bump: false,
        }
    }

    /// One without stamps: one batch in flight.
    pub(crate) fn plain() -> Self {
        let plain = Self::idempotent(1);
        Self { idempotent: false, mode: Mode::Flowing, ..plain }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// No batch is unsettled.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a new batch may be sent. The count runs from the oldest unsettled one, settled ones
    /// behind it included, because that is what the broker has to remember.
    pub(crate) fn has_room(&self) -> bool {
        self.mode == Mode::Flowing && self.entries.len() < self.max_in_flight
    }

    /// Takes the producer id asked for in `NoId`; what is unsettled is stamped with it.
    pub(crate) fn set_producer(&mut self, id: ProducerId, epoch: ProducerEpoch) {
        if self.mode == Mode::NoId {
            (self.id, self.epoch, self.next_sequence) = (id, epoch, 0);
            self.restamp();
        }
    }

    /// The stamp for a new batch, which must then be [`push`](Self::push)ed.
    pub(crate) fn next_stamp(&self) -> ProducerStamp {
        match self.idempotent {
            true => {
                ProducerStamp { id: self.id, epoch: self.epoch, base_sequence: self.next_sequence }
            }
            false => ProducerStamp::NONE,
        }
    }

    /// A new batch goes on the wire. Only with [`has_room`](Self::has_room).
    pub(crate) fn push(&mut self, batch: B, records: i32) -> Ticket {
        debug_assert!(self.has_room(), "no room in the window");
        let entry = Entry {
            batch: Some(batch),
            split: Vec::new(),
            stamp: self.next_stamp(),
            records,
            state: State::OnWire,
            sent_as_head: self.entries.is_empty(),
            in_doubt: false,
            expired: false,
        };
        self.next_sequence = advance(self.next_sequence, records);
        self.on_wire += 1;
        self.entries.push_back(entry);
        self.first_ticket + self.entries.len() as u64 - 1
    }

    /// In `Resending`: the next waiting batch, which is on the wire from now on. After the last one
    /// the window is `Flowing`.
    pub(crate) fn resend(&mut self) -> Option<Resend<'_, B>> {
        if self.mode != Mode::Resending {
            return None;
        }
        // Splitting may have made more entries than the broker remembers: they take turns.
        let in_turn = self.entries.iter().take(self.max_in_flight);
        let mut in_turn = in_turn.take_while(|entry| entry.split.is_empty());
        let at = in_turn.position(|entry| entry.state == State::Waiting)?;
        let more = self.entries.iter().skip(at + 1).any(|entry| entry.state == State::Waiting);
        if !more {
            self.mode = Mode::Flowing;
        }
        let ticket = self.first_ticket + at as u64;
        self.on_wire += 1;
        let sent_as_head = self.entries.iter().take(at).all(|e| e.state == State::Settled);
        let entry = self.entries.get_mut(at)?;
        entry.state = State::OnWire;
        entry.sent_as_head = sent_as_head;
        let stamp = entry.stamp;
        entry.batch.as_mut().map(|batch| Resend { ticket, stamp, batch })
    }

    /// The broker answered for a batch on the wire. Returns the batch if that settles it, and whether
    /// its futures already know a timeout.
    pub(crate) fn answered(&mut self, ticket: Ticket, answer: Answer) -> Option<B> {
        let at = usize::try_from(ticket.checked_sub(self.first_ticket)?).ok()?;
        let entry = self.entries.get_mut(at).filter(|entry| entry.state == State::OnWire)?;
        self.on_wire -= 1;
        let settled = match answer {
            Answer::Appended | Answer::Refused => {
                entry.state = State::Settled;
                entry.batch.take()
            }
            Answer::Retry | Answer::RetryInDoubt | Answer::OutOfOrder => {
                entry.state = State::Waiting;
                entry.in_doubt |= answer == Answer::RetryInDoubt;
                self.bump |= answer == Answer::OutOfOrder && entry.sent_as_head;
                self.mode = Mode::Draining;
                None
            }
        };
        self.trim();
        settled
    }

    /// A leader of before has appended (and, where that was asked for, replicated) a batch whose copy was
    /// given up meanwhile. Returns the batch if it was still unsettled; what a newer copy is answered
    /// then means nothing.
    pub(crate) fn appended_before(&mut self, ticket: Ticket) -> Option<B> {
        let at = usize::try_from(ticket.checked_sub(self.first_ticket)?).ok()?;
        let entry = self.entries.get_mut(at)?;
        if entry.state == State::Settled || !entry.split.is_empty() {
            return None;
        }
        self.on_wire -= usize::from(entry.state == State::OnWire);
        entry.state = State::Settled;
        let settled = entry.batch.take();
        if self.mode == Mode::Resending && self.unsettled().all(|e| e.state == State::OnWire) {
            self.mode = Mode::Flowing;
        }
        self.trim();
        settled
    }

    /// The batch of a ticket on the wire.
    pub(crate) fn on_wire_batch(&self, ticket: Ticket) -> Option<&B> {
        let at = usize::try_from(ticket.checked_sub(self.first_ticket)?).ok()?;
        let entry = self.entries.get(at).filter(|entry| entry.state == State::OnWire)?;
        entry.batch.as_ref()
    }

    /// The broker found a batch on the wire too large: `parts`, with the records of each, will take
    /// its place.
    pub(crate) fn split(&mut self, ticket: Ticket, parts: Vec<(B, i32)>) {
        let at = ticket.checked_sub(self.first_ticket).and_then(|at| usize::try_from(at).ok());
        let entry = at.and_then(|at| self.entries.get_mut(at));
        if let Some(entry) = entry.filter(|entry| entry.state == State::OnWire) {
            entry.state = State::Waiting;
            entry.split = parts;
            self.on_wire -= 1;
            self.mode = Mode::Draining;
        }
    }

    /// The stream is gone, or another broker leads: what was on the wire is in doubt.
    pub(crate) fn lost(&mut self) {
        if self.on_wire == 0 {
            return;
        }
        for entry in self.entries.iter_mut().filter(|entry| entry.state == State::OnWire) {
            entry.state = State::Waiting;
            entry.in_doubt = true;
        }
        self.on_wire = 0;
        if matches!(self.mode, Mode::Flowing | Mode::Resending) {
            self.mode = Mode::Draining;
        }
    }

    /// Decides what follows once nothing is on the wire; to be called after every event. Returns the
    /// batches that are dropped, all of which have timed out before.
    pub(crate) fn settle(&mut self) -> Vec<B> {
        if self.on_wire > 0 || !matches!(self.mode, Mode::Draining | Mode::Resending) {
            return Vec::new();
        }
        if self.entries.is_empty() {
            self.mode = Mode::Flowing;
            if std::mem::take(&mut self.bump) {
                self.bump_epoch();
            }
            return Vec::new();
        }
        let only_expired = self.unsettled().all(|entry| entry.expired);
        let is_split = self.entries.front().is_some_and(|entry| !entry.split.is_empty());
        if !only_expired && !self.bump && !is_split {
            self.mode = Mode::Resending;
            return Vec::new();
        }
        self.bump = false;
        let mut dropped = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| entry.expired) {
            dropped.extend(entry.batch.take());
            entry.state = State::Settled;
        }
        self.bump_epoch();
        dropped
    }

    /// The topic was deleted and made again: what is unsettled was for a log that is gone, and none of
    /// it can be in the new one. Only with nothing on the wire.
    pub(crate) fn begin_anew(&mut self) {
        debug_assert_eq!(self.on_wire, 0, "a copy for the old topic is still under way");
        if self.mode != Mode::Fenced && self.mode != Mode::NoId {
            self.bump_epoch();
        }
    }

    /// Finds batches whose delivery timeout has passed. `is_expired` tells their futures when it says
    /// yes (it gets the batch and whether it is in doubt). Those of which no copy can be appended any
    /// more are dropped and returned.
    pub(crate) fn expire(&mut self, mut is_expired: impl FnMut(&mut B, bool) -> bool) -> Vec<B> {
        let mut dropped = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| !entry.expired) {
            let in_doubt = entry.in_doubt || entry.state == State::OnWire;
            let Some(batch) = entry.batch.as_mut() else { continue };
            if !entry.split.is_empty() {
                // Opened together, they expire together.
                let mut is_over = false;
                for (part, _) in &mut entry.split {
                    is_over |= is_expired(part, false);
                }
                if is_over {
                    entry.state = State::Settled;
                    entry.batch = None;
                    dropped.extend(entry.split.drain(..).map(|(part, _)| part));
                }
                continue;
            }
            if !is_expired(batch, in_doubt) {
                continue;
            }
            entry.expired = true;
            if !self.idempotent || !in_doubt {
                self.on_wire -= usize::from(entry.state == State::OnWire);
                entry.state = State::Settled;
                dropped.extend(entry.batch.take());
            }
        }
        self.trim();
        dropped
    }

    /// Another producer has our id: returns everything unsettled. Also used when the producer closes.
    pub(crate) fn fence(&mut self) -> Vec<(B, bool)> {
        self.mode = Mode::Fenced;
        self.on_wire = 0;
        self.first_ticket += self.entries.len() as u64;
        self.replace_split();
        let unsettled = std::mem::take(&mut self.entries).into_iter();
        let unsettled = unsettled.filter(|entry| entry.state != State::Settled);
        let with_doubt = unsettled.map(|entry| {
            let in_doubt = entry.in_doubt || entry.state == State::OnWire;
            entry.batch.map(|batch| (batch, in_doubt))
        });
        with_doubt.flatten().collect()
    }

    /// The unsettled batches, oldest first.
    pub(crate) fn batches(&self) -> impl Iterator<Item = &B> {
        self.entries.iter().filter_map(|entry| entry.batch.as_ref())
    }

    /// How many answers are awaited.
    pub(crate) fn on_wire(&self) -> usize {
        self.on_wire
    }

    fn replace_split(&mut self) {
        if self.entries.iter().all(|entry| entry.split.is_empty()) {
            return;
        }
        for mut entry in std::mem::take(&mut self.entries) {
            if entry.split.is_empty() {
                self.entries.push_back(entry);
                continue;
            }
            for (batch, records) in std::mem::take(&mut entry.split) {
                self.entries.push_back(Entry {
                    batch: Some(batch),
                    split: Vec::new(),
                    stamp: entry.stamp,
                    records,
                    state: State::Waiting,
                    sent_as_head: false,
                    in_doubt: false,
                    expired: entry.expired,
                });
            }
        }
    }

    fn unsettled(&self) -> impl Iterator<Item = &Entry<B>> {
        self.entries.iter().filter(|entry| entry.state != State::Settled)
    }

    fn bump_epoch(&mut self) {
        if !self.idempotent {
            self.restamp();
        } else if let Some(epoch) = self.epoch.checked_add(1) {
            (self.epoch, self.next_sequence) = (epoch, 0);
            self.restamp();
        } else {
            self.trim();
            self.mode = Mode::NoId;
        }
    }

    /// Gives every unsettled batch its place under the current id and epoch, from sequence 0.
    fn restamp(&mut self) {
        self.first_ticket += self.entries.len() as u64;
        self.entries.retain(|entry| entry.state != State::Settled);
        self.replace_split();
        let mut next = self.next_stamp();
        for entry in &mut self.entries {
            entry.stamp = next;
            if self.idempotent {
                next.base_sequence = advance(next.base_sequence, entry.records);
            }
        }
        self.next_sequence = next.base_sequence;
        self.mode = if self.entries.is_empty() { Mode::Flowing } else { Mode::Resending };
    }

    fn trim(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.state == State::Settled) {
            self.entries.pop_front();
            self.first_ticket += 1;
        }
    }
}

/// The sequence `records` further on; after 2,147,483,647 comes 0.
fn advance(sequence: i32, records: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(records);
    (sum % (1 << 31)) as i32
}

#[cfg(test)]
mod tests;
