//! DeleteRecords: the log start moves up to an offset, for good once it is answered: on every replica
//! that may lead next.

use std::sync::Arc;
use std::time::Duration;

use proto::{ErrorCode, LeaderEpoch, Offset, Partition as PartitionNumber};

use tokio::time::Instant;

use super::produce::refusal;
use super::{Api, Refusal};
use crate::replication::Partition;
pub use crate::storage::DeleteUpTo;
use crate::storage::{DeleteRecordsError, Log};

/// Nobody waits longer for the replicas.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Up to where records of one partition go.
#[derive(Debug, Clone, Copy)]
pub struct DeleteRecords<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The topic's id, 16 bytes.
    pub topic_id: &'a [u8],
    /// The partition.
    pub partition: PartitionNumber,
    /// The epoch the client believes in.
    pub leader_epoch: LeaderEpoch,
    /// All before go.
    pub upto: DeleteUpTo,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordsDeleted {
    /// The first offset there is now.
    pub low_watermark: Offset,
    /// Of the partition.
    pub leader_epoch: LeaderEpoch,
}

impl Api {
    /// Deletes records of partitions led here. Answers in order, once all that was done will
    /// outlive a crash and a fail-over; after `wait` at the latest.
    pub async fn delete_records(
        &self,
        requests: &[DeleteRecords<'_>],
        wait: Duration,
    ) -> Vec<Result<RecordsDeleted, Refusal>> {
        let deadline = Instant::now() + wait.min(WAIT_MAX);

        let checked: Vec<_> = requests.iter().map(|request| self.check_delete(request)).collect();
        let to_do: Vec<(Arc<Log>, DeleteUpTo)> = checked
            .iter()
            .zip(requests)
            .filter_map(|(checked, request)| {
                checked
                    .as_ref()
                    .ok()
                    .map(|(partition, _)| (Arc::clone(partition.log()), request.upto))
            })
            .collect();
        let logs = self.partitions.logs().clone();
        let done = tokio::task::spawn_blocking(move || logs.delete_records(&to_do)).await;
        let mut done = done.unwrap_or_else(|error| {
            tracing::error!(%error, "deleting records failed");
            Vec::new()
        });
        // In order; taken from the back.
        done.reverse();
        let mut answers = Vec::with_capacity(requests.len());
        for (checked, request) in checked.into_iter().zip(requests) {
            answers.push(match checked {
                // They go on side by side: who is waited for later may be done by then.
                Ok(checked) => wait_for_replicas(checked, done.pop(), request, deadline).await,
                Err(refusal) => Err(refusal),
            });
        }
        answers
    }

    fn check_delete(
        &self,
        request: &DeleteRecords<'_>,
    ) -> Result<(Arc<Partition>, LeaderEpoch), Refusal> {
        let id = Self::topic_id(request.topic, request.topic_id)?;
        let partition = self.partition(request.topic, id, request.partition)?;
        let leader_epoch = partition
            .check_leader(request.leader_epoch)
            .map_err(|error| refusal(&partition, &error))?;
        Ok((partition, leader_epoch))
    }
}

/// What is done here is waited for on the replicas.
async fn wait_for_replicas(
    (partition, leader_epoch): (Arc<Partition>, LeaderEpoch),
    done: Option<Result<Offset, DeleteRecordsError>>,
    request: &DeleteRecords<'_>,
    deadline: Instant,
) -> Result<RecordsDeleted, Refusal> {
    let log_start = match done {
        Some(done) => done.map_err(|error| delete_refusal(&error))?,
        None => {
            return Err(Refusal::new(
                ErrorCode::KafkaStorageError,
                "deleting records broke off",
                "look at the broker's log; asking again does no harm",
            ));
        }
    };
    let upto = match request.upto {
        DeleteUpTo::HighWatermark => log_start,
        DeleteUpTo::Offset(offset) => offset,
    };
    let everywhere = partition.deleted_everywhere(leader_epoch, upto);
    match tokio::time::timeout_at(deadline, everywhere).await {
        Ok(Ok(low_watermark)) => Ok(RecordsDeleted { low_watermark, leader_epoch }),
        Ok(Err(error)) => Err(refusal(&partition, &error)),
        Err(_) => Err(Refusal::new(
            ErrorCode::RequestTimedOut,
            format!(
                "partition {}: the records are deleted at the leader, but not yet at all in-sync \
                 replicas: after a fail-over they may be seen again",
                partition.name()
            ),
            "ask again; if it repeats, look for replicas that lag",
        )),
    }
}

fn delete_refusal(error: &DeleteRecordsError) -> Refusal {
    let text = error.to_string();
    match error {
        DeleteRecordsError::Offline(_) => {
            Refusal::new(ErrorCode::KafkaStorageError, text, "check the broker's disk and its log")
        }
        DeleteRecordsError::OutOfRange { .. } => Refusal::new(
            ErrorCode::OffsetOutOfRange,
            text,
            "name an offset in that range, or -1 for all up to the high watermark",
        ),
        DeleteRecordsError::CompactedOnly(_) => Refusal::new(
            ErrorCode::PolicyViolation,
            text,
            "write tombstones instead, or set cleanup.policy to delete or to compact,delete",
        ),
        DeleteRecordsError::NotStored { .. } => Refusal::new(
            ErrorCode::KafkaStorageError,
            text,
            "ask again when the disk has space: until then a restart may bring the records back",
        ),
    }
}
