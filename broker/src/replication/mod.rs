//! Partitions as the broker serves them: who may append and read, and who waits for what.
//!
//! [`Partition`] joins a log to its leadership, its append token ([`append_queue`]) and those who
//! wait for it ([`waiting`]); [`PartitionSet`] owns all of them; [`writer`] is the thread of a
//! directory that appends while its disk is slow. Knows nothing of gRPC, sockets or ZooKeeper.

mod append_queue;
mod partition;
mod partition_set;
mod recoding;
mod record_keys;
#[cfg(test)]
pub(crate) mod tests;
mod waiting;
mod writer;

pub use partition::{AppendJob, OnAppended, Partition, PartitionError};
pub use partition_set::{Missing, OpenPartitionError, PartitionSet};
pub use record_keys::KeyError;
pub use waiting::Wake;
