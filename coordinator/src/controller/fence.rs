//! The only way by which an active controller writes: every transaction checks its epoch.
//!
//! A write is refused when another controller was elected since (the check fails) and is not even
//! tried when our session may have expired by our own clock. When an answer is lost the outcome is
//! not known; the caller reads everything anew.

use std::time::Duration;

use crate::registry::fence::{Change, EpochFence, FencedError, parts};
use crate::registry::{RegistryError, topics};
use crate::zk::Live;

/// How long a transaction may take before its outcome counts as unknown.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(4);

/// The same for the many transactions that remove a topic; trying again goes on where it ended.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(60);

/// So many conflicts in one transaction are taken out one by one.
const CONFLICTS_MAX: usize = 16;

/// A write that is not known to have happened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    /// Another controller is active.
    #[error("another controller was elected")]
    Deposed,
    /// The session is over, or may be by our clock.
    #[error("the ZooKeeper session may have expired")]
    TermOver,
    /// A node is not as the picture has it; the transaction did nothing.
    #[error("{0}")]
    Conflict(String),
    /// It may or may not have happened.
    #[error("{0}")]
    OutcomeUnknown(String),
}

/// Writes for one term of one controller.
#[derive(Debug, Clone)]
pub(crate) struct FencedWriter {
    live: Live,
    fence: EpochFence,
}

impl FencedWriter {
    /// A writer for the term that `fence` began.
    pub(crate) fn new(live: Live, fence: EpochFence) -> Self {
        Self { live, fence }
    }

    /// The session it writes by.
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    /// The fencing number.
    pub(crate) fn epoch(&self) -> i32 {
        self.fence.epoch
    }

    /// Writes in order, in as few transactions as fit. After an error some of them may have
    /// happened, but never a later one without an earlier one.
    pub(crate) async fn commit(&self, writes: &[Change]) -> Result<(), CommitError> {
        for part in parts(writes) {
            self.within(COMMIT_TIMEOUT, self.fence.commit(&self.live.client, part)).await?;
        }
        Ok(())
    }

    /// Writes each change on its own merits, many in a transaction: the new version of each node, or
    /// `None` where it was changed by somebody else, which keeps no other from being written. After
    /// an error some of them may have happened.
    pub(crate) async fn commit_apart(
        &self,
        changes: &[Change],
    ) -> Result<Vec<Option<i32>>, CommitError> {
        let mut versions = Vec::with_capacity(changes.len());
        for part in parts(changes) {
            self.part_apart(part, &mut versions).await?;
        }
        Ok(versions)
    }

    async fn part_apart(
        &self,
        part: &[Change],
        versions: &mut Vec<Option<i32>>,
    ) -> Result<(), CommitError> {
        let first = versions.len();
        versions.resize(first + part.len(), None);
        let mut left: Vec<usize> = (0..part.len()).collect();
        // Where many are behind, all of them are: they are read again rather than found one by one.
        for _ in 0..CONFLICTS_MAX {
            let changes: Vec<Change> = left.iter().map(|&i| part[i].clone()).collect();
            if changes.is_empty() {
                return Ok(());
            }
            let written = async {
                match self.fence.commit(&self.live.client, &changes).await {
                    Ok(written) => Ok(Ok(written)),
                    Err(FencedError::Conflict { path }) => Ok(Err(path)),
                    Err(error) => Err(error),
                }
            };
            match self.within(COMMIT_TIMEOUT, written).await? {
                Ok(written) => {
                    for (i, version) in left.into_iter().zip(written) {
                        versions[first + i] = Some(version);
                    }
                    return Ok(());
                }
                Err(path) => left.retain(|&i| part[i].path() != path),
            }
        }
        Ok(())
    }

    /// Removes everything of a topic, its deletion mark last.
    pub(crate) async fn remove_topic(&self, name: &str) -> Result<(), CommitError> {
        self.within(REMOVAL_TIMEOUT, topics::remove(&self.live.client, self.fence, name)).await
    }

    async fn within<T>(
        &self,
        limit: Duration,
        write: impl Future<Output = Result<T, FencedError>>,
    ) -> Result<T, CommitError> {
        if !self.live.lease_valid() {
            return Err(CommitError::TermOver);
        }
        match tokio::time::timeout(limit, write).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(CommitError::OutcomeUnknown(format!("no answer in {limit:?}"))),
        }
    }
}

impl From<FencedError> for CommitError {
    fn from(error: FencedError) -> Self {
        match error {
            FencedError::Fenced { .. } => Self::Deposed,
            FencedError::Exists { .. } | FencedError::Conflict { .. } => {
                Self::Conflict(error.to_string())
            }
            FencedError::Registry(RegistryError::SessionEnded { .. }) => Self::TermOver,
            FencedError::Registry(RegistryError::AnswerLost { .. }) => {
                Self::OutcomeUnknown(error.to_string())
            }
            FencedError::Registry(error) => Self::Conflict(error.to_string()),
        }
    }
}
