//! The controller against the embedded registry and brokers that only take updates.
//!
//! The same behaviour with real processes and a real ensemble is tested in `integration-tests`.

mod administration;
mod harness;
mod reassignments;
mod takeover;
