//! The ZooKeeper side of Ottla: the supervised session, the registries, the rebalance algorithm.

#[cfg(feature = "embedded")]
pub mod embedded;
pub mod rebalance;
pub mod registry;
pub mod zk;
