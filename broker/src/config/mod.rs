//! The broker's settings: one TOML file, environment, flags, in that order of precedence.
//!
//! [`keys`] is the table of all keys, [`load`] gathers and checks values, [`BrokerConfig`] is what
//! the rest of the broker sees: typed, complete, checked before a port is bound. [`topic`] makes a
//! log's settings from the broker's defaults and a topic's overrides.

mod describe;
mod keys;
mod listeners;
mod load;
mod settings;
mod show;
#[cfg(test)]
mod tests;
mod topic;

pub use describe::{ConfigType, Setting, Settings, TopicSetting};
pub use listeners::{KafkaListener, KafkaListeners};
pub use load::{ConfigError, ENVIRONMENT_PREFIX, Origin, Values};
pub use settings::{
    BrokerConfig, GroupConfig, ReplicationConfig, RequestConfig, SocketConfig, TopicDefaults,
    ZooKeeperConfig, open_files_max,
};
pub use show::show;
pub use topic::log_config;
