//! `Fetch`: many rounds over one stream, served in the order of their requests. The body hands out
//! frames as HTTP/2 has room for them; records are slices of mapped segments.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame};
use proto::v1;
use tonic::Status;

use super::Services;
use super::alarm::Alarm;
use super::fetch_session::{FetchSession, Progress};
use super::outbox::Outbox;
use super::requests::Requests;
use super::wire;

/// Requests taken ahead of the round under way; more stay with the peer.
const AHEAD_MAX: usize = 64;

/// The response body of a fetch stream.
pub(super) struct FetchStream {
    requests: Requests,
    ahead: VecDeque<v1::FetchRequest>,
    session: FetchSession,
    out: Outbox,
    alarm: Alarm,
    services: Arc<Services>,
    parked: bool,
    /// No more requests come; after the rounds asked for, this status.
    ending: Option<Status>,
    done: bool,
}

impl FetchStream {
    pub(super) fn new(requests: Requests, services: Arc<Services>) -> Self {
        let (api, metrics) = (Arc::clone(&services.api), Arc::clone(&services.metrics));
        let session = FetchSession::new(api, metrics, requests.guard());
        Self {
            requests,
            ahead: VecDeque::new(),
            session,
            out: Outbox::default(),
            alarm: Alarm::default(),
            services,
            parked: false,
            ending: None,
            done: false,
        }
    }

    fn take_requests(&mut self, cx: &mut Context<'_>) {
        while self.ending.is_none() && self.ahead.len() < AHEAD_MAX {
            match self.requests.poll_next(cx) {
                Poll::Ready(Some(Ok((message, _)))) => match message.decode() {
                    Ok(request) => self.ahead.push_back(request),
                    Err(error) => self.fail(wire::frame_status(&error)),
                },
                Poll::Ready(Some(Err(status))) => self.fail(status),
                Poll::Ready(None) => self.ending = Some(Status::ok("")),
                Poll::Pending => return,
            }
        }
    }

    fn fail(&mut self, status: Status) {
        self.ahead.clear();
        self.ending = Some(status);
    }

    /// Works until there is a frame, the stream is over (`None`) or there is nothing to do. Where the next
    /// round is asked for already, the end of one goes out with the beginning of that.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(frame) = self.out.pop_full() {
                return Poll::Ready(Some(frame));
            }
            self.take_requests(cx);
            let failed =
                self.ending.as_ref().is_some_and(|status| status.code() != tonic::Code::Ok);
            if failed {
                return Poll::Ready(self.out.pop());
            }
            let now = Instant::now();
            if !self.session.in_round() {
                let Some(request) = self.ahead.pop_front() else {
                    return match self.out.pop() {
                        None if self.ending.is_none() => Poll::Pending,
                        frame => Poll::Ready(frame),
                    };
                };
                if let Err(status) = self.session.begin(request, now, &mut self.out) {
                    self.fail(status);
                    continue;
                }
            }
            let interrupt = self.ahead.front().is_some_and(changes_something);
            match self.session.advance(cx, now, interrupt, &mut self.out) {
                Ok(Progress::Out | Progress::Ended) => {}
                Ok(Progress::Wait(deadline)) => {
                    // A refused handle is told at once, not at the end of its round; and the end of the
                    // round before does not wait either.
                    if let Some(frame) = self.out.pop() {
                        return Poll::Ready(Some(frame));
                    }
                    if self.alarm.poll(deadline.into(), cx).is_pending() {
                        return Poll::Pending;
                    }
                }
                Err(error) => self.fail(wire::frame_status(&error)),
            }
        }
    }

    fn note_parked(&mut self, parked: bool) {
        if self.parked != parked {
            self.parked = parked;
            self.services.metrics.parked_fetches.add(if parked { 1 } else { -1 });
        }
    }
}

/// A client that changes what it reads does not want to wait for what it read before; nor is what a
/// follower tells to wait.
fn changes_something(request: &v1::FetchRequest) -> bool {
    !request.add.is_empty() || !request.forget.is_empty() || !request.progress.is_empty()
}

impl Drop for FetchStream {
    fn drop(&mut self) {
        self.note_parked(false);
    }
}

impl Body for FetchStream {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.done {
            return Poll::Ready(None);
        }
        let polled = self.poll_work(cx);
        self.note_parked(polled.is_pending());
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(frame)) => Poll::Ready(Some(Ok(Frame::data(frame)))),
            Poll::Ready(None) => {
                self.done = true;
                let status = self.ending.take().unwrap_or_else(|| Status::ok(""));
                Poll::Ready(Some(Ok(Frame::trailers(wire::trailers(&status)))))
            }
        }
    }
}
