//! What unary `Produce` and `ProduceStream` share: the request from its chunks, the
//! acknowledgement, the time-out. And unary `Produce` itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Incoming;
use proto::grpc::{self, FrameError, Message};
use proto::{LeaderEpoch, v1};
use tonic::Status;

use super::requests::Requests;
use super::watch::StreamGuard;
use super::{ResponseBody, Services, wire};
use crate::api::{Produce, Produced, Refusal};
use crate::replication::RequiredAcks;

/// Batches in flight that a client which names no number is given, as Kafka clients have it.
const MAX_IN_FLIGHT_DEFAULT: u32 = 5;

/// Divides a message into the request and its records, uncopied.
pub(super) fn decode(message: Message) -> Result<(v1::ProduceRequest, Vec<Bytes>), FrameError> {
    grpc::split_payload(message)
}

/// The request in domain types.
pub(super) fn request(
    head: &v1::ProduceRequest,
    records: Vec<Bytes>,
    due: Instant,
    hold: Option<Box<dyn Send>>,
) -> Produce<'_> {
    Produce {
        topic: &head.topic,
        topic_id: &head.topic_id,
        partition: head.partition,
        leader_epoch: LeaderEpoch(head.leader_epoch),
        max_in_flight: match head.max_in_flight {
            0 => MAX_IN_FLIGHT_DEFAULT,
            number => number,
        },
        acks: match head.acks() {
            v1::Acks::Leader => RequiredAcks::Leader,
            v1::Acks::None => RequiredAcks::None,
            v1::Acks::All => RequiredAcks::All,
        },
        due,
        records,
        hold,
    }
}

/// How long the request may wait for its acknowledgement.
pub(super) fn timeout(head: &v1::ProduceRequest, services: &Services) -> Duration {
    match head.timeout_ms {
        0 => services.api.limits().timeout,
        ms => Duration::from_millis(ms.into()),
    }
}

/// The refusal of a request that was appended and not acknowledged in time.
pub(super) fn timed_out() -> Refusal {
    crate::api::timed_out(
        "the records were not flushed to disk, or not replicated, within the request's time; \
         whether they will be is not known",
    )
}

/// The acknowledgement of a request.
pub(super) fn ack(request_id: u64, outcome: Result<Produced, Refusal>) -> v1::ProduceAck {
    match outcome {
        Ok(done) => v1::ProduceAck {
            request_id,
            error: None,
            base_offset: done.base_offset.map_or(-1, |offset| offset.0),
            log_append_time_ms: done.log_append_time_ms.unwrap_or(-1),
            log_start_offset: done.log_start.0,
            leader_epoch: done.leader_epoch.0,
        },
        Err(refusal) => v1::ProduceAck {
            request_id,
            error: Some(wire::error(&refusal)),
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            leader_epoch: -1,
        },
    }
}

/// Unary `Produce`.
pub(super) async fn unary(
    body: Incoming,
    services: Arc<Services>,
    guard: Arc<StreamGuard>,
) -> Result<http::Response<ResponseBody>, Status> {
    let budget = Arc::clone(&services.budget);
    let mut requests = Requests::counted(body, guard, services.config.request_max_bytes, budget);
    let (message, hold) = requests.first().await?;
    let (head, records) = decode(message).map_err(|error| wire::frame_status(&error))?;
    let wait = timeout(&head, &services);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let done = move |outcome| {
        let _ = sender.send(outcome);
    };
    let due = Instant::now() + wait;
    let produce = request(&head, records, due, hold.map(|hold| Box::new(hold) as Box<dyn Send>));
    if let Some(partition) = services.api.produce(produce, done) {
        partition.drive();
    }
    requests.end().await?;
    if head.acks() == v1::Acks::None {
        let unknown = Produced::unacknowledged();
        return Ok(wire::answer_message(&ack(head.request_id, Ok(unknown))));
    }
    let outcome = match tokio::time::timeout_at(due.into(), receiver).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) | Err(_) => Err(timed_out()),
    };
    Ok(wire::answer_message(&ack(head.request_id, outcome)))
}
