//! One peer: HTTP/2 with its bounds, and the watchdog that cuts it off.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use proto::client::BusyPoll;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Services;
use super::block_reader::BlockReader;
use super::dispatch;
use super::roaming_socket::RoamingSocket;
use super::streams::Streams;
use super::watch::{ConnectionWatch, Metered, Verdict, WatchedBody};

/// What a client may send on one stream before we take it.
const STREAM_WINDOW: u32 = 2 << 20;
/// The same over all streams of a connection.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Largest frame we take.
const FRAME_MAX: u32 = 1 << 20;
/// Bytes of answers held for one stream.
const SEND_BUFFER: usize = 4 << 20;
/// Bytes of headers of one request.
const HEADERS_MAX: u32 = 16 << 10;

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Serves a connection until the peer leaves, stalls or a stop is asked for.
pub(crate) async fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    services: Arc<Services>,
    busy_poll: BusyPoll,
    mut stop: watch::Receiver<bool>,
) {
    let connection_watch = ConnectionWatch::new();
    let socket = RoamingSocket::new(socket);
    let metered = Metered { socket, watch: Arc::clone(&connection_watch), busy_poll };
    let io = TokioIo::new(BlockReader::new(metered));
    let service = {
        let (services, connection_watch) = (Arc::clone(&services), Arc::clone(&connection_watch));
        hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            let guard = Arc::new(connection_watch.open_stream());
            let services = Arc::clone(&services);
            async move {
                let response = dispatch::handle(services, request, Arc::clone(&guard)).await;
                Ok::<_, std::convert::Infallible>(response.map(|body| WatchedBody { body, guard }))
            }
        })
    };
    let stalled = services.config.stalled_timeout;
    let mut streams = Streams::default();
    let mut http2 = hyper::server::conn::http2::Builder::new(streams.begun());
    http2
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_MAX)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADERS_MAX)
        .max_concurrent_streams(services.config.max_streams)
        .keep_alive_interval(stalled)
        .keep_alive_timeout(stalled);
    let mut serving = std::pin::pin!(http2.serve_connection(io, service));
    let mut stopping = false;
    let mut dog = std::pin::pin!(watchdog(&connection_watch, &services));
    loop {
        tokio::select! {
            served = poll_fn(|cx| {
                // Before it, what they have to send goes out; behind it, what came is worked on.
                streams.poll(cx);
                let served = serving.as_mut().poll(cx);
                streams.poll(cx);
                served
            }) => {
                if let Err(error) = served {
                    tracing::debug!(%peer, %error, "connection ended");
                }
                return;
            }
            verdict = &mut dog => {
                if verdict == Verdict::Stalled {
                    services.metrics.connections_stalled.one();
                    tracing::info!(%peer, "the peer takes or sends nothing; closing the connection");
                }
                return;
            }
            _ = stop.wait_for(|&stop| stop), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Returns when the connection is to be closed.
async fn watchdog(watch: &ConnectionWatch, services: &Services) -> Verdict {
    const LOOKS: usize = 3;
    let stalled = services.config.stalled_timeout;
    let pause = (stalled / LOOKS as u32).max(Duration::from_millis(10));
    // Bytes written at the last looks, the oldest first: together one stall time.
    let mut written = [0; LOOKS];
    loop {
        tokio::time::sleep(pause).await;
        let now = watch.written();
        let since = now - written[0];
        match watch.judge(watch.now(), stalled, services.config.max_idle, since) {
            Verdict::Fine => {}
            verdict => return verdict,
        }
        written.rotate_left(1);
        written[LOOKS - 1] = now;
    }
}
