//! Leaving, by a member or in its name.

use std::sync::Arc;

use super::{Effects, Group, Leaving, Moment, State};
use crate::groups::GroupError;

impl Group {
    /// Members leave; each is answered for itself, the rebalance is one for all.
    pub fn leave(
        &mut self,
        leaving: &[Leaving],
        now: Moment,
        out: &mut Effects,
    ) -> Vec<Result<(), GroupError>> {
        let size = self.members.len();
        let answers = leaving
            .iter()
            .map(|one| {
                let id = self.check_leave(one)?;
                self.pending.remove(&id);
                self.remove(&id, GroupError::UnknownMemberId, out);
                Ok(())
            })
            .collect();
        if self.members.len() < size {
            self.rebalance_or_go_on(now, out);
        } else {
            // An id that was handed out is not waited for any more.
            self.may_complete_join(now, out);
        }
        answers
    }

    /// The id of who leaves.
    fn check_leave(&self, one: &Leaving) -> Result<Arc<str>, GroupError> {
        if self.state == State::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        if let (true, Some(instance)) = (one.member_id.is_empty(), &one.instance) {
            return self.instances.get(instance).cloned().ok_or(GroupError::UnknownMemberId);
        }
        if self.pending.contains_key(&one.member_id) {
            return Ok(Arc::clone(&one.member_id));
        }
        self.check_member(&one.member_id, one.instance.as_ref())?;
        Ok(Arc::clone(&one.member_id))
    }
}
