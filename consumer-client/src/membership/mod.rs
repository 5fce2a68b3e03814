//! Membership of a group in ZooKeeper: the paper's Algorithm 1, agreed by compare-and-set.
//!
//! - `member` decides: a pure state machine, (state, input, now) to effects, with its table.
//! - `zookeeper_group` acts: it turns what the registry shows into inputs and effects into requests.
//! - `commits` decides what is written to the offset nodes, and when.
//!
//! Everything a member does to a partition follows the plan node and nothing else.

mod member;

#[cfg(test)]
mod simulation;
