//! What came of a repair.

use std::io;
use std::path::PathBuf;

use proto::Offset;

/// What a repair did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Partitions copied.
    pub partitions: u64,
    /// Batches copied.
    pub batches: u64,
    /// Ranges left out.
    pub left_out: u64,
}

/// Why a repair was not done, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The output folder will not do.
    #[error("{path} cannot take the repaired log: {what}; name a new folder with --output")]
    Output {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Nothing to repair.
    #[error("{path} is no partition's folder: it has no .log files; name <topic>-<partition>")]
    NotAPartition {
        /// The path.
        path: PathBuf,
    },
    /// Two segments are too far apart.
    #[error(
        "{folder}: no segment has the offsets from {from} to {to}, which are too many to be one \
         gap; a file may have a wrong name: copy the folder without it and repair the copy"
    )]
    GapTooLarge {
        /// The partition.
        folder: PathBuf,
        /// First offset missing.
        from: Offset,
        /// First offset there.
        to: Offset,
    },
    /// The system refused.
    #[error("{path}: {error}; what was written so far is not whole: delete it")]
    Io {
        /// Reading or writing this.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// The sink takes no more.
    #[error("the report cannot be written: {0}; what was copied so far is not whole: delete it")]
    Report(#[source] io::Error),
}
