//! ListOffsets: earliest, latest, and by time.

use std::sync::Arc;

use proto::{ErrorCode, LeaderEpoch, Offset, Partition as PartitionNumber};

use super::produce::refusal;
use super::{Api, Refusal};
use crate::replication::Partition;

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetAt {
    /// The first one there is.
    Earliest,
    /// The high watermark: where new records will be.
    Latest,
    /// The first record whose timestamp is this or later, in milliseconds since the epoch.
    Time(i64),
    /// The first record with the greatest timestamp there is.
    Newest,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetFound {
    /// `None`: every record is older.
    pub offset: Option<Offset>,
    /// Of the record, for a search by time.
    pub timestamp_ms: Option<i64>,
    /// Of the partition.
    pub leader_epoch: LeaderEpoch,
}

impl Api {
    /// Answers one query; `leader_epoch` is the one the client believes in; an empty topic id means
    /// whatever topic has the name now.
    pub async fn list_offsets(
        &self,
        topic: &str,
        topic_id: &[u8],
        partition: PartitionNumber,
        leader_epoch: LeaderEpoch,
        at: OffsetAt,
    ) -> Result<OffsetFound, Refusal> {
        let id = match topic_id {
            [] => {
                let image = self.metadata.image();
                let known = image.topics.get(topic).ok_or_else(|| Refusal::unknown_topic(topic))?;
                known.id
            }
            bytes => Self::topic_id(topic, bytes)?,
        };
        let partition = self.partition(topic, id, partition)?;
        let leader_epoch =
            partition.check_leader(leader_epoch).map_err(|error| refusal(&partition, &error))?;
        let found = |offset| OffsetFound { offset: Some(offset), timestamp_ms: None, leader_epoch };
        match at {
            OffsetAt::Earliest => Ok(found(partition.log().log_start())),
            OffsetAt::Latest => {
                check_available(&partition)?;
                Ok(found(partition.visible_end()))
            }
            OffsetAt::Time(time) => {
                let searched = Arc::clone(&partition);
                let found = by_time(searched, Some(time), leader_epoch).await?;
                if found.offset.is_none() {
                    // What is there may be newer than what is known to be committed.
                    check_available(&partition)?;
                }
                Ok(found)
            }
            OffsetAt::Newest => by_time(Arc::clone(&partition), None, leader_epoch).await,
        }
    }
}

/// Until the high watermark has passed the start of a new leader's epoch, it may be behind what the
/// leader before has shown to consumers.
fn check_available(partition: &Partition) -> Result<(), Refusal> {
    let high_watermark = partition.log().high_watermark();
    match partition.epoch_start() {
        Some(start) if high_watermark < start => Err(Refusal::new(
            ErrorCode::OffsetNotAvailable,
            format!(
                "partition {}: the leader is new, and what is committed is known up to \
                 {high_watermark} only, below {start} where its epoch began",
                partition.name()
            ),
            "retry after a moment; if it repeats, look for replicas that are down or lag",
        )),
        _ => Ok(()),
    }
}

/// Searches on a thread that may wait for the disk; without a time, for the greatest there is.
async fn by_time(
    partition: Arc<Partition>,
    time: Option<i64>,
    leader_epoch: LeaderEpoch,
) -> Result<OffsetFound, Refusal> {
    let failed = |text: String| {
        Refusal::new(ErrorCode::KafkaStorageError, text, "check the broker's disk and its log")
    };
    let search = tokio::task::spawn_blocking(move || {
        let visible = partition.visible_end();
        let log = partition.log();
        let newest = || log.newest_record().map(|newest| newest.timestamp);
        let Some(time) = time.or_else(newest) else { return Ok(None) };
        let found = log.offset_for_time(time, visible);
        found.map_err(|error| format!("partition {}: {error}", partition.name()))
    });
    let found = match search.await {
        Ok(found) => found.map_err(failed)?,
        Err(error) => return Err(failed(format!("the search by time failed: {error}"))),
    };
    Ok(OffsetFound {
        offset: found.map(|found| found.offset),
        timestamp_ms: found.map(|found| found.timestamp),
        leader_epoch,
    })
}
