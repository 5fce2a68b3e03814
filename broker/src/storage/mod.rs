//! Partitions on disk: logs of segments of record batches.
//!
//! Synchronous code that knows no tokio, no sockets, no ZooKeeper and no leader. It stores the
//! batches as they came, with base offset and leader epoch stamped, and hands them out as slices of
//! the page cache; it keeps no message in memory. Broker code never dereferences a mapping.
//!
//! [`LogSet`] has all logs of a broker, [`Log`] is one partition. Below them: `segments` and
//! `segment`, the two indexes, `producer_state` and `epoch_history`. `recovery` and
//! `segment_recovery` make a log from whatever a crash left. [`disk`] is the door to the file
//! system that tests can break, [`Clock`] the door to time.
//!
//! Read on: [`log`](Log) (the positions and their order), `append`, `read`, `flush`, `recovery`.

mod append;
mod append_fetched;
mod byte_reader;
mod checked_text;
mod clock;
mod compaction;
mod config;
mod context;
mod creation;
mod damage;
mod delete_records;
mod describe;
mod directories;
pub mod disk;
pub mod dump;
mod enter;
mod epoch_history;
mod epochs;
mod error;
mod flush;
mod header_walk;
mod housekeeping;
mod index_file;
mod log;
mod log_dir;
mod log_set;
mod maps;
mod offset_index;
mod open_files;
mod opening;
mod opening_progress;
mod panics;
mod partition_metadata;
mod pooled_file;
mod positions_checkpoint;
mod producer_handover;
mod producer_snapshot;
mod producer_state;
mod read;
mod recovery;
mod replay;
mod retention;
mod roll;
mod room;
mod scan;
mod segment;
mod segment_recovery;
mod segments;
mod sequence_window;
mod set_aside;
mod start;
mod time_index;
mod time_lookup;
mod troubles;
mod truncation;
mod validate;
mod verify;
mod wait;
mod write_group;

#[cfg(test)]
mod tests;

pub use append::{AppendRequest, Appended};
pub use clock::{Clock, ManualClock, SystemClock};
pub use compaction::{BadBatch, CleanerUsage, CompactionError, CompactionReport};
pub use config::{
    Background, CleanerConfig, CleanupPolicy, Compression, CompressionPolicy, DECOMPRESSED_MAX,
    Expose, FlushPolicy, LogConfig, LogSetConfig, TimestampType,
};
pub use creation::NewLog;
pub use damage::DamagedRange;
pub use delete_records::DeleteUpTo;
pub use describe::{DirectoryState, LogState};
pub use error::{
    AppendError, DeleteRecordsError, FlushError, LogError, LogSetError, Offline, OpenError,
    ReadError, SequenceError,
};
pub use flush::{FlushDone, StartStored};
pub use log::{Log, LogListener};
pub use log_set::{LogSet, StorageUsage};
pub use opening::{Cut, Loss, Opening};
pub(crate) use panics::text_of;
pub use read::{Cursor, FileRange, ReadLimits, ReadSlice};
pub use recovery::RecoveryReport;
pub use retention::DeletedSegments;
pub use room::FreeMark;
pub use start::StartReport;
pub use time_lookup::TimedOffset;
pub use validate::TimestampError;
pub use wait::Wait;
