//! The life of a coordinator: connect, stand for election, act for a term, stand again.
//!
//! ```text
//! Starting --elected--> Active --lease over, deposed--> Starting
//!     |                                                     ^
//!     +--another is active--> Standby --its node goes-------+
//! ```
//!
//! Runs on a current-thread runtime; the future of [`Controller::run`] is not `Send`. A term
//! that ends while its session lives gives the node back
//! first, so that each term has an epoch of its own.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::balance::Balance;
use super::commands::Defaults;
use super::event::QUEUE_MAX;
use super::fence::FencedWriter;
use super::listener;
use super::service::{Active, AdminService, Role};
use super::term::{Term, TermEnd, watch_brokers};
use crate::registry::{EpochFence, RegistryError};
use crate::zk::election::{self, Election};
use crate::zk::{Live, Session, SessionOptions, StartError};

/// Before the next attempt after ZooKeeper failed.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// A new session's first probe is answered within this, or it is looked at again.
const LEASE_LOOK: Duration = Duration::from_millis(10);

/// How a controller is set up.
#[derive(Debug, Clone)]
pub struct ControllerOptions {
    /// The registry and the session with it.
    pub session: SessionOptions,
    /// `HOST:PORT` of the Admin service; port 0 picks one.
    pub listen: String,
    /// `HOST:PORT` under which brokers reach it; `None`: the address that is bound.
    pub advertise: Option<String>,
    /// What topics get where their creator names none.
    pub defaults: Defaults,
    /// When leadership goes back to the preferred leaders by itself; `None`: never.
    pub balance: Option<Balance>,
    /// Connections of the Admin service at once; more are closed at once.
    pub max_connections: usize,
}

impl ControllerOptions {
    /// The defaults for a registry: loopback, any port, 1,000 connections.
    pub fn new(session: SessionOptions) -> Self {
        Self {
            session,
            listen: "127.0.0.1:0".to_owned(),
            advertise: None,
            defaults: Defaults::default(),
            balance: Some(Balance::default()),
            max_connections: 1_000,
        }
    }
}

/// A controller could not start.
#[derive(Debug, thiserror::Error)]
pub enum ControllerStartError {
    /// The address cannot be bound.
    #[error(
        "cannot listen on {listen}: {source}; another process may have the port, or the address is not of this machine (--listen)"
    )]
    Listen {
        /// As configured.
        listen: String,
        /// Why.
        source: io::Error,
    },
    /// Brokers could not reach it.
    #[error(
        "the controller listens on all addresses ({0}) and cannot tell by which one brokers reach it: give --advertise HOST:PORT"
    )]
    Advertise(SocketAddr),
    /// No registry.
    #[error(transparent)]
    Registry(#[from] StartError),
}

/// A coordinator that is or may become the controller.
pub struct Controller {
    session: Session,
    listener: TcpListener,
    local: SocketAddr,
    address: String,
    options: ControllerOptions,
}

impl Controller {
    /// Binds the port and starts the session. Nothing is served before [`Controller::run`].
    pub async fn start(options: ControllerOptions) -> Result<Self, ControllerStartError> {
        let failed =
            |source| ControllerStartError::Listen { listen: options.listen.clone(), source };
        let listener = TcpListener::bind(&options.listen).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let address = match &options.advertise {
            Some(address) => address.clone(),
            None if local.ip().is_unspecified() => {
                return Err(ControllerStartError::Advertise(local));
            }
            None => local.to_string(),
        };
        let session = Session::start(options.session.clone()).await?;
        Ok(Self { session, listener, local, address, options })
    }

    /// Where the Admin service listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Where brokers reach the Admin service.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Serves and stands for election until `shutdown`; then gives the role back at once.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let (roles, role) = watch::channel(Role::Starting);
        let service = AdminService::new(role);
        let serving = listener::serve(self.listener, service, self.options.max_connections);
        let candidate = Candidate {
            address: self.address,
            incarnation: Uuid::new_v4(),
            defaults: self.options.defaults,
            balance: self.options.balance,
            roles,
        };
        tokio::select! {
            () = shutdown => {}
            () = serving => {}
            () = candidate.run(&self.session) => {}
        }
        self.session.close().await;
    }
}

/// Who stands for election, again and again.
struct Candidate {
    address: String,
    incarnation: Uuid,
    defaults: Defaults,
    balance: Option<Balance>,
    roles: watch::Sender<Role>,
}

impl Candidate {
    async fn run(self, session: &Session) {
        while let Ok(live) = session.live().await {
            if let Err(error) = self.stand(&live).await {
                tracing::warn!(%error, "election not held yet");
            }
            self.roles.send_replace(Role::Starting);
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// One election, and what follows from it.
    async fn stand(&self, live: &Live) -> Result<(), RegistryError> {
        // The lease of a new session begins with its first answer.
        while !live.lease_valid() {
            tokio::time::sleep(LEASE_LOOK).await;
            if live.client.state().is_terminated() {
                return Ok(());
            }
        }
        match election::elect(&live.client, &self.address, self.incarnation).await? {
            Election::Standby { controller, watcher } => {
                tracing::info!(
                    controller = controller.address,
                    epoch = controller.epoch,
                    "standing by"
                );
                self.roles.send_replace(Role::Standby { controller: controller.address });
                watcher.changed().await;
                Ok(())
            }
            Election::Elected(fence) => self.act(live, fence).await,
        }
    }

    async fn act(&self, live: &Live, fence: EpochFence) -> Result<(), RegistryError> {
        tracing::info!(epoch = fence.epoch, address = self.address, "elected controller");
        let (events, queue) = mpsc::channel(QUEUE_MAX);
        let writer = FencedWriter::new(live.clone(), fence);
        let term = Term::new(writer, &self.address, self.defaults, self.balance, events.clone());
        self.roles.send_replace(Role::Active(Active {
            epoch: fence.epoch,
            address: self.address.clone(),
            live: live.clone(),
            events: events.clone(),
        }));
        let end = tokio::select! {
            end = term.run(queue) => end,
            () = watch_brokers(live.clone(), events) => TermEnd::LeaseOver,
        };
        // Nobody is sent to this term any more, and who waits in its queue is told.
        self.roles.send_replace(Role::Starting);
        tracing::warn!(?end, epoch = fence.epoch, "no longer the controller");
        election::resign(&live.client).await
    }
}
