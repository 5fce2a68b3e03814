//! ElectLeaders: forwarded.

use proto::kafka::messages::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use proto::v1;

use super::{Context, admin};

const PREFERRED: i8 = 0;

pub(in super::super) async fn elect_leaders(
    context: Context,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    let kind = match request.election_type {
        PREFERRED => v1::ElectionType::Preferred,
        _ => v1::ElectionType::Unclean,
    };
    // Null is every partition; an empty list is none, which the Admin service has no word for.
    let named = request.topic_partitions;
    if named.as_ref().is_some_and(|topics| topics.iter().all(|of| of.partitions.is_empty())) {
        return ElectLeadersResponse::default();
    }
    let topics = named.unwrap_or_default().into_iter().filter(|of| !of.partitions.is_empty());
    let partitions = topics.map(|of| v1::TopicPartitions {
        topic: of.topic.to_string(),
        partitions: of.partitions,
        ..Default::default()
    });
    let message = v1::ElectLeadersRequest { r#type: kind.into(), partitions: partitions.collect() };
    match admin::ask::<_, v1::ElectLeadersResponse>(&context, "ElectLeaders", &message).await {
        Ok(answer) => ElectLeadersResponse {
            replica_election_results: by_topic(answer.results),
            ..Default::default()
        },
        Err(error) => {
            let (error_code, _) = admin::outcome(Some(error));
            ElectLeadersResponse { error_code, ..Default::default() }
        }
    }
}

/// The results come by topic.
fn by_topic(results: Vec<v1::ElectionResult>) -> Vec<ReplicaElectionResult> {
    let mut topics: Vec<ReplicaElectionResult> = Vec::new();
    for result in results {
        if topics.last().is_none_or(|last| *last.topic != *result.topic) {
            let topic = result.topic.as_str().into();
            topics.push(ReplicaElectionResult { topic, ..Default::default() });
        }
        let (error_code, error_message) = admin::outcome(result.error);
        let partition_id = result.partition;
        if let Some(last) = topics.last_mut() {
            last.partition_result.push(PartitionResult { partition_id, error_code, error_message });
        }
    }
    topics
}
