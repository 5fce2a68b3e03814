//! Time passes: what is due is done, and when to look again is worked out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Effects, Group, Moment, State};
use crate::groups::GroupError;

/// A group that can only wait is not looked at more often, whatever its members ask for.
pub(super) const RECHECK: Duration = Duration::from_secs(1);

impl Group {
    /// Does what is due, and sets [`Group::wake_at`] anew. To be called when that has come; calling
    /// it earlier does no harm.
    pub fn tick(&mut self, now: Moment, out: &mut Effects) {
        if self.state == State::Dead {
            return;
        }
        let pending = self.pending.len();
        self.pending.retain(|_, expires_at| *expires_at > now.at);
        let mut has_changed = pending != self.pending.len();

        let mut gone = self.silent(now.at);
        if self.sync_due.is_some_and(|due| due <= now.at) {
            self.sync_due = None;
            gone.extend(self.unsynced());
        }
        for id in &gone {
            self.remove(id, GroupError::UnknownMemberId, out);
        }
        has_changed |= self.join_phase.is_some_and(|phase| phase.due <= now.at);
        if !gone.is_empty() {
            self.rebalance_or_go_on(now, out);
        } else if has_changed {
            self.may_complete_join(now, out);
        }
        self.wake_at = self.next_deadline();
    }

    /// Members whose session is over.
    fn silent(&self, now: Instant) -> Vec<Arc<str>> {
        let silent = self.members.values().filter(|member| member.expires(now));
        silent.map(|member| Arc::clone(&member.id)).collect()
    }

    /// Members that have not asked for their assignment.
    fn unsynced(&self) -> Vec<Arc<str>> {
        let unsynced = self.members.values().filter(|member| !member.has_synced);
        unsynced.map(|member| Arc::clone(&member.id)).collect()
    }

    fn next_deadline(&self) -> Option<Instant> {
        let sessions = self.members.values().filter(|member| member.may_expire());
        let sessions = sessions.map(|member| member.expires_at);
        let pending = self.pending.values().copied();
        let phases = self.join_phase.iter().map(|phase| phase.due).chain(self.sync_due);
        sessions.chain(pending).chain(phases).min()
    }
}
