//! [`Group`]: the fields, what they mean together, and the steps that all requests share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::protocol::Supported;
use super::static_member::Replaced;
use super::{Caller, Effect, Effects, JoinRefusal, Limits, Member, Moment, State, Ticket};
use crate::groups::GroupError;

/// How the group waits for its members to join.
#[derive(Debug, Clone, Copy)]
pub(super) struct JoinPhase {
    /// Then it goes on without the missing ones.
    pub(super) due: Instant,
    /// The first rebalance of an empty group waits for others to come: how much longer it may be
    /// put off. `None`: it goes on as soon as all have joined.
    pub(super) put_off_left: Option<Duration>,
    /// Somebody new came since `due` was set.
    pub(super) has_grown: bool,
}

/// A classic group. Fields hold together as follows:
///
/// - `waiting` is the number of members with a `join` token; `instances` has exactly the static
///   members; `supported` counts the members' protocols.
/// - `join_phase` is set exactly in `PreparingRebalance`.
/// - `leader` is a member, and is set exactly when there are members.
/// - `protocol` is what `generation` agreed on; none in `Empty`.
/// - `bytes` is the sum over the members.
/// - Nobody's silence is noticed later than `wake_at`.
#[derive(Debug)]
pub struct Group {
    pub(super) limits: Arc<Limits>,
    pub(super) state: State,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<Arc<str>>,
    pub(super) protocol: Option<Arc<str>>,
    pub(super) leader: Option<Arc<str>>,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    pub(super) instances: BTreeMap<Arc<str>, Arc<str>>,
    pub(super) supported: Supported,
    pub(super) waiting: usize,
    /// Ids that were handed out and not yet joined with, and when each is forgotten.
    pub(super) pending: BTreeMap<Arc<str>, Instant>,
    pub(super) join_phase: Option<JoinPhase>,
    /// Until then all members are to have asked for their assignment.
    pub(super) sync_due: Option<Instant>,
    /// The write of this generation's assignment that is under way.
    pub(super) storing: Option<(Ticket, BTreeMap<Arc<str>, bytes::Bytes>)>,
    /// Writes under way of static members' new ids.
    pub(super) replacing: BTreeMap<Ticket, Replaced>,
    pub(super) next_ticket: u64,
    /// Bytes that its members take, about.
    pub(super) bytes: usize,
    /// When it came into its state.
    pub(super) since_ms: i64,
    pub(super) wake_at: Option<Instant>,
}

impl Group {
    /// A group without members.
    pub fn new(limits: Arc<Limits>, now: Moment) -> Self {
        Self {
            limits,
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            supported: Supported::default(),
            waiting: 0,
            pending: BTreeMap::new(),
            join_phase: None,
            sync_due: None,
            storing: None,
            replacing: BTreeMap::new(),
            next_ticket: 0,
            bytes: 0,
            since_ms: now.wall_ms,
            wake_at: None,
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Counts its rebalances.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// What kind of group; `None`: nobody ever joined, it only stores offsets.
    pub fn protocol_type(&self) -> Option<&Arc<str>> {
        self.protocol_type.as_ref()
    }

    /// What its members agreed on.
    pub fn protocol(&self) -> Option<&Arc<str>> {
        self.protocol.as_ref()
    }

    /// Who assigns.
    pub fn leader(&self) -> Option<&Arc<str>> {
        self.leader.as_ref()
    }

    /// Its members, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// How many members.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// When it came into its state, in milliseconds since the epoch.
    pub fn since_ms(&self) -> i64 {
        self.since_ms
    }

    /// Bytes it takes, about.
    pub fn bytes(&self) -> usize {
        const AROUND: usize = 512;
        const PENDING: usize = 1024;
        AROUND + self.bytes + self.pending.len() * PENDING
    }

    /// Whether a join asks for more memory than its member has by now.
    pub fn would_grow(&self, request: &super::Join) -> bool {
        let asked: usize = request.protocols.iter().map(super::Protocol::bytes).sum();
        let has = self
            .members
            .get(&request.member_id)
            .map(|member| member.protocols.iter().map(super::Protocol::bytes).sum::<usize>());
        has.is_none_or(|has| asked > has)
    }

    /// Nothing of it is worth keeping: nobody ever joined, and nobody is about to.
    pub fn is_untouched(&self) -> bool {
        self.state == State::Empty && self.generation == 0 && self.pending.is_empty()
    }

    /// Somebody was given an id to join with.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// [`Group::tick`] is to be called then, or earlier.
    pub fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }

    /// Every token is answered with `error`, and nothing is any more.
    pub fn close(&mut self, error: GroupError, now: Moment, out: &mut Effects) {
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            self.refuse_waiting(&id, error, out);
        }
        self.enter(State::Dead, now);
        self.join_phase = None;
        self.sync_due = None;
        self.storing = None;
        self.replacing.clear();
        self.wake_at = None;
    }

    pub(super) fn enter(&mut self, next: State, now: Moment) {
        debug_assert!(self.state.may_become(next), "{:?} to {next:?}", self.state);
        self.state = next;
        self.since_ms = now.wall_ms;
    }

    /// Has the group looked at by then.
    pub(super) fn wake_by(&mut self, at: Instant) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    pub(super) fn new_ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// The id of a caller who is a member, in no generation in particular.
    pub(super) fn check_member(
        &self,
        member_id: &str,
        instance: Option<&Arc<str>>,
    ) -> Result<(), GroupError> {
        if self.state == State::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(GroupError::UnknownMemberId),
                Some(current) if **current != *member_id => {
                    return Err(GroupError::FencedInstanceId);
                }
                Some(_) => {}
            }
        }
        match self.members.contains_key(member_id) {
            true => Ok(()),
            false => Err(GroupError::UnknownMemberId),
        }
    }

    /// A caller who is a member of the generation.
    pub(super) fn check_caller(&self, caller: &Caller) -> Result<(), GroupError> {
        self.check_member(&caller.member_id, caller.instance.as_ref())?;
        match caller.generation == self.generation {
            true => Ok(()),
            false => Err(GroupError::IllegalGeneration),
        }
    }

    /// A member was heard of.
    pub(super) fn is_alive(&mut self, member_id: &str, now: Moment) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        member.expires_at = now.at + member.session_timeout;
        let at = member.expires_at;
        self.wake_by(at);
    }

    pub(super) fn insert(&mut self, member: Member) {
        self.supported.add(&member.protocols);
        if let Some(instance) = &member.instance {
            self.instances.insert(Arc::clone(instance), Arc::clone(&member.id));
        }
        self.waiting += usize::from(member.join.is_some());
        if self.leader.is_none() {
            self.leader = Some(Arc::clone(&member.id));
        }
        let at = member.expires_at;
        self.bytes += member.bytes();
        self.members.insert(Arc::clone(&member.id), member);
        self.wake_by(at);
    }

    /// Takes a member out, telling it `error` where it waits. Whether the others go on without it
    /// is the caller's matter.
    pub(super) fn remove(&mut self, id: &Arc<str>, error: GroupError, out: &mut Effects) {
        self.refuse_waiting(id, error, out);
        let Some(member) = self.members.remove(id) else { return };
        self.bytes -= member.bytes();
        self.supported.remove(&member.protocols);
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
        if self.leader.as_ref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        if self.members.is_empty() {
            self.leader = None;
        }
    }

    /// Answers whatever a member waits for with an error.
    pub(super) fn refuse_waiting(&mut self, id: &Arc<str>, error: GroupError, out: &mut Effects) {
        let Some(member) = self.members.get_mut(id) else { return };
        if let Some(token) = member.join.take() {
            self.waiting -= 1;
            out.push(Effect::Join(token, Err(JoinRefusal { error, member_id: Arc::clone(id) })));
        }
        if let Some(token) = member.sync.take() {
            out.push(Effect::Sync(token, Err(error)));
        }
    }

    /// The longest time that a member asks for to join again.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }
}
