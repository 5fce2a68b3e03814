//! Accepting and answering.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::metrics;
use crate::groups::{Groups, Report};
use crate::metrics::Metrics;
use crate::replication::PartitionSet;

/// Connections at one time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;
/// A peer that has not sent a whole request by then is cut off.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// The longest a connection lives.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);
/// Bytes of headers of one request.
const HEADERS_MAX: usize = 16 << 10;

/// How long the coordinator of groups may take to tell of them.
const GROUPS_WITHIN: Duration = Duration::from_secs(1);

/// What the pages are made from.
pub(crate) struct Pages {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) partitions: Arc<PartitionSet>,
    /// Set once groups are coordinated here.
    pub(crate) groups: OnceLock<Groups>,
    /// Set while this broker is registered and serves.
    pub(crate) ready: AtomicBool,
}

/// Serves until a stop is asked for.
pub(crate) async fn serve(
    listener: TcpListener,
    pages: Arc<Pages>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|&stop| stop) => return,
        };
        let Ok((socket, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let pages = Arc::clone(&pages);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let pages = Arc::clone(&pages);
                async move {
                    let (method, path) = (request.method(), request.uri().path());
                    Ok::<_, Infallible>(answer(&pages, method, path).await)
                }
            });
            let serving = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS_WITHIN)
                .max_buf_size(HEADERS_MAX)
                .serve_connection(TokioIo::new(socket), service);
            // A peer that leaves or dawdles is no news.
            let _ = tokio::time::timeout(CONNECTION_LIFE, serving).await;
            drop(place);
        });
    }
}

async fn answer(pages: &Pages, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n".to_owned());
    }
    match path {
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" if pages.ready.load(Ordering::Relaxed) => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => {
            text(StatusCode::SERVICE_UNAVAILABLE, "not registered yet, or stopping\n".to_owned())
        }
        "/metrics" => {
            let groups = report(pages).await;
            let page = metrics::render(&pages.metrics, &pages.partitions, groups.as_ref());
            text(StatusCode::OK, page)
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "pages: /metrics /healthz /readyz; gRPC is on another port (listen.grpc)\n".to_owned(),
        ),
    }
}

/// What the coordinator of groups tells; nothing where it is too busy: the rest is shown all the same.
async fn report(pages: &Pages) -> Option<Report> {
    let groups = pages.groups.get()?;
    tokio::time::timeout(GROUPS_WITHIN, groups.report()).await.ok()?.ok()
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
