//! The cluster controller: one elected process that registers topics and tells brokers.
//!
//! A [`Controller`] (`run`) is elected by the ephemeral `/controller` and fenced by
//! `/controller_epoch` ([`crate::zk::election`], `fence`). While it is active one task (`term`) owns
//! the `state`, takes events from one queue (`event`), decides by pure functions (`commands`,
//! `deletion`), writes ZooKeeper and then tells every broker (`link`, `outbox`). The Admin
//! service (`listener`, `service`) stands in front of that queue; a standby answers who is active.
//!
//! ZooKeeper is the truth: on election, and whenever the outcome of a write is not known, everything
//! is read anew. Nothing here is on the data path.

mod commands;
mod decision;
mod deletion;
mod outbox;
pub(crate) mod placement;
mod reassignment;
mod requests;
mod state;

mod describe;
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

pub use commands::Defaults;
pub use run::{Controller, ControllerOptions, ControllerStartError};
pub use service::CONTROLLER_HEADER;
pub(crate) use unknown::{unknown_group, unknown_topic};
