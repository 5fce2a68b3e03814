//! A small gRPC server on hyper: metadata as the test sets it, and streams that acknowledge, refuse,
//! stall or misbehave, by path.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::grpc::{Assembler, MESSAGE_LEN_MAX, encode_message, split_payload};
use crate::v1;

/// What the server answers and counts.
#[derive(Default)]
pub(super) struct Behaviour {
    pub(super) metadata: Mutex<v1::MetadataResponse>,
    pub(super) metadata_requests: AtomicUsize,
    pub(super) payload_bytes: AtomicUsize,
    /// Produce streams that ended in another way than by a half-close.
    pub(super) broken_streams: AtomicUsize,
    /// Metadata requests wait for this lock.
    pub(super) stall: tokio::sync::Mutex<()>,
    /// What each metadata stream asked for.
    pub(super) watches: Mutex<Vec<v1::MetadataRequest>>,
    /// Streams push the metadata anew after each change of this.
    pub(super) pushed: watch::Sender<u64>,
    /// Streams give no sign of life and push nothing.
    pub(super) mute: AtomicBool,
    /// Streams are refused.
    pub(super) pushes_nothing: AtomicBool,
}

impl Behaviour {
    /// Changes the metadata and pushes them.
    pub(super) fn push(&self, change: impl FnOnce(&mut v1::MetadataResponse)) {
        change(&mut self.metadata.lock().unwrap());
        self.pushed.send_modify(|pushes| *pushes += 1);
    }
}

pub(super) struct TestServer {
    pub(super) address: SocketAddr,
    listener: AbortHandle,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
}

impl TestServer {
    pub(super) async fn start(behaviour: Arc<Behaviour>) -> Self {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), behaviour).await
    }

    pub(super) async fn start_on(address: SocketAddr, behaviour: Arc<Behaviour>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<Mutex<Vec<AbortHandle>>>::default();
        let opened = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let behaviour = Arc::clone(&behaviour);
                let service = service_fn(move |request| {
                    let behaviour = Arc::clone(&behaviour);
                    async move { Ok::<_, Infallible>(handle(request, behaviour).await) }
                });
                let serving = tokio::spawn(async move {
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .timer(TokioTimer::new())
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
                opened.lock().unwrap().push(serving.abort_handle());
            }
        });
        Self { address, listener: task.abort_handle(), connections }
    }

    /// As a kill would: connections break, the port is closed.
    pub(super) fn stop(&self) {
        self.listener.abort();
        self.break_connections();
    }

    pub(super) fn break_connections(&self) {
        self.connections.lock().unwrap().drain(..).for_each(|task| task.abort());
    }

    pub(super) fn node(&self, id: i32) -> v1::Node {
        let port = u32::from(self.address.port());
        v1::Node { id, host: self.address.ip().to_string(), grpc_port: port, ..Default::default() }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(super) struct ChannelBody(mpsc::Receiver<Frame<Bytes>>);

impl http_body::Body for ChannelBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

fn trailers(status: &'static str) -> Frame<Bytes> {
    let mut map = HeaderMap::new();
    map.insert("grpc-status", HeaderValue::from_static(status));
    Frame::trailers(map)
}

async fn handle(request: Request<Incoming>, behaviour: Arc<Behaviour>) -> Response<ChannelBody> {
    let path = request.uri().path().to_owned();
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert!(request.uri().authority().is_some());
    let (frames, body) = mpsc::channel(16);
    let mut response = Response::new(ChannelBody(body));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    match path.as_str() {
        "/ottla.v1.Log/Metadata" => {
            request.into_body().collect().await.unwrap();
            behaviour.metadata_requests.fetch_add(1, Ordering::SeqCst);
            drop(behaviour.stall.lock().await);
            let answer = encode_message(&*behaviour.metadata.lock().unwrap()).unwrap();
            frames.send(Frame::data(answer)).await.unwrap();
            frames.send(trailers("0")).await.unwrap();
        }
        "/ottla.v1.Log/WatchMetadata" if behaviour.pushes_nothing.load(Ordering::SeqCst) => {
            response.headers_mut().insert("grpc-status", HeaderValue::from_static("12"));
        }
        "/ottla.v1.Log/WatchMetadata" => {
            tokio::spawn(push_metadata(request.into_body(), frames, behaviour));
        }
        "/ottla.v1.Log/ProduceStream" => {
            tokio::spawn(acknowledge(request.into_body(), frames, behaviour));
        }
        "/refuse" => {
            let headers = response.headers_mut();
            headers.insert("grpc-status", HeaderValue::from_static("8"));
            headers.insert("grpc-message", HeaderValue::from_static("too many streams%3A wait"));
        }
        "/not-found" => *response.status_mut() = http::StatusCode::NOT_FOUND,
        "/stall" => {
            tokio::spawn(async move {
                let _unread = request.into_body();
                frames.closed().await;
            });
        }
        "/no-status" => {
            frames.send(Frame::data(Bytes::from_static(&[0, 0, 0, 0, 0]))).await.unwrap();
        }
        "/too-large" => {
            frames.send(Frame::data(Bytes::from_static(&[0, 0x7f, 0, 0, 0]))).await.unwrap();
            tokio::spawn(async move { frames.closed().await });
        }
        other => panic!("unexpected path {other}"),
    }
    response
}

/// Acknowledges every request of a produce stream with its own id.
async fn acknowledge(
    mut body: Incoming,
    frames: mpsc::Sender<Frame<Bytes>>,
    behaviour: Arc<Behaviour>,
) {
    let mut assembler = Assembler::new(MESSAGE_LEN_MAX);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            behaviour.broken_streams.fetch_add(1, Ordering::SeqCst);
            return;
        };
        let Ok(chunk) = frame.into_data() else { continue };
        assembler.push(chunk);
        while let Some(message) = assembler.pop().unwrap() {
            let (head, payload): (v1::ProduceRequest, _) = split_payload(message).unwrap();
            let len: usize = payload.iter().map(Bytes::len).sum();
            behaviour.payload_bytes.fetch_add(len, Ordering::SeqCst);
            let ack = v1::ProduceAck { request_id: head.request_id, ..Default::default() };
            let answer = encode_message(&v1::ProduceResponse { acks: vec![ack] }).unwrap();
            if frames.send(Frame::data(answer)).await.is_err() {
                return;
            }
        }
    }
    let _ = frames.send(trailers("0")).await;
}

/// A stream of metadata: at once, after each push, and signs of life as asked for.
async fn push_metadata(
    body: Incoming,
    frames: mpsc::Sender<Frame<Bytes>>,
    behaviour: Arc<Behaviour>,
) {
    let mut assembler = Assembler::new(MESSAGE_LEN_MAX);
    assembler.push(body.collect().await.unwrap().to_bytes());
    let request: v1::MetadataRequest = assembler.pop().unwrap().unwrap().decode().unwrap();
    let keep_alive = Duration::from_millis(request.keep_alive_ms.into());
    behaviour.watches.lock().unwrap().push(request);
    let mut pushed = behaviour.pushed.subscribe();
    let mut answer = behaviour.metadata.lock().unwrap().clone();
    loop {
        if !behaviour.mute.load(Ordering::SeqCst) {
            let frame = Frame::data(encode_message(&answer).unwrap());
            if frames.send(frame).await.is_err() {
                return;
            }
        }
        answer = tokio::select! {
            _ = pushed.changed() => behaviour.metadata.lock().unwrap().clone(),
            () = tokio::time::sleep(keep_alive) => {
                v1::MetadataResponse { unchanged: true, ..Default::default() }
            }
            () = frames.closed() => return,
        };
    }
}
