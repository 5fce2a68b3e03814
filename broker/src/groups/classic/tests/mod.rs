//! Tests of the classic group, by the edge cases that clients rely on, and a random simulation.

mod commits;
mod joining;
mod leaving;
mod rebalancing;
mod rig;
mod simulation;
mod statics;
mod syncing;
