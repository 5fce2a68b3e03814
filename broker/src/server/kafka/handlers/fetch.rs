//! Fetch: what there is at many positions, or what comes there within a time.
//!
//! No sessions: an answer has session id 0, so every request names all its partitions. Clients that
//! would have a session (Java, franz-go) take that as an answer, not as an error.
//!
//! One round reads every partition; where less than `min_bytes` came of it, the request parks at all
//! of them, and those that ring are read anew. Batches go out as they are stored: long ones from
//! their file, the rest from memory.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use proto::kafka::messages::{
    EpochEndOffset, FetchPartition, FetchRequest, FetchResponse, FetchableTopicResponse,
    LeaderIdAndEpoch, PartitionData,
};
use proto::kafka::{Records, Str, encode};
use proto::{ErrorCode, LeaderEpoch, Offset};
use tokio::time::Instant;

use super::bell::Bell;
use super::{Answer, Context, Outgoing, code};
use crate::api::{Fetched, FileRange, Opened, Read, ReadFrom, Reader, Refusal};
use crate::replication::Wake;

/// Shorter ranges go out of memory: that costs less than a call of their own.
const FILE_FROM: usize = 16 << 10;

pub(in super::super) async fn fetch(
    context: Context,
    correlation_id: i32,
    request: FetchRequest,
) -> Answer {
    let round = Round::open(&context, &request);
    let parked = Parked { round, bell: Arc::new(Bell::default()), parked: Vec::new() };
    let slots = parked.fill().await;
    respond(&context, correlation_id, request, slots)
}

/// What is known of one partition of the request.
struct Slot {
    topic: Str,
    asked: FetchPartition,
    state: State,
}

enum State {
    /// Nothing there yet.
    Empty(Reader),
    Read(Reader, Fetched),
    Diverging(Reader, LeaderEpoch, Offset),
    Refused(Refusal),
}

struct Round {
    slots: Vec<Slot>,
    max_bytes: usize,
    min_bytes: usize,
    deadline: Instant,
    /// Bytes that are read, over all slots.
    have: usize,
    /// There are records that did not fit, or an error that the client is not to wait for.
    hurry: bool,
}

impl Round {
    fn open(context: &Context, request: &FetchRequest) -> Self {
        let limits = context.services.api.limits();
        let positive = |number: i32| usize::try_from(number).unwrap_or(0);
        let wait = Duration::from_millis(positive(request.max_wait_ms) as u64);
        let max_bytes = positive(request.max_bytes).min(limits.fetch_max_bytes);
        let slots = request.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|asked| Slot {
                topic: Arc::clone(&topic.topic),
                asked: asked.clone(),
                state: open(context, &topic.topic, asked),
            })
        });
        let slots: Vec<Slot> = slots.collect();
        let hurry = slots.iter().any(|slot| !matches!(slot.state, State::Empty(_)));
        Self {
            slots,
            max_bytes,
            min_bytes: positive(request.min_bytes).min(max_bytes),
            deadline: Instant::now() + wait.min(limits.fetch_max_wait),
            have: 0,
            hurry,
        }
    }

    fn has_enough(&self) -> bool {
        self.hurry || self.have >= self.min_bytes || Instant::now() >= self.deadline
    }

    /// Reads a partition, if there is room left for it.
    async fn read(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        let own = match &slot.state {
            State::Read(_, fetched) => fetched.bytes(),
            _ => 0,
        };
        let others = self.have - own;
        let room = self.max_bytes.saturating_sub(others);
        let limit = usize::try_from(slot.asked.partition_max_bytes).unwrap_or(0).min(room);
        // The first partition with records gives a batch whole, however large: a client would
        // otherwise never get past it.
        if limit == 0 && others > 0 {
            self.hurry |= room == 0;
            return;
        }
        let state = std::mem::replace(&mut slot.state, State::Refused(closed()));
        let (State::Empty(reader) | State::Read(reader, _)) = state else {
            slot.state = state;
            return;
        };
        self.have = others;
        slot.state = match read(&reader, limit).await {
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
}

fn closed() -> Refusal {
    Refusal::new(ErrorCode::UnknownServerError, "the read broke off", "ask again")
}

fn open(context: &Context, topic: &Str, asked: &FetchPartition) -> State {
    let api = &context.services.api;
    let opened = api.topic_id_of(topic).and_then(|id| {
        let from = ReadFrom {
            topic,
            topic_id: id.0.as_bytes(),
            partition: asked.partition,
            leader_epoch: LeaderEpoch(asked.current_leader_epoch),
            offset: Offset(asked.fetch_offset),
            last_epoch: None,
            wants_producers: false,
        };
        let reader = match api.open_reader(from, None)? {
            Opened::Reader(reader) => reader,
            Opened::Diverging(..) => return Err(closed()),
        };
        if asked.last_fetched_epoch < 0 {
            return Ok(State::Empty(reader));
        }
        let last_epoch = Some(LeaderEpoch(asked.last_fetched_epoch));
        match api.open_reader(ReadFrom { last_epoch, ..from }, None)? {
            Opened::Reader(reader) => Ok(State::Empty(reader)),
            Opened::Diverging(Some(epoch), end) => Ok(State::Diverging(reader, epoch, end)),
            Opened::Diverging(None, _) => Err(Refusal::new(
                ErrorCode::OffsetOutOfRange,
                "the log has no epoch as old as that of the record before the offset",
                "begin at the earliest or the latest offset, as the application wants",
            )),
        }
    });
    opened.unwrap_or_else(State::Refused)
}

async fn read(reader: &Reader, limit: usize) -> Result<Option<Fetched>, Refusal> {
    match reader.read(limit)? {
        Read::Records(fetched) => Ok(Some(fetched)),
        Read::Nothing => Ok(None),
        Read::Cold(reading) => reading.await.map(Some),
    }
}

/// A round, and where it is parked while it waits.
struct Parked {
    round: Round,
    bell: Arc<Bell>,
    /// Slots whose partitions have the bell.
    parked: Vec<usize>,
}

impl Parked {
    /// Reads until there is enough, or the time is over.
    async fn fill(mut self) -> Vec<Slot> {
        for at in 0..self.round.slots.len() {
            self.round.read(at).await;
        }
        while !self.round.has_enough() {
            let rung = self.wait().await;
            for at in rung {
                self.round.read(at).await;
            }
        }
        self.unpark();
        std::mem::take(&mut self.round.slots)
    }

    /// Waits until partitions move; which ones. None: the time is over.
    async fn wait(&mut self) -> Vec<usize> {
        self.unpark();
        let mut moved = Vec::new();
        for (at, slot) in self.round.slots.iter().enumerate() {
            let (reader, seen) = match &slot.state {
                State::Empty(reader) => (reader, reader.offset()),
                State::Read(reader, fetched) => (reader, fetched.seen),
                _ => continue,
            };
            reader.park(self.wake(), at as u32);
            self.parked.push(at);
            if reader.has_moved_beyond(seen) {
                moved.push(at);
            }
        }
        if !moved.is_empty() {
            return moved;
        }
        let bell = Arc::clone(&self.bell);
        let rung = std::future::poll_fn(|cx| {
            let rung = bell.take(cx.waker());
            if rung.is_empty() { Poll::Pending } else { Poll::Ready(rung) }
        });
        let rung = tokio::time::timeout_at(self.round.deadline, rung).await.unwrap_or_default();
        rung.into_iter().map(|at| at as usize).collect()
    }

    fn wake(&self) -> Arc<dyn Wake> {
        Arc::clone(&self.bell) as Arc<dyn Wake>
    }

    fn unpark(&mut self) {
        let wake = self.wake();
        for at in self.parked.drain(..) {
            if let State::Empty(reader) | State::Read(reader, _) = &self.round.slots[at].state {
                reader.unpark(&wake, at as u32);
            }
        }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.unpark();
    }
}

fn respond(
    context: &Context,
    correlation_id: i32,
    request: FetchRequest,
    slots: Vec<Slot>,
) -> Answer {
    let metrics = &context.services.metrics;
    metrics.fetch_rounds.one();
    let mut files = Vec::new();
    let mut slots = slots.into_iter();
    let topics = request.topics.into_iter().map(|topic| {
        let slots = slots.by_ref().take(topic.partitions.len());
        let read_committed = request.isolation_level == 1;
        let partitions = slots.map(|slot| {
            let mut data = partition_data(context, slot, &mut files);
            data.aborted_transactions = read_committed.then(Vec::new);
            data
        });
        FetchableTopicResponse {
            partitions: partitions.collect(),
            topic: topic.topic,
            ..Default::default()
        }
    });
    let response = FetchResponse { responses: topics.collect(), ..Default::default() };
    let encoded = encode::<FetchRequest>(context.version, correlation_id, &response);
    Answer::Send(Outgoing::new(encoded, files))
}

fn partition_data(context: &Context, slot: Slot, files: &mut Vec<FileRange>) -> PartitionData {
    let metrics = &context.services.metrics;
    let data = PartitionData { partition_index: slot.asked.partition, ..Default::default() };
    let at = |data, high_watermark: Offset, log_start: Offset| PartitionData {
        high_watermark: high_watermark.0,
        last_stable_offset: high_watermark.0,
        log_start_offset: log_start.0,
        ..data
    };
    match slot.state {
        State::Empty(reader) => {
            let (high_watermark, log_start) = reader.bounds();
            at(data, high_watermark, log_start)
        }
        State::Read(_, fetched) => {
            metrics.fetch_bytes.add(fetched.bytes() as u64);
            let data = at(data, fetched.high_watermark, fetched.log_start);
            PartitionData { records: records(fetched, files), ..data }
        }
        State::Diverging(reader, epoch, end) => {
            let (high_watermark, log_start) = reader.bounds();
            let diverging_epoch = EpochEndOffset { epoch: epoch.0, end_offset: end.0 };
            PartitionData { diverging_epoch, ..at(data, high_watermark, log_start) }
        }
        State::Refused(refusal) => {
            metrics.fetch_errors.one();
            PartitionData {
                error_code: code(&refusal),
                high_watermark: -1,
                current_leader: leader_hint(context, &refusal, &slot.topic, slot.asked.partition),
                ..data
            }
        }
    }
}

/// Long records stay where they are.
fn records(fetched: Fetched, files: &mut Vec<FileRange>) -> Records {
    let len = fetched.bytes();
    let file = if len >= FILE_FROM { fetched.file_range() } else { None };
    match file {
        Some(file) => {
            files.push(file);
            Records::Elsewhere(len)
        }
        None => Records::Here(fetched.records),
    }
}

/// Who leads instead, for a client that asked the wrong broker.
fn leader_hint(
    context: &Context,
    refusal: &Refusal,
    topic: &str,
    partition: i32,
) -> LeaderIdAndEpoch {
    let moved = [ErrorCode::NotLeaderOrFollower, ErrorCode::FencedLeaderEpoch];
    if !moved.contains(&refusal.code) {
        return LeaderIdAndEpoch::default();
    }
    let leader = context.services.api.leader_of(topic, partition);
    leader.map_or_else(LeaderIdAndEpoch::default, |(id, epoch)| LeaderIdAndEpoch {
        leader_id: id.0,
        leader_epoch: epoch.0,
    })
}
