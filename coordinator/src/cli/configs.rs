//! `coordinator configs`

use proto::v1;
use serde_json::{Value, json};

use super::admin::{Admin, request_id};
use super::args::{ConfigsAction, ConfigsArgs, Entity, EntityType, Format};
use super::failure::Failure;
use super::{output, topics};

/// Carries out the subcommand.
pub(crate) async fn run(args: ConfigsArgs) -> Result<(), Failure> {
    let mut admin = Admin::new(&args.target);
    let format = args.target.format;
    match args.action {
        ConfigsAction::Describe { entity, all } => describe(&mut admin, format, &entity, all).await,
        ConfigsAction::Alter { entity, add_config, delete_config } => {
            alter(&mut admin, format, &entity, &add_config, delete_config).await
        }
    }
}

fn kind(entity: EntityType) -> v1::ConfigKind {
    match entity {
        EntityType::Topics => v1::ConfigKind::Topic,
        EntityType::Brokers => v1::ConfigKind::Broker,
        EntityType::Clients => v1::ConfigKind::Client,
    }
}

fn singular(entity: EntityType) -> &'static str {
    match entity {
        EntityType::Topics => "topic",
        EntityType::Brokers => "broker",
        EntityType::Clients => "client",
    }
}

async fn describe(
    admin: &mut Admin,
    format: Format,
    entity: &Entity,
    all: bool,
) -> Result<(), Failure> {
    let (entity, name) = entity.get();
    let names = name.into_iter().collect();
    let request = v1::DescribeConfigsRequest { kind: kind(entity).into(), names };
    let response = admin
        .call(request, |mut client, request| async move { client.describe_configs(request).await })
        .await?;
    let refused = response.resources.iter().filter_map(|resource| resource.error.as_ref());
    let refused: Vec<Failure> = refused.map(Failure::of).collect();
    let described = response.resources.iter().filter(|resource| resource.error.is_none());
    match format {
        Format::Json => {
            let documents: Vec<Value> = described.map(|r| resource_json(r, all)).collect();
            output::json(&json!(documents))?;
        }
        Format::Text => {
            let text: String = described.map(|r| resource_text(entity, r, all)).collect();
            output::write(text.as_bytes())?;
        }
    }
    Failure::all(refused)
}

fn shown(resource: &v1::DescribedConfigs, all: bool) -> Vec<&v1::ConfigEntry> {
    let entries = resource.entries.iter().filter(|entry| all || !entry.is_default);
    let mut entries: Vec<&v1::ConfigEntry> = entries.collect();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    entries
}

/// Kafka's lines: a heading, then one line a key.
fn resource_text(entity: EntityType, resource: &v1::DescribedConfigs, all: bool) -> String {
    let what = if all { "All configs" } else { "Dynamic configs" };
    let mut text = format!("{what} for {} {} are:\n", singular(entity), resource.name);
    for entry in shown(resource, all) {
        let default = if entry.is_default { " (default)" } else { "" };
        text.push_str(&format!("  {}={}{default}\n", entry.key, entry.value));
    }
    text
}

fn resource_json(resource: &v1::DescribedConfigs, all: bool) -> Value {
    let entries: Vec<Value> = shown(resource, all)
        .into_iter()
        .map(|entry| {
            json!({
                "key": entry.key,
                "value": entry.value,
                "is_default": entry.is_default,
                "documentation": entry.documentation,
            })
        })
        .collect();
    json!({ "name": resource.name, "entries": entries })
}

async fn alter(
    admin: &mut Admin,
    format: Format,
    entity: &Entity,
    set: &[String],
    remove: Vec<String>,
) -> Result<(), Failure> {
    let (entity, name) = entity.get();
    let Some(name) = name else {
        return Err(Failure::usage("say what to alter: --topic NAME, --broker ID or --client ID"));
    };
    if set.is_empty() && remove.is_empty() {
        return Err(Failure::usage(
            "say what to alter: --add-config KEY=VALUE, or --delete-config KEY",
        ));
    }
    let request = v1::AlterConfigsRequest {
        request_id: request_id(),
        kind: kind(entity).into(),
        name: name.clone(),
        set: topics::assignments(set)?,
        remove,
    };
    let response = admin
        .call(request, |mut client, request| async move { client.alter_configs(request).await })
        .await?;
    if let Some(error) = &response.error {
        return Err(Failure::of(error));
    }
    match format {
        Format::Json => output::json(&json!({ "altered": name })),
        Format::Text => {
            let text = format!("Completed updating config for {} {name}.\n", singular(entity));
            output::write(text.as_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_shown_sorted_and_defaults_on_demand() {
        let entry = |key: &str, is_default| v1::ConfigEntry {
            key: key.to_owned(),
            value: "1".to_owned(),
            is_default,
            documentation: String::new(),
        };
        let resource = v1::DescribedConfigs {
            name: "t".to_owned(),
            error: None,
            entries: vec![entry("c", false), entry("a", false), entry("b", true)],
        };
        assert_eq!(
            resource_text(EntityType::Topics, &resource, false),
            "Dynamic configs for topic t are:\n  a=1\n  c=1\n"
        );
        assert_eq!(
            resource_text(EntityType::Topics, &resource, true),
            "All configs for topic t are:\n  a=1\n  b=1 (default)\n  c=1\n"
        );
    }
}
