//! The sessions that exist: what of them survives a restart. When each was last heard from is the
//! engine's business.

use std::collections::HashMap;

/// What a client must show to take its session up again.
pub(crate) type Password = [u8; 16];

/// One session as it persists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) timeout_ms: i32,
    pub(crate) password: Password,
}

/// All sessions. `last_id` is the highest number ever given out, also to sessions that are gone.
#[derive(Debug, Default)]
pub(crate) struct SessionTable {
    sessions: HashMap<i64, Session>,
    last_id: i64,
}

impl SessionTable {
    pub(crate) fn with_last_id(last_id: i64) -> Self {
        Self { sessions: HashMap::new(), last_id }
    }

    pub(crate) fn last_id(&self) -> i64 {
        self.last_id
    }

    /// A number no session has had: from the clock, as ZooKeeper's, but never going back with it.
    pub(crate) fn next_id(&self, time_ms: i64) -> i64 {
        // 40 bits of milliseconds, 16 bits to count within one.
        let from_clock = (time_ms & 0xff_ffff_ffff) << 16;
        from_clock.max(self.last_id + 1)
    }

    pub(crate) fn get(&self, id: i64) -> Option<&Session> {
        self.sessions.get(&id)
    }

    pub(crate) fn insert(&mut self, id: i64, session: Session) {
        self.last_id = self.last_id.max(id);
        self.sessions.insert(id, session);
    }

    pub(crate) fn remove(&mut self, id: i64) -> bool {
        self.sessions.remove(&id).is_some()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, &Session)> {
        self.sessions.iter().map(|(id, session)| (*id, session))
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }
}
