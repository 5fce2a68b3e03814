//! [`Context`]: what a handler knows beside its request.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use proto::kafka::Str;

use super::Services;
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
    /// Where its connection reads on.
    pub(super) positions: Arc<Mutex<Positions>>,
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
