//! The connection both client crates share (feature `client`).
//!
//! [`SocketOptions`] make a socket, [`Connection`] speaks HTTP/2 over it: tonic's generated clients
//! run on it as a service, and [`Connection::open_stream`] gives the raw two-way stream of the data
//! path. [`Cluster`] knows the brokers and who leads what, and keeps one connection a broker: a broker
//! pushes what changes, and any can be asked.
//!
//! Sockets and timers belong to the tokio runtime on which they were opened; a current-thread one
//! will do, and is faster. Knows nothing of records, groups or offsets.

mod asking;
mod backoff;
mod busy_poll;
mod cluster;
mod connection;
mod error;
mod metadata;
mod outgoing;
mod pool;
mod socket;
mod stream;
mod watching;

#[cfg(test)]
mod tests;

pub use backoff::Backoff;
pub use busy_poll::{BusyPoll, Polling};
pub use cluster::{Cluster, ClusterCounts, ClusterOptions, ClusterStats};
pub use connection::{Connection, ResponseBody};
pub use error::ClientError;
pub use metadata::{BrokerNode, Metadata, PartitionMetadata, TopicMetadata};
pub use socket::{CongestionControl, SocketOptions};
pub use stream::{StreamReceiver, StreamSender};
