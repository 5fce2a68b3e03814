//! What can keep the embedded registry from starting or end it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the registry does not start, or stopped. A request that fails is answered to its client and
/// never shows here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// Another process serves from this data directory.
    #[error(
        "the data directory {path} is in use by another process; stop that one, or choose another \
         directory"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; choose another address, or port 0 for a free one"
    )]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory cannot be read or written.
    #[error("cannot {action} in the data directory: {source}; check its permissions and the disk")]
    Io {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The snapshot is not what was once written.
    #[error(
        "the file \"snapshot\" in the data directory is damaged; restore the directory from a \
         copy, or move it away to start with an empty registry"
    )]
    DamagedSnapshot,
    /// The log is damaged before its end, in what had been confirmed.
    #[error(
        "the file \"log\" in the data directory is damaged at byte {offset}, before its end; \
         restore the directory from a copy, or move it away to start with an empty registry"
    )]
    DamagedLog {
        /// Where the first bad record starts.
        offset: u64,
    },
    /// The log cannot be written any more. What was not yet confirmed may or may not survive.
    #[error(
        "the registry's log cannot be written: {reason}; the registry has stopped, check the disk \
         and start it again"
    )]
    LogFailed {
        /// What the system said.
        reason: String,
    },
}
