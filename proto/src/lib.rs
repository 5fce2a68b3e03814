//! What two Ottla processes must agree on byte for byte: record batches, gRPC services, error
//! codes, and (feature `client`) the connection that both client crates share.
//!
//! Knows nothing of files, ZooKeeper or who is leader. Decoders never panic on a peer's bytes and
//! bound every length before they allocate.

mod error_code;
mod ids;
mod position;

#[cfg(feature = "client")]
pub mod client;
pub mod grpc;
pub mod kafka;
pub mod record;

/// The generated messages and services of `proto/ottla/v1`.
#[allow(
    missing_docs,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::too_many_lines
)]
pub mod v1 {
    tonic::include_proto!("ottla.v1");
}

pub use error_code::{ErrorCode, Retry};
pub use ids::{BrokerId, Partition, ProducerEpoch, ProducerId, TopicId, TopicPartition};
pub use position::{LeaderEpoch, Offset};
