//! One peer: its requests begun as [`super::ordering`] allows, its answers sent in order.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use proto::client::BusyPoll;
use proto::kafka::{ApiKey, RequestHead};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Services;
use super::context::{Kept, Peer};
use super::dispatch::{self, Answer, Refused, Work};
use super::frames::{Frame, FrameError, Frames};
use super::ordering::Unanswered;
use super::outgoing::SendError;
use super::roaming_socket::RoamingSocket;

/// Looks at a connection in one time-out.
const LOOKS: u32 = 3;

/// Counted apart.
const STALLED: &str = "stalled";

/// Why a connection is closed.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("{0}")]
    Handler(String),
    #[error("the peer sent half a request and no more, or next to no more")]
    Stalled,
    #[error("no request for connections.max.idle.ms")]
    Idle,
    #[error("the peer left")]
    Left,
    #[error("the broker stops")]
    Stopping,
}

impl End {
    /// What its line in the log is counted under; none for what every client does.
    fn complaint(&self) -> Option<&'static str> {
        match self {
            Self::Left | Self::Idle | Self::Stopping => None,
            Self::Frame(FrameError::Socket(_)) | Self::Send(SendError::Socket(_)) => Some("socket"),
            Self::Frame(FrameError::CutOff) => Some("cut off"),
            Self::Frame(FrameError::Size { .. }) => Some("size"),
            Self::Refused(Refused::Unsupported { .. }) => Some("unsupported"),
            Self::Refused(Refused::Malformed { .. } | Refused::Head(_)) => Some("malformed"),
            Self::Refused(Refused::TooLarge { .. }) => Some("too large"),
            Self::Send(SendError::FileCut) => Some("file cut"),
            Self::Send(SendError::Stalled) | Self::Stalled => Some(STALLED),
            Self::Handler(_) => Some("handler"),
        }
    }
}

/// Serves a connection until the peer leaves, stalls, sends what cannot be read, or a stop is asked
/// for.
pub(in crate::server) async fn serve(
    socket: TcpStream,
    address: SocketAddr,
    listener: usize,
    services: Arc<Services>,
    busy_poll: BusyPoll,
    stop: watch::Receiver<bool>,
) {
    let Ok(local) = socket.local_addr() else { return };
    let peer = Peer { address, local, listener };
    let frames = Frames::new(services.config.request_max_bytes, Arc::clone(&services.budget));
    let connection = Connection {
        socket: RoamingSocket::new(socket),
        peer,
        frames,
        services: Arc::clone(&services),
        busy_poll,
        unanswered: Unanswered::default(),
        kept: Arc::default(),
        works: VecDeque::new(),
        held: None,
        stopping: false,
    };
    let end = connection.run(stop).await;
    match end.complaint() {
        None => tracing::debug!(peer = %address, cause = %end, "connection closed"),
        Some(kind) => {
            let metrics = &services.metrics;
            match kind {
                STALLED => metrics.connections_stalled.one(),
                _ => metrics.connections_faulty.one(),
            }
            if let Some(suppressed) = services.complaints.admit(kind, address.ip()) {
                tracing::info!(peer = %address, cause = %end, suppressed, "connection closed");
            }
        }
    }
}

struct Connection {
    socket: RoamingSocket,
    peer: Peer,
    frames: Frames,
    services: Arc<Services>,
    busy_poll: BusyPoll,
    unanswered: Unanswered,
    kept: Arc<Kept>,
    /// What was begun, in order.
    works: VecDeque<(bool, Work)>,
    /// A request that may not begin yet; no other is read before it.
    held: Option<(RequestHead, Frame)>,
    /// Nothing more is begun; what was, is answered.
    stopping: bool,
}

enum Event {
    Frame(Option<Frame>),
    Answered(Answer),
    Look,
    Stop,
}

impl Connection {
    async fn run(mut self, mut stop: watch::Receiver<bool>) -> End {
        let stalled = self.services.config.stalled_timeout;
        let pause = (stalled / LOOKS).max(Duration::from_millis(10));
        let mut looks = tokio::time::interval(pause);
        let mut last_answer = Instant::now();
        loop {
            let event = match self.next(&mut looks, &mut stop).await {
                Ok(event) => event,
                Err(error) => return error.into(),
            };
            if matches!(event, Event::Frame(_) | Event::Answered(_)) {
                self.busy_poll.traffic();
            }
            let done = match event {
                Event::Frame(None) => Err(End::Left),
                Event::Frame(Some(frame)) => self.take(frame),
                Event::Answered(answer) => {
                    last_answer = Instant::now();
                    self.answer(answer).await
                }
                Event::Look => self.look(last_answer),
                Event::Stop => {
                    self.stopping = true;
                    Ok(())
                }
            };
            if let Err(end) = done {
                return end;
            }
            if self.stopping && self.works.is_empty() {
                return End::Stopping;
            }
        }
    }

    async fn next(
        &mut self,
        looks: &mut tokio::time::Interval,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Event, FrameError> {
        let Self { socket, frames, works, held, unanswered, stopping, .. } = self;
        let socket = &*socket.here()?;
        // Behind a request that others must wait for, nothing is read: it would only be held.
        let reads = held.is_none() && unanswered.others == 0 && !*stopping;
        let front = async {
            let Some((_, work)) = works.front_mut() else { return std::future::pending().await };
            std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(Event::Answered(answer)),
                Poll::Pending => Poll::Pending,
            })
            .await
        };
        tokio::select! {
            biased;
            event = front => Ok(event),
            frame = frames.next(socket), if reads => Ok(Event::Frame(frame?)),
            left = has_left(socket), if !reads => {
                left?;
                Ok(Event::Frame(None))
            }
            _ = looks.tick() => Ok(Event::Look),
            _ = stop.wait_for(|&stop| stop), if !*stopping => Ok(Event::Stop),
        }
    }

    /// Begins a request, or keeps it until it may begin.
    fn take(&mut self, (mut frame, place): Frame) -> Result<(), End> {
        let head = RequestHead::take(&mut frame).map_err(Refused::from)?;
        self.begin_or_hold(head, (frame, place))
    }

    fn begin_or_hold(&mut self, head: RequestHead, frame: Frame) -> Result<(), End> {
        let is_produce = head.key == ApiKey::Produce.code();
        if !self.unanswered.admits(is_produce) {
            self.held = Some((head, frame));
            return Ok(());
        }
        self.services.metrics.requests.one();
        let work = dispatch::begin(&self.services, self.peer, &self.kept, head, frame)?;
        self.unanswered.begun(is_produce);
        self.works.push_back((is_produce, work));
        Ok(())
    }

    /// Sends the answer to the first request that was begun.
    async fn answer(&mut self, answer: Answer) -> Result<(), End> {
        if let Some((is_produce, _)) = self.works.pop_front() {
            self.unanswered.answered(is_produce);
        }
        match answer {
            Answer::Send(outgoing) => {
                let socket = self.socket.here().map_err(FrameError::from)?;
                let Services { budget, config, .. } = &*self.services;
                let _charge = budget.charge(outgoing.held());
                outgoing.send(socket, config.stalled_timeout, budget).await?;
            }
            Answer::Nothing => {}
            Answer::Close(cause) => return Err(End::Handler(cause)),
        }
        match self.held.take() {
            Some((head, frame)) if !self.stopping => self.begin_or_hold(head, frame),
            _ => Ok(()),
        }
    }

    fn look(&self, last_answer: Instant) -> Result<(), End> {
        let config = &self.services.config;
        if self.held.is_none()
            && self.unanswered.others == 0
            && self.frames.is_late(last_answer, config.stalled_timeout)
        {
            return Err(End::Stalled);
        }
        let last = self.frames.moved().max(last_answer);
        if self.works.is_empty() && last.elapsed() >= config.max_idle {
            return Err(End::Idle);
        }
        Ok(())
    }
}

/// Returns when the peer has closed its side, while no further request is read.
async fn has_left(socket: &TcpStream) -> Result<(), FrameError> {
    let mut byte = [0];
    loop {
        if socket.peek(&mut byte).await? == 0 {
            return Ok(());
        }
        // There are bytes of a later request: nothing can be told before they are read.
        std::future::pending::<()>().await;
    }
}
