//! The Ottla consumer.

mod config;
mod decoder;
mod error;
mod event;
mod positions;
mod record;
mod shared;
mod subscription;
#[cfg(test)]
mod testing;

pub use config::{AssignmentStrategy, ConsumerConfig, KEYS, Key, OffsetReset};
pub use error::{CommitError, ConfigError, ConsumerError};
pub use event::Event;
pub use record::{Header, Record, RecordBatch};
pub use shared::StartAt;
pub use subscription::Subscription;
