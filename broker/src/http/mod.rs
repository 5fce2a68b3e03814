//! The HTTP listener: `/metrics` for Prometheus, `/healthz` (the process runs), `/readyz` (it is
//! registered and serves). Lives on the control thread; reads counters, asks nobody.

mod group_metrics;
mod listener;
mod metrics;
mod replication_metrics;

pub(crate) use listener::{Pages, serve};
