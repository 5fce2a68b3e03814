//! [`SessionCache`]: the fetch sessions of the broker. They belong to it, not to connections: a client
//! that connects anew goes on with its session.
//!
//! Bounded by their number (`max.incremental.fetch.session.cache.slots`) and by memory. Who comes when
//! there is no room:
//!
//! | there is | then |
//! |---|---|
//! | a session that nobody used for two minutes | the one unused longest goes |
//! | one older than two minutes, with fewer partitions than the new one | the smallest goes |
//! | neither | the new one has none: the client names everything with each request |
//!
//! So sessions do not push each other out in turn, and large ones, which save most, stay. A session
//! that is being answered is lent out ([`Lease`]) and comes back when the answer is ready, or when its
//! client has left.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proto::ErrorCode;

use super::session::{Asked, NO_SESSION, Session, Standing, Step, epoch_after, step};
use crate::metrics::Metrics;

/// Unused, or there, for so long: others may have its place.
const EVICTION_AGE: Duration = Duration::from_secs(120);
/// Memory of all sessions.
const BYTES_MAX: usize = 64 << 20;

/// The sessions. Cheap to clone.
#[derive(Clone)]
pub(in crate::server) struct FetchSessions {
    cache: Arc<Mutex<SessionCache>>,
}

impl FetchSessions {
    /// At most `slots` of them; none with 0.
    pub(in crate::server) fn new(slots: usize, metrics: Arc<Metrics>) -> Self {
        let cache = SessionCache::new(slots, BYTES_MAX, metrics);
        Self { cache: Arc::new(Mutex::new(cache)) }
    }

    /// Begins a request.
    pub(in crate::server::kafka) fn begin(&self, asked: Asked, now: Instant) -> Begun {
        match self.cache.lock().begin(asked, now) {
            Taken::Full { opens } => Begun::Full { opens },
            Taken::Refused(code) => Begun::Refused(code),
            Taken::Session { serial, session } => {
                let sessions = self.clone();
                Begun::Incremental(Lease { sessions, id: asked.id, serial, session: Some(session) })
            }
        }
    }

    /// Opens a session; its id, or [`NO_SESSION`] where there is no room.
    pub(in crate::server::kafka) fn open(
        &self,
        session: Session,
        by_id: bool,
        now: Instant,
    ) -> i32 {
        self.cache.lock().open(session, by_id, now)
    }
}

/// What a request may do.
pub(in crate::server::kafka) enum Begun {
    /// Read what it names; the session that it named is closed.
    Full {
        opens: bool,
    },
    /// Change the session and read.
    Incremental(Lease),
    Refused(ErrorCode),
}

/// A session while a request of it is answered. Goes back when it drops.
pub(in crate::server::kafka) struct Lease {
    sessions: FetchSessions,
    id: i32,
    serial: u64,
    session: Option<Session>,
}

impl Lease {
    pub(in crate::server::kafka) fn id(&self) -> i32 {
        self.id
    }

    pub(in crate::server::kafka) fn session(&mut self) -> &mut Session {
        self.session.get_or_insert_default()
    }

    /// After the session was changed: whether there is room for it as it is now. Where there is not, or
    /// nothing is left of it, it closes.
    pub(in crate::server::kafka) fn keeps(&mut self, now: Instant) -> bool {
        let (len, bytes) = self.session.as_ref().map_or((0, 0), |s| (s.len(), s.bytes()));
        self.sessions.cache.lock().resize(self.id, self.serial, (len, bytes), now)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.sessions.cache.lock().put_back(self.id, self.serial, session);
        }
    }
}

struct SessionCache {
    sessions: HashMap<i32, Entry>,
    /// Of each session's entry another one, as ids come again.
    next_serial: u64,
    slots_max: usize,
    bytes_max: usize,
    /// Over all entries.
    bytes: usize,
    metrics: Arc<Metrics>,
}

struct Entry {
    serial: u64,
    /// Of the request that is awaited.
    epoch: i32,
    by_id: bool,
    created: Instant,
    used: Instant,
    len: usize,
    bytes: usize,
    /// Away while a request of it is answered.
    session: Option<Session>,
}

enum Taken {
    Full { opens: bool },
    Session { serial: u64, session: Session },
    Refused(ErrorCode),
}

impl SessionCache {
    fn new(slots_max: usize, bytes_max: usize, metrics: Arc<Metrics>) -> Self {
        let sessions = HashMap::new();
        Self { sessions, next_serial: 0, slots_max, bytes_max, bytes: 0, metrics }
    }

    fn begin(&mut self, asked: Asked, now: Instant) -> Taken {
        let standing = self.sessions.get(&asked.id).map_or(Standing::None, Entry::standing);
        match step(asked, standing) {
            Step::Refused(code) => Taken::Refused(code),
            Step::Full { opens } => {
                self.remove(asked.id);
                Taken::Full { opens }
            }
            Step::Incremental => {
                let entry = self.sessions.get_mut(&asked.id);
                let lent = entry.and_then(|entry| {
                    entry.epoch = epoch_after(entry.epoch);
                    entry.used = now;
                    entry.session.take().map(|session| (entry.serial, session))
                });
                match lent {
                    Some((serial, session)) => Taken::Session { serial, session },
                    None => Taken::Refused(ErrorCode::FetchSessionIdNotFound),
                }
            }
        }
    }

    fn open(&mut self, session: Session, by_id: bool, now: Instant) -> i32 {
        let (len, bytes) = (session.len(), session.bytes());
        if len == 0 || !self.make_room(1, (len, bytes), None, now) {
            return NO_SESSION;
        }
        let id = loop {
            let id = fastrand::i32(1..);
            if !self.sessions.contains_key(&id) {
                break id;
            }
        };
        let serial = self.next_serial;
        self.next_serial += 1;
        let epoch = epoch_after(0);
        let (created, used, session) = (now, now, Some(session));
        let entry = Entry { serial, epoch, by_id, created, used, len, bytes, session };
        self.count(1, len as i64);
        self.bytes += bytes;
        self.sessions.insert(id, entry);
        id
    }

    fn resize(&mut self, id: i32, serial: u64, (len, bytes): (usize, usize), now: Instant) -> bool {
        let Some(entry) = self.entry(id, serial) else {
            // Closed by another request meanwhile: this one is answered all the same.
            return len > 0;
        };
        let (len_before, bytes_before) = (entry.len, entry.bytes);
        let more = bytes.saturating_sub(bytes_before);
        if len == 0 || (more > 0 && !self.make_room(0, (len, more), Some(id), now)) {
            self.remove(id);
            return false;
        }
        self.bytes = self.bytes - bytes_before + bytes;
        self.count(0, len as i64 - len_before as i64);
        if let Some(entry) = self.entry(id, serial) {
            (entry.len, entry.bytes) = (len, bytes);
        }
        true
    }

    fn put_back(&mut self, id: i32, serial: u64, session: Session) {
        if let Some(entry) = self.entry(id, serial) {
            entry.session = Some(session);
        }
    }

    fn entry(&mut self, id: i32, serial: u64) -> Option<&mut Entry> {
        self.sessions.get_mut(&id).filter(|entry| entry.serial == serial)
    }

    /// Whether there is room for so many sessions more with so many bytes more, of a session with `len`
    /// partitions; others go for it where they may. `own` stays.
    fn make_room(
        &mut self,
        sessions: usize,
        (len, bytes): (usize, usize),
        own: Option<i32>,
        now: Instant,
    ) -> bool {
        if sessions > self.slots_max || bytes > self.bytes_max {
            return false;
        }
        while self.sessions.len() + sessions > self.slots_max || self.bytes + bytes > self.bytes_max
        {
            let Some(id) = self.evictable(len, own, now) else { return false };
            self.metrics.fetch_session_evictions.one();
            self.remove(id);
        }
        true
    }

    /// Who goes for a session with `len` partitions.
    fn evictable(&self, len: usize, own: Option<i32>, now: Instant) -> Option<i32> {
        let old = |since: Instant| now.saturating_duration_since(since) > EVICTION_AGE;
        let others = || self.sessions.iter().filter(|(id, _)| own != Some(**id));
        let unused = others().filter(|(_, entry)| old(entry.used));
        let longest = unused.min_by_key(|(_, entry)| entry.used);
        let smaller = || others().filter(|(_, entry)| old(entry.created) && entry.len < len);
        let smallest = || smaller().min_by_key(|(_, entry)| (entry.len, entry.used));
        longest.or_else(smallest).map(|(id, _)| *id)
    }

    fn remove(&mut self, id: i32) {
        if let Some(entry) = self.sessions.remove(&id) {
            self.bytes -= entry.bytes;
            self.count(-1, -(entry.len as i64));
        }
    }

    fn count(&self, sessions: i64, partitions: i64) {
        self.metrics.fetch_sessions.add(sessions);
        self.metrics.fetch_session_partitions.add(partitions);
    }
}

impl Entry {
    fn standing(&self) -> Standing {
        match self.session {
            Some(_) => Standing::Awaits { epoch: self.epoch, by_id: self.by_id },
            None => Standing::Busy,
        }
    }
}

#[cfg(test)]
mod tests;
