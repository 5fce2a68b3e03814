//! Appending to offsets partitions, and what becomes of it.
//!
//! A record counts when it is committed. Clients are told after `offsets.commit.timeout.ms` that it
//! is not known; the record is waited for beyond that, so that memory ends up as the log has it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::record::{BatchBuilder, HEADER_LEN, ProducerStamp, check_chunks};
use proto::{Offset, Partition as PartitionNumber};

use super::GroupError;
use super::classic::{Effects, State};
use super::coordinator::{Coordinator, moment, tell};
use super::roles::RECHECK;
use super::shard::{Completion, Slot, Write};
use crate::replication::{AppendJob, OnAppended, PartitionError, RequiredAcks};
use crate::storage::{AppendError, Appended};

/// A batch of commits does not grow beyond this, whatever the topic allows.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Batches under way; commits are refused beyond it.
pub(super) const IN_FLIGHT_MAX: usize = 4096;
/// How long a batch is waited for: until its fate is known, or this broker leads no more.
const PATIENCE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A batch on its way.
pub(super) struct InFlight {
    partition: PartitionNumber,
    /// The leadership it was written in.
    slot: u64,
    /// Each with the number of its first record in the batch.
    parts: Vec<(i64, Arc<str>, Completion)>,
    /// Number of records.
    count: i64,
}

/// A batch that was appended while too few replicas were in sync. Who waited has been told so; what
/// the batch says counts all the same once it is committed, since the next leader will read it.
pub(super) struct Unsure {
    batch: InFlight,
    base: Offset,
    /// Number of records.
    count: i64,
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
        let count = headers.iter().map(|header| i64::from(header.record_count)).sum();
        self.in_flight.insert(batch, InFlight { partition: number, slot: of, parts, count });
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
        let Some(mut batch) = self.in_flight.remove(&batch) else { return };
        self.drop_old_deadlines();
        if let Err(PartitionError::NotEnoughReplicasAfterAppend { base_offset, .. }) = outcome {
            tracing::warn!(partition = batch.partition, "too few replicas have groups or offsets");
            self.tell_not_known(&mut batch);
            let count = batch.count;
            self.unsure.push(Unsure { batch, base: base_offset, count });
            self.recheck = self.recheck.or(Some(Instant::now() + RECHECK));
            return;
        }
        let partition = batch.partition;
        let outcome = outcome.map(|appended| appended.base_offset).map_err(|error| {
            tracing::warn!(partition, %error, "groups or offsets are not stored");
            to_group_error(&error)
        });
        self.end_all(batch, outcome);
    }

    fn end_all(&mut self, batch: InFlight, outcome: Result<Offset, GroupError>) {
        let InFlight { partition, slot, parts, .. } = batch;
        for (delta, group, completion) in parts {
            let outcome = outcome.map(|base| base.plus(delta));
            self.end(partition, Some(slot), &group, completion, outcome);
        }
    }

    /// Looks at batches that were appended with too few replicas: those that are committed by now
    /// count, and those of a leadership that is over are another broker's matter.
    pub(super) fn settle_unsure(&mut self) {
        for unsure in std::mem::take(&mut self.unsure) {
            let slot = self.slots.get(&unsure.batch.partition);
            let Some(slot) = slot.filter(|slot| slot.number == unsure.batch.slot) else { continue };
            if slot.partition.log().high_watermark() >= unsure.base.plus(unsure.count) {
                self.end_all(unsure.batch, Ok(unsure.base));
            } else {
                self.unsure.push(unsure);
                self.recheck = Some(Instant::now() + RECHECK);
            }
        }
    }

    fn drop_old_deadlines(&mut self) {
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
                    let before = entry.group.state();
                    entry.group.stored(ticket, outcome.map(|_| ()), moment(), &mut out);
                    let is_done = before != State::Stable && entry.group.state() == State::Stable;
                    self.counters.rebalances += u64::from(is_done);
                }
            }
            Completion::Committed(request, commits) => {
                let items: Vec<usize> = commits.iter().map(|commit| commit.item).collect();
                if let (Ok(base), Some(entry)) = (outcome, shard.groups.get_mut(group)) {
                    entry.take_in(commits, base);
                    self.counters.commits += items.len() as u64;
                }
                self.answer_commit(request, &items, outcome.map(|_| ()));
            }
            Completion::Forgotten(names, generation, reply) => {
                if let Ok(at) = outcome
                    && let Some(gone) = shard.forget(group, &names, generation, at)
                {
                    self.dropped(number, group, &gone);
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
            let Some(mut late) = self.in_flight.remove(&batch) else { continue };
            self.tell_not_known(&mut late);
            self.in_flight.insert(batch, late);
        }
    }

    /// Tells who waits for a batch that its fate is not known.
    fn tell_not_known(&mut self, late: &mut InFlight) {
        let error = GroupError::CoordinatorNotAvailable;
        let number = late.partition;
        for (_, group, completion) in &mut late.parts {
            match completion {
                Completion::Stored(ticket) => {
                    let mut out = Effects::new();
                    // Tickets are of one leadership.
                    let slot = self.slots.get_mut(&number);
                    let slot = slot.filter(|slot| slot.number == late.slot);
                    if let Some(Ok(shard)) = slot.map(Slot::shard)
                        && let Some(entry) = shard.groups.get_mut(group)
                    {
                        entry.group.stored(*ticket, Err(error), moment(), &mut out);
                    }
                    self.settle(number, group, out);
                }
                Completion::Committed(request, _) => self.give_up_commit(*request, error),
                Completion::Forgotten(_, _, reply) => {
                    if let Some(reply) = reply.take() {
                        tell(reply, Err(error));
                    }
                }
                Completion::Noted => {}
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
