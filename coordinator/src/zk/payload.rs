//! Every value of the registry: JSON with a `version`, one struct each.
//!
//! A reader ignores fields it does not know, so a field may be added without a new version; a
//! change that an older reader would misread gets one. A value of a newer version is refused with
//! an error that says so, never guessed at.

use std::collections::BTreeMap;

use proto::{BrokerId, LeaderEpoch, Offset, Partition, TopicId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::MAX_REQUEST_BYTES;

/// A value that lives in a node.
pub trait Payload: Serialize + DeserializeOwned {
    /// What it is, for error texts.
    const WHAT: &'static str;
    /// The version this program writes, and the newest that it reads.
    const VERSION: u32 = 1;

    /// The node's bytes.
    fn encode(&self) -> Result<Vec<u8>, PayloadError> {
        let bytes = serde_json::to_vec(&Versioned { version: Self::VERSION, body: self })
            .map_err(|source| PayloadError::Unwritable { what: Self::WHAT, source })?;
        // The path and the framing share the request with the value.
        if bytes.len() + 1024 > MAX_REQUEST_BYTES {
            return Err(PayloadError::TooLarge { what: Self::WHAT, bytes: bytes.len() });
        }
        Ok(bytes)
    }

    /// Reads the bytes of the node at `path`.
    fn decode(path: &str, bytes: &[u8]) -> Result<Self, PayloadError> {
        let malformed =
            |source| PayloadError::Malformed { what: Self::WHAT, path: path.to_owned(), source };
        let OnlyVersion { version } = serde_json::from_slice(bytes).map_err(malformed)?;
        if version > Self::VERSION {
            return Err(PayloadError::Newer {
                what: Self::WHAT,
                path: path.to_owned(),
                found: version,
                known: Self::VERSION,
            });
        }
        serde_json::from_slice(bytes).map_err(malformed)
    }
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    version: u32,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Deserialize)]
struct OnlyVersion {
    version: u32,
}

/// A value that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Written by a newer program.
    #[error(
        "the {what} at {path} has version {found}, this program reads up to {known}: \
         it was written by a newer Ottla; upgrade this process"
    )]
    Newer {
        /// What it is.
        what: &'static str,
        /// Where it is.
        path: String,
        /// The version found.
        found: u32,
        /// The newest version read.
        known: u32,
    },
    /// Not what it should be.
    #[error(
        "the {what} at {path} cannot be read ({source}): \
         something else wrote it, or the chroot is not one of Ottla; look at the node"
    )]
    Malformed {
        /// What it is.
        what: &'static str,
        /// Where it is.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
    /// Above ZooKeeper's limit.
    #[error(
        "the {what} would take {bytes} bytes, and ZooKeeper takes at most 1 MiB in a node: \
         fewer or smaller parts are needed"
    )]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// Cannot be expressed as JSON.
    #[error("the {what} cannot be written: {source}")]
    Unwritable {
        /// What it is.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
}

/// `/cluster/id`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterId {
    /// Random, made by the first comer.
    pub id: Uuid,
}

/// `/brokers/ids/<id>`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// Where clients and other brokers reach it.
    pub host: String,
    /// Port of gRPC.
    pub grpc_port: u16,
    /// Where Kafka clients reach it, by listener; none while the protocol is off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kafka: Vec<KafkaEndpoint>,
    /// Port of metrics and health; none while it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_port: Option<u16>,
    /// Failure domain; empty when unknown.
    #[serde(default)]
    pub rack: String,
    /// Random, new with each start of the process.
    pub incarnation: Uuid,
    /// Milliseconds since the epoch.
    pub start_time_ms: i64,
    /// False after a start that found no clean-stop mark.
    pub clean: bool,
}

/// Where one of a broker's listeners for Kafka clients is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaEndpoint {
    /// The listener's name: clients that came in by one listener are sent to others of its name.
    pub name: String,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// `/brokers/topics/<t>`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Tells it from an earlier topic of the same name.
    pub topic_id: TopicId,
    /// The replicas of each partition, preferred leader first; dense from partition 0.
    pub partitions: Vec<Vec<BrokerId>>,
}

/// `/brokers/topics/<t>/stored/<id>`, for people: no decision reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The partitions of the topic that the broker stores.
    pub partitions: Vec<Partition>,
}

/// `/brokers/topics/<t>/partitions/<p>/state`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// Who leads; `null` while nobody can.
    pub leader: Option<BrokerId>,
    /// Counts the leaderships; raised by whoever begins one.
    pub leader_epoch: LeaderEpoch,
    /// Replicas that have everything committed.
    pub isr: Vec<BrokerId>,
    /// Replicas that fell out of the ISR below `min.insync.replicas` and may still lead (KIP-966).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub electable: Vec<BrokerId>,
    /// The controller that wrote it last.
    pub controller_epoch: i32,
}

/// `/config/{topics,brokers,clients}/<name>`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    /// Key to value, both as text.
    pub values: BTreeMap<String, String>,
}

/// `/controller`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controller {
    /// `host:port` of its Admin service.
    pub address: String,
    /// Random, new with each start of the process.
    pub incarnation: Uuid,
    /// The epoch it was elected with.
    pub epoch: i32,
}

/// `/controller_epoch`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerEpoch {
    /// Counts the controllers from 1.
    pub epoch: i32,
}

/// What a member of a group wants to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subscription {
    /// Topics by name, each with the number of streams this member reads it with (at least 1).
    Topics(BTreeMap<String, u32>),
    /// Every topic that a [`TopicPattern`](crate::rebalance::TopicPattern) matches, each with so many
    /// streams.
    Pattern {
        /// The pattern, as the member was given it.
        regex: String,
        /// Streams of each matching topic (at least 1).
        streams: u32,
    },
}

/// `/consumers/<g>/ids/<c>`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What it reads.
    pub subscription: Subscription,
    /// The machine it runs on, for people.
    pub host: String,
    /// Milliseconds since the epoch at which the member started, for people.
    pub start_time_ms: i64,
}

/// `/consumers/<g>/plan` as written; [`crate::rebalance::Plan`] is what is worked with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanNode {
    /// `range` or `sticky`.
    pub strategy: String,
    /// The members it counts with, sorted by id.
    pub members: Vec<PlannedMember>,
    /// Who may own something: index into `members`, number of the stream.
    pub slots: Vec<(u32, u32)>,
    /// The topics it counts with.
    pub topics: BTreeMap<String, PlannedTopic>,
}

/// A member in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMember {
    /// Its id.
    pub id: String,
    /// What it had subscribed to.
    pub subscription: Subscription,
}

/// A topic in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedTopic {
    /// The topic it was then.
    pub topic_id: TopicId,
    /// The owner of each partition in order, as an index into the slots; a negative number -n says
    /// that the one before it owns n more. Empty when nobody is subscribed.
    pub owners: Vec<i64>,
    /// The number of partitions.
    pub partitions: u32,
}

/// `/consumers/<g>/owners/<t>/<p>`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Id of the member.
    pub consumer: String,
    /// Number of its stream.
    pub stream: u32,
    /// The generation of the plan by which it was claimed.
    pub generation: i32,
}

/// `/consumers/<g>/offsets/<t>/<p>`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    /// The next offset to read; `null` when the partition was claimed and nothing committed.
    pub offset: Option<Offset>,
    /// The topic it belongs to; for another one it means nothing.
    pub topic_id: TopicId,
    /// Leader epoch of the record before `offset`; -1 when unknown.
    pub leader_epoch: LeaderEpoch,
    /// The application's own words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    /// The member that wrote it, so that a lost answer can be told from a successor's write.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

/// `/producer_ids`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerIds {
    /// The first id that no block has.
    pub next: i64,
    /// Who took the last block: tells a lost answer from another's write.
    pub by: Uuid,
}

/// `/admin/delete/<t>`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// The topic to be deleted, whatever is created under its name later.
    pub topic_id: TopicId,
    /// Milliseconds since the epoch at which it was accepted.
    pub accepted_ms: i64,
}

/// `/admin/reassign/<t>`: the partitions of a topic whose replicas are being changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reassignments {
    /// The topic that is meant, whatever is created under its name later.
    pub topic_id: TopicId,
    /// What is not done yet.
    pub partitions: BTreeMap<Partition, Reassignment>,
    /// Bytes a second that each broker which comes in fetches meanwhile; none: by its own settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<u64>,
}

/// The reassignment of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reassignment {
    /// The replicas it is to have, preferred leader first.
    pub target: Vec<BrokerId>,
    /// The replicas it had before; the same as `target` while it is being taken back.
    pub original: Vec<BrokerId>,
}

impl Reassignment {
    /// Replicas that come: they have to be in sync at the end.
    pub fn adding(&self) -> impl Iterator<Item = BrokerId> {
        self.target.iter().copied().filter(|id| !self.original.contains(id))
    }

    /// Replicas that go, of those there are now.
    pub fn removing(&self, replicas: &[BrokerId]) -> impl Iterator<Item = BrokerId> {
        replicas.iter().copied().filter(|id| !self.target.contains(id))
    }
}

/// `/admin`: so that a retry of a finished request is answered by whoever is the controller then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedRequests {
    /// Oldest first, bounded by the writer.
    pub requests: Vec<FinishedRequest>,
}

/// One finished request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedRequest {
    /// Its id in hex.
    pub id: String,
    /// What it did, one entry a subject, for example `delete topic a`.
    pub done: Vec<String>,
}

macro_rules! payloads {
    ($( $type:ty: $what:literal; )*) => {
        $( impl Payload for $type { const WHAT: &'static str = $what; } )*
    };
}

payloads! {
    ClusterId: "cluster id";
    Broker: "broker registration";
    Topic: "topic";
    Stored: "list of stored partitions";
    PartitionState: "partition state";
    Overrides: "configuration overrides";
    Controller: "controller registration";
    ControllerEpoch: "controller epoch";
    Member: "group member";
    PlanNode: "group plan";
    Owner: "partition owner";
    CommittedOffset: "committed offset";
    ProducerIds: "producer id block";
    Deletion: "topic deletion";
    Reassignments: "reassignments of a topic";
    FinishedRequests: "record of finished requests";
}

#[cfg(test)]
mod tests;
