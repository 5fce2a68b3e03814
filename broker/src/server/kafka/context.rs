//! [`Context`]: what a handler knows beside its request.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use proto::kafka::Str;

use super::Services;
use super::alarm::Alarm;
use super::fetching::positions::Positions;

/// Of one request.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) services: Arc<Services>,
    pub(super) peer: Peer,
    /// What the client calls itself.
    pub(super) client_id: Option<Str>,
    /// Of the request's API.
    pub(super) version: i16,
    /// Of its connection.
    pub(super) kept: Arc<Kept>,
}

/// What a connection keeps from one request to the next.
#[derive(Default)]
pub(super) struct Kept {
    /// Where its fetch requests read on.
    pub(super) positions: Mutex<Positions>,
    /// Goes off when the one that waits has waited for long enough.
    pub(super) alarm: Alarm,
}

/// Of one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// The address of ours that it came in on.
    pub(super) local: SocketAddr,
    /// The number of the listener it came in by.
    pub(super) listener: usize,
}

impl Context {
    /// What the client calls itself; empty where it does not say.
    pub(super) fn client_id(&self) -> &str {
        self.client_id.as_deref().unwrap_or_default()
    }
}
