//! Where a leader epoch's records end, for clients that look whether what they read still stands.

use proto::{LeaderEpoch, Offset, Partition as PartitionNumber};

use super::produce::refusal;
use super::{Api, Refusal};

/// The newest epoch that is not after the one asked for, and the offset after its last record;
/// `None`: there is none that old, or the one asked for is not known yet.
pub type EpochEnd = Option<(LeaderEpoch, Offset)>;

impl Api {
    /// The end of an epoch of a partition led here; `current` is the epoch the client believes in.
    pub fn end_of_epoch(
        &self,
        topic: &str,
        partition: PartitionNumber,
        current: LeaderEpoch,
        epoch: LeaderEpoch,
    ) -> Result<EpochEnd, Refusal> {
        let partition = self.partition(topic, self.topic_id_of(topic)?, partition)?;
        let leading =
            partition.check_leader(current).map_err(|error| refusal(&partition, &error))?;
        if epoch > leading || epoch < LeaderEpoch(0) {
            return Ok(None);
        }
        let log = partition.log();
        if epoch == leading {
            // Also where it has no record yet.
            return Ok(Some((epoch, log.log_end())));
        }
        Ok(log.end_of_epoch(epoch))
    }
}
