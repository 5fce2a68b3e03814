//! Consumer groups that the broker coordinates: Kafka's group protocol, and offsets as records.
//!
//! A group belongs to one partition of `__consumer_offsets` ([`OFFSETS_TOPIC`]); who leads that
//! coordinates the group. [`Groups`] is what listeners ask. Behind it one thread (`coordinator`) owns
//! the groups of all partitions that this broker leads (`shard`); it decides and keeps time, and
//! never waits for a disk.
//!
//! | | |
//! |---|---|
//! | [`classic`] | one group as a pure state machine |
//! | `offsets` | what a group has committed, and what has expired: pure |
//! | `records` | both as records of the topic |
//! | `loading` | reading a partition when this broker begins to lead it |
//! | `writing` | appending, and what is done when that is committed |
//! | `roles` | which offsets partitions this broker leads, and how far each has come |
//! | `membership`, `committing`, `describing` | the requests |
//! | `report` | what the metrics page is told |
//!
//! Knows nothing of Kafka's requests and sockets.

pub mod classic;
mod command;
mod committing;
mod coordinator;
mod creating;
mod describing;
mod error;
#[allow(clippy::module_inception, reason = "the noun: what others ask")]
mod groups;
mod loading;
mod membership;
mod offsets;
mod offsets_topic;
mod records;
mod report;
mod roles;
mod shard;
mod writing;

#[cfg(test)]
mod tests;

pub use command::{
    Commit, CommitRequest, Description, FetchedOffsets, Listing, MemberDescription, Outcomes,
    Wanted,
};
pub use creating::ControllerCreates;
pub use error::GroupError;
pub use groups::Groups;
pub use offsets::CommittedOffset;
pub use offsets_topic::{NewOffsetsTopic, OFFSETS_TOPIC, TopicCreator};
pub use report::{Counters, GroupReport, Report};
