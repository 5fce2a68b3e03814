//! DescribeConfigs: every setting of a topic or of this broker, with where it comes from.

use std::collections::HashSet;

use proto::ErrorCode;
use proto::kafka::messages::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::{Context, NONE, code};
use crate::api::{ConfigEntry, ConfigSource, ConfigType, Refusal};

/// What has settings.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

pub(in super::super) async fn describe_configs(
    context: Context,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let (synonyms, docs) = (request.include_synonyms, request.include_documentation);
    // Each once: an answer is far longer than its question.
    let mut seen = HashSet::new();
    let asked = request.resources.into_iter();
    let asked = asked.filter(|of| seen.insert((of.resource_type, of.resource_name.clone())));
    let results = asked.map(|of| {
        let (error_code, error_message, entries) = match entries(&context, &of) {
            Ok(entries) => (NONE, None, entries),
            Err(refusal) => (code(&refusal), Some(refusal.message.as_ref().into()), Vec::new()),
        };
        let keys: Option<HashSet<&str>> =
            of.configuration_keys.as_ref().map(|keys| keys.iter().map(|key| &**key).collect());
        let wanted = entries.iter().filter(|entry| {
            keys.as_ref().is_none_or(|keys| keys.is_empty() || keys.contains(entry.key))
        });
        let configs = wanted.map(|entry| describe(entry, synonyms, docs)).collect();
        let (resource_type, resource_name) = (of.resource_type, of.resource_name);
        DescribeConfigsResult { error_code, error_message, resource_type, resource_name, configs }
    });
    DescribeConfigsResponse { results: results.collect(), ..Default::default() }
}

fn entries(context: &Context, of: &DescribeConfigsResource) -> Result<Vec<ConfigEntry>, Refusal> {
    let api = &context.services.api;
    match of.resource_type {
        TOPIC => api.topic_id_of(&of.resource_name).map(|_| api.topic_configs(&of.resource_name)),
        // What is set for all brokers at once: nothing can be.
        BROKER if of.resource_name.is_empty() => Ok(Vec::new()),
        BROKER => {
            let own = context.services.kafka.own_id();
            if of.resource_name.parse() != Ok(own.0) {
                return Err(Refusal::invalid_request(format!(
                    "this is broker {own}, and it knows its own settings only"
                )));
            }
            Ok(api.broker_configs(own))
        }
        other => Err(unknown_kind(other)),
    }
}

pub(super) fn unknown_kind(kind: i8) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidRequest,
        format!("resources of type {kind} have no settings here; topics (2) and brokers (4) have"),
        "",
    )
}

fn source(source: ConfigSource) -> i8 {
    match source {
        ConfigSource::Topic => 1,
        ConfigSource::Broker => 2,
        ConfigSource::File => 4,
        ConfigSource::Default => 5,
    }
}

fn describe(entry: &ConfigEntry, synonyms: bool, docs: bool) -> DescribeConfigsResourceResult {
    let synonym =
        |(key, value, from): &(&'static str, String, ConfigSource)| DescribeConfigsSynonym {
            name: (*key).into(),
            value: Some(value.as_str().into()),
            source: source(*from),
        };
    DescribeConfigsResourceResult {
        name: entry.key.into(),
        value: Some(entry.value.as_str().into()),
        read_only: entry.read_only,
        config_source: source(entry.source),
        is_sensitive: false,
        synonyms: if synonyms { entry.synonyms.iter().map(synonym).collect() } else { Vec::new() },
        config_type: match entry.kind {
            ConfigType::Boolean => 1,
            ConfigType::Text => 2,
            ConfigType::Int => 3,
            ConfigType::Long => 5,
            ConfigType::Double => 6,
            ConfigType::List => 7,
        },
        documentation: docs.then(|| entry.documentation.into()),
    }
}
