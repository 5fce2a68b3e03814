//! AlterConfigs and IncrementalAlterConfigs: forwarded as what is to be set and what is to go.

use std::collections::{HashMap, HashSet};

use proto::kafka::Str;
use proto::kafka::messages::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, IncrementalAlterableConfig,
};
use proto::{ErrorCode, v1};

use super::describe_configs::{BROKER, TOPIC, unknown_kind};
use super::{Context, admin};
use crate::api::{ConfigEntry, ConfigSource, ConfigType};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// What becomes of the overrides of a resource.
#[derive(Default)]
struct Change {
    set: HashMap<String, String>,
    remove: Vec<String>,
}

pub(in super::super) async fn alter_configs(
    context: Context,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for of in request.resources {
        let change = replace(&context, of.resource_type, &of.resource_name, &of.configs);
        let resource = (of.resource_type, of.resource_name);
        responses.push(alter(&context, resource, change, request.validate_only).await);
    }
    AlterConfigsResponse { responses, ..Default::default() }
}

pub(in super::super) async fn incremental(
    context: Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for of in request.resources {
        let present = entries(&context, of.resource_type, &of.resource_name);
        let change = increment(&of.configs, &present);
        let resource = (of.resource_type, of.resource_name);
        responses.push(alter(&context, resource, change, request.validate_only).await);
    }
    IncrementalAlterConfigsResponse { responses, ..Default::default() }
}

fn entries(context: &Context, kind: i8, name: &str) -> Vec<ConfigEntry> {
    match kind {
        TOPIC => context.services.api.topic_configs(name),
        _ => context.services.api.broker_configs(context.services.kafka.own_id()),
    }
}

fn is_override(entry: &ConfigEntry) -> bool {
    matches!(entry.source, ConfigSource::Topic | ConfigSource::Broker)
}

/// All overrides are these from now on.
fn replace(
    context: &Context,
    kind: i8,
    name: &str,
    configs: &[proto::kafka::messages::AlterableConfig],
) -> Result<Change, v1::Error> {
    let mut change = Change::default();
    for config in configs {
        let Some(value) = &config.value else {
            let text = format!("{:.64} has no value", config.name);
            let remedy = "leave it out to have its default back";
            return Err(ErrorCode::InvalidRequest.to_message(text, remedy));
        };
        change.set.insert(config.name.to_string(), value.to_string());
    }
    let present = entries(context, kind, name);
    let gone = present.iter().filter(|entry| is_override(entry));
    let gone = gone.filter(|entry| !change.set.contains_key(entry.key));
    change.remove.extend(gone.map(|entry| entry.key.to_owned()));
    Ok(change)
}

/// Single overrides are changed.
fn increment(
    configs: &[IncrementalAlterableConfig],
    present: &[ConfigEntry],
) -> Result<Change, v1::Error> {
    let refused = |text: String| Err(ErrorCode::InvalidRequest.to_message(text, ""));
    let (mut change, mut seen) = (Change::default(), HashSet::new());
    for IncrementalAlterableConfig { name, config_operation, value } in configs {
        if !seen.insert(name) {
            return refused(format!("{name:.64} is there twice"));
        }
        let value = value.as_deref();
        let listed = present.iter().find(|entry| entry.key == &**name);
        let is_list = listed.is_none_or(|entry| entry.kind == ConfigType::List);
        if matches!(*config_operation, APPEND | SUBTRACT) && !is_list {
            let text = format!("{name:.64} is no list: nothing can be appended or subtracted");
            return Err(ErrorCode::InvalidConfig.to_message(text, "set it instead"));
        }
        let listed = || listed.map_or("", |entry| &entry.value).split(',').map(str::trim);
        let given: Vec<&str> = value.unwrap_or_default().split(',').map(str::trim).collect();
        let new = match (*config_operation, value) {
            (DELETE, _) => {
                change.remove.push(name.to_string());
                continue;
            }
            (SET, Some(value)) => value.to_owned(),
            (APPEND, Some(_)) => {
                let present: Vec<&str> = listed().filter(|item| !item.is_empty()).collect();
                let more = given.iter().filter(|item| !present.contains(item));
                present.iter().chain(more).copied().collect::<Vec<_>>().join(",")
            }
            (SUBTRACT, Some(_)) => {
                listed().filter(|item| !given.contains(item)).collect::<Vec<_>>().join(",")
            }
            (SET | APPEND | SUBTRACT, None) => return refused(format!("{name:.64} has no value")),
            (other, _) => return refused(format!("{other} is no operation")),
        };
        change.set.insert(name.to_string(), new);
    }
    Ok(change)
}

async fn alter(
    context: &Context,
    (resource_type, resource_name): (i8, Str),
    change: Result<Change, v1::Error>,
    validate_only: bool,
) -> AlterConfigsResourceResponse {
    let error = match change {
        Ok(change) => ask(context, resource_type, &resource_name, change, validate_only).await,
        Err(error) => Some(error),
    };
    let (error_code, error_message) = admin::outcome(error);
    AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }
}

async fn ask(
    context: &Context,
    resource_type: i8,
    name: &Str,
    Change { set, remove }: Change,
    validate_only: bool,
) -> Option<v1::Error> {
    let api = &context.services.api;
    let kind = match resource_type {
        TOPIC => v1::ConfigKind::Topic,
        BROKER => v1::ConfigKind::Broker,
        other => return Some(unknown_kind(other).code.to_message(unknown_kind(other).message, "")),
    };
    let checked = match kind {
        v1::ConfigKind::Topic => api.topic_id_of(name).and_then(|_| api.check_topic_configs(&set)),
        // The controller knows better, where it is asked.
        _ if validate_only => api.check_broker_configs(&set),
        _ => Ok(()),
    };
    if let Err(refusal) = checked {
        return Some(refusal.code.to_message(refusal.message, refusal.remedy));
    }
    if validate_only || (set.is_empty() && remove.is_empty()) {
        return None;
    }
    let message = v1::AlterConfigsRequest {
        request_id: admin::request_id(),
        kind: kind.into(),
        name: name.to_string(),
        set,
        remove,
    };
    match admin::ask::<_, v1::AlterConfigsResponse>(context, "AlterConfigs", &message).await {
        Ok(answer) => answer.error,
        Err(error) => Some(error),
    }
}
