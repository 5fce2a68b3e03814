//! Syncing: the leader brings the assignment, everybody takes its part once it is stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Effect, Effects, Group, Member, Moment, State, Sync, Synced, Ticket};
use crate::groups::GroupError;

impl Group {
    /// A member asks for its assignment. Answered now, or when the leader's is stored.
    pub fn sync(&mut self, request: Sync, now: Moment, out: &mut Effects) {
        let token = request.token;
        if let Err(error) = self.check_sync(&request) {
            out.push(Effect::Sync(token, Err(error)));
            return;
        }
        let id = Arc::clone(&request.caller.member_id);
        self.is_alive(&id, now);
        self.has_synced(&id);
        if self.state == State::Stable {
            let answer = self.synced(&id).ok_or(GroupError::UnknownMemberId);
            out.push(Effect::Sync(token, answer));
            return;
        }
        let Some(member) = self.members.get_mut(&id) else { return };
        if let Some(earlier) = member.sync.replace(token) {
            out.push(Effect::Sync(earlier, Err(GroupError::RebalanceInProgress)));
        }
        if self.leader.as_ref() == Some(&id) && self.storing.is_none() {
            self.store_assignment(request.assignments, out);
        }
    }

    fn check_sync(&self, request: &Sync) -> Result<(), GroupError> {
        self.check_caller(&request.caller)?;
        let differs = |asked: &Option<Arc<str>>, ours: &Option<Arc<str>>| {
            asked.is_some() && asked.as_deref() != ours.as_deref()
        };
        match self.state {
            // Before the protocol: the next one is not known yet.
            State::PreparingRebalance => return Err(GroupError::RebalanceInProgress),
            State::Empty | State::Dead => return Err(GroupError::UnknownMemberId),
            State::CompletingRebalance | State::Stable => {}
        }
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol, &self.protocol)
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    /// Once all have asked, nobody is waited for.
    fn has_synced(&mut self, id: &Arc<str>) {
        if let Some(member) = self.members.get_mut(id) {
            member.has_synced = true;
        }
        if self.sync_due.is_some() && self.members.values().all(|member| member.has_synced) {
            self.sync_due = None;
        }
    }

    /// Whom the leader gave nothing gets nothing; what it gave to strangers is dropped.
    fn store_assignment(&mut self, given: Vec<(Arc<str>, Bytes)>, out: &mut Effects) {
        let mut assignments: BTreeMap<Arc<str>, Bytes> =
            self.members.keys().map(|id| (Arc::clone(id), Bytes::new())).collect();
        for (id, assignment) in given {
            if let Some(slot) = assignments.get_mut(&id) {
                *slot = assignment;
            }
        }
        let ticket = self.new_ticket();
        let stored = self.to_stored(&assignments);
        self.storing = Some((ticket, assignments));
        out.push(Effect::Store(Some(ticket), stored));
    }

    /// A write that the group waits for has come to its end. One that it no longer waits for does
    /// nothing: its generation is over.
    pub fn stored(
        &mut self,
        ticket: Ticket,
        outcome: Result<(), GroupError>,
        now: Moment,
        out: &mut Effects,
    ) {
        if let Some(replaced) = self.replacing.remove(&ticket) {
            self.replacement_stored(&replaced, outcome, now, out);
            return;
        }
        let Some((_, assignments)) = self.storing.take_if(|(waited, _)| *waited == ticket) else {
            return;
        };
        match outcome {
            Ok(()) => self.become_stable(assignments, now, out),
            Err(error) => {
                let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
                for id in ids {
                    self.refuse_sync(&id, error, now, out);
                }
                self.rebalance_or_go_on(now, out);
            }
        }
    }

    pub(super) fn refuse_sync(
        &mut self,
        id: &Arc<str>,
        error: GroupError,
        now: Moment,
        out: &mut Effects,
    ) {
        let token = self.members.get_mut(id).and_then(|member| member.sync.take());
        if let Some(token) = token {
            out.push(Effect::Sync(token, Err(error)));
            self.is_alive(id, now);
        }
    }

    fn become_stable(
        &mut self,
        assignments: BTreeMap<Arc<str>, Bytes>,
        now: Moment,
        out: &mut Effects,
    ) {
        self.enter(State::Stable, now);
        for (id, assignment) in assignments {
            let Some(member) = self.members.get_mut(&id) else { continue };
            self.bytes = self.bytes - member.assignment.len() + assignment.len();
            member.assignment = assignment;
            let token = member.sync.take();
            if let (Some(token), Some(answer)) = (token, self.synced(&id)) {
                out.push(Effect::Sync(token, Ok(answer)));
                self.is_alive(&id, now);
            }
        }
    }

    fn synced(&self, id: &Arc<str>) -> Option<Synced> {
        Some(Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id)?.assignment.clone(),
        })
    }

    /// What everybody has.
    pub(super) fn assignments(&self) -> BTreeMap<Arc<str>, Bytes> {
        let each = |(id, member): (&Arc<str>, &Member)| (Arc::clone(id), member.assignment.clone());
        self.members.iter().map(each).collect()
    }
}
