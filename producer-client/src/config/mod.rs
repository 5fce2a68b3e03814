//! The producer's settings, under Kafka's names.
//!
//! A program fills the fields of [`ProducerConfig`]; a command line, the environment and files go
//! through [`ProducerConfig::set`], which knows every key of [`KEYS`] and nothing else.

mod keys;

use std::time::Duration;

use proto::client::{BusyPoll, ClusterOptions, CongestionControl, SocketOptions};
use proto::record::Compression;

pub use keys::{KEYS, Key};

use crate::partitioner::{Builtin, PartitionerKind};

/// Who has to have a record before it counts as sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// Nobody: no answer, no retry, no offset.
    None,
    /// The partition's leader.
    Leader,
    /// Every in-sync replica. The default.
    #[default]
    All,
}

/// A setting that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No such key.
    #[error("there is no setting `{key}`{}; `producer config show` lists all", did_you_mean(.suggestion))]
    UnknownKey {
        /// As given.
        key: String,
        /// The key that looks most like it.
        suggestion: Option<&'static str>,
    },
    /// A value outside its bounds.
    #[error("`{key}` cannot be `{value}`: {expected}")]
    InvalidValue {
        /// The key.
        key: &'static str,
        /// As given.
        value: String,
        /// What would be valid.
        expected: String,
    },
    /// Settings that contradict one another.
    #[error("{0}")]
    Conflict(String),
}

fn did_you_mean(suggestion: &Option<&'static str>) -> String {
    suggestion.map_or_else(String::new, |key| format!(", did you mean `{key}`?"))
}

/// Every setting of a producer. [`KEYS`] documents them with unit, default and bounds.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// `bootstrap.servers`
    pub bootstrap_servers: Vec<String>,
    /// `client.id`
    pub client_id: String,
    /// `acks`
    pub acks: Acks,
    /// `enable.idempotence`; `None`: as `acks` allows.
    pub enable_idempotence: Option<bool>,
    /// `max.in.flight.requests.per.connection`, here counted for each partition.
    pub max_in_flight: usize,
    /// `linger.ms`
    pub linger: Duration,
    /// `batch.size`
    pub batch_size: usize,
    /// `buffer.memory`
    pub buffer_memory: usize,
    /// `max.block.ms`
    pub max_block: Duration,
    /// `max.request.size`
    pub max_request_size: usize,
    /// `delivery.timeout.ms`
    pub delivery_timeout: Duration,
    /// `request.timeout.ms`
    pub request_timeout: Duration,
    /// `retries`
    pub retries: u32,
    /// `retry.backoff.ms`
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`
    pub retry_backoff_max: Duration,
    /// `reconnect.backoff.ms`
    pub reconnect_backoff: Duration,
    /// `reconnect.backoff.max.ms`
    pub reconnect_backoff_max: Duration,
    /// `metadata.max.age.ms`
    pub metadata_max_age: Duration,
    /// `socket.connection.setup.timeout.ms`
    pub connect_timeout: Duration,
    /// `socket.congestion.control`
    pub congestion_control: CongestionControl,
    /// `busy.poll.us`
    pub busy_poll: Duration,
    /// `partitioner`
    pub partitioner: PartitionerKind,
    /// `compression.type`
    pub compression: Compression,
    /// `compression.gzip.level`; `None`: the codec's default.
    pub gzip_level: Option<i32>,
    /// `compression.zstd.level`
    pub zstd_level: i32,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            bootstrap_servers: vec!["127.0.0.1:9094".into()],
            client_id: "producer".into(),
            acks: Acks::All,
            enable_idempotence: None,
            max_in_flight: 128,
            linger: Duration::from_millis(5),
            batch_size: 64 << 10,
            buffer_memory: 64 << 20,
            max_block: Duration::from_secs(60),
            max_request_size: 1 << 20,
            delivery_timeout: Duration::from_secs(120),
            request_timeout: Duration::from_secs(30),
            retries: i32::MAX as u32,
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            metadata_max_age: Duration::from_secs(300),
            connect_timeout: Duration::from_secs(5),
            congestion_control: CongestionControl::Auto,
            busy_poll: Duration::ZERO,
            partitioner: PartitionerKind::Builtin(Builtin::default()),
            compression: Compression::None,
            gzip_level: None,
            zstd_level: 3,
        }
    }
}

impl ProducerConfig {
    /// The defaults, with these brokers to ask first.
    pub fn new(bootstrap_servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let bootstrap_servers = bootstrap_servers.into_iter().map(Into::into).collect();
        Self { bootstrap_servers, ..Self::default() }
    }

    /// Sets one key from its text.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let Some(found) = KEYS.iter().find(|known| known.name == key) else {
            return Err(ConfigError::UnknownKey { key: key.into(), suggestion: nearest(key) });
        };
        (found.set)(self, value.trim()).map_err(|expected| ConfigError::InvalidValue {
            key: found.name,
            value: value.into(),
            expected,
        })
    }

    /// Whether batches carry a producer id: as asked, else wherever acknowledgements allow it.
    pub fn is_idempotent(&self) -> bool {
        self.enable_idempotence.unwrap_or(self.acks != Acks::None)
    }

    /// Checks the bounds of each setting, which a program may have set past [`set`](Self::set), and
    /// what concerns more than one.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut copy = self.clone();
        for key in KEYS {
            let value = (key.get)(self);
            if !(key.name == "partitioner" && value == "custom") {
                copy.set(key.name, &value)?;
            }
        }
        let conflict = |text: String| Err(ConfigError::Conflict(text));
        if self.acks == Acks::None && self.enable_idempotence == Some(true) {
            return conflict(
                "enable.idempotence=true needs acknowledgements and acks is 0: set acks to 1 or \
                 all, or leave enable.idempotence out"
                    .into(),
            );
        }
        let least = self.linger + self.request_timeout;
        if self.delivery_timeout < least {
            return conflict(format!(
                "delivery.timeout.ms ({}) is less than linger.ms + request.timeout.ms ({}): a \
                 request could not even be answered in time; raise it",
                self.delivery_timeout.as_millis(),
                least.as_millis()
            ));
        }
        if self.buffer_memory < self.batch_size {
            return conflict(format!(
                "buffer.memory ({}) is less than batch.size ({}): not one batch fits; raise it",
                self.buffer_memory, self.batch_size
            ));
        }
        Ok(())
    }

    /// The level batches are compressed with; `None`: the codec's default, or it has no levels.
    pub fn compression_level(&self) -> Option<i32> {
        match self.compression {
            Compression::Gzip => self.gzip_level,
            Compression::Zstd => Some(self.zstd_level),
            Compression::None | Compression::Snappy | Compression::Lz4 => None,
        }
    }

    /// How the cluster is reached.
    pub fn cluster_options(&self) -> ClusterOptions {
        let socket = SocketOptions {
            congestion_control: self.congestion_control.clone(),
            connect_timeout: self.connect_timeout,
            busy_poll: BusyPoll::new(self.busy_poll),
            ..SocketOptions::default()
        };
        ClusterOptions {
            socket,
            request_timeout: self.request_timeout.min(Duration::from_secs(5)),
            allow_auto_create: true,
            reconnect_backoff: self.reconnect_backoff,
            reconnect_backoff_max: self.reconnect_backoff_max,
            // Brokers decide; only those of `broker dev` do so unless configured.
            ..ClusterOptions::new(self.bootstrap_servers.clone())
        }
    }
}

/// The key that a person may have meant.
fn nearest(key: &str) -> Option<&'static str> {
    let plain = key.replace(['_', '-'], ".").to_ascii_lowercase();
    KEYS.iter()
        .map(|known| (strsim::damerau_levenshtein(&plain, known.name), known.name))
        .min()
        .filter(|(distance, name)| *distance <= 3.max(name.len() / 4))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests;
