//! The ZooKeeper side of Ottla: the supervised session, the registries, the rebalance algorithm;
//! with features, the cluster controller, the embedded registry and the operator's tool.

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "controller")]
pub mod controller;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod rebalance;
pub mod registry;
pub mod zk;
