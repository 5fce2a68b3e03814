//! The handle on the one supervised session of a process.
//!
//! Disconnected is not expired: while disconnected, wait. When a session has expired, the
//! supervisor builds a new one and publishes it with the next number; whoever had ephemerals or
//! watches in the old one sees a [`Live`] of another number and makes them anew.
//!
//! Nobody else keeps a [`Client`] beyond the [`Live`] it came with, and nobody decides by the
//! session's state alone: it lags after a pause. Writes are conditional, and [`Live::lease_valid`]
//! says by our own clock how long the session is certain to be alive.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use zookeeper_client::Client;

use super::supervisor::Supervisor;
use super::{ConnectString, Lease};

/// The session timeout asked for when none is given.
pub const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_secs(6);

/// What to do while no server has answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstConnect {
    /// [`Session::start`] returns at once; the supervisor goes on trying and logs why it has to.
    Wait,
    /// [`Session::start`] returns when connected, and fails after this long; zero tries each
    /// server once.
    Within(Duration),
}

/// How to reach the registry.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Addresses and chroot.
    pub connect: ConnectString,
    /// The session timeout asked for; the servers grant 2 to 20 of their ticks.
    pub timeout: Duration,
    /// What to do while no server has answered yet.
    pub first_connect: FirstConnect,
}

impl SessionOptions {
    /// The defaults: 6 s, and wait for the first connection.
    pub fn new(connect: ConnectString) -> Self {
        Self { connect, timeout: DEFAULT_SESSION_TIMEOUT, first_connect: FirstConnect::Wait }
    }

    /// Asks for another session timeout.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Fails unless connected within `limit`.
    pub fn failing_after(self, limit: Duration) -> Self {
        Self { first_connect: FirstConnect::Within(limit), ..self }
    }
}

/// No session was established in the time given.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot reach ZooKeeper at {connect} ({cause}) after {:.1} s: nothing serves there, or a \
     firewall is between; check the address (--zookeeper), and that the ensemble or \
     `coordinator registry` is running",
    waited.as_secs_f64()
)]
pub struct StartError {
    /// Where it was looked for.
    pub connect: ConnectString,
    /// How long it was tried.
    pub waited: Duration,
    /// What the last attempt met.
    pub cause: String,
}

/// The session was closed by this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ZooKeeper session was closed by this process")]
pub struct Closed;

/// An established session.
#[derive(Debug, Clone)]
pub struct Live {
    /// Counts the sessions of this process from 1.
    pub number: u64,
    /// Its client, with the chroot applied. Dead for good once the session has expired.
    pub client: Client,
    /// The timeout granted.
    pub timeout: Duration,
    /// Until when it is certain to be alive.
    pub lease: Lease,
}

impl Live {
    /// True while no other process can have been given what this session holds; false soon after
    /// the ensemble stopped answering, and at once after the process was paused for long.
    pub fn lease_valid(&self) -> bool {
        self.lease.is_valid()
    }

    /// The session's id, as `Stat::ephemeral_owner` shows it.
    pub fn session_id(&self) -> i64 {
        self.client.session_id().0
    }
}

/// Where the session stands. Published on a watch channel: only the newest is kept.
#[derive(Debug, Clone)]
pub enum SessionState {
    /// No session: none yet, or the last one expired. Followed by `Connected` or `Closed`.
    Connecting {
        /// What the last attempt met.
        cause: Option<Arc<str>>,
    },
    /// Follows `Connecting` (new number) and `Disconnected` (same number: all is still there).
    Connected(Live),
    /// No server answers; the session may still be alive. Requests wait for the reconnection.
    /// Followed by `Connected` (same number), `Connecting` (expired) or `Closed`.
    Disconnected {
        /// The session.
        live: Live,
        /// Since when it has been known.
        since: Instant,
    },
    /// Final.
    Closed,
}

impl SessionState {
    /// The session, when there is one, connected or not.
    pub fn live(&self) -> Option<&Live> {
        match self {
            Self::Connected(live) | Self::Disconnected { live, .. } => Some(live),
            Self::Connecting { .. } | Self::Closed => None,
        }
    }
}

/// The supervised session; clones share it. It closes when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Session {
    connect: Arc<ConnectString>,
    states: watch::Receiver<SessionState>,
    close: Arc<watch::Sender<bool>>,
}

impl Session {
    /// Starts the supervisor on the current tokio runtime. Makes the chroot and the root nodes.
    pub async fn start(options: SessionOptions) -> Result<Self, StartError> {
        let (published, states) = watch::channel(SessionState::Connecting { cause: None });
        let (close, asked_to_close) = watch::channel(false);
        let session =
            Self { connect: Arc::new(options.connect.clone()), states, close: Arc::new(close) };
        let first_connect = options.first_connect;
        tokio::spawn(Supervisor::new(options, published, asked_to_close).run());
        if let FirstConnect::Within(limit) = first_connect {
            session.connected_within(limit).await?;
        }
        Ok(session)
    }

    /// Where the registry is.
    pub fn connect_string(&self) -> &ConnectString {
        &self.connect
    }

    /// The session's states; the receiver does not keep the session open.
    pub fn watch(&self) -> watch::Receiver<SessionState> {
        self.states.clone()
    }

    /// The session if it is connected now, as far as is known.
    pub fn connected(&self) -> Option<Live> {
        match &*self.states.borrow() {
            SessionState::Connected(live) => Some(live.clone()),
            _ => None,
        }
    }

    /// Waits until connected.
    pub async fn live(&self) -> Result<Live, Closed> {
        self.live_after(0).await
    }

    /// Waits until connected in a session later than `number`: for whoever met
    /// [`super::Fault::SessionEnded`] in that one.
    pub async fn live_after(&self, number: u64) -> Result<Live, Closed> {
        let mut states = self.states.clone();
        let found = states
            .wait_for(|state| match state {
                SessionState::Connected(live) => live.number > number,
                SessionState::Closed => true,
                _ => false,
            })
            .await
            .map_err(|_| Closed)?;
        match &*found {
            SessionState::Connected(live) => Ok(live.clone()),
            _ => Err(Closed),
        }
    }

    /// Ends the session and removes its ephemerals at once; takes at most about 2 s when no server
    /// answers. Every clone of this handle sees `Closed`.
    pub async fn close(&self) {
        self.close.send_replace(true);
        let mut states = self.states.clone();
        // The supervisor publishes `Closed`, clears up, and then drops its end of the channel.
        while states.changed().await.is_ok() {}
    }

    async fn connected_within(&self, limit: Duration) -> Result<(), StartError> {
        let began = Instant::now();
        let mut states = self.states.clone();
        // A server that accepts and never answers gives no cause: then twice the time is the end.
        let hard_limit = limit * 2 + Duration::from_secs(2);
        let waiting = async {
            loop {
                let cause = match &*states.borrow_and_update() {
                    SessionState::Connecting { cause } => cause.clone(),
                    SessionState::Connected(_) | SessionState::Disconnected { .. } => return None,
                    SessionState::Closed => Some("the session was closed".into()),
                };
                if cause.is_some() && began.elapsed() >= limit {
                    return cause;
                }
                if states.changed().await.is_err() {
                    return Some("the session was closed".into());
                }
            }
        };
        let cause = match tokio::time::timeout(hard_limit, waiting).await {
            Ok(None) => return Ok(()),
            Ok(Some(cause)) => cause.to_string(),
            Err(_) => "connected, but no answer".to_owned(),
        };
        self.close.send_replace(true);
        Err(StartError { connect: (*self.connect).clone(), waited: began.elapsed(), cause })
    }
}
