//! A produce request on its way to the log.

use std::time::Instant;

use bytes::Bytes;
use proto::LeaderEpoch;
use proto::record::BatchHeader;

use super::PartitionError;
use super::append_queue::Weight;
use crate::storage::Appended;

type Told = Box<dyn FnOnce(Result<Appended, PartitionError>) + Send>;

/// Who is told the outcome of an append: once, whatever happens. Dropped by a panic, it says that
/// nobody knows.
pub struct OnAppended(Option<Told>);

impl OnAppended {
    /// `told` is called from any thread: must not block.
    pub fn new(told: impl FnOnce(Result<Appended, PartitionError>) + Send + 'static) -> Self {
        Self(Some(Box::new(told)))
    }

    /// Tells.
    pub(super) fn tell(mut self, outcome: Result<Appended, PartitionError>) {
        if let Some(told) = self.0.take() {
            told(outcome);
        }
    }
}

impl Drop for OnAppended {
    fn drop(&mut self) {
        if let Some(told) = self.0.take() {
            told(Err(PartitionError::Interrupted));
        }
    }
}

/// Who must have the records before the request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequiredAcks {
    /// Nobody.
    None,
    /// The leader, on stable storage where the topic says `before-ack`.
    Leader,
    /// Every in-sync replica; the same.
    All,
}

/// A produce request, checked, on its way to the log.
pub struct AppendJob {
    /// The batches as they came.
    pub chunks: Vec<Bytes>,
    /// Their headers.
    pub headers: Vec<BatchHeader>,
    /// The epoch the client believes in; unknown passes.
    pub leader_epoch: LeaderEpoch,
    /// Batches the producer keeps in flight.
    pub window: u16,
    /// Who must have it before `done` is told.
    pub acks: RequiredAcks,
    /// With acks of all: `done` is told not long after this, done or not.
    pub due: Instant,
    /// Dropped when the bytes are written or refused.
    pub hold: Option<Box<dyn Send>>,
    /// Told the outcome, when those who must have it have it.
    pub done: OnAppended,
}

impl Weight for AppendJob {
    fn weight(&self) -> usize {
        self.headers.iter().map(BatchHeader::size_in_bytes).sum()
    }
}
