//! Signs of life, and whether a member may commit.

use super::{Caller, Group, Moment, State};
use crate::groups::GroupError;

impl Group {
    /// A member is alive, and asks whether its generation still is.
    pub fn heartbeat(&mut self, caller: &Caller, now: Moment) -> Result<(), GroupError> {
        self.check_caller(caller)?;
        self.is_alive(&caller.member_id, now);
        match self.state {
            State::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
            State::Empty | State::Dead => Err(GroupError::UnknownMemberId),
        }
    }

    /// Whether the caller may commit offsets. A commit is a sign of life, too.
    pub fn check_commit(&mut self, caller: &Caller, now: Moment) -> Result<(), GroupError> {
        if self.state == State::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        let is_stranger = caller.member_id.is_empty() && caller.instance.is_none();
        if caller.generation < 0 && (is_stranger || self.state == State::Empty) {
            // Uses the group to store offsets, which is nobody's business while it has members.
            return match self.state {
                State::Empty => Ok(()),
                _ => Err(GroupError::UnknownMemberId),
            };
        }
        self.check_caller(caller)?;
        match self.state {
            // It does not have its partitions yet, so what it commits is of a time before.
            State::CompletingRebalance => Err(GroupError::RebalanceInProgress),
            // Consumers commit while they give their partitions up.
            State::PreparingRebalance | State::Stable => {
                self.is_alive(&caller.member_id, now);
                Ok(())
            }
            State::Empty | State::Dead => Err(GroupError::UnknownMemberId),
        }
    }
}
