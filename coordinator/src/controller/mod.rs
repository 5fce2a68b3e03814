//! The cluster controller: one elected process that registers topics and tells brokers.
//!
//! A [`Controller`] (`run`) is elected by the ephemeral `/controller` and fenced by
//! `/controller_epoch` ([`crate::zk::election`], `fence`). While it is active one task (`term`) owns
//! the `state`, takes events from one queue (`event`), decides by pure functions (`commands`,
//! `deletion`, `elections`), writes ZooKeeper and then tells every broker (`link`, `outbox`). The
//! Admin service (`listener`, `service`) and what brokers tell (`broker_calls`) stand in front of that
//! queue; a standby answers who is active. Who leads a partition is decided chunk by chunk between
//! events (`due`, `election_calls`), from what its node has then.
//!
//! ZooKeeper is the truth: on election, and whenever the outcome of a write is not known, everything
//! is read anew. Nothing here is on the data path.

mod balance;
mod commands;
mod decision;
mod deletion;
mod due;
mod elections;
mod outbox;
pub(crate) mod placement;
mod reassignment;
mod requests;
mod state;

mod broker_calls;
mod describe;
mod election_calls;
mod event;
mod fence;
mod group_calls;
mod groups;
mod leaders;
mod link;
mod listener;
mod logs;
mod picture;
mod removals;
mod run;
mod service;
mod subject;
mod term;
#[cfg(feature = "embedded")]
#[cfg(test)]
mod tests;
mod topic_calls;
mod unknown;
mod waiting;

pub use balance::Balance;
pub use commands::Defaults;
pub use run::{Controller, ControllerOptions, ControllerStartError};
pub use service::CONTROLLER_HEADER;
pub(crate) use unknown::{unknown_group, unknown_topic};
