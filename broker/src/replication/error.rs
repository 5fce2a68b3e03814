//! Why a partition does not do what was asked.

use std::sync::Arc;

use proto::record::RecodeError;
use proto::{BrokerId, LeaderEpoch, Offset};

use super::record_keys::KeyError;
use crate::storage::{AppendError, FlushError, LogError};

/// Why a partition does not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PartitionError {
    /// Somebody else leads, or nobody.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// The client knows of an older leader.
    #[error("the leader epoch is {current}, the request has {asked}")]
    Fenced {
        /// Of the partition.
        current: LeaderEpoch,
        /// Of the request.
        asked: LeaderEpoch,
    },
    /// The client knows of a newer leader.
    #[error("the leader epoch here is {current}, the request has {asked}")]
    UnknownEpoch {
        /// Of the partition.
        current: LeaderEpoch,
        /// Of the request.
        asked: LeaderEpoch,
    },
    /// acks=all, and too few replicas are in sync. Nothing was appended.
    #[error("{in_sync} replicas are in sync, min.insync.replicas is {minimum}; not appended")]
    NotEnoughReplicas {
        /// The leader among them.
        in_sync: usize,
        /// How many there must be.
        minimum: usize,
    },
    /// acks=all: appended, and replicas fell out of sync before they had it.
    #[error(
        "appended, but only {in_sync} replicas are in sync by now and min.insync.replicas is \
         {minimum}: whether the records stay is not known"
    )]
    NotEnoughReplicasAfterAppend {
        /// The leader among them.
        in_sync: usize,
        /// How many there must be.
        minimum: usize,
        /// Where the first record stands.
        base_offset: Offset,
    },
    /// acks=all: appended, and the in-sync replicas did not have it in time.
    #[error(
        "the in-sync replicas did not have the records within the request's time; whether the \
         records stay is not known"
    )]
    TimedOut,
    /// acks=all: this broker keeps no more requests waiting. Nothing was appended.
    #[error("{waiting} requests wait for replicas already; not appended")]
    TooManyWaiting {
        /// On this broker.
        waiting: usize,
    },
    /// Who says that it follows is none of the replicas.
    #[error("broker {broker} is no replica of the partition, as far as its leader knows")]
    NotReplica {
        /// Who says so.
        broker: BrokerId,
    },
    /// A follower says that it has more than the leader ever had.
    #[error("broker {broker} says its log ends at {told}, the leader's ends at {log_end}")]
    BeyondLogEnd {
        /// Who says so.
        broker: BrokerId,
        /// What it says.
        told: Offset,
        /// Of the leader.
        log_end: Offset,
    },
    /// This broker follows nobody.
    #[error("this broker does not follow the partition's leader")]
    NotFollower,
    /// The disk, while the log was cut or begun anew.
    #[error("{0}")]
    Log(Arc<LogError>),
    /// The log refused.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The topic's codec cannot be given to it.
    #[error(transparent)]
    Recode(#[from] RecodeError),
    /// The topic is compacted, and a record has no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The append was broken off by a fault of this broker's.
    #[error(
        "a fault of the broker's broke the append off; whether the records stay is not known, and \
         the partition is opened anew"
    )]
    Interrupted,
    /// The records could not be opened, by a fault of this broker's. Nothing was appended.
    #[error("reading the records failed by a fault of the broker's; not appended")]
    OpeningPanicked,
    /// Appended, and the flush failed.
    #[error(transparent)]
    Flush(#[from] FlushError),
}
