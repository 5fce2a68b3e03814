//! Settings of topics and of this broker, each with where its value comes from.

use std::collections::{BTreeMap, HashMap};

use proto::{BrokerId, ErrorCode};

use super::{Api, Refusal};
pub use crate::config::ConfigType;
use crate::config::{Setting, TopicSetting};

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// The topic's own overrides.
    Topic,
    /// The broker's overrides in the registry.
    Broker,
    /// The broker's file, environment or flags.
    File,
    /// Nobody set it.
    Default,
}

/// One setting.
#[derive(Debug, Clone)]
pub struct ConfigEntry {
    /// Its name.
    pub key: &'static str,
    /// Its value, as text.
    pub value: String,
    /// Where that comes from.
    pub source: ConfigSource,
    /// What it is.
    pub kind: ConfigType,
    /// Only the broker's file has it.
    pub read_only: bool,
    /// All places where it is set, the one that counts first: name there, value, place.
    pub synonyms: Vec<(&'static str, String, ConfigSource)>,
    /// Meaning, unit and consequences.
    pub documentation: &'static str,
}

/// A broker's settings that change while it runs.
const DYNAMIC: [&str; 1] = ["follower.replication.throttled.rate"];

impl Api {
    /// All settings of a topic.
    pub fn topic_configs(&self, topic: &str) -> Vec<ConfigEntry> {
        let image = self.metadata.image();
        let overrides = image.topic_configs.get(topic);
        let of = |key: &str| overrides.and_then(|overrides| overrides.get(key));
        let entries = self.settings.topic.iter().map(|setting| {
            let TopicSetting { key, default, broker } = setting;
            let own = (broker.key, default.clone(), place(broker));
            entry(key, broker, of(key).map(|value| (ConfigSource::Topic, value)), own)
        });
        entries.collect()
    }

    /// All settings of a broker, as far as this one knows them.
    pub fn broker_configs(&self, id: BrokerId) -> Vec<ConfigEntry> {
        let image = self.metadata.image();
        let overrides = image.broker_configs.get(&id);
        let of = |key: &str| overrides.and_then(|overrides| overrides.get(key));
        let entries = self.settings.broker.iter().map(|setting| {
            let own = (setting.key, setting.value.clone(), place(setting));
            let found = of(setting.key).map(|value| (ConfigSource::Broker, value));
            let entry = entry(setting.key, setting, found, own);
            ConfigEntry { read_only: !DYNAMIC.contains(&setting.key), ..entry }
        });
        entries.collect()
    }

    /// Looks whether a broker may have these overrides while it runs.
    pub fn check_broker_configs(&self, set: &HashMap<String, String>) -> Result<(), Refusal> {
        for (key, value) in set {
            let refused = |text: String| {
                Refusal::new(ErrorCode::InvalidConfig, text, "set it in the broker's file")
            };
            let setting = self.settings.broker.iter().find(|setting| setting.key == key);
            let setting = setting.filter(|setting| DYNAMIC.contains(&setting.key));
            let setting = setting
                .ok_or_else(|| refused(format!("{key:.64} does not change while a broker runs")))?;
            let checked = setting.check(value);
            checked.map_err(|wanted| refused(format!("{key}={value:.64}: {wanted}")))?;
        }
        Ok(())
    }

    /// Looks whether a topic may have these overrides.
    pub fn check_topic_configs(&self, set: &HashMap<String, String>) -> Result<(), Refusal> {
        let known: BTreeMap<&str, &TopicSetting> =
            self.settings.topic.iter().map(|setting| (setting.key, setting)).collect();
        for (key, value) in set {
            let refused = |text: String| {
                Refusal::new(ErrorCode::InvalidConfig, text, "DescribeConfigs lists all settings")
            };
            let setting = known.get(key.as_str());
            let setting =
                setting.ok_or_else(|| refused(format!("topics have no setting {key:.64}")))?;
            let checked = setting.broker.check(value);
            checked.map_err(|wanted| refused(format!("{key}={value:.64}: {wanted}")))?;
        }
        Ok(())
    }
}

fn place(setting: &Setting) -> ConfigSource {
    if setting.is_set { ConfigSource::File } else { ConfigSource::Default }
}

fn entry(
    key: &'static str,
    setting: &Setting,
    overridden: Option<(ConfigSource, &String)>,
    own: (&'static str, String, ConfigSource),
) -> ConfigEntry {
    let mut synonyms = Vec::new();
    if let Some((source, value)) = overridden {
        synonyms.push((key, value.clone(), source));
    }
    synonyms.push(own);
    let (_, value, source) = synonyms[0].clone();
    ConfigEntry {
        key,
        value,
        source,
        kind: setting.kind(),
        read_only: false,
        synonyms,
        documentation: setting.documentation,
    }
}
