//! CreateTopics: forwarded; what the protocol says beyond the Admin service is checked here.

use std::collections::HashMap;
use std::time::Duration;

use proto::kafka::Str;
use proto::kafka::messages::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use proto::{ErrorCode, TopicId, v1};

use super::{Context, admin};
use crate::api::{ConfigSource, Wanted};

/// How long a topic that was created may take to be known here.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);
/// Left to the broker's defaults.
const DEFAULT: i32 = -1;

pub(in super::super) async fn create_topics(
    context: Context,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut counts: HashMap<Str, usize> = HashMap::new();
    for topic in &request.topics {
        *counts.entry(topic.name.clone()).or_default() += 1;
    }
    let mut answers: Vec<(Str, Result<Option<v1::TopicResult>, v1::Error>)> = Vec::new();
    let mut asked = Vec::new();
    for topic in &request.topics {
        let twice = counts.get(&topic.name).is_some_and(|&count| count > 1);
        let checked = if twice {
            let text = "the topic is there twice in the request";
            Err(ErrorCode::InvalidRequest.to_message(text, ""))
        } else {
            new_topic(topic, context.version)
        };
        answers.push((
            topic.name.clone(),
            checked.map(|topic| {
                asked.push(topic);
                None
            }),
        ));
    }
    if twice_named(&counts) {
        let mut seen = std::collections::HashSet::new();
        answers.retain(|(name, _)| seen.insert(name.clone()));
    }
    if !asked.is_empty() {
        let message = v1::CreateTopicsRequest {
            request_id: admin::request_id(),
            topics: asked,
            validate_only: request.validate_only,
            if_not_exists: false,
        };
        match admin::ask::<_, v1::TopicResults>(&context, "CreateTopics", &message).await {
            Ok(results) => {
                let mut results = results.results.into_iter();
                for (_, answer) in answers.iter_mut().filter(|(_, answer)| answer.is_ok()) {
                    *answer = Ok(results.next());
                }
            }
            Err(error) => {
                for (_, answer) in answers.iter_mut().filter(|(_, answer)| answer.is_ok()) {
                    *answer = Err(error.clone());
                }
            }
        }
    }
    if !request.validate_only {
        await_known(&context, &answers).await;
    }
    let topics = answers.into_iter().map(|(name, answer)| result(&context, name, answer));
    CreateTopicsResponse { topics: topics.collect(), ..Default::default() }
}

fn twice_named(counts: &HashMap<Str, usize>) -> bool {
    counts.values().any(|&count| count > 1)
}

/// A topic as the controller is asked for it.
fn new_topic(topic: &CreatableTopic, version: i16) -> Result<v1::NewTopic, v1::Error> {
    let refused = |code: ErrorCode, text: &str| Err(code.to_message(text, ""));
    let may_default = version >= 4;
    let (partitions, factor) = (topic.num_partitions, i32::from(topic.replication_factor));
    let is_placed = !topic.assignments.is_empty();
    if is_placed && (partitions != DEFAULT || factor != DEFAULT) {
        return refused(ErrorCode::InvalidRequest, "both numbers and an assignment are given");
    }
    let bad = |number: i32| number < 1 && !(number == DEFAULT && (may_default || is_placed));
    if bad(partitions) {
        return refused(ErrorCode::InvalidPartitions, "a topic has at least one partition");
    }
    if bad(factor) {
        return refused(
            ErrorCode::InvalidReplicationFactor,
            "a partition has at least one replica",
        );
    }
    let mut assignment: Vec<_> = topic.assignments.iter().collect();
    assignment.sort_by_key(|of| of.partition_index);
    if assignment.iter().zip(0..).any(|(of, number)| of.partition_index != number) {
        let text = "the assignment does not have every partition from 0 on, each once";
        return refused(ErrorCode::InvalidReplicaAssignment, text);
    }
    let mut configs = HashMap::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            return refused(ErrorCode::InvalidConfig, "a setting has no value");
        };
        configs.insert(config.name.to_string(), value.to_string());
    }
    let replicas = |of: &Vec<i32>| v1::Replicas { brokers: of.clone() };
    Ok(v1::NewTopic {
        name: topic.name.to_string(),
        partitions: partitions.max(0),
        replication_factor: factor.max(0),
        configs,
        assignment: assignment.into_iter().map(|of| replicas(&of.broker_ids)).collect(),
    })
}

/// A client that was told of success looks for the topic here at once.
async fn await_known(
    context: &Context,
    answers: &[(Str, Result<Option<v1::TopicResult>, v1::Error>)],
) {
    let created = answers.iter().filter_map(|(name, answer)| match answer {
        Ok(Some(result)) if result.error.is_none() => Some(name.to_string()),
        _ => None,
    });
    let created = Wanted::Named(created.collect());
    let mut changes = context.services.api.metadata_changes();
    let known = async {
        while context.services.api.metadata(&created).topics.iter().any(Result::is_err) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(KNOWN_WITHIN, known).await;
}

fn result(
    context: &Context,
    name: Str,
    answer: Result<Option<v1::TopicResult>, v1::Error>,
) -> CreatableTopicResult {
    let created = match answer {
        Ok(Some(v1::TopicResult { error: Some(error), .. })) | Err(error) => Err(error),
        Ok(Some(created)) => Ok(created),
        Ok(None) => Err(ErrorCode::UnknownServerError.to_message("the controller did not say", "")),
    };
    match created {
        Ok(created) => CreatableTopicResult {
            topic_id: TopicId::from_slice(&created.topic_id)
                .map_or_else(Default::default, |id| id.0),
            num_partitions: created.partitions,
            replication_factor: i16::try_from(created.replication_factor).unwrap_or(-1),
            configs: Some(configs(context, &name)),
            name,
            ..Default::default()
        },
        Err(error) => {
            let (error_code, error_message) = admin::outcome(Some(error));
            CreatableTopicResult {
                name,
                error_code,
                error_message,
                configs: Some(Vec::new()),
                ..Default::default()
            }
        }
    }
}

fn configs(context: &Context, topic: &str) -> Vec<CreatableTopicConfigs> {
    let entries = context.services.api.topic_configs(topic);
    let entries = entries.into_iter().map(|entry| CreatableTopicConfigs {
        name: entry.key.into(),
        value: Some(entry.value.as_str().into()),
        config_source: match entry.source {
            ConfigSource::Topic => 1,
            ConfigSource::Broker | ConfigSource::File => 4,
            ConfigSource::Default => 5,
        },
        ..Default::default()
    });
    entries.collect()
}
