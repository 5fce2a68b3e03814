//! What a member of a broker's group does with a partition: begin delivery where the group is, write
//! positions, hand over.
//!
//! A release has two steps, each waited for: the application finishes what it holds, the last position
//! is committed. Only then does the member join again, so that the next owner begins behind it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proto::{ErrorCode, TopicPartition, v1};

use super::broker_group::{BrokerGroup, Report};
use super::broker_requests::Stored;
use super::classic_member::{Input, Refused};
use super::commits::{Wish, Write, Written};
use super::delivery::{self, Releasing};
use crate::event::Event;

/// Before offsets are asked for again, or written again, that could not be.
const RETRY_AFTER: Duration = Duration::from_millis(100);

impl BrokerGroup {
    /// The partition is this member's: where the group is in it is asked for.
    pub(super) fn begin(&mut self, partition: TopicPartition) {
        let streams = self.streams.borrow().count(&partition.topic).max(1);
        let mut load = vec![0u32; streams as usize];
        for (other, stream) in &self.placed {
            if other.topic == partition.topic
                && let Some(load) = load.get_mut(*stream as usize)
            {
                *load += 1;
            }
        }
        let least = (0..streams).min_by_key(|stream| load[*stream as usize]).unwrap_or(0);
        self.placed.insert(partition.clone(), least);
        self.numbers += 1;
        self.looking.insert(partition, self.numbers);
    }

    /// Asks where the group is in what was begun.
    pub(super) fn look_up(&mut self, now: Instant) {
        if self.looking.is_empty() || self.looking_up || now < self.look_up_at {
            return;
        }
        let Some(coordinator) = self.coordinator.clone() else { return };
        self.looking_up = true;
        let asked = self.looking.clone();
        self.spawn(async move {
            let answer = coordinator.fetch_offsets(asked.keys().cloned().collect()).await;
            Report::Looked(asked, answer)
        });
    }

    pub(super) fn looked(
        &mut self,
        asked: &BTreeMap<TopicPartition, u64>,
        answer: Result<Vec<Stored>, Refused>,
        inputs: &mut Vec<Input>,
    ) {
        self.looking_up = false;
        self.note(answer.as_ref().err());
        match answer {
            Err(refused) => {
                self.look_up_at = Instant::now() + RETRY_AFTER;
                if refused == Refused::Moved {
                    inputs.push(Input::Answered(self.machine.attempt(), Err(refused)));
                }
            }
            Ok(found) => {
                for stored in found {
                    let number = asked.get(&stored.partition);
                    if number.is_some() && self.looking.get(&stored.partition) == number {
                        self.start(stored);
                    }
                }
            }
        }
    }

    fn start(&mut self, stored: Stored) {
        let Stored { partition, at, topic_id: of } = stored;
        // One that went meanwhile is taken from this member soon.
        let Some(topic_id) = self.topic(&partition.topic).map(|topic| topic.topic_id) else {
            return;
        };
        self.looking.remove(&partition);
        let mut at = at;
        if let (Some(stored_topic_id), Some((stored, _))) = (of, at)
            && stored_topic_id != topic_id
        {
            let partition = partition.clone();
            let event = Event::StoredOffsetIgnored { partition, stored, stored_topic_id, topic_id };
            self.shared.emit(event);
            at = None;
        }
        let written = at.map(|(offset, epoch)| Wish::after(epoch, offset));
        self.book.open(&partition, topic_id, 0, written, false);
        let stream = self.placed.get(&partition).copied().unwrap_or(0);
        let queue = self.streams.borrow().queue(&partition.topic, stream);
        if delivery::begin(&self.shared, &partition, topic_id, at, queue) {
            self.assigned.push(partition);
        }
    }

    /// Begins a release; false where nothing was delivered.
    pub(super) fn release(&mut self, partition: &TopicPartition) -> bool {
        self.placed.remove(partition);
        if self.looking.remove(partition).is_some() {
            self.answer(Input::Released(partition.clone()));
            return false;
        }
        self.numbers += 1;
        let number = self.numbers;
        self.releasing.insert(partition.clone(), (number, Releasing::Draining));
        let drained = delivery::drain(&self.shared, partition.clone());
        let partition = partition.clone();
        self.spawn(async move { Report::Drained(partition, number, drained.await) });
        true
    }

    /// The partition is not this member's any more; false where nothing was delivered.
    pub(super) fn lose(&mut self, partition: &TopicPartition) -> bool {
        self.placed.remove(partition);
        self.releasing.remove(partition);
        self.assigned.retain(|assigned| assigned != partition);
        if self.looking.remove(partition).is_some() {
            return false;
        }
        self.shared.stop(std::slice::from_ref(partition));
        self.book.close(partition);
        true
    }

    pub(super) fn drained(&mut self, partition: &TopicPartition, number: u64, done: Option<Wish>) {
        match self.releasing.get_mut(partition) {
            Some((of, step)) if *of == number => *step = Releasing::Committing,
            // It was lost meanwhile.
            _ => return,
        }
        if let Some(done) = done.filter(|_| self.shared.config.enable_auto_commit) {
            self.book.want(partition, done);
        }
        self.release_if_settled(partition);
    }

    fn is_committing(&self, partition: &TopicPartition) -> bool {
        matches!(self.releasing.get(partition), Some((_, Releasing::Committing)))
    }

    fn release_if_settled(&mut self, partition: &TopicPartition) {
        if self.is_committing(partition) && self.book.is_settled(partition) {
            self.book.close(partition);
            self.releasing.remove(partition);
            self.answer(Input::Released(partition.clone()));
        }
    }

    pub(super) fn write_offsets(&mut self, now: Instant) {
        if now < self.write_at || !self.machine.may_commit() {
            return;
        }
        let Some(coordinator) = self.coordinator.clone() else { return };
        let writes = self.book.next_writes();
        if writes.is_empty() {
            return;
        }
        let (attempt, caller) = (self.machine.attempt(), self.caller());
        self.spawn(async move {
            let answer = coordinator.commit(caller, &writes).await;
            Report::Written(attempt, writes, answer)
        });
    }

    pub(super) fn written(
        &mut self,
        attempt: u64,
        writes: &[Write],
        answer: Result<Vec<Result<(), v1::Error>>, Refused>,
        inputs: &mut Vec<Input>,
    ) {
        self.note(answer.as_ref().err());
        let outcomes = match answer {
            Ok(outcomes) => {
                inputs.push(Input::Answered(attempt, Ok(())));
                outcomes
            }
            Err(refused) => {
                self.write_at = Instant::now() + RETRY_AFTER;
                for Write { partition, claim, .. } in writes {
                    self.book.written(partition, *claim, Written::Unanswered);
                }
                inputs.push(Input::Answered(attempt, Err(refused)));
                return;
            }
        };
        for (Write { partition, claim, .. }, outcome) in writes.iter().zip(outcomes) {
            let Err(error) = outcome else {
                self.book.written(partition, *claim, Written::Committed { fence: 0 });
                self.release_if_settled(partition);
                continue;
            };
            // Of a topic that is gone, or that the coordinator has yet to hear of.
            self.write_at = Instant::now() + RETRY_AFTER;
            self.book.written(partition, *claim, Written::Unanswered);
            let code = ErrorCode::from_code(error.code);
            if matches!(code, ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) {
                inputs.push(Input::Answered(attempt, Err(Refused::Moved)));
            }
            if self.is_committing(partition) && is_final(code) {
                let (partition, why) = (partition.clone(), error.message);
                self.book.close(&partition);
                self.shared.emit(Event::CommitFailed { partition: partition.clone(), why });
                self.release_if_settled(&partition);
            }
        }
    }
}

/// No coordinator will ever take it.
fn is_final(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::OffsetMetadataTooLarge
    )
}
