//! The Ottla producer: batches records, sends them to the leaders of their partitions, retries, and
//! writes each acknowledged record exactly once and in order.
//!
//! ```no_run
//! use producer_client::{Producer, ProducerConfig, Record};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let producer = Producer::start(ProducerConfig::new(["localhost:9094"]))?;
//! let place = producer.send(Record::to("clicks").key("user-7").value("{}")).await?;
//! # let _ = place;
//! # Ok(())
//! # }
//! ```
//!
//! A send goes through these modules: [`Producer`] (the handle) → `accumulator` (the open batch of each
//! partition; `memory` and `line` when there is no room) → `sender` (one task: windows, links to
//! brokers, metadata) → a future of `batch`. What retries may and may not do is decided in
//! `idempotence`, which is pure.
//!
//! Knows nothing of ZooKeeper: brokers tell it all it needs.

mod accumulator;
mod batch;
mod blocking;
pub mod config;
mod error;
mod idempotence;
mod line;
mod memory;
mod message_set;
mod pace;
mod partitioner;
mod producer;
mod record;
mod sender;
mod topics;

pub use batch::SendFuture;
pub use config::{Acks, ConfigError, ProducerConfig};
pub use error::{FlushError, SendError, StartError};
pub use message_set::{MessageSet, SetFuture, SetMetadata};
pub use partitioner::{Builtin, Choice, Partitioner, PartitionerKind, murmur2};
pub use producer::{Flush, Producer, ProducerBuilder, ProducerStats};
pub use proto::record::{Compression, Header};
pub use record::{Record, RecordMetadata};
