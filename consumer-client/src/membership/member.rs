//! What a member of a group does, as a pure state machine. Knows no clock, no socket and no
//! ZooKeeper.
//!
//! # The member
//!
//! | state | entered | left |
//! |---|---|---|
//! | away | start; session expired | `SessionLive`: registers |
//! | registering | `SessionLive`; own id missing among the members | `Registered` |
//! | member | `Registered` | `SessionLost`; `Close` |
//! | closing | `Close`: releases everything | last `Released`: `Deregister` |
//!
//! # A partition
//!
//! | state | delivered | entered from | by | left by |
//! |---|---|---|---|---|
//! | (none) | no | any | released, lost, not granted | the plan gives it: `Claim` |
//! | claiming | no | (none), waiting | `Claim` | `Claimed`: owned, waiting, none |
//! | waiting | no | claiming | another owner node: `AwaitOwner` | `OwnerGone`, plan: none |
//! | owned | yes | claiming, reclaiming | granted | plan, expiry, refused commit |
//! | orphaned | yes | owned, reclaiming | the session expired | plan: reclaiming, releasing |
//! | reclaiming | yes | orphaned | `Claim` in the new session | `Claimed`: owned, orphaned, none |
//! | releasing | draining | owned, orphaned | `Release` | `Released`: none |
//!
//! # The plan
//!
//! When what the plan was computed from differs from what is seen (members, their subscriptions,
//! topics, partitions), the lowest live member writes a new one after `quiet` without a change, at
//! the latest after [`ANY_MEMBER_AFTER`]; after that any member may, in the order of the ids.
//! Writes are conditional on the version read, so of several writers one wins and all follow it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator::rebalance::{Members, Topics};
use coordinator::registry::plan::Agreed;
use proto::{TopicId, TopicPartition};

/// After this long with an outdated plan any member may write one.
pub(crate) const ANY_MEMBER_AFTER: Duration = Duration::from_secs(2);
/// Between members that all may write, so that they do not all at once.
const RANK_STEP: Duration = Duration::from_millis(100);
/// Before something that the registry could not answer is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(300);

/// What a plan is computed from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Live members.
    pub(crate) members: Members,
    /// The registered topics that any member subscribes to.
    pub(crate) topics: Topics,
}

/// A partition in a member's part of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) topic_id: TopicId,
    pub(crate) stream: u32,
}

/// What happened.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// A session is there: the first, or a new one after an expiry, with its number.
    SessionLive(u64),
    /// The session expired: all its ephemerals are gone or going.
    SessionLost,
    /// The id node is there, in the present session.
    Registered,
    /// Members or topics, as read now.
    Seen(Seen),
    /// The plan node, as read now; `None` while there is none.
    Plan(Option<Agreed>),
    /// The answer to `WritePlan`, whatever it was: a new version shows as `Plan`.
    PlanWritten,
    /// The registry could not answer `WritePlan`.
    PlanNotWritten,
    /// The answer to `Claim`.
    Claimed {
        /// The partition.
        partition: TopicPartition,
        /// The session it was claimed in.
        session: u64,
        /// The generation of the plan it was claimed by.
        generation: i32,
        /// What came of it.
        outcome: Claimed,
    },
    /// The answer to `AwaitOwner`.
    OwnerGone(TopicPartition),
    /// The answer to `Release`.
    Released(TopicPartition),
    /// A commit was refused: another member has claimed the partition since.
    CommitRefused(TopicPartition),
    /// Time has passed.
    Time,
    /// Leave the group.
    Close,
}

/// What came of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claimed {
    /// The owner node is ours and the offset node was rewritten. Delivery runs.
    Granted,
    /// The owner node of an earlier session of this member is there.
    HeldByOldSelf,
    /// Another member's owner node is there.
    Held,
    /// The plan has another version by now.
    PlanMoved,
    /// The registry could not answer, or the session ended meanwhile.
    Unanswered,
}

/// What to do. Each that names an answer gets exactly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Make the id node; answered by `Registered`.
    Register,
    /// Compute a plan and write it on the condition that the node has this version (`None`: is not
    /// there); answered by `PlanWritten` or `PlanNotWritten`.
    WritePlan { expected: Option<i32>, seen: Seen },
    /// In one transaction: the plan has this version, make the owner node, rewrite the offset node.
    /// Granted, delivery begins at the stored offset; where it runs already (`running`) and nobody
    /// else claimed since, it goes on. Answered by `Claimed`.
    Claim { partition: TopicPartition, share: Share, generation: i32, running: bool },
    /// Answered by `OwnerGone` when the owner node is not there (any more).
    AwaitOwner(TopicPartition),
    /// Stop delivery, wait for the application, commit, delete the owner node; answered by
    /// `Released`.
    Release(TopicPartition),
    /// Stop delivery at once: the partition is another's.
    Lose(TopicPartition),
    /// Give `Input::Time` at this instant.
    WakeAt(Instant),
    /// Everything is released: remove the id node. The machine is done.
    Deregister,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Away,
    Registering,
    Member,
    Closing,
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    Claiming,
    Waiting,
    Owned,
    Orphaned,
    Reclaiming,
    Releasing,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    hold: Hold,
    share: Share,
    /// Not tried again before.
    retry_at: Option<Instant>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Member {
    id: String,
    quiet: Duration,
    presence: Presence,
    session: u64,
    seen: Seen,
    seen_changed: Option<Instant>,
    plan: Option<Agreed>,
    /// What it gives to this member.
    mine: BTreeMap<TopicPartition, Share>,
    /// The plan node was read since the session began.
    plan_known: bool,
    outdated_since: Option<Instant>,
    writing: bool,
    write_not_before: Option<Instant>,
    held: BTreeMap<TopicPartition, Held>,
}

impl Member {
    pub(crate) fn new(id: String, quiet: Duration) -> Self {
        Self {
            id,
            quiet,
            presence: Presence::Away,
            session: 0,
            seen: Seen::default(),
            seen_changed: None,
            plan: None,
            mine: BTreeMap::new(),
            plan_known: false,
            outdated_since: None,
            writing: false,
            write_not_before: None,
            held: BTreeMap::new(),
        }
    }

    /// Partitions that are delivered now.
    #[cfg(test)]
    pub(crate) fn delivering(&self) -> impl Iterator<Item = &TopicPartition> {
        let delivered = [Hold::Owned, Hold::Orphaned, Hold::Reclaiming];
        self.held.iter().filter(move |(_, h)| delivered.contains(&h.hold)).map(|(p, _)| p)
    }

    /// Takes what happened and says what to do. Inputs that came together are best given together:
    /// the plan is compared with what is held once for all of them.
    pub(crate) fn handle(
        &mut self,
        inputs: impl IntoIterator<Item = Input>,
        now: Instant,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        for input in inputs {
            self.take(input, now, &mut effects);
        }
        self.follow_plan(now, &mut effects);
        self.keep_plan(now, &mut effects);
        if self.presence == Presence::Closing && self.held.is_empty() {
            self.presence = Presence::Gone;
            effects.push(Effect::Deregister);
        }
        effects
    }

    fn take(&mut self, input: Input, now: Instant, effects: &mut Vec<Effect>) {
        match input {
            Input::SessionLive(number) => {
                self.session = number;
                if self.presence == Presence::Away {
                    self.presence = Presence::Registering;
                    effects.push(Effect::Register);
                }
            }
            Input::SessionLost => self.session_lost(),
            Input::Registered => {
                if self.presence == Presence::Registering {
                    self.presence = Presence::Member;
                }
            }
            Input::Seen(seen) => self.see(seen, now, effects),
            Input::Plan(plan) => {
                self.mine = plan.as_ref().map_or_else(BTreeMap::new, |p| self.share_of(p));
                self.plan = plan;
                self.plan_known = true;
                self.outdated_since = None;
            }
            Input::PlanWritten => self.writing = false,
            Input::PlanNotWritten => {
                self.writing = false;
                self.write_not_before = Some(now + RETRY_AFTER);
            }
            Input::Claimed { partition, session, generation, outcome } => {
                if outcome == Claimed::PlanMoved
                    && self.plan.as_ref().is_some_and(|plan| plan.generation == generation)
                {
                    // Nothing is claimed before the new plan was read.
                    self.plan_known = false;
                }
                let ended = session != self.session || self.presence == Presence::Away;
                self.claimed(&partition, ended, outcome, now, effects);
            }
            Input::OwnerGone(partition) => self.forget_if(&partition, Hold::Waiting),
            Input::Released(partition) => self.forget_if(&partition, Hold::Releasing),
            Input::CommitRefused(partition) => self.refused(partition, effects),
            Input::Time => {}
            Input::Close => self.close(),
        }
    }

    fn session_lost(&mut self) {
        if matches!(self.presence, Presence::Registering | Presence::Member) {
            self.presence = Presence::Away;
        }
        self.plan_known = false;
        for held in self.held.values_mut() {
            if held.hold == Hold::Owned {
                held.hold = Hold::Orphaned;
            }
        }
    }

    fn see(&mut self, seen: Seen, now: Instant, effects: &mut Vec<Effect>) {
        if self.presence == Presence::Member && !seen.members.contains_key(&self.id) {
            self.presence = Presence::Registering;
            effects.push(Effect::Register);
        }
        if seen != self.seen {
            self.seen = seen;
            self.seen_changed = Some(now);
        }
    }

    fn claimed(
        &mut self,
        partition: &TopicPartition,
        session_ended: bool,
        outcome: Claimed,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Some(held) = self.held.get_mut(partition) else { return };
        let running = held.hold == Hold::Reclaiming;
        if !running && held.hold != Hold::Claiming {
            return;
        }
        match outcome {
            // Granted in a session that ended meanwhile: the owner node is gone with it.
            Claimed::Granted if session_ended => held.hold = Hold::Orphaned,
            Claimed::Granted => held.hold = Hold::Owned,
            // Delivery goes on meanwhile: nobody else can own it.
            Claimed::HeldByOldSelf if running => held.orphan_until(now + RETRY_AFTER),
            Claimed::Held | Claimed::HeldByOldSelf => {
                held.hold = Hold::Waiting;
                held.retry_at = None;
                if running {
                    effects.push(Effect::Lose(partition.clone()));
                }
                effects.push(Effect::AwaitOwner(partition.clone()));
            }
            Claimed::PlanMoved if running => held.orphan_until(now),
            Claimed::PlanMoved => {
                self.held.remove(partition);
            }
            Claimed::Unanswered if running => held.orphan_until(now + RETRY_AFTER),
            Claimed::Unanswered => {
                held.hold = Hold::Waiting;
                held.retry_at = Some(now + RETRY_AFTER);
            }
        }
    }

    fn forget_if(&mut self, partition: &TopicPartition, hold: Hold) {
        if self.held.get(partition).is_some_and(|held| held.hold == hold) {
            self.held.remove(partition);
        }
    }

    fn refused(&mut self, partition: TopicPartition, effects: &mut Vec<Effect>) {
        let lost = [Hold::Owned, Hold::Orphaned, Hold::Reclaiming];
        if self.held.get(&partition).is_some_and(|held| lost.contains(&held.hold)) {
            self.held.remove(&partition);
            effects.push(Effect::Lose(partition));
        }
    }

    /// Leaves the group: everything is released first.
    fn close(&mut self) {
        if self.presence != Presence::Gone {
            self.presence = Presence::Closing;
        }
        self.held.retain(|_, held| held.hold != Hold::Waiting);
    }

    fn share_of(&self, agreed: &Agreed) -> BTreeMap<TopicPartition, Share> {
        let ids: BTreeMap<&str, TopicId> =
            agreed.plan.topics().map(|(name, topic)| (name, topic.topic_id)).collect();
        let mut mine = BTreeMap::new();
        for (topic, owned) in agreed.plan.of_member(&self.id) {
            let (name, Some(&topic_id)) = (Arc::<str>::from(topic), ids.get(topic)) else {
                continue;
            };
            mine.extend(owned.into_iter().map(|owned| {
                let partition = TopicPartition::new(Arc::clone(&name), owned.partition);
                (partition, Share { topic_id, stream: owned.stream })
            }));
        }
        mine
    }

    /// Releases what the plan does not give, claims what it gives.
    fn follow_plan(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let closing = self.presence == Presence::Closing;
        let following = self.presence == Presence::Member && self.plan_known;
        if !closing && !following {
            return;
        }
        let given = |partition: &TopicPartition, share: &Share| {
            !closing && self.mine.get(partition) == Some(share)
        };
        let mut wake_at: Option<Instant> = None;
        self.held.retain(|_, held| held.hold != Hold::Waiting || !closing);
        let generation = self.plan.as_ref().map_or(-1, |plan| plan.generation);
        let mut not_given = Vec::new();
        for (partition, held) in &mut self.held {
            let due = held.retry_at.is_none_or(|at| at <= now);
            let given = given(partition, &held.share);
            match held.hold {
                Hold::Owned | Hold::Orphaned if !given => {
                    held.hold = Hold::Releasing;
                    effects.push(Effect::Release(partition.clone()));
                }
                Hold::Waiting if !given => not_given.push(partition.clone()),
                Hold::Orphaned if due => {
                    held.hold = Hold::Reclaiming;
                    effects.push(held.claim(partition, generation, true));
                }
                Hold::Waiting if due && held.retry_at.is_some() => {
                    held.hold = Hold::Claiming;
                    effects.push(held.claim(partition, generation, false));
                }
                Hold::Orphaned | Hold::Waiting => wake_at = earlier(wake_at, held.retry_at),
                _ => {}
            }
        }
        for partition in not_given {
            self.held.remove(&partition);
        }
        if following {
            for (partition, &share) in &self.mine {
                if !self.held.contains_key(partition) {
                    let held = Held { hold: Hold::Claiming, share, retry_at: None };
                    effects.push(held.claim(partition, generation, false));
                    self.held.insert(partition.clone(), held);
                }
            }
        }
        effects.extend(wake_at.map(Effect::WakeAt));
    }

    /// Writes a new plan when this member is to.
    fn keep_plan(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(rank) = self.seen.members.keys().position(|id| *id == self.id) else { return };
        if self.presence != Presence::Member || !self.plan_known || self.writing {
            return;
        }
        let fits = |agreed: &Agreed| agreed.plan.fits(&self.seen.members, &self.seen.topics);
        if self.plan.as_ref().is_some_and(fits) {
            self.outdated_since = None;
            return;
        }
        let since = *self.outdated_since.get_or_insert(now);
        let latest = since + ANY_MEMBER_AFTER + RANK_STEP * rank as u32;
        let quiet = self.seen_changed.map_or(now, |changed| changed + self.quiet);
        let mut due = if rank == 0 { quiet.min(latest) } else { latest };
        due = due.max(self.write_not_before.unwrap_or(due));
        if due > now {
            effects.push(Effect::WakeAt(due));
            return;
        }
        self.writing = true;
        let expected = self.plan.as_ref().map(|plan| plan.generation);
        effects.push(Effect::WritePlan { expected, seen: self.seen.clone() });
    }
}

impl Held {
    fn claim(&self, partition: &TopicPartition, generation: i32, running: bool) -> Effect {
        Effect::Claim { partition: partition.clone(), share: self.share, generation, running }
    }

    fn orphan_until(&mut self, retry_at: Instant) {
        self.hold = Hold::Orphaned;
        self.retry_at = Some(retry_at);
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
