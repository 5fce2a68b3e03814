//! Settings of a consumer: one typed struct, and a table of Kafka's key names over it.
//!
//! Checked before anything connects. Knows nothing of files, flags or the environment:
//! `cli::settings` carries those here, key by key.

mod keys;

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::error::ConfigError;

pub use keys::{KEYS, Key};

/// What happens where there is no usable position: a new group, an offset that is out of range, a
/// topic that was deleted and created again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    /// Begin at the oldest record.
    Earliest,
    /// Begin after the newest record.
    Latest,
    /// Begin nowhere: the partition stands still, with an event, until the application seeks.
    None,
}

/// What happens at offsets that cannot be read: the broker's bytes are damaged, or what they hold
/// does not decompress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDamage {
    /// Nothing behind them is delivered of the partition: the call that meets them fails.
    Stop,
    /// An event names them, then delivery goes on behind them.
    Skip,
}

/// How a group's partitions are shared out; all members of a group use the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssignmentStrategy {
    /// The paper's: consecutive partitions of each topic to each stream.
    Range,
    /// Even, and as close to the previous plan as evenness allows.
    Sticky,
}

/// Who keeps a group together, and its offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// The members themselves, in the registry.
    ZooKeeper,
    /// A broker, for Kafka's consumers and ours alike.
    Broker,
}

/// The settings of a [`crate::Consumer`]. Fields are named as Kafka's keys, see [`KEYS`] for the
/// documentation, the unit and the bounds of each.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ConsumerConfig {
    /// `bootstrap.servers`
    pub bootstrap_servers: Vec<String>,
    /// `client.id`
    pub client_id: String,
    /// `group.id`; without one there are no groups and no commits.
    pub group_id: Option<String>,
    /// `consumer.id`; made from host, time and a random part where not set.
    pub consumer_id: Option<String>,
    /// `membership`
    pub membership: Membership,
    /// `group.instance.id`; not set: the member is not static.
    pub group_instance_id: Option<String>,
    /// `session.timeout.ms`
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms`
    pub heartbeat_interval: Duration,
    /// `max.poll.interval.ms`
    pub max_poll_interval: Duration,
    /// `zookeeper.connect`; learned from the brokers where not set.
    pub zookeeper_connect: Option<String>,
    /// `zookeeper.session.timeout.ms`
    pub zookeeper_session_timeout: Duration,
    /// `auto.offset.reset`
    pub auto_offset_reset: OffsetReset,
    /// `enable.auto.commit`
    pub enable_auto_commit: bool,
    /// `auto.commit.interval.ms`
    pub auto_commit_interval: Duration,
    /// `partition.assignment.strategy`
    pub partition_assignment_strategy: AssignmentStrategy,
    /// `rebalance.quiet.ms`
    pub rebalance_quiet: Duration,
    /// `rebalance.drain.ms`
    pub rebalance_drain: Duration,
    /// `fetch.min.bytes`
    pub fetch_min_bytes: u32,
    /// `fetch.max.wait.ms`
    pub fetch_max_wait: Duration,
    /// `fetch.max.bytes`
    pub fetch_max_bytes: u64,
    /// `max.partition.fetch.bytes`
    pub max_partition_fetch_bytes: u32,
    /// `queued.max.bytes`
    pub queued_max_bytes: u64,
    /// `max.poll.records`
    pub max_poll_records: usize,
    /// `check.crcs`
    pub check_crcs: bool,
    /// `on.damage`
    pub on_damage: OnDamage,
    /// `batch.decompressed.max.bytes`
    pub batch_decompressed_max_bytes: u64,
    /// `retry.backoff.ms`
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`
    pub retry_backoff_max: Duration,
    /// `metadata.max.age.ms`
    pub metadata_max_age: Duration,
    /// `default.api.timeout.ms`
    pub default_api_timeout: Duration,
    /// `stall.report.ms`
    pub stall_report: Duration,
    /// `socket.congestion.control`
    pub socket_congestion_control: String,
    /// `busy.poll.us`
    pub busy_poll: Duration,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            bootstrap_servers: vec!["127.0.0.1:9094".to_owned()],
            client_id: "consumer".to_owned(),
            group_id: None,
            consumer_id: None,
            membership: Membership::ZooKeeper,
            group_instance_id: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            zookeeper_connect: None,
            zookeeper_session_timeout: Duration::from_secs(6),
            auto_offset_reset: OffsetReset::Latest,
            enable_auto_commit: true,
            auto_commit_interval: Duration::from_secs(5),
            partition_assignment_strategy: AssignmentStrategy::Range,
            rebalance_quiet: Duration::from_millis(200),
            rebalance_drain: Duration::from_secs(5),
            fetch_min_bytes: 1,
            fetch_max_wait: Duration::from_millis(500),
            fetch_max_bytes: 16 << 20,
            max_partition_fetch_bytes: 1 << 20,
            queued_max_bytes: 32 << 20,
            max_poll_records: 500,
            check_crcs: true,
            on_damage: OnDamage::Stop,
            batch_decompressed_max_bytes: 64 << 20,
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            metadata_max_age: Duration::from_secs(300),
            default_api_timeout: Duration::from_secs(60),
            stall_report: Duration::from_secs(10),
            socket_congestion_control: "auto".to_owned(),
            busy_poll: Duration::ZERO,
        }
    }
}

impl ConsumerConfig {
    /// The defaults against these brokers, each `host:port`.
    pub fn new(bootstrap_servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let bootstrap_servers = bootstrap_servers.into_iter().map(Into::into).collect();
        Self { bootstrap_servers, ..Self::default() }
    }

    /// As a member of this group.
    #[must_use]
    pub fn group(mut self, group_id: impl Into<String>) -> Self {
        self.group_id = Some(group_id.into());
        self
    }

    /// Begins at the oldest record where there is no usable position.
    #[must_use]
    pub fn from_beginning(mut self) -> Self {
        self.auto_offset_reset = OffsetReset::Earliest;
        self
    }

    /// Sets one key by its Kafka name. An unknown name is an error with the nearest known one.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            return Err(ConfigError::UnknownKey {
                name: name.to_owned(),
                suggestion: nearest(name),
            });
        };
        (key.set)(self, value.trim()).map_err(|reason| ConfigError::InvalidValue {
            name: key.name,
            value: value.to_owned(),
            reason,
        })
    }

    /// Checks what no single key can: the relations between them.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let conflict = |reason: &str| Err(ConfigError::Conflict { reason: reason.to_owned() });
        if self.bootstrap_servers.is_empty() {
            return conflict("bootstrap.servers is empty: name at least one broker as host:port");
        }
        // The fields are public: what was not set by key is checked here.
        let mut checked = Self::default();
        for (key, value) in self.entries() {
            checked.set(key.name, &value)?;
        }
        if self.retry_backoff > self.retry_backoff_max {
            return conflict("retry.backoff.ms is above retry.backoff.max.ms: lower the first");
        }
        if self.membership == Membership::Broker && self.heartbeat_interval >= self.session_timeout
        {
            return conflict(
                "heartbeat.interval.ms is not below session.timeout.ms: a third of it is usual",
            );
        }
        if u64::from(self.max_partition_fetch_bytes) > self.queued_max_bytes {
            return conflict(
                "max.partition.fetch.bytes is above queued.max.bytes, so one answer would not fit \
                 the queue: raise queued.max.bytes",
            );
        }
        Ok(())
    }

    /// Every key with its present value, in the order of [`KEYS`].
    pub fn entries(&self) -> impl Iterator<Item = (&'static Key, String)> + '_ {
        KEYS.iter().map(|key| (key, (key.get)(self)))
    }
}

fn nearest(name: &str) -> Option<&'static str> {
    KEYS.iter()
        .map(|key| (strsim::jaro_winkler(name, key.name), key.name))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
