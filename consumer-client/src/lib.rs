//! The Ottla consumer.

mod blocking;
mod config;
mod consumer;
mod control;
mod decoder;
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

pub use config::{AssignmentStrategy, ConsumerConfig, KEYS, Key, OffsetReset};
pub use consumer::{Consumer, Polled};
pub use control::Control;
pub use error::{CommitError, ConfigError, ConsumerError};
pub use event::Event;
pub use record::{Header, Record, RecordBatch};
pub use shared::StartAt;
pub use stream::MessageStream;
pub use subscription::Subscription;
