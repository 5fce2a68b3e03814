//! OffsetForLeaderEpoch: where a client that has seen an epoch finds its end.

use proto::LeaderEpoch;
use proto::kafka::messages::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartitionResult,
    OffsetForLeaderTopicResult,
};

use super::{Context, code};

pub(in super::super) async fn offset_for_leader_epoch(
    context: Context,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let api = &context.services.api;
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let (current, wanted) =
                (LeaderEpoch(asked.current_leader_epoch), LeaderEpoch(asked.leader_epoch));
            let partition = asked.partition;
            let result = OffsetForLeaderPartitionResult { partition, ..Default::default() };
            match api.end_of_epoch(&topic.topic, partition, current, wanted) {
                Ok(None) => result,
                Ok(Some((epoch, end))) => OffsetForLeaderPartitionResult {
                    leader_epoch: epoch.0,
                    end_offset: end.0,
                    ..result
                },
                Err(refusal) => {
                    OffsetForLeaderPartitionResult { error_code: code(&refusal), ..result }
                }
            }
        });
        OffsetForLeaderTopicResult { partitions: partitions.collect(), topic: topic.topic }
    });
    OffsetForLeaderEpochResponse { topics: topics.collect(), ..Default::default() }
}
