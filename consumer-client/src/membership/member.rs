//! What a member of a group does, as a pure state machine. Knows no clock, no socket and no ZooKeeper.
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
//! | (none) | no | any | released, lost, not granted | the plan gives it to this member: `Claim` |
//! | claiming | no | (none), waiting | `Claim` | `Claimed`: owned, waiting, or none (the plan moved on) |
//! | waiting | no | claiming | another's owner node is there: `AwaitOwner` | `OwnerGone`: claiming; plan: none |
//! | owned | yes | claiming, reclaiming | granted | plan: releasing; expiry: orphaned; refused commit: none |
//! | orphaned | yes | owned, reclaiming | the session expired and with it the owner node | plan: reclaiming or releasing |
//! | reclaiming | yes | orphaned | `Claim` in the new session | `Claimed`: owned, orphaned (retried), or none |
//! | releasing | draining | owned, orphaned | `Release`: stop, drain, commit, delete the owner node | `Released`: none |
//!
//! # The plan
//!
//! When what the plan was computed from differs from what is seen (members, their subscriptions,
//! topics, partitions), the lowest live member writes a new one after `quiet` without a change, at the
//! latest after [`ANY_MEMBER_AFTER`]; after that any member may, in the order of the ids. Writes are
//! conditional on the version read, so of several writers one wins and all follow it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use coordinator::zk::payload::Subscription;
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
    /// Live members by id.
    pub(crate) members: BTreeMap<String, Subscription>,
    /// The topics that any member subscribes to.
    pub(crate) topics: BTreeMap<String, TopicShape>,
}

/// A topic as far as a plan cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicShape {
    pub(crate) topic_id: TopicId,
    pub(crate) partitions: u32,
}

/// The plan node, from one member's point of view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlanSeen {
    /// The generation: the version of the node.
    pub(crate) version: i32,
    /// What it was computed from.
    pub(crate) from: Seen,
    /// What it gives to this member.
    pub(crate) mine: BTreeMap<TopicPartition, Share>,
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
    /// A session is there: the first, or a new one after an expiry.
    SessionLive,
    /// The session expired: all its ephemerals are gone or going.
    SessionLost,
    /// The id node is there, in the present session.
    Registered,
    /// Members or topics, as read now.
    Seen(Seen),
    /// The plan node, as read now; `None` while there is none.
    Plan(Option<PlanSeen>),
    /// The answer to `WritePlan`, whatever it was: a new version shows as `Plan`.
    PlanWritten,
    /// The registry could not answer `WritePlan`.
    PlanNotWritten,
    /// The answer to `Claim`.
    Claimed(TopicPartition, Claimed),
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
    /// Another owner node is there.
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
    /// Stop delivery, wait for the application, commit, delete the owner node; answered by `Released`.
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
    seen: Seen,
    seen_changed: Option<Instant>,
    plan: Option<PlanSeen>,
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
            seen: Seen::default(),
            seen_changed: None,
            plan: None,
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

    /// Takes an input and says what to do.
    pub(crate) fn handle(&mut self, input: Input, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::SessionLive => {
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
            Input::Seen(seen) => self.see(seen, now, &mut effects),
            Input::Plan(plan) => {
                self.plan = plan;
                self.plan_known = true;
                self.outdated_since = None;
            }
            Input::PlanWritten => self.writing = false,
            Input::PlanNotWritten => {
                self.writing = false;
                self.write_not_before = Some(now + RETRY_AFTER);
            }
            Input::Claimed(partition, outcome) => {
                self.claimed(&partition, outcome, now, &mut effects);
            }
            Input::OwnerGone(partition) => self.forget_if(&partition, Hold::Waiting),
            Input::Released(partition) => self.forget_if(&partition, Hold::Releasing),
            Input::CommitRefused(partition) => self.refused(partition, &mut effects),
            Input::Time => {}
            Input::Close => self.close(),
        }
        self.follow_plan(now, &mut effects);
        self.keep_plan(now, &mut effects);
        if self.presence == Presence::Closing && self.held.is_empty() {
            self.presence = Presence::Gone;
            effects.push(Effect::Deregister);
        }
        effects
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
        outcome: Claimed,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let away = matches!(self.presence, Presence::Away | Presence::Registering);
        let Some(held) = self.held.get_mut(partition) else { return };
        let running = held.hold == Hold::Reclaiming;
        if !running && held.hold != Hold::Claiming {
            return;
        }
        match outcome {
            // Granted in a session that ended meanwhile: the owner node is gone with it.
            Claimed::Granted if away => held.hold = Hold::Orphaned,
            Claimed::Granted => held.hold = Hold::Owned,
            Claimed::Held if running => {
                // Our own dead session's node, or the next owner's: keep delivering, try again; what
                // was claimed by another shows by its commit or the plan.
                held.hold = Hold::Orphaned;
                held.retry_at = Some(now + RETRY_AFTER);
            }
            Claimed::Held => {
                held.hold = Hold::Waiting;
                effects.push(Effect::AwaitOwner(partition.clone()));
            }
            Claimed::PlanMoved | Claimed::Unanswered => {
                let retry_at = (outcome == Claimed::Unanswered).then(|| now + RETRY_AFTER);
                if running {
                    held.hold = Hold::Orphaned;
                    held.retry_at = retry_at;
                } else {
                    // Waits without a watch: claimed again by the plan, not before.
                    held.hold = Hold::Waiting;
                    held.retry_at = Some(now + RETRY_AFTER);
                    if outcome == Claimed::PlanMoved {
                        self.held.remove(partition);
                        self.plan_known = false;
                    }
                }
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
}
