//! CreatePartitions: forwarded, all topics at once.

use std::collections::{HashMap, HashSet};

use proto::kafka::Str;
use proto::kafka::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use proto::{ErrorCode, v1};

use super::{Context, admin};

pub(in super::super) async fn create_partitions(
    context: Context,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut counts: HashMap<Str, usize> = HashMap::new();
    for topic in &request.topics {
        *counts.entry(topic.name.clone()).or_default() += 1;
    }
    let (once, twice): (Vec<_>, Vec<_>) =
        request.topics.into_iter().partition(|topic| counts.get(&topic.name) == Some(&1));
    let mut results = ask(&context, &once, request.validate_only).await;
    let mut seen = HashSet::new();
    for topic in twice.into_iter().filter(|topic| seen.insert(topic.name.clone())) {
        let text = "the topic is there twice in the request";
        results.push(result(topic.name, Some(ErrorCode::InvalidRequest.to_message(text, ""))));
    }
    CreatePartitionsResponse { results, ..Default::default() }
}

fn result(name: Str, error: Option<v1::Error>) -> CreatePartitionsTopicResult {
    let (error_code, error_message) = admin::outcome(error);
    CreatePartitionsTopicResult { name, error_code, error_message }
}

async fn ask(
    context: &Context,
    topics: &[CreatePartitionsTopic],
    validate_only: bool,
) -> Vec<CreatePartitionsTopicResult> {
    if topics.is_empty() {
        return Vec::new();
    }
    let message = v1::CreatePartitionsRequest {
        request_id: admin::request_id(),
        topics: topics.iter().map(new_partitions).collect(),
        validate_only,
    };
    let asked = admin::ask::<_, v1::TopicResults>(context, "CreatePartitions", &message).await;
    let error = |number: usize| match &asked {
        Ok(answer) => answer.results.get(number).map_or_else(
            || Some(ErrorCode::UnknownServerError.to_message("the controller did not say", "")),
            |result| result.error.clone(),
        ),
        Err(error) => Some(error.clone()),
    };
    topics
        .iter()
        .zip(0..)
        .map(|(topic, number)| result(topic.name.clone(), error(number)))
        .collect()
}

fn new_partitions(topic: &CreatePartitionsTopic) -> v1::NewPartitions {
    let assignment = topic.assignments.iter().flatten();
    v1::NewPartitions {
        name: topic.name.to_string(),
        total: topic.count,
        assignment: assignment.map(|of| v1::Replicas { brokers: of.broker_ids.clone() }).collect(),
    }
}
