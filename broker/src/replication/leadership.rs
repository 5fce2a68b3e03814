//! Who leads a partition: beginning to lead, to follow, to do neither. Leadership begins and ends
//! under the append token, so that no record of one epoch is written in another.
//!
//! | was | told | is |
//! |---|---|---|
//! | anything | [`Partition::lead`], newer epoch | leads in it |
//! | leads | [`Partition::lead`], its own epoch | leads, with the newer of the two states |
//! | anything | [`Partition::follow`], newer epoch, or leads in none | follows in it |
//! | anything | [`Partition::lead`] or [`Partition::follow`], older epoch | as it was |
//! | anything | [`Partition::stop_leading`] | neither |

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use proto::{BrokerId, LeaderEpoch};

use super::acks::Completed;
use super::leader_state::LeaderState;
use super::{Partition, PartitionError};
use crate::storage::LogError;

/// Value of `Partition::leading` while this broker does not lead.
pub(super) const NOT_LEADING: i32 = -1;

/// What the registry says of a partition that this broker leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    /// Of this leader: nobody else ever leads in it.
    pub epoch: LeaderEpoch,
    /// Version of the state's node: of two states in one epoch the higher one is the newer.
    pub version: i32,
    /// Who stores the partition.
    pub replicas: Vec<BrokerId>,
    /// Who is in sync.
    pub isr: Vec<BrokerId>,
    /// Who fell out of it below `min.insync.replicas` and may lead all the same (KIP-966).
    pub electable: Vec<BrokerId>,
    /// Replicas that a reassignment brings in and that do not count as missing yet.
    pub adding: Vec<BrokerId>,
}

/// What this broker is to the partition. Held while anything is appended or cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tenure {
    /// Not told yet, or told that nobody leads.
    Idle,
    /// Only who appends for clients changes the log.
    Leads(LeaderEpoch),
    /// Only what is fetched from the leader of this epoch changes the log.
    Follows(LeaderEpoch),
}

impl Tenure {
    fn epoch(self) -> LeaderEpoch {
        match self {
            Self::Idle => LeaderEpoch::UNKNOWN,
            Self::Leads(epoch) | Self::Follows(epoch) => epoch,
        }
    }
}

impl Partition {
    /// The epoch this broker leads in, if it does.
    pub fn leading(&self) -> Option<LeaderEpoch> {
        match self.leading.load(Ordering::Acquire) {
            NOT_LEADING => None,
            epoch => Some(LeaderEpoch(epoch)),
        }
    }

    /// The epoch this broker follows in, if it does.
    pub fn following(&self) -> Option<LeaderEpoch> {
        match *self.tenure.lock() {
            Tenure::Follows(epoch) => Some(epoch),
            _ => None,
        }
    }

    /// Leads from now on in an epoch that the registry has and no other leader ever had; or, where
    /// it leads in that epoch, takes note of other replicas and a newer ISR. Blocks on the disk.
    pub fn lead(self: &Arc<Self>, me: BrokerId, leadership: &Leadership) -> Result<(), LogError> {
        let _changing = self.changing.lock();
        let epoch = leadership.epoch;
        if self.leading() == Some(epoch) {
            self.with_leader(|leader, at, now| leader.adopt(leadership, at, now));
            self.deleting.wake_all();
            return Ok(());
        }
        if self.tenure.lock().epoch() > epoch {
            return Ok(());
        }
        self.begin_to_lead(me, leadership)?;
        if self.counts_flushed_only() && self.log().flushed() < self.log().log_end() {
            // What recovery found is shown once it is certain to stay.
            self.log().flush_to(self.log().log_end(), Box::new(|_| ()));
        }
        self.advance();
        // Replicas and readers of the epoch before have to ask anew.
        self.wake_everybody();
        Ok(())
    }

    fn begin_to_lead(&self, me: BrokerId, leadership: &Leadership) -> Result<(), LogError> {
        let was_leading = matches!(*self.tenure.lock(), Tenure::Leads(_));
        self.set_tenure(Tenure::Idle);
        // Nobody appends until the tenure is another, so the log ends where the epoch begins.
        let begun = self.log().begin_epoch(leadership.epoch);
        if begun.is_err() || !was_leading {
            self.fail_waiting(&PartitionError::NotLeader);
        }
        begun?;
        let (log_end, now) = (self.log().log_end(), Instant::now());
        let metrics = Arc::clone(&self.context.metrics);
        let mut state = LeaderState::new(me, leadership, log_end, now, metrics);
        let mut leader = self.leader.lock();
        if let Some(earlier) = leader.take() {
            state.inherit(earlier);
        }
        *leader = Some(state);
        self.visible_end.store(self.visible(self.log().high_watermark()).0, Ordering::Release);
        drop(leader);
        self.set_tenure(Tenure::Leads(leadership.epoch));
        Ok(())
    }

    /// Follows the leader of `epoch`: what clients have queued is refused, acknowledgements that
    /// wait fail, readers are told. An older epoch than it is in changes nothing.
    pub fn follow(&self, epoch: LeaderEpoch) {
        let _changing = self.changing.lock();
        let tenure = *self.tenure.lock();
        if tenure.epoch() <= epoch && tenure != Tenure::Leads(epoch) {
            self.resign(Tenure::Follows(epoch));
        }
    }

    /// Neither leads nor follows from now on.
    pub fn stop_leading(&self) {
        let _changing = self.changing.lock();
        self.resign(Tenure::Idle);
    }

    fn resign(&self, tenure: Tenure) {
        self.set_tenure(tenure);
        self.fail_waiting(&PartitionError::NotLeader);
        *self.leader.lock() = None;
        self.wake_everybody();
    }

    /// Waits for the append under way.
    fn set_tenure(&self, tenure: Tenure) {
        let mut held = self.tenure.lock();
        *held = tenure;
        let leading = match tenure {
            Tenure::Leads(epoch) => epoch.0,
            _ => NOT_LEADING,
        };
        self.leading.store(leading, Ordering::Release);
    }

    /// Whoever waits for acknowledgements gets none.
    pub(super) fn fail_waiting(&self, error: &PartitionError) {
        let mut failed = Vec::new();
        if let Some(leader) = &mut *self.leader.lock() {
            leader.fail(error, &mut failed);
        }
        failed.into_iter().for_each(Completed::tell);
    }

    /// Refuses a request that may not be served here: not the leader, or another epoch.
    pub fn check_leader(&self, asked: LeaderEpoch) -> Result<LeaderEpoch, PartitionError> {
        let current = self.leading().ok_or(PartitionError::NotLeader)?;
        check_epoch(current, asked)
    }
}

/// Refuses a request that names another epoch than the partition is in.
pub(super) fn check_epoch(
    current: LeaderEpoch,
    asked: LeaderEpoch,
) -> Result<LeaderEpoch, PartitionError> {
    if asked == LeaderEpoch::UNKNOWN || asked == current {
        return Ok(current);
    }
    if asked < current {
        return Err(PartitionError::Fenced { current, asked });
    }
    Err(PartitionError::UnknownEpoch { current, asked })
}
