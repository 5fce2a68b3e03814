//! The leader's dealings with its replicas: what they told, the high watermark, changes of the ISR.
//! What follows from what is in [`super::leader_state`]; here it is put into effect.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use proto::{BrokerId, LeaderEpoch, Offset};

use super::acks::Completed;
use super::leader_state::{IsrWish, LeaderState, Outcome, Positions};
use super::replica::Replica;
use super::{Partition, PartitionError, leadership};
use crate::storage::{AppendError, Expose, FlushPolicy};

/// Told that a partition's ISR may have to change.
pub trait IsrListener: Send + Sync {
    /// [`Partition::isr_wish`] of this partition is to be asked soon. Called from any thread: must
    /// not block.
    fn wish(&self, partition: Arc<Partition>);
}

/// A led partition's replicas, for metrics and people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicationView {
    /// Who stores it.
    pub replicas: Vec<BrokerId>,
    /// Who is in sync, as the registry has it.
    pub isr: Vec<BrokerId>,
    /// How many must be in sync.
    pub minimum: usize,
    /// Ends of the followers' logs, as they told; none before they did.
    pub ends: Vec<(BrokerId, Option<Offset>)>,
    /// Requests that wait for replicas.
    pub waiting: usize,
}

impl ReplicationView {
    /// Not all replicas are in sync.
    pub fn is_under_replicated(&self) -> bool {
        self.isr.len() < self.replicas.len()
    }
}

impl Partition {
    /// Positions that count for the high watermark are flushed ones.
    pub(super) fn counts_flushed_only(&self) -> bool {
        self.log().config().flush == FlushPolicy::BeforeAck
    }

    pub(super) fn positions(&self) -> Positions {
        let (log, config) = (self.log(), self.log().config());
        let log_end = log.log_end();
        Positions {
            log_end,
            own_end: if config.flush == FlushPolicy::BeforeAck { log.flushed() } else { log_end },
            high_watermark: log.high_watermark(),
            min_insync: config.min_insync_replicas,
        }
    }

    /// What consumers may see of what is committed.
    pub(super) fn visible(&self, high_watermark: Offset) -> Offset {
        match self.log().config().expose {
            Expose::Flushed => high_watermark.min(self.log().flushed()),
            _ => high_watermark,
        }
    }

    /// Changes the leader's state, moves the high watermark and tells everybody concerned. Nothing
    /// while this broker does not lead.
    pub(super) fn with_leader(
        self: &Arc<Self>,
        change: impl FnOnce(&mut LeaderState, Positions, Instant) -> Outcome,
    ) {
        let (outcome, shows_more) = {
            let mut leader = self.leader.lock();
            let Some(state) = &mut *leader else { return };
            let outcome = change(state, self.positions(), Instant::now());
            let shows_more = self.move_high_watermark(outcome.high_watermark);
            (outcome, shows_more)
        };
        if shows_more {
            self.consumers.wake_all();
        }
        self.carry_out(outcome);
    }

    /// True when consumers see more now. The caller holds the leader's state, so that positions
    /// move one at a time.
    fn move_high_watermark(&self, moved: Option<Offset>) -> bool {
        if let Some(offset) = moved {
            self.log().set_high_watermark(offset);
        }
        let visible = self.visible(self.log().high_watermark());
        self.visible_end.fetch_max(visible.0, Ordering::AcqRel) < visible.0
    }

    /// Tells; the caller holds no lock but the tenure.
    fn carry_out(self: &Arc<Self>, outcome: Outcome) {
        if outcome.high_watermark.is_some() {
            self.followers.wake_all();
        }
        outcome.completed.into_iter().for_each(Completed::tell);
        if outcome.wishes
            && let Some(listener) = self.context.isr_listener.get()
        {
            listener.wish(Arc::clone(self));
        }
    }

    /// The log has grown or was flushed.
    pub(super) fn advance(self: &Arc<Self>) {
        self.with_leader(LeaderState::advance);
    }

    /// A follower's log ends at `end`, in the leader's epoch. The caller has made sure that its
    /// incarnation is the registered one.
    pub fn follower_told(
        self: &Arc<Self>,
        epoch: LeaderEpoch,
        replica: &Replica,
        end: Offset,
    ) -> Result<(), PartitionError> {
        let mut result = Err(PartitionError::NotLeader);
        self.with_leader(|leader, at, now| {
            let told = leadership::check_epoch(leader.epoch(), epoch)
                .and_then(|_| leader.told(replica, end, at, now));
            match told {
                Ok(outcome) => {
                    result = Ok(());
                    outcome
                }
                Err(error) => {
                    result = Err(error);
                    Outcome::default()
                }
            }
        });
        result
    }

    /// A follower's log starts at `start`, also after a crash. Says nothing in another epoch.
    pub fn follower_start_told(&self, epoch: LeaderEpoch, replica: &Replica, start: Offset) {
        let is_news = match &mut *self.leader.lock() {
            Some(leader) if leader.epoch() == epoch => leader.told_start(replica, start),
            _ => false,
        };
        if is_news {
            self.deleting.wake_all();
        }
    }

    /// Below it no replica has anything that may lead next; only while this broker leads in `epoch`.
    /// Who waits for it is told by [`Partition::park_deletion`].
    pub fn low_watermark(&self, epoch: LeaderEpoch) -> Result<Offset, PartitionError> {
        if let Some(offline) = self.log().offline() {
            return Err(PartitionError::Append(AppendError::Offline(offline.clone())));
        }
        let leader = self.leader.lock();
        let leader = leader.as_ref().ok_or(PartitionError::NotLeader)?;
        leadership::check_epoch(leader.epoch(), epoch)?;
        Ok(leader.low_watermark(self.log().log_start()))
    }

    /// A follower reads here no more.
    pub fn follower_gone(self: &Arc<Self>, replica: &Replica) {
        self.with_leader(|leader, at, now| leader.detached(replica, at, now));
    }

    /// Refuses a broker that is no replica.
    pub fn check_replica(&self, broker: BrokerId) -> Result<(), PartitionError> {
        let leader = self.leader.lock();
        leader.as_ref().ok_or(PartitionError::NotLeader)?.check_replica(broker)
    }

    /// The change of the ISR that this leader wants now. It is under way from here on: the high
    /// watermark waits for old and new members until [`Partition::isr_settled`], which must follow.
    /// To be asked when the [`IsrListener`] was told, and every half `replica.lag.time.max.ms`.
    pub fn isr_wish(self: &Arc<Self>, now: Instant) -> Option<IsrWish> {
        let mut wish = None;
        let lag_max = self.context.lag_time_max;
        self.with_leader(|leader, at, _| {
            let mut outcome = leader.advance(at, now);
            leader.expire(now, &mut outcome.completed);
            let high_watermark = outcome.high_watermark.unwrap_or(at.high_watermark);
            wish = leader.wish(Positions { high_watermark, ..at }, lag_max, now);
            outcome.wishes = false;
            outcome
        });
        wish
    }

    /// What came of the wish: the registry has these, at this version of the state's node,
    /// whoever wrote it. Of another epoch than this leader's: says nothing.
    pub fn isr_settled(
        self: &Arc<Self>,
        epoch: LeaderEpoch,
        version: i32,
        isr: &[BrokerId],
        electable: &[BrokerId],
    ) {
        self.with_leader(|leader, at, now| match leader.epoch() == epoch {
            true => leader.settled(version, isr, electable, at, now),
            false => Outcome::default(),
        });
        self.deleting.wake_all();
    }

    /// Where the epoch began that this broker leads in. Until the high watermark has come there,
    /// what the leaders before have committed is not known for certain.
    pub fn epoch_start(&self) -> Option<Offset> {
        self.leader.lock().as_ref().map(LeaderState::epoch_start)
    }

    /// The replicas, where this broker leads.
    pub fn replication(&self) -> Option<ReplicationView> {
        let min_insync = self.log().config().min_insync_replicas;
        let leader = self.leader.lock();
        let leader = leader.as_ref()?;
        Some(ReplicationView {
            replicas: leader.replicas().to_vec(),
            isr: leader.isr().committed().to_vec(),
            minimum: leader.minimum(min_insync),
            ends: leader.followers().iter().map(|f| (f.id, f.end())).collect(),
            waiting: leader.waiting(),
        })
    }
}
