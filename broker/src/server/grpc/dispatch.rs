//! Which handler a path goes to.

use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use tonic::Status;

use super::connection::Peer;
use super::fetch::FetchStream;
use super::produce_stream::ProduceStream;
use super::requests::Requests;
use super::watch::StreamGuard;
use super::{
    ResponseBody, Services, admin_proxy, broker_control, coordinated, describe_logs, group_offsets,
    log_service, membership, metadata, produce, wire,
};

const LOG: &str = "/ottla.v1.Log/";
const ADMIN: &str = "/ottla.v1.Admin/";
const GROUPS: &str = "/ottla.v1.Groups/";
const CONTROL: &str = "/ottla.v1.BrokerControl/";

/// Answers one request.
pub(super) async fn handle(
    services: Arc<Services>,
    request: http::Request<Incoming>,
    guard: Arc<StreamGuard>,
) -> http::Response<ResponseBody> {
    services.metrics.requests.one();
    if let Err(status) = check(&request) {
        return wire::refused(status);
    }
    let path = request.uri().path().to_owned();
    let answered = if let Some(method) = path.strip_prefix(LOG) {
        log(services, method, request.into_body(), guard).await
    } else if path.starts_with(ADMIN) {
        admin_proxy::forward(&services, request, guard).await
    } else if let Some(method) = path.strip_prefix(GROUPS) {
        groups(services, method, request, guard).await
    } else if path == format!("{CONTROL}UpdateCluster") {
        broker_control::update_cluster(&services, request.into_body(), guard).await
    } else if path == format!("{CONTROL}DescribeLogs") {
        describe_logs::answer(&services, request.into_body(), guard).await
    } else {
        Err(unknown(&path))
    };
    answered.unwrap_or_else(wire::refused)
}

async fn log(
    services: Arc<Services>,
    method: &str,
    body: Incoming,
    guard: Arc<StreamGuard>,
) -> Result<http::Response<ResponseBody>, Status> {
    match method {
        "ProduceStream" => {
            let max = services.config.request_max_bytes;
            let requests = Requests::counted(body, guard, max, Arc::clone(&services.budget));
            Ok(wire::answer(ProduceStream::new(requests, services).boxed_unsync()))
        }
        "Fetch" => {
            let requests = Requests::small(body, guard);
            Ok(wire::answer(FetchStream::new(requests, services).boxed_unsync()))
        }
        "Produce" => produce::unary(body, services, guard).await,
        "ListOffsets" => log_service::list_offsets(&services, body, guard).await,
        "DeleteRecords" => log_service::delete_records(&services, body, guard).await,
        "Metadata" => metadata::metadata(&services, body, guard).await,
        "WatchMetadata" => metadata::watch_metadata(services, body, guard).await,
        "InitProducerId" => log_service::init_producer_id(&services, body, guard).await,
        other => Err(unknown(other)),
    }
}

async fn groups(
    services: Arc<Services>,
    method: &str,
    request: http::Request<Incoming>,
    guard: Arc<StreamGuard>,
) -> Result<http::Response<ResponseBody>, Status> {
    let host = request.extensions().get::<Peer>().map(|peer| format!("/{}", peer.0.ip()));
    let body = Requests::small(request.into_body(), guard);
    match method {
        "FindCoordinator" => membership::find_coordinator(&services, body).await,
        "Join" => membership::join(&services, body, &host.unwrap_or_default()).await,
        "Sync" => membership::sync(&services, body).await,
        "Heartbeat" => membership::heartbeat(&services, body).await,
        "Leave" => membership::leave(&services, body).await,
        "CommitOffsets" => group_offsets::commit(&services, body).await,
        "FetchOffsets" => group_offsets::fetch(&services, body).await,
        "List" => coordinated::list(&services, body).await,
        "Describe" => coordinated::describe(&services, body).await,
        "Delete" => coordinated::delete(&services, body).await,
        other => Err(unknown(other)),
    }
}

/// A gRPC call is a POST with a gRPC content type.
fn check(request: &http::Request<Incoming>) -> Result<(), Status> {
    let kind = request.headers().get(http::header::CONTENT_TYPE);
    let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if request.method() != http::Method::POST || !is_grpc {
        return Err(Status::invalid_argument(
            "this is not a gRPC call: a POST with content-type application/grpc is expected on this \
             port; metrics and health are on the HTTP port (listen.http)",
        ));
    }
    Ok(())
}

fn unknown(method: &str) -> Status {
    let short: String = method.chars().take(100).collect();
    Status::unimplemented(format!(
        "this broker has no method {short:?}; the client may be newer than the broker"
    ))
}
