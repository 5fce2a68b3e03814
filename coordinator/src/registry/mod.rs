//! The registries: who is alive, what exists, who owns what, how far it was read.
//!
//! Typed functions over a [`Client`](crate::zk::Client); none keeps state. Reads are repeated when
//! their answer is lost. A conditional write whose answer is lost is resolved by reading back, so
//! that its result says what happened; each function's doc says how. What cannot be resolved ends
//! in [`RegistryError::AnswerLost`].
//!
//! Every call may wait as long as the client is disconnected, at most 1.4 session timeouts; put a
//! timeout round what must answer earlier, and take it for "unknown", never for "did not happen".

mod error;
pub(crate) mod node;

pub mod brokers;
pub mod cluster_id;
pub mod configs;
pub mod consumers;
pub mod deletions;
pub mod fence;
pub mod in_sync;
pub mod offsets;
pub mod owners;
pub mod partitions;
pub mod plan;
pub mod producer_ids;
pub mod reassignments;
pub mod topics;

pub use error::RegistryError;
pub use fence::{EpochFence, FencedError};
pub use node::Versioned;

/// Resolves once when what was read has changed, or the session has ended; read again then.
pub use zookeeper_client::OneshotWatcher;
