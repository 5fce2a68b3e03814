//! CreatePartitions: forwarded.

use proto::kafka::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use proto::{ErrorCode, v1};

use super::{Context, admin};
use crate::api::Wanted;

pub(in super::super) async fn create_partitions(
    context: Context,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let error = match check(&context, &topic) {
            Some(error) => Some(error),
            None if request.validate_only => None,
            None => grow(&context, &topic).await,
        };
        let (error_code, error_message) = admin::outcome(error);
        results.push(CreatePartitionsTopicResult { name: topic.name, error_code, error_message });
    }
    CreatePartitionsResponse { results, ..Default::default() }
}

/// What can be told without the controller.
fn check(context: &Context, topic: &CreatePartitionsTopic) -> Option<v1::Error> {
    let view = context.services.api.metadata(&Wanted::Named(Vec::new()));
    let Some(known) = view.image.topics.get(&topic.name) else {
        return Some(ErrorCode::UnknownTopicOrPartition.to_message("no such topic", ""));
    };
    let present = known.partitions.len() as i64;
    if i64::from(topic.count) <= present {
        let text = format!("the topic has {present} partitions; they can only become more");
        return Some(ErrorCode::InvalidPartitions.to_message(text, ""));
    }
    topic.assignments.as_ref().filter(|given| !given.is_empty()).map(|_| {
        let text = "the controller places new partitions";
        let remedy = "leave the assignment out, and reassign the partitions afterwards";
        ErrorCode::InvalidReplicaAssignment.to_message(text, remedy)
    })
}

async fn grow(context: &Context, topic: &CreatePartitionsTopic) -> Option<v1::Error> {
    let message = v1::CreatePartitionsRequest {
        request_id: admin::request_id(),
        topics: vec![v1::NewPartitions { name: topic.name.to_string(), total: topic.count }],
    };
    match admin::ask::<_, v1::TopicResults>(context, "CreatePartitions", &message).await {
        Ok(answer) => answer.results.into_iter().find_map(|result| result.error),
        Err(error) => Some(error),
    }
}
