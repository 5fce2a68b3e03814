//! A rebalance: collecting the members, and telling them of the generation they make.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::group::JoinPhase;
use super::{Effect, Effects, Group, Member, Moment, State};
use crate::groups::GroupError;

impl Group {
    /// Somebody came, went or changed: a rebalance begins, or the one under way may be complete.
    pub(super) fn rebalance_or_go_on(&mut self, now: Moment, out: &mut Effects) {
        match self.state {
            State::Empty | State::CompletingRebalance | State::Stable => {
                self.prepare_rebalance(now, out);
            }
            State::PreparingRebalance | State::Dead => {}
        }
        self.may_complete_join(now, out);
    }

    fn prepare_rebalance(&mut self, now: Moment, out: &mut Effects) {
        if self.state == State::CompletingRebalance {
            let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
            for id in ids {
                self.refuse_sync(&id, GroupError::RebalanceInProgress, now, out);
            }
        }
        // What is being stored is of the past. Who waits for it joins the next generation.
        self.storing = None;
        self.replacing.clear();
        self.sync_due = None;
        let timeout = self.rebalance_timeout();
        let (wait, put_off_left) = match self.state {
            State::Empty => {
                let delay = self.limits.initial_rebalance_delay;
                (delay, Some(timeout.saturating_sub(delay)))
            }
            _ => (timeout, None),
        };
        let due = now.at + wait;
        self.join_phase = Some(JoinPhase { due, put_off_left, has_grown: false });
        self.wake_by(due);
        self.enter(State::PreparingRebalance, now);
    }

    /// Ends the collecting if all are there, or time is up.
    pub(super) fn may_complete_join(&mut self, now: Moment, out: &mut Effects) {
        let Some(phase) = self.join_phase else { return };
        let is_complete = self.waiting == self.members.len() && self.pending.is_empty();
        match phase.put_off_left {
            None if is_complete || phase.due <= now.at => self.complete_join(now, out),
            Some(left) if phase.due <= now.at => {
                let delay = self.limits.initial_rebalance_delay.min(left);
                if phase.has_grown && !delay.is_zero() {
                    // Others come still: a short wait spares them the next rebalance.
                    let due = now.at + delay;
                    let put_off_left = Some(left - delay);
                    self.join_phase = Some(JoinPhase { due, put_off_left, has_grown: false });
                    self.wake_by(due);
                } else {
                    self.complete_join(now, out);
                }
            }
            _ => {}
        }
    }

    /// Who has not joined is out; static members stay, until their session ends.
    fn complete_join(&mut self, now: Moment, out: &mut Effects) {
        let missing = |member: &&Member| member.join.is_none() && member.instance.is_none();
        let missing: Vec<Arc<str>> =
            self.members.values().filter(missing).map(|member| Arc::clone(&member.id)).collect();
        for id in missing {
            self.remove(&id, GroupError::UnknownMemberId, out);
        }
        if self.waiting == 0 && !self.members.is_empty() {
            // Static members only, and none of them is there to lead: wait for the first.
            let due = now.at + self.rebalance_timeout().max(super::timers::RECHECK);
            self.join_phase = Some(JoinPhase { due, put_off_left: None, has_grown: false });
            self.wake_by(due);
            return;
        }
        self.join_phase = None;
        self.generation = next_generation(self.generation);
        match self.members.is_empty() {
            true => self.become_empty(now, out),
            false => self.begin_generation(now, out),
        }
    }

    fn become_empty(&mut self, now: Moment, out: &mut Effects) {
        self.protocol = None;
        self.enter(State::Empty, now);
        out.push(Effect::Store(None, self.to_stored(&BTreeMap::new())));
    }

    fn begin_generation(&mut self, now: Moment, out: &mut Effects) {
        self.elect_leader();
        self.protocol = self.elect_protocol();
        debug_assert!(self.protocol.is_some(), "members are taken that have one in common");
        self.enter(State::CompletingRebalance, now);
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in &ids {
            if let Some(member) = self.members.get_mut(id) {
                self.bytes -= member.assignment.len();
                member.assignment = Bytes::new();
                member.has_synced = false;
                member.is_new = false;
            }
            if let Some(joined) = self.joined(id, false) {
                self.tell_joined(id, joined, out);
            }
            self.is_alive(id, now);
        }
        let due = now.at + self.rebalance_timeout();
        self.sync_due = Some(due);
        self.wake_by(due);
    }

    /// The leader stays, if it has joined; otherwise somebody who has.
    fn elect_leader(&mut self) {
        let joined = |id: &Arc<str>| self.members.get(id).is_some_and(|one| one.join.is_some());
        if !self.leader.as_ref().is_some_and(joined) {
            let first = self.members.values().find(|member| member.join.is_some());
            self.leader = first.map(|member| Arc::clone(&member.id));
        }
    }
}

/// The number after the greatest is the first: -1 means none.
fn next_generation(generation: i32) -> i32 {
    generation.checked_add(1).unwrap_or(1)
}
