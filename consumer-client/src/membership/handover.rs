//! What a member does with a partition between the claim that gave it and its release: begin
//! delivery where the group was, write positions, hand over.
//!
//! A release has three steps, each waited for: the application finishes what it holds, the last
//! position is written, the owner node goes. Only then may the next owner begin.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use coordinator::registry::owners::Claimed;
use proto::{LeaderEpoch, TopicPartition};
use tokio::sync::oneshot;

use super::commits::{Wish, Written};
use super::member::{Input, Share};
use super::requests;
use super::zookeeper_group::{Group, Report};
use crate::config::OffsetReset;
use crate::error::CommitError;
use crate::event::Event;
use crate::shared::StartAt;

/// How far a release has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Releasing {
    /// The application still works on records.
    Draining,
    /// The last position is being written.
    Committing,
    /// The owner node is being deleted.
    Deleting,
}

impl Group {
    /// The partition is this member's: delivery begins where the group was, or goes on.
    pub(super) fn granted(
        &mut self,
        partition: &TopicPartition,
        share: Share,
        running: bool,
        claimed: Claimed,
    ) {
        self.kept_by.remove(partition);
        let me = &self.identity.consumer;
        let by_me = claimed.committed.as_ref().is_some_and(|committed| committed.by == *me);
        let next_fence = self.book.fence(partition).map(|fence| fence + 1);
        let same = running && (by_me || next_fence == Some(claimed.fence));
        let stored = claimed
            .committed
            .and_then(|committed| Some((committed.offset?, committed.leader_epoch)));
        let written = stored.map(|(offset, epoch)| Wish::after(epoch, offset));
        self.book.open(partition, share.topic_id, claimed.fence, written, same);
        if same {
            return;
        }
        if let Some(void) = claimed.void {
            self.shared.emit(Event::StoredOffsetIgnored {
                partition: partition.clone(),
                stored: void.offset.unwrap_or_default(),
                stored_topic_id: void.topic_id,
                topic_id: share.topic_id,
            });
        }
        if running {
            self.shared.emit(Event::PartitionsLost(vec![partition.clone()]));
        }
        let queue = self.streams.borrow().queue(&partition.topic, share.stream);
        let start = match (stored, self.shared.config.auto_offset_reset) {
            (Some((offset, _)), _) => Some(StartAt::Offset(offset)),
            (None, OffsetReset::Earliest) => Some(StartAt::Beginning),
            (None, OffsetReset::Latest) => Some(StartAt::End),
            (None, OffsetReset::None) => None,
        };
        let epoch = stored.map_or(LeaderEpoch::UNKNOWN, |(_, epoch)| epoch);
        self.shared.start_after(partition.clone(), Some(share.topic_id), start, epoch, queue);
        match start {
            Some(_) => self.assigned.push(partition.clone()),
            None => self.shared.emit(Event::NoPosition { partition: partition.clone() }),
        }
    }

    /// Begins a release: delivery stops, the application finishes what it holds.
    pub(super) fn drain(&mut self, partition: TopicPartition) {
        self.releasing.insert(partition.clone(), Releasing::Draining);
        let stopped = self.shared.stop(std::slice::from_ref(&partition));
        let shared = Arc::clone(&self.shared);
        let limit = self.shared.config.rebalance_drain;
        self.spawn(async move {
            if !shared.drain(&stopped, limit).await {
                tracing::warn!(
                    %partition,
                    "the application still works on records of a partition that moves away: they \
                     may be delivered again to its new owner"
                );
            }
            let done = stopped.first().and_then(|positions| {
                let done = positions.done()?;
                Some(Wish::after(positions.epoch_before(done), done))
            });
            Report::Drained(partition, done)
        });
    }

    pub(super) fn release_if_settled(&mut self, partition: &TopicPartition) {
        let committing = self.releasing.get(partition) == Some(&Releasing::Committing);
        // Without a session there is no owner node, and nothing can be written any more.
        if !committing || (self.live.is_some() && !self.book.is_settled(partition)) {
            return;
        }
        match self.leaving {
            // What is read again by the next owner is told only to who leaves for good.
            Some(_) => self.book.give_up(partition),
            None => self.book.close(partition),
        }
        self.releasing.insert(partition.clone(), Releasing::Deleting);
        match self.live.clone() {
            None => self.answer(Input::Released(partition.clone())),
            Some(live) => {
                let group = self.identity.group.clone();
                self.spawn(requests::release(live, group, partition.clone()));
            }
        }
    }

    pub(super) fn written(
        &mut self,
        partition: &TopicPartition,
        claim: u64,
        outcome: Written,
        inputs: &mut Vec<Input>,
    ) {
        if self.book.written(partition, claim, outcome) {
            let releasing = self.releasing.get(partition) == Some(&Releasing::Committing);
            let why = CommitError::OwnershipLost(partition.clone()).to_string();
            self.shared.emit(Event::CommitFailed { partition: partition.clone(), why });
            if !releasing {
                inputs.push(Input::CommitRefused(partition.clone()));
            }
        }
        self.release_if_settled(partition);
    }

    pub(super) fn commit(
        &mut self,
        offsets: BTreeMap<TopicPartition, Wish>,
        reply: oneshot::Sender<Result<(), CommitError>>,
    ) {
        for (partition, wish) in &offsets {
            let leader_epoch = self.shared.epoch_before(partition, wish.offset);
            self.book.want(partition, Wish { leader_epoch, ..wish.clone() });
        }
        let offsets = offsets.into_iter().map(|(partition, wish)| (partition, wish.offset));
        let deadline = Instant::now() + self.shared.config.default_api_timeout;
        self.book.wait_for(offsets.collect(), deadline, reply);
    }

    pub(super) fn write_offsets(&mut self) {
        let Some(live) = self.live.clone() else { return };
        if self.cut_since.is_some() {
            return;
        }
        for write in self.book.next_writes() {
            let group = self.identity.group.clone();
            self.spawn(requests::commit(live.clone(), group, write));
        }
    }
}
