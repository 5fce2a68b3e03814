//! Commits and what was committed.

use std::collections::HashSet;
use std::sync::Arc;

use proto::{Offset, TopicPartition};

use super::GroupError;
use super::classic::Effects;
use super::command::{Commit, CommitRequest, FetchedOffsets, Outcomes, Reply, Wanted};
use super::coordinator::{Coordinator, moment, tell};
use super::offsets::{CommittedOffset, expired, is_subscribed};
use super::records::Record;
use super::shard::{Committing, Completion, Entry, Slot, Write};
use super::writing::IN_FLIGHT_MAX;

/// Bytes of records that stand together; a request may have more.
const WRITE_BYTES: usize = 256 << 10;

/// A request to commit that is under way.
pub(super) struct Request {
    /// By item.
    outcomes: Vec<Result<(), GroupError>>,
    /// Items whose outcome is not known.
    left: usize,
    reply: Reply<Outcomes>,
}

impl Entry {
    /// These are committed; their records stand from `base` on. A later commit stays.
    pub(super) fn take_in(&mut self, commits: Vec<Committing>, base: Offset) {
        for (delta, Committing { name, mut committed, .. }) in (0..).zip(commits) {
            committed.stands_at = base.plus(delta);
            let before = self.offsets.get(&name);
            if before.is_none_or(|before| before.stands_at < committed.stands_at) {
                self.insert_offset(name, committed);
            }
        }
    }
}

impl Coordinator {
    /// Commits offsets; answered when they are committed to all in-sync replicas.
    pub(super) fn commit(
        &mut self,
        group: &Arc<str>,
        request: &CommitRequest,
        reply: Reply<Outcomes>,
    ) {
        match self.check_commit(group, request) {
            Ok(number) => self.queue_commit(number, group, request, reply),
            Err(error) => tell(reply, Err(error)),
        }
    }

    fn check_commit(
        &mut self,
        group: &Arc<str>,
        request: &CommitRequest,
    ) -> Result<proto::Partition, GroupError> {
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        let is_full = self.is_full();
        let (number, shard) = self.shard_of(group)?;
        let known = shard.groups.get(group).map(|entry| &entry.offsets);
        let is_known = |commit: &Commit| {
            let before = known.and_then(|known| known.get(&commit.partition));
            before.is_some_and(|before| before.metadata.len() >= commit.metadata.len())
        };
        if is_full && !request.commits.iter().all(is_known) {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        if request.caller.generation >= 0 && !shard.groups.contains_key(group) {
            return Err(match request.knows_missing_groups {
                true => GroupError::GroupIdNotFound,
                false => GroupError::IllegalGeneration,
            });
        }
        let (_, entry) = self.entry_of(group)?;
        let allowed = entry.group.check_commit(&request.caller, moment());
        self.settle(number, group, Effects::new());
        allowed.map(|()| number)
    }

    fn queue_commit(
        &mut self,
        number: proto::Partition,
        group: &Arc<str>,
        request: &CommitRequest,
        reply: Reply<Outcomes>,
    ) {
        let now_ms = moment().wall_ms;
        let expire_ms = request.retention.map(|retention| {
            now_ms.saturating_add(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX))
        });
        let mut outcomes = Vec::with_capacity(request.commits.len());
        let mut commits = Vec::new();
        for (item, commit) in request.commits.iter().enumerate() {
            let outcome = self.to_committed(commit, now_ms, expire_ms).map(|committed| {
                commits.push(Committing { item, name: commit.partition.clone(), committed });
            });
            outcomes.push(outcome);
        }
        if commits.is_empty() {
            tell(reply, Ok(outcomes));
            return;
        }
        let of = self.new_number();
        self.requests.insert(of, Request { outcomes, left: commits.len(), reply });
        let entry = match self.entry_of(group) {
            Ok((_, entry)) => entry,
            Err(error) => {
                self.give_up_commit(of, error);
                return;
            }
        };
        let writes = to_writes(group, of, commits);
        entry.writing += writes.len();
        if let Some(Ok(shard)) = self.slots.get_mut(&number).map(Slot::shard) {
            shard.queued.extend(writes);
        }
    }

    fn to_committed(
        &self,
        commit: &Commit,
        commit_ms: i64,
        expire_ms: Option<i64>,
    ) -> Result<CommittedOffset, GroupError> {
        if commit.metadata.len() > self.config.offset_metadata_max {
            return Err(GroupError::OffsetMetadataTooLarge);
        }
        let id = self.topic.id_of(&commit.partition).ok_or(GroupError::UnknownTopicOrPartition)?;
        if commit.topic_id.is_some_and(|meant| meant != id) {
            return Err(GroupError::UnknownTopicId);
        }
        Ok(CommittedOffset {
            offset: commit.offset,
            leader_epoch: commit.leader_epoch,
            metadata: Arc::clone(&commit.metadata),
            commit_ms,
            expire_ms,
            topic_id: Some(id),
            stands_at: Offset(-1),
        })
    }

    /// Items of a request are known; it is answered with the last one.
    pub(super) fn answer_commit(
        &mut self,
        request: u64,
        items: &[usize],
        outcome: Result<(), GroupError>,
    ) {
        let Some(waiting) = self.requests.get_mut(&request) else { return };
        let outcome = outcome.map_err(|error| match error {
            GroupError::TooLarge => GroupError::CommitTooLarge,
            other => other,
        });
        for item in items {
            if let Some(slot) = waiting.outcomes.get_mut(*item) {
                *slot = outcome;
            }
        }
        waiting.left = waiting.left.saturating_sub(items.len());
        if waiting.left == 0
            && let Some(Request { outcomes, reply, .. }) = self.requests.remove(&request)
        {
            tell(reply, Ok(outcomes));
        }
    }

    /// A request is answered with an error for all of it.
    pub(super) fn give_up_commit(&mut self, request: u64, error: GroupError) {
        if let Some(Request { reply, .. }) = self.requests.remove(&request) {
            tell(reply, Err(error));
        }
    }

    /// What is committed. An offset of a topic that was deleted since is none.
    pub(super) fn fetch_offsets(&mut self, group: &Arc<str>, wanted: Wanted) -> FetchedOffsets {
        let (_, shard) = self.shard_of(group)?;
        let known = shard.groups.get(group);
        let found: Vec<(TopicPartition, Option<CommittedOffset>)> = match wanted {
            Wanted::All => {
                let all = known.into_iter().flat_map(|entry| &entry.offsets);
                all.map(|(name, committed)| (name.clone(), Some(committed.clone()))).collect()
            }
            Wanted::These(names) => {
                let of = |name: &TopicPartition| known?.offsets.get(name).cloned();
                names.into_iter().map(|name| (of(&name), name)).map(|(o, n)| (n, o)).collect()
            }
        };
        let checked = found.into_iter().map(|(name, committed)| {
            let committed = committed.filter(|committed| self.topic.is_valid(&name, committed));
            (name, committed)
        });
        Ok(checked.collect())
    }

    /// Forgets offsets. Those of topics that members read stay.
    pub(super) fn delete_offsets(
        &mut self,
        group: &Arc<str>,
        names: &[TopicPartition],
        reply: Reply<Outcomes>,
    ) {
        let known: HashSet<&str> = names
            .iter()
            .map(|name| &*name.topic)
            .filter(|name| self.topic.has_topic(name))
            .collect();
        let (number, shard) = match self.shard_of(group) {
            Ok(found) => found,
            Err(error) => return tell(reply, Err(error)),
        };
        let Some(entry) = shard.groups.get(group) else {
            return tell(reply, Err(GroupError::GroupIdNotFound));
        };
        let is_consumer =
            entry.group.protocol_type().is_some_and(|kind| **kind == *super::offsets::CONSUMER);
        if entry.group.size() > 0 && !is_consumer {
            return tell(reply, Err(GroupError::NonEmptyGroup));
        }
        let check = |name: &TopicPartition| {
            if !known.contains(&*name.topic) {
                Err(GroupError::UnknownTopicOrPartition)
            } else if entry.group.size() > 0 && is_subscribed(&entry.group, &name.topic) {
                Err(GroupError::GroupSubscribedToTopic)
            } else {
                Ok(())
            }
        };
        let outcomes: Vec<Result<(), GroupError>> = names.iter().map(check).collect();
        let goes = |(name, outcome): &(&TopicPartition, &Result<(), GroupError>)| {
            outcome.is_ok() && entry.offsets.contains_key(*name)
        };
        let gone = names.iter().zip(&outcomes).filter(goes).map(|(name, _)| name.clone());
        let gone: Vec<TopicPartition> = gone.collect();
        if gone.is_empty() {
            return tell(reply, Ok(outcomes));
        }
        let (done, told) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let outcome = told.await.unwrap_or(Err(GroupError::NotCoordinator));
            tell(reply, outcome.map(|()| outcomes));
        });
        self.counters.deletions += gone.len() as u64;
        self.forget(number, group, &gone, None, Some(done));
    }

    /// Writes that offsets, and with a generation the group, are gone.
    pub(super) fn forget(
        &mut self,
        number: proto::Partition,
        group: &Arc<str>,
        names: &[TopicPartition],
        generation: Option<i32>,
        reply: Option<Reply<Result<(), GroupError>>>,
    ) {
        let Some(Ok(shard)) = self.slots.get_mut(&number).map(Slot::shard) else {
            if let Some(reply) = reply {
                tell(reply, Err(GroupError::NotCoordinator));
            }
            return;
        };
        // In parts that fit a batch; who asked is told with the last.
        let mut parts: Vec<Vec<TopicPartition>> =
            names.chunks(1000).map(<[TopicPartition]>::to_vec).collect();
        let last = parts.pop().unwrap_or_default();
        let mut writes: Vec<Write> = Vec::with_capacity(parts.len() + 1);
        let record = |name: &TopicPartition| Record::no_offset(group, name);
        for part in parts {
            writes.push(Write {
                group: Arc::clone(group),
                records: part.iter().map(record).collect(),
                completion: Completion::Forgotten(part, None, None),
            });
        }
        let mut records: Vec<Record> = last.iter().map(record).collect();
        records.extend(generation.map(|_| Record::no_group(group)));
        writes.push(Write {
            group: Arc::clone(group),
            records,
            completion: Completion::Forgotten(last, generation, reply),
        });
        if let Some(entry) = shard.groups.get_mut(group) {
            entry.writing += writes.len();
        }
        shard.queued.extend(writes);
    }

    /// Forgets what has expired, and groups of which nothing is left.
    pub(super) fn expire_offsets(&mut self, now_ms: i64) {
        self.look_at_roles();
        let retention = self.config.offsets_retention;
        let mut due = Vec::new();
        for (number, slot) in &mut self.slots {
            let Ok(shard) = slot.shard() else { continue };
            for (id, entry) in shard.groups.iter().filter(|(_, entry)| entry.writing == 0) {
                let mut gone = expired(&entry.group, &entry.offsets, retention, now_ms);
                let deleted = entry.offsets.iter();
                let deleted = deleted.filter(|(name, told)| !self.topic.is_valid(name, told));
                gone.extend(deleted.map(|(name, _)| name.clone()));
                gone.sort();
                gone.dedup();
                let is_over = gone.len() == entry.offsets.len()
                    && entry.group.size() == 0
                    && entry.group.state() == super::classic::State::Empty
                    && !entry.group.has_pending();
                if !gone.is_empty() || is_over {
                    let generation = is_over.then(|| entry.group.generation());
                    due.push((*number, Arc::clone(id), gone, generation));
                }
            }
        }
        for (number, id, gone, generation) in due {
            tracing::info!(group = %id, offsets = gone.len(), "offsets have expired");
            self.counters.expirations += gone.len() as u64;
            self.forget(number, &id, &gone, generation, None);
        }
    }
}

/// Commits in parts that fit a batch.
fn to_writes(group: &Arc<str>, request: u64, commits: Vec<Committing>) -> Vec<Write> {
    let mut writes: Vec<Write> = Vec::new();
    let mut bytes = usize::MAX;
    for commit in commits {
        let record = Record::offset(group, &commit.name, &commit.committed);
        bytes = bytes.saturating_add(record.size());
        if bytes > WRITE_BYTES {
            bytes = record.size();
            writes.push(Write {
                group: Arc::clone(group),
                records: Vec::new(),
                completion: Completion::Committed(request, Vec::new()),
            });
        }
        let Some(write) = writes.last_mut() else { continue };
        write.records.push(record);
        if let Completion::Committed(_, commits) = &mut write.completion {
            commits.push(commit);
        }
    }
    writes
}
