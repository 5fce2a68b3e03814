//! The rounds of one fetch stream: which handles it reads, who of them may have records, what a
//! round has sent. No sockets here; records go to an [`Outbox`].
//!
//! A handle is *ready* (in the queue, to be looked at), *parked* (its partition rings the [`Bell`]
//! when it moves), *reading* (a disk thread fetches its records) or *looked* at (it was sent in
//! this round). A round sends of each handle once, in turn: a busy partition starves nobody.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proto::grpc::FrameError;
use proto::{ErrorCode, LeaderEpoch, Offset, v1};

use super::outbox::Outbox;
use super::watch::StreamGuard;
use super::wire;
use crate::api::{Api, ColdRead, Fetched, Read, Reader, Refusal};
use crate::metrics::Metrics;
use crate::replication::Wake;

/// Handles of one stream; more are refused.
const HANDLES_MAX: usize = 100_000;
/// Bytes of one answer where the client names no limit.
const PARTITION_BYTES_DEFAULT: usize = 1 << 20;
/// Answers put out before the peer has to take them.
const OUT_BYTES_MAX: usize = 4 << 20;

/// What partitions ring when they move.
#[derive(Default)]
pub(super) struct Bell {
    state: Mutex<BellState>,
}

#[derive(Default)]
struct BellState {
    rung: Vec<u32>,
    sleeper: Option<Waker>,
}

impl Wake for Bell {
    fn wake(&self, token: u32) {
        let sleeper = {
            let mut state = self.state.lock();
            state.rung.push(token);
            state.sleeper.take()
        };
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
    }
}

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

struct Handle {
    reader: Reader,
    max_bytes: usize,
    standing: Standing,
    /// Registered with the partition's waiters.
    registered: bool,
    /// Records a disk thread has brought.
    brought: Option<Fetched>,
}

/// A round under way.
struct Round {
    request_id: u64,
    deadline: Instant,
    min_bytes: usize,
    max_bytes: usize,
    sent: usize,
    /// An error was sent: do not make the client wait for more.
    hurry: bool,
    /// Read and not sent, because less than `min_bytes` is there.
    staged: Vec<(u32, Fetched)>,
    staged_bytes: usize,
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
    api: Arc<Api>,
    metrics: Arc<Metrics>,
    guard: Arc<StreamGuard>,
    bell: Arc<Bell>,
    handles: HashMap<u32, Handle>,
    ready: VecDeque<u32>,
    reading: Vec<(u32, ColdRead)>,
    looked: Vec<u32>,
    round: Option<Round>,
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
    ) -> Result<(), FrameError> {
        let limits = self.api.limits();
        let wait = Duration::from_millis(request.max_wait_ms.into()).min(limits.fetch_max_wait);
        let max_bytes = match request.max_bytes {
            0 => limits.fetch_max_bytes,
            bytes => limits.fetch_max_bytes.min(usize::try_from(bytes).unwrap_or(usize::MAX)),
        };
        let mut round = Round {
            request_id: request.request_id,
            deadline: now + wait,
            min_bytes: (request.min_bytes.max(1) as usize).min(max_bytes),
            max_bytes,
            sent: 0,
            hurry: false,
            staged: Vec::new(),
            staged_bytes: 0,
        };
        self.metrics.fetch_rounds.one();
        for handle in request.forget {
            self.forget(handle);
        }
        for partition in request.add {
            let number = partition.handle;
            if let Err(refusal) = self.add(&partition) {
                round.hurry = true;
                self.metrics.fetch_errors.one();
                out.message(&refused(round.request_id, number, &refusal))?;
            }
        }
        self.round = Some(round);
        Ok(())
    }

    fn add(&mut self, partition: &v1::FetchPartition) -> Result<(), Refusal> {
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
        let reader = self.api.open_reader(
            &partition.topic,
            &partition.topic_id,
            partition.partition,
            LeaderEpoch(partition.leader_epoch),
            Offset(partition.offset),
        )?;
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
        };
        self.handles.insert(number, handle);
        self.ready.push_back(number);
        Ok(())
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

    fn forget(&mut self, number: u32) {
        let Some(handle) = self.handles.remove(&number) else { return };
        if handle.registered {
            let bell: Arc<dyn Wake> = Arc::clone(&self.bell) as _;
            handle.reader.unpark(&bell, number);
        }
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
            put_out += self.look(number, out)?;
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
        let rung = {
            let mut state = self.bell.state.lock();
            state.sleeper = Some(cx.waker().clone());
            std::mem::take(&mut state.rung)
        };
        for number in rung {
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
    fn look(&mut self, number: u32, out: &mut Outbox) -> Result<usize, FrameError> {
        let (Some(round), Some(handle)) = (&mut self.round, self.handles.get_mut(&number)) else {
            return Ok(0);
        };
        round.unstage(number);
        let read = match handle.brought.take() {
            Some(fetched) => Ok(Read::Records(fetched)),
            None => handle.reader.read(handle.max_bytes.min(round.room())),
        };
        match read {
            Ok(Read::Records(fetched)) => {
                let seen = fetched.high_watermark;
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
        self.metrics.fetch_bytes.add(bytes as u64);
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
        out.message(&refused(round.request_id, number, refusal))
    }

    fn end(&mut self, out: &mut Outbox) -> Result<(), FrameError> {
        self.send_staged(out)?;
        let Some(round) = self.round.take() else { return Ok(()) };
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
        for (number, handle) in self.handles.drain().filter(|(_, handle)| handle.registered) {
            handle.reader.unpark(&bell, number);
        }
    }
}

impl Round {
    fn room(&self) -> usize {
        self.max_bytes.saturating_sub(self.sent + self.staged_bytes)
    }

    fn has_room(&self) -> bool {
        self.room() > 0
    }

    fn has_something(&self) -> bool {
        self.sent + self.staged_bytes > 0
    }

    /// Whether what is there is worth an answer.
    fn has_enough(&self) -> bool {
        self.hurry || self.sent + self.staged_bytes >= self.min_bytes
    }

    /// Forgets what was read of a handle that is read anew.
    fn unstage(&mut self, number: u32) {
        if let Some(at) = self.staged.iter().position(|(staged, _)| *staged == number) {
            self.staged_bytes -= self.staged.remove(at).1.bytes();
        }
    }
}

fn refused(request_id: u64, handle: u32, refusal: &Refusal) -> v1::FetchResponse {
    v1::FetchResponse {
        request_id,
        handle,
        error: Some(wire::error(refusal)),
        damaged: refusal
            .damaged
            .map(|(from, to)| v1::DamagedOffsets { from_offset: from.0, to_offset: to.0 }),
        ..Default::default()
    }
}
