//! The table of keys that can be overridden at run time: what each takes, its default, its
//! meaning. Names are Kafka's; `flush` and `expose` are ours. A key is here only if it is honoured.

use super::Kind;

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A whole number within bounds, both inclusive.
    Int {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
        /// What it counts: `bytes`, `ms`, `messages`.
        unit: &'static str,
    },
    /// A number from 0 to 1.
    Ratio,
    /// One of a fixed set of words.
    Choice(&'static [&'static str]),
}

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// The built-in default, as text. A broker's own settings may say otherwise for its topics.
    pub default: &'static str,
    /// Meaning and consequences.
    pub doc: &'static str,
}

const fn int(min: i64, max: i64, unit: &'static str) -> Takes {
    Takes::Int { min, max, unit }
}

macro_rules! keys {
    ($( $name:literal $takes:expr, $default:literal, $doc:literal; )*) => {
        &[ $( Key { name: $name, takes: $takes, default: $default, doc: $doc }, )* ]
    };
}

const TOPIC_KEYS: &[Key] = keys! {
    "cleanup.policy" Takes::Choice(&["delete", "compact", "compact,delete", "delete,compact"]), "delete",
        "What becomes of old messages. delete: old segments go, by retention.ms and retention.bytes; compact: of the messages of a key the newest is kept; both together do both.";
    "compression.gzip.level" Takes::Choice(&["-1", "1", "2", "3", "4", "5", "6", "7", "8", "9"]), "-1",
        "How hard gzip tries where compression.type forces it: 1 fast, 9 small, -1 its default (6). What a producer compressed with gzip itself stays as it is.";
    "compression.type" Takes::Choice(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]), "producer",
        "How batches are stored. producer: as the producer compressed them; a codec: with that one, the brokers compressing anew what comes otherwise (but for batches it makes no smaller); uncompressed: without any.";
    "compression.zstd.level" int(-131_072, 22, ""), "3",
        "How hard zstd tries where compression.type forces it: the higher, the smaller and slower. What a producer compressed with zstd itself stays as it is.";
    "delete.retention.ms" int(0, i64::MAX, "ms"), "86400000",
        "Milliseconds a tombstone (a message without a value) of a compacted topic stays after it was first compacted, so that consumers learn of it.";
    "expose" Takes::Choice(&["appended", "flushed"]), "appended",
        "What consumers may see. flushed: a message is visible only after its flush.";
    "flush" Takes::Choice(&["os", "interval", "before-ack"]), "interval",
        "When appended messages go to the disk. os: when the kernel likes; interval: after flush.messages or flush.ms; before-ack: before the producer is answered, many requests sharing one flush.";
    "flush.messages" int(1, i64::MAX, "messages"), "10000",
        "Under flush=interval: messages after which a partition is flushed.";
    "flush.ms" int(1, i64::MAX, "ms"), "1000",
        "Under flush=interval: milliseconds after which a partition is flushed.";
    "index.interval.bytes" int(0, 1 << 30, "bytes"), "4096",
        "Bytes of log between two entries of the offset index. Fewer: quicker seeks, larger index.";
    "max.compaction.lag.ms" int(1, i64::MAX, "ms"), "9223372036854775807",
        "Milliseconds after which a message of a compacted topic makes its partition due for compaction, whatever min.cleanable.dirty.ratio says.";
    "max.message.bytes" int(1024, 1 << 30, "bytes"), "1048588",
        "Largest record batch accepted.";
    "message.timestamp.after.max.ms" int(0, i64::MAX, "ms"), "3600000",
        "A message stamped more milliseconds after the broker's clock is refused (CreateTime only).";
    "message.timestamp.before.max.ms" int(0, i64::MAX, "ms"), "9223372036854775807",
        "A message stamped more milliseconds before the broker's clock is refused (CreateTime only).";
    "message.timestamp.type" Takes::Choice(&["CreateTime", "LogAppendTime"]), "CreateTime",
        "Whose clock stamps messages: the producer's or the broker's.";
    "min.cleanable.dirty.ratio" Takes::Ratio, "0.5",
        "Part of a compacted partition's bytes that may be dirty (not yet compacted) before it is compacted. Smaller: less space, more work.";
    "min.compaction.lag.ms" int(0, i64::MAX, "ms"), "0",
        "Milliseconds a message of a compacted topic stays whatever comes after it.";
    "min.insync.replicas" int(1, 2_147_483_647, "replicas"), "1",
        "Replicas that must be in sync, the leader among them, for produce with acks=all to be taken; below it what is appended is not shown to consumers either.";
    "retention.bytes" int(-1, i64::MAX, "bytes"), "-1",
        "Bytes a partition keeps, by whole segments; -1: no limit.";
    "retention.ms" int(-1, i64::MAX, "ms"), "604800000",
        "Milliseconds a message is kept, by whole segments; -1: for ever.";
    "segment.bytes" int(1024, 2_147_483_647, "bytes"), "1073741824",
        "Bytes after which a partition starts a new segment.";
    "segment.jitter.ms" int(-1, i64::MAX, "ms"), "-1",
        "A segment is closed up to so many milliseconds before segment.ms, each by another amount, so that many partitions do not start new segments together; -1: a twentieth of it.";
    "segment.ms" int(1, i64::MAX, "ms"), "604800000",
        "Milliseconds after which a partition starts a new segment.";
    "unclean.leader.election.enable" Takes::Choice(&["true", "false"]), "false",
        "Whether a replica that is not in sync may lead when no other is left: the partition works again, and acknowledged messages may be lost.";
};

/// Of a broker (KIP-1066): `*`, and it takes no new replicas.
pub const CORDONED_KEY: &str = "cordoned.log.dirs";
/// All of them.
pub const CORDONED_ALL: &str = "*";

const BROKER_KEYS: &[Key] = keys! {
    "cordoned.log.dirs" Takes::Choice(&["", "*"]), "",
        "*: the broker takes no new replicas, neither of new topics and partitions nor by reassignment; those it has stay. `brokers --drain` sets it, and `brokers --undrain` takes it away.";
    "follower.replication.throttled.rate" int(1_024, i64::MAX, "bytes/s"), "9223372036854775807",
        "Bytes a second that replicas which are not in sync (new ones, and those whose disk was lost) fetch, all of the broker together. While a reassignment with a throttle brings replicas in, that one holds instead.";
};

/// Every key that resources of a kind can override, by name.
///
/// The other settings of a broker are those of its own file. Clients have none yet: quotas do not
/// exist.
pub fn keys(kind: Kind) -> &'static [Key] {
    match kind {
        Kind::Topic => TOPIC_KEYS,
        Kind::Broker => BROKER_KEYS,
        Kind::Client => &[],
    }
}

/// The key of a name.
pub fn find(kind: Kind, name: &str) -> Option<&'static Key> {
    keys(kind).iter().find(|key| key.name == name)
}

/// An override that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOverride {
    /// No such key.
    #[error("a {} has no configuration key `{key}`: {}", kind.singular(), self.remedy())]
    UnknownKey {
        /// Of what.
        kind: Kind,
        /// The key.
        key: String,
        /// The key that was probably meant.
        nearest: Option<&'static str>,
    },
    /// The key does not take this.
    #[error("`{value}` is not a value of {}: {}", key.name, self.remedy())]
    BadValue {
        /// The key.
        key: &'static Key,
        /// The value.
        value: String,
    },
}

impl InvalidOverride {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::UnknownKey { nearest: Some(nearest), .. } => {
                format!("did you mean `{nearest}`?")
            }
            Self::UnknownKey { kind: Kind::Topic, .. } => {
                let names: Vec<_> = keys(Kind::Topic).iter().map(|key| key.name).collect();
                format!("a topic takes {}", names.join(", "))
            }
            Self::UnknownKey { kind: Kind::Broker, .. } => {
                let names: Vec<_> = keys(Kind::Broker).iter().map(|key| key.name).collect();
                let names = names.join(", ");
                format!(
                    "set it in the broker's own configuration file; at run time a broker takes {names}"
                )
            }
            Self::UnknownKey { kind: Kind::Client, .. } => {
                "set it where the client is started; nothing of a client can be overridden at run \
                 time yet"
                    .to_owned()
            }
            Self::BadValue { key, .. } => match key.takes {
                Takes::Int { min, max: i64::MAX, unit } => {
                    format!("it takes a whole number of {unit}, at least {min}")
                }
                Takes::Int { min, max, unit } => {
                    format!("it takes a whole number of {unit} from {min} to {max}")
                }
                Takes::Ratio => "it takes a number from 0 to 1".to_owned(),
                Takes::Choice(words) => {
                    let shown =
                        words.iter().map(|word| if word.is_empty() { "nothing" } else { word });
                    let words: Vec<&str> = shown.collect();
                    format!("it takes {}", words.join(" or "))
                }
            },
        }
    }
}

/// Checks one override.
pub fn validate(kind: Kind, name: &str, value: &str) -> Result<(), InvalidOverride> {
    let Some(key) = find(kind, name) else {
        return Err(InvalidOverride::UnknownKey {
            kind,
            key: name.chars().take(100).collect(),
            nearest: nearest(kind, name),
        });
    };
    let valid = match key.takes {
        Takes::Int { min, max, .. } => {
            value.parse::<i64>().is_ok_and(|number| (min..=max).contains(&number))
        }
        Takes::Ratio => value.parse::<f64>().is_ok_and(|number| (0.0..=1.0).contains(&number)),
        Takes::Choice(words) => words.contains(&value),
    };
    match valid {
        true => Ok(()),
        false => Err(InvalidOverride::BadValue { key, value: value.chars().take(100).collect() }),
    }
}

fn nearest(kind: Kind, name: &str) -> Option<&'static str> {
    // Underlines and capitals are the commonest slips, also of whoever passes `log.segment.bytes`.
    let folded = name.to_lowercase().replace(['_', '-'], ".");
    let folded = folded.strip_prefix("log.").unwrap_or(&folded);
    let likeness = |key: &'static Key| (strsim::jaro_winkler(key.name, folded), key.name);
    let best = keys(kind).iter().map(likeness).max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(likeness, _)| *likeness > 0.85).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_names_sorted() {
        for kind in Kind::ALL {
            let keys = keys(kind);
            assert!(keys.is_sorted_by(|a, b| a.name < b.name));
            for key in keys {
                validate(kind, key.name, key.default).unwrap();
                assert!(key.doc.ends_with('.'), "{}", key.name);
            }
        }
    }

    #[test]
    fn bad_overrides_get_an_answer_that_helps() {
        let told =
            |kind, key: &str, value: &str| validate(kind, key, value).unwrap_err().to_string();
        let typo = told(Kind::Topic, "retension.ms", "1");
        assert_eq!(
            typo,
            "a topic has no configuration key `retension.ms`: did you mean `retention.ms`?"
        );
        assert!(told(Kind::Topic, "segment_bytes", "1").contains("`segment.bytes`?"));
        assert!(told(Kind::Topic, "log.flush.messages", "1").contains("`flush.messages`?"));
        let rate = "follower.replication.throttled.rate";
        assert!(told(Kind::Broker, rate, "1").contains("at least 1024"));
        validate(Kind::Broker, rate, "50000000").unwrap();
        validate(Kind::Broker, CORDONED_KEY, CORDONED_ALL).unwrap();
        assert!(told(Kind::Broker, CORDONED_KEY, "/d1").contains("it takes nothing or *"));
        assert!(told(Kind::Topic, "nonsense", "1").contains("a topic takes cleanup.policy"));
        assert!(told(Kind::Broker, "num.io.threads", "1").contains("configuration file"));
        assert_eq!(
            told(Kind::Topic, "expose", "all"),
            "`all` is not a value of expose: it takes appended or flushed"
        );
        assert_eq!(
            told(Kind::Topic, "segment.bytes", "1K"),
            "`1K` is not a value of segment.bytes: it takes a whole number of bytes from 1024 to 2147483647"
        );
        assert!(told(Kind::Topic, "min.cleanable.dirty.ratio", "2").contains("from 0 to 1"));
        assert!(told(Kind::Topic, "retention.ms", "-2").contains("ms, at least -1"));
        validate(Kind::Topic, "retention.ms", "-1").unwrap();
    }
}
