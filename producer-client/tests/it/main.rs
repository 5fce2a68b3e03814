//! The producer, as a library and as an executable, against brokers in this process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod broker;
mod executable;
mod faults;
mod leaders;
