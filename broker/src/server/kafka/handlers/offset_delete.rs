//! OffsetDelete: offsets of topics that no member reads are forgotten.

use proto::TopicPartition;
use proto::kafka::messages::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};

use super::{Context, NONE, group_code};

pub(in super::super) async fn offset_delete(
    context: Context,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let mut names = Vec::new();
    let mut answer = OffsetDeleteResponse::default();
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition_index in topic.partitions.iter().map(|one| one.partition_index) {
            partitions.push(OffsetDeleteResponsePartition { partition_index, error_code: NONE });
            names.push(TopicPartition::new(topic.name.clone(), partition_index));
        }
        answer.topics.push(OffsetDeleteResponseTopic { name: topic.name, partitions });
    }
    let outcomes = match context.services.api.groups() {
        Ok(groups) => groups.delete_offsets(request.group_id, names).await,
        Err(error) => Err(error),
    };
    match outcomes {
        Err(error) => OffsetDeleteResponse { error_code: group_code(error), ..Default::default() },
        Ok(outcomes) => {
            let partitions = answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            for (partition, outcome) in partitions.zip(outcomes) {
                partition.error_code = outcome.map_or_else(group_code, |()| NONE);
            }
            answer
        }
    }
}
