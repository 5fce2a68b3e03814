//! One HTTP/2 connection to a broker: a service for tonic's generated clients, and raw streams.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;

use super::error::{ClientError, with_sources};
use super::outgoing;
use super::socket::{Socket, SocketOptions};
use super::stream::{StreamReceiver, StreamSender};

/// What one fetch stream may have under way.
const STREAM_WINDOW: u32 = 64 << 20;
/// What a connection may have under way: the bound of a client's receive memory for a broker.
const CONNECTION_WINDOW: u32 = 128 << 20;
/// The longest frame taken: large frames are what makes the data path fast.
const FRAME_LEN_MAX: u32 = 1 << 20;
/// What a stream may have buffered for sending.
const SEND_BUFFER: usize = 4 << 20;

/// A connection to a broker; cheap to clone, closed when the last clone and stream are gone.
#[derive(Clone)]
pub struct Connection {
    requests: http2::SendRequest<Body>,
    peer: Arc<Peer>,
    closed: watch::Receiver<bool>,
    abort: Arc<watch::Sender<bool>>,
}

/// Who is at the other end, for requests and error texts.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: String,
    authority: Authority,
    /// Why the connection ended, once it has.
    end: OnceLock<String>,
    /// Whether it ever answered a request: it speaks gRPC and is alive.
    answered: AtomicBool,
}

impl Connection {
    /// Connects to `address` (`HOST:PORT`). The connection's task runs on the current runtime.
    pub async fn connect(address: &str, options: &SocketOptions) -> Result<Self, ClientError> {
        let invalid = || ClientError::InvalidAddress(address.chars().take(256).collect());
        let authority: Authority = address.parse().map_err(|_| invalid())?;
        authority.port_u16().ok_or_else(invalid)?;
        let socket = options.connect(address).await?;
        let socket = Socket::new(socket, options.busy_poll.clone());
        let peer = Arc::new(Peer {
            address: address.into(),
            authority,
            end: OnceLock::default(),
            answered: AtomicBool::new(false),
        });
        let (requests, task) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_LEN_MAX)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(options.keep_alive_interval)
            .keep_alive_timeout(options.keep_alive_timeout)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(|error| peer.lost(&error))?;
        let (ended, closed) = watch::channel(false);
        let task_peer = Arc::clone(&peer);
        let (abort, mut aborted) = watch::channel(false);
        tokio::spawn(async move {
            let end = tokio::select! {
                Ok(_) = aborted.wait_for(|aborted| *aborted) => "it was given up".into(),
                end = task => match end {
                    Ok(()) => "it was closed".into(),
                    Err(error) => with_sources(&error),
                },
            };
            tracing::debug!(address = %task_peer.address, cause = %end, "connection ended");
            let _ = task_peer.end.set(end);
            ended.send_replace(true);
        });
        Ok(Self { requests, peer, closed, abort: Arc::new(abort) })
    }

    /// Where it leads: `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.peer.address
    }

    /// Whether it has ended; requests on it fail.
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow() || self.requests.is_closed()
    }

    /// Closes the socket at once; every call and stream on it fails. For a peer that takes nothing and
    /// answers nothing, whose streams would otherwise keep the connection open.
    pub fn abort(&self) {
        self.abort.send_replace(true);
    }

    /// Whether the peer ever answered on it.
    pub(super) fn has_answered(&self) -> bool {
        self.peer.answered.load(Ordering::Relaxed)
    }

    /// Whether both are clones of one.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.peer, &other.peer)
    }

    /// Waits until it has ended.
    pub async fn closed(&self) {
        let mut closed = self.closed.clone();
        // An error means that the task is gone: ended as well.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// Opens a two-way stream of gRPC messages on `path` (`/ottla.v1.Log/Fetch`).
    ///
    /// Returns without waiting for the peer: whether it takes the call, the receiver tells. At most
    /// `messages_max` messages wait in the sender for the network; then sending waits. Messages
    /// received are at most `message_len_max` long.
    pub fn open_stream(
        &self,
        path: &'static str,
        messages_max: usize,
        message_len_max: usize,
    ) -> (StreamSender, StreamReceiver) {
        let peer = Arc::clone(&self.peer);
        let (sender, body, end_of_call) = outgoing::channel(messages_max, Arc::clone(&peer));
        let mut request = Request::new(Body::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(path);
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        let response = self.send(request);
        (sender, StreamReceiver::new(response, message_len_max, peer, end_of_call))
    }

    fn send(
        &self,
        mut request: Request<Body>,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + Send + use<> {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.peer.authority.clone());
        // With a scheme and an authority only a path can be missing; tonic always sets one.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
        let mut requests = self.requests.clone();
        // Handed over now, not when the future is first polled: order is the callers' order.
        requests.send_request(request)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connection").field(&self.peer.address).finish()
    }
}

impl Peer {
    /// The connection broke: `error` is what the request saw, the connection's own end tells more.
    pub(super) fn lost(&self, error: &hyper::Error) -> ClientError {
        let cause = match self.end.get() {
            Some(end) if error.is_canceled() || error.is_closed() => end.clone(),
            _ => with_sources(error),
        };
        ClientError::ConnectionLost { address: self.address.clone(), cause }
    }

    pub(super) fn set_answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    fn lost_status(&self, error: &hyper::Error) -> Status {
        Status::unavailable(self.lost(error).to_string())
    }
}

impl tower_service::Service<Request<Body>> for Connection {
    type Response = Response<ResponseBody>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.requests.poll_ready(cx).map_err(|error| self.peer.lost_status(&error))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let response = self.send(request);
        let peer = Arc::clone(&self.peer);
        Box::pin(async move {
            match response.await {
                Ok(response) => {
                    peer.set_answered();
                    Ok(response.map(|incoming| ResponseBody { incoming, peer }))
                }
                Err(error) => Err(peer.lost_status(&error)),
            }
        })
    }
}

/// The body of a response, whose errors name the broker.
#[derive(Debug)]
pub struct ResponseBody {
    incoming: Incoming,
    peer: Arc<Peer>,
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        frame.map_err(|error| self.peer.lost_status(&error))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
