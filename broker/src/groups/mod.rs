//! Consumer groups that the broker coordinates: Kafka's group protocol, and offsets as records.
//!
//! [`classic`] is one group as a pure state machine.

pub mod classic;
mod error;

pub use error::GroupError;
