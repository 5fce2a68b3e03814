//! DeleteRecords, of partitions led here.

use proto::kafka::messages::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};
use proto::{LeaderEpoch, Offset};

use super::{Context, NONE, code};
use crate::api::{DeleteRecords, DeleteUpTo};

/// All that are committed.
const HIGH_WATERMARK: i64 = -1;

pub(in super::super) async fn delete_records(
    context: Context,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let api = &context.services.api;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let id = api.topic_id_of(&topic.name).map(|id| id.to_bytes());
        let done = match &id {
            Ok(topic_id) => {
                let asked = topic.partitions.iter().map(|partition| DeleteRecords {
                    topic: &topic.name,
                    topic_id,
                    partition: partition.partition_index,
                    leader_epoch: LeaderEpoch::UNKNOWN,
                    upto: match partition.offset {
                        HIGH_WATERMARK => DeleteUpTo::HighWatermark,
                        offset => DeleteUpTo::Offset(Offset(offset)),
                    },
                });
                api.delete_records(&asked.collect::<Vec<_>>()).await
            }
            Err(refusal) => topic.partitions.iter().map(|_| Err(refusal.clone())).collect(),
        };
        let partitions = topic.partitions.iter().zip(done).map(|(asked, done)| {
            let (low_watermark, error_code) = match done {
                Ok(done) => (done.low_watermark.0, NONE),
                Err(refusal) => (-1, code(&refusal)),
            };
            let partition_index = asked.partition_index;
            DeleteRecordsPartitionResult { partition_index, low_watermark, error_code }
        });
        let partitions = partitions.collect();
        topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
    }
    DeleteRecordsResponse { topics, ..Default::default() }
}
