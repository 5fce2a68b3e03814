//! The one place where domain types and errors become messages and gRPC statuses.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use proto::grpc::{self, FrameError};
use proto::v1;
use tonic::{Code, Status};

use super::ResponseBody;
use crate::api::Refusal;
use crate::api::groups::GroupError;

/// Media type of every response.
pub(crate) const GRPC: http::HeaderValue = http::HeaderValue::from_static("application/grpc");

/// An item's refusal as messages carry it.
pub(crate) fn error(refusal: &Refusal) -> v1::Error {
    refusal.code.to_message(refusal.message.clone(), refusal.remedy.clone())
}

/// What a coordinator refuses with, as messages carry it.
pub(crate) fn group_error(error: GroupError) -> v1::Error {
    tracing::debug!(code = ?error.code(), %error, "refused");
    error.code().to_message(error.to_string(), "")
}

/// A broken frame as the status that ends the call.
pub(crate) fn frame_status(error: &FrameError) -> Status {
    let code = match error {
        FrameError::TooLarge { .. } => Code::ResourceExhausted,
        FrameError::Compressed => Code::Unimplemented,
        FrameError::Truncated { .. } | FrameError::NotGrpc(_) | FrameError::Malformed(_) => {
            Code::InvalidArgument
        }
    };
    Status::new(code, error.to_string())
}

/// A refused call: headers only.
pub(crate) fn refused(status: Status) -> http::Response<ResponseBody> {
    status.into_http::<tonic::body::Body>().map(BodyExt::boxed_unsync)
}

/// The headers of an answer, with its body.
pub(crate) fn answer(body: ResponseBody) -> http::Response<ResponseBody> {
    let mut response = http::Response::new(body);
    response.headers_mut().insert(http::header::CONTENT_TYPE, GRPC);
    response
}

/// The trailers that end a call.
pub(crate) fn trailers(status: &Status) -> http::HeaderMap {
    let mut map = http::HeaderMap::with_capacity(2);
    if status.add_header(&mut map).is_err() {
        // The text was not fit for a header; the code always is.
        map.insert("grpc-status", http::HeaderValue::from(status.code() as u16));
    }
    map
}

/// One message and success.
pub(crate) fn answer_message(message: &impl prost::Message) -> http::Response<ResponseBody> {
    match grpc::encode_message(message) {
        Ok(bytes) => answer(message_body(bytes)),
        Err(error) => refused(Status::internal(format!("the answer cannot be sent: {error}"))),
    }
}

fn message_body(bytes: Bytes) -> ResponseBody {
    Full::new(bytes)
        .with_trailers(async { Some(Ok(trailers(&Status::ok("")))) })
        .map_err(|never| match never {})
        .boxed_unsync()
}
