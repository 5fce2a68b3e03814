//! One connection an address, made when first wanted, made again with backoff.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;
use super::connection::Connection;
use super::error::ClientError;
use super::socket::SocketOptions;

/// The connections of one client.
pub(super) struct Pool {
    socket: SocketOptions,
    backoff: Backoff,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

/// One address. Who connects holds `connecting`; `state` is locked for moments only.
struct Slot {
    connecting: tokio::sync::Mutex<()>,
    state: Mutex<SlotState>,
}

struct SlotState {
    connection: Option<Connection>,
    backoff: Backoff,
    /// No attempt before this.
    not_before: Option<Instant>,
}

impl Pool {
    pub(super) fn new(socket: SocketOptions, initial: Duration, max: Duration) -> Self {
        Self { socket, backoff: Backoff::new(initial, max), slots: Mutex::default() }
    }

    /// The open connection to `address`, if there is one.
    pub(super) fn open(&self, address: &str) -> Option<Connection> {
        lock(&self.slots).get(address)?.open()
    }

    /// Whether an attempt now would first have to wait for its backoff.
    pub(super) fn is_backing_off(&self, address: &str) -> bool {
        let slots = lock(&self.slots);
        let not_before = slots.get(address).and_then(|slot| lock(&slot.state).not_before);
        not_before.is_some_and(|time| time > Instant::now())
    }

    /// The connection to `address`: the open one, or a new one. After failures, waits until the next
    /// attempt is due, then makes one.
    pub(super) async fn connect(&self, address: &str) -> Result<Connection, ClientError> {
        let slot = self.slot(address);
        let _connecting = slot.connecting.lock().await;
        if let Some(open) = slot.open() {
            return Ok(open);
        }
        let not_before = lock(&slot.state).not_before;
        if let Some(time) = not_before {
            tokio::time::sleep_until(time).await;
        }
        let connected = Connection::connect(address, &self.socket).await;
        let mut state = lock(&slot.state);
        match &connected {
            Ok(connection) => {
                state.connection = Some(connection.clone());
                state.not_before = None;
            }
            Err(_) => state.wait_after_failure(),
        }
        connected
    }

    /// Told when a connection is of no use: it is closed, and the next attempt waits.
    pub(super) fn broken(&self, connection: &Connection) {
        connection.abort();
        let slots = lock(&self.slots);
        let Some(slot) = slots.get(connection.address()) else { return };
        let mut state = lock(&slot.state);
        if state.connection.as_ref().is_some_and(|known| known.is_same(connection)) {
            state.retire();
        }
    }

    /// Forgets the addresses that are none any more; streams on them go on until they end.
    pub(super) fn retain(&self, is_known: impl Fn(&str) -> bool) {
        lock(&self.slots).retain(|address, _| is_known(address));
    }

    /// The addresses with an open connection.
    pub(super) fn open_addresses(&self) -> Vec<String> {
        let slots = lock(&self.slots);
        let open = slots.iter().filter(|(_, slot)| slot.open().is_some());
        open.map(|(address, _)| address.clone()).collect()
    }

    fn slot(&self, address: &str) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        let slot = slots.entry(address.to_owned()).or_insert_with(|| {
            let state =
                SlotState { connection: None, backoff: self.backoff.clone(), not_before: None };
            Arc::new(Slot { connecting: tokio::sync::Mutex::new(()), state: Mutex::new(state) })
        });
        Arc::clone(slot)
    }
}

impl Slot {
    fn open(&self) -> Option<Connection> {
        let mut state = lock(&self.state);
        if state.connection.as_ref().is_some_and(Connection::is_closed) {
            state.retire();
        }
        state.connection.clone()
    }
}

impl SlotState {
    /// The connection ended or is of no use. Where it never brought an answer (a port that accepts and
    /// does not serve), the waits go on growing; else they begin anew.
    fn retire(&mut self) {
        if self.connection.take().is_some_and(|connection| connection.has_answered()) {
            self.backoff.reset();
        }
        self.wait_after_failure();
    }

    fn wait_after_failure(&mut self) {
        self.not_before = Some(Instant::now() + self.backoff.after_failure());
    }
}

/// Nothing under these locks can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
