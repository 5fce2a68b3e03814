//! DeleteTopics: forwarded, by name or by id.

use std::collections::HashMap;
use std::sync::Arc;

use proto::kafka::Str;
use proto::kafka::messages::{DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse};
use proto::{ErrorCode, TopicId, v1};
use uuid::Uuid;

use super::{Context, admin};
use crate::api::Wanted;
use crate::cluster::metadata::TopicImage;

pub(in super::super) async fn delete_topics(
    context: Context,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let view = context.services.api.metadata(&Wanted::Named(Vec::new()));
    let known = view.image.topics.values();
    let known: HashMap<TopicId, &Arc<TopicImage>> = known.map(|topic| (topic.id, topic)).collect();
    let by_id = |id: Uuid| known.get(&TopicId(id));
    let named = request.topic_names.into_iter().map(|name| (Some(name), Uuid::nil()));
    let either = request.topics.into_iter().map(|topic| match topic.name {
        Some(name) => (Some(name), Uuid::nil()),
        None => (by_id(topic.topic_id).map(|known| Arc::clone(&known.name)), topic.topic_id),
    });
    let asked: Vec<(Option<Str>, Uuid)> = named.chain(either).collect();
    let topics: Vec<String> =
        asked.iter().filter_map(|(name, _)| name.as_ref().map(|name| name.to_string())).collect();
    let message =
        v1::DeleteTopicsRequest { request_id: admin::request_id(), topics, if_exists: false };
    let answer = match message.topics.is_empty() {
        true => Ok(v1::TopicResults::default()),
        false => admin::ask::<_, v1::TopicResults>(&context, "DeleteTopics", &message).await,
    };
    let mut results = answer.as_ref().map_or(&[][..], |answer| &answer.results).iter();
    let responses = asked.into_iter().map(|(name, topic_id)| {
        let error = match (&name, &answer) {
            (None, _) => Some(ErrorCode::UnknownTopicId.to_message("no topic has this id", "")),
            (Some(_), Err(error)) => Some(error.clone()),
            (Some(_), Ok(_)) => results.next().and_then(|result| result.error.clone()),
        };
        let (error_code, error_message) = admin::outcome(error);
        let known = name.as_ref().and_then(|name| view.image.topics.get(name));
        let topic_id = known.map_or(topic_id, |topic| topic.id.0);
        DeletableTopicResult { name, topic_id, error_code, error_message }
    });
    DeleteTopicsResponse { responses: responses.collect(), ..Default::default() }
}
