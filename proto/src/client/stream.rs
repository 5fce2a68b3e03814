//! A raw two-way stream: messages out as chunks the caller framed, messages in as chunk lists.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::sync::{mpsc, watch};
use tonic::{Code, Status};

use super::connection::Peer;
use super::error::ClientError;
use super::outgoing::{EndOfCall, Outgoing};
use crate::grpc::{Assembler, FrameError, Message, encode_message};

/// The sending half. Clones send on the same stream, message by message. When all are dropped the
/// stream is half-closed: the peer sees the end, its answers still come.
#[derive(Clone)]
pub struct StreamSender {
    pub(super) messages: mpsc::Sender<Outgoing>,
    /// Its sender goes when the call ends or is cancelled. The request body would notice that too, but
    /// it is not asked while the peer gives no window.
    pub(super) over: watch::Receiver<()>,
    pub(super) peer: Arc<Peer>,
}

impl StreamSender {
    /// Sends a message: `head` begins with its gRPC prefix, `payload` (which may be empty) ends it.
    /// See [`crate::grpc::payload_head`]. Waits while too many messages wait for the network.
    ///
    /// An error means that the stream is over; why, the receiver tells.
    pub async fn send(&self, head: Bytes, payload: Bytes) -> Result<(), ClientError> {
        let (head, payload) = match self.try_send(head, payload) {
            Ok(()) => return Ok(()),
            Err(back) => back,
        };
        let mut over = self.over.clone();
        tokio::select! {
            biased;
            // Nothing is ever sent over it: this is its end.
            _ = over.changed() => Err(self.over()),
            sent = self.messages.send(Outgoing { head, payload }) => {
                sent.map_err(|_| self.over())
            }
        }
    }

    /// Sends a small message.
    pub async fn send_message(&self, message: &impl prost::Message) -> Result<(), ClientError> {
        let encoded = encode_message(message);
        let encoded = encoded
            .map_err(|source| ClientError::Frame { address: self.peer.address.clone(), source })?;
        self.send(encoded, Bytes::new()).await
    }

    /// Sends a message if there is room for it at once; gives it back where there is not.
    pub fn try_send(&self, head: Bytes, payload: Bytes) -> Result<(), (Bytes, Bytes)> {
        if self.is_closed() {
            return Err((head, payload));
        }
        self.messages.try_send(Outgoing { head, payload }).map_err(|error| {
            let (mpsc::error::TrySendError::Full(message)
            | mpsc::error::TrySendError::Closed(message)) = error;
            (message.head, message.payload)
        })
    }

    /// Whether the stream is over, so that nothing more can be sent.
    pub fn is_closed(&self) -> bool {
        self.messages.is_closed() || self.over.has_changed().is_err()
    }

    fn over(&self) -> ClientError {
        ClientError::ConnectionLost {
            address: self.peer.address.clone(),
            cause: "the stream is over".into(),
        }
    }
}

impl std::fmt::Debug for StreamSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StreamSender").field(&self.peer.address).finish()
    }
}

type PendingResponse = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

enum State {
    Waiting(PendingResponse),
    Open(Incoming),
    /// The status came with the end, or an error was told.
    Over,
}

/// The receiving half. Dropping it cancels the call: what the sender still holds is not sent.
pub struct StreamReceiver {
    state: State,
    assembler: Assembler,
    peer: Arc<Peer>,
    end_of_call: Option<EndOfCall>,
}

impl StreamReceiver {
    pub(super) fn new(
        response: impl Future<Output = hyper::Result<Response<Incoming>>> + Send + 'static,
        message_len_max: usize,
        peer: Arc<Peer>,
        end_of_call: EndOfCall,
    ) -> Self {
        let assembler = Assembler::new(message_len_max);
        Self {
            state: State::Waiting(Box::pin(response)),
            assembler,
            peer,
            end_of_call: Some(end_of_call),
        }
    }

    /// The next message; `None` where the peer ended the stream with status OK. After `None` or an
    /// error it gives `None` for ever. Cancelling loses nothing.
    pub async fn recv(&mut self) -> Result<Option<Message>, ClientError> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// A message that has come already, without waiting.
    pub fn try_recv(&mut self) -> Result<Option<Message>, ClientError> {
        let waker = std::task::Waker::noop();
        match self.poll_recv(&mut Context::from_waker(waker)) {
            Poll::Ready(message) => message,
            Poll::Pending => Ok(None),
        }
    }

    /// [`StreamReceiver::recv`] for who polls.
    pub fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Message>, ClientError>> {
        let polled = self.poll_inner(cx);
        if let Poll::Ready(Ok(None) | Err(_)) = polled {
            self.state = State::Over;
            self.end_of_call = None;
        }
        polled
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, ClientError>> {
        loop {
            match &mut self.state {
                State::Over => return Poll::Ready(Ok(None)),
                State::Waiting(response) => {
                    let response = ready!(response.as_mut().poll(cx));
                    let response = response.map_err(|error| self.peer.lost(&error))?;
                    self.check_head(&response)?;
                    self.peer.set_answered();
                    self.state = State::Open(response.into_body());
                }
                State::Open(body) => {
                    match self.assembler.pop() {
                        Ok(Some(message)) => return Poll::Ready(Ok(Some(message))),
                        Ok(None) => {}
                        Err(source) => return Poll::Ready(Err(self.frame(source))),
                    }
                    match ready!(Pin::new(body).poll_frame(cx)) {
                        Some(Ok(frame)) => match frame.into_data() {
                            Ok(chunk) => self.assembler.push(chunk),
                            Err(frame) => {
                                let trailers = frame.into_trailers().unwrap_or_default();
                                return Poll::Ready(self.end(&trailers));
                            }
                        },
                        Some(Err(error)) => return Poll::Ready(Err(self.peer.lost(&error))),
                        None => return Poll::Ready(self.end(&HeaderMap::new())),
                    }
                }
            }
        }
    }

    /// An HTTP error, or a gRPC status in place of a stream.
    fn check_head(&self, response: &Response<Incoming>) -> Result<(), ClientError> {
        if response.status() != http::StatusCode::OK {
            let text = format!("HTTP status {}: the port does not serve gRPC", response.status());
            return Err(self.refused(Status::unknown(text)));
        }
        match Status::from_header_map(response.headers()) {
            Some(status) if status.code() != Code::Ok => Err(self.refused(status)),
            _ => Ok(()),
        }
    }

    fn end(&self, trailers: &HeaderMap) -> Result<Option<Message>, ClientError> {
        match Status::from_header_map(trailers) {
            Some(status) if status.code() != Code::Ok => Err(self.refused(status)),
            Some(_) => self.assembler.check_end().map(|()| None).map_err(|e| self.frame(e)),
            None => Err(ClientError::ConnectionLost {
                address: self.peer.address.clone(),
                cause: "the stream ended without a status".into(),
            }),
        }
    }

    fn refused(&self, status: Status) -> ClientError {
        ClientError::Refused { address: self.peer.address.clone(), status }
    }

    fn frame(&self, source: FrameError) -> ClientError {
        ClientError::Frame { address: self.peer.address.clone(), source }
    }
}

impl std::fmt::Debug for StreamReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StreamReceiver").field(&self.peer.address).finish()
    }
}
