//! `ProduceStream`: requests of one stream pipelined, acknowledgements gathered.
//!
//! One `poll_frame` takes the requests that have arrived, queues them at their partitions, has each
//! partition written once, and sends the acknowledgements there are in one frame. What is
//! acknowledged later (a flush, a slow disk) wakes the stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame};
use parking_lot::Mutex;
use proto::grpc;
use proto::v1;
use tokio::time::Sleep;
use tonic::Status;

use super::Services;
use super::produce;
use super::requests::Requests;
use super::waiting::Waiting;
use super::wire;
use crate::api::{Produced, Refusal};
use crate::replication::Partition;

/// Bytes taken from the peer before partitions are written and acknowledgements sent.
const TAKEN_MAX: usize = 2 << 20;
/// Requests of one stream that wait for their acknowledgement; above it no more are read.
const WAITING_MAX: usize = 16_384;

/// The response body of a produce stream.
pub(crate) struct ProduceStream {
    requests: Requests,
    services: Arc<Services>,
    acks: Arc<Acks>,
    /// Wakes the stream for the first request that is out of time.
    timer: Option<Pin<Box<Sleep>>>,
    state: State,
}

enum State {
    /// Requests may come.
    Open,
    /// No more requests; acknowledgements are still to be sent, then this status.
    Ending(Status),
    /// The status has been sent.
    Done,
}

/// Acknowledgements of one stream, filled from any thread.
#[derive(Default)]
struct Acks {
    state: Mutex<AckState>,
}

#[derive(Default)]
struct AckState {
    ready: Vec<v1::ProduceAck>,
    waiting: Waiting,
    /// Set while the stream sleeps.
    sleeper: Option<Waker>,
}

impl Acks {
    fn expect(&self, request_id: u64, due: Instant) -> u64 {
        self.state.lock().waiting.add(request_id, due)
    }

    fn answer(&self, number: u64, outcome: Result<Produced, Refusal>) {
        let sleeper = {
            let mut state = self.state.lock();
            let Some(request_id) = state.waiting.take(number) else { return };
            state.ready.push(produce::ack(request_id, outcome));
            state.sleeper.take()
        };
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
    }
}

impl AckState {
    /// Answers what is out of time; returns when the next one will be.
    fn expire(&mut self, now: Instant) -> Option<Instant> {
        let ready = &mut self.ready;
        self.waiting.expire(now, |request_id| {
            ready.push(produce::ack(request_id, Err(produce::timed_out())));
        })
    }
}

impl ProduceStream {
    pub(crate) fn new(requests: Requests, services: Arc<Services>) -> Self {
        Self { requests, services, acks: Arc::default(), timer: None, state: State::Open }
    }

    /// Takes what has arrived and has it appended. Pending when the peer has nothing more now.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut touched: Vec<Arc<Partition>> = Vec::new();
        let mut taken = 0;
        let mut polled = Poll::Ready(());
        let now = Instant::now();
        while taken < TAKEN_MAX && matches!(self.state, State::Open) {
            match self.requests.poll_next(cx) {
                Poll::Ready(Some(Ok((message, hold)))) => {
                    taken += message.len();
                    match produce::decode(message) {
                        Ok((head, records)) => {
                            let partition =
                                self.queue(&head, records, hold.map(|h| Box::new(h) as _), now);
                            if let Some(partition) = partition
                                && !touched.iter().any(|other| Arc::ptr_eq(other, &partition))
                            {
                                touched.push(partition);
                            }
                        }
                        Err(error) => self.state = State::Ending(wire::frame_status(&error)),
                    }
                }
                Poll::Ready(Some(Err(status))) => self.state = State::Ending(status),
                Poll::Ready(None) => self.state = State::Ending(Status::ok("")),
                Poll::Pending => {
                    polled = Poll::Pending;
                    break;
                }
            }
        }
        for partition in touched {
            partition.drive();
        }
        polled
    }

    fn queue(
        &self,
        head: &v1::ProduceRequest,
        records: Vec<Bytes>,
        hold: Option<Box<dyn Send>>,
        now: Instant,
    ) -> Option<Arc<Partition>> {
        let api = &self.services.api;
        let due = now + produce::timeout(head, &self.services);
        if head.acks() == v1::Acks::None {
            return api.produce(produce::request(head, records, due, hold), |_| ());
        }
        let number = self.acks.expect(head.request_id, due);
        let acks = Arc::clone(&self.acks);
        let done = move |outcome| acks.answer(number, outcome);
        api.produce(produce::request(head, records, due, hold), done)
    }

    /// The acknowledgements there are, as one frame.
    fn ready_acks(&self) -> Option<Bytes> {
        let mut state = self.acks.state.lock();
        state.sleeper = None;
        if state.ready.is_empty() {
            return None;
        }
        let acks = std::mem::take(&mut state.ready);
        drop(state);
        grpc::encode_message(&v1::ProduceResponse { acks }).ok()
    }

    /// Sleeps until an acknowledgement or a time-out; ready if there is one already.
    fn poll_sleep(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.acks.state.lock();
        if !state.ready.is_empty() {
            return Poll::Ready(());
        }
        if state.waiting.is_empty() {
            self.timer = None;
            return Poll::Pending;
        }
        if self.timer.is_none() {
            let due = state.expire(Instant::now());
            self.timer = due.map(|due| Box::pin(tokio::time::sleep_until(due.into())));
        }
        while let Some(timer) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            let due = state.expire(Instant::now());
            self.timer = due.map(|due| Box::pin(tokio::time::sleep_until(due.into())));
        }
        if !state.ready.is_empty() {
            return Poll::Ready(());
        }
        state.sleeper = Some(cx.waker().clone());
        Poll::Pending
    }

    fn waiting(&self) -> usize {
        self.acks.state.lock().waiting.len()
    }
}

use std::future::Future;

impl Body for ProduceStream {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            if let Some(frame) = this.ready_acks() {
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            match &this.state {
                State::Done => return Poll::Ready(None),
                State::Ending(status) if this.waiting() == 0 => {
                    let trailers = wire::trailers(status);
                    this.state = State::Done;
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                State::Ending(_) => {
                    std::task::ready!(this.poll_sleep(cx));
                    continue;
                }
                State::Open => {}
            }
            if this.waiting() < WAITING_MAX && this.poll_take(cx).is_ready() {
                continue;
            }
            std::task::ready!(this.poll_sleep(cx));
        }
    }
}
