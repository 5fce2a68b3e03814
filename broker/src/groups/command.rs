//! What is asked of the coordinator's thread, and what happens to it.

use std::sync::Arc;
use std::time::Duration;

use proto::{LeaderEpoch, Offset, Partition as PartitionNumber, TopicId, TopicPartition};
use tokio::sync::oneshot;

use super::GroupError;
use super::classic::{Caller, Join, JoinRefusal, Joined, Leaving, Sync, Synced};
use super::loading::{LoadError, Loaded};
use super::offsets::CommittedOffset;
use super::report::Report;
use crate::replication::PartitionError;
use crate::storage::Appended;

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<T>;

/// An offset to be committed.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Of which partition.
    pub partition: TopicPartition,
    /// Of which topic of that name, where the client says so.
    pub topic_id: Option<TopicId>,
    /// The next offset to be read.
    pub offset: Offset,
    /// Of the record before it; unknown is -1.
    pub leader_epoch: LeaderEpoch,
    /// Whatever the client notes beside it.
    pub metadata: Arc<str>,
}

/// A request to commit.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    /// Who commits; generation -1 and no id: nobody in particular.
    pub caller: Caller,
    /// How long the offsets are kept, where the client says so.
    pub retention: Option<Duration>,
    /// The client knows that a group may not exist (OffsetCommit 9).
    pub knows_missing_groups: bool,
    /// What is committed, answered in this order.
    pub commits: Vec<Commit>,
}

/// An outcome for each item of a request, or one for all.
pub type Outcomes = Result<Vec<Result<(), GroupError>>, GroupError>;

/// Which offsets are wanted.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// All there are.
    All,
    /// These.
    These(Vec<TopicPartition>),
}

/// A member as it is described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub id: Arc<str>,
    /// Its instance, if it is static.
    pub instance: Option<Arc<str>>,
    /// Named by the client.
    pub client_id: Arc<str>,
    /// Where it connects from.
    pub client_host: Arc<str>,
    /// What it said for the group's protocol; empty while there is none.
    pub metadata: bytes::Bytes,
    /// What it was given.
    pub assignment: bytes::Bytes,
}

/// A group as it is described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Kafka's name of its state.
    pub state: &'static str,
    /// What kind of group; empty: it only stores offsets.
    pub protocol_type: Arc<str>,
    /// What its members agreed on; empty while there is none.
    pub protocol: Arc<str>,
    /// Its members.
    pub members: Vec<MemberDescription>,
}

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Its name.
    pub group: Arc<str>,
    /// What kind of group; empty: it only stores offsets.
    pub protocol_type: Arc<str>,
    /// Kafka's name of its state.
    pub state: &'static str,
    /// How many members it has.
    pub members: usize,
}

/// What is asked.
pub(super) enum Command {
    Join(Arc<str>, Box<Join>, Reply<Result<Joined, JoinRefusal>>),
    Sync(Arc<str>, Sync, Reply<Result<Synced, GroupError>>),
    Heartbeat(Arc<str>, Caller, Reply<Result<(), GroupError>>),
    Leave(Arc<str>, Vec<Leaving>, Reply<Outcomes>),
    Commit(Arc<str>, CommitRequest, Reply<Outcomes>),
    FetchOffsets(Arc<str>, Wanted, Reply<FetchedOffsets>),
    Describe(Arc<str>, Reply<Result<Option<Description>, GroupError>>),
    List(Reply<Result<Vec<Listing>, GroupError>>),
    Report(Reply<Result<Report, GroupError>>),
    Delete(Arc<str>, Reply<Result<(), GroupError>>),
    DeleteOffsets(Arc<str>, Vec<TopicPartition>, Reply<Outcomes>),
}

/// Offsets that were asked for; `None`: nothing is committed there.
pub type FetchedOffsets = Result<Vec<(TopicPartition, Option<CommittedOffset>)>, GroupError>;

/// What other threads report.
pub(super) enum Event {
    /// An offsets partition was read, or was not.
    Loaded(PartitionNumber, u64, Result<Loaded, LoadError>),
    /// A batch is committed, or is not known to be.
    Appended(u64, Result<Appended, PartitionError>),
}
