//! Partitions as the broker serves them: who may append and read, who has what, who waits for it.
//!
//! [`Partition`] joins a log to its leadership (`leadership`), its append token (`append_queue`,
//! `appending`), its replicas (`in_sync`) and those who wait for it (`waiting`); [`PartitionSet`]
//! owns all of them; `writer` is the thread of a directory that appends while its disk is slow.
//! Decisions are pure and apart: `isr`, `high_watermark`, `replica`, `acks`, joined in
//! `leader_state`. Knows nothing of gRPC, sockets or ZooKeeper.

mod acks;
mod append_job;
mod append_queue;
mod appending;
mod context;
mod deleting;
mod error;
pub mod follower;
mod following;
mod high_watermark;
mod in_sync;
mod isr;
mod leader_state;
mod leadership;
mod opening;
mod partition;
mod partition_set;
mod recoding;
mod record_keys;
mod replica;
#[cfg(test)]
pub(crate) mod tests;
mod waiting;
mod writer;

pub use append_job::{AppendJob, OnAppended, RequiredAcks};
pub use error::PartitionError;
pub use following::FetchedRecords;
pub use in_sync::{IsrListener, ReplicationView};
pub use leader_state::IsrWish;
pub use leadership::Leadership;
pub use partition::Partition;
pub use partition_set::{Missing, OpenPartitionError, PartitionSet};
pub use record_keys::KeyError;
pub use replica::Replica;
pub use waiting::Wake;
