//! The sending side of a raw stream as hyper sees it: a request body that gathers small messages.
//!
//! Every DATA frame costs a frame header, a system call and a wake-up of the peer, whatever its
//! length. So messages that wait together and are small go out in one frame; copying them costs less
//! than a call each. Large ones are never copied.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

use super::connection::Peer;
use super::stream::StreamSender;

/// Messages up to this length are copied together.
const SMALL_LEN: usize = 16 << 10;
/// The piece of memory taken to gather in, so the longest frame gathered.
const GATHERED_MAX: usize = 64 << 10;
/// Less room than this at its end is left unused.
const GATHERED_MIN: usize = 16 << 10;

/// One message on its way out: both pieces, or it is not sent.
pub(super) struct Outgoing {
    pub(super) head: Bytes,
    pub(super) payload: Bytes,
}

impl Outgoing {
    fn len(&self) -> usize {
        self.head.len() + self.payload.len()
    }
}

/// The request body of a stream.
pub(super) struct OutgoingBody {
    messages: mpsc::Receiver<Outgoing>,
    /// Taken from the queue and not begun: it did not fit with those before it.
    next: Option<Outgoing>,
    /// Of a large message whose head was given out.
    payload: Bytes,
    gathered: BytesMut,
    /// Resolves when the receiver is dropped.
    cancelled: oneshot::Receiver<()>,
}

/// Held by the receiver: dropped, it ends the sending side.
pub(super) struct EndOfCall {
    _over: watch::Sender<()>,
    _cancel: oneshot::Sender<()>,
}

pub(super) fn channel(
    messages_max: usize,
    peer: Arc<Peer>,
) -> (StreamSender, OutgoingBody, EndOfCall) {
    let (sender, messages) = mpsc::channel(messages_max.max(1));
    let (over_sender, over) = watch::channel(());
    let (cancel, cancelled) = oneshot::channel();
    let (payload, gathered) = (Bytes::new(), BytesMut::new());
    let body = OutgoingBody { messages, next: None, payload, gathered, cancelled };
    let end = EndOfCall { _over: over_sender, _cancel: cancel };
    (StreamSender { messages: sender, over, peer }, body, end)
}

impl OutgoingBody {
    /// `first`, which is small, and the small ones that wait behind it.
    fn gather(&mut self, first: Outgoing) -> Bytes {
        if self.gathered.capacity() < GATHERED_MIN {
            self.gathered.reserve(GATHERED_MAX);
        }
        let mut message = Some(first);
        while let Some(small) = message {
            self.gathered.extend_from_slice(&small.head);
            self.gathered.extend_from_slice(&small.payload);
            message = self.messages.try_recv().ok();
            let left = self.gathered.capacity() - self.gathered.len();
            self.next = message.take_if(|next| next.len() > left.min(SMALL_LEN));
        }
        self.gathered.split().freeze()
    }
}

impl http_body::Body for OutgoingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if Pin::new(&mut self.cancelled).poll(cx).is_ready() {
            // Resets the stream.
            return Poll::Ready(Some(Err(Status::cancelled("the call was cancelled"))));
        }
        if !self.payload.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.payload)))));
        }
        let message = match self.next.take() {
            Some(message) => message,
            None => match ready!(self.messages.poll_recv(cx)) {
                Some(message) => message,
                None => return Poll::Ready(None),
            },
        };
        if message.len() <= SMALL_LEN {
            return Poll::Ready(Some(Ok(Frame::data(self.gather(message)))));
        }
        self.payload = message.payload;
        Poll::Ready(Some(Ok(Frame::data(message.head))))
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    /// The frames that `messages`, all waiting, go out in.
    fn frames(messages: &[(usize, usize)]) -> (Vec<usize>, Vec<u8>) {
        let (sender, messages_in) = mpsc::channel(messages.len());
        let (_cancel, cancelled) = oneshot::channel();
        for (i, &(head, payload)) in messages.iter().enumerate() {
            let piece = |len| Bytes::from(vec![i as u8; len]);
            let message = Outgoing { head: piece(head), payload: piece(payload) };
            sender.try_send(message).unwrap_or_else(|_| panic!("no room"));
        }
        drop(sender);
        let (payload, gathered) = (Bytes::new(), BytesMut::new());
        let mut body =
            OutgoingBody { messages: messages_in, next: None, payload, gathered, cancelled };
        let mut context = Context::from_waker(std::task::Waker::noop());
        let (mut lens, mut all) = (Vec::new(), Vec::new());
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut context) {
            let chunk = frame.unwrap().into_data().unwrap();
            lens.push(chunk.len());
            all.extend_from_slice(&chunk);
        }
        (lens, all)
    }

    fn check(messages: &[(usize, usize)], expected: &[usize]) {
        let (lens, all) = frames(messages);
        assert_eq!(lens, expected);
        let sent = messages.iter().enumerate();
        let sent: Vec<u8> = sent.flat_map(|(i, m)| vec![i as u8; m.0 + m.1]).collect();
        assert!(all == sent, "in order and complete");
    }

    #[test]
    fn small_messages_share_frames_and_large_ones_are_left_alone() {
        check(&[(70, 270); 40], &[40 * 340]);
        check(&[(70, 0), (70, 100_000), (60, 5), (60, 6)], &[70, 70, 100_000, 131]);
        // Ten of them do not fit in one piece of memory.
        check(&[(100, 9900); 10], &[60_000, 40_000]);
        check(&[(100, SMALL_LEN - 100), (100, SMALL_LEN - 99)], &[SMALL_LEN, 100, SMALL_LEN - 99]);
    }
}
