//! [`Frames`]: requests off a socket, each in one piece.
//!
//! A size is looked at before anything is reserved for it, the frame's place in the budget is taken
//! before more of it is read, and memory is reserved as bytes come, not as the size promises. What a long
//! frame took is let go with it.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::budget::{Budget, Reservation};
use super::pace;

/// Bytes of the size before each frame.
const SIZE_LEN: usize = 4;
/// Read at one time where no long frame is under way: many small requests come together.
const READ_AHEAD: usize = 16 << 10;
/// Reserved at one time for a long frame.
const STEP: usize = 1 << 20;

/// A request, its size taken off, and its place in the budget.
pub(super) type Frame = (Bytes, Reservation);

/// Why no further frame can be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("the connection broke: {0}")]
    Socket(#[from] io::Error),
    #[error("the peer left in the middle of a request")]
    CutOff,
    #[error(
        "a request says it has {size} bytes, at most {max} are taken (socket.request.max.bytes){}",
        .guess.map(|other| format!("; its first bytes look like {other}")).unwrap_or_default()
    )]
    Size { size: i32, max: usize, guess: Option<&'static str> },
}

/// Reads the frames of one connection.
pub(super) struct Frames {
    buffer: BytesMut,
    max: usize,
    budget: Arc<Budget>,
    /// For the frame that is being read.
    reservation: Option<Reservation>,
    /// Bytes of that frame, its size included, once it is known.
    expected: Option<usize>,
    /// When the peer sent something last.
    moved: Instant,
    /// Since when the peer may send the frame that is being read.
    begun: Instant,
}

impl Frames {
    pub(super) fn new(max: usize, budget: Arc<Budget>) -> Self {
        Self {
            buffer: BytesMut::new(),
            max,
            budget,
            reservation: None,
            expected: None,
            moved: Instant::now(),
            begun: Instant::now(),
        }
    }

    /// Whether the peer owes us the rest of a frame for too long, by its silence or by its pace; what was
    /// before `last_answer` does not count, since nothing need have been read then.
    pub(super) fn is_late(&self, last_answer: Instant, stalled: Duration) -> bool {
        let Some(promised) = self.promised() else { return false };
        let allowed = pace::allowed(stalled, promised, self.budget.is_awaited());
        self.moved.max(last_answer).elapsed() >= stalled
            || self.begun.max(last_answer).elapsed() >= allowed
    }

    /// Bytes of a frame that is here in part; not while it waits for its place in the budget.
    fn promised(&self) -> Option<usize> {
        match self.expected {
            None => (!self.buffer.is_empty()).then_some(SIZE_LEN),
            Some(expected) => {
                (self.reservation.is_some() && self.buffer.len() < expected).then_some(expected)
            }
        }
    }

    /// When the peer sent something last.
    pub(super) fn moved(&self) -> Instant {
        self.moved
    }

    /// The next frame; `None` where the peer has left. May be dropped and called again: nothing
    /// that was read is lost.
    pub(super) async fn next(&mut self, socket: &TcpStream) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(frame) = self.take().await? {
                return Ok(Some(frame));
            }
            socket.readable().await?;
            let was_empty = self.buffer.is_empty();
            match self.read(socket) {
                Ok(0) if was_empty => return Ok(None),
                Ok(0) => return Err(FrameError::CutOff),
                Ok(_) => {
                    self.moved = Instant::now();
                    if was_empty {
                        self.begun = self.moved;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A frame that is here whole, once what others are worth is within bounds.
    async fn take(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(expected) = self.expect()? else { return Ok(None) };
        if self.reservation.is_none() {
            let reserved = poll_fn(|cx| self.budget.poll_reserve(expected - SIZE_LEN, cx)).await;
            self.reservation = Some(reserved);
            self.begun = Instant::now();
        }
        if self.buffer.len() < expected {
            return Ok(None);
        }
        poll_fn(|cx| self.budget.poll_settled(cx)).await;
        let Some(reservation) = self.reservation.take() else { return Ok(None) };
        self.expected = None;
        self.begun = Instant::now();
        self.buffer.advance(SIZE_LEN);
        let frame = self.buffer.split_to(expected - SIZE_LEN).freeze();
        if expected > READ_AHEAD {
            // Nothing was read behind it. What is left would keep its memory, which nobody counts.
            debug_assert!(self.buffer.is_empty());
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        Ok(Some((frame, reservation)))
    }

    /// Bytes of the frame that comes next, once its size is here.
    fn expect(&mut self) -> Result<Option<usize>, FrameError> {
        if self.expected.is_none()
            && let Some(first) = self.buffer.first_chunk::<SIZE_LEN>()
        {
            let size = i32::from_be_bytes(*first);
            match usize::try_from(size) {
                Ok(len) if len <= self.max => self.expected = Some(SIZE_LEN + len),
                _ => {
                    let guess = guess(*first);
                    return Err(FrameError::Size { size, max: self.max, guess });
                }
            }
        }
        Ok(self.expected)
    }

    fn read(&mut self, socket: &TcpStream) -> io::Result<usize> {
        let here = self.buffer.len();
        let wanted = match self.expected {
            Some(expected) if expected > READ_AHEAD => expected - here,
            _ => READ_AHEAD.saturating_sub(here).max(1),
        };
        // Doubles as it fills, so that a frame of any length is moved a few times at most.
        self.buffer.reserve(wanted.min(here.max(STEP)).max(1));
        let mut room = (&mut self.buffer).limit(wanted);
        let space = room.chunk_mut().len();
        let mut came = None;
        let outcome = socket.try_io(Interest::READABLE, || {
            let count = socket.try_read_buf(&mut room)?;
            came = Some(count);
            // Less than there was room for: nothing is left. Said here, where what comes meanwhile is not
            // missed, it saves the call that would find nothing.
            if count > 0 && count < space {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(count)
        });
        came.map_or(outcome, Ok)
    }
}

/// What a peer speaks whose first bytes are no size.
fn guess(first: [u8; SIZE_LEN]) -> Option<&'static str> {
    match &first {
        b"GET " | b"POST" | b"HEAD" | b"PUT " | b"OPTI" | b"DELE" => Some("HTTP"),
        b"PRI " => Some("HTTP/2: gRPC clients connect to listen.grpc"),
        [0x16, 0x03, ..] => Some("TLS, which this listener does not speak"),
        b"SSH-" => Some("SSH"),
        _ => None,
    }
}
