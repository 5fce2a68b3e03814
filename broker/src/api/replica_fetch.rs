//! What a follower's reader does beyond a consumer's: it reads to the log end, tells how far its
//! broker's log has come, and is told high watermark and log start also when there are no records.

use std::sync::Arc;

use proto::{ErrorCode, LeaderEpoch, Offset};

use super::fetch::ReadFrom;
use super::produce::refusal;
use super::{Api, Refusal};
use crate::replication::{Partition, PartitionError, Replica};

/// A follower's side of a reader.
#[derive(Debug, Clone)]
pub(super) struct FollowerReader {
    pub(super) replica: Replica,
    /// What it was told last.
    told: Option<Positions>,
    /// What was seen when its partition was looked at last.
    seen: Option<Positions>,
    /// The producers before this offset are to be told.
    wanted: Option<Offset>,
}

/// What followers keep up with beside records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positions {
    /// Of the leader.
    pub high_watermark: Offset,
    /// Of the leader.
    pub log_start: Offset,
}

impl Api {
    /// Refuses a follower that is not the registered run of its broker: what an earlier run had
    /// may be gone (KIP-903).
    pub fn check_follower(&self, replica: &Replica) -> Result<(), Refusal> {
        let image = self.metadata.image();
        let id = replica.broker_id;
        match image.brokers.get(&id) {
            Some(broker) if broker.incarnation == replica.incarnation => Ok(()),
            known => Err(Refusal::new(
                ErrorCode::StaleBrokerEpoch,
                match known {
                    Some(_) => format!("another run of broker {id} is registered"),
                    None => format!("broker {id} is not registered, as far as its leader knows"),
                },
                "retry after a moment: the leader may not have heard of the registration yet",
            )),
        }
    }
}

impl FollowerReader {
    /// Checks that the replica may follow the partition from an offset on, and counts that as what
    /// it has.
    pub(super) fn begin(
        partition: &Arc<Partition>,
        epoch: LeaderEpoch,
        replica: Replica,
        from: &ReadFrom<'_>,
    ) -> Result<Self, Refusal> {
        let offset = from.offset;
        let (log_start, log_end) = (partition.log().log_start(), partition.log().log_end());
        partition.check_replica(replica.broker_id).map_err(|error| refusal(partition, &error))?;
        if offset < log_start {
            return Err(Refusal::new(
                ErrorCode::OffsetOutOfRange,
                format!(
                    "partition {}: the leader's log goes from {log_start} to {log_end}, the \
                     follower is at {offset}",
                    partition.name()
                ),
                "begin anew at the leader's log start",
            ));
        }
        let wanted = from.wants_producers.then_some(offset);
        let reader = Self { replica, told: None, seen: None, wanted };
        reader.tell(partition, epoch, offset).map_err(|error| refusal(partition, &error))?;
        Ok(reader)
    }

    pub(super) fn tell(
        &self,
        partition: &Arc<Partition>,
        epoch: LeaderEpoch,
        end: Offset,
    ) -> Result<(), PartitionError> {
        partition.follower_told(epoch, &self.replica, end)
    }

    pub(super) fn tell_start(&self, partition: &Partition, epoch: LeaderEpoch, start: Offset) {
        partition.follower_start_told(epoch, &self.replica, start);
    }

    /// Looks at the positions; true when it was told others.
    pub(super) fn look(&mut self, now: Positions) -> bool {
        self.seen = Some(now);
        self.told != Some(now)
    }

    /// Whether they moved since it was looked at.
    pub(super) fn has_news(&self, now: Positions) -> bool {
        self.seen != Some(now)
    }

    /// Where the producers are wanted before, once.
    pub(super) fn take_wanted(&mut self) -> Option<Offset> {
        self.wanted.take()
    }

    /// It was told these.
    pub(super) fn told(&mut self, positions: Positions) {
        self.told = Some(positions);
    }
}
