//! The fetcher's side: what to fetch from whom, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::client::TopicMetadata;
use proto::record::leader_epochs;
use proto::{BrokerId, ErrorCode, LeaderEpoch, Offset, TopicId, v1};

use super::state::{Assigned, Doubt, FetchFrom, Fetched, Item, Leader, Problem, State};
use super::{Shared, StartAt};
use crate::config::{OffsetReset, OnDamage};
use crate::decoder::Damage;
use crate::epoch_trail::worth_noting;
use crate::event::Event;
use crate::positions::Positions;

/// What does not hold is fetched so many times more; the last time the broker checks it first.
const DOUBTS_MAX: u32 = 2;
/// A topic that was there counts as deleted when it has been missing this long.
const MISSING_IS_DELETED: Duration = Duration::from_millis(500);

/// A partition to fetch.
#[derive(Debug, Clone)]
pub(crate) struct Want {
    pub(crate) positions: Arc<Positions>,
    pub(crate) topic_id: TopicId,
    pub(crate) offset: Offset,
    pub(crate) epoch: LeaderEpoch,
    /// Of the record before `offset`, if it is known.
    pub(crate) last_epoch: Option<LeaderEpoch>,
    /// The broker is to check the batch there first.
    pub(crate) verify: bool,
}

/// What to fetch from one broker.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    pub(crate) list: Vec<Want>,
    /// Most bytes of one round, so that all rounds under way stay below their half of
    /// `queued.max.bytes`.
    pub(crate) round_bytes: u64,
}

/// One answer for one partition.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) positions: Arc<Positions>,
    pub(crate) from: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) high_watermark: Offset,
    pub(crate) log_start: Offset,
}

/// A partition whose start must be asked of its leader.
#[derive(Debug, Clone)]
pub(crate) struct Unresolved {
    pub(crate) positions: Arc<Positions>,
    pub(crate) topic_id: Option<TopicId>,
    pub(crate) broker: BrokerId,
    pub(crate) start: StartAt,
}

impl Shared {
    /// The bytes one queue may hold before its partitions are no longer fetched.
    pub(super) fn queue_share(&self, state: &State) -> u64 {
        (self.config.queued_max_bytes / 2 / state.queues.len().max(1) as u64).max(1)
    }

    /// What to fetch from this broker now.
    pub(crate) fn wants(&self, broker: BrokerId) -> Wants {
        let state = self.state.lock();
        let list = state
            .partitions
            .values()
            .filter(|p| p.leader.is_some_and(|leader| leader.broker == broker))
            .filter(|p| !p.positions.is_paused())
            .filter(|p| state.queues.get(p.queue).is_some_and(|q| !q.full && !q.abandoned))
            .filter_map(|p| {
                let FetchFrom::At(offset) = p.fetch else { return None };
                Some(Want {
                    positions: Arc::clone(&p.positions),
                    topic_id: p.topic_id?,
                    offset,
                    epoch: p.leader.map_or(LeaderEpoch::UNKNOWN, |leader| leader.epoch),
                    last_epoch: p.positions.trail(|trail| trail.before(offset)),
                    verify: p.doubt.is_some_and(|doubt| doubt.offset == offset && doubt.times > 1),
                })
            })
            .collect();
        let brokers = leaders(&state).len().max(1) as u64;
        let round_bytes = (self.config.queued_max_bytes / 4 / brokers).max(1);
        Wants { list, round_bytes: round_bytes.min(self.config.fetch_max_bytes) }
    }

    /// The brokers that lead something assigned.
    pub(crate) fn leaders(&self) -> BTreeSet<BrokerId> {
        leaders(&self.state.lock())
    }

    /// Queues an answer; false where it is not wanted any more.
    pub(crate) fn push_answer(&self, answer: Answer) -> bool {
        // Headers only, and without the lock: readers wait for that. One that does not parse is their matter.
        let epochs = worth_noting(leader_epochs(&answer.chunks));
        let mut state = self.state.lock();
        let share = self.queue_share(&state);
        let Some(assigned) = state.current(&answer.positions) else { return false };
        if assigned.fetch != FetchFrom::At(answer.from) || answer.next_offset < answer.from {
            return false;
        }
        assigned.fetch = FetchFrom::At(answer.next_offset);
        answer.positions.trail(|trail| {
            epochs
                .iter()
                .for_each(|(epoch, offset)| trail.note(*epoch, (*offset).max(answer.from)));
        });
        assigned.high_watermark = Some(answer.high_watermark);
        assigned.log_start = Some(answer.log_start);
        let (queue, resumed) = (assigned.queue, clear_problem(assigned));
        let bytes = answer.chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let fetched = Fetched {
            positions: answer.positions,
            from: answer.from,
            next_offset: answer.next_offset,
            chunks: answer.chunks,
            bytes,
        };
        let became_full = state.push_item(queue, Item::Answer(fetched), share);
        if let Some(event) = resumed {
            event.log();
            state.push_event(event);
        }
        self.wake_readers(&mut state);
        drop(state);
        if became_full {
            self.wants_changed();
        }
        true
    }

    /// A round that named these partitions ended without a complaint about them.
    pub(crate) fn fetched_well(&self, partitions: &[Arc<Positions>]) {
        let mut state = self.state.lock();
        for positions in partitions {
            let Some(assigned) = state.current(positions) else { continue };
            if let Some(event) = clear_problem(assigned) {
                event.log();
                state.push_event(event);
            }
        }
        self.wake_readers(&mut state);
    }

    /// Whether this broker still counts as the partition's leader: what an earlier one says of it, that
    /// it leads no more above all, says nothing of the one that does.
    pub(crate) fn is_led_by(&self, positions: &Arc<Positions>, broker: BrokerId) -> bool {
        let mut state = self.state.lock();
        let leader = state.current(positions).and_then(|assigned| assigned.leader);
        leader.is_some_and(|leader| leader.broker == broker)
    }

    /// A partition cannot be fetched now: its leader is looked up anew, at once the first time,
    /// then with growing pauses.
    pub(crate) fn set_problem(&self, positions: &Arc<Positions>, why: impl Into<String>) {
        let mut state = self.state.lock();
        if let Some(assigned) = state.current(positions) {
            self.note_problem(assigned, why.into(), Instant::now());
        }
        drop(state);
        self.wants_changed();
        self.work.notify_one();
    }

    /// A broker cannot be reached, or its stream broke.
    pub(crate) fn broker_failed(&self, broker: BrokerId, why: &str) {
        let now = Instant::now();
        let mut state = self.state.lock();
        for assigned in state.partitions.values_mut() {
            if assigned.leader.is_some_and(|leader| leader.broker == broker) {
                self.note_problem(assigned, why.to_owned(), now);
            }
        }
        drop(state);
        self.wants_changed();
        self.work.notify_one();
    }

    /// A broker does not answer, and its connection still stands: the clock of the stall begins.
    pub(crate) fn broker_silent(&self, broker: BrokerId, why: &str) {
        let now = Instant::now();
        let mut state = self.state.lock();
        for assigned in state.partitions.values_mut() {
            if assigned.leader.is_some_and(|leader| leader.broker == broker) {
                let leader = assigned.leader;
                self.note_problem(assigned, why.to_owned(), now);
                assigned.leader = leader;
            }
        }
    }

    /// A silent broker answers again.
    pub(crate) fn broker_answers(&self, broker: BrokerId) {
        let state = self.state.lock();
        let led = |p: &&Assigned| p.leader.is_some_and(|leader| leader.broker == broker);
        let partitions: Vec<_> =
            state.partitions.values().filter(led).map(|p| Arc::clone(&p.positions)).collect();
        drop(state);
        self.fetched_well(&partitions);
    }

    fn note_problem(&self, assigned: &mut Assigned, why: String, now: Instant) {
        let leader = assigned.leader.take();
        let problem = assigned.problem.get_or_insert_with(|| Problem {
            why: String::new(),
            since: now,
            reported: 0,
            retry_at: now,
            tries: 0,
            leader,
        });
        problem.leader = leader.or(problem.leader);
        tracing::debug!(partition = %assigned.positions.partition, why, tries = problem.tries, "not fetched");
        problem.why = why;
        problem.retry_at = now + self.backoff(problem.tries);
        problem.tries = problem.tries.saturating_add(1);
    }

    /// No pause before the first try, then `retry.backoff.ms` doubling.
    fn backoff(&self, tries: u32) -> Duration {
        let Some(doublings) = tries.checked_sub(1) else { return Duration::ZERO };
        let pause = self.config.retry_backoff.saturating_mul(1 << doublings.min(16));
        pause.min(self.config.retry_backoff_max)
    }

    /// The leader says that the offset wanted is not in its log.
    pub(crate) fn position_lost(&self, positions: &Arc<Positions>, wanted: Offset) {
        let mut state = self.state.lock();
        let assigned = state.current(positions).filter(|a| a.fetch == FetchFrom::At(wanted));
        if let Some(assigned) = assigned {
            assigned.fetch = FetchFrom::Lost(wanted);
        }
        drop(state);
        self.wants_changed();
        self.work.notify_one();
    }

    /// What the log holds, for a position that was lost: goes on by `auto.offset.reset`, with an
    /// event in the order of the records.
    pub(crate) fn out_of_range(
        &self,
        positions: &Arc<Positions>,
        wanted: Offset,
        log_start: Offset,
        high_watermark: Offset,
    ) {
        if (log_start..=high_watermark).contains(&wanted) {
            // It came into range meanwhile: tried again, with growing pauses.
            let mut state = self.state.lock();
            if let Some(assigned) = state.current(positions)
                && assigned.fetch == FetchFrom::Lost(wanted)
            {
                assigned.fetch = FetchFrom::At(wanted);
                let why = format!("offset {wanted} is not there yet");
                self.note_problem(assigned, why, Instant::now());
            }
            drop(state);
            self.work.notify_one();
            return;
        }
        let resume_at = match self.config.auto_offset_reset {
            OffsetReset::Earliest => Some(log_start),
            OffsetReset::Latest => Some(high_watermark),
            OffsetReset::None => None,
        };
        let partition = positions.partition.clone();
        let event = Event::OutOfRange { partition, wanted, log_start, high_watermark, resume_at };
        let next = resume_at.map_or(FetchFrom::Halted, FetchFrom::At);
        self.queue_event(positions, FetchFrom::Lost(wanted), next, event);
    }

    /// A batch could not be read. Where the wire may have done it, it is fetched again, then
    /// checked by the broker (`None`: more is to come); else `on.damage` decides, with an event for
    /// the reader that met it. `None`, too, where the partition is not delivered any more.
    pub(super) fn damaged(&self, positions: &Arc<Positions>, damage: Damage) -> Option<Event> {
        let Damage { offset, resume_at, why, is_doubtful } = damage;
        let mut state = self.state.lock();
        let share = self.queue_share(&state);
        // What is void needs no reading.
        let assigned = state.current(positions).filter(|_| !positions.is_parted())?;
        let before = assigned.doubt.filter(|doubt| doubt.offset == offset);
        let times = before.map_or(1, |doubt| doubt.times + 1);
        let event = if is_doubtful && times <= DOUBTS_MAX {
            assigned.doubt = Some(Doubt { offset, times });
            assigned.fetch = FetchFrom::At(offset);
            positions.trail(|trail| trail.cut(offset));
            let partition = &positions.partition;
            tracing::warn!(%partition, %offset, why, times, "what was fetched does not hold");
            None
        } else {
            let (fetch, event) = self.decide_damage(positions, offset, resume_at, why);
            assigned.fetch = fetch;
            positions.trail(|trail| trail.begin(offset, None));
            Some(event)
        };
        state.drop_items(positions, share);
        drop(state);
        self.wants_changed();
        event.inspect(Event::log)
    }

    /// What `on.damage` says: where to fetch next, and what to tell.
    fn decide_damage(
        &self,
        positions: &Positions,
        offset: Offset,
        resume_at: Option<Offset>,
        why: String,
    ) -> (FetchFrom, Event) {
        let partition = positions.partition.clone();
        let resume_at = resume_at.filter(|resume_at| *resume_at > offset);
        let skip = resume_at.filter(|_| self.config.on_damage == OnDamage::Skip);
        let skipped = skip.is_some();
        let event = Event::Damaged { partition, offset, resume_at, why, skipped };
        (skip.map_or(FetchFrom::Halted, FetchFrom::At), event)
    }

    /// The leader said that what lies at the fetch position is damaged, up to `resume_at`.
    pub(crate) fn damaged_at_leader(
        &self,
        positions: &Arc<Positions>,
        at: Offset,
        resume_at: Option<Offset>,
        why: String,
    ) {
        let (next, event) = self.decide_damage(positions, at, resume_at, why);
        self.queue_event(positions, FetchFrom::At(at), next, event);
    }

    fn queue_event(
        &self,
        positions: &Arc<Positions>,
        before: FetchFrom,
        after: FetchFrom,
        event: Event,
    ) {
        let mut state = self.state.lock();
        let share = self.queue_share(&state);
        let Some(assigned) = state.current(positions).filter(|a| a.fetch == before) else { return };
        assigned.fetch = after;
        // Elsewhere in the log: what is before it is not known.
        positions.trail(|trail| trail.begin(Offset(0), None));
        let queue = assigned.queue;
        event.log();
        state.push_item(queue, Item::Event(Arc::clone(positions), event), share);
        self.wake_readers(&mut state);
        drop(state);
        self.wants_changed();
    }

    /// Topics whose metadata are needed now; else when to look again.
    pub(crate) fn topics_without_leader(
        &self,
        now: Instant,
    ) -> (BTreeSet<String>, Option<Instant>) {
        let state = self.state.lock();
        let mut topics = BTreeSet::new();
        let mut next: Option<Instant> = None;
        for assigned in state.partitions.values().filter(|p| p.leader.is_none()) {
            let at = assigned.problem.as_ref().map_or(now, |problem| problem.retry_at);
            if at <= now {
                topics.insert(assigned.positions.partition.topic.to_string());
            } else {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        (topics, next)
    }

    /// Every topic assigned, for the periodic refresh.
    pub(crate) fn topics(&self) -> BTreeSet<String> {
        let state = self.state.lock();
        state.partitions.keys().map(|partition| partition.topic.to_string()).collect()
    }

    /// No broker could be asked for metadata.
    pub(crate) fn metadata_failed(&self, topics: &BTreeSet<String>, why: &str) {
        let now = Instant::now();
        let mut state = self.state.lock();
        for assigned in state.partitions.values_mut() {
            if assigned.leader.is_none() && topics.contains(&*assigned.positions.partition.topic) {
                self.note_problem(assigned, format!("no metadata: {why}"), now);
            }
        }
    }

    /// Takes up who leads, and notices topics that are gone or new under an old name.
    pub(crate) fn apply_metadata(&self, topic: &str, found: Result<&TopicMetadata, &v1::Error>) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let mut events = BTreeMap::new();
        for assigned in state.partitions.values_mut() {
            if *assigned.positions.partition.topic != *topic {
                continue;
            }
            let event = match found {
                Ok(found) => self.found(assigned, found, now),
                Err(error) => self.not_found(assigned, error, now),
            };
            // A deletion concerns all partitions: told once.
            events.extend(event.map(|event| (event.partition().cloned(), event)));
        }
        let share = self.queue_share(&state);
        state.drop_stopped(share);
        for event in events.into_values() {
            event.log();
            state.push_event(event);
        }
        self.wake_readers(&mut state);
        drop(state);
        self.wants_changed();
        self.drained.notify_waiters();
    }

    fn not_found(&self, assigned: &mut Assigned, error: &v1::Error, now: Instant) -> Option<Event> {
        self.note_problem(assigned, error.message.clone(), now);
        let missing = matches!(
            ErrorCode::from_code(error.code),
            ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId
        );
        if !missing {
            return None;
        }
        let since = *assigned.missing_since.get_or_insert(now);
        let known = assigned.topic_id.is_some()
            && assigned.fetch != FetchFrom::Halted
            && !self.grouped.load(Ordering::Relaxed);
        if !known || now.duration_since(since) < MISSING_IS_DELETED {
            return None;
        }
        assigned.fetch = FetchFrom::Halted;
        let topic = assigned.positions.partition.topic.to_string();
        Some(Event::TopicDeleted { topic, topic_id: assigned.topic_id })
    }

    fn found(&self, assigned: &mut Assigned, topic: &TopicMetadata, now: Instant) -> Option<Event> {
        assigned.missing_since = None;
        let mut event = None;
        if assigned.topic_id.is_some_and(|known| known != topic.id) {
            if self.grouped.load(Ordering::Relaxed) {
                let why = "the topic was created anew, and the group's plan does not say so yet";
                self.note_problem(assigned, why.to_owned(), now);
                return None;
            }
            let partition = assigned.positions.partition.clone();
            assigned.positions.stop();
            assigned.positions = Arc::new(Positions::new(partition.clone()));
            assigned.fetch = self.reset();
            event = Some(Event::TopicRecreated { partition, topic_id: topic.id });
        }
        assigned.topic_id = Some(topic.id);
        let number = assigned.positions.partition.partition;
        let found = usize::try_from(number).ok().and_then(|number| topic.partitions.get(number));
        match found.map(|p| (p.leader, p.leader_epoch)) {
            Some((Some(broker), epoch)) => {
                let leader = Leader { broker, epoch };
                assigned.leader = Some(leader);
                // What failed with another leader does not make this one wait.
                let problem = assigned.problem.as_mut();
                if let Some(problem) = problem.filter(|p| p.leader.is_some_and(|l| l != leader)) {
                    (problem.tries, problem.leader) = (0, Some(leader));
                }
            }
            Some((None, _)) => {
                self.note_problem(assigned, "no live broker leads the partition".into(), now);
            }
            None => {
                let count = topic.partitions.len();
                let why = format!("the topic has {count} partitions, numbered from 0");
                self.note_problem(assigned, why, now);
            }
        }
        event
    }

    fn reset(&self) -> FetchFrom {
        match self.config.auto_offset_reset {
            OffsetReset::Earliest => FetchFrom::Unresolved(StartAt::Beginning),
            OffsetReset::Latest => FetchFrom::Unresolved(StartAt::End),
            OffsetReset::None => FetchFrom::Halted,
        }
    }

    /// Partitions with a leader whose start must be asked of it. A lost position is at `Offset`.
    pub(crate) fn unresolved(&self) -> Vec<Unresolved> {
        let state = self.state.lock();
        let unresolved = state.partitions.values().filter_map(|assigned| {
            let start = match assigned.fetch {
                FetchFrom::Unresolved(start) => start,
                FetchFrom::Lost(wanted) => StartAt::Offset(wanted),
                FetchFrom::At(_) | FetchFrom::Parted(_) | FetchFrom::Halted => return None,
            };
            Some(Unresolved {
                positions: Arc::clone(&assigned.positions),
                topic_id: assigned.topic_id,
                broker: assigned.leader?.broker,
                start,
            })
        });
        unresolved.collect()
    }

    /// The leader's answer for a start.
    pub(crate) fn resolved(&self, positions: &Arc<Positions>, offset: Offset) {
        let mut state = self.state.lock();
        let Some(assigned) = state.current(positions) else { return };
        if matches!(assigned.fetch, FetchFrom::Unresolved(_)) {
            assigned.fetch = FetchFrom::At(offset);
            positions.begin_at(offset);
        }
        drop(state);
        self.wants_changed();
    }

    /// Reports what has stood still for `stall.report.ms`, again at each multiple.
    pub(crate) fn report_stalls(&self, now: Instant) {
        let mut state = self.state.lock();
        let mut events = Vec::new();
        for assigned in state.partitions.values_mut() {
            let Some(problem) = &mut assigned.problem else { continue };
            let since = now.duration_since(problem.since);
            if since >= self.config.stall_report * (problem.reported + 1) {
                problem.reported += 1;
                let (partition, why) = (assigned.positions.partition.clone(), problem.why.clone());
                events.push(Event::Stalled { partition, why, since });
            }
        }
        for event in events {
            event.log();
            state.push_event(event);
        }
        self.wake_readers(&mut state);
    }
}

fn leaders(state: &State) -> BTreeSet<BrokerId> {
    state.partitions.values().filter_map(|p| p.leader).map(|leader| leader.broker).collect()
}

fn clear_problem(assigned: &mut Assigned) -> Option<Event> {
    let problem = assigned.problem.take()?;
    let partition = assigned.positions.partition.clone();
    (problem.reported > 0).then_some(Event::Resumed { partition })
}
