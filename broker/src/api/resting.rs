//! [`Resting`]: where a reader was, between two requests.

use std::sync::Weak;

use proto::{LeaderEpoch, Offset};

use super::Reader;
use crate::replication::Partition;
use crate::storage::Cursor;

/// A consumer's place in a partition, which it does not hold: a deleted one goes all the same.
#[derive(Debug)]
pub struct Resting {
    partition: Weak<Partition>,
    cursor: Cursor,
    leader_epoch: LeaderEpoch,
}

impl Resting {
    /// At a cursor of a partition that is led in an epoch.
    pub(super) fn new(
        partition: Weak<Partition>,
        cursor: Cursor,
        leader_epoch: LeaderEpoch,
    ) -> Self {
        Self { partition, cursor, leader_epoch }
    }

    /// The next offset to be read.
    pub fn offset(&self) -> Offset {
        self.cursor.offset()
    }

    /// The reader again; `None` where the partition is gone from here, or no longer led in the epoch
    /// that it was opened in: whoever wants to read on has to open it anew.
    pub fn resume(&self) -> Option<Reader> {
        let partition = self.partition.upgrade()?;
        let is_led = partition.leading() == Some(self.leader_epoch);
        is_led.then(|| Reader::at(partition, self.cursor, self.leader_epoch))
    }
}
