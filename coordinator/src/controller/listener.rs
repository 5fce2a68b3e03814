//! The HTTP/2 port of the Admin service, and of what brokers tell the controller.
//!
//! A connection costs one task; above the limit new ones are closed at once. One that does not answer
//! pings is closed. Requests are small (topics, not records), so the bounds are tight.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use proto::v1::admin_server::AdminServer;
use proto::v1::controller_server::ControllerServer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tonic::codegen::Service;

use super::service::AdminService;

/// A request may have so many bytes.
const REQUEST_BYTES_MAX: usize = 4 << 20;
/// Calls of one connection at once.
const STREAMS_MAX: u32 = 64;
const HEADER_BYTES_MAX: u32 = 16 << 10;
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that has not begun to speak HTTP/2 after so long is closed.
const PREFACE_MAX: Duration = Duration::from_secs(10);
/// What brokers tell; all else is administration.
const OF_BROKERS: &str = "/ottla.v1.Controller/";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PREFACE_PAUSE: Duration = Duration::from_millis(10);
/// After the system refused a connection, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, service: AdminService, max_connections: usize) {
    let free = Arc::new(Semaphore::new(max_connections));
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        // Those that ended are forgotten as they end.
        while tasks.try_join_next().is_some() {}
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&free).try_acquire_owned() else {
            tracing::warn!(%peer, max_connections, "connection refused: too many are open");
            continue;
        };
        let service = service.clone();
        tasks.spawn(async move {
            if !speaks_http2(&socket).await {
                tracing::debug!(%peer, "connection closed: it does not speak HTTP/2");
            } else if let Err(error) = connection(socket, service).await {
                tracing::debug!(%peer, %error, "connection ended");
            }
            drop(permit);
        });
    }
}

/// Waits for the preface without taking it: pings only begin after it.
async fn speaks_http2(socket: &TcpStream) -> bool {
    let mut seen = [0; PREFACE.len()];
    let whole = async {
        loop {
            match socket.peek(&mut seen).await {
                Ok(n) if n > 0 && seen[..n] == PREFACE[..n] => {
                    if n == PREFACE.len() {
                        return true;
                    }
                }
                _ => return false,
            }
            tokio::time::sleep(PREFACE_PAUSE).await;
        }
    };
    tokio::time::timeout(PREFACE_MAX, whole).await.unwrap_or(false)
}

async fn connection(socket: TcpStream, service: AdminService) -> Result<(), hyper::Error> {
    // Only latency is lost where it cannot be set.
    let _ = socket.set_nodelay(true);
    let admin = AdminServer::new(service.clone()).max_decoding_message_size(REQUEST_BYTES_MAX);
    let brokers = ControllerServer::new(service).max_decoding_message_size(REQUEST_BYTES_MAX);
    let calls = service_fn(move |request: hyper::Request<Incoming>| {
        let (mut admin, mut brokers) = (admin.clone(), brokers.clone());
        async move {
            Ok::<_, Infallible>(match request.uri().path().starts_with(OF_BROKERS) {
                true => call(&mut brokers, request).await,
                false => call(&mut admin, request).await,
            })
        }
    });
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(socket), calls)
        .await
}

async fn call<S>(
    server: &mut S,
    request: hyper::Request<Incoming>,
) -> hyper::Response<tonic::body::Body>
where
    S: Service<
            hyper::Request<Incoming>,
            Response = hyper::Response<tonic::body::Body>,
            Error = Infallible,
        >,
{
    match server.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
