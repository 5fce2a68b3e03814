//! AlterPartitionReassignments and ListPartitionReassignments: forwarded.

use std::collections::HashSet;

use proto::kafka::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment, OngoingTopicReassignment, ReassignablePartitionResponse,
    ReassignableTopicResponse,
};
use proto::v1;

use super::{Context, admin};

pub(in super::super) async fn alter(
    context: Context,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let partitions = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| v1::PartitionReassignment {
            topic: topic.name.to_string(),
            partition: partition.partition_index,
            target: partition.replicas.clone().map(|brokers| v1::Replicas { brokers }),
        })
    });
    let message = v1::AlterPartitionReassignmentsRequest {
        request_id: admin::request_id(),
        partitions: partitions.collect(),
        throttle: 0,
    };
    let answer = admin::ask::<_, v1::AlterPartitionReassignmentsResponse>(
        &context,
        "AlterPartitionReassignments",
        &message,
    );
    let mut results = match answer.await {
        Ok(answer) => answer.results.into_iter(),
        Err(error) => {
            let (error_code, error_message) = admin::outcome(Some(error));
            let none = AlterPartitionReassignmentsResponse::default();
            return AlterPartitionReassignmentsResponse { error_code, error_message, ..none };
        }
    };
    let responses = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let error = results.next().and_then(|result| result.error);
            let (error_code, error_message) = admin::outcome(error);
            let partition_index = partition.partition_index;
            ReassignablePartitionResponse { partition_index, error_code, error_message }
        });
        ReassignableTopicResponse { partitions: partitions.collect(), name: topic.name }
    });
    let responses = responses.collect();
    AlterPartitionReassignmentsResponse { responses, ..Default::default() }
}

pub(in super::super) async fn list(
    context: Context,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let named = request.topics;
    let topics = named.iter().flatten().map(|topic| topic.name.to_string()).collect();
    let message = v1::ListPartitionReassignmentsRequest { topics, with_progress: false };
    let answer = admin::ask::<_, v1::ListPartitionReassignmentsResponse>(
        &context,
        "ListPartitionReassignments",
        &message,
    );
    let ongoing = match answer.await {
        Ok(answer) => answer.reassignments,
        Err(error) => {
            let (error_code, error_message) = admin::outcome(Some(error));
            let none = ListPartitionReassignmentsResponse::default();
            return ListPartitionReassignmentsResponse { error_code, error_message, ..none };
        }
    };
    let wanted: Option<HashSet<(&str, i32)>> = named.as_ref().map(|named| {
        let each = named.iter();
        each.flat_map(|of| of.partition_indexes.iter().map(|&number| (&*of.name, number))).collect()
    });
    let mut topics: Vec<OngoingTopicReassignment> = Vec::new();
    for of in ongoing {
        let Some(partition) = of.partition else { continue };
        let key = (of.topic.as_str(), partition.partition);
        if wanted.as_ref().is_some_and(|wanted| !wanted.contains(&key)) {
            continue;
        }
        if topics.last().is_none_or(|last| *last.name != *of.topic) {
            let name = of.topic.as_str().into();
            topics.push(OngoingTopicReassignment { name, ..Default::default() });
        }
        if let Some(last) = topics.last_mut() {
            last.partitions.push(OngoingPartitionReassignment {
                partition_index: partition.partition,
                replicas: partition.replicas,
                adding_replicas: partition.adding,
                removing_replicas: partition.removing,
            });
        }
    }
    ListPartitionReassignmentsResponse { topics, ..Default::default() }
}
