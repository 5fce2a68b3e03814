//! What can go wrong with the registry, by what the caller does about it.

use zookeeper_client::Error;

use crate::zk::{Fault, PayloadError};

/// A registry call failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Its ephemerals are gone or going. Wait for the next session, then begin again.
    #[error("{what}: the ZooKeeper session ended ({source}); a new one is being made")]
    SessionEnded {
        /// The operation and its path.
        what: String,
        /// What the client said.
        source: Error,
    },
    /// A write may or may not have happened: read back before repeating it.
    #[error("{what}: ZooKeeper's answer was lost ({source}); it may or may not have happened")]
    AnswerLost {
        /// The operation and its path.
        what: String,
        /// What the client said.
        source: Error,
    },
    /// The value cannot be read or written.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// ZooKeeper refused it for a reason that is not foreseen; nothing happened.
    #[error(
        "{what}: ZooKeeper refused it: {source}; check that the chroot and its access rights are those of this cluster"
    )]
    Refused {
        /// The operation and its path.
        what: String,
        /// What the client said.
        source: Error,
    },
}

impl RegistryError {
    /// Sorts a client's error.
    pub(crate) fn from_client(operation: &str, path: &str, source: Error) -> Self {
        let what = format!("{operation} {path}");
        match Fault::of(&source) {
            Fault::AnswerLost => Self::AnswerLost { what, source },
            Fault::SessionEnded => Self::SessionEnded { what, source },
            Fault::Refused => Self::Refused { what, source },
        }
    }

    /// True when waiting (for a reconnection or a new session) and trying again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::SessionEnded { .. } | Self::AnswerLost { .. })
    }
}
