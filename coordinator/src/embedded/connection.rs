//! One client's socket: cuts what comes in into frames for the engine and writes what the engine
//! answers. Pings are answered right here, so that a slow disk never looks like a dead server.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::connect::ConnectRequest;
use super::four_letter_word;
use super::op_code;
use super::options::{CONNECT_BYTES_MAX, EmbeddedOptions, FRAME_BYTES_MAX};
use super::outbox::Outbox;
use super::watches::ConnectionId;
use super::wire::{Input, Output};

/// A peer that takes no byte for this long is closed.
const WRITE_STALL: Duration = Duration::from_secs(30);
/// What is read at a time, at most; the buffer grows only with what really came.
const READ_BYTES: usize = 16 << 10;

/// When something was last heard from a peer, in ms since `epoch`.
#[derive(Debug)]
pub(crate) struct Heard {
    epoch: Instant,
    at_ms: AtomicU64,
}

impl Heard {
    pub(crate) fn new(epoch: Instant) -> Self {
        let heard = Self { epoch, at_ms: AtomicU64::new(0) };
        heard.touch();
        heard
    }

    pub(crate) fn touch(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.at_ms.store(now, Ordering::Relaxed);
    }

    /// Leaves time out of account in which nobody could have been heard.
    pub(crate) fn forgive(&self, stalled: Duration) {
        let stalled = u64::try_from(stalled.as_millis()).unwrap_or(u64::MAX);
        self.at_ms.fetch_add(stalled, Ordering::Relaxed);
    }

    pub(crate) fn ago(&self) -> Duration {
        let at = Duration::from_millis(self.at_ms.load(Ordering::Relaxed));
        self.epoch.elapsed().saturating_sub(at)
    }
}

/// What engine and socket share of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: ConnectionId,
    pub(crate) address: IpAddr,
    pub(crate) outbox: Outbox,
    pub(crate) heard: Heard,
    /// It has sent its connect record.
    pub(crate) introduced: AtomicBool,
}

/// Held while a request is not answered: one of the connection's requests, and its bytes.
#[derive(Debug)]
pub(crate) struct Outstanding {
    _request: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

/// What connections tell the engine.
#[derive(Debug)]
pub(crate) enum Command {
    Connect { peer: Arc<Peer>, request: ConnectRequest },
    Request { from: ConnectionId, frame: Vec<u8>, outstanding: Outstanding },
    Word { peer: Arc<Peer>, word: [u8; 4] },
    Gone { id: ConnectionId },
}

/// Bounds on what was read and is not yet answered. Bytes are counted in KiB.
#[derive(Debug, Clone)]
pub(crate) struct Intake {
    commands: mpsc::Sender<Command>,
    bytes: Arc<Semaphore>,
    requests_max: usize,
    connect_timeout: Duration,
}

impl Intake {
    pub(crate) fn new(options: &EmbeddedOptions, commands: mpsc::Sender<Command>) -> Self {
        // At least one frame, or that frame would wait for ever.
        let kib = (options.request_bytes_max >> 10).max(FRAME_BYTES_MAX / 1024 + 1);
        Self {
            commands,
            bytes: Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS))),
            requests_max: options.requests_max.max(1),
            connect_timeout: options.connect_timeout,
        }
    }
}

/// Serves a socket until one side ends it.
pub(crate) async fn serve(mut socket: TcpStream, peer: Arc<Peer>, intake: Intake) {
    let _ = socket.set_nodelay(true);
    let (reader, writer) = socket.split();
    tokio::select! {
        () = Reader::new(reader, &peer, &intake).run() => {}
        () = write_all(writer, &peer.outbox) => {}
        () = peer.outbox.killed() => {}
    }
    let _ = intake.commands.send(Command::Gone { id: peer.id }).await;
}

async fn write_all(mut writer: WriteHalf<'_>, outbox: &Outbox) {
    while let Some(bytes) = outbox.next().await {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match tokio::time::timeout(WRITE_STALL, writer.write(rest)).await {
                Ok(Ok(written)) if written > 0 => rest = &rest[written..],
                _ => return,
            }
        }
    }
    let _ = writer.shutdown().await;
}

/// The incoming side.
struct Reader<'a> {
    socket: ReadHalf<'a>,
    peer: &'a Arc<Peer>,
    intake: &'a Intake,
    requests: Arc<Semaphore>,
    buffer: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(socket: ReadHalf<'a>, peer: &'a Arc<Peer>, intake: &'a Intake) -> Self {
        let requests = Arc::new(Semaphore::new(intake.requests_max));
        Self { socket, peer, intake, requests, buffer: Vec::new() }
    }

    async fn run(mut self) {
        let introduced = tokio::time::timeout(self.intake.connect_timeout, self.introduce()).await;
        if introduced != Ok(Some(())) {
            return;
        }
        while let Some(frame) = self.frame(FRAME_BYTES_MAX).await {
            self.peer.heard.touch();
            if self.take(frame).await.is_none() {
                return;
            }
        }
    }

    /// The connect record, or a four-letter word. `None` ends the connection.
    async fn introduce(&mut self) -> Option<()> {
        let first = self.peek_prefix().await?;
        if four_letter_word::is_known(first) {
            let command = Command::Word { peer: self.peer.clone(), word: first };
            self.intake.commands.send(command).await.ok()?;
            // The engine closes when the answer is written; until then nothing more is read.
            return std::future::pending().await;
        }
        let frame = self.frame(CONNECT_BYTES_MAX).await?;
        let request = ConnectRequest::decode(&frame).ok()?;
        self.peer.introduced.store(true, Ordering::Relaxed);
        let command = Command::Connect { peer: self.peer.clone(), request };
        self.intake.commands.send(command).await.ok()
    }

    async fn take(&mut self, frame: Vec<u8>) -> Option<()> {
        let mut header = Input::new(&frame);
        let (xid, op) = (header.i32().ok()?, header.i32().ok()?);
        if op == op_code::PING {
            let outbox = &self.peer.outbox;
            let zxid = outbox.budget().durable.load(Ordering::Relaxed);
            outbox.push(&reply_frame(xid, zxid, 0, &[]));
            return Some(());
        }
        let kib = u32::try_from(frame.len() / 1024 + 1).ok()?;
        let outstanding = Outstanding {
            _request: self.requests.clone().acquire_owned().await.ok()?,
            _bytes: self.intake.bytes.clone().acquire_many_owned(kib).await.ok()?,
        };
        let command = Command::Request { from: self.peer.id, frame, outstanding };
        self.intake.commands.send(command).await.ok()
    }

    async fn peek_prefix(&mut self) -> Option<[u8; 4]> {
        loop {
            if let Some(prefix) = self.buffer.first_chunk::<4>() {
                return Some(*prefix);
            }
            self.fill(4).await?;
        }
    }

    /// The next frame without its length; `None` at the end, or if it is longer than `max`.
    async fn frame(&mut self, max: usize) -> Option<Vec<u8>> {
        let len = u32::from_be_bytes(self.peek_prefix().await?) as usize;
        if len > max {
            tracing::warn!(bytes = len, max, "registry client sent a frame too long, closed");
            return None;
        }
        while self.buffer.len() < 4 + len {
            self.fill(4 + len).await?;
        }
        let rest = self.buffer.split_off(4 + len);
        let mut frame = std::mem::replace(&mut self.buffer, rest);
        frame.drain(..4);
        Some(frame)
    }

    /// Reads some more, towards `wanted` bytes in the buffer.
    async fn fill(&mut self, wanted: usize) -> Option<()> {
        let missing = wanted.saturating_sub(self.buffer.len());
        self.buffer.reserve(missing.clamp(256, READ_BYTES));
        match self.socket.read_buf(&mut self.buffer).await {
            Ok(read) if read > 0 => Some(()),
            _ => None,
        }
    }
}

/// A reply with its header, ready to be sent.
pub(crate) fn reply_frame(xid: i32, zxid: i64, code: i32, body: &[u8]) -> Vec<u8> {
    let mut output = Output::frame();
    output.i32(xid);
    output.i64(zxid);
    output.i32(code);
    output.raw(body);
    output.into_frame()
}
