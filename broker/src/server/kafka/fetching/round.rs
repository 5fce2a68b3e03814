//! [`Round`]: reads the partitions of one request, and waits at them until there is enough.
//!
//! One pass reads every partition in order; where less than `min_bytes` came of it, the round parks at
//! all of them, and those that ring are read anew.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use proto::kafka::messages::FetchRequest;
use proto::{ErrorCode, LeaderEpoch, Offset, TopicId};
use tokio::time::Instant;

use super::super::context::Kept;
use super::Context;
use super::bell::Bell;
use super::handlers::by_name;
use super::session::{Position, Slot, TopicKey};
use crate::api::{Fetched, Opened, Read, ReadFrom, Reader, Refusal};
use crate::replication::Wake;

/// How much an answer may have, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(in crate::server::kafka) struct Limits {
    max_bytes: usize,
    min_bytes: usize,
    deadline: Instant,
}

impl Limits {
    /// As the request and the broker want it.
    pub(in crate::server::kafka) fn of(context: &Context, request: &FetchRequest) -> Self {
        let limits = context.services.api.limits();
        let positive = |number: i32| usize::try_from(number).unwrap_or(0);
        let wait = Duration::from_millis(positive(request.max_wait_ms) as u64);
        let max_bytes = positive(request.max_bytes).min(limits.fetch_max_bytes);
        Self {
            max_bytes,
            min_bytes: positive(request.min_bytes).min(max_bytes),
            deadline: Instant::now() + wait.min(limits.fetch_max_wait),
        }
    }
}

/// What is known of a partition.
pub(in crate::server::kafka) enum State {
    /// Nothing there yet.
    Empty(Reader),
    Read(Reader, Fetched),
    Diverging(Reader, LeaderEpoch, Offset),
    Refused(Refusal),
}

/// A request under way. What it parked it takes back when it drops.
pub(in crate::server::kafka) struct Round<'a> {
    slots: &'a [Slot],
    states: Vec<State>,
    limits: Limits,
    /// Bytes that are read, over all partitions.
    have: usize,
    /// There are records that did not fit, or an error that the client is not to wait for.
    hurry: bool,
    bell: Arc<Bell>,
    kept: Arc<Kept>,
    /// By slot: its partition has the bell.
    parked: Vec<bool>,
}

impl<'a> Round<'a> {
    /// Opens readers for all slots, where the connection has none resting there.
    pub(in crate::server::kafka) fn open(
        context: &Context,
        slots: &'a [Slot],
        limits: Limits,
    ) -> Self {
        let states = {
            let mut positions = context.kept.positions.lock();
            positions.begin();
            let resumed = slots.iter().map(|slot| positions.take(&slot.key, slot.position));
            resumed.collect::<Vec<_>>()
        };
        let metrics = &context.services.metrics;
        let opened = slots.iter().zip(states).map(|(slot, resumed)| match resumed {
            Some(reader) => {
                metrics.fetch_positions_kept.one();
                compared(reader, slot.position).unwrap_or_else(State::Refused)
            }
            None => {
                metrics.fetch_positions_opened.one();
                open(context, slot)
            }
        });
        let states: Vec<State> = opened.collect();
        let hurry = states.iter().any(|state| !matches!(state, State::Empty(_)));
        let parked = vec![false; slots.len()];
        let (bell, kept) = (Arc::default(), Arc::clone(&context.kept));
        Self { slots, states, limits, have: 0, hurry, bell, kept, parked }
    }

    /// Reads until there is enough, or the time is over. In `order` are the numbers of all slots.
    pub(in crate::server::kafka) async fn fill(mut self, order: &[usize]) -> Vec<State> {
        for &at in order {
            self.read(at).await;
        }
        if !self.has_enough() {
            let mut moved = self.park(order);
            while !self.has_enough() {
                if moved.is_empty() {
                    moved = self.rung().await;
                }
                for &at in &moved {
                    self.read(at).await;
                }
                moved = self.park(&moved);
            }
        }
        self.unpark();
        std::mem::take(&mut self.states)
    }

    fn has_enough(&self) -> bool {
        self.hurry || self.have >= self.limits.min_bytes || Instant::now() >= self.limits.deadline
    }

    /// Reads a partition, if there is room left for it.
    async fn read(&mut self, at: usize) {
        let own = match &self.states[at] {
            State::Read(_, fetched) => fetched.bytes(),
            _ => 0,
        };
        let others = self.have - own;
        let room = self.limits.max_bytes.saturating_sub(others);
        let limit = usize::try_from(self.slots[at].position.max_bytes).unwrap_or(0).min(room);
        // The first partition with records gives a batch whole, however large: a client would
        // otherwise never get past it.
        if limit == 0 && others > 0 {
            return;
        }
        let state = std::mem::replace(&mut self.states[at], State::Refused(broke_off()));
        let (State::Empty(reader) | State::Read(reader, _)) = state else {
            self.states[at] = state;
            return;
        };
        self.have = others;
        self.states[at] = match read(&reader, limit).await {
            Ok(Some(fetched)) if others == 0 || fetched.bytes() <= limit => {
                self.have += fetched.bytes();
                State::Read(reader, fetched)
            }
            Ok(too_large) => {
                self.hurry |= too_large.is_some();
                State::Empty(reader)
            }
            Err(refusal) => {
                self.hurry = true;
                State::Refused(refusal)
            }
        };
    }

    /// Has the partitions ring when they move; which of them have moved already.
    fn park(&mut self, slots: &[usize]) -> Vec<usize> {
        let wake = Arc::clone(&self.bell) as Arc<dyn Wake>;
        let mut moved = Vec::new();
        for &at in slots {
            let (reader, seen) = match &self.states[at] {
                State::Empty(reader) => (reader, reader.offset()),
                State::Read(reader, fetched) => (reader, fetched.seen),
                _ => continue,
            };
            if !std::mem::replace(&mut self.parked[at], true) {
                reader.park(Arc::clone(&wake), at as u32);
            }
            if reader.has_moved_beyond(seen) {
                moved.push(at);
            }
        }
        moved
    }

    /// Waits until partitions ring; which ones. None: the time is over.
    async fn rung(&mut self) -> Vec<usize> {
        let rung = std::future::poll_fn(|cx| {
            let rung = self.bell.take(cx.waker());
            if rung.is_empty() {
                return self.kept.alarm.poll(self.limits.deadline, cx).map(|()| rung);
            }
            Poll::Ready(rung)
        });
        let rung = rung.await;
        let rung: Vec<usize> = rung.into_iter().map(|at| at as usize).collect();
        // Who has rung is told once and is parked no more.
        rung.iter().for_each(|&at| self.parked[at] = false);
        rung
    }

    fn unpark(&mut self) {
        let wake = Arc::clone(&self.bell) as Arc<dyn Wake>;
        for (at, state) in self.states.iter().enumerate() {
            if let State::Empty(reader) | State::Read(reader, _) = state
                && std::mem::take(&mut self.parked[at])
            {
                reader.unpark(&wake, at as u32);
            }
        }
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        self.unpark();
    }
}

fn broke_off() -> Refusal {
    Refusal::new(ErrorCode::UnknownServerError, "the read broke off", "ask again")
}

async fn read(reader: &Reader, limit: usize) -> Result<Option<Fetched>, Refusal> {
    match reader.read(limit)? {
        Read::Records(fetched) => Ok(Some(fetched)),
        Read::Nothing => Ok(None),
        Read::Cold(reading) => reading.await.map(Some),
    }
}

fn open(context: &Context, slot: &Slot) -> State {
    let opened = match &slot.key.0 {
        TopicKey::Name(name) => {
            let id = context.services.api.topic_id_of(name);
            id.and_then(|id| open_reader(context, slot, name, id)).map_err(by_name)
        }
        TopicKey::Id(id) => {
            let id = TopicId(*id);
            let name = context.services.api.topic_name_of(id);
            name.and_then(|name| open_reader(context, slot, &name, id).map_err(by_id))
        }
    };
    opened.unwrap_or_else(State::Refused)
}

/// There is a topic with the id, and what is stored here under its name is another one's.
fn by_id(refusal: Refusal) -> Refusal {
    match refusal.code {
        ErrorCode::UnknownTopicId => Refusal { code: ErrorCode::InconsistentTopicId, ..refusal },
        _ => refusal,
    }
}

fn open_reader(context: &Context, slot: &Slot, topic: &str, id: TopicId) -> Result<State, Refusal> {
    let (api, position) = (&context.services.api, slot.position);
    let from = ReadFrom {
        topic,
        topic_id: id.0.as_bytes(),
        partition: slot.key.1,
        leader_epoch: LeaderEpoch(position.current_leader_epoch),
        offset: Offset(position.fetch_offset),
        last_epoch: None,
        wants_producers: false,
    };
    let reader = match api.open_reader(from, None)? {
        Opened::Reader(reader) => reader,
        Opened::Diverging(..) => return Err(broke_off()),
    };
    compared(reader, position)
}

/// A reader of the log that the client has read so far, or where that parts from ours: a client may say
/// of which epoch the record before its offset is.
fn compared(reader: Reader, position: Position) -> Result<State, Refusal> {
    let last_epoch = LeaderEpoch(position.last_fetched_epoch);
    let diverging = (last_epoch > LeaderEpoch::UNKNOWN).then(|| reader.diverging(last_epoch));
    match diverging.flatten() {
        None => Ok(State::Empty(reader)),
        Some((Some(epoch), end)) => Ok(State::Diverging(reader, epoch, end)),
        Some((None, _)) => Err(Refusal::new(
            ErrorCode::OffsetOutOfRange,
            "the log has no epoch as old as that of the record before the offset",
            "begin at the earliest or the latest offset, as the application wants",
        )),
    }
}
