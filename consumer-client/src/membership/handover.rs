//! What a member does with a partition between the claim that gave it and its release: begin
//! delivery where the group was, write positions, hand over.
//!
//! A release has three steps, each waited for: the application finishes what it holds, the last
//! position is written, the owner node goes. Only then may the next owner begin.

use coordinator::registry::owners::Claimed;
use proto::TopicPartition;

use super::commits::{Wish, Written};
use super::delivery::{self, Releasing};
use super::member::{Input, Share};
use super::requests;
use super::zookeeper_group::{Group, Report};
use crate::error::CommitError;
use crate::event::Event;

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
        if delivery::begin(&self.shared, partition, share.topic_id, stored, queue) {
            self.assigned.push(partition.clone());
        }
    }

    /// Begins a release: delivery stops, the application finishes what it holds.
    pub(super) fn drain(&mut self, partition: TopicPartition) {
        self.releasing.insert(partition.clone(), Releasing::Draining);
        let drained = delivery::drain(&self.shared, partition.clone());
        self.spawn(async move { Report::Drained(partition, drained.await) });
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
