//! `Admin` calls: forwarded to the controller as they lie, and its answer returned as it lies.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tonic::Status;

use super::requests::SMALL_REQUEST_MAX;
use super::watch::StreamGuard;
use super::{ResponseBody, Services};
use crate::cluster::controller_link::AdminCall;

/// Forwards one call.
pub(super) async fn forward(
    services: &Services,
    request: http::Request<Incoming>,
    guard: Arc<StreamGuard>,
) -> Result<http::Response<ResponseBody>, Status> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().cloned();
    let path = path.ok_or_else(|| Status::invalid_argument("the call has no path"))?;
    guard.keep_awaiting_peer();
    let body: Bytes = match Limited::new(body, SMALL_REQUEST_MAX).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => {
            return Err(Status::resource_exhausted(format!(
                "the request cannot be forwarded ({error}); at most {SMALL_REQUEST_MAX} bytes are \
                 taken"
            )));
        }
    };
    guard.peer_moved();
    let call = AdminCall { path, headers: parts.headers, body };
    let response = services.controller.forward(call).await?;
    Ok(response.map(BodyExt::boxed_unsync))
}
