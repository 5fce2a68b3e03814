//! What an application is told beside records. Every event is also logged.
//!
//! A position never jumps silently and a partition never stands still silently: each has its event.

use std::fmt;
use std::time::Duration;

use proto::{Offset, TopicId, TopicPartition};

/// Something that happened to a partition or to the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// These partitions are delivered from now on.
    PartitionsAssigned(Vec<TopicPartition>),
    /// These partitions are delivered no more; what was handled of them is committed.
    PartitionsRevoked(Vec<TopicPartition>),
    /// Another member took these partitions before their last positions could be committed: records
    /// since the last commit are delivered again there.
    PartitionsLost(Vec<TopicPartition>),
    /// The offset wanted is not in the log (any more, or not yet).
    OutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The offset that was wanted.
        wanted: Offset,
        /// The oldest offset there is.
        log_start: Offset,
        /// The end of what consumers may read.
        high_watermark: Offset,
        /// Where delivery goes on by `auto.offset.reset`; `None` when it waits for a seek.
        resume_at: Option<Offset>,
    },
    /// The leader's log has another history before the position: records that were delivered are in no
    /// log any more (an unclean election, or replicas that lost what they had; KIP-320). What was fetched
    /// and not delivered yet of what the leader's log does not have never is.
    LogTruncated {
        /// The partition.
        partition: TopicPartition,
        /// The offset that was to be read next.
        position: Offset,
        /// Up to here what was delivered is what the log holds; records from here on were replaced.
        safe_offset: Offset,
        /// Where delivery goes on: there; `None` when it waits for a seek (`auto.offset.reset=none`).
        resume_at: Option<Offset>,
    },
    /// The topic was deleted; its partitions are delivered no more.
    TopicDeleted {
        /// Its name.
        topic: String,
        /// Its id.
        topic_id: Option<TopicId>,
    },
    /// The topic was deleted and created again: delivery begins anew by `auto.offset.reset`.
    TopicRecreated {
        /// The partition.
        partition: TopicPartition,
        /// The new topic's id.
        topic_id: TopicId,
    },
    /// A committed offset was not used since it belongs to an earlier topic of this name.
    StoredOffsetIgnored {
        /// The partition.
        partition: TopicPartition,
        /// The committed offset.
        stored: Offset,
        /// The topic it was committed for.
        stored_topic_id: TopicId,
        /// The topic there is now.
        topic_id: TopicId,
    },
    /// The group has no offset for the partition and `auto.offset.reset` is `none`: it waits for a
    /// seek.
    NoPosition {
        /// The partition.
        partition: TopicPartition,
    },
    /// The partition could not be fetched for this long; it is tried on without end.
    Stalled {
        /// The partition.
        partition: TopicPartition,
        /// Why.
        why: String,
        /// Since when.
        since: Duration,
    },
    /// A stalled partition is fetched again.
    Resumed {
        /// The partition.
        partition: TopicPartition,
    },
    /// Offsets cannot be read: they are damaged at the broker, or what they hold does not decompress
    /// or decode.
    Damaged {
        /// The partition.
        partition: TopicPartition,
        /// The first offset that cannot be delivered.
        offset: Offset,
        /// The offset after the damage.
        resume_at: Option<Offset>,
        /// What does not hold.
        why: String,
        /// Delivery goes on at `resume_at` (`on.damage=skip`). Else it stands still until a seek, and
        /// polls fail with [`crate::ConsumerError::Damaged`].
        skipped: bool,
    },
    /// The registry cannot be reached: delivery goes on, commits and rebalancing wait.
    RegistryUnreachable,
    /// The registry is reachable again.
    RegistryReachable,
    /// The session ended in the registry; the member registers again.
    SessionExpired,
    /// The group's coordinator (`membership=broker`) cannot be reached: delivery goes on, commits and
    /// rebalancing wait.
    CoordinatorUnreachable,
    /// The group's coordinator is reachable again.
    CoordinatorReachable,
    /// The group went on without this member (`membership=broker`): it joins again.
    MembershipLost {
        /// Why.
        why: String,
    },
    /// The group's coordinator does not let this member in (`membership=broker`).
    JoinRefused {
        /// Why.
        why: String,
        /// It is tried again; else this member stays out for good.
        retried: bool,
    },
    /// An automatic commit did not happen.
    CommitFailed {
        /// The partition.
        partition: TopicPartition,
        /// Why.
        why: String,
    },
    /// Events were dropped since nobody took them.
    EventsDropped(u64),
}

impl Event {
    /// Logs it at the level it deserves.
    pub(crate) fn log(&self) {
        match self {
            Self::PartitionsAssigned(_)
            | Self::PartitionsRevoked(_)
            | Self::Resumed { .. }
            | Self::RegistryReachable
            | Self::CoordinatorReachable => tracing::info!("{self}"),
            _ => tracing::warn!("{self}"),
        }
    }

    /// The partition it is about, where it is about one.
    pub fn partition(&self) -> Option<&TopicPartition> {
        match self {
            Self::OutOfRange { partition, .. }
            | Self::LogTruncated { partition, .. }
            | Self::TopicRecreated { partition, .. }
            | Self::StoredOffsetIgnored { partition, .. }
            | Self::Stalled { partition, .. }
            | Self::Resumed { partition }
            | Self::NoPosition { partition }
            | Self::Damaged { partition, .. }
            | Self::CommitFailed { partition, .. } => Some(partition),
            _ => None,
        }
    }
}

fn list(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The offsets that cannot be read, in words.
pub(crate) fn damaged_span(offset: Offset, resume_at: Option<Offset>) -> String {
    match resume_at.map(|resume_at| Offset(resume_at.0 - 1)) {
        Some(last) if last > offset => format!("offsets {offset} to {last}"),
        Some(_) => format!("offset {offset}"),
        None => format!("what begins at offset {offset}"),
    }
}

/// What follows a damaged range.
fn goes_on(resume_at: Option<Offset>) -> String {
    match resume_at {
        Some(offset) => format!("delivery goes on at {offset} (on.damage=skip)"),
        None => "the partition waits for a seek (on.damage=stop)".to_owned(),
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartitionsAssigned(p) => write!(f, "assigned: {}", list(p)),
            Self::PartitionsRevoked(p) => write!(f, "revoked: {}", list(p)),
            Self::PartitionsLost(p) => {
                write!(f, "lost to another member, records since the last commit repeat there: {}", list(p))
            }
            Self::OutOfRange { partition, wanted, log_start, high_watermark, resume_at } => {
                write!(f, "{partition}: offset {wanted} is out of range, the log holds {log_start} to {high_watermark}")?;
                match resume_at {
                    Some(offset) => write!(f, "; delivery goes on at {offset} (auto.offset.reset)"),
                    None => write!(f, "; the partition waits for a seek (auto.offset.reset=none)"),
                }
            }
            Self::LogTruncated { partition, position, safe_offset, resume_at } => {
                write!(
                    f,
                    "{partition}: the records from {safe_offset} on that were read up to {position} are in the log no more: another history took their place (an unclean election, or replicas that lost data)"
                )?;
                match resume_at {
                    Some(offset) => write!(f, "; delivery goes on at {offset}"),
                    None => write!(f, "; the partition waits for a seek (auto.offset.reset=none)"),
                }
            }
            Self::TopicDeleted { topic, .. } => {
                write!(f, "topic {topic} was deleted; its partitions are delivered no more")
            }
            Self::TopicRecreated { partition, topic_id } => write!(
                f,
                "{partition}: the topic was deleted and created again (now {topic_id}); delivery begins by auto.offset.reset"
            ),
            Self::StoredOffsetIgnored { partition, stored, stored_topic_id, topic_id } => write!(
                f,
                "{partition}: the committed offset {stored} belongs to topic {stored_topic_id}, now there is {topic_id}; delivery begins by auto.offset.reset"
            ),
            Self::Stalled { partition, why, since } => {
                write!(f, "{partition}: nothing fetched for {} ms: {why}", since.as_millis())
            }
            Self::NoPosition { partition } => write!(
                f,
                "{partition}: no committed offset; the partition waits for a seek (auto.offset.reset=none)"
            ),
            Self::Resumed { partition } => write!(f, "{partition}: fetched again"),
            Self::Damaged { partition, offset, resume_at, why, skipped } => {
                let span = damaged_span(*offset, *resume_at);
                let goes_on = goes_on(resume_at.filter(|_| *skipped));
                write!(f, "{partition}: {span} cannot be read: {why}; {goes_on}")
            }
            Self::RegistryUnreachable => f.write_str(
                "the registry (ZooKeeper) cannot be reached; delivery goes on, commits and rebalancing wait",
            ),
            Self::RegistryReachable => f.write_str("the registry (ZooKeeper) is reachable again"),
            Self::SessionExpired => {
                f.write_str("the session in the registry (ZooKeeper) expired; registering again")
            }
            Self::CoordinatorUnreachable => f.write_str(
                "the group's coordinator cannot be reached; delivery goes on, commits and rebalancing wait",
            ),
            Self::CoordinatorReachable => f.write_str("the group's coordinator is reachable again"),
            Self::MembershipLost { why } => {
                write!(f, "the group went on without this member, which joins again: {why}")
            }
            Self::JoinRefused { why, retried: true } => {
                write!(f, "the group does not let this member in yet: {why}")
            }
            Self::JoinRefused { why, retried: false } => {
                write!(f, "the group does not let this member in: {why}")
            }
            Self::CommitFailed { partition, why } => write!(f, "{partition}: not committed: {why}"),
            Self::EventsDropped(n) => write!(f, "{n} events were dropped: nobody took them"),
        }
    }
}
