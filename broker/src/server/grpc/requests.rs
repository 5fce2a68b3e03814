//! The messages of one request body, one after the other: produce bytes are reserved from the
//! budget before they are read, half a message is noted as waiting for the peer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body::Body;
use hyper::body::Incoming;
use proto::grpc::{Assembler, Message};
use tonic::Status;

use super::budget::{Budget, Reservation};
use super::watch::StreamGuard;
use super::wire;

/// Largest request that is not a produce request.
pub(crate) const SMALL_REQUEST_MAX: usize = 4 << 20;

/// A message, and its place in the budget where it is counted.
pub(crate) type Taken = (Message, Option<Reservation>);

/// Reads the messages of a request body.
pub(crate) struct Requests {
    body: Incoming,
    assembler: Assembler,
    guard: Arc<StreamGuard>,
    /// `None`: the messages are small and not counted.
    budget: Option<Arc<Budget>>,
    /// For the message that is being read.
    reservation: Option<Reservation>,
    /// A whole message that waits for its reservation.
    held: Option<Message>,
    ended: bool,
}

impl Requests {
    /// Reads small messages.
    pub(crate) fn small(body: Incoming, guard: Arc<StreamGuard>) -> Self {
        Self::new(body, guard, SMALL_REQUEST_MAX, None)
    }

    /// The request's place in its connection.
    pub(crate) fn guard(&self) -> Arc<StreamGuard> {
        Arc::clone(&self.guard)
    }

    /// Reads messages of up to `max` bytes that count against the budget.
    pub(crate) fn counted(
        body: Incoming,
        guard: Arc<StreamGuard>,
        max: usize,
        budget: Arc<Budget>,
    ) -> Self {
        Self::new(body, guard, max, Some(budget))
    }

    fn new(
        body: Incoming,
        guard: Arc<StreamGuard>,
        max: usize,
        budget: Option<Arc<Budget>>,
    ) -> Self {
        let assembler = Assembler::new(max);
        Self { body, assembler, guard, budget, reservation: None, held: None, ended: false }
    }

    /// The next message with its reservation; `None` after the last one.
    ///
    /// An error is final: the stream is of no more use.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Taken, Status>>> {
        loop {
            let next = match self.held.take() {
                Some(message) => Some(message),
                None => match self.assembler.pop() {
                    Ok(next) => next,
                    Err(error) => return Poll::Ready(Some(Err(wire::frame_status(&error)))),
                },
            };
            if let Some(message) = next {
                match self.poll_reserve(message.len(), cx) {
                    Poll::Ready(()) => {
                        return Poll::Ready(Some(Ok((message, self.reservation.take()))));
                    }
                    Poll::Pending => {
                        self.held = Some(message);
                        return Poll::Pending;
                    }
                }
            }
            if self.ended {
                return Poll::Ready(match self.assembler.check_end() {
                    Ok(()) => None,
                    Err(error) => Some(Err(wire::frame_status(&error))),
                });
            }
            if let Some(len) = self.assembler.expected() {
                ready!(self.poll_reserve(len, cx));
            }
            ready!(self.poll_chunk(cx))?;
        }
    }

    fn poll_reserve(&mut self, len: usize, cx: &mut Context<'_>) -> Poll<()> {
        if let (Some(budget), None) = (&self.budget, &self.reservation) {
            self.reservation = Some(ready!(budget.poll_reserve(len, cx)));
        }
        Poll::Ready(())
    }

    /// Takes one more chunk from the peer, or notes the end of its stream.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.guard.peer_moved();
                if let Ok(chunk) = frame.into_data() {
                    self.assembler.push(chunk);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Err(Status::cancelled(format!("the request broke off: {error}"))))
            }
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                if self.assembler.buffered() > 0 || self.assembler.expected().is_some() {
                    self.guard.keep_awaiting_peer();
                }
                Poll::Pending
            }
        }
    }

    /// The only message of a unary call, decoded.
    pub(crate) async fn only<M: prost::Message + Default>(mut self) -> Result<M, Status> {
        let message = self.first().await?.0;
        let decoded = message.decode().map_err(|error| wire::frame_status(&error));
        self.end().await?;
        decoded
    }

    /// The message of a unary call, which has to be followed by [`Requests::end`].
    pub(crate) async fn first(&mut self) -> Result<Taken, Status> {
        self.next_of_unary().await.unwrap_or_else(|| {
            Err(Status::invalid_argument(
                "the call carried no message; a unary gRPC call carries exactly one",
            ))
        })
    }

    /// Waits for the end of a unary call's request, which a client sends right behind the message.
    ///
    /// Without it the stream counts as given up: HTTP/2 resets it when the end comes, and ends the whole
    /// connection when that has happened a thousand times (`too_many_internal_resets`).
    pub(crate) async fn end(&mut self) -> Result<(), Status> {
        match self.next_of_unary().await {
            None => Ok(()),
            Some(Err(status)) => Err(status),
            Some(Ok(_)) => Err(Status::invalid_argument(
                "the call carried several messages; a unary gRPC call carries exactly one",
            )),
        }
    }

    async fn next_of_unary(&mut self) -> Option<Result<Taken, Status>> {
        self.guard.keep_awaiting_peer();
        let next = std::future::poll_fn(|cx| self.poll_next(cx)).await;
        self.guard.peer_moved();
        next
    }
}
