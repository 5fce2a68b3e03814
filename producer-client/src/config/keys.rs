//! The table of settings: one row a key, with how it is read and printed.

use std::time::Duration;

use proto::client::{BusyPoll, CongestionControl};
use proto::record::Compression;

use super::{Acks, ProducerConfig};
use crate::partitioner::{Builtin, PartitionerKind};

/// One setting.
pub struct Key {
    /// Kafka's name, or librdkafka's where only that has one.
    pub name: &'static str,
    /// Unit of its value; empty where it has none.
    pub unit: &'static str,
    /// What is valid.
    pub bounds: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Prints its value.
    pub get: fn(&ProducerConfig) -> String,
    pub(super) set: fn(&mut ProducerConfig, &str) -> Result<(), String>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A key whose value is a number of bytes or pieces.
macro_rules! number {
    ($name:literal, $field:ident: $type:ty, $unit:literal, $bounds:expr, $text:literal, $doc:literal) => {
        Key {
            name: $name,
            unit: $unit,
            bounds: $text,
            doc: $doc,
            get: |config| config.$field.to_string(),
            set: |config, text| {
                let number: Option<$type> = text.parse().ok();
                let valid = number.filter(|number| $bounds.contains(number));
                config.$field = valid.ok_or_else(|| format!("expected {}", $text))?;
                Ok(())
            },
        }
    };
}

/// A key whose value is a time in milliseconds.
macro_rules! millis {
    ($name:literal, $field:ident, $min:literal, $text:literal, $doc:literal) => {
        Key {
            name: $name,
            unit: "ms",
            bounds: $text,
            doc: $doc,
            get: |config| config.$field.as_millis().to_string(),
            set: |config, text| {
                let ms: Option<u64> = text.parse().ok();
                let valid = ms.filter(|ms| ($min..=MILLIS_MAX).contains(ms));
                let ms = valid.ok_or_else(|| format!("expected {}", $text))?;
                config.$field = Duration::from_millis(ms);
                Ok(())
            },
        }
    };
}

const MILLIS_MAX: u64 = i32::MAX as u64;

/// Every key.
pub const KEYS: &[Key] = &[
    Key {
        name: "bootstrap.servers",
        unit: "",
        bounds: "HOST:PORT, several with commas between them",
        doc: "brokers to ask first; any live one will do, the others are learnt from it",
        get: |config| config.bootstrap_servers.join(","),
        set: set_bootstrap,
    },
    Key {
        name: "client.id",
        unit: "",
        bounds: "up to 249 characters",
        doc: "names this producer in the brokers' logs and metrics",
        get: |config| config.client_id.clone(),
        set: |config, text| {
            if text.chars().count() > 249 {
                return Err("expected up to 249 characters".into());
            }
            config.client_id = text.into();
            Ok(())
        },
    },
    Key {
        name: "acks",
        unit: "",
        bounds: "0, 1, all",
        doc: "who must have a record before it counts as sent: nobody, the leader, every in-sync \
              replica",
        get: |config| {
            match config.acks {
                Acks::None => "0",
                Acks::Leader => "1",
                Acks::All => "all",
            }
            .into()
        },
        set: |config, text| {
            config.acks = match text {
                "0" => Acks::None,
                "1" => Acks::Leader,
                "all" | "-1" => Acks::All,
                _ => return Err("expected 0, 1 or all".into()),
            };
            Ok(())
        },
    },
    Key {
        name: "enable.idempotence",
        unit: "",
        bounds: "true, false",
        doc: "retries never write a record twice nor change the order; on unless acks=0. Off, one \
              request of each partition is in flight",
        get: |config| config.is_idempotent().to_string(),
        set: |config, text| {
            let value = text.parse().map_err(|_| String::from("expected true or false"))?;
            config.enable_idempotence = Some(value);
            Ok(())
        },
    },
    number!(
        "max.in.flight.requests.per.connection",
        max_in_flight: usize,
        "batches",
        (1..=1024),
        "1 to 1024",
        "unacknowledged batches of each partition; the broker remembers as many to recognise retries"
    ),
    millis!(
        "linger.ms",
        linger,
        0,
        "0 or more",
        "how long a batch that is not full waits for more records"
    ),
    number!(
        "batch.size",
        batch_size: usize,
        "bytes",
        (0..=64 << 20),
        "0 to 67108864",
        "a batch is sent when it is this large, before compression; a larger record has a batch of \
         its own"
    ),
    number!(
        "buffer.memory",
        buffer_memory: usize,
        "bytes",
        (64 << 10..=1 << 40),
        "65536 or more",
        "what unacknowledged batches may take, of all partitions together; senders wait above it. A \
         busy partition that has no leader for long can take all of it, and the others wait with \
         it: its records go when it has a leader, or fail after delivery.timeout.ms"
    ),
    millis!(
        "max.block.ms",
        max_block,
        0,
        "0 or more",
        "how long a record waits for room in buffer.memory or for its topic to be known, in turn: \
         while one waits for room, none that comes later passes it, of whatever partition"
    ),
    number!(
        "max.request.size",
        max_request_size: usize,
        "bytes",
        (128..=64 << 20),
        "128 to 67108864",
        "the largest record, before compression; the topic's max.message.bytes has to allow its \
         batch, after compression, too"
    ),
    millis!(
        "delivery.timeout.ms",
        delivery_timeout,
        1,
        "linger.ms + request.timeout.ms or more",
        "when a record that is not acknowledged fails, retries included"
    ),
    millis!(
        "request.timeout.ms",
        request_timeout,
        1,
        "1 or more",
        "a connection with a request unanswered for so long counts as dead"
    ),
    number!(
        "retries",
        retries: u32,
        "attempts",
        (0..=i32::MAX as u32),
        "0 to 2147483647",
        "attempts after the first; better left alone: delivery.timeout.ms is the limit"
    ),
    millis!(
        "retry.backoff.ms",
        retry_backoff,
        0,
        "0 or more",
        "wait before the first retry; it doubles with each, and a fifth of it is random. With a new \
         leader it begins again, at 5 ms until that one has taken something"
    ),
    millis!("retry.backoff.max.ms", retry_backoff_max, 0, "0 or more", "the longest such wait"),
    millis!(
        "reconnect.backoff.ms",
        reconnect_backoff,
        0,
        "0 or more",
        "wait before a broker is connected to again; it doubles with each failure"
    ),
    millis!(
        "reconnect.backoff.max.ms",
        reconnect_backoff_max,
        0,
        "0 or more",
        "the longest such wait"
    ),
    millis!(
        "metadata.max.age.ms",
        metadata_max_age,
        100,
        "100 or more",
        "metadata is asked for again after so long, to find new partitions; errors do so at once"
    ),
    millis!(
        "socket.connection.setup.timeout.ms",
        connect_timeout,
        1,
        "1 or more",
        "the longest wait for a connection"
    ),
    Key {
        name: "socket.congestion.control",
        unit: "",
        bounds: "auto, os, or a name the kernel knows",
        doc: "auto: reno to brokers on this machine, the system's choice to others",
        get: |config| match &config.congestion_control {
            CongestionControl::Auto => "auto".into(),
            CongestionControl::Os => "os".into(),
            CongestionControl::Named(name) => name.clone(),
        },
        set: |config, text| {
            config.congestion_control = match text {
                "" => return Err("expected auto, os or a name".into()),
                "auto" => CongestionControl::Auto,
                "os" => CongestionControl::Os,
                name => CongestionControl::Named(name.into()),
            };
            Ok(())
        },
    },
    Key {
        name: "busy.poll.us",
        unit: "us",
        bounds: "0 to 1000",
        doc: "how long the producer looks for answers before its thread sleeps, and a blocked wait() \
              for its record; takes tens of microseconds off a round trip (20 to 50 will do on one \
              machine, with the broker's key of the same name) and costs a core while records are \
              sent; stops by itself where nothing comes within the time",
        get: |config| config.busy_poll.as_micros().to_string(),
        set: |config, text| {
            let micros = text.parse().ok().filter(|micros| *micros <= BusyPoll::MICROS_MAX);
            config.busy_poll = Duration::from_micros(micros.ok_or("expected 0 to 1000")?);
            Ok(())
        },
    },
    Key {
        name: "partitioner",
        unit: "",
        bounds: "murmur2_random, murmur2, consistent_random, consistent, sticky, random",
        doc: "where records go that name no partition: murmur2* hash the key as the Java client, \
              consistent* as librdkafka; *_random fill one partition's batch after another where \
              there is no key",
        get: |config| format!("{:?}", config.partitioner),
        set: |config, text| {
            config.partitioner = PartitionerKind::Builtin(text.parse::<Builtin>()?);
            Ok(())
        },
    },
    Key {
        name: "compression.type",
        unit: "",
        bounds: "none, gzip, snappy, lz4, zstd",
        doc: "how batches are compressed, each as a whole: zstd makes them smallest for its time, lz4 \
              and snappy cost least. A batch that becomes no smaller goes uncompressed. Larger \
              batches compress better: raise batch.size and linger.ms along",
        get: |config| config.compression.name().into(),
        set: |config, text| {
            let expected = |_| String::from("expected none, gzip, snappy, lz4 or zstd");
            config.compression = text.parse().map_err(expected)?;
            Ok(())
        },
    },
    Key {
        name: "compression.gzip.level",
        unit: "",
        bounds: "1 (fast) to 9 (small), or -1: the codec's own default, 6",
        doc: "how hard gzip tries",
        get: |config| config.gzip_level.unwrap_or(-1).to_string(),
        set: |config, text| {
            config.gzip_level = match text {
                "-1" => None,
                text => Some(level(Compression::Gzip, text)?),
            };
            Ok(())
        },
    },
    Key {
        name: "compression.zstd.level",
        unit: "",
        bounds: "-131072 (fast) to 22 (small)",
        doc: "how hard zstd tries; above 19 it takes much memory",
        get: |config| config.zstd_level.to_string(),
        set: |config, text| {
            config.zstd_level = level(Compression::Zstd, text)?;
            Ok(())
        },
    },
];

fn level(codec: Compression, text: &str) -> Result<i32, String> {
    let level: i32 = text.parse().map_err(|_| String::from("expected a whole number"))?;
    match codec.levels() {
        Some(levels) if !levels.contains(&level) => {
            Err(format!("expected {} to {}", levels.start(), levels.end()))
        }
        _ => Ok(level),
    }
}

fn set_bootstrap(config: &mut ProducerConfig, text: &str) -> Result<(), String> {
    let servers = text.split(',').map(str::trim).filter(|server| !server.is_empty());
    let servers: Vec<String> = servers.map(str::to_owned).collect();
    let is_address = |server: &String| {
        let port = server.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        matches!(port, Some(Ok(_)))
    };
    if servers.is_empty() || !servers.iter().all(is_address) {
        return Err("expected HOST:PORT, for example localhost:9094".into());
    }
    config.bootstrap_servers = servers;
    Ok(())
}
