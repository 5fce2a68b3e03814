//! Joining, syncing, signs of life and leaving, on the coordinator's thread.

use std::sync::Arc;

use super::GroupError;
use super::classic::{Caller, Effects, Join, JoinRefusal, Joined, Leaving, Sync, Synced};
use super::command::{Outcomes, Reply};
use super::coordinator::{Coordinator, Waiter, moment, tell};

impl Coordinator {
    pub(super) fn join(
        &mut self,
        group: &Arc<str>,
        join: Join,
        reply: Reply<Result<Joined, JoinRefusal>>,
    ) {
        let token = self.token(Waiter::Join(reply));
        let (member_id, mut out) = (Arc::clone(&join.member_id), Effects::new());
        let is_full = self.is_full();
        let entry = self.entry_of(group).and_then(|(number, entry)| {
            match is_full && entry.group.would_grow(&join) {
                true => Err(GroupError::CoordinatorNotAvailable),
                false => Ok((number, entry)),
            }
        });
        match entry {
            Ok((number, entry)) => {
                entry.group.join(Join { token, ..join }, moment(), &mut out);
                self.settle(number, group, out);
            }
            Err(error) => {
                if let Some(Waiter::Join(reply)) = self.waiting.remove(&token) {
                    tell(reply, Err(JoinRefusal { error, member_id }));
                }
            }
        }
    }

    pub(super) fn sync(
        &mut self,
        group: &Arc<str>,
        sync: Sync,
        reply: Reply<Result<Synced, GroupError>>,
    ) {
        let token = self.token(Waiter::Sync(reply));
        let mut out = Effects::new();
        let is_full = self.is_full() && !sync.assignments.is_empty();
        let entry = match is_full {
            true => Err(GroupError::CoordinatorNotAvailable),
            false => self.entry_of(group),
        };
        match entry {
            Ok((number, entry)) => {
                entry.group.sync(Sync { token, ..sync }, moment(), &mut out);
                self.settle(number, group, out);
            }
            Err(error) => {
                // While groups are read, who syncs has a rebalance before it: it joins anew, at this
                // broker. Clients do not expect to be told of reading here.
                let error = match error {
                    GroupError::CoordinatorLoadInProgress => GroupError::RebalanceInProgress,
                    other => other,
                };
                if let Some(Waiter::Sync(reply)) = self.waiting.remove(&token) {
                    tell(reply, Err(error));
                }
            }
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        group: &Arc<str>,
        caller: &Caller,
    ) -> Result<(), GroupError> {
        let (number, shard) = match self.shard_of(group) {
            // Its session begins anew with the group that is being read; clients do not expect to
            // be told of that here.
            Err(GroupError::CoordinatorLoadInProgress) => return Ok(()),
            found => found?,
        };
        let Some(entry) = shard.groups.get_mut(group) else {
            return Err(GroupError::UnknownMemberId);
        };
        let answer = entry.group.heartbeat(caller, moment());
        self.settle(number, group, Effects::new());
        answer
    }

    pub(super) fn leave(&mut self, group: &Arc<str>, leaving: &[Leaving]) -> Outcomes {
        let (number, shard) = self.shard_of(group)?;
        let Some(entry) = shard.groups.get_mut(group) else {
            return Ok(vec![Err(GroupError::UnknownMemberId); leaving.len()]);
        };
        let mut out = Effects::new();
        let answers = entry.group.leave(leaving, moment(), &mut out);
        self.settle(number, group, out);
        Ok(answers)
    }
}
