//! The rounds of one fetch stream: which handles it reads, who of them may have records, what a
//! round has sent. No sockets here; records go to an [`Outbox`].
//!
//! A handle is *ready* (in the queue, to be looked at), *parked* (its partition rings the [`Bell`]
//! when it moves), *reading* (a disk thread fetches its records) or *looked* at (it was sent in
//! this round). A round sends of each handle once, in turn: a busy partition starves nobody.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use proto::grpc::FrameError;
use proto::{ErrorCode, LeaderEpoch, Offset, v1};
use tonic::Status;

use super::bell::Bell;
use super::fetch_round::Round;
use super::outbox::Outbox;
use super::watch::StreamGuard;
use super::wire;
use crate::api::{Api, ColdRead, Fetched, Opened, Read, ReadFrom, Reader, Refusal};
use crate::metrics::Metrics;
use crate::replication::{Replica, Wake};

/// Handles of one stream; more are refused.
const HANDLES_MAX: usize = 100_000;
/// Bytes of one answer where the client names no limit.
const PARTITION_BYTES_DEFAULT: usize = 1 << 20;
/// Answers put out before the peer has to take them.
const OUT_BYTES_MAX: usize = 4 << 20;

/// A round out of time waits for reads from disk, which wake the stream; looked at so often anyway.
const DISK_WAIT: Duration = Duration::from_millis(100);

/// Where a handle stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Ready,
    Parked,
    Reading,
    /// Was sent in this round; ready again in the next.
    Looked,
}

pub(super) struct Handle {
    pub(super) reader: Reader,
    max_bytes: usize,
    standing: Standing,
    /// Registered with the partition's waiters.
    registered: bool,
    /// Records a disk thread has brought.
    brought: Option<Fetched>,
    /// Among the round's news.
    pub(super) has_news: bool,
}

/// How far [`FetchSession::advance`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// There are frames to send.
    Out,
    /// The round has ended; its last message is in the outbox.
    Ended,
    /// Nothing to do before the bell rings, a read is done, or this moment.
    Wait(Instant),
}

/// The handles of a stream and its present round.
pub(super) struct FetchSession {
    pub(super) api: Arc<Api>,
    metrics: Arc<Metrics>,
    guard: Arc<StreamGuard>,
    bell: Arc<Bell>,
    pub(super) handles: HashMap<u32, Handle>,
    ready: VecDeque<u32>,
    reading: Vec<(u32, ColdRead)>,
    looked: Vec<u32>,
    round: Option<Round>,
    /// The first request has come.
    pub(super) introduced: bool,
    /// Who follows with this stream.
    pub(super) follower: Option<Replica>,
    /// Something it told was ignored, and that was logged.
    pub(super) ignored_told: bool,
}

impl FetchSession {
    pub(super) fn new(api: Arc<Api>, metrics: Arc<Metrics>, guard: Arc<StreamGuard>) -> Self {
        Self {
            api,
            metrics,
            guard,
            bell: Arc::default(),
            handles: HashMap::new(),
            ready: VecDeque::new(),
            reading: Vec::new(),
            looked: Vec::new(),
            round: None,
            introduced: false,
            follower: None,
            ignored_told: false,
        }
    }

    /// Whether a round is under way.
    pub(super) fn in_round(&self) -> bool {
        self.round.is_some()
    }

    /// Begins a round: takes and drops handles as the request says. Refused handles are answered in
    /// `out`.
    pub(super) fn begin(
        &mut self,
        request: v1::FetchRequest,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), Status> {
        self.take_replica(&request)?;
        self.begin_round(request, now, out).map_err(|error| wire::frame_status(&error))
    }

    fn begin_round(
        &mut self,
        request: v1::FetchRequest,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        let mut round = Round::new(&request, self.api.limits(), now);
        self.metrics.fetch_rounds.one();
        let mut answers = self.take_progress(&request.progress);
        for handle in request.forget {
            self.forget(handle);
        }
        for partition in request.add {
            match self.add(&partition) {
                Ok(None) => {}
                Ok(Some(diverging)) => {
                    let handle = partition.handle;
                    let diverging = Some(diverging);
                    answers.push(v1::FetchResponse { handle, diverging, ..Default::default() });
                }
                Err(refusal) => answers.push(refused(partition.handle, &refusal)),
            }
        }
        for answer in answers {
            round.hurry = true;
            if answer.error.is_some() {
                self.metrics.fetch_errors.one();
            }
            out.message(&v1::FetchResponse { request_id: round.request_id, ..answer })?;
        }
        self.round = Some(round);
        Ok(())
    }

    /// Takes a handle in; or tells where the logs part.
    fn add(&mut self, partition: &v1::FetchPartition) -> Result<Option<v1::EpochEnd>, Refusal> {
        let number = partition.handle;
        if self.handles.contains_key(&number) {
            return Err(Refusal::invalid_request(format!(
                "fetch handle {number} is in use on this stream; forget it and take another number"
            )));
        }
        if self.handles.len() >= HANDLES_MAX {
            return Err(Refusal::invalid_request(format!(
                "a fetch stream has at most {HANDLES_MAX} handles; open another stream"
            )));
        }
        if let Some(follower) = &self.follower {
            self.api.check_follower(follower)?;
        }
        let from = ReadFrom {
            topic: &partition.topic,
            topic_id: &partition.topic_id,
            partition: partition.partition,
            leader_epoch: LeaderEpoch(partition.leader_epoch),
            offset: Offset(partition.offset),
            last_epoch: partition.last_fetched_epoch.map(LeaderEpoch),
            wants_producers: partition.want_producers,
        };
        let reader = match self.api.open_reader(from, self.follower)? {
            Opened::Reader(reader) => reader,
            Opened::Diverging(epoch, end) => {
                let leader_epoch = epoch.unwrap_or(LeaderEpoch::UNKNOWN).0;
                return Ok(Some(v1::EpochEnd { leader_epoch, end_offset: end.0 }));
            }
        };
        let reader = match partition.verify {
            true => self.verifying(reader)?,
            false => reader,
        };
        let max_bytes = match partition.max_bytes {
            0 => PARTITION_BYTES_DEFAULT,
            bytes => bytes as usize,
        };
        let handle = Handle {
            reader,
            max_bytes,
            standing: Standing::Ready,
            registered: false,
            brought: None,
            has_news: false,
        };
        self.handles.insert(number, handle);
        self.ready.push_back(number);
        Ok(None)
    }

    /// Each check reads from the disk, so a client gets only so many.
    fn verifying(&self, reader: Reader) -> Result<Reader, Refusal> {
        if !self.guard.may_verify() {
            return Err(Refusal::new(
                ErrorCode::ThrottlingQuotaExceeded,
                "this connection asks for more checks of batches than the broker makes",
                "try again after a second",
            ));
        }
        self.metrics.fetch_verifications.one();
        Ok(reader.verifying())
    }

    pub(super) fn forget(&mut self, number: u32) {
        let Some(handle) = self.handles.remove(&number) else { return };
        if handle.registered {
            let bell: Arc<dyn Wake> = Arc::clone(&self.bell) as _;
            handle.reader.unpark(&bell, number);
        }
        handle.reader.close();
        // The ready queue is not searched: a number without a handle is passed over there.
        self.reading.retain(|(reading, _)| *reading != number);
    }

    /// Takes what has rung and what disk threads have brought, then reads on. `interrupt`: another
    /// request with changes waits behind this round, so a round without records ends at once.
    pub(super) fn advance(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        interrupt: bool,
        out: &mut Outbox,
    ) -> Result<Progress, FrameError> {
        self.hear(cx);
        self.poll_reading(cx, out)?;
        let mut put_out = 0;
        while self.round.as_ref().is_some_and(Round::has_room) {
            let Some(number) = self.ready.pop_front() else {
                // Reads that began in this loop are yet to be told whom to wake.
                self.poll_reading(cx, out)?;
                if self.ready.is_empty() {
                    break;
                }
                continue;
            };
            put_out += self.look(number, now, out)?;
            if put_out >= OUT_BYTES_MAX {
                return Ok(Progress::Out);
            }
        }
        let Some(round) = &self.round else { return Ok(Progress::Wait(now)) };
        // Records that are on their way from the disk are waited for: an empty answer would say
        // that there are none.
        let out_of_time =
            now >= round.deadline && (round.has_something() || self.reading.is_empty());
        if !(interrupt || out_of_time || round.has_enough() || !round.has_room()) {
            let over = now >= round.deadline;
            return Ok(Progress::Wait(if over { now + DISK_WAIT } else { round.deadline }));
        }
        self.end(out)?;
        Ok(Progress::Ended)
    }

    /// Moves handles whose partition has rung to the ready queue.
    fn hear(&mut self, cx: &mut Context<'_>) {
        for number in self.bell.take(cx.waker()) {
            // A bell may ring for a handle that was forgotten meanwhile.
            let Some(handle) = self.handles.get_mut(&number) else { continue };
            handle.registered = false;
            if handle.standing == Standing::Parked {
                handle.standing = Standing::Ready;
                self.ready.push_back(number);
            }
        }
    }

    fn poll_reading(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), FrameError> {
        let mut index = 0;
        while index < self.reading.len() {
            let Poll::Ready(outcome) = self.reading[index].1.as_mut().poll(cx) else {
                index += 1;
                continue;
            };
            let (number, _) = self.reading.swap_remove(index);
            match (outcome, self.handles.get_mut(&number)) {
                (Ok(fetched), Some(handle)) => {
                    handle.reader.verified();
                    handle.brought = Some(fetched);
                    handle.standing = Standing::Ready;
                    self.ready.push_back(number);
                }
                (Err(refusal), Some(_)) => self.refuse(number, &refusal, out)?,
                (_, None) => {}
            }
        }
        Ok(())
    }

    /// Reads one handle; returns the bytes put out.
    fn look(&mut self, number: u32, now: Instant, out: &mut Outbox) -> Result<usize, FrameError> {
        let (Some(round), Some(handle)) = (&mut self.round, self.handles.get_mut(&number)) else {
            return Ok(0);
        };
        round.unstage(number);
        if handle.reader.look() && !std::mem::replace(&mut handle.has_news, true) {
            round.has_news(number, now);
        }
        let read = match handle.brought.take() {
            Some(fetched) => Ok(Read::Records(fetched)),
            None => handle.reader.read(handle.max_bytes.min(round.room())),
        };
        match read {
            Ok(Read::Records(fetched)) => {
                let seen = fetched.seen;
                round.staged_bytes += fetched.bytes();
                round.staged.push((number, fetched));
                if round.has_enough() {
                    return self.send_staged(out);
                }
                // Too little so far: look again when more of it comes.
                self.park(number, seen);
            }
            Ok(Read::Nothing) => {
                let seen = handle.reader.offset();
                self.park(number, seen);
            }
            Ok(Read::Cold(reading)) => {
                handle.standing = Standing::Reading;
                self.metrics.fetch_cold_reads.one();
                self.reading.push((number, reading));
            }
            Err(refusal) => self.refuse(number, &refusal, out)?,
        }
        Ok(0)
    }

    /// Has the partition ring when it shows more than `seen`; ready at once if it does already.
    fn park(&mut self, number: u32, seen: Offset) {
        let Some(handle) = self.handles.get_mut(&number) else { return };
        handle.standing = Standing::Parked;
        if !handle.registered {
            handle.registered = true;
            handle.reader.park(Arc::clone(&self.bell) as _, number);
        }
        if handle.reader.has_moved_beyond(seen) {
            handle.standing = Standing::Ready;
            self.ready.push_back(number);
        }
    }

    /// Sends what is staged and moves its handles on.
    fn send_staged(&mut self, out: &mut Outbox) -> Result<usize, FrameError> {
        let Some(round) = &mut self.round else { return Ok(0) };
        let staged = std::mem::take(&mut round.staged);
        let bytes = std::mem::take(&mut round.staged_bytes);
        round.sent += bytes;
        match self.follower {
            Some(_) => self.metrics.replica_bytes_out.add(bytes as u64),
            None => self.metrics.fetch_bytes.add(bytes as u64),
        }
        for (number, fetched) in staged {
            let Some(handle) = self.handles.get_mut(&number) else { continue };
            handle.reader.advance(&fetched);
            // A handle that rings while it is here comes back to the ready queue by itself.
            handle.standing = Standing::Looked;
            self.looked.push(number);
            let head = v1::FetchResponse {
                request_id: round.request_id,
                handle: number,
                high_watermark: fetched.high_watermark.0,
                log_start_offset: fetched.log_start.0,
                next_offset: fetched.next_offset.0,
                producer_window: fetched.producer_window.into(),
                producers: handle.reader.take_producers().into(),
                ..Default::default()
            };
            out.records(&head, fetched.records)?;
        }
        Ok(bytes)
    }

    /// Answers an error and drops the handle.
    fn refuse(
        &mut self,
        number: u32,
        refusal: &Refusal,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        self.forget(number);
        self.metrics.fetch_errors.one();
        let Some(round) = &mut self.round else { return Ok(()) };
        round.hurry = true;
        let request_id = round.request_id;
        out.message(&v1::FetchResponse { request_id, ..refused(number, refusal) })
    }

    fn end(&mut self, out: &mut Outbox) -> Result<(), FrameError> {
        self.send_staged(out)?;
        let Some(round) = self.round.take() else { return Ok(()) };
        self.tell_news(&round, out)?;
        for number in self.looked.drain(..) {
            if let Some(handle) = self.handles.get_mut(&number)
                && handle.standing == Standing::Looked
            {
                handle.standing = Standing::Ready;
                self.ready.push_back(number);
            }
        }
        let end =
            v1::FetchResponse { request_id: round.request_id, end: true, ..Default::default() };
        out.message(&end)
    }
}

impl Drop for FetchSession {
    fn drop(&mut self) {
        let bell: Arc<dyn Wake> = Arc::clone(&self.bell) as _;
        for (number, handle) in self.handles.drain() {
            if handle.registered {
                handle.reader.unpark(&bell, number);
            }
            handle.reader.close();
        }
    }
}

/// The answer to a handle; of which round, the caller adds.
pub(super) fn refused(handle: u32, refusal: &Refusal) -> v1::FetchResponse {
    v1::FetchResponse {
        handle,
        error: Some(wire::error(refusal)),
        damaged: refusal
            .damaged
            .map(|(from, to)| v1::DamagedOffsets { from_offset: from.0, to_offset: to.0 }),
        ..Default::default()
    }
}
