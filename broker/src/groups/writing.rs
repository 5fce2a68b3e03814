//! Appending to offsets partitions, and what becomes of it.
//!
//! A record counts when it is committed. Clients are told after `offsets.commit.timeout.ms` that it
//! is not known; the record is waited for beyond that, so that memory ends up as the log has it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::record::{BatchBuilder, HEADER_LEN, ProducerStamp, check_chunks};
use proto::{Offset, Partition as PartitionNumber};

use super::GroupError;
use super::classic::Effects;
use super::coordinator::{Coordinator, moment, tell};
use super::shard::{Completion, Slot, Write};
use crate::replication::{AppendJob, OnAppended, PartitionError, RequiredAcks};
use crate::storage::{AppendError, Appended};

/// A batch of commits does not grow beyond this, whatever the topic allows.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Batches under way; commits are refused beyond it.
pub(super) const IN_FLIGHT_MAX: usize = 4096;
/// How long a batch is waited for: until its fate is known, or this broker leads no more.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A batch on its way.
pub(super) struct InFlight {
    partition: PartitionNumber,
    /// The leadership it was written in.
    slot: u64,
    /// Each with the number of its first record in the batch.
    parts: Vec<(i64, Arc<str>, Completion)>,
}

impl Coordinator {
    /// Appends what the round has queued.
    pub(super) fn append_queued(&mut self) {
        let numbers: Vec<PartitionNumber> = self.slots.keys().copied().collect();
        for number in numbers {
            let Some(slot) = self.slots.get_mut(&number) else { continue };
            let Ok(shard) = slot.shard() else { continue };
            if shard.queued.is_empty() {
                continue;
            }
            let queued = std::mem::take(&mut shard.queued);
            let limit = slot.partition.log().config().max_message_bytes as usize;
            let limit = limit.min(BATCH_BYTES_MAX);
            let mut batch = Vec::new();
            let mut bytes = HEADER_LEN;
            for write in queued {
                let size: usize = write.records.iter().map(super::records::Record::size).sum();
                if HEADER_LEN + size > limit {
                    self.end(
                        number,
                        None,
                        &write.group,
                        write.completion,
                        Err(GroupError::TooLarge),
                    );
                    continue;
                }
                if bytes + size > limit {
                    self.append(number, std::mem::take(&mut batch));
                    bytes = HEADER_LEN;
                }
                bytes += size;
                batch.push(write);
            }
            self.append(number, batch);
        }
    }

    fn append(&mut self, number: PartitionNumber, writes: Vec<Write>) {
        if writes.is_empty() {
            return;
        }
        let Some(slot) = self.slots.get(&number) else { return };
        let (partition, epoch, of) = (Arc::clone(&slot.partition), slot.epoch, slot.number);
        let now = moment();
        let mut builder = BatchBuilder::new(BATCH_BYTES_MAX.min(size_of_all(&writes)));
        let mut parts = Vec::with_capacity(writes.len());
        for Write { group, records, completion } in writes {
            parts.push((i64::from(builder.record_count()), group, completion));
            for record in &records {
                let appended = record.with_parts(|key, value, headers| {
                    builder.append(now.wall_ms, Some(key), value, headers)
                });
                debug_assert!(appended.is_ok(), "sizes were added up");
            }
        }
        let chunks = vec![builder.finish(ProducerStamp::NONE)];
        let headers = check_chunks(&chunks).unwrap_or_default();
        let batch = self.new_number();
        self.in_flight.insert(batch, InFlight { partition: number, slot: of, parts });
        self.deadlines.push_back((now.at + self.config.commit_timeout, batch));
        let events = self.events.clone();
        partition.queue(AppendJob {
            chunks,
            headers,
            leader_epoch: epoch,
            window: 1,
            acks: RequiredAcks::All,
            due: now.at + PATIENCE,
            hold: None,
            done: OnAppended::new(move |outcome| {
                let _ = events.send(super::command::Event::Appended(batch, outcome));
            }),
        });
        partition.drive();
    }

    /// A batch has come to its end.
    pub(super) fn appended(&mut self, batch: u64, outcome: Result<Appended, PartitionError>) {
        let Some(InFlight { partition, slot, parts }) = self.in_flight.remove(&batch) else {
            return;
        };
        let outcome = outcome.map(|appended| appended.base_offset).map_err(|error| {
            tracing::warn!(partition, %error, "groups or offsets are not stored");
            to_group_error(&error)
        });
        for (delta, group, completion) in parts {
            let outcome = outcome.map(|base| base.plus(delta));
            self.end(partition, Some(slot), &group, completion, outcome);
        }
        while let Some((_, first)) = self.deadlines.front()
            && !self.in_flight.contains_key(first)
        {
            self.deadlines.pop_front();
        }
    }

    /// Does what is to be done at the end of a write; the record stands at the offset.
    fn end(
        &mut self,
        number: PartitionNumber,
        written_in: Option<u64>,
        group: &Arc<str>,
        completion: Completion,
        outcome: Result<Offset, GroupError>,
    ) {
        let slot = self.slots.get_mut(&number);
        let slot = slot.filter(|slot| written_in.is_none_or(|number| slot.number == number));
        let Some(Ok(shard)) = slot.map(Slot::shard) else {
            self.fail(completion, outcome.err().unwrap_or(GroupError::NotCoordinator));
            return;
        };
        let mut out = Effects::new();
        if let Some(entry) = shard.groups.get_mut(group) {
            entry.writing = entry.writing.saturating_sub(1);
        }
        match completion {
            Completion::Noted => {}
            Completion::Stored(ticket) => {
                if let Some(entry) = shard.groups.get_mut(group) {
                    entry.group.stored(ticket, outcome.map(|_| ()), moment(), &mut out);
                }
            }
            Completion::Committed(request, commits) => {
                let items: Vec<usize> = commits.iter().map(|commit| commit.item).collect();
                if let (Ok(base), Some(entry)) = (outcome, shard.groups.get_mut(group)) {
                    entry.take_in(commits, base);
                }
                self.answer_commit(request, &items, outcome.map(|_| ()));
            }
            Completion::Forgotten(names, generation, reply) => {
                if let Ok(at) = outcome {
                    let before = shard.groups.len();
                    shard.forget(group, &names, generation, at);
                    self.groups -= before - shard.groups.len();
                }
                if let Some(reply) = reply {
                    tell(reply, outcome.map(|_| ()));
                }
            }
        }
        self.settle(number, group, out);
    }

    /// The partition is another broker's: whoever waits is told, and nothing else is done.
    pub(super) fn fail(&mut self, completion: Completion, error: GroupError) {
        match completion {
            Completion::Noted | Completion::Stored(_) => {}
            Completion::Committed(request, commits) => {
                let items: Vec<usize> = commits.iter().map(|commit| commit.item).collect();
                self.answer_commit(request, &items, Err(error));
            }
            Completion::Forgotten(_, _, Some(reply)) => tell(reply, Err(error)),
            Completion::Forgotten(_, _, None) => {}
        }
    }

    /// Tells who waits for too long; the batches themselves are waited for.
    pub(super) fn give_up_late(&mut self, now: Instant) {
        while let Some((_, batch)) = self.deadlines.front().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.pop_front();
            let Some(late) = self.in_flight.get_mut(&batch) else { continue };
            let number = late.partition;
            let mut told = Vec::new();
            for (_, group, completion) in &mut late.parts {
                match completion {
                    Completion::Stored(ticket) => {
                        told.push((Arc::clone(group), Some(*ticket), None));
                    }
                    Completion::Committed(request, _) => {
                        told.push((Arc::clone(group), None, Some(*request)));
                    }
                    Completion::Forgotten(_, _, reply) => {
                        if let Some(reply) = reply.take() {
                            tell(reply, Err(GroupError::CoordinatorNotAvailable));
                        }
                    }
                    Completion::Noted => {}
                }
            }
            for (group, ticket, request) in told {
                let error = GroupError::CoordinatorNotAvailable;
                if let Some(request) = request {
                    self.give_up_commit(request, error);
                }
                let Some(ticket) = ticket else { continue };
                let mut out = Effects::new();
                if let Some(Ok(shard)) = self.slots.get_mut(&number).map(Slot::shard)
                    && let Some(entry) = shard.groups.get_mut(&group)
                {
                    entry.group.stored(ticket, Err(error), moment(), &mut out);
                }
                self.settle(number, &group, out);
            }
        }
    }
}

fn size_of_all(writes: &[Write]) -> usize {
    let records = writes.iter().flat_map(|write| &write.records);
    HEADER_LEN + records.map(super::records::Record::size).sum::<usize>()
}

/// What a client is told when its group's partition does not take a record.
fn to_group_error(error: &PartitionError) -> GroupError {
    match error {
        PartitionError::NotLeader
        | PartitionError::Fenced { .. }
        | PartitionError::UnknownEpoch { .. }
        | PartitionError::NotFollower
        | PartitionError::NotReplica { .. }
        | PartitionError::Append(AppendError::Offline(_)) => GroupError::NotCoordinator,
        PartitionError::Append(AppendError::BatchTooLarge { .. }) => GroupError::TooLarge,
        _ => GroupError::CoordinatorNotAvailable,
    }
}
