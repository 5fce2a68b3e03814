//! Which partition a record goes to.
//!
//! A record that names its partition goes there. Otherwise the configured [`Partitioner`] decides:
//! by hash of the key, or, for records without a key, [`Choice::Sticky`]: one partition is kept until
//! a batch's worth of bytes went to it, then another is drawn (KIP-794), so that batches fill.
//! Decisions are pure; the sticky state of a topic is in [`Sticky`].

mod murmur2;
mod sticky;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

pub use murmur2::murmur2;
pub(crate) use sticky::Sticky;

use proto::Partition;

/// What a [`Partitioner`] decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// This partition.
    Partition(Partition),
    /// Any: the producer fills one partition's batch after another.
    Sticky,
    /// A partition drawn anew for every record.
    Random,
}

/// Decides for records that do not name a partition.
///
/// Called by every thread that sends, for every record: it must be quick and must not block.
pub trait Partitioner: Send + Sync {
    /// Chooses among `partitions` partitions (at least 1) of `topic`. A partition outside
    /// `0..partitions` makes the send fail.
    fn partition(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        partitions: i32,
    ) -> Choice;
}

/// The partitioners that are built in; names as librdkafka's `partitioner` setting has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Builtin {
    /// murmur2 of the key as the Java client; records without a key are sticky. The default.
    #[default]
    Murmur2Random,
    /// murmur2 of the key; no key hashes as an empty one.
    Murmur2,
    /// CRC-32 of the key as librdkafka's default; records with no or an empty key are sticky.
    ConsistentRandom,
    /// CRC-32 of the key; no key hashes as an empty one.
    Consistent,
    /// Keys do not matter: every record is sticky.
    Sticky,
    /// A random partition for every record.
    Random,
}

impl Builtin {
    /// Every built-in partitioner with its name.
    pub const ALL: &[(&str, Self)] = &[
        ("murmur2_random", Self::Murmur2Random),
        ("murmur2", Self::Murmur2),
        ("consistent_random", Self::ConsistentRandom),
        ("consistent", Self::Consistent),
        ("sticky", Self::Sticky),
        ("random", Self::Random),
    ];
}

fn by_hash(hash: u32, partitions: i32) -> Choice {
    Choice::Partition((hash % partitions.max(1) as u32) as i32)
}

impl Partitioner for Builtin {
    fn partition(
        &self,
        _topic: &str,
        key: Option<&[u8]>,
        _value: Option<&[u8]>,
        partitions: i32,
    ) -> Choice {
        match (self, key) {
            (Self::Murmur2Random, None) | (Self::ConsistentRandom, None | Some([])) => {
                Choice::Sticky
            }
            (Self::Murmur2 | Self::Murmur2Random, key) => {
                by_hash(murmur2(key.unwrap_or_default()) & 0x7fff_ffff, partitions)
            }
            (Self::Consistent | Self::ConsistentRandom, key) => {
                by_hash(crc32fast::hash(key.unwrap_or_default()), partitions)
            }
            (Self::Sticky, _) => Choice::Sticky,
            (Self::Random, _) => Choice::Random,
        }
    }
}

impl fmt::Display for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, builtin)| builtin == self).map_or("", |(n, _)| n);
        f.write_str(name)
    }
}

impl FromStr for Builtin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, builtin)| *builtin).ok_or_else(
            || {
                let names: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
                format!("expected one of {}", names.join(", "))
            },
        )
    }
}

/// A partitioner as the configuration holds it.
#[derive(Clone)]
pub enum PartitionerKind {
    /// One of the built-in ones.
    Builtin(Builtin),
    /// The application's own.
    Custom(Arc<dyn Partitioner>),
}

impl PartitionerKind {
    /// Decides without a virtual call where the partitioner is built in.
    pub(crate) fn partition(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        partitions: i32,
    ) -> Choice {
        match self {
            Self::Builtin(builtin) => builtin.partition(topic, key, value, partitions),
            Self::Custom(custom) => custom.partition(topic, key, value, partitions),
        }
    }
}

impl fmt::Debug for PartitionerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin(builtin) => write!(f, "{builtin}"),
            Self::Custom(_) => f.write_str("custom"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(partitioner: Builtin, key: Option<&str>) -> Choice {
        partitioner.partition("t", key.map(str::as_bytes), None, 17)
    }

    #[test]
    fn keys_go_where_librdkafka_sends_them() {
        // librdkafka tests/0048-partitioner.c
        for (key, crc, murmur) in [
            ("23456", 0xb1b4_51d7_u32, 0x058d_780f_u32),
            ("this is another string with more length to it perhaps", 0xb015_0df7, 0x4f77_03da),
            ("hejsan", 0xd077_037e, 0x5ec1_9395),
        ] {
            for (partitioner, hash) in [
                (Builtin::Consistent, crc),
                (Builtin::ConsistentRandom, crc),
                (Builtin::Murmur2, murmur),
                (Builtin::Murmur2Random, murmur),
            ] {
                let expected = Choice::Partition((hash % 17) as i32);
                assert_eq!(of(partitioner, Some(key)), expected, "{partitioner} {key}");
            }
        }
        assert_eq!(of(Builtin::Consistent, None), Choice::Partition(0));
        assert_eq!(of(Builtin::ConsistentRandom, Some("")), Choice::Sticky);
        assert_eq!(of(Builtin::Murmur2, None), Choice::Partition(0x106e_08d9 % 17));
        assert_eq!(of(Builtin::Murmur2Random, None), Choice::Sticky);
        assert_eq!(of(Builtin::Murmur2Random, Some("")), Choice::Partition(0x106e_08d9 % 17));
    }

    #[test]
    fn names_survive_a_round_trip() {
        for (name, builtin) in Builtin::ALL {
            assert_eq!(name.parse::<Builtin>().unwrap(), *builtin);
            assert_eq!(builtin.to_string(), *name);
        }
        assert!("murmur3".parse::<Builtin>().is_err());
    }
}
