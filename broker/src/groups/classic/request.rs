//! What is asked of a group, in its own words.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Protocol, Token};

/// A moment on both clocks: one that never jumps, and the one that stamps records.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// For deadlines.
    pub at: Instant,
    /// Milliseconds since the epoch, for what is stored.
    pub wall_ms: i64,
}

/// Bounds of every group of a broker.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max: Duration,
    /// `group.max.size`.
    pub size_max: usize,
}

/// A member, or somebody who wants to be one, joins.
#[derive(Debug, Clone)]
pub struct Join {
    /// Who waits for the answer.
    pub token: Token,
    /// As it was given; empty: it has none.
    pub member_id: Arc<str>,
    /// The id it gets if it has none.
    pub fresh_member_id: Arc<str>,
    /// Names a static member.
    pub instance: Option<Arc<str>>,
    /// Named by the client.
    pub client_id: Arc<str>,
    /// Where it connects from.
    pub client_host: Arc<str>,
    /// It knows to join again with the id it is given (JoinGroup 4).
    pub requires_member_id: bool,
    /// It knows that a leader may be told not to assign (JoinGroup 9).
    pub skips_assignment: bool,
    /// How long it may be silent.
    pub session_timeout: Duration,
    /// How long it may take to join again.
    pub rebalance_timeout: Duration,
    /// What kind of group it takes this for.
    pub protocol_type: Arc<str>,
    /// What it can do, best first.
    pub protocols: Vec<Protocol>,
}

/// Who says something in a generation.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its id; may be empty in a commit.
    pub member_id: Arc<str>,
    /// Its instance, if it is static.
    pub instance: Option<Arc<str>>,
    /// The generation it is in; -1: none.
    pub generation: i32,
}

/// A member wants its assignment; the leader brings everybody's.
#[derive(Debug, Clone)]
pub struct Sync {
    /// Who waits for the answer.
    pub token: Token,
    /// Who asks.
    pub caller: Caller,
    /// What it takes the group for (SyncGroup 5).
    pub protocol_type: Option<Arc<str>>,
    /// What it takes for agreed on (SyncGroup 5).
    pub protocol: Option<Arc<str>>,
    /// From the leader: member ids and what each is given.
    pub assignments: Vec<(Arc<str>, Bytes)>,
}

/// Who leaves.
#[derive(Debug, Clone)]
pub struct Leaving {
    /// Its id; empty: the one of the instance.
    pub member_id: Arc<str>,
    /// Its instance, if it is static.
    pub instance: Option<Arc<str>>,
}
