//! What comes out of a group: answers to those who wait, and what is to be stored.

use std::sync::Arc;

use bytes::Bytes;

use super::stored::GroupMetadata;
use crate::groups::GroupError;

/// Who waits for an answer; given by the caller, unique while it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Names a write that the group waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A member that has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The generation it is a member of.
    pub generation: i32,
    /// What kind of group.
    pub protocol_type: Option<Arc<str>>,
    /// What the members agreed on.
    pub protocol: Option<Arc<str>>,
    /// Who assigns.
    pub leader: Arc<str>,
    /// The leader is not to assign: the group's assignment stands.
    pub skip_assignment: bool,
    /// Who is told.
    pub member_id: Arc<str>,
    /// Every member, for the leader alone.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub id: Arc<str>,
    /// Its instance, if it is static.
    pub instance: Option<Arc<str>>,
    /// What it said for the group's protocol.
    pub metadata: Bytes,
}

/// A join that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRefusal {
    /// Why.
    pub error: GroupError,
    /// The id to join with, where an id is required; else the one it came with.
    pub member_id: Arc<str>,
}

/// A member that has its assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// What kind of group.
    pub protocol_type: Option<Arc<str>>,
    /// What the members agreed on.
    pub protocol: Option<Arc<str>>,
    /// What the leader gave it; empty where it gave nothing.
    pub assignment: Bytes,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Answer a join.
    Join(Token, Result<Joined, JoinRefusal>),
    /// Answer a sync.
    Sync(Token, Result<Synced, GroupError>),
    /// Store the group; with a ticket, tell the group what came of it.
    Store(Option<Ticket>, GroupMetadata),
}

/// What is to be done, in order.
pub type Effects = Vec<Effect>;
