//! [`Session`]: what a client goes on fetching without naming it anew (KIP-227), and [`step`], which
//! request may go on. Pure: no clock, no partition, no socket.
//!
//! A request has a session's id and an epoch. What it comes to:
//!
//! | id | epoch | the session | the request |
//! |---|---|---|---|
//! | 0 | -1 | | is full; no session |
//! | any but 0 | -1 | closes, if there is one | is full; no session |
//! | 0 | 0 | | is full; opens a session |
//! | any but 0 | 0 | closes, if there is one | is full; opens a session |
//! | any | other | none of that id | 70, FETCH_SESSION_ID_NOT_FOUND |
//! | any | other | awaits another epoch, or is being answered | 71, INVALID_FETCH_SESSION_EPOCH |
//! | any | as awaited | names topics the other way | 106, FETCH_SESSION_TOPIC_ID_ERROR |
//! | any | as awaited | fits | names changes only; the next epoch is awaited |
//!
//! A session that a request leaves without partitions closes, and the answer has no session.
//!
//! An answer to a request of changes has only partitions about which there is something to say
//! ([`Told::take`]). All others are as the client was last told, or read on without records.

use std::collections::{HashMap, HashSet};

use proto::ErrorCode;
use proto::kafka::Str;
use proto::kafka::messages::FetchPartition;
use uuid::Uuid;

/// No session.
pub(in crate::server::kafka) const NO_SESSION: i32 = 0;
/// The epoch of a request that wants no session.
const FINAL_EPOCH: i32 = -1;
/// The epoch of a request that would have one.
const INITIAL_EPOCH: i32 = 0;

/// What a request says of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server::kafka) struct Asked {
    pub(in crate::server::kafka) id: i32,
    pub(in crate::server::kafka) epoch: i32,
    /// It names topics by their ids.
    pub(in crate::server::kafka) by_id: bool,
}

/// Where the session of the request's id stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server::kafka) enum Standing {
    /// There is none of the id.
    None,
    /// One of its requests is being answered.
    Busy,
    /// It awaits a request of this epoch.
    Awaits { epoch: i32, by_id: bool },
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server::kafka) enum Step {
    /// Everything is named. The session of the id, if there is one, closes.
    Full { opens: bool },
    /// Changes are named.
    Incremental,
    /// Nothing is read.
    Refused(ErrorCode),
}

/// The table above.
pub(in crate::server::kafka) fn step(asked: Asked, standing: Standing) -> Step {
    match (asked.epoch, standing) {
        (FINAL_EPOCH, _) => Step::Full { opens: false },
        (INITIAL_EPOCH, _) => Step::Full { opens: true },
        (_, Standing::None) => Step::Refused(ErrorCode::FetchSessionIdNotFound),
        (_, Standing::Busy) => Step::Refused(ErrorCode::InvalidFetchSessionEpoch),
        (epoch, Standing::Awaits { epoch: awaited, .. }) if epoch != awaited => {
            Step::Refused(ErrorCode::InvalidFetchSessionEpoch)
        }
        (_, Standing::Awaits { by_id, .. }) if by_id != asked.by_id => {
            Step::Refused(ErrorCode::FetchSessionTopicIdError)
        }
        (_, Standing::Awaits { .. }) => Step::Incremental,
    }
}

/// The epoch after one: from 1 on, and from the greatest back to 1.
pub(in crate::server::kafka) fn epoch_after(epoch: i32) -> i32 {
    epoch.max(INITIAL_EPOCH).checked_add(1).unwrap_or(1)
}

/// A topic as a client names it: by name below version 13, by id from there on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::server::kafka) enum TopicKey {
    Name(Str),
    Id(Uuid),
}

/// A partition as a client names it.
pub(in crate::server::kafka) type PartitionKey = (TopicKey, i32);

/// What a client wants of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server::kafka) struct Position {
    pub(in crate::server::kafka) fetch_offset: i64,
    pub(in crate::server::kafka) current_leader_epoch: i32,
    pub(in crate::server::kafka) last_fetched_epoch: i32,
    pub(in crate::server::kafka) max_bytes: i32,
}

impl Position {
    pub(in crate::server::kafka) fn of(asked: &FetchPartition) -> Self {
        Self {
            fetch_offset: asked.fetch_offset,
            current_leader_epoch: asked.current_leader_epoch,
            last_fetched_epoch: asked.last_fetched_epoch,
            max_bytes: asked.partition_max_bytes,
        }
    }
}

/// What an answer shows of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server::kafka) struct Shown {
    pub(in crate::server::kafka) high_watermark: i64,
    pub(in crate::server::kafka) log_start: i64,
    /// Records, or where the client's log parts from ours.
    pub(in crate::server::kafka) has_more: bool,
    pub(in crate::server::kafka) is_error: bool,
}

/// What the client knows of a partition; -1 is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server::kafka) struct Told {
    high_watermark: i64,
    log_start: i64,
}

impl Told {
    pub(in crate::server::kafka) const NOTHING: Self = Self { high_watermark: -1, log_start: -1 };

    /// Takes note of what an answer shows; whether an answer with changes has to have it.
    ///
    /// | shown | in the answer | the client knows then |
    /// |---|---|---|
    /// | an error | yes | nothing: when it is over, that is told too |
    /// | records, or a diverging epoch | yes | what is shown |
    /// | another high watermark or log start | yes | what is shown |
    /// | nothing else than the client knows | no | the same |
    pub(in crate::server::kafka) fn take(&mut self, shown: Shown) -> bool {
        let knew = *self;
        *self = match shown.is_error {
            true => Self::NOTHING,
            false => Self { high_watermark: shown.high_watermark, log_start: shown.log_start },
        };
        shown.is_error || shown.has_more || *self != knew
    }
}

/// A partition that is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server::kafka) struct Slot {
    pub(in crate::server::kafka) key: PartitionKey,
    pub(in crate::server::kafka) position: Position,
    pub(in crate::server::kafka) told: Told,
}

impl Slot {
    pub(in crate::server::kafka) fn new(key: PartitionKey, position: Position) -> Self {
        Self { key, position, told: Told::NOTHING }
    }

    /// Memory that it takes, about.
    fn bytes(&self) -> usize {
        let name = match &self.key.0 {
            TopicKey::Name(name) => name.len(),
            TopicKey::Id(_) => 0,
        };
        // Twice, since the index has the key too.
        2 * size_of::<Self>() + name
    }
}

/// The partitions of a client, in the order they are read. Each once.
#[derive(Debug, Default)]
pub(in crate::server::kafka) struct Session {
    slots: Vec<Slot>,
    /// Numbers of slots, all of them: who comes first has what fits into an answer.
    order: Vec<usize>,
    index: HashMap<PartitionKey, usize>,
    bytes: usize,
}

impl Session {
    pub(in crate::server::kafka) fn of(slots: impl IntoIterator<Item = Slot>) -> Self {
        let mut session = Self::default();
        slots.into_iter().for_each(|slot| session.put(slot));
        session
    }

    /// Adds a partition at the end of the order, or changes what is wanted of it.
    pub(in crate::server::kafka) fn put(&mut self, slot: Slot) {
        if let Some(&at) = self.index.get(&slot.key) {
            self.slots[at].position = slot.position;
            return;
        }
        let at = self.slots.len();
        self.bytes += slot.bytes();
        self.index.insert(slot.key.clone(), at);
        self.order.push(at);
        self.slots.push(slot);
    }

    /// Partitions leave; those that are not there are no error.
    pub(in crate::server::kafka) fn forget(&mut self, forgotten: &HashSet<PartitionKey>) {
        if !forgotten.iter().any(|key| self.index.contains_key(key)) {
            return;
        }
        let order = std::mem::take(&mut self.order);
        let mut slots: Vec<_> = std::mem::take(&mut self.slots).into_iter().map(Some).collect();
        let kept = order.into_iter().filter_map(|at| slots[at].take());
        *self = Self::of(kept.filter(|slot| !forgotten.contains(&slot.key)));
    }

    /// Those whose records were sent come last from now on: else a busy partition would keep what is
    /// behind it from ever being read.
    pub(in crate::server::kafka) fn send_back(&mut self, has_sent: impl Fn(usize) -> bool) {
        // Stable: who waits longest stays first.
        self.order.sort_by_key(|&at| has_sent(at));
    }

    pub(in crate::server::kafka) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(in crate::server::kafka) fn order(&self) -> &[usize] {
        &self.order
    }

    /// Of the slot of a number.
    pub(in crate::server::kafka) fn told(&mut self, at: usize) -> &mut Told {
        &mut self.slots[at].told
    }

    pub(in crate::server::kafka) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many partitions.
    pub(in crate::server::kafka) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Memory that it takes, about.
    pub(in crate::server::kafka) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests;
