//! What a member of a broker's group does, as a pure state machine. Knows no clock, no socket and no
//! bytes of Kafka's.
//!
//! # The member
//!
//! | state | entered | left by |
//! |---|---|---|
//! | outside | start; the group went on without it | the coordinator is known: `Join` |
//! | preparing | a rebalance, of an eager assignor: everything is released first | all `Released`: `Join` |
//! | joining | `Join` | `Joined`: syncing; refused: as below |
//! | syncing | `Joined` | `Synced`: stable; refused: as below |
//! | stable | `Synced` | a rebalance: preparing or joining |
//! | resting | the application did nothing for too long: `Leave` | it does something: outside |
//! | leaving | `Close`: everything is released | the last `Released`: `Leave`, then gone |
//! | gone | left; another has its `group.instance.id` | never |
//!
//! A rebalance begins when a heartbeat says so, when the application wants other topics, when the leader
//! sees other topics or partitions than it assigned, and when a cooperative member has released what
//! it was not given again.
//!
//! # Refusals
//!
//! | refused | joining, syncing | otherwise (heartbeat, commit) |
//! |---|---|---|
//! | moved | finds the coordinator, joins (again) | finds it; delivery goes on |
//! | loading | tries again | tries again |
//! | rebalancing | joins again | a rebalance |
//! | id required | joins with the id | - |
//! | unknown, old generation | loses everything, joins (unknown: without its id) | the same |
//! | fenced | loses everything, gone | the same |
//! | other | is told, tries again later | is not heeded |
//!
//! # A partition
//!
//! | state | delivered | entered | left |
//! |---|---|---|---|
//! | (none) | no | `Released`, `Lose` | `Begin`: owned |
//! | owned | yes, once its offset is known | the assignment has it, and its topic is known | `Release`; `Lose`, also where its topic gave way to another of the name |
//! | releasing | draining | the assignment has it no more, an eager rebalance, `Close` | `Released` |
//!
//! A member that cannot reach its coordinator delivers what it owns: it may not be the only one to do so
//! once its session is over, but cannot commit then, since the coordinator refuses its generation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use coordinator::rebalance::Topics;
use proto::{TopicId, TopicPartition};

/// Before a coordinator that was not found is looked for again; doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Why a request was not granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The coordinator is elsewhere, or cannot be reached.
    Moved,
    /// It is reading its state.
    Loading,
    /// The group is rebalancing.
    Rebalancing,
    /// Join with this id.
    IdRequired(String),
    /// The group does not know the member.
    Unknown,
    /// The group is in another generation.
    OldGeneration,
    /// Another has the same `group.instance.id`.
    Fenced,
    /// Something to tell.
    Other(String),
}

/// A member was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) member_id: String,
    pub(crate) generation: i32,
    /// This member assigns.
    pub(crate) leads: bool,
}

/// What happened.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// The answer to `Find`.
    Found(bool),
    /// The answer to `Join`.
    Joined(Result<Joined, Refused>),
    /// The leader assigns, from these topics.
    Assigned(Topics),
    /// The answer to `Sync`.
    Synced(Result<BTreeSet<TopicPartition>, Refused>),
    /// The answer to a heartbeat or a commit of an attempt to join.
    Answered(u64, Result<(), Refused>),
    /// The answer to `Release`.
    Released(TopicPartition),
    /// What is known of the topics that the group reads.
    Topics(Topics),
    /// The application wants other topics than it did.
    Resubscribed,
    /// The application did nothing for `max.poll.interval.ms`, or does again.
    Idle(bool),
    /// The answer to `Leave`, whatever it is.
    Left,
    /// Time has passed.
    Time,
    /// Leave the group.
    Close,
}

/// What to do. `Find`, `Join`, `Sync`, `Heartbeat` and `Leave` are requests: each is answered once,
/// unless another of them but a heartbeat follows, which takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Look for the coordinator.
    Find,
    /// Join, saying that these are owned.
    Join { owned: BTreeSet<TopicPartition> },
    /// Ask for the assignment; the leader brings it.
    Sync { leads: bool },
    /// A sign of life.
    Heartbeat,
    /// This member leaves the group: it is done with it, or will join as another.
    Leave(String),
    /// Deliver from where the group is.
    Begin(TopicPartition, TopicId),
    /// Stop delivery, wait for the application, commit; answered by `Released`.
    Release(TopicPartition),
    /// Stop delivery at once.
    Lose(TopicPartition),
    /// The group went on without this member.
    TellLost(Refused),
    /// The member is not let in; whether it is tried again.
    TellRefused(String, bool),
    /// Give `Input::Time` at this instant.
    WakeAt(Instant),
    /// The machine is done.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Outside,
    Preparing,
    Joining,
    Syncing,
    Stable,
    Resting,
    Leaving,
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coordinator {
    /// Not looked for before.
    Unknown {
        not_before: Option<Instant>,
    },
    Looking,
    Known,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    topic_id: TopicId,
    releasing: bool,
}

/// How a member behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// What stays is kept over a rebalance.
    pub(crate) cooperative: bool,
    /// It has a `group.instance.id`, and does not leave when it closes.
    pub(crate) is_static: bool,
    /// `heartbeat.interval.ms`.
    pub(crate) heartbeat: Duration,
    /// Before something refused is tried again.
    pub(crate) retry: Duration,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ClassicMember {
    manner: Manner,
    state: State,
    coordinator: Coordinator,
    pause: Duration,
    /// Empty: the group has not given one.
    member_id: String,
    generation: i32,
    /// Counts joins: an answer to what was said before one means nothing after it.
    attempt: u64,
    leads: bool,
    /// What the leader assigned from.
    assigned_from: Option<Topics>,
    topics: Topics,
    /// What the group gives to this member.
    mine: BTreeSet<TopicPartition>,
    held: BTreeMap<TopicPartition, Held>,
    /// Joins again when nothing is being released any more.
    rejoin: bool,
    /// A join or sync is under way.
    asked: bool,
    /// Not joined before.
    join_not_before: Option<Instant>,
    beat_at: Instant,
    beating: bool,
    left: bool,
}

impl ClassicMember {
    pub(crate) fn new(manner: Manner, now: Instant) -> Self {
        Self {
            manner,
            state: State::Outside,
            coordinator: Coordinator::Unknown { not_before: None },
            pause: PAUSE,
            member_id: String::new(),
            generation: -1,
            attempt: 0,
            leads: false,
            assigned_from: None,
            topics: Topics::new(),
            mine: BTreeSet::new(),
            held: BTreeMap::new(),
            rejoin: false,
            asked: false,
            join_not_before: None,
            beat_at: now,
            beating: false,
            left: false,
        }
    }

    /// Its id in the group; empty before it was given one.
    pub(crate) fn member_id(&self) -> &str {
        &self.member_id
    }

    /// The generation it is in, -1: none.
    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    /// Counts joins.
    pub(crate) fn attempt(&self) -> u64 {
        self.attempt
    }

    /// Whether the coordinator may take a commit now.
    pub(crate) fn may_commit(&self) -> bool {
        let speaks = match self.state {
            State::Preparing | State::Stable | State::Leaving => true,
            // What is kept goes on, in the generation before.
            State::Joining => self.manner.cooperative,
            _ => false,
        };
        speaks && self.generation >= 0 && self.coordinator == Coordinator::Known
    }

    /// Partitions that are delivered, or will be when their offsets are known.
    #[cfg(test)]
    pub(crate) fn owned(&self) -> impl Iterator<Item = &TopicPartition> {
        self.held.iter().filter(|(_, held)| !held.releasing).map(|(partition, _)| partition)
    }

    /// Takes what happened and says what to do.
    pub(crate) fn handle(
        &mut self,
        inputs: impl IntoIterator<Item = Input>,
        now: Instant,
    ) -> Vec<Effect> {
        let mut out = Vec::new();
        for input in inputs {
            self.take(input, now, &mut out);
        }
        self.follow(&mut out);
        self.look_for_rebalance(&mut out);
        self.speak(now, &mut out);
        out
    }

    fn take(&mut self, input: Input, now: Instant, out: &mut Vec<Effect>) {
        match input {
            Input::Found(true) => {
                self.coordinator = Coordinator::Known;
                self.beat_at = now;
            }
            Input::Found(false) => self.moved(now),
            Input::Joined(answer) if self.state == State::Joining => {
                self.asked = false;
                match answer {
                    Ok(joined) => {
                        self.pause = PAUSE;
                        self.state = State::Syncing;
                        self.member_id = joined.member_id;
                        self.generation = joined.generation;
                        self.leads = joined.leads;
                        self.assigned_from = None;
                    }
                    Err(refused) => self.refused(refused, now, out),
                }
            }
            Input::Synced(answer) if self.state == State::Syncing => {
                self.asked = false;
                match answer {
                    Ok(mine) => {
                        self.state = State::Stable;
                        self.beat_at = now + self.manner.heartbeat;
                        // A cooperative leader gives these to others once they are let go.
                        let revokes = self.held.keys().any(|partition| !mine.contains(partition));
                        self.rejoin |= self.manner.cooperative && revokes;
                        self.mine = mine;
                    }
                    Err(refused) => self.refused(refused, now, out),
                }
            }
            Input::Assigned(topics) => self.assigned_from = Some(topics),
            Input::Answered(attempt, answer) if attempt == self.attempt => {
                self.beating = false;
                match answer {
                    Ok(()) => self.pause = PAUSE,
                    // What is said meanwhile is of the generation before; and who is not a member any
                    // more was told.
                    Err(refused)
                        if (self.is_asking() || self.generation < 0)
                            && refused != Refused::Moved => {}
                    Err(refused) => self.refused(refused, now, out),
                }
            }
            Input::Released(partition) => {
                if self.held.get(&partition).is_some_and(|held| held.releasing) {
                    self.held.remove(&partition);
                }
            }
            Input::Topics(topics) => self.topics = topics,
            Input::Resubscribed => self.rejoin |= self.state == State::Stable || self.is_asking(),
            Input::Idle(idle) => self.idle(idle, out),
            Input::Left => self.left |= self.state == State::Leaving,
            Input::Close if !matches!(self.state, State::Leaving | State::Gone) => {
                self.state = State::Leaving;
                self.asked = false;
            }
            Input::Joined(_)
            | Input::Synced(_)
            | Input::Answered(..)
            | Input::Time
            | Input::Close => {}
        }
    }

    fn is_asking(&self) -> bool {
        matches!(self.state, State::Joining | State::Syncing)
    }

    fn moved(&mut self, now: Instant) {
        let not_before = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.coordinator = Coordinator::Unknown { not_before };
    }

    fn refused(&mut self, refused: Refused, now: Instant, out: &mut Vec<Effect>) {
        let asking = self.is_asking();
        if asking {
            // Whatever comes of it, it begins with a join.
            self.state = State::Outside;
        }
        match refused {
            Refused::Moved if self.coordinator == Coordinator::Known => self.moved(now),
            Refused::Moved => {}
            Refused::Loading if asking => self.join_not_before = Some(now + self.manner.retry),
            Refused::Loading => self.beat_at = now + self.manner.retry,
            Refused::Rebalancing if asking => {}
            Refused::Rebalancing => self.rejoin |= self.state == State::Stable,
            Refused::IdRequired(id) => self.member_id = id,
            Refused::Unknown | Refused::OldGeneration | Refused::Fenced => {
                let again = refused != Refused::Fenced;
                if refused == Refused::Unknown {
                    self.member_id.clear();
                }
                self.generation = -1;
                self.lose_all(out);
                match (self.state, again) {
                    (State::Leaving, _) => self.left = true,
                    (_, true) => {
                        self.state = State::Outside;
                        out.push(Effect::TellLost(refused));
                    }
                    (_, false) => {
                        self.state = State::Gone;
                        let why = "another process has the same group.instance.id and took this \
                                   member's place: give each its own";
                        out.push(Effect::TellRefused(why.to_owned(), false));
                    }
                }
            }
            Refused::Other(why) if asking => {
                self.join_not_before = Some(now + PAUSE_MAX);
                out.push(Effect::TellRefused(why, true));
            }
            Refused::Other(_) => {}
        }
    }

    fn idle(&mut self, idle: bool, out: &mut Vec<Effect>) {
        match (idle, self.state) {
            (true, State::Leaving | State::Gone | State::Resting) => {}
            (true, _) => {
                self.lose_all(out);
                self.state = State::Resting;
                self.asked = false;
                let member_id = std::mem::take(&mut self.member_id);
                if !member_id.is_empty() {
                    out.push(Effect::Leave(member_id));
                }
                self.generation = -1;
                self.attempt += 1;
                self.beating = false;
            }
            (false, State::Resting) => self.state = State::Outside,
            (false, _) => {}
        }
    }

    fn lose_all(&mut self, out: &mut Vec<Effect>) {
        self.mine.clear();
        out.extend(std::mem::take(&mut self.held).into_keys().map(Effect::Lose));
    }

    /// Releases what is not this member's any more, begins what is.
    fn follow(&mut self, out: &mut Vec<Effect>) {
        let all = matches!(self.state, State::Preparing | State::Leaving);
        let stable = self.state == State::Stable;
        for (partition, held) in &mut self.held {
            let keeps = !all && (!stable || self.mine.contains(partition));
            if !keeps && !held.releasing {
                held.releasing = true;
                out.push(Effect::Release(partition.clone()));
            }
        }
        if !stable {
            return;
        }
        for partition in &self.mine {
            let Some(topic) = self.topics.get(&*partition.topic) else { continue };
            match self.held.get(partition) {
                Some(held) if held.releasing || held.topic_id == topic.topic_id => continue,
                // A topic created anew: what was read of the old one counts for nothing.
                Some(_) => out.push(Effect::Lose(partition.clone())),
                None => {}
            }
            let held = Held { topic_id: topic.topic_id, releasing: false };
            self.held.insert(partition.clone(), held);
            out.push(Effect::Begin(partition.clone(), topic.topic_id));
        }
    }

    fn look_for_rebalance(&mut self, out: &mut Vec<Effect>) {
        if self.state == State::Stable {
            let changed = self.assigned_from.as_ref().is_some_and(|from| *from != self.topics);
            if self.leads && changed && !self.is_releasing() {
                self.assigned_from = None;
                self.rejoin = true;
            }
            if self.rejoin && !self.is_releasing() {
                self.rejoin = false;
                self.state = match self.manner.cooperative {
                    true => State::Outside,
                    false => State::Preparing,
                };
                self.follow(out);
            }
        }
        if self.state == State::Preparing && self.held.is_empty() {
            self.state = State::Outside;
        }
    }

    fn is_releasing(&self) -> bool {
        self.held.values().any(|held| held.releasing)
    }

    /// Asks what is to be asked now, or says when.
    fn speak(&mut self, now: Instant, out: &mut Vec<Effect>) {
        if self.state == State::Gone {
            out.push(Effect::Done);
            return;
        }
        if self.state == State::Leaving && self.held.is_empty() && self.leave(out) {
            return;
        }
        if self.state == State::Resting {
            return;
        }
        if self.coordinator != Coordinator::Known {
            self.find(now, out);
            return;
        }
        match self.state {
            State::Outside => self.join(now, out),
            State::Syncing if !self.asked => {
                self.asked = true;
                out.push(Effect::Sync { leads: self.leads });
            }
            State::Preparing | State::Stable | State::Leaving if self.generation >= 0 => {
                if !self.beating && now >= self.beat_at {
                    self.beating = true;
                    self.beat_at = now + self.manner.heartbeat;
                    out.push(Effect::Heartbeat);
                }
                if !self.beating {
                    out.push(Effect::WakeAt(self.beat_at));
                }
            }
            _ => {}
        }
    }

    /// True: there is nothing more to do, or only to wait for the answer.
    fn leave(&mut self, out: &mut Vec<Effect>) -> bool {
        let stays = self.manner.is_static || self.member_id.is_empty();
        if self.left || stays || self.coordinator != Coordinator::Known {
            self.state = State::Gone;
            out.push(Effect::Done);
        } else if !self.asked {
            self.asked = true;
            out.push(Effect::Leave(self.member_id.clone()));
        }
        true
    }

    fn find(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let Coordinator::Unknown { not_before } = self.coordinator else { return };
        match not_before.filter(|at| *at > now) {
            Some(at) => out.push(Effect::WakeAt(at)),
            None => {
                self.beating = false;
                self.coordinator = Coordinator::Looking;
                out.push(Effect::Find);
            }
        }
    }

    fn join(&mut self, now: Instant, out: &mut Vec<Effect>) {
        if let Some(at) = self.join_not_before.filter(|at| *at > now) {
            out.push(Effect::WakeAt(at));
            return;
        }
        // An eager member comes with nothing; a cooperative one lets go of what it must first.
        if self.is_releasing() || (!self.manner.cooperative && !self.held.is_empty()) {
            self.state = if self.manner.cooperative { State::Outside } else { State::Preparing };
            self.follow(out);
            return;
        }
        self.state = State::Joining;
        self.attempt += 1;
        self.beating = false;
        self.asked = true;
        self.rejoin = false;
        out.push(Effect::Join { owned: self.held.keys().cloned().collect() });
    }
}
