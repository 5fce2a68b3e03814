//! The small calls of `Log`: one message in, one out.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use proto::{LeaderEpoch, Offset, v1};
use tonic::Status;

use super::requests::Requests;
use super::watch::StreamGuard;
use super::{ResponseBody, Services, wire};
use crate::api::{DeleteRecords, DeleteUpTo, OffsetAt, Refusal};

pub(super) type Answer = Result<http::Response<ResponseBody>, Status>;

/// Queries, or topics, of one request.
const ITEMS_MAX: usize = 100_000;

/// Replicas are waited for when records are deleted.
const DELETE_WAIT: Duration = Duration::from_secs(10);

/// `ListOffsets`.
pub(super) async fn list_offsets(
    services: &Services,
    body: Incoming,
    guard: Arc<StreamGuard>,
) -> Answer {
    let request: v1::ListOffsetsRequest = Requests::small(body, guard).only().await?;
    bounded(request.queries.len(), "queries")?;
    let mut answers = Vec::with_capacity(request.queries.len());
    for query in request.queries {
        let at = match query.timestamp_ms {
            -1 => Ok(OffsetAt::Latest),
            -2 => Ok(OffsetAt::Earliest),
            time if time >= 0 => Ok(OffsetAt::Time(time)),
            other => Err(Refusal::invalid_request(format!(
                "timestamp_ms is {other}; a time, -1 (latest) or -2 (earliest) is expected"
            ))),
        };
        let found = match at {
            Ok(at) => {
                let api = &services.api;
                let (topic, id) = (&query.topic, &query.topic_id);
                api.list_offsets(topic, id, query.partition, LeaderEpoch::UNKNOWN, at).await
            }
            Err(refusal) => Err(refusal),
        };
        answers.push(match found {
            Ok(found) => v1::OffsetAnswer {
                error: None,
                offset: found.offset.map_or(-1, |offset| offset.0),
                timestamp_ms: found.timestamp_ms.unwrap_or(-1),
                leader_epoch: found.leader_epoch.0,
            },
            Err(refusal) => v1::OffsetAnswer {
                error: Some(wire::error(&refusal)),
                offset: -1,
                timestamp_ms: -1,
                leader_epoch: -1,
            },
        });
    }
    Ok(wire::answer_message(&v1::ListOffsetsResponse { answers }))
}

/// `DeleteRecords`.
pub(super) async fn delete_records(
    services: &Services,
    body: Incoming,
    guard: Arc<StreamGuard>,
) -> Answer {
    let request: v1::DeleteRecordsRequest = Requests::small(body, guard).only().await?;
    bounded(request.partitions.len(), "partitions")?;
    let asked = request.partitions.iter().map(|asked| DeleteRecords {
        topic: &asked.topic,
        topic_id: &asked.topic_id,
        partition: asked.partition,
        leader_epoch: LeaderEpoch(asked.leader_epoch),
        upto: match asked.offset {
            -1 => DeleteUpTo::HighWatermark,
            offset => DeleteUpTo::Offset(Offset(offset)),
        },
    });
    let wait = match request.timeout_ms {
        0 => DELETE_WAIT,
        timeout_ms => Duration::from_millis(timeout_ms.into()),
    };
    let answers = services.api.delete_records(&asked.collect::<Vec<_>>(), wait).await;
    let results = answers.into_iter().map(|answer| match answer {
        Ok(done) => v1::DeletedRecords {
            error: None,
            low_watermark: done.low_watermark.0,
            leader_epoch: done.leader_epoch.0,
        },
        Err(refusal) => v1::DeletedRecords {
            error: Some(wire::error(&refusal)),
            low_watermark: -1,
            leader_epoch: -1,
        },
    });
    Ok(wire::answer_message(&v1::DeleteRecordsResponse { results: results.collect() }))
}

/// `InitProducerId`.
pub(super) async fn init_producer_id(
    services: &Services,
    body: Incoming,
    guard: Arc<StreamGuard>,
) -> Answer {
    let request: v1::InitProducerIdRequest = Requests::small(body, guard).only().await?;
    let response = match services.api.init_producer_id(&request.client_id).await {
        Ok(producer_id) => {
            v1::InitProducerIdResponse { error: None, producer_id, producer_epoch: 0 }
        }
        Err(refusal) => v1::InitProducerIdResponse {
            error: Some(wire::error(&refusal)),
            producer_id: -1,
            producer_epoch: -1,
        },
    };
    Ok(wire::answer_message(&response))
}

pub(super) fn bounded(items: usize, what: &str) -> Result<(), Status> {
    if items > ITEMS_MAX {
        return Err(Status::invalid_argument(format!(
            "{items} {what} in one request, at most {ITEMS_MAX} are taken; divide it"
        )));
    }
    Ok(())
}
