//! `coordinator reassign`: other replicas for partitions, as Kafka's tool has it.
//!
//! `plan_file` is the JSON of plans, `generate` makes them, `ask` calls the controller, `watch` waits
//! and shows how far it is, `actions` are what a person asks for and what is printed then.

mod actions;
pub(crate) mod args;
pub(crate) mod ask;
pub(crate) mod generate;
pub(crate) mod plan_file;
pub(crate) mod watch;

pub(crate) use actions::{run, take_back};
