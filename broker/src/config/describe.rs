//! [`Settings`]: every key with its value, for whoever asks a broker how it is set.

use super::keys::{KEYS, Key, Kind};
use super::load::{Origin, Values, check};
use super::settings::{TOPIC_KEYS, topic_default};

/// What a value is, as Kafka divides values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean,
    /// Any text, or one of some words.
    Text,
    /// A whole number of 32 bits.
    Int,
    /// A whole number of 64 bits.
    Long,
    /// A fraction.
    Double,
    /// Texts separated by commas.
    List,
}

/// All of a broker.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Of the broker, in the order of the table.
    pub broker: Vec<Setting>,
    /// What topics have where they override nothing.
    pub topic: Vec<TopicSetting>,
}

/// One key of a broker.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Its name.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// Somebody set it.
    pub is_set: bool,
    /// Meaning, unit and consequences.
    pub documentation: &'static str,
    table: &'static Key,
}

/// One key of topics.
#[derive(Debug, Clone)]
pub struct TopicSetting {
    /// Its name.
    pub key: &'static str,
    /// What holds where the topic does not override it.
    pub default: String,
    /// The broker's key that says so.
    pub broker: Setting,
}

impl Setting {
    fn of(key: &'static Key, values: &Values) -> Self {
        Self {
            key: key.name,
            value: values.text(key.name).to_owned(),
            is_set: values.origin(key.name) != Origin::Default,
            documentation: key.doc,
            table: key,
        }
    }

    /// What its value is.
    pub fn kind(&self) -> ConfigType {
        match self.table.kind {
            Kind::Int { max, .. } if max <= i64::from(i32::MAX) => ConfigType::Int,
            Kind::Int { .. } => ConfigType::Long,
            Kind::Ratio => ConfigType::Double,
            Kind::Bool => ConfigType::Boolean,
            Kind::Choice(words) if words.iter().any(|word| word.contains(',')) => ConfigType::List,
            Kind::Choice(_) | Kind::Text | Kind::Address => ConfigType::Text,
            Kind::Listeners | Kind::Paths => ConfigType::List,
        }
    }

    /// Looks whether it may have a value; what is expected otherwise.
    pub fn check(&self, value: &str) -> Result<(), String> {
        check(self.table, value)
    }
}

impl Settings {
    pub(super) fn new(values: &Values) -> Self {
        let broker: Vec<Setting> = KEYS.iter().map(|key| Setting::of(key, values)).collect();
        let topic = TOPIC_KEYS.iter().filter_map(|&(name, key)| {
            let broker = broker.iter().find(|setting| setting.key == name)?.clone();
            Some(TopicSetting { key, default: topic_default(values, name), broker })
        });
        Self { topic: topic.collect(), broker }
    }
}
