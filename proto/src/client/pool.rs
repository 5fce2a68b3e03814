//! One connection an address, made when first wanted, made again with backoff.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::connection::Connection;
use super::error::ClientError;
use super::socket::SocketOptions;

/// How long a broker that was silent or slower than others is asked last.
const SUSPECT_FOR: Duration = Duration::from_secs(10);

/// The connections of one client.
pub(super) struct Pool {
    socket: SocketOptions,
    backoff: Backoff,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

/// One address. Who connects holds `connecting`; `state` is locked for moments only.
struct Slot {
    connecting: tokio::sync::Mutex<()>,
    /// Who waits for the backoff need not wait any more.
    came: Notify,
    state: Mutex<SlotState>,
}

struct SlotState {
    connection: Option<Connection>,
    backoff: Backoff,
    /// No attempt before this.
    not_before: Option<Instant>,
    /// Others are asked first until then, or until it answers.
    suspect_until: Option<Instant>,
}

impl Pool {
    pub(super) fn new(socket: SocketOptions, initial: Duration, max: Duration) -> Self {
        Self { socket, backoff: Backoff::new(initial, max), slots: Mutex::default() }
    }

    /// Whether others are to be asked first: it was silent or slow, or an attempt now would have to
    /// wait for its backoff.
    pub(super) fn is_last_resort(&self, address: &str) -> bool {
        let now = Instant::now();
        let Some(slot) = lock(&self.slots).get(address).map(Arc::clone) else { return false };
        let is_open = slot.open().is_some();
        let state = lock(&slot.state);
        state.suspect_until.is_some_and(|until| until > now)
            || (!is_open && state.not_before.is_some_and(|time| time > now))
    }

    /// A broker was silent, or others were faster: they are asked first for a while.
    pub(super) fn suspect(&self, address: &str) {
        lock(&self.slot(address).state).suspect_until = Some(Instant::now() + SUSPECT_FOR);
    }

    /// It answered in time.
    pub(super) fn clear(&self, address: &str) {
        lock(&self.slot(address).state).suspect_until = None;
    }

    /// The broker there has just come: what failed before it came need not be waited for.
    pub(super) fn came(&self, address: &str) {
        let Some(slot) = lock(&self.slots).get(address).map(Arc::clone) else { return };
        if slot.open().is_some() {
            return;
        }
        let mut state = lock(&slot.state);
        (state.not_before, state.suspect_until) = (None, None);
        state.backoff.reset();
        drop(state);
        slot.came.notify_one();
    }

    /// The connection to `address`: the open one, or a new one. After failures, waits until the next
    /// attempt is due, then makes one.
    pub(super) async fn connect(&self, address: &str) -> Result<Connection, ClientError> {
        let slot = self.slot(address);
        let _connecting = slot.connecting.lock().await;
        if let Some(open) = slot.open() {
            return Ok(open);
        }
        loop {
            let not_before = lock(&slot.state).not_before;
            let Some(time) = not_before.filter(|time| *time > Instant::now()) else { break };
            tokio::select! {
                () = tokio::time::sleep_until(time) => {}
                () = slot.came.notified() => {}
            }
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
            let state = SlotState {
                connection: None,
                backoff: self.backoff.clone(),
                not_before: None,
                suspect_until: None,
            };
            Arc::new(Slot {
                connecting: tokio::sync::Mutex::new(()),
                came: Notify::new(),
                state: Mutex::new(state),
            })
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
