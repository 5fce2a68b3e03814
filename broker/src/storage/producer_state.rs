//! Which batches each idempotent producer appended last, so that a retry is recognised and a gap
//! refused.
//!
//! Pure memory: `producer_snapshot` and `sequence_window` are its files, `recovery` replays the log
//! into it. Read on: `append`, which asks before it writes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::record::BatchHeader;
use proto::{Offset, ProducerEpoch, ProducerId};

use super::error::SequenceError;

/// Batches remembered for a producer that did not say how many it keeps in flight (Kafka's).
pub(super) const WINDOW_DEFAULT: u16 = 5;
/// Most batches remembered for one producer and partition.
pub(super) const WINDOW_MAX: u16 = 1024;
/// What a remembered producer counts for besides its batches.
const PRODUCER_BYTES: u64 = 128;
const BATCH_BYTES: u64 = size_of::<ProducerBatch>() as u64;

/// A batch that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProducerBatch {
    pub(super) base_sequence: i32,
    pub(super) last_sequence: i32,
    pub(super) base_offset: Offset,
    pub(super) timestamp: i64,
}

impl ProducerBatch {
    /// Offsets in the batch less one. Sequences wrap from `i32::MAX` to 0.
    pub(super) fn offset_delta(&self) -> i32 {
        self.last_sequence.wrapping_sub(self.base_sequence) & i32::MAX
    }

    /// The last offset, inclusive.
    pub(super) fn last_offset(&self) -> Offset {
        self.base_offset.plus(self.offset_delta().into())
    }
}

/// A producer's last batches, oldest first, each following the one before; all of one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Producer {
    pub(super) epoch: ProducerEpoch,
    /// How many batches are kept: what the producer declared, or `None` where nobody knows (all
    /// that is left of it is the log) and as many are kept as ever are.
    pub(super) window: Option<u16>,
    pub(super) batches: VecDeque<ProducerBatch>,
    /// When it last appended, by the broker's clock.
    pub(super) last_used_ms: i64,
}

impl Producer {
    /// Whether the batch follows the last one. One that does not (found so in the log) makes what
    /// was before useless for telling retries.
    fn is_next(&self, header: &BatchHeader) -> bool {
        let next = |last: &ProducerBatch| last.last_sequence.wrapping_add(1) & i32::MAX;
        self.batches.back().is_none_or(|last| next(last) == header.base_sequence)
    }

    fn bytes(&self) -> u64 {
        PRODUCER_BYTES + BATCH_BYTES * self.batches.len() as u64
    }
}

/// Bounds what all logs remember of producers.
#[derive(Debug)]
pub(super) struct ProducerBudget {
    limit: u64,
    used: AtomicU64,
}

impl ProducerBudget {
    /// At most `limit` bytes.
    pub(super) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// Bytes in use.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn is_exceeded(&self) -> bool {
        self.used() > self.limit
    }
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Append it.
    Fresh,
    /// It was appended before, here.
    Duplicate(ProducerBatch),
}

/// How to take back one `push`.
#[derive(Debug)]
enum Undo {
    Created(ProducerId),
    Pushed { id: ProducerId, window: Option<u16>, last_used_ms: i64 },
    Replaced(ProducerId, Producer),
}

/// The producers of one log.
///
/// Changes made by [`ProducerState::push`] are taken back by [`ProducerState::rollback`] until
/// [`ProducerState::commit`]: a write that fails must leave no trace here, or the retry would be
/// taken for a duplicate. The order of oldest-first expiry is by `last_used_ms`.
#[derive(Debug)]
pub(super) struct ProducerState {
    producers: HashMap<ProducerId, Producer>,
    journal: Vec<Undo>,
    /// The deepest window declared since all were forgotten.
    deepest_window: u16,
    /// What `budget` counts for this log.
    charged: u64,
    budget: Arc<ProducerBudget>,
}

impl ProducerState {
    /// Nobody known yet.
    pub(super) fn new(budget: Arc<ProducerBudget>) -> Self {
        Self {
            producers: HashMap::new(),
            journal: Vec::new(),
            deepest_window: WINDOW_DEFAULT,
            charged: 0,
            budget,
        }
    }

    /// Judges a batch. Batches without a producer id are always fresh.
    pub(super) fn check(&self, header: &BatchHeader) -> Result<Verdict, SequenceError> {
        if !header.is_idempotent() {
            return Ok(Verdict::Fresh);
        }
        let (producer_id, found) = (header.producer_id, header.base_sequence);
        let Some(producer) = self.producers.get(&producer_id) else {
            return match found {
                0 => Ok(Verdict::Fresh),
                _ => Err(SequenceError::UnknownProducer { producer_id, found }),
            };
        };
        let current = producer.epoch;
        if header.producer_epoch < current {
            let found = header.producer_epoch;
            return Err(SequenceError::Fenced { producer_id, current, found });
        }
        if header.producer_epoch > current {
            return match found {
                0 => Ok(Verdict::Fresh),
                _ => Err(SequenceError::OutOfOrder { producer_id, expected: 0, found }),
            };
        }
        Self::check_sequence(producer, header)
    }

    fn check_sequence(producer: &Producer, header: &BatchHeader) -> Result<Verdict, SequenceError> {
        let (producer_id, found) = (header.producer_id, header.base_sequence);
        let Some(last) = producer.batches.back() else { return Ok(Verdict::Fresh) };
        let expected = last.last_sequence.wrapping_add(1) & i32::MAX;
        if found == expected {
            return Ok(Verdict::Fresh);
        }
        let same = |batch: &&ProducerBatch| {
            batch.base_sequence == found && batch.last_sequence == header.last_sequence()
        };
        if let Some(batch) = producer.batches.iter().rev().find(same) {
            return Ok(Verdict::Duplicate(*batch));
        }
        // Behind the newest by less than half the circle of sequences: seen before.
        let behind = expected.wrapping_sub(found) & i32::MAX;
        let oldest = producer.batches.front().map_or(expected, |batch| batch.base_sequence);
        let remembered = expected.wrapping_sub(oldest) & i32::MAX;
        if behind > remembered && behind < i32::MAX / 2 {
            return Err(SequenceError::Duplicate { producer_id, found });
        }
        Err(SequenceError::OutOfOrder { producer_id, expected, found })
    }

    /// Remembers a batch that got its offset. `window` is how many the producer keeps in flight;
    /// `None`: what it declared before, if it did.
    pub(super) fn push(&mut self, header: &BatchHeader, window: Option<u16>, now_ms: i64) {
        if !header.is_idempotent() {
            return;
        }
        let window = window.map(|window| window.clamp(WINDOW_DEFAULT, WINDOW_MAX));
        self.deepest_window = self.deepest_window.max(window.unwrap_or(0));
        let id = header.producer_id;
        let batch = ProducerBatch {
            base_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            timestamp: header.max_timestamp,
        };
        let fresh = || Producer {
            epoch: header.producer_epoch,
            window,
            batches: VecDeque::from([batch]),
            last_used_ms: now_ms,
        };
        match self.producers.get_mut(&id) {
            Some(producer)
                if producer.epoch == header.producer_epoch && producer.is_next(header) =>
            {
                let last_used_ms = producer.last_used_ms;
                self.journal.push(Undo::Pushed { id, window: producer.window, last_used_ms });
                producer.window = window.or(producer.window);
                producer.last_used_ms = now_ms;
                producer.batches.push_back(batch);
            }
            Some(producer) => {
                let fresh = Producer { window: window.or(producer.window), ..fresh() };
                self.journal.push(Undo::Replaced(id, std::mem::replace(producer, fresh)));
            }
            None => {
                self.journal.push(Undo::Created(id));
                self.producers.insert(id, fresh());
            }
        }
    }

    /// Makes the pushes since the last commit final, and forgets what has no room.
    ///
    /// All are charged before anything is forgotten: a window that is trimmed holds the batches of
    /// pushes further down the journal, too, and a follower pushes hundreds at once.
    pub(super) fn commit(&mut self) {
        let journal = std::mem::take(&mut self.journal);
        for undo in &journal {
            match undo {
                Undo::Created(_) => self.charge(PRODUCER_BYTES + BATCH_BYTES),
                Undo::Pushed { .. } => self.charge(BATCH_BYTES),
                Undo::Replaced(_, old) => {
                    self.charge(PRODUCER_BYTES + BATCH_BYTES);
                    self.release(old.bytes());
                }
            }
        }
        for undo in journal {
            let id = match undo {
                Undo::Created(id) | Undo::Pushed { id, .. } | Undo::Replaced(id, _) => id,
            };
            self.trim(id);
            if self.budget.is_exceeded() {
                self.make_room(id);
            }
        }
    }

    /// Takes back the pushes since the last commit.
    pub(super) fn rollback(&mut self) {
        while let Some(undo) = self.journal.pop() {
            match undo {
                Undo::Created(id) => {
                    self.producers.remove(&id);
                }
                Undo::Pushed { id, window, last_used_ms } => {
                    if let Some(producer) = self.producers.get_mut(&id) {
                        producer.batches.pop_back();
                        producer.window = window;
                        producer.last_used_ms = last_used_ms;
                    }
                }
                Undo::Replaced(id, old) => {
                    self.producers.insert(id, old);
                }
            }
        }
    }

    /// Takes over a producer as a file remembers it.
    pub(super) fn restore(&mut self, id: ProducerId, producer: Producer) {
        self.charge(producer.bytes());
        self.deepest_window = self.deepest_window.max(producer.window.unwrap_or(0));
        if let Some(old) = self.producers.insert(id, producer) {
            self.release(old.bytes());
        }
    }

    /// The same while there is room, for one that is not known; true if it was taken.
    pub(super) fn restore_unknown(&mut self, id: ProducerId, producer: Producer) -> bool {
        let takes = !self.knows(id) && !self.budget.is_exceeded();
        if takes {
            self.restore(id, producer);
        }
        takes
    }

    /// Forgets producers that appended nothing since `before_ms`.
    pub(super) fn expire(&mut self, before_ms: i64) {
        let mut released = 0;
        self.producers.retain(|_, producer| {
            let keep = producer.last_used_ms >= before_ms;
            if !keep {
                released += producer.bytes();
            }
            keep
        });
        self.release(released);
    }

    /// Forgets everybody.
    pub(super) fn clear(&mut self) {
        self.producers.clear();
        self.journal.clear();
        self.deepest_window = WINDOW_DEFAULT;
        self.release(self.charged);
    }

    /// All producers, ordered by id.
    pub(super) fn sorted(&self) -> Vec<(ProducerId, &Producer)> {
        let mut all: Vec<_> = self.producers.iter().map(|(&id, producer)| (id, producer)).collect();
        all.sort_unstable_by_key(|&(id, _)| id);
        all
    }

    /// The deepest window that a producer declared.
    pub(super) fn deepest_window(&self) -> u16 {
        self.deepest_window
    }

    /// Whether anything is remembered of a producer.
    pub(super) fn knows(&self, id: ProducerId) -> bool {
        self.producers.contains_key(&id)
    }

    /// How many producers are remembered.
    pub(super) fn len(&self) -> usize {
        self.producers.len()
    }

    fn trim(&mut self, id: ProducerId) {
        let Some(producer) = self.producers.get_mut(&id) else { return };
        let excess =
            producer.batches.len().saturating_sub(producer.window.unwrap_or(WINDOW_MAX).into());
        producer.batches.drain(..excess);
        self.release(excess as u64 * BATCH_BYTES);
    }

    /// Over the budget: forgets this log's oldest producers but `keep`; when that does not do,
    /// shortens `keep`'s window to Kafka's five.
    fn make_room(&mut self, keep: ProducerId) {
        while self.budget.is_exceeded() {
            let others = self.producers.iter().filter(|&(&id, _)| id != keep);
            let oldest =
                others.min_by_key(|(_, producer)| producer.last_used_ms).map(|(&id, _)| id);
            let Some(removed) = oldest.and_then(|id| self.producers.remove(&id)) else { break };
            self.release(removed.bytes());
        }
        if self.budget.is_exceeded() {
            let Some(producer) = self.producers.get_mut(&keep) else { return };
            let excess = producer.batches.len().saturating_sub(WINDOW_DEFAULT.into());
            producer.batches.drain(..excess);
            self.release(excess as u64 * BATCH_BYTES);
        }
    }

    fn charge(&mut self, bytes: u64) {
        self.charged += bytes;
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn release(&mut self, bytes: u64) {
        self.charged -= bytes;
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for ProducerState {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.charged, Ordering::Relaxed);
    }
}
