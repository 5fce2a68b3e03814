//! Overrides of topics, brokers and clients.

use std::collections::{BTreeMap, HashMap};

use proto::ErrorCode;

use crate::controller::decision::{Decision, Refusal};
use crate::controller::outbox::Delta;
use crate::controller::state::{Cluster, Overrides, Step};
use crate::controller::{subject, unknown_topic};
use crate::registry::configs::{self, Kind};
use crate::registry::fence::Change;
use crate::zk::payload::{self, Payload};
use crate::zk::{names, paths};

/// Checks the overrides a topic is created with.
pub(crate) fn check_topic_configs(values: &HashMap<String, String>) -> Result<(), Refusal> {
    values.iter().try_for_each(|(key, value)| check(Kind::Topic, key, value))
}

/// Decides the new overrides of a resource.
pub(crate) fn alter_configs(
    cluster: &Cluster,
    kind: Kind,
    name: &str,
    set: &HashMap<String, String>,
    remove: &[String],
) -> Result<Decision, Refusal> {
    check_resource(cluster, kind, name)?;
    set.iter().try_for_each(|(key, value)| check(kind, key, value))?;
    if let Some(key) = remove.iter().find(|key| set.contains_key(*key)) {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            format!("`{key}` is set and removed in one request"),
            "do one of the two",
        ));
    }
    let path = paths::config(kind.plural(), name);
    let old = cluster.configs.get(&(kind, name.to_owned()));
    let mut values: BTreeMap<String, String> = old.map(|o| o.values.clone()).unwrap_or_default();
    for key in remove {
        if values.remove(key).is_none() {
            return Err(not_overridden(kind, name, key));
        }
    }
    values.extend(set.iter().map(|(key, value)| (key.clone(), value.clone())));
    let done = vec![subject::alter(kind.plural(), name)];
    if old.map_or(values.is_empty(), |old| old.values == values) {
        return Ok(Decision { done, ..Decision::default() });
    }
    let of = (kind, name.to_owned());
    let delta = Delta { configs: [(of, values.clone())].into(), ..Delta::default() };
    let (write, new) = if values.is_empty() {
        (Change::Delete { path, version: None }, None)
    } else {
        let bytes = payload::Overrides { values: values.clone() }.encode()?;
        match old {
            Some(Overrides { version, .. }) => (
                Change::Set { path, bytes, version: Some(*version) },
                Some(Overrides { values, version: version + 1 }),
            ),
            None => (Change::Create { path, bytes }, Some(Overrides { values, version: 0 })),
        }
    };
    let steps = vec![Step::Configs(kind, name.to_owned(), new)];
    Ok(Decision { writes: vec![write], steps, delta, done })
}

fn check_resource(cluster: &Cluster, kind: Kind, name: &str) -> Result<(), Refusal> {
    let invalid = |message: String, remedy: &str| {
        Err(Refusal::new(ErrorCode::InvalidRequest, message, remedy))
    };
    match kind {
        Kind::Topic => {
            if !cluster.topics.contains_key(name) || cluster.deletions.contains_key(name) {
                return Err(unknown_topic(cluster, name));
            }
            Ok(())
        }
        Kind::Broker if !name.parse::<i32>().is_ok_and(|id| id >= 0) => {
            invalid(format!("`{name}` is not a broker id"), "name a broker by its number")
        }
        Kind::Broker => Ok(()),
        Kind::Client => names::check_member(name)
            .or_else(|error| invalid(error.to_string(), "name a client by its client id")),
    }
}

fn not_overridden(kind: Kind, name: &str, key: &str) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidConfig,
        format!("`{key}` is not overridden for {} `{name}`", kind.singular()),
        "describe the resource to see its overrides",
    )
}

fn check(kind: Kind, key: &str, value: &str) -> Result<(), Refusal> {
    configs::validate(kind, key, value).map_err(|invalid| {
        let (text, remedy) = (invalid.to_string(), invalid.remedy());
        // The text ends in the remedy, which answers carry apart.
        let message = text.strip_suffix(&format!(": {remedy}")).unwrap_or(&text);
        Refusal::new(ErrorCode::InvalidConfig, message, remedy)
    })
}
