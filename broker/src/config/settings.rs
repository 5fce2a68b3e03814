//! [`BrokerConfig`]: the settings as the rest of the broker sees them, typed and complete.

use std::path::PathBuf;
use std::time::Duration;

use super::describe::Settings;
use super::listeners::KafkaListeners;
use super::load::{Origin, Values};
use crate::storage::CleanerConfig;
use crate::storage::FreeMark;

/// Everything a broker is told at start.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// `broker.id`.
    pub id: proto::BrokerId,
    /// `broker.rack`; empty: none.
    pub rack: String,
    /// `advertised.grpc`; empty: worked out at start.
    pub advertised_grpc: String,
    /// `listen.grpc`.
    pub listen_grpc: String,
    /// `listeners`, with `advertised.listeners`.
    pub kafka: KafkaListeners,
    /// Every key with its value, for who asks.
    pub settings: Settings,
    /// `listen.http`.
    pub listen_http: String,
    /// `log.dirs`.
    pub dirs: Vec<PathBuf>,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `log.segment.delete.delay.ms`.
    pub delete_delay: Duration,
    /// `log.mmap.bytes`.
    pub mmap_bytes: u64,
    /// The log cleaners.
    pub cleaner: CleanerConfig,
    /// `log.open.files.max`; 0: [`open_files_max`] says.
    pub open_files: usize,
    /// `log.min.free.bytes` and `log.min.free.percent`.
    pub free_mark: FreeMark,
    /// `num.recovery.threads.per.data.dir`.
    pub recovery_threads: usize,
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// The registry.
    pub zookeeper: ZooKeeperConfig,
    /// The gRPC listener.
    pub sockets: SocketConfig,
    /// What a fetch or produce may ask.
    pub requests: RequestConfig,
    /// Following and being followed.
    pub replication: ReplicationConfig,
    /// Groups of Kafka's consumers.
    pub groups: GroupConfig,
    /// Defaults of topics.
    pub topics: TopicDefaults,
}

/// Groups that the broker coordinates.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max: Duration,
    /// `group.max.size`.
    pub size_max: usize,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max: usize,
    /// `group.coordinator.memory.max.bytes`.
    pub memory_max: usize,
    /// `offsets.commit.timeout.ms`.
    pub commit_timeout: Duration,
    /// `offsets.load.buffer.size`.
    pub load_buffer_bytes: usize,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `offsets.topic.num.partitions`.
    pub topic_partitions: i32,
    /// `offsets.topic.replication.factor`.
    pub topic_replication_factor: i32,
    /// `offsets.topic.segment.bytes`.
    pub topic_segment_bytes: i32,
}

/// How replicas follow, and how long a leader waits for them.
#[derive(Debug, Clone)]
pub struct ReplicationConfig {
    /// `replica.lag.time.max.ms`.
    pub lag_time_max: Duration,
    /// `num.replica.fetchers`.
    pub fetchers: usize,
    /// `replica.fetch.max.bytes`.
    pub fetch_max_bytes: usize,
    /// `replica.fetch.response.max.bytes`.
    pub fetch_response_max_bytes: usize,
    /// `replica.fetch.wait.max.ms`.
    pub fetch_wait_max: Duration,
    /// `replica.fetch.backoff.ms`.
    pub fetch_backoff: Duration,
    /// `follower.replication.throttled.rate`, bytes a second; `None`: no limit.
    pub throttled_rate: Option<u64>,
    /// `controlled.shutdown.enable`.
    pub controlled_shutdown: bool,
}

/// How the registry is reached.
#[derive(Debug, Clone)]
pub struct ZooKeeperConfig {
    /// `zookeeper.connect`.
    pub connect: String,
    /// `zookeeper.clients.connect`, or the same as `connect`.
    pub connect_clients: String,
    /// `zookeeper.session.timeout.ms`.
    pub session_timeout: Duration,
}

/// Bounds of connections, over all listeners.
#[derive(Debug, Clone)]
pub struct SocketConfig {
    /// `num.network.threads`, never 0 here.
    pub threads: usize,
    /// `max.connections`, never 0 here.
    pub max_connections: usize,
    /// `max.connections.per.ip`.
    pub max_connections_per_ip: usize,
    /// `max.streams.per.connection`.
    pub max_streams: u32,
    /// `socket.request.max.bytes`.
    pub request_max_bytes: usize,
    /// `queued.max.bytes`, never 0 here.
    pub queued_max_bytes: usize,
    /// `socket.congestion.control`.
    pub congestion_control: String,
    /// `busy.poll.us`.
    pub busy_poll: Duration,
    /// `socket.stalled.timeout.ms`.
    pub stalled_timeout: Duration,
    /// `connections.max.idle.ms`.
    pub max_idle: Duration,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_session_slots: usize,
}

/// Bounds of single requests.
#[derive(Debug, Clone)]
pub struct RequestConfig {
    /// `fetch.max.bytes`.
    pub fetch_max_bytes: usize,
    /// `fetch.max.wait.ms`.
    pub fetch_max_wait: Duration,
    /// `request.timeout.ms`.
    pub timeout: Duration,
}

/// What a topic without overrides gets. Kept as text by topic-level key, as overrides are.
#[derive(Debug, Clone)]
pub struct TopicDefaults {
    /// Topic-level key and value.
    pub values: Vec<(&'static str, String)>,
}

/// Broker key and the topic key it is the default of.
pub(super) const TOPIC_KEYS: &[(&str, &str)] = &[
    ("log.segment.bytes", "segment.bytes"),
    ("log.roll.ms", "segment.ms"),
    ("log.roll.jitter.ms", "segment.jitter.ms"),
    ("log.index.interval.bytes", "index.interval.bytes"),
    ("log.retention.ms", "retention.ms"),
    ("log.retention.bytes", "retention.bytes"),
    ("log.flush.policy", "flush"),
    ("log.flush.interval.messages", "flush.messages"),
    ("log.flush.interval.ms", "flush.ms"),
    ("log.expose", "expose"),
    ("log.message.timestamp.type", "message.timestamp.type"),
    ("log.message.timestamp.before.max.ms", "message.timestamp.before.max.ms"),
    ("log.message.timestamp.after.max.ms", "message.timestamp.after.max.ms"),
    ("compression.type", "compression.type"),
    ("compression.gzip.level", "compression.gzip.level"),
    ("compression.zstd.level", "compression.zstd.level"),
    ("log.cleanup.policy", "cleanup.policy"),
    ("log.cleaner.min.cleanable.ratio", "min.cleanable.dirty.ratio"),
    ("log.cleaner.min.compaction.lag.ms", "min.compaction.lag.ms"),
    ("log.cleaner.max.compaction.lag.ms", "max.compaction.lag.ms"),
    ("log.cleaner.delete.retention.ms", "delete.retention.ms"),
    ("message.max.bytes", "max.message.bytes"),
    ("min.insync.replicas", "min.insync.replicas"),
];

impl BrokerConfig {
    /// The settings of checked values. `memory_bytes` is this machine's, for the defaults that
    /// follow from it; `cores` likewise.
    pub fn new(values: &Values, memory_bytes: u64, cores: usize) -> Self {
        let connect = values.text("zookeeper.connect").to_owned();
        let told = values.text("zookeeper.clients.connect");
        let connect_clients = if told.is_empty() { connect.clone() } else { told.to_owned() };
        Self {
            id: proto::BrokerId(values.int("broker.id") as i32),
            rack: values.text("broker.rack").to_owned(),
            advertised_grpc: values.text("advertised.grpc").to_owned(),
            listen_grpc: values.text("listen.grpc").to_owned(),
            kafka: KafkaListeners::new(
                values.text("listeners"),
                values.text("advertised.listeners"),
            ),
            settings: Settings::new(values),
            listen_http: values.text("listen.http").to_owned(),
            dirs: values.paths("log.dirs"),
            retention_check_interval: values.millis("log.retention.check.interval.ms"),
            delete_delay: values.millis("log.segment.delete.delay.ms"),
            mmap_bytes: values.int("log.mmap.bytes").unsigned_abs(),
            free_mark: FreeMark {
                bytes: values.int("log.min.free.bytes").unsigned_abs(),
                percent: values.int("log.min.free.percent") as u8,
            },
            recovery_threads: values.int("num.recovery.threads.per.data.dir") as usize,
            open_files: values.int("log.open.files.max") as usize,
            cleaner: cleaner_config(values),
            auto_create_topics: values.flag("auto.create.topics.enable"),
            zookeeper: ZooKeeperConfig {
                connect,
                connect_clients,
                session_timeout: values.millis("zookeeper.session.timeout.ms"),
            },
            sockets: socket_config(values, memory_bytes, cores),
            requests: RequestConfig {
                fetch_max_bytes: values.int("fetch.max.bytes") as usize,
                fetch_max_wait: values.millis("fetch.max.wait.ms"),
                timeout: values.millis("request.timeout.ms"),
            },
            replication: replication_config(values),
            groups: group_config(values, memory_bytes),
            topics: TopicDefaults {
                values: TOPIC_KEYS
                    .iter()
                    .map(|&(broker, topic)| (topic, topic_default(values, broker)))
                    .collect(),
            },
        }
    }
}

/// Segments' files that may be open where the limit on open files is `limit`: what connections and
/// the rest of the process leave, but at least half.
pub fn open_files_max(limit: u64, max_connections: usize) -> usize {
    const REST: usize = 256;
    const MOST: usize = 32_768;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    limit.saturating_sub(max_connections.saturating_add(REST)).max(limit / 2).clamp(16, MOST)
}

fn replication_config(values: &Values) -> ReplicationConfig {
    let rate = values.int("follower.replication.throttled.rate");
    ReplicationConfig {
        lag_time_max: values.millis("replica.lag.time.max.ms"),
        fetchers: values.int("num.replica.fetchers") as usize,
        fetch_max_bytes: values.int("replica.fetch.max.bytes") as usize,
        fetch_response_max_bytes: values.int("replica.fetch.response.max.bytes") as usize,
        fetch_wait_max: values.millis("replica.fetch.wait.max.ms"),
        fetch_backoff: values.millis("replica.fetch.backoff.ms"),
        throttled_rate: (rate != i64::MAX).then_some(rate.unsigned_abs()),
        controlled_shutdown: values.flag("controlled.shutdown.enable"),
    }
}

fn group_config(values: &Values, memory_bytes: u64) -> GroupConfig {
    const MINUTE_MS: u64 = 60_000;
    let retention_ms = values.int("offsets.retention.minutes").unsigned_abs() * MINUTE_MS;
    GroupConfig {
        initial_rebalance_delay: values.millis("group.initial.rebalance.delay.ms"),
        session_timeout_min: values.millis("group.min.session.timeout.ms"),
        session_timeout_max: values.millis("group.max.session.timeout.ms"),
        size_max: values.int("group.max.size") as usize,
        memory_max: match values.int("group.coordinator.memory.max.bytes") {
            0 => (memory_bytes / 8).max(64 << 20) as usize,
            bytes => bytes as usize,
        },
        offset_metadata_max: values.int("offset.metadata.max.bytes") as usize,
        commit_timeout: values.millis("offsets.commit.timeout.ms"),
        load_buffer_bytes: values.int("offsets.load.buffer.size") as usize,
        offsets_retention: Duration::from_millis(retention_ms),
        retention_check_interval: values.millis("offsets.retention.check.interval.ms"),
        topic_partitions: values.int("offsets.topic.num.partitions") as i32,
        topic_replication_factor: values.int("offsets.topic.replication.factor") as i32,
        topic_segment_bytes: values.int("offsets.topic.segment.bytes") as i32,
    }
}

fn cleaner_config(values: &Values) -> CleanerConfig {
    let rate = values.int("log.cleaner.io.max.bytes.per.second");
    CleanerConfig {
        enable: values.flag("log.cleaner.enable"),
        threads: values.int("log.cleaner.threads") as usize,
        backoff: values.millis("log.cleaner.backoff.ms"),
        dedupe_buffer_bytes: values.int("log.cleaner.dedupe.buffer.size") as usize,
        dedupe_buffer_load_factor: values.ratio("log.cleaner.io.buffer.load.factor"),
        io_bytes_per_second: (rate != i64::MAX).then_some(rate.unsigned_abs()),
    }
}

/// Keys in longer units that stand in for one in milliseconds where that is not set, as in Kafka;
/// the first one that is set counts.
const LONGER_UNITS: &[(&str, &[(&str, i64)])] = &[
    ("log.retention.ms", &[("log.retention.minutes", 60_000), ("log.retention.hours", 3_600_000)]),
    ("log.roll.ms", &[("log.roll.hours", 3_600_000)]),
];

pub(super) fn topic_default(values: &Values, key: &'static str) -> String {
    let longer = LONGER_UNITS.iter().find(|(short, _)| *short == key).map_or(&[][..], |l| l.1);
    if values.origin(key) == Origin::Default {
        let set = longer.iter().map(|&(name, unit)| (values.int(name), unit));
        if let Some((number, unit)) = set.into_iter().find(|&(number, _)| number != 0) {
            return if number < 0 { "-1".to_owned() } else { (number * unit).to_string() };
        }
    }
    values.text(key).to_owned()
}

fn socket_config(values: &Values, memory_bytes: u64, cores: usize) -> SocketConfig {
    const MIB: u64 = 1 << 20;
    let or = |set: i64, worked_out: u64| match set {
        0 => usize::try_from(worked_out).unwrap_or(usize::MAX),
        _ => set as usize,
    };
    SocketConfig {
        threads: or(values.int("num.network.threads"), cores.max(1) as u64),
        max_connections: or(values.int("max.connections"), (memory_bytes / (16 * MIB)).max(256)),
        max_connections_per_ip: values.int("max.connections.per.ip") as usize,
        max_streams: values.int("max.streams.per.connection") as u32,
        request_max_bytes: values.int("socket.request.max.bytes") as usize,
        queued_max_bytes: or(
            values.int("queued.max.bytes"),
            (memory_bytes / 16).clamp(16 * MIB, 256 * MIB),
        ),
        congestion_control: values.text("socket.congestion.control").to_owned(),
        busy_poll: Duration::from_micros(values.int("busy.poll.us") as u64),
        stalled_timeout: values.millis("socket.stalled.timeout.ms"),
        max_idle: values.millis("connections.max.idle.ms"),
        fetch_session_slots: values.int("max.incremental.fetch.session.cache.slots") as usize,
    }
}
