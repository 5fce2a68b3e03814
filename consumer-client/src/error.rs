//! Errors by what a caller can do about them. What happens to a partition while records flow is not
//! an error of a call but an [`crate::Event`].

use std::time::Duration;

use proto::{ErrorCode, Offset, TopicPartition};

use crate::event::damaged_span;

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No key of this name.
    #[error("unknown key `{name}`{}", suggest(.suggestion))]
    UnknownKey {
        /// As given.
        name: String,
        /// The nearest known key.
        suggestion: Option<&'static str>,
    },
    /// The value does not fit the key.
    #[error("{name} = `{value}`: {reason}")]
    InvalidValue {
        /// The key.
        name: &'static str,
        /// As given.
        value: String,
        /// What is expected.
        reason: String,
    },
    /// Two settings contradict each other.
    #[error("{reason}")]
    Conflict {
        /// Which, and what to change.
        reason: String,
    },
}

fn suggest(suggestion: &Option<&'static str>) -> String {
    match suggestion {
        Some(name) => format!(": did you mean `{name}`?"),
        None => "; `consumer config show` prints all keys".to_owned(),
    }
}

/// Why a call on a [`crate::Consumer`] failed.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// A setting that cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The consumer was closed, or is closing.
    #[error("the consumer is closed: no more calls on it can succeed")]
    Closed,
    /// The call needs a group.
    #[error("{call} needs a group: set group.id")]
    NoGroup {
        /// The call.
        call: &'static str,
    },
    /// Explicit assignment and group membership exclude each other.
    #[error(
        "{call} is not possible: {reason}. Use either assign, or subscribe and message streams, \
         with one consumer"
    )]
    WrongMode {
        /// The call.
        call: &'static str,
        /// What stands against it.
        reason: &'static str,
    },
    /// The call names a partition that is not assigned to this consumer now.
    #[error("{0} is not assigned to this consumer: assign it first, or wait for the group's plan")]
    NotAssigned(TopicPartition),
    /// No answer in time.
    #[error(
        "{call} was not answered within {} ms; last problem: {last}. Check that the brokers are \
         reachable, or raise default.api.timeout.ms",
        timeout.as_millis()
    )]
    Timeout {
        /// The call.
        call: &'static str,
        /// How long it was tried.
        timeout: Duration,
        /// What the last try met.
        last: String,
    },
    /// A broker refused for good.
    #[error("{topic}: {code}: {message}{}", remedy_text(.remedy))]
    Refused {
        /// Topic, or topic and partition.
        topic: String,
        /// The broker's error code.
        code: ErrorCode,
        /// The broker's words.
        message: String,
        /// What the broker advises.
        remedy: String,
    },
    /// Offsets cannot be read, and `on.damage` is `stop`. The partition stands still until a seek;
    /// the others are delivered by the next calls.
    #[error(
        "{partition}: {} cannot be read: {why}. Nothing behind them is delivered. `coordinator topics \
         describe` names all that is damaged; to go on behind it {}",
        damaged_span(*.offset, *.resume_at), behind(.resume_at)
    )]
    Damaged {
        /// The partition.
        partition: TopicPartition,
        /// The first offset that cannot be delivered.
        offset: Offset,
        /// The offset after the damage, where it is known.
        resume_at: Option<Offset>,
        /// What does not hold.
        why: String,
    },
    /// Records that were delivered are in no log any more, and `auto.offset.reset` is `none`. The
    /// partition stands still until a seek; the others are delivered by the next calls.
    #[error(
        "{partition}: the records from {safe_offset} on that were read up to {position} are in the log \
         no more: another history took their place (an unclean election, or replicas that lost data). \
         Seek to {safe_offset} to read what the log holds now, or set auto.offset.reset"
    )]
    LogTruncated {
        /// The partition.
        partition: TopicPartition,
        /// The offset that was to be read next.
        position: Offset,
        /// Up to here what was delivered is what the log holds.
        safe_offset: Offset,
    },
    /// A commit did not happen.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A pattern that is no regular expression.
    #[error("`{pattern}` is not a regular expression: {reason}")]
    InvalidPattern {
        /// As given.
        pattern: String,
        /// Where it breaks.
        reason: String,
    },
    /// The thread of the consumer could not be started.
    #[error("cannot start the consumer's thread: {0}. Check the limits on threads and open files")]
    Thread(#[source] std::io::Error),
}

fn behind(resume_at: &Option<Offset>) -> String {
    match resume_at {
        Some(offset) => format!("set on.damage=skip, or seek to {offset}"),
        None => "seek to an offset further on".to_owned(),
    }
}

fn remedy_text(remedy: &str) -> String {
    if remedy.is_empty() { String::new() } else { format!(". {remedy}") }
}

/// Why an offset was not committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// The partition belongs to another member by now: what was not committed is read again there.
    #[error(
        "{0} is no longer owned by this member: its new owner continues from the last committed \
         offset. Records after it will be delivered again there"
    )]
    OwnershipLost(TopicPartition),
    /// The registry, or the group's coordinator, cannot be reached. The newest position is kept and
    /// written when it can.
    #[error(
        "what keeps the group's offsets (ZooKeeper, or the group's coordinator) cannot be reached, so \
         they wait: {0}. The newest ones are written when it is back"
    )]
    Unreachable(String),
    /// The consumer closed before the write was done.
    #[error("the consumer closed before the commit was answered")]
    Closed,
}
