//! The one task that owns the state: takes commands in order, applies them, has the log written,
//! and lets nothing out that could be lost again.
//!
//! Every reply and event is held with the zxid it may have seen and released when the log is synced
//! up to there; order is kept per connection and over all. Sessions expire here by the monotonic
//! clock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};

use super::connect::{ConnectRequest, create_session_body};
use super::connection::{Command, Outstanding, Peer, reply_frame};
use super::error::EmbeddedError;
use super::error_code::ErrorCode;
use super::four_letter_word::{self, Figures};
use super::log::snapshot;
use super::log::writer::{LogWriter, Progress};
use super::looks::Looks;
use super::op_code;
use super::options::EmbeddedOptions;
use super::outbox::OutputBudget;
use super::read::Asker;
use super::session_table::Password;
use super::state::{Answer, Record, Room, State};
use super::watches::{ConnectionId, Event};
use super::wire::{Input, Output};

/// After so long a stall every session gets its full time: its client may have to connect again.
const LONG_STALL: Duration = Duration::from_secs(2);
/// How often a snapshot is tried while the disk is full.
const SNAPSHOT_RETRY: Duration = Duration::from_secs(10);
const NOTIFICATION_XID: i32 = -1;
/// The session state in an event: connected.
const SYNC_CONNECTED: i32 = 3;

/// A session that can expire.
#[derive(Debug)]
struct Live {
    timeout: Duration,
    /// Its connection, or that of last.
    peer: Option<Arc<Peer>>,
    /// It counts as heard from then, even if its peer was silent for longer.
    not_before: Instant,
}

impl Live {
    /// Until it expires if nothing is heard of it.
    fn remaining(&self) -> Duration {
        let silent = self.peer.as_ref().map_or(Duration::MAX, |peer| peer.heard.ago());
        self.timeout.saturating_sub(silent.min(self.not_before.elapsed()))
    }
}

/// Something on its way out.
#[derive(Debug)]
struct Held {
    /// Nothing of it may be seen before the log is synced up to here.
    zxid: i64,
    to: Arc<Peer>,
    frame: Vec<u8>,
    close: bool,
    _outstanding: Option<Outstanding>,
}

/// See the module's page.
pub(crate) struct Engine {
    options: EmbeddedOptions,
    state: State,
    log: LogWriter,
    progress: watch::Receiver<Progress>,
    budget: Arc<OutputBudget>,
    /// Connections with a session.
    connections: HashMap<ConnectionId, (Arc<Peer>, i64)>,
    live: HashMap<i64, Live>,
    looks: Looks,
    held: VecDeque<Held>,
    held_bytes: usize,
    snapshots_asked: u64,
    snapshot_bytes: u64,
    snapshot_at: Option<Instant>,
    received: u64,
    sent: u64,
}

impl Engine {
    pub(crate) fn new(
        options: EmbeddedOptions,
        state: State,
        log: LogWriter,
        snapshot_bytes: u64,
        budget: Arc<OutputBudget>,
    ) -> Self {
        // Sessions of before the start get their full time from now on.
        let not_before = Instant::now();
        let live = |(id, session): (i64, &super::session_table::Session)| {
            let timeout = millis(session.timeout_ms);
            (id, Live { timeout, peer: None, not_before })
        };
        let live = state.sessions.iter().map(live).collect();
        budget.durable.store(state.zxid, Ordering::Relaxed);
        Self {
            options,
            progress: log.progress(),
            log,
            budget,
            connections: HashMap::new(),
            live,
            looks: Looks::new(not_before),
            held: VecDeque::new(),
            held_bytes: 0,
            snapshots_asked: 0,
            snapshot_bytes,
            snapshot_at: None,
            received: 0,
            sent: 0,
            state,
        }
    }

    /// Serves until the commands end. An error means that the log is lost.
    pub(crate) async fn run(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Result<(), EmbeddedError> {
        loop {
            let look = tokio::time::Instant::from_std(self.looks.next());
            tokio::select! {
                biased;
                changed = self.progress.changed() => {
                    if changed.is_err() {
                        return Err(log_failed("its thread ended"));
                    }
                    self.release()?;
                }
                () = tokio::time::sleep_until(look) => self.look(),
                // With a slow disk what is held back grows; then nothing more is taken.
                command = commands.recv(), if self.may_hold_more() => match command {
                    Some(command) => self.handle(command),
                    None => return Ok(()),
                },
            }
        }
    }

    /// Expires sessions, and plans when to do so again.
    fn look(&mut self) {
        if let Some(stalled) = self.looks.begin(Instant::now()) {
            self.forgive(stalled);
        }
        self.expire();
        self.snapshot_if_due();
        self.looks.plan(Instant::now(), self.live.values().map(Live::remaining).min());
    }

    /// Waits until all that was answered or held is on disk and queued to its connections.
    pub(crate) async fn drain(&mut self) -> Result<(), EmbeddedError> {
        while !self.held.is_empty() {
            if self.progress.changed().await.is_err() {
                return Err(log_failed("its thread ended"));
            }
            self.release()?;
        }
        for (peer, _) in self.connections.values() {
            peer.outbox.close();
        }
        Ok(())
    }

    /// Ends the log's thread. Blocks until what is queued is written.
    pub(crate) fn stop(self) {
        self.log.stop();
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Connect { peer, request } => self.connect(&peer, &request),
            Command::Request { from, frame, outstanding } => {
                self.received += 1;
                if let Some((peer, session)) = self.connections.get(&from).cloned() {
                    self.request(&peer, session, &frame, outstanding);
                }
            }
            Command::Word { peer, word } => {
                let text = four_letter_word::answer(word, &self.figures());
                peer.outbox.push(text.as_bytes());
                peer.outbox.close();
            }
            Command::Gone { id } => {
                if let Some((peer, _)) = self.connections.remove(&id) {
                    peer.outbox.kill(); // its session may keep the peer for long
                }
                self.state.watches.remove_connection(id);
            }
        }
        self.snapshot_if_due();
    }

    fn connect(&mut self, peer: &Arc<Peer>, request: &ConnectRequest) {
        if request.last_zxid > self.state.zxid {
            tracing::warn!(
                last_zxid = request.last_zxid,
                zxid = self.state.zxid,
                "registry client has seen later changes than this registry holds, closed: it \
                 belongs to another registry, or the data directory was replaced by an older one"
            );
            peer.outbox.close();
            return;
        }
        let asked = millis(request.timeout_ms);
        let timeout =
            asked.clamp(self.options.session_timeout_min, self.options.session_timeout_max);
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let granted = if request.session == 0 {
            self.create_session(timeout_ms)
        } else {
            self.take_up_session(request)
        };
        let Some((session, password)) = granted else {
            // A session that is gone is told so; one that cannot be made just gets no answer.
            let refusal = if request.session == 0 { Vec::new() } else { request.answer(None) };
            self.hold(peer, refusal, true, None);
            return;
        };
        let not_before = Instant::now();
        self.looks.hasten(not_before, timeout);
        let live = Live { timeout, peer: Some(peer.clone()), not_before };
        let old = self.live.insert(session, live).and_then(|old| old.peer);
        if let Some(old) = old {
            self.connections.remove(&old.id);
            self.state.watches.remove_connection(old.id);
            old.outbox.kill();
        }
        self.connections.insert(peer.id, (peer.clone(), session));
        let answer = request.answer(Some((session, timeout_ms, &password)));
        self.hold(peer, answer, false, None);
    }

    fn create_session(&mut self, timeout_ms: i32) -> Option<(i64, Password)> {
        let session = self.state.sessions.next_id(wall_clock_ms());
        let password = uuid::Uuid::new_v4().into_bytes();
        let body = create_session_body(timeout_ms, &password);
        let answer = self.write(session, op_code::CREATE_SESSION, &body)?;
        if answer.code != 0 {
            tracing::warn!(code = answer.code, "no new registry session: a bound is reached");
            return None;
        }
        Some((session, password))
    }

    fn take_up_session(&self, request: &ConnectRequest) -> Option<(i64, Password)> {
        let session = self.state.sessions.get(request.session)?;
        let known = request.password == session.password;
        known.then_some((request.session, session.password))
    }

    fn request(&mut self, peer: &Arc<Peer>, session: i64, frame: &[u8], held: Outstanding) {
        let mut header = Input::new(frame);
        let (Ok(xid), Ok(op)) = (header.i32(), header.i32()) else { return };
        let body = frame.get(8..).unwrap_or_default();
        if op == op_code::AUTH {
            self.authenticate(peer, xid, body, held);
            return;
        }
        let asker = Asker { connection: peer.id, session, address: &peer.address.to_string() };
        let answer = match self.write(session, op, body) {
            Some(answer) => Some(answer),
            None => self.state.read(asker, op, body),
        };
        let known = answer.is_some();
        let answer = answer.unwrap_or_else(|| Answer::error(ErrorCode::Unimplemented));
        self.hold_events(&answer.events);
        let closed = op == op_code::CLOSE_SESSION && answer.code == 0;
        let reply = reply_frame(xid, self.state.zxid, answer.code, &answer.body);
        self.hold(peer, reply, closed || !known, Some(held));
        if closed {
            self.forget(session);
        }
    }

    /// `digest` is let in, for there is nothing it could open; other schemes are not.
    fn authenticate(&mut self, peer: &Arc<Peer>, xid: i32, body: &[u8], held: Outstanding) {
        let mut input = Input::new(body);
        let accepted =
            input.i32().and_then(|_type| input.string()).is_ok_and(|scheme| scheme == "digest");
        let code = if accepted { 0 } else { ErrorCode::AuthFailed.number() };
        self.hold(peer, reply_frame(xid, 0, code, &[]), !accepted, Some(held));
    }

    /// Applies a changing operation and queues it for the log; `None` where `op` is not one.
    fn write(&mut self, session: i64, op: i32, body: &[u8]) -> Option<Answer> {
        let stamp = self.state.next_stamp(session, wall_clock_ms());
        let record = Record { stamp, op, body };
        let room = self.progress.borrow().room;
        let answer = self.state.write(record, room)?;
        if answer.logged {
            self.log.append(record);
        }
        Some(answer)
    }

    /// Queues something for a connection behind everything it may have seen.
    fn hold(&mut self, to: &Arc<Peer>, frame: Vec<u8>, close: bool, permit: Option<Outstanding>) {
        let zxid = self.state.zxid;
        let held = Held { zxid, to: to.clone(), frame, close, _outstanding: permit };
        // Never past what still waits, even if that could go by now.
        if self.held.is_empty() && self.progress.borrow().durable >= zxid {
            self.send(&held);
        } else {
            self.held_bytes += held.frame.len();
            self.held.push_back(held);
        }
    }

    fn may_hold_more(&self) -> bool {
        self.held_bytes < self.options.output_total_bytes_max
    }

    fn hold_events(&mut self, events: &[Event]) {
        for event in events {
            let Some((peer, _)) = self.connections.get(&event.to).cloned() else { continue };
            let mut body = Output::new();
            body.i32(event.kind as i32);
            body.i32(SYNC_CONNECTED);
            body.string(&event.path);
            let frame = reply_frame(NOTIFICATION_XID, -1, 0, &body.into_bytes());
            self.hold(&peer, frame, false, None);
        }
    }

    fn send(&mut self, held: &Held) {
        self.sent += 1;
        held.to.outbox.push(&held.frame);
        if held.close {
            held.to.outbox.close();
        }
    }

    /// Sends what the log's progress lets out.
    fn release(&mut self) -> Result<(), EmbeddedError> {
        let (durable, failed) = {
            let progress = self.progress.borrow_and_update();
            (progress.durable, progress.failed.clone())
        };
        self.budget.durable.store(durable, Ordering::Relaxed);
        while self.held.front().is_some_and(|held| held.zxid <= durable) {
            if let Some(held) = self.held.pop_front() {
                self.held_bytes -= held.frame.len();
                self.send(&held);
            }
        }
        match failed {
            Some(reason) => Err(log_failed(&reason)),
            None => Ok(()),
        }
    }

    /// Takes a stall of this process off the time the sessions were silent.
    fn forgive(&mut self, stalled: Duration) {
        let now = Instant::now();
        for live in self.live.values_mut() {
            if stalled > LONG_STALL {
                live.not_before = now;
                continue;
            }
            live.not_before = now.min(live.not_before + stalled);
            if let Some(peer) = &live.peer {
                peer.heard.forgive(stalled);
            }
        }
    }

    fn expire(&mut self) {
        let expired = self.live.iter().filter(|(_, live)| live.remaining().is_zero());
        let expired: Vec<i64> = expired.map(|(session, _)| *session).collect();
        for session in expired {
            let Some(answer) = self.write(session, op_code::CLOSE_SESSION, &[]) else { continue };
            if answer.code != 0 {
                continue; // not even the reserve has room: it is tried again at the next look
            }
            tracing::info!(session = format_args!("{session:#x}"), "registry session expired");
            self.hold_events(&answer.events);
            let peer = self.live.get(&session).and_then(|live| live.peer.clone());
            if let Some(peer) = peer {
                self.hold(&peer, Vec::new(), true, None);
            }
            self.forget(session);
        }
    }

    /// Lets go of a session that has ended. Its connection closes once it is told.
    fn forget(&mut self, session: i64) {
        if let Some(peer) = self.live.remove(&session).and_then(|live| live.peer) {
            self.connections.remove(&peer.id);
            self.state.watches.remove_connection(peer.id);
        }
    }

    fn snapshot_if_due(&mut self) {
        let (ended, log_bytes, room) = {
            let progress = self.progress.borrow();
            (progress.snapshots_ended, progress.log_bytes, progress.room)
        };
        if ended < self.snapshots_asked {
            return;
        }
        let waited = self.snapshot_at.is_none_or(|at| at.elapsed() > SNAPSHOT_RETRY);
        let long = log_bytes > self.options.snapshot_log_bytes.max(2 * self.snapshot_bytes);
        // On a full disk a snapshot may be the smaller of the two.
        let tight =
            room != Room::Enough && log_bytes > (self.snapshot_bytes + (64 << 10)) && waited;
        if (long && (waited || room == Room::Enough)) || tight {
            let bytes = snapshot::encode(&self.state);
            self.snapshot_bytes = bytes.len() as u64;
            self.snapshot_at = Some(Instant::now());
            self.snapshots_asked += 1;
            self.log.snapshot(bytes);
        }
    }

    fn figures(&self) -> Figures {
        let connections = self.connections.values();
        Figures {
            zxid: self.state.zxid,
            nodes: self.state.tree.len(),
            tree_bytes: self.state.tree.bytes(),
            sessions: self.state.sessions.len(),
            watches: self.state.watches.total(),
            received: self.received,
            sent: self.sent,
            outstanding: self.held.len(),
            log_bytes: self.progress.borrow().log_bytes,
            connections: connections.map(|(peer, id)| (peer.address.to_string(), *id)).collect(),
        }
    }
}

fn log_failed(reason: &str) -> EmbeddedError {
    EmbeddedError::LogFailed { reason: reason.to_owned() }
}

fn millis(value: i32) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}

/// For the times in Stats and for numbering sessions only; expiry goes by the monotonic clock.
fn wall_clock_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
