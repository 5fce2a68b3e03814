//! The Ottla consumer: pulls records from brokers, alone or as a member of a group.
//!
//! [`Consumer`] is the way in. It reads explicitly assigned partitions, or its share of a group's;
//! hands records out by [`Consumer::poll`], whole batches by [`Consumer::poll_batches`], or
//! through [`MessageStream`]s; and tells what happened beside records as [`Event`]s. [`Control`]
//! is what may be asked of it from any thread.
//!
//! ```no_run
//! use consumer_client::{Consumer, ConsumerConfig};
//!
//! # fn main() -> Result<(), consumer_client::ConsumerError> {
//! let config = ConsumerConfig::new(["127.0.0.1:9094"]).group("indexers");
//! let mut consumer = Consumer::new(config)?;
//! for stream in consumer.create_message_streams("app-logs", 2)? {
//!     std::thread::spawn(move || {
//!         for record in stream {
//!             println!("{} {:?}", record.offset, record.value);
//!         }
//!     });
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Where to read on: `fetcher` (how bytes come), `shared` (how they wait and are handed out),
//! `positions` (what is handed out and what is done), `membership` (who reads what, and commits).

mod blocking;
mod config;
mod consumer;
mod control;
mod decoder;
mod epoch_trail;
mod error;
mod event;
mod fetcher;
mod membership;
mod positions;
mod record;
mod shared;
mod stream;
mod subscription;
#[cfg(test)]
mod testing;
mod worker;

pub use config::{
    AssignmentStrategy, ConsumerConfig, KEYS, Key, Membership, OffsetReset, OnDamage,
};
pub use consumer::{Consumer, Polled};
pub use control::{ConsumerStats, Control};
pub use error::{CommitError, ConfigError, ConsumerError};
pub use event::Event;
pub use record::{Header, Record, RecordBatch};
pub use shared::StartAt;
pub use stream::MessageStream;
pub use subscription::Subscription;
