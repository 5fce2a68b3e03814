//! One offsets partition that this broker leads: its groups, and what waits to be written to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use proto::{LeaderEpoch, Offset, TopicPartition};

use super::GroupError;
use super::classic::{Group, Limits, Moment, State, Ticket};
use super::command::Reply;
use super::loading::Loaded;
use super::offsets::{CommittedOffset, Offsets};
use super::records::Record;
use crate::replication::Partition;

/// A group with its offsets.
pub(super) struct Entry {
    pub(super) group: Group,
    pub(super) offsets: Offsets,
    /// Writes for it that are under way.
    pub(super) writing: usize,
    /// When it is looked at next, as the coordinator's timers have it.
    pub(super) timer: Option<Instant>,
    /// Bytes that the offsets take, about.
    pub(super) offset_bytes: usize,
    /// Bytes of it that are in the coordinator's sum.
    pub(super) counted: usize,
}

impl Entry {
    pub(super) fn new(group: Group) -> Self {
        let offsets = Offsets::new();
        Self { group, offsets, writing: 0, timer: None, offset_bytes: 0, counted: 0 }
    }

    /// Bytes it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.group.bytes() + self.offset_bytes
    }

    pub(super) fn insert_offset(&mut self, name: TopicPartition, committed: CommittedOffset) {
        self.remove_offset(&name);
        self.offset_bytes += committed.bytes(&name);
        self.offsets.insert(name, committed);
    }

    pub(super) fn remove_offset(&mut self, name: &TopicPartition) {
        if let Some(before) = self.offsets.remove(name) {
            self.offset_bytes -= before.bytes(name);
        }
    }

    /// Nothing is lost with it.
    pub(super) fn is_void(&self) -> bool {
        self.group.is_untouched() && self.offsets.is_empty() && self.writing == 0
    }
}

/// A commit on its way to the log.
pub(super) struct Committing {
    /// Which item of the request.
    pub(super) item: usize,
    pub(super) name: TopicPartition,
    pub(super) committed: CommittedOffset,
}

/// What is done when a write has come to its end.
pub(super) enum Completion {
    /// The group is told.
    Stored(Ticket),
    /// Nobody waits: should it fail, the log has the group as it was before.
    Noted,
    /// Part of a request to commit, by the request's number; a record each.
    Committed(u64, Vec<Committing>),
    /// Offsets are forgotten, and the group if it is still as it was in that generation; who asked
    /// is told, if somebody did.
    Forgotten(Vec<TopicPartition>, Option<i32>, Option<Reply<Result<(), GroupError>>>),
}

/// Records that stand together in a batch, and what is done afterwards.
pub(super) struct Write {
    pub(super) group: Arc<str>,
    pub(super) records: Vec<Record>,
    pub(super) completion: Completion,
}

/// An offsets partition that is led and was read.
pub(super) struct Shard {
    pub(super) groups: BTreeMap<Arc<str>, Entry>,
    /// To be appended when this round of requests is done.
    pub(super) queued: Vec<Write>,
}

/// How far an offsets partition has come in this leadership.
pub(super) enum Stage {
    /// A thread reads it.
    Loading,
    /// It was read, and is served once all of that is committed.
    Committing(Box<Loaded>),
    /// It is served.
    Active(Shard),
}

/// An offsets partition in one leadership of this broker.
pub(super) struct Slot {
    /// Tells this leadership from all others of this process.
    pub(super) number: u64,
    pub(super) epoch: LeaderEpoch,
    pub(super) partition: Arc<Partition>,
    pub(super) stage: Stage,
}

impl Slot {
    /// The shard, if it is served.
    pub(super) fn shard(&mut self) -> Result<&mut Shard, GroupError> {
        match &mut self.stage {
            Stage::Active(shard) => Ok(shard),
            Stage::Loading | Stage::Committing(_) => Err(GroupError::CoordinatorLoadInProgress),
        }
    }

    /// Whether this broker still leads it as it did.
    pub(super) fn is_led(&self) -> bool {
        self.partition.leading() == Some(self.epoch)
    }

    /// Serves what was read, if it is committed: no client is told an offset that a new leader may
    /// not have. True when it began to.
    pub(super) fn begin(&mut self, limits: &Arc<Limits>, now: Moment) -> bool {
        let Stage::Committing(loaded) = &mut self.stage else { return false };
        if self.partition.log().high_watermark() < loaded.end {
            return false;
        }
        let loaded = std::mem::take(&mut **loaded);
        self.stage = Stage::Active(Shard::from_loaded(loaded, limits, now));
        true
    }
}

impl Shard {
    fn from_loaded(loaded: Loaded, limits: &Arc<Limits>, now: Moment) -> Self {
        let entries = loaded.groups.into_iter().map(|(id, loaded)| {
            let group = match loaded.metadata {
                Some(stored) => Group::from_stored(stored, Arc::clone(limits), now),
                None => Group::new(Arc::clone(limits), now),
            };
            let offset_bytes = loaded.offsets.iter().map(|(name, told)| told.bytes(name)).sum();
            (id, Entry { offsets: loaded.offsets, offset_bytes, ..Entry::new(group) })
        });
        Self { groups: entries.collect(), queued: Vec::new() }
    }

    /// The offsets of partitions were forgotten by the record at `at` or an earlier one; and the
    /// group, which is handed back, where it is still as it was in the generation.
    pub(super) fn forget(
        &mut self,
        group: &Arc<str>,
        names: &[TopicPartition],
        generation: Option<i32>,
        at: Offset,
    ) -> Option<Entry> {
        let entry = self.groups.get_mut(group)?;
        for name in names {
            if entry.offsets.get(name).is_some_and(|committed| committed.stands_at < at) {
                entry.remove_offset(name);
            }
        }
        let is_as_it_was = generation == Some(entry.group.generation())
            && entry.group.state() == State::Empty
            && !entry.group.has_pending();
        match is_as_it_was && entry.offsets.is_empty() && entry.writing == 0 {
            true => self.groups.remove(group),
            false => None,
        }
    }
}
