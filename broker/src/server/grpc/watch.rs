//! Watching for peers that stall: a stream notes since when it waits for its peer, the connection
//! looks at its streams now and then and cuts off a peer that has been awaited for too long.
//!
//! Waiting for records, a disk or another broker is not waiting for the peer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame};
use parking_lot::Mutex;
use proto::client::BusyPoll;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::ResponseBody;

/// Bytes that an HTTP/2 client sends before anything else: the preface and an empty SETTINGS frame.
const PREFACE_LEN: u64 = 24 + 9;
/// A connection that writes less than this in a whole stall time is not moving: pings and window
/// updates alone are fewer.
const MOVING_BYTES: u64 = 64 * 1024;
/// How many stall times a stream may be stuck on a connection that moves for others.
const STUCK_FACTOR: u32 = 10;

/// Checks of batches that a peer may ask for at once.
const VERIFICATIONS_MAX: u64 = 16;
/// Another one comes after so long.
const VERIFICATION_MS: u64 = 250;

/// One connection: its bytes, its streams, its last request.
pub(crate) struct ConnectionWatch {
    start: Instant,
    read: AtomicU64,
    written: AtomicU64,
    streams: Mutex<Streams>,
    verifications: Mutex<Verifications>,
}

/// Checks of batches that the peer may still ask for: [`VERIFICATIONS_MAX`] at once, one more every
/// [`VERIFICATION_MS`].
struct Verifications {
    left: u64,
    /// The moment up to which they were counted.
    counted: u64,
}

struct Streams {
    open: Vec<Arc<StreamWatch>>,
    idle_since: u64,
}

/// One request or stream. `awaited_since` is milliseconds since the start of the connection, plus
/// one; 0 while the peer is not awaited.
#[derive(Default)]
pub(crate) struct StreamWatch {
    awaited_since: AtomicU64,
}

/// Why a connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is wrong.
    Fine,
    /// The peer takes or sends nothing.
    Stalled,
    /// No request for long.
    Idle,
}

impl ConnectionWatch {
    pub(crate) fn new() -> Arc<Self> {
        let start = Instant::now();
        Arc::new(Self {
            start,
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            streams: Mutex::new(Streams { open: Vec::new(), idle_since: 1 }),
            verifications: Mutex::new(Verifications { left: VERIFICATIONS_MAX, counted: 1 }),
        })
    }

    /// Registers a request; it counts as open until the guard drops.
    pub(crate) fn open_stream(self: &Arc<Self>) -> StreamGuard {
        let stream = Arc::new(StreamWatch::default());
        self.streams.lock().open.push(Arc::clone(&stream));
        StreamGuard { connection: Arc::clone(self), stream }
    }

    /// Milliseconds since the start of the connection, plus one: 0 stands for "not".
    pub(crate) fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64 + 1
    }

    /// Takes one of the peer's checks of a batch, at a moment of the connection's count.
    fn may_verify(&self, now: u64) -> bool {
        let mut checks = self.verifications.lock();
        let more = now.saturating_sub(checks.counted) / VERIFICATION_MS;
        checks.counted += more * VERIFICATION_MS;
        checks.left = (checks.left + more).min(VERIFICATIONS_MAX);
        let may = checks.left > 0;
        checks.left -= u64::from(may);
        may
    }

    /// Bytes written to the peer so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Judges the connection at a moment of its own count; `written_since` is what was written in
    /// the last stall time.
    pub(crate) fn judge(
        &self,
        now: u64,
        stalled: Duration,
        idle: Duration,
        written_since: u64,
    ) -> Verdict {
        let since = |moment: u64| Duration::from_millis(now.saturating_sub(moment));
        if since(1) > stalled && self.read.load(Ordering::Relaxed) < PREFACE_LEN {
            return Verdict::Stalled;
        }
        let streams = self.streams.lock();
        if streams.open.is_empty() {
            let quiet = since(streams.idle_since) > idle;
            return if quiet { Verdict::Idle } else { Verdict::Fine };
        }
        let longest = streams
            .open
            .iter()
            .map(|stream| stream.awaited_since.load(Ordering::Relaxed))
            .filter(|&moment| moment != 0)
            .map(since)
            .max()
            .unwrap_or_default();
        let moving = written_since > MOVING_BYTES;
        if longest > stalled * STUCK_FACTOR || (longest > stalled && !moving) {
            return Verdict::Stalled;
        }
        Verdict::Fine
    }
}

/// A registered request.
pub(crate) struct StreamGuard {
    connection: Arc<ConnectionWatch>,
    stream: Arc<StreamWatch>,
}

impl StreamGuard {
    /// Whether the peer may have one more batch checked from the disk.
    pub(crate) fn may_verify(&self) -> bool {
        self.connection.may_verify(self.connection.now())
    }

    /// From now on the peer has to move.
    pub(crate) fn await_peer(&self) {
        self.stream.awaited_since.store(self.connection.now(), Ordering::Relaxed);
    }

    /// The same, unless it is awaited already: the time goes on counting.
    pub(crate) fn keep_awaiting_peer(&self) {
        if self.stream.awaited_since.load(Ordering::Relaxed) == 0 {
            self.await_peer();
        }
    }

    /// The peer has moved, or it is our turn.
    pub(crate) fn peer_moved(&self) {
        self.stream.awaited_since.store(0, Ordering::Relaxed);
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let mut streams = self.connection.streams.lock();
        if let Some(at) = streams.open.iter().position(|open| Arc::ptr_eq(open, &self.stream)) {
            streams.open.swap_remove(at);
        }
        streams.idle_since = self.connection.now();
    }
}

/// A response body that notes when the peer has been given bytes and has not come for more.
pub(crate) struct WatchedBody {
    pub(crate) body: ResponseBody,
    pub(crate) guard: Arc<StreamGuard>,
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.guard.peer_moved();
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(Some(_))) {
            self.guard.await_peer();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// A socket that counts its bytes.
pub(crate) struct Metered<S> {
    pub(crate) socket: S,
    pub(crate) watch: Arc<ConnectionWatch>,
    pub(crate) busy_poll: BusyPoll,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buffer);
        let read = buffer.filled().len() - before;
        if read > 0 {
            self.watch.read.fetch_add(read as u64, Ordering::Relaxed);
            self.busy_poll.traffic();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> Metered<S> {
    fn count(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(written)) = &polled {
            self.watch.written.fetch_add(*written as u64, Ordering::Relaxed);
            self.busy_poll.traffic();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.count(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.count(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALLED: Duration = Duration::from_secs(30);
    const IDLE: Duration = Duration::from_secs(600);

    fn spoken() -> Arc<ConnectionWatch> {
        let watch = ConnectionWatch::new();
        watch.read.store(PREFACE_LEN, Ordering::Relaxed);
        watch
    }

    fn judge(watch: &ConnectionWatch, after_s: u64, written_since: u64) -> Verdict {
        watch.judge(watch.now() + after_s * 1_000, STALLED, IDLE, written_since)
    }

    #[test]
    fn who_says_nothing_at_all_is_stalled() {
        let watch = ConnectionWatch::new();
        assert_eq!(judge(&watch, 0, 0), Verdict::Fine);
        assert_eq!(judge(&watch, 31, 0), Verdict::Stalled);
    }

    #[test]
    fn only_a_stream_that_waits_for_its_peer_stalls() {
        let watch = spoken();
        let stream = watch.open_stream();
        assert_eq!(judge(&watch, 10_000, 0), Verdict::Fine);
        stream.await_peer();
        assert_eq!(judge(&watch, 1, 0), Verdict::Fine);
        assert_eq!(judge(&watch, 31, 0), Verdict::Stalled);
        stream.peer_moved();
        assert_eq!(judge(&watch, 31, 0), Verdict::Fine);
    }

    #[test]
    fn a_connection_that_moves_for_others_is_given_more_time() {
        let watch = spoken();
        let stream = watch.open_stream();
        stream.await_peer();
        assert_eq!(judge(&watch, 31, MOVING_BYTES + 1), Verdict::Fine);
        assert_eq!(judge(&watch, 301, MOVING_BYTES + 1), Verdict::Stalled);
    }

    #[test]
    fn without_open_streams_a_connection_is_idle_in_the_end() {
        let watch = spoken();
        let stream = watch.open_stream();
        assert_eq!(judge(&watch, 601, 0), Verdict::Fine);
        drop(stream);
        assert_eq!(judge(&watch, 1, 0), Verdict::Fine);
        assert_eq!(judge(&watch, 601, 0), Verdict::Idle);
    }

    #[test]
    fn checks_of_batches_are_so_many_at_once_and_so_many_a_second() {
        let watch = ConnectionWatch::new();
        let taken = |now| (0..100).take_while(|_| watch.may_verify(now)).count() as u64;
        assert_eq!(taken(1), VERIFICATIONS_MAX);
        assert_eq!(taken(VERIFICATION_MS), 0);
        assert_eq!(taken(1 + 2 * VERIFICATION_MS), 2);
        assert_eq!(taken(1_000_000), VERIFICATIONS_MAX);
    }
}
