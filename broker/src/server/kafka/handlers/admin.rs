//! Requests that are the controller's affair: asked of it in the words of the Admin service.

use proto::v1;
use tonic::Status;

use super::Context;
use proto::ErrorCode;
use proto::kafka::Str;

/// What an item of an answer says of an error: its number and its words.
pub(super) fn outcome(error: Option<v1::Error>) -> (i16, Option<Str>) {
    match error {
        None => (super::NONE, None),
        Some(error) => (ErrorCode::from_code(error.code) as i16, Some(words(&error))),
    }
}

/// The words of an error, with what to do about it.
fn words(error: &v1::Error) -> Str {
    match error.remedy.as_str() {
        "" => error.message.as_str().into(),
        remedy => format!("{}; {remedy}", error.message).into(),
    }
}

/// Asks the controller. Where it cannot be reached every item of the request gets the error that has
/// clients try again.
pub(super) async fn ask<Q, A>(
    context: &Context,
    method: &'static str,
    request: &Q,
) -> Result<A, v1::Error>
where
    Q: prost::Message,
    A: prost::Message + Default,
{
    let asked = context.services.controller.admin(method, request).await;
    asked.map_err(|status| unanswered(&status))
}

fn unanswered(status: &Status) -> v1::Error {
    let code = match status.code() {
        tonic::Code::InvalidArgument => ErrorCode::InvalidRequest,
        tonic::Code::ResourceExhausted => ErrorCode::PolicyViolation,
        _ => ErrorCode::RequestTimedOut,
    };
    code.to_message(status.message(), "")
}

/// A number that tells this request from any other.
pub(super) fn request_id() -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(uuid::Uuid::new_v4().as_bytes())
}
