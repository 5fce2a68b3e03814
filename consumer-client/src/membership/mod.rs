//! Membership of a group in ZooKeeper: the paper's Algorithm 1, agreed by compare-and-set.
//!
//! - `member` decides: a pure state machine, (state, input, now) to effects, with its table.
//! - `commits` decides what is written to the offset nodes, and when. Pure, too.
//! - `zookeeper_group` acts: it turns what the registry shows into inputs and effects into
//!   `requests`; `handover` is its way with a partition; `watches` are its eyes; `streams` says
//!   where a partition flows.
//!
//! Everything a member does to a partition follows the plan node and nothing else.

pub(crate) mod commits;
mod handover;
mod join;
mod member;
mod requests;
pub(crate) mod streams;
mod watches;
mod zookeeper_group;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub(crate) use join::join;
pub(crate) use zookeeper_group::GroupCommand;
