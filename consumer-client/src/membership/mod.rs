//! Membership of a group: who of its members reads what, and how far they are.
//!
//! In ZooKeeper (`membership=zookeeper`), by the paper's Algorithm 1, agreed by compare-and-set:
//!
//! - `member` decides: a pure state machine, (state, input, now) to effects, with its table.
//! - `zookeeper_group` acts: it turns what the registry shows into inputs and effects into
//!   `requests`; `handover` is its way with a partition; `watches` are its eyes.
//!
//! Everything a member does to a partition follows the plan node and nothing else.
//!
//! By a coordinator among the brokers (`membership=broker`), as Kafka's consumers do:
//!
//! - `classic_member` decides, pure, too; `assignor` is what it does as the group's leader.
//! - `broker_group` acts, by `broker_requests`; `broker_handover` is its way with a partition,
//!   `broker_topics` is what it follows.
//!
//! For both, `commits` decides which positions are written and when, `delivery` begins and ends a
//! partition, `streams` says where it flows, `other_kind` warns where both kinds share a name.

mod assignor;
mod broker_group;
mod broker_handover;
mod broker_requests;
mod broker_topics;
mod classic_member;
pub(crate) mod commits;
mod delivery;
mod handover;
mod join;
mod member;
mod other_kind;
mod requests;
pub(crate) mod streams;
mod watches;
mod zookeeper_group;

#[cfg(test)]
mod classic_simulation;
#[cfg(test)]
mod classic_tests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub(crate) use delivery::GroupCommand;
pub(crate) use join::join;
