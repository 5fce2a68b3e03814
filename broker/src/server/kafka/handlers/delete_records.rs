//! DeleteRecords, of partitions led here.

use std::time::Duration;

use proto::kafka::messages::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};
use proto::{ErrorCode, LeaderEpoch, Offset};

use super::{Context, NONE, code};
use crate::api::{DeleteRecords, DeleteUpTo};

/// All that are committed.
const HIGH_WATERMARK: i64 = -1;

pub(in super::super) async fn delete_records(
    context: Context,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let api = &context.services.api;
    let wait = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let ids: Vec<_> = request.topics.iter().map(|topic| api.topic_id_of(&topic.name)).collect();
    let ids: Vec<_> = ids.into_iter().map(|id| id.map(|id| id.to_bytes())).collect();
    let known =
        request.topics.iter().zip(&ids).filter_map(|(topic, id)| Some((topic, id.as_ref().ok()?)));
    let asked = known.flat_map(|(topic, topic_id)| {
        topic.partitions.iter().map(move |partition| DeleteRecords {
            topic: &topic.name,
            topic_id,
            partition: partition.partition_index,
            leader_epoch: LeaderEpoch::UNKNOWN,
            upto: match partition.offset {
                HIGH_WATERMARK => DeleteUpTo::HighWatermark,
                offset => DeleteUpTo::Offset(Offset(offset)),
            },
        })
    });
    let asked: Vec<_> = asked.collect();
    // All together, so that the replicas are waited for once.
    let mut done = api.delete_records(&asked, wait).await.into_iter();
    let topics = request.topics.iter().zip(&ids).map(|(topic, id)| {
        let partitions = topic.partitions.iter().map(|asked| {
            let done = match id {
                Ok(_) => done.next().map(|done| done.map_err(|refusal| code(&refusal))),
                Err(refusal) => Some(Err(code(refusal))),
            };
            let (low_watermark, error_code) = match done {
                Some(Ok(done)) => (done.low_watermark.0, NONE),
                Some(Err(error_code)) => (-1, error_code),
                None => (-1, ErrorCode::UnknownServerError as i16),
            };
            let partition_index = asked.partition_index;
            DeleteRecordsPartitionResult { partition_index, low_watermark, error_code }
        });
        DeleteRecordsTopicResult { partitions: partitions.collect(), name: topic.name.clone() }
    });
    DeleteRecordsResponse { topics: topics.collect(), ..Default::default() }
}
