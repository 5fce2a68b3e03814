//! What reaches the one task that owns the controller's state.
//!
//! The queue is bounded ([`QUEUE_MAX`]); a sender waits, and an Admin call gives up after its time.

use std::collections::BTreeMap;

use proto::{BrokerId, TopicId, v1};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::requests::RequestId;
use super::state::Cluster;
use crate::registry::configs::Kind;
use crate::zk::payload::Broker;

/// So many events may wait.
pub(crate) const QUEUE_MAX: usize = 1_024;

/// Where an answer goes; dropped unanswered when the term ends.
pub(crate) type Reply<T> = oneshot::Sender<T>;

/// One event.
pub(crate) enum Event {
    /// The brokers that are registered now.
    Brokers(BTreeMap<BrokerId, Broker>),
    /// A broker dropped topics that it was told are deleted.
    Dropped {
        /// The broker.
        broker: BrokerId,
        /// The start of it that said so.
        incarnation: Uuid,
        /// The topics.
        topics: Vec<(String, TopicId)>,
    },
    /// A broker has seen a controller of this epoch, higher than ours.
    NewerController(i32),
    /// An Admin call that changes something.
    Command(RequestId, Command),
    /// A broker has written states; answered when it is noted.
    StatesChanged(v1::StatesChangedRequest, Reply<v1::StatesChangedResponse>),
    /// A broker is about to stop.
    ControlledShutdown(v1::ControlledShutdownRequest, Reply<v1::ControlledShutdownResponse>),
    /// An Admin call that looks at the picture.
    Look(Box<dyn FnOnce(&Cluster) + Send>),
}

/// A change asked for.
pub(crate) enum Command {
    /// `CreateTopics`.
    CreateTopics(v1::CreateTopicsRequest, Reply<v1::TopicResults>),
    /// `DeleteTopics`; answered when nothing is registered any more, or when the time is over: the
    /// deletion then goes on.
    DeleteTopics(v1::DeleteTopicsRequest, Reply<v1::TopicResults>),
    /// `CreatePartitions`.
    CreatePartitions(v1::CreatePartitionsRequest, Reply<v1::TopicResults>),
    /// `AlterConfigs`.
    AlterConfigs(Kind, v1::AlterConfigsRequest, Reply<v1::AlterConfigsResponse>),
    /// `AlterPartitionReassignments`; answered once accepted.
    AlterReassignments(
        v1::AlterPartitionReassignmentsRequest,
        Reply<v1::AlterPartitionReassignmentsResponse>,
    ),
    /// `DeleteGroup`.
    DeleteGroup(v1::DeleteGroupRequest, Reply<v1::DeleteGroupResponse>),
    /// `ResetOffsets`.
    ResetOffsets(v1::ResetOffsetsRequest, Reply<v1::ResetOffsetsResponse>),
    /// `ElectLeaders`.
    ElectLeaders(v1::ElectLeadersRequest, Reply<v1::ElectLeadersResponse>),
}
