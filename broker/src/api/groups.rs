//! Groups: the coordinator, as listeners ask it.

use super::Api;
pub use crate::groups::classic::{
    Caller, Join, JoinRefusal, Joined, JoinedMember, Leaving, Protocol, Sync, Synced, Token,
};
pub use crate::groups::{
    Commit, CommitRequest, CommittedOffset, Description, GroupError, Groups, Listing,
    MemberDescription, OFFSETS_TOPIC, Wanted,
};

impl Api {
    /// Has groups coordinated here.
    pub fn with_groups(self, groups: Groups) -> Self {
        Self { groups: Some(groups), ..self }
    }

    /// The coordinator.
    pub fn groups(&self) -> Result<&Groups, GroupError> {
        self.groups.as_ref().ok_or(GroupError::CoordinatorNotAvailable)
    }
}
