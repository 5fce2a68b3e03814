//! Joining: who may, under which id, and whether that begins a rebalance.

use std::sync::Arc;
use std::time::Duration;

use super::State;
use super::protocol::are_distinct;
use super::{Effect, Effects, Group, Join, JoinRefusal, Joined, JoinedMember, Member, Moment};
use crate::groups::GroupError;

/// How long a member that was never told of a generation is believed to be still there: it may have
/// gone without having known its id, so that nobody would ever leave for it.
const NEW_MEMBER_MAX: Duration = Duration::from_secs(300);

/// Most ids handed out to members that have not joined with them yet.
const PENDING_MAX: usize = 10_000;

impl Group {
    /// Somebody joins. Answered now, or when all have joined.
    pub fn join(&mut self, request: Join, now: Moment, out: &mut Effects) {
        let (token, member_id) = (request.token, Arc::clone(&request.member_id));
        let refuse = |error| Effect::Join(token, Err(JoinRefusal { error, member_id }));
        if let Err(error) = self.check_join(&request) {
            out.push(refuse(error));
            return;
        }
        if !self.has_room(self.place_of(&request)) {
            self.leave_by_force(&request.member_id, now, out);
            out.push(refuse(GroupError::GroupMaxSizeReached));
            return;
        }
        if request.member_id.is_empty() {
            self.join_without_id(request, now, out);
        } else if self.pending.contains_key(&request.member_id) {
            self.pending.remove(&request.member_id);
            let id = Arc::clone(&request.member_id);
            self.add_and_rebalance(id, request, now, out);
        } else {
            self.rejoin(request, now, out);
        }
    }

    fn check_join(&self, request: &Join) -> Result<(), GroupError> {
        if self.state == State::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        let session = self.limits.session_timeout_min..=self.limits.session_timeout_max;
        if !session.contains(&request.session_timeout) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        if !are_distinct(&request.protocols) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        let id = &request.member_id;
        if self.pending.contains_key(id) {
            // Ids are handed out to dynamic members only: one with an instance has its own way in.
            if request.instance.is_some() {
                return Err(GroupError::UnknownMemberId);
            }
        } else if !id.is_empty() {
            self.check_member(id, request.instance.as_ref())?;
        }
        if !self.fits(request) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    /// Whether its protocols go with those of the others. Who is alone is no obstacle to itself.
    fn fits(&self, request: &Join) -> bool {
        let place = self.place_of(request);
        if self.members.len() == 1 && self.members.contains_key(place) {
            return self.protocol_type.as_ref() == Some(&request.protocol_type)
                && !request.protocols.is_empty();
        }
        self.supports(&request.protocol_type, &request.protocols)
    }

    /// The id whose place is taken: its own, or the one its instance had before.
    fn place_of<'a>(&'a self, request: &'a Join) -> &'a Arc<str> {
        let before = request.instance.as_ref().and_then(|instance| self.instances.get(instance));
        before.filter(|_| request.member_id.is_empty()).unwrap_or(&request.member_id)
    }

    /// `group.max.size`: while a rebalance collects members, the first that many; otherwise who is
    /// in it already, and others as long as there is room.
    fn has_room(&self, member_id: &str) -> bool {
        let max = self.limits.size_max;
        match self.state {
            State::PreparingRebalance => {
                let joined = self.members.get(member_id).is_some_and(|one| one.join.is_some());
                joined || self.waiting < max
            }
            _ => self.members.contains_key(member_id) || self.members.len() < max,
        }
    }

    /// A known member finds no room: others took it while the group was being collected.
    fn leave_by_force(&mut self, member_id: &Arc<str>, now: Moment, out: &mut Effects) {
        self.pending.remove(member_id);
        self.remove(member_id, GroupError::GroupMaxSizeReached, out);
        self.may_complete_join(now, out);
    }

    fn join_without_id(&mut self, request: Join, now: Moment, out: &mut Effects) {
        let fresh = Arc::clone(&request.fresh_member_id);
        if let Some(instance) = &request.instance {
            match self.instances.get(instance).cloned() {
                Some(old) => self.replace_static(&old, request, now, out),
                None => self.add_and_rebalance(fresh, request, now, out),
            }
            return;
        }
        if !request.requires_member_id {
            self.add_and_rebalance(fresh, request, now, out);
            return;
        }
        let crowded = self.pending.len() >= PENDING_MAX
            || self.pending.len() + self.members.len() >= self.limits.size_max;
        let refusal = match crowded {
            true => {
                JoinRefusal { error: GroupError::GroupMaxSizeReached, member_id: request.member_id }
            }
            false => {
                let at = now.at + request.session_timeout;
                self.pending.insert(Arc::clone(&fresh), at);
                self.wake_by(at);
                JoinRefusal { error: GroupError::MemberIdRequired, member_id: fresh }
            }
        };
        out.push(Effect::Join(request.token, Err(refusal)));
    }

    fn add_and_rebalance(&mut self, id: Arc<str>, join: Join, now: Moment, out: &mut Effects) {
        if self.members.is_empty() {
            self.protocol_type = Some(Arc::clone(&join.protocol_type));
        }
        if let Some(phase) = &mut self.join_phase {
            phase.has_grown = true;
        }
        self.insert(Member::joining(id, join, now.at + NEW_MEMBER_MAX));
        self.rebalance_or_go_on(now, out);
    }

    /// A member of the group joins again.
    fn rejoin(&mut self, request: Join, now: Moment, out: &mut Effects) {
        let id = Arc::clone(&request.member_id);
        let is_leader = self.leader.as_ref() == Some(&id);
        let Some(member) = self.members.get(&id) else { return };
        let is_as_before = member.protocols == request.protocols;
        let knows_generation = match self.state {
            // Its answer was lost: here it is again.
            State::CompletingRebalance => is_as_before,
            // The leader joins again to have the group assigned anew.
            State::Stable => is_as_before && !is_leader,
            State::Empty | State::PreparingRebalance | State::Dead => false,
        };
        if knows_generation {
            // A static one whose new id is being stored may ask twice.
            self.answer_earlier_join(&id, out);
            self.is_alive(&id, now);
            if let Some(joined) = self.joined(&id, false) {
                out.push(Effect::Join(request.token, Ok(joined)));
            }
        } else {
            self.update(&id, request, now, out);
            self.rebalance_or_go_on(now, out);
        }
    }

    /// A member says anew what it can do, and waits for the next generation.
    pub(super) fn update(&mut self, id: &Arc<str>, request: Join, now: Moment, out: &mut Effects) {
        self.answer_earlier_join(id, out);
        let Some(member) = self.members.get_mut(id) else { return };
        self.supported.remove(&member.protocols);
        self.supported.add(&request.protocols);
        self.bytes -= member.bytes();
        member.protocols = request.protocols;
        member.session_timeout = request.session_timeout;
        member.rebalance_timeout = request.rebalance_timeout;
        member.client_id = request.client_id;
        member.client_host = request.client_host;
        self.bytes += member.bytes();
        member.join = Some(request.token);
        self.waiting += 1;
        if let Some(token) = member.sync.take() {
            out.push(Effect::Sync(token, Err(GroupError::RebalanceInProgress)));
        }
        self.is_alive(id, now);
    }

    /// Who joins twice has given up on its first request.
    fn answer_earlier_join(&mut self, id: &Arc<str>, out: &mut Effects) {
        let Some(member) = self.members.get_mut(id) else { return };
        if let Some(token) = member.join.take() {
            self.waiting -= 1;
            let error = GroupError::RebalanceInProgress;
            out.push(Effect::Join(token, Err(JoinRefusal { error, member_id: Arc::clone(id) })));
        }
    }

    /// Tells a waiting member of the generation.
    pub(super) fn tell_joined(&mut self, id: &Arc<str>, joined: Joined, out: &mut Effects) {
        let Some(member) = self.members.get_mut(id) else { return };
        if let Some(token) = member.join.take() {
            self.waiting -= 1;
            out.push(Effect::Join(token, Ok(joined)));
        }
    }

    /// What a member is told of the generation.
    pub(super) fn joined(&self, id: &Arc<str>, skip_assignment: bool) -> Option<Joined> {
        let member = self.members.get(id)?;
        let leader = self.leader.clone()?;
        let protocol = self.protocol.clone();
        let members = match leader == member.id {
            true => self.members_for_leader(protocol.as_deref().unwrap_or_default()),
            false => Vec::new(),
        };
        Some(Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol,
            leader,
            skip_assignment,
            member_id: Arc::clone(&member.id),
            members,
        })
    }

    fn members_for_leader(&self, protocol: &str) -> Vec<JoinedMember> {
        let described = |member: &Member| JoinedMember {
            id: Arc::clone(&member.id),
            instance: member.instance.clone(),
            metadata: member.metadata(protocol),
        };
        self.members.values().map(described).collect()
    }
}
