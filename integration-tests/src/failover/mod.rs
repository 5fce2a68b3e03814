//! How long clients stand still while leadership moves: figures, not a test.
//!
//! A cluster of three brokers under a steady load; brokers are restarted one after another, then killed.
//! Every record's latency is kept, every write of a partition's state with the registry's own time, and
//! who was first acknowledged and delivered what by which leader. The figures are made of it in the end.
//!
//! - [`clock`]: the one clock of all times here.
//! - [`load`]: the producer; [`readers`]: the group.
//! - [`states`]: what is written in the registry, and when a client was told of it.
//! - [`run`]: what is done to the cluster; [`figures`]: what comes of it. Pure.

pub mod clock;
pub mod figures;
pub mod load;
pub mod readers;
pub mod run;
pub mod states;
