//! Who is measured.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum System {
    /// Through its own client
    Ottla,
    /// Its listener for Kafka's protocol, through the client that measures Apache Kafka
    OttlaKafka,
    ApacheKafka,
    Nats,
    Redis,
    Rabbitmq,
}

impl System {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ottla => "Ottla",
            Self::OttlaKafka => "Ottla, Kafka's",
            Self::ApacheKafka => "Apache Kafka",
            Self::Nats => "NATS JetStream",
            Self::Redis => "Redis streams",
            Self::Rabbitmq => "RabbitMQ",
        }
    }

    /// Its client, and what of it limits.
    pub(crate) fn client(self) -> &'static str {
        match self {
            Self::Ottla => "Ottla's producer and consumer (Rust)",
            Self::OttlaKafka | Self::ApacheKafka => "franz-go, idempotent, acks=all, linger 5 ms",
            Self::Nats => {
                "nats.go: PublishAsync, 16,384 unacknowledged, a reply a message; OrderedConsumer"
            }
            Self::Redis => {
                "redigo: XADD, 100 a write, 6,400 unanswered; XREAD COUNT 2000, one ahead"
            }
            Self::Rabbitmq => {
                "rabbitmq-stream-go-client: sub-entries of 100 where it is about rate"
            }
        }
    }

    /// How the Go program calls it.
    pub(crate) fn protocol(self) -> Option<&'static str> {
        match self {
            Self::Ottla => None,
            Self::OttlaKafka | Self::ApacheKafka => Some("kafka"),
            Self::Nats => Some("nats"),
            Self::Redis => Some("redis"),
            Self::Rabbitmq => Some("rabbitmq"),
        }
    }

    /// What `foreign-clients` must install for its server; none for Ottla's.
    pub(crate) fn server(self) -> Option<&'static str> {
        match self {
            Self::Ottla | Self::OttlaKafka => None,
            Self::ApacheKafka => Some("java"),
            Self::Nats => Some("nats"),
            Self::Redis => Some("redis"),
            Self::Rabbitmq => Some("rabbitmq"),
        }
    }
}
