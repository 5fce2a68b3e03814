//! OffsetCommit: answered when every in-sync replica has the offsets.

use std::time::Duration;

use proto::kafka::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use proto::{LeaderEpoch, Offset, TopicPartition};

use super::{Context, NONE, group_code};
use crate::api::groups::{Caller, Commit, CommitRequest};

/// From here on clients know that a group may not be there.
const KNOWS_MISSING_GROUPS: i16 = 9;

pub(in super::super) async fn offset_commit(
    context: Context,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let mut commits = Vec::new();
    let mut answer = OffsetCommitResponse::default();
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for one in topic.partitions {
            let partition_index = one.partition_index;
            partitions.push(OffsetCommitResponsePartition { partition_index, error_code: NONE });
            commits.push(Commit {
                partition: TopicPartition::new(topic.name.clone(), partition_index),
                topic_id: None,
                offset: Offset(one.committed_offset),
                leader_epoch: LeaderEpoch(one.committed_leader_epoch),
                metadata: one.committed_metadata.unwrap_or_else(|| "".into()),
            });
        }
        answer.topics.push(OffsetCommitResponseTopic { name: topic.name, partitions });
    }
    let retention = u64::try_from(request.retention_time_ms).ok().map(Duration::from_millis);
    let asked = CommitRequest {
        caller: Caller {
            member_id: request.member_id,
            instance: request.group_instance_id,
            generation: request.generation_id_or_member_epoch,
        },
        retention,
        knows_missing_groups: context.version >= KNOWS_MISSING_GROUPS,
        commits,
    };
    let outcomes = match context.services.api.groups() {
        Ok(groups) => groups.commit(request.group_id, asked).await,
        Err(error) => Err(error),
    };
    // The answer has no place for an error of all: every item has it.
    let mut codes = match &outcomes {
        Ok(outcomes) => outcomes.iter().copied(),
        Err(_) => [].iter().copied(),
    };
    for partition in answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        let outcome = match &outcomes {
            Err(error) => Err(*error),
            Ok(_) => codes.next().unwrap_or(Ok(())),
        };
        partition.error_code = outcome.map_or_else(group_code, |()| NONE);
    }
    answer
}
