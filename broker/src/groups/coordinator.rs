//! [`Coordinator`]: the thread that owns all groups of this broker. One owner, so no locks; one
//! place for timers; what takes the disk's time (reading a partition) is done elsewhere and reported.
//!
//! A round takes the requests that are there, then appends what they gave each offsets partition in
//! one batch: under load many commits share one append.
//!
//! Nothing is answered from state that may be taken back: an offset is told when its record is below
//! the high watermark, an assignment when it is stored, a partition's groups when all that was read
//! is committed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use proto::{BrokerId, Partition as PartitionNumber};
use tokio::sync::{mpsc, oneshot, watch};

use super::GroupError;
use super::classic::{Effect, Effects, Group, JoinRefusal, Joined, Limits, Moment, Synced, Token};
use super::command::{Command, Event, Reply};
use super::committing::Request;
use super::offsets_topic::OffsetsTopic;
use super::records::Record;
use super::report::Counters;
use super::shard::{Completion, Entry, Shard, Slot, Write};
use super::writing::{InFlight, Unsure};
use crate::config::GroupConfig;
use crate::replication::PartitionSet;

/// Requests taken in one round, before what they gave is appended.
const ROUND_MAX: usize = 512;
/// Groups on one broker; more are not begun.
const GROUPS_MAX: usize = 250_000;

/// Who waits for an answer of a group.
pub(super) enum Waiter {
    Join(Reply<Result<Joined, JoinRefusal>>),
    Sync(Reply<Result<Synced, GroupError>>),
}

/// The groups of this broker, and all that is under way for them.
pub(super) struct Coordinator {
    pub(super) me: BrokerId,
    pub(super) config: GroupConfig,
    pub(super) limits: Arc<Limits>,
    pub(super) partitions: Arc<PartitionSet>,
    pub(super) topic: OffsetsTopic,
    pub(super) slots: BTreeMap<PartitionNumber, Slot>,
    pub(super) waiting: HashMap<Token, Waiter>,
    pub(super) timers: BTreeSet<(Instant, PartitionNumber, Arc<str>)>,
    pub(super) in_flight: BTreeMap<u64, InFlight>,
    /// Appended, and perhaps never committed.
    pub(super) unsure: Vec<Unsure>,
    pub(super) deadlines: VecDeque<(Instant, u64)>,
    pub(super) requests: HashMap<u64, Request>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) groups: usize,
    /// Bytes that they take, about.
    pub(super) bytes: usize,
    pub(super) counters: Counters,
    /// When offsets partitions are looked at again whose state is about to change.
    pub(super) recheck: Option<Instant>,
    pub(super) expire_at: Instant,
    pub(super) next_number: u64,
}

impl Coordinator {
    pub(super) fn new(
        me: BrokerId,
        config: GroupConfig,
        partitions: Arc<PartitionSet>,
        topic: OffsetsTopic,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let limits = Arc::new(Limits {
            initial_rebalance_delay: config.initial_rebalance_delay,
            session_timeout_min: config.session_timeout_min,
            session_timeout_max: config.session_timeout_max,
            size_max: config.size_max,
        });
        Self {
            me,
            expire_at: Instant::now() + config.retention_check_interval,
            config,
            limits,
            partitions,
            topic,
            slots: BTreeMap::new(),
            waiting: HashMap::new(),
            timers: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            unsure: Vec::new(),
            deadlines: VecDeque::new(),
            requests: HashMap::new(),
            events,
            groups: 0,
            bytes: 0,
            counters: Counters::default(),
            recheck: None,
            next_number: 0,
        }
    }

    /// Coordinates until `stopping`, or until nobody asks any more.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut events: mpsc::UnboundedReceiver<Event>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let mut changes = self.topic.changes();
        loop {
            let wake = tokio::time::Instant::from_std(self.next_wake());
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => break,
                Some(event) = events.recv() => self.happened(event),
                command = commands.recv() => match command {
                    Some(command) => self.take(command),
                    None => break,
                },
                Ok(()) = changes.changed() => self.look_at_roles(),
                () = tokio::time::sleep_until(wake) => self.tick(),
            }
            for _ in 0..ROUND_MAX {
                if let Ok(event) = events.try_recv() {
                    self.happened(event);
                } else if let Ok(command) = commands.try_recv() {
                    self.take(command);
                } else {
                    break;
                }
            }
            self.append_queued();
        }
        let all: Vec<PartitionNumber> = self.slots.keys().copied().collect();
        all.into_iter().for_each(|number| self.unload(number));
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Join(group, join, reply) => self.join(&group, *join, reply),
            Command::Sync(group, sync, reply) => self.sync(&group, sync, reply),
            Command::Heartbeat(group, caller, reply) => {
                let _ = reply.send(self.heartbeat(&group, &caller));
            }
            Command::Leave(group, leaving, reply) => {
                let _ = reply.send(self.leave(&group, &leaving));
            }
            Command::Commit(group, request, reply) => self.commit(&group, &request, reply),
            Command::FetchOffsets(group, wanted, reply) => {
                let _ = reply.send(self.fetch_offsets(&group, wanted));
            }
            Command::Describe(group, reply) => {
                let _ = reply.send(self.describe(&group));
            }
            Command::List(reply) => {
                let _ = reply.send(self.list());
            }
            Command::Report(reply) => tell(reply, Ok(self.report())),
            Command::Delete(group, reply) => self.delete(&group, reply),
            Command::DeleteOffsets(group, names, reply) => {
                self.delete_offsets(&group, &names, reply);
            }
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Appended(number, outcome) => self.appended(number, outcome),
            Event::Loaded(partition, number, outcome) => self.loaded(partition, number, outcome),
        }
    }

    /// The shard that a group belongs to.
    pub(super) fn shard_of(
        &mut self,
        group: &str,
    ) -> Result<(PartitionNumber, &mut Shard), GroupError> {
        let number = self.topic.partition_of(group).ok_or(GroupError::NotCoordinator)?;
        let shard = self.slot(number)?.shard()?;
        Ok((number, shard))
    }

    /// The entry of a group, which is begun if it is not there; drop it with [`Self::settle`].
    pub(super) fn entry_of(
        &mut self,
        group: &Arc<str>,
    ) -> Result<(PartitionNumber, &mut Entry), GroupError> {
        let (limits, count) = (Arc::clone(&self.limits), self.groups);
        let is_full = count >= GROUPS_MAX || self.is_full();
        let (number, shard) = self.shard_of(group)?;
        let is_new = !shard.groups.contains_key(group);
        if is_new {
            if is_full {
                tracing::debug!(count, "no further group is begun: too many, or too large");
                return Err(GroupError::CoordinatorNotAvailable);
            }
            let entry = Entry::new(Group::new(limits, moment()));
            shard.groups.insert(Arc::clone(group), entry);
            self.groups += 1;
        }
        let shard = self.slots.get_mut(&number).ok_or(GroupError::NotCoordinator)?.shard()?;
        let entry = shard.groups.get_mut(group).ok_or(GroupError::NotCoordinator)?;
        Ok((number, entry))
    }

    /// After a group was asked something: does what it wants done, sets its timer, and lets it go
    /// where nothing is left of it.
    pub(super) fn settle(&mut self, number: PartitionNumber, id: &Arc<str>, out: Effects) {
        let mut answers = Effects::new();
        if let Some(Ok(shard)) = self.slots.get_mut(&number).map(Slot::shard) {
            for effect in out {
                let Effect::Store(ticket, metadata) = effect else {
                    answers.push(effect);
                    continue;
                };
                let completion = ticket.map_or(Completion::Noted, Completion::Stored);
                let records = vec![Record::group(id, &metadata)];
                shard.queued.push(Write { group: Arc::clone(id), records, completion });
                if let Some(entry) = shard.groups.get_mut(id) {
                    entry.writing += 1;
                }
            }
            if shard.groups.get(id).is_some_and(Entry::is_void)
                && let Some(entry) = shard.groups.remove(id)
            {
                self.dropped(number, id, &entry);
            }
        } else {
            answers = out;
        }
        self.answer(answers);
        self.count(number, id);
        self.set_timer(number, id);
    }

    /// Takes the group's present size into the sum.
    pub(super) fn count(&mut self, number: PartitionNumber, id: &Arc<str>) {
        let Some(Ok(shard)) = self.slots.get_mut(&number).map(Slot::shard) else { return };
        let Some(entry) = shard.groups.get_mut(id) else { return };
        let bytes = entry.bytes();
        self.bytes = self.bytes - entry.counted + bytes;
        entry.counted = bytes;
    }

    /// A group was let go.
    pub(super) fn dropped(&mut self, number: PartitionNumber, id: &Arc<str>, entry: &Entry) {
        self.groups -= 1;
        self.bytes -= entry.counted;
        if let Some(at) = entry.timer {
            self.timers.remove(&(at, number, Arc::clone(id)));
        }
    }

    /// Whether nothing more is to be remembered for now: `group.coordinator.memory.max.bytes`.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.config.memory_max
    }

    pub(super) fn set_timer(&mut self, number: PartitionNumber, id: &Arc<str>) {
        let Some(Ok(shard)) = self.slots.get_mut(&number).map(Slot::shard) else { return };
        let Some(entry) = shard.groups.get_mut(id) else { return };
        let Some(wake) = entry.group.wake_at() else { return };
        // A later one is set when the earlier has rung: most requests only put it off.
        if entry.timer.is_none_or(|timer| wake < timer) {
            if let Some(timer) = entry.timer.replace(wake) {
                self.timers.remove(&(timer, number, Arc::clone(id)));
            }
            self.timers.insert((wake, number, Arc::clone(id)));
        }
    }

    pub(super) fn answer(&mut self, answers: Effects) {
        for effect in answers {
            match effect {
                Effect::Join(token, answer) => {
                    if let Some(Waiter::Join(reply)) = self.waiting.remove(&token) {
                        let _ = reply.send(answer);
                    }
                }
                Effect::Sync(token, answer) => {
                    if let Some(Waiter::Sync(reply)) = self.waiting.remove(&token) {
                        let _ = reply.send(answer);
                    }
                }
                Effect::Store(..) => {}
            }
        }
    }

    fn tick(&mut self) {
        let now = moment();
        if self.recheck.is_some_and(|at| at <= now.at) {
            self.look_at_roles();
        }
        self.give_up_late(now.at);
        if self.expire_at <= now.at {
            self.expire_at = now.at + self.config.retention_check_interval;
            self.expire_offsets(now.wall_ms);
        }
        while let Some(due) = self.timers.first().filter(|(at, ..)| *at <= now.at).cloned() {
            self.timers.remove(&due);
            let (_, number, id) = due;
            let Some(Ok(shard)) = self.slots.get_mut(&number).map(Slot::shard) else { continue };
            let Some(entry) = shard.groups.get_mut(&id) else { continue };
            entry.timer = None;
            let mut out = Effects::new();
            entry.group.tick(now, &mut out);
            self.settle(number, &id, out);
        }
    }

    fn next_wake(&self) -> Instant {
        let timer = self.timers.first().map(|(at, ..)| *at);
        let late = self.deadlines.front().map(|(at, _)| *at);
        [timer, late, self.recheck].into_iter().flatten().fold(self.expire_at, Instant::min)
    }

    pub(super) fn new_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// A token for who waits.
    pub(super) fn token(&mut self, waiter: Waiter) -> Token {
        let token = Token(self.new_number());
        self.waiting.insert(token, waiter);
        token
    }
}

/// This moment.
pub(super) fn moment() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    Moment { at: Instant::now(), wall_ms }
}

/// Answers that nobody waits for any more are dropped.
pub(super) fn tell<T>(reply: oneshot::Sender<T>, answer: T) {
    let _ = reply.send(answer);
}
