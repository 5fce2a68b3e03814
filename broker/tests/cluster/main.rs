//! Brokers as members of a cluster, in one process: registry, controller and brokers on threads of
//! their own, talking over sockets.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy does not see as tests

mod membership;
mod replication;
mod rig;
