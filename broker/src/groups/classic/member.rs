//! A member of a classic group.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Join, Protocol, Token};

/// A member. Waits in at most one of join and sync.
#[derive(Debug)]
pub struct Member {
    pub(super) id: Arc<str>,
    pub(super) instance: Option<Arc<str>>,
    pub(super) client_id: Arc<str>,
    pub(super) client_host: Arc<str>,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) protocols: Vec<Protocol>,
    /// Of the generation, once that is stored; empty before.
    pub(super) assignment: Bytes,
    /// When it is taken for dead, unless it waits.
    pub(super) expires_at: Instant,
    /// It was never told of a generation: nobody may be there any more to be told.
    pub(super) is_new: bool,
    /// Waits to be told of the next generation.
    pub(super) join: Option<Token>,
    /// Waits for its assignment.
    pub(super) sync: Option<Token>,
    /// It has asked for its assignment in this generation.
    pub(super) has_synced: bool,
}

impl Member {
    /// Somebody who joins under this id and is answered later.
    pub(super) fn joining(id: Arc<str>, join: Join, expires_at: Instant) -> Self {
        Self {
            id,
            instance: join.instance,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols: join.protocols,
            assignment: Bytes::new(),
            expires_at,
            is_new: true,
            join: Some(join.token),
            sync: None,
            has_synced: false,
        }
    }

    /// Its id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Its instance, if it is static.
    pub fn instance(&self) -> Option<&Arc<str>> {
        self.instance.as_ref()
    }

    /// Named by the client.
    pub fn client_id(&self) -> &Arc<str> {
        &self.client_id
    }

    /// Where it connects from.
    pub fn client_host(&self) -> &Arc<str> {
        &self.client_host
    }

    /// What it can do, best first.
    pub fn protocols(&self) -> &[Protocol] {
        &self.protocols
    }

    /// What it was given.
    pub fn assignment(&self) -> &Bytes {
        &self.assignment
    }

    /// Bytes it takes, about.
    pub(super) fn bytes(&self) -> usize {
        const AROUND: usize = 512;
        let texts = [&self.id, &self.client_id, &self.client_host].map(|text| text.len());
        let instance = self.instance.as_ref().map_or(0, |instance| instance.len());
        let said: usize = self.protocols.iter().map(Protocol::bytes).sum();
        AROUND + texts.iter().sum::<usize>() + instance + said + self.assignment.len()
    }

    /// What it said for a protocol; empty where it does not know that.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let known = self.protocols.iter().find(|known| &*known.name == protocol);
        known.map(|known| known.metadata.clone()).unwrap_or_default()
    }

    /// Whoever waits is alive: it cannot say more than it has. A new member is believed for a while
    /// only, since its client may be gone without ever having known its id.
    pub(super) fn expires(&self, now: Instant) -> bool {
        self.may_expire() && self.expires_at <= now
    }

    /// Whether its silence counts.
    pub(super) fn may_expire(&self) -> bool {
        self.is_new || (self.join.is_none() && self.sync.is_none())
    }
}
