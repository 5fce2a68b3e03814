//! Waiting until records that were deleted here are gone from every replica that may lead next: only
//! then can no fail-over show them again. Kafka's delayed DeleteRecords.

use std::sync::Arc;

use proto::{LeaderEpoch, Offset};
use tokio::sync::Notify;

use super::waiting::Wake;
use super::{Partition, PartitionError};

/// The low watermark may be another.
#[derive(Default)]
struct Moved(Notify);

impl Wake for Moved {
    fn wake(&self, _: u32) {
        self.0.notify_one();
    }
}

/// Parked as long as it lives.
struct Parking<'a> {
    partition: &'a Partition,
    wake: Arc<dyn Wake>,
}

impl Drop for Parking<'_> {
    fn drop(&mut self) {
        self.partition.unpark(&self.wake, 0);
    }
}

impl Partition {
    /// Waits until all in-sync replicas start at `upto` or later, also after a crash; returns where
    /// they do. Without end where one of them stands still: the caller bounds the time.
    pub async fn deleted_everywhere(
        &self,
        epoch: LeaderEpoch,
        upto: Offset,
    ) -> Result<Offset, PartitionError> {
        let moved = Arc::new(Moved::default());
        let parking = Parking { partition: self, wake: Arc::<Moved>::clone(&moved) };
        loop {
            self.park_deletion(Arc::clone(&parking.wake), 0);
            let low_watermark = self.low_watermark(epoch)?;
            if low_watermark >= upto {
                return Ok(low_watermark);
            }
            moved.0.notified().await;
        }
    }
}
