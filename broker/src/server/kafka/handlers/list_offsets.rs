//! ListOffsets: the two ends, and records by time. The time a client gives it is not used: nothing here
//! waits for another store.

use proto::kafka::Str;
use proto::kafka::messages::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use proto::{ErrorCode, LeaderEpoch};

use super::{Context, by_name, code};
use crate::api::OffsetAt;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

pub(in super::super) async fn list_offsets(
    context: Context,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            partitions.push(answer(&context, &topic.name, &partition).await);
        }
        topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
    }
    ListOffsetsResponse { topics, ..Default::default() }
}

async fn answer(
    context: &Context,
    topic: &Str,
    asked: &ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let partition_index = asked.partition_index;
    let refused = |error_code| ListOffsetsPartitionResponse {
        partition_index,
        error_code,
        ..Default::default()
    };
    let at = match asked.timestamp {
        LATEST => OffsetAt::Latest,
        EARLIEST => OffsetAt::Earliest,
        MAX_TIMESTAMP if context.version >= 7 => OffsetAt::Newest,
        // All that there is is on the broker's disks, and nothing is elsewhere.
        EARLIEST_LOCAL if context.version >= 8 => OffsetAt::Earliest,
        LATEST_TIERED if context.version >= 9 => {
            return ListOffsetsPartitionResponse { partition_index, ..Default::default() };
        }
        time @ 0.. => OffsetAt::Time(time),
        _ => return refused(ErrorCode::UnsupportedVersion as i16),
    };
    let epoch = LeaderEpoch(asked.current_leader_epoch);
    let found = context.services.api.list_offsets(topic, &[], partition_index, epoch, at).await;
    match found {
        Ok(found) => ListOffsetsPartitionResponse {
            partition_index,
            timestamp: found.timestamp_ms.unwrap_or(-1),
            offset: found.offset.map_or(-1, |offset| offset.0),
            leader_epoch: found.offset.map_or(-1, |_| found.leader_epoch.0),
            ..Default::default()
        },
        Err(refusal) => refused(code(&by_name(refusal))),
    }
}
