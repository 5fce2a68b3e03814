//! OffsetFetch: what groups have committed. What was never committed is -1 and no error.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use proto::TopicPartition;
use proto::kafka::Str;
use proto::kafka::messages::{
    OffsetFetchRequest, OffsetFetchRequestTopic, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};

use super::{Context, NONE, group_code};
use crate::api::groups::{CommittedOffset, GroupError, Wanted};

/// From here on a request names several groups.
const SEVERAL: i16 = 8;
/// From here on an answer has a place for an error of all.
const HAS_ERROR: i16 = 2;

pub(in super::super) async fn offset_fetch(
    context: Context,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let mut answer = OffsetFetchResponse::default();
    if context.version >= SEVERAL {
        // Each once: an answer is far longer than its question.
        let mut seen = HashSet::new();
        let groups = request.groups.into_iter();
        for group in groups.filter(|group| seen.insert(Arc::clone(&group.group_id))) {
            let of = fetch(&context, &group.group_id, group.topics).await;
            answer.groups.push(match of {
                Ok(topics) => {
                    OffsetFetchResponseGroup { group_id: group.group_id, topics, error_code: NONE }
                }
                Err((error, _)) => OffsetFetchResponseGroup {
                    group_id: group.group_id,
                    topics: Vec::new(),
                    error_code: group_code(error),
                },
            });
        }
        return answer;
    }
    match fetch(&context, &request.group_id, request.topics).await {
        Ok(topics) => answer.topics = topics,
        Err((error, asked)) => {
            answer.error_code = group_code(error);
            if context.version < HAS_ERROR {
                answer.topics = refused(asked, answer.error_code);
            }
        }
    }
    answer
}

type Asked = Vec<OffsetFetchRequestTopic>;

async fn fetch(
    context: &Context,
    group: &Str,
    topics: Option<Asked>,
) -> Result<Vec<OffsetFetchResponseTopic>, (GroupError, Asked)> {
    let wanted = match &topics {
        None => Wanted::All,
        Some(topics) => {
            let names = topics.iter().flat_map(|topic| {
                let of = |&partition: &i32| TopicPartition::new(Arc::clone(&topic.name), partition);
                topic.partition_indexes.iter().map(of)
            });
            // So is each partition's: it has metadata that its client chose.
            let mut seen = HashSet::new();
            Wanted::These(names.filter(|name| seen.insert(name.clone())).collect())
        }
    };
    let asked = || topics.clone().unwrap_or_default();
    let groups = context.services.api.groups().map_err(|error| (error, asked()))?;
    let found = groups.fetch_offsets(Arc::clone(group), wanted).await;
    let found = found.map_err(|error| (error, asked()))?;
    let mut by_topic: BTreeMap<Str, Vec<OffsetFetchResponsePartition>> = BTreeMap::new();
    for (name, committed) in found {
        // Of all, only what is committed is told.
        if topics.is_some() || committed.is_some() {
            let answer = partition(name.partition, committed.as_ref());
            by_topic.entry(name.topic).or_default().push(answer);
        }
    }
    let topic = |(name, partitions)| OffsetFetchResponseTopic { name, partitions };
    Ok(by_topic.into_iter().map(topic).collect())
}

fn partition(
    partition_index: i32,
    committed: Option<&CommittedOffset>,
) -> OffsetFetchResponsePartition {
    let metadata = committed.map_or_else(|| "".into(), |told| Arc::clone(&told.metadata));
    OffsetFetchResponsePartition {
        partition_index,
        committed_offset: committed.map_or(-1, |told| told.offset.0),
        committed_leader_epoch: committed.map_or(-1, |told| told.leader_epoch.0),
        metadata: Some(metadata),
        error_code: NONE,
    }
}

fn refused(asked: Asked, error_code: i16) -> Vec<OffsetFetchResponseTopic> {
    let topic = |topic: OffsetFetchRequestTopic| {
        let of =
            |&index: &i32| OffsetFetchResponsePartition { error_code, ..partition(index, None) };
        let partitions = topic.partition_indexes.iter().map(of).collect();
        OffsetFetchResponseTopic { name: topic.name, partitions }
    };
    asked.into_iter().map(topic).collect()
}
