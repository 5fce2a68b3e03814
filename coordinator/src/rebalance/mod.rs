//! Who of a group reads what: pure functions from members, topics and the previous plan to a plan.
//!
//! The members of a ZooKeeper group agree on a [`Plan`] by compare-and-set; how it is written and
//! claimed is in [`crate::registry`], when it is computed is the member's business. Everything
//! here is deterministic: equal inputs give equal plans on every machine.

pub mod pattern;
pub mod plan;
pub mod range;
pub mod sticky;
mod subscribed;

pub use pattern::TopicPattern;
pub use plan::{InvalidPlan, Members, Owned, Plan, Strategy, TopicInput, Topics};

#[cfg(test)]
mod tests;
