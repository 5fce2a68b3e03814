//! The ZooKeeper side of Ottla: the supervised session, the registries, the rebalance algorithm.

pub mod registry;
pub mod zk;
