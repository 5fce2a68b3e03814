//! The ZooKeeper side of Ottla: the supervised session, the registries, the rebalance algorithm.

pub mod rebalance;
pub mod registry;
pub mod zk;
