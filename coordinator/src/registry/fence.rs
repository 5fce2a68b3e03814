//! Controller writes: every one checks the controller epoch's version in the same transaction.

use zookeeper_client::{Client, Error, MultiWriteError, MultiWriteResult, MultiWriter};

use super::{RegistryError, node};
use crate::zk::{MAX_REQUEST_BYTES, PayloadError, paths};

/// What makes a write fail once another controller has been elected: the version of
/// `/controller_epoch` as this controller raised it. That node is never deleted, so its version
/// never restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochFence {
    /// The controller's epoch.
    pub epoch: i32,
    /// The node's version.
    pub version: i32,
}

/// A controller's write failed.
#[derive(Debug, thiserror::Error)]
pub enum FencedError {
    /// Another controller has been elected: stop acting as one.
    #[error("controller epoch {epoch} is over: another controller has been elected")]
    Fenced {
        /// The epoch that is over.
        epoch: i32,
    },
    /// What was to be created is there.
    #[error("{path} exists already")]
    Exists {
        /// The first such node.
        path: String,
    },
    /// Somebody else changed or removed what was to be changed: read it again.
    #[error("{path} was changed by somebody else meanwhile")]
    Conflict {
        /// The first such node.
        path: String,
    },
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl From<PayloadError> for FencedError {
    fn from(error: PayloadError) -> Self {
        Self::Registry(error.into())
    }
}

/// One change in a fenced transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new persistent node.
    Create {
        /// Where.
        path: String,
        /// Its value.
        bytes: Vec<u8>,
    },
    /// Another value, if the node still has this version (`None`: whatever it has).
    Set {
        /// Where.
        path: String,
        /// Its value.
        bytes: Vec<u8>,
        /// The version it must have.
        version: Option<i32>,
    },
    /// No node any more, if it still has this version (`None`: whatever it has).
    Delete {
        /// Where.
        path: String,
        /// The version it must have.
        version: Option<i32>,
    },
}

impl Change {
    pub(crate) fn create(path: String, bytes: Vec<u8>) -> Self {
        Self::Create { path, bytes }
    }

    /// The node it changes.
    pub fn path(&self) -> &str {
        match self {
            Self::Create { path, .. } | Self::Set { path, .. } | Self::Delete { path, .. } => path,
        }
    }

    /// What it adds to a request, generously.
    pub fn size(&self) -> usize {
        let bytes = match self {
            Self::Create { bytes, .. } | Self::Set { bytes, .. } => bytes.len(),
            Self::Delete { .. } => 0,
        };
        // Header of the operation, lengths, access list, flags, and a chroot of usual length.
        self.path().len() + bytes + 160
    }

    fn add_to(&self, writer: &mut MultiWriter<'_>) -> Result<(), Error> {
        match self {
            Self::Create { path, bytes } => writer.add_create(path, bytes, &node::PERSISTENT),
            Self::Set { path, bytes, version } => writer.add_set_data(path, bytes, *version),
            Self::Delete { path, version } => writer.add_delete(path, *version),
        }
    }
}

impl EpochFence {
    /// Applies all changes or none. The new versions of set nodes are in the answer, in order;
    /// created and deleted ones count as 0.
    ///
    /// A lost answer is [`RegistryError::AnswerLost`]: the caller knows how to read back.
    pub async fn commit(
        self,
        client: &Client,
        changes: &[Change],
    ) -> Result<Vec<i32>, FencedError> {
        let first = changes.first().map_or("", Change::path).to_owned();
        let failed = |error| RegistryError::from_client("transaction on", &first, error);
        let bytes = changes.iter().map(Change::size).sum();
        if bytes > MAX_REQUEST_BYTES {
            // ZooKeeper would close the connection, which looks like a lost answer for ever.
            return Err(PayloadError::TooLarge { what: "transaction", bytes }.into());
        }
        let mut writer = client.new_multi_writer();
        writer.add_check_version(paths::CONTROLLER_EPOCH, self.version).map_err(&failed)?;
        for change in changes {
            change.add_to(&mut writer).map_err(&failed)?;
        }
        let (index, source) = match writer.commit().await {
            Ok(results) => return Ok(results.iter().skip(1).map(new_version).collect()),
            Err(MultiWriteError::RequestFailed { source }) => return Err(failed(source).into()),
            Err(MultiWriteError::OperationFailed { index: 0, .. }) => {
                return Err(FencedError::Fenced { epoch: self.epoch });
            }
            Err(MultiWriteError::OperationFailed { index, source }) => (index - 1, source),
        };
        let path = changes.get(index).map_or("", Change::path).to_owned();
        Err(match source {
            Error::NodeExists => FencedError::Exists { path },
            Error::BadVersion | Error::NoNode | Error::NotEmpty => FencedError::Conflict { path },
            source => RegistryError::from_client("transaction on", &path, source).into(),
        })
    }

    /// Applies changes in as many transactions as the limit of a request asks for, in order. When
    /// this fails, the first ones may be in place. `applied` says after a lost answer whether a
    /// transaction took effect, from its first change.
    pub(crate) async fn commit_in_parts(
        self,
        client: &Client,
        changes: &[Change],
        applied: impl AsyncFn(&Change) -> Result<bool, RegistryError>,
    ) -> Result<(), FencedError> {
        for part in parts(changes) {
            loop {
                match self.commit(client, part).await {
                    Ok(_) => break,
                    Err(FencedError::Registry(RegistryError::AnswerLost { .. })) => {
                        if applied(&part[0]).await? {
                            break;
                        }
                        tokio::time::sleep(node::RETRY_PAUSE).await;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

fn new_version(result: &MultiWriteResult) -> i32 {
    match result {
        MultiWriteResult::SetData { stat } => stat.version,
        _ => 0,
    }
}

/// The largest transaction: well under the limit of a request, so that others get in between.
pub(crate) const PART_BYTES: usize = 400_000;

/// Splits changes into runs of at most [`PART_BYTES`], at least one change each.
pub(crate) fn parts(changes: &[Change]) -> impl Iterator<Item = &[Change]> {
    let mut rest = changes;
    std::iter::from_fn(move || {
        let mut size = 0;
        let fitting = rest.iter().take_while(|change| {
            size += change.size();
            size <= PART_BYTES
        });
        let (part, after) = rest.split_at(fitting.count().max(1).min(rest.len()));
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

/// Whether the effect of a part's first change can be seen.
pub(crate) async fn is_applied(client: &Client, change: &Change) -> Result<bool, RegistryError> {
    let found = node::bytes(client, change.path()).await?;
    Ok(match change {
        Change::Delete { .. } => found.is_none(),
        Change::Create { bytes, .. } | Change::Set { bytes, .. } => {
            found.is_some_and(|(found, _)| found == *bytes)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stay_below_the_limit_and_lose_nothing() {
        let changes: Vec<_> =
            (0..5000).map(|i| Change::create(format!("/node/{i}"), vec![0; i % 400])).collect();
        let split: Vec<_> = parts(&changes).collect();
        assert!(split.len() > 1);
        assert!(split.iter().all(|p| p.iter().map(Change::size).sum::<usize>() <= PART_BYTES));
        assert_eq!(split.concat(), changes);
        assert_eq!(parts(&[]).count(), 0);
        let one = [Change::create("/big".into(), vec![0; PART_BYTES])];
        assert_eq!(parts(&one).count(), 1);
    }
}
