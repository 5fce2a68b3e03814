//! Names of things: brokers, topics, partitions, producers. No logic beyond parsing and printing.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A broker's number, unique in the cluster, 0 or greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BrokerId(pub i32);

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition's number in its topic, dense from 0.
pub type Partition = i32;

/// A producer's number, handed out by `InitProducerId` from blocks in the registry; -1 is none.
pub type ProducerId = i64;

/// Fences an older instance of the same producer id; -1 is none.
pub type ProducerEpoch = i16;

/// Tells a topic from another of the same name that was deleted before it (KIP-516).
///
/// Prints as Kafka prints it: URL-safe base64 of the 16 bytes, without padding, 22 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub Uuid);

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl TopicId {
    /// A new random id that does not begin with `-`, so that it can stand on a command line.
    pub fn random() -> Self {
        loop {
            let id = Self(Uuid::new_v4());
            if !id.to_string().starts_with('-') {
                return id;
            }
        }
    }

    /// The id in its 16 bytes, `None` for any other length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().map(Self)
    }

    /// The 16 bytes as messages carry them.
    pub fn to_bytes(self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(self.0.as_bytes())
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0.as_u128();
        // 22 characters of 6 bits are 132 bits: the value is shifted left by the 4 missing ones.
        let text: String = (0..22)
            .map(|i| {
                let shift = 126 - 6 * i - 4;
                let six = if shift >= 0 { bits >> shift } else { bits << -shift } & 63;
                char::from(BASE64_URL[six as usize])
            })
            .collect();
        f.pad(&text)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a topic id.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a topic id: 22 characters of URL-safe base64 are expected")]
pub struct InvalidTopicId(String);

impl FromStr for TopicId {
    type Err = InvalidTopicId;

    fn from_str(text: &str) -> Result<Self, InvalidTopicId> {
        let invalid = || InvalidTopicId(text.chars().take(64).collect());
        if text.len() != 22 {
            return Err(invalid());
        }
        let mut bits = 0u128;
        for (i, byte) in text.bytes().enumerate() {
            let six = BASE64_URL.iter().position(|&c| c == byte).ok_or_else(invalid)? as u128;
            if i < 21 {
                bits = bits << 6 | six;
            } else if six & 0xf == 0 {
                bits = bits << 2 | six >> 4;
            } else {
                return Err(invalid());
            }
        }
        Ok(Self(Uuid::from_u128(bits)))
    }
}

impl Serialize for TopicId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TopicId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A topic's name and one partition of it; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: Partition,
}

impl TopicPartition {
    /// Names a partition.
    pub fn new(topic: impl Into<Arc<str>>, partition: Partition) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_id_prints_as_kafka_prints_it() {
        // 0x00..0f, encoded by an independent base64 tool.
        let id = TopicId(Uuid::from_bytes(std::array::from_fn(|i| i as u8)));
        assert_eq!(id.to_string(), "AAECAwQFBgcICQoLDA0ODw");
        assert_eq!("AAECAwQFBgcICQoLDA0ODw".parse::<TopicId>().unwrap(), id);
    }

    #[test]
    fn topic_ids_survive_a_round_trip_and_garbage_is_refused() {
        for _ in 0..1000 {
            let id = TopicId::random();
            assert_eq!(id.to_string().parse::<TopicId>().unwrap(), id);
        }
        for bad in ["", "AAECAwQFBgcICQoLDA0OD", "AAECAwQFBgcICQoLDA0ODx", "AAECAwQFBgcICQoLDA0O+w"]
        {
            assert!(bad.parse::<TopicId>().is_err(), "{bad}");
        }
    }
}
