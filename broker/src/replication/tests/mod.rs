//! Partitions over a real log in a scratch directory.

pub(crate) mod rig;

mod panics;
mod partition;
mod recoding;
mod record_keys;
mod replicas;
mod simulation;
