//! The Ottla broker: stores partitions and serves them over gRPC.
//!
//! Layers, upper may use lower, never the reverse:
//! `server, http → api → groups → cluster, replication → storage → proto`. [`broker`] wires them together,
//! `main.rs` and [`cli`] are what a person meets.

pub mod api;
pub mod broker;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod groups;
mod http;
mod listeners;
pub mod metrics;
mod opened_logs;
pub mod replication;
mod server;
pub mod storage;
#[cfg(test)]
mod tests;
