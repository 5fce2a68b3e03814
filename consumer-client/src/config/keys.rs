//! The table of keys: name, unit, default, bounds, meaning, and how each reads and writes its
//! field.

use std::time::Duration;

use proto::client::BusyPoll;

use super::{AssignmentStrategy, ConsumerConfig, Membership, OffsetReset, OnDamage};

type Set = fn(&mut ConsumerConfig, &str) -> Result<(), String>;

/// One documented setting.
pub struct Key {
    /// Kafka's name for it, where Kafka has it.
    pub name: &'static str,
    /// Unit or kind of value.
    pub unit: &'static str,
    /// Bounds or choices; empty where any value will do.
    pub bounds: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// The present value as text.
    pub get: fn(&ConsumerConfig) -> String,
    pub(super) set: Set,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

fn number(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let value: u64 =
        text.parse().map_err(|_| format!("a whole number {min}..={max} is expected"))?;
    if (min..=max).contains(&value) { Ok(value) } else { Err(format!("{min}..={max} is expected")) }
}

fn millis(text: &str, min: u64, max: u64) -> Result<Duration, String> {
    number(text, min, max).map(Duration::from_millis)
}

fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "`true` or `false` is expected".to_owned())
}

fn word(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 249 || text.contains(['/', '\0']) || text.contains("..") {
        return Err("1 to 249 characters without `/` or `..` are expected".to_owned());
    }
    Ok(text.to_owned())
}

fn optional(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() { Ok(None) } else { word(text).map(Some) }
}

fn hosts(text: &str) -> Result<Vec<String>, String> {
    let hosts: Vec<String> =
        text.split(',').map(str::trim).filter(|h| !h.is_empty()).map(str::to_owned).collect();
    let valid = |host: &String| {
        host.rsplit_once(':').is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok())
    };
    if hosts.is_empty() || !hosts.iter().all(valid) {
        return Err("host:port[,host:port…] is expected, for example 127.0.0.1:9094".to_owned());
    }
    Ok(hosts)
}

fn ms(duration: Duration) -> String {
    duration.as_millis().to_string()
}

fn or_empty(text: &Option<String>) -> String {
    text.clone().unwrap_or_default()
}

macro_rules! key {
    ($name:literal, $unit:literal, $bounds:literal, $doc:literal,
     |$c:ident| $get:expr, |$m:ident, $v:ident| $set:expr) => {
        Key {
            name: $name,
            unit: $unit,
            bounds: $bounds,
            doc: $doc,
            get: |$c| $get,
            set: |$m, $v| {
                $set;
                Ok(())
            },
        }
    };
}

/// Every key a consumer knows.
pub const KEYS: &[Key] = &[
    key!(
        "bootstrap.servers",
        "host:port list",
        "",
        "Brokers asked first; the rest is learned from them.",
        |c| c.bootstrap_servers.join(","),
        |c, v| c.bootstrap_servers = hosts(v)?
    ),
    key!(
        "client.id",
        "text",
        "",
        "Names this client in the brokers' logs and metrics.",
        |c| c.client_id.clone(),
        |c, v| c.client_id = word(v)?
    ),
    key!(
        "group.id",
        "text",
        "no `/`",
        "The group whose members share the partitions and whose offsets are committed; empty for none.",
        |c| or_empty(&c.group_id),
        |c, v| c.group_id = optional(v)?
    ),
    key!(
        "consumer.id",
        "text",
        "no `/`",
        "This member's name in its group; made up from host, time and a random part where empty. With membership=broker it begins the name, which the coordinator gives (client.id where empty).",
        |c| or_empty(&c.consumer_id),
        |c, v| c.consumer_id = optional(v)?
    ),
    key!(
        "membership",
        "choice",
        "zookeeper | broker",
        "Who keeps the group together and its offsets. zookeeper: the members themselves, in the registry. broker: a coordinator among the brokers, as for Kafka's consumers, with whom the group may be shared; the registry is not needed then. Groups of both kinds have nothing in common but perhaps a name.",
        |c| match c.membership {
            Membership::ZooKeeper => "zookeeper",
            Membership::Broker => "broker",
        }
        .to_owned(),
        |c, v| c.membership = match v {
            "zookeeper" => Membership::ZooKeeper,
            "broker" => Membership::Broker,
            _ => return Err("zookeeper or broker is expected".to_owned()),
        }
    ),
    key!(
        "group.instance.id",
        "text",
        "no `/`",
        "Only with membership=broker: makes this a static member, which keeps its partitions while it restarts within session.timeout.ms, and does not leave when it closes; empty: it is none.",
        |c| or_empty(&c.group_instance_id),
        |c, v| c.group_instance_id = optional(v)?
    ),
    key!(
        "session.timeout.ms",
        "ms",
        "100..=1800000",
        "Only with membership=broker: how long the coordinator waits before it counts a silent member as gone. The broker has bounds of its own (group.min.session.timeout.ms).",
        |c| ms(c.session_timeout),
        |c, v| c.session_timeout = millis(v, 100, 1_800_000)?
    ),
    key!(
        "heartbeat.interval.ms",
        "ms",
        "10..=600000",
        "Only with membership=broker: time between signs of life, by which members also learn of a rebalance; below session.timeout.ms, a third of it at most.",
        |c| ms(c.heartbeat_interval),
        |c, v| c.heartbeat_interval = millis(v, 10, 600_000)?
    ),
    key!(
        "max.poll.interval.ms",
        "ms",
        "100..=86400000",
        "Only with membership=broker: an application that neither asks for records nor finishes any for so long gives its partitions up, until it asks again. Also how long members have to join in a rebalance.",
        |c| ms(c.max_poll_interval),
        |c, v| c.max_poll_interval = millis(v, 100, 86_400_000)?
    ),
    key!(
        "zookeeper.connect",
        "host:port list/chroot",
        "",
        "The registry groups live in; learned from the brokers where empty.",
        |c| or_empty(&c.zookeeper_connect),
        |c, v| c.zookeeper_connect = (!v.is_empty()).then(|| v.to_owned())
    ),
    key!(
        "zookeeper.session.timeout.ms",
        "ms",
        "400..=60000",
        "How long the registry waits before it counts a silent member as gone.",
        |c| ms(c.zookeeper_session_timeout),
        |c, v| c.zookeeper_session_timeout = millis(v, 400, 60_000)?
    ),
    key!(
        "auto.offset.reset",
        "choice",
        "earliest | latest | none",
        "Where to begin without a usable position: a new group, an offset out of range, a topic created anew. With none the partition waits for a seek. Whenever it is used for a position that was lost, an event says so.",
        |c| match c.auto_offset_reset {
            OffsetReset::Earliest => "earliest",
            OffsetReset::Latest => "latest",
            OffsetReset::None => "none",
        }
        .to_owned(),
        |c, v| c.auto_offset_reset = match v {
            "earliest" | "smallest" | "beginning" => OffsetReset::Earliest,
            "latest" | "largest" | "end" => OffsetReset::Latest,
            "none" | "error" => OffsetReset::None,
            _ => return Err("earliest, latest or none is expected".to_owned()),
        }
    ),
    key!(
        "enable.auto.commit",
        "boolean",
        "true | false",
        "Commit the positions of handled records every auto.commit.interval.ms and before a partition is released.",
        |c| c.enable_auto_commit.to_string(),
        |c, v| c.enable_auto_commit = boolean(v)?
    ),
    key!(
        "auto.commit.interval.ms",
        "ms",
        "10..=86400000",
        "Time between automatic commits; unchanged positions are not written again.",
        |c| ms(c.auto_commit_interval),
        |c, v| c.auto_commit_interval = millis(v, 10, 86_400_000)?
    ),
    key!(
        "partition.assignment.strategy",
        "choice",
        "range | sticky",
        "How partitions are shared out. The member that writes the plan uses its own setting, so give all members the same. With membership=broker, range is Kafka's assignor `range`, for which everybody gives up everything in each rebalance; sticky is `cooperative-sticky`: what does not move keeps flowing.",
        |c| match c.partition_assignment_strategy {
            AssignmentStrategy::Range => "range",
            AssignmentStrategy::Sticky => "sticky",
        }
        .to_owned(),
        |c, v| c.partition_assignment_strategy = match v {
            "range" => AssignmentStrategy::Range,
            "sticky" | "cooperative-sticky" => AssignmentStrategy::Sticky,
            _ => return Err("range or sticky is expected".to_owned()),
        }
    ),
    key!(
        "rebalance.quiet.ms",
        "ms",
        "0..=60000",
        "How long members and partitions must be unchanged before a new plan is computed.",
        |c| ms(c.rebalance_quiet),
        |c, v| c.rebalance_quiet = millis(v, 0, 60_000)?
    ),
    key!(
        "rebalance.drain.ms",
        "ms",
        "0..=600000",
        "How long a partition that moves away waits for the application to finish the records it was handed, so that they are committed first.",
        |c| ms(c.rebalance_drain),
        |c, v| c.rebalance_drain = millis(v, 0, 600_000)?
    ),
    key!(
        "fetch.min.bytes",
        "bytes",
        "1..=67108864",
        "The broker answers once this much is readable, or after fetch.max.wait.ms.",
        |c| c.fetch_min_bytes.to_string(),
        |c, v| c.fetch_min_bytes = number(v, 1, 64 << 20)? as u32
    ),
    key!(
        "fetch.max.wait.ms",
        "ms",
        "0..=30000",
        "The longest wait for fetch.min.bytes.",
        |c| ms(c.fetch_max_wait),
        |c, v| c.fetch_max_wait = millis(v, 0, 30_000)?
    ),
    key!(
        "fetch.max.bytes",
        "bytes",
        "1024..=1073741824",
        "Most bytes of one fetch round of one broker; the first batch comes whole even above it.",
        |c| c.fetch_max_bytes.to_string(),
        |c, v| c.fetch_max_bytes = number(v, 1024, 1 << 30)?
    ),
    key!(
        "max.partition.fetch.bytes",
        "bytes",
        "1024..=67108864",
        "Most bytes of one answer of one partition; the first batch comes whole even above it.",
        |c| c.max_partition_fetch_bytes.to_string(),
        |c, v| c.max_partition_fetch_bytes = number(v, 1024, 64 << 20)? as u32
    ),
    key!(
        "queued.max.bytes",
        "bytes",
        "1024..=17179869184",
        "Most bytes fetched ahead of the application, rounds under way included; at the bound fetching waits.",
        |c| c.queued_max_bytes.to_string(),
        |c, v| c.queued_max_bytes = number(v, 1024, 16 << 30)?
    ),
    key!(
        "max.poll.records",
        "records",
        "1..=1000000",
        "Most records of one poll; poll_batches is not bound by it.",
        |c| c.max_poll_records.to_string(),
        |c, v| c.max_poll_records = number(v, 1, 1_000_000)? as usize
    ),
    key!(
        "check.crcs",
        "boolean",
        "true | false",
        "Verify the checksum of every batch.",
        |c| c.check_crcs.to_string(),
        |c, v| c.check_crcs = boolean(v)?
    ),
    key!(
        "on.damage",
        "choice",
        "stop | skip",
        "What to do at offsets that cannot be read, after they were fetched again and the broker has checked its disk. stop: the poll fails (a message stream ends) and names them, and the partition stands still until a seek. skip: an event names them, and delivery goes on behind them.",
        |c| match c.on_damage {
            OnDamage::Stop => "stop",
            OnDamage::Skip => "skip",
        }
        .to_owned(),
        |c, v| c.on_damage = match v {
            "stop" => OnDamage::Stop,
            "skip" => OnDamage::Skip,
            _ => return Err("stop or skip is expected".to_owned()),
        }
    ),
    key!(
        "batch.decompressed.max.bytes",
        "bytes",
        "1024..=1073741824",
        "Most bytes that the records of one compressed batch may take decompressed. A batch above it is a bomb or needs this raised: it is treated as damaged.",
        |c| c.batch_decompressed_max_bytes.to_string(),
        |c, v| c.batch_decompressed_max_bytes = number(v, 1024, 1 << 30)?
    ),
    key!(
        "retry.backoff.ms",
        "ms",
        "1..=60000",
        "First pause after a failure; it doubles up to retry.backoff.max.ms.",
        |c| ms(c.retry_backoff),
        |c, v| c.retry_backoff = millis(v, 1, 60_000)?
    ),
    key!(
        "retry.backoff.max.ms",
        "ms",
        "1..=600000",
        "Longest pause between tries.",
        |c| ms(c.retry_backoff_max),
        |c, v| c.retry_backoff_max = millis(v, 1, 600_000)?
    ),
    key!(
        "metadata.max.age.ms",
        "ms",
        "1000..=86400000",
        "Metadata is fetched again after this time even without a reason.",
        |c| ms(c.metadata_max_age),
        |c, v| c.metadata_max_age = millis(v, 1000, 86_400_000)?
    ),
    key!(
        "default.api.timeout.ms",
        "ms",
        "100..=3600000",
        "How long a call such as end_offsets or commit may take before it fails.",
        |c| ms(c.default_api_timeout),
        |c, v| c.default_api_timeout = millis(v, 100, 3_600_000)?
    ),
    key!(
        "stall.report.ms",
        "ms",
        "100..=3600000",
        "A partition that could not be fetched for this long is reported by an event, and again at each multiple.",
        |c| ms(c.stall_report),
        |c, v| c.stall_report = millis(v, 100, 3_600_000)?
    ),
    key!(
        "socket.congestion.control",
        "text",
        "auto | os | an algorithm",
        "Congestion control of the sockets: auto takes reno where the peer is this machine.",
        |c| c.socket_congestion_control.clone(),
        |c, v| c.socket_congestion_control = word(v)?
    ),
    key!(
        "busy.poll.us",
        "us",
        "0..=1000",
        "How long the consumer looks for records before its thread sleeps, and a poll before it blocks. Takes tens of microseconds off each wake-up (20 to 50 will do on one machine, with the broker's key of the same name) and costs a core while records come; stops by itself where nothing comes within the time.",
        |c| c.busy_poll.as_micros().to_string(),
        |c, v| c.busy_poll = Duration::from_micros(number(v, 0, BusyPoll::MICROS_MAX)?)
    ),
];
