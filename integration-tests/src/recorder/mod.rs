//! Producers and readers that record everything they do, for [`crate::checker`], and what is
//! known of each partition's progress meanwhile.
//!
//! Whose clients they are is [`Clients`]: ours, or those of Kafka over Kafka's protocol. Each producer
//! and each reader is a thread that owns its part of the history; only the `board` is shared. Ours run
//! in that thread (`ottla`); of others it reads what their process says (`foreign`). Times are those of
//! one clock.

mod board;
mod client;
mod foreign;
mod ottla;
#[allow(clippy::module_inception, reason = "the noun: what a run uses")]
mod recorder;
mod whole_log;

pub use board::Progress;
pub use client::Clients;
pub use recorder::{Recorder, Subject};
pub use whole_log::{read_log, read_records};
