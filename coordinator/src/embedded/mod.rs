//! The embedded registry: a single ZooKeeper-compatible node inside the product.
//!
//! It speaks ZooKeeper's own wire protocol on a TCP port, so the very same client code runs with it
//! and with a real ensemble; nothing in the product may reach round the protocol into it. It is for
//! one machine: `broker dev` starts one, `coordinator registry` runs one alone.
//!
//! From the inside out:
//!
//! - `wire`, `path`, `acl`, `stat`, `op_code`, `error_code`: the pieces of the protocol;
//!   `connect` and `write`: the records that are decoded whole.
//! - `tree`, `session_table`, `watches`: the data; `transaction`, `state`, `read`: a pure state
//!   machine over it. Request and time in, reply, events and log record out.
//! - `log`: what makes it survive.
//! - `engine`: the one task that owns the state and lets nothing out that is not on disk;
//!   `connection`, `outbox`, `four_letter_word`, `server`: the sockets.
//!
//! Where ZooKeeper's documentation and its 3.8 server differ, this one does what the server does:
//! a differential test in `integration-tests` holds the two against each other.

mod acl;
mod connect;
mod connection;
mod engine;
mod error;
mod error_code;
mod four_letter_word;
mod log;
mod looks;
mod op_code;
mod options;
mod outbox;
mod path;
mod read;
mod server;
mod session_table;
mod stat;
mod state;
mod transaction;
mod tree;
mod watches;
mod wire;
mod write;

#[cfg(test)]
mod tests;

pub use error::EmbeddedError;
pub use options::EmbeddedOptions;
pub use server::Server;
