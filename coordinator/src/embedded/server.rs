//! The listening server: opens the data directory, accepts connections, runs the engine.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::connection::{self, Command, Heard, Intake, Peer};
use super::engine::Engine;
use super::error::EmbeddedError;
use super::log::disk::{Directory, Disk};
use super::log::recovery;
use super::log::writer::LogWriter;
use super::options::EmbeddedOptions;
use super::outbox::{Outbox, OutputBudget};
use super::state::Limits;

/// Commands queued for the engine; connections wait above it.
const COMMANDS_MAX: usize = 1024;
/// After an accept that failed, for want of descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a stop waits for the disk, and then for the last answers to be taken.
const STOP_WAIT: Duration = Duration::from_secs(2);
const FLUSH_WAIT: Duration = Duration::from_millis(500);

/// The embedded registry, bound but not yet serving.
pub struct Server {
    options: EmbeddedOptions,
    listener: StdListener,
    local_addr: SocketAddr,
    engine: Engine,
    budget: Arc<OutputBudget>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Server {
    /// Locks and recovers the data directory and binds the address. Connections are queued by the
    /// system from here on and served by [`run`](Self::run).
    ///
    /// # Errors
    /// If the directory is locked, damaged or cannot be used, or the address cannot be bound.
    pub fn bind(options: EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let io = |action: &'static str| move |source| EmbeddedError::Io { action, source };
        let disk = Directory::lock(&options.data)
            .map_err(io("make and lock the file \"lock\""))?
            .ok_or_else(|| EmbeddedError::Locked { path: options.data.clone() })?;
        Self::bind_on(options, Box::new(disk))
    }

    /// [`bind`](Self::bind) on a directory that is open already.
    pub(super) fn bind_on(
        options: EmbeddedOptions,
        disk: Box<dyn Disk>,
    ) -> Result<Self, EmbeddedError> {
        let listen = |source| EmbeddedError::Listen { address: options.listen, source };
        let (listener, local_addr) = bind(options.listen).map_err(listen)?;
        let limits = Limits {
            tree_bytes: options.tree_bytes_max,
            watches_per_session: options.watches_max,
            sessions: options.sessions_max,
        };
        let recovered = recovery::recover(disk.as_ref(), limits)?;
        tracing::info!(
            zxid = recovered.state.zxid,
            nodes = recovered.state.tree.len(),
            sessions = recovered.state.sessions.len(),
            replayed = recovered.replayed,
            cut_bytes = recovered.cut_bytes,
            "registry recovered"
        );
        let log = LogWriter::start(disk, recovered.log, recovered.state.zxid)
            .map_err(|source| EmbeddedError::Io { action: "start the log's thread", source })?;
        let budget =
            Arc::new(OutputBudget::new(options.output_bytes_max, options.output_total_bytes_max));
        let engine = Engine::new(
            options.clone(),
            recovered.state,
            log,
            recovered.snapshot_bytes,
            budget.clone(),
        );
        Ok(Self { options, listener, local_addr, engine, budget })
    }

    /// The address listened on, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown` is done. Sessions stay: their clients may come back to the next
    /// server on the same directory.
    ///
    /// Runs on any tokio runtime, also a current-thread one. Dropping the future stops serving at
    /// once.
    ///
    /// # Errors
    /// If the log cannot be written any more.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), EmbeddedError> {
        let Self { options, listener, mut engine, budget, .. } = self;
        let listener = TcpListener::from_std(listener)
            .map_err(|source| EmbeddedError::Io { action: "register the listener", source })?;
        let (sender, mut commands) = mpsc::channel(COMMANDS_MAX);
        let mut acceptor = Acceptor::new(&options, budget, sender);
        let result = tokio::select! {
            result = engine.run(&mut commands) => result,
            () = acceptor.run(&listener) => Ok(()),
            () = shutdown => Ok(()),
        };
        drop(listener);
        if result.is_ok() {
            match tokio::time::timeout(STOP_WAIT, engine.drain()).await {
                Ok(drained) => drained?,
                Err(_) => tracing::warn!("the registry's disk is too slow, stopping without it"),
            }
            let connections = &mut acceptor.connections;
            let flushed = async { while connections.join_next().await.is_some() {} };
            drop(commands);
            let _ = tokio::time::timeout(FLUSH_WAIT, flushed).await;
        }
        acceptor.connections.shutdown().await;
        let stopped = tokio::task::spawn_blocking(move || engine.stop()).await;
        if stopped.is_err() {
            tracing::error!("the registry's engine panicked while stopping");
        }
        result
    }
}

fn bind(address: SocketAddr) -> io::Result<(StdListener, SocketAddr)> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let local_addr = listener.local_addr()?;
    Ok((listener, local_addr))
}

/// Takes connections in, within the bounds.
struct Acceptor {
    intake: Intake,
    budget: Arc<OutputBudget>,
    connections_max: usize,
    connections: JoinSet<()>,
    /// Those of the newest connections that may not have sent a connect record yet, oldest first.
    strangers: VecDeque<Arc<Peer>>,
    epoch: Instant,
    next_id: u64,
}

impl Acceptor {
    fn new(
        options: &EmbeddedOptions,
        budget: Arc<OutputBudget>,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        Self {
            intake: Intake::new(options, commands),
            budget,
            connections_max: options.connections_max.max(4),
            connections: JoinSet::new(),
            strangers: VecDeque::new(),
            epoch: Instant::now(),
            next_id: 1,
        }
    }

    async fn run(&mut self, listener: &TcpListener) {
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((socket, address)) => self.admit(socket, address),
                    Err(error) => {
                        tracing::warn!(%error, "registry cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = self.connections.join_next() => {}
            }
        }
    }

    fn admit(&mut self, socket: TcpStream, address: SocketAddr) {
        if self.connections.len() >= self.connections_max {
            tracing::warn!(%address, max = self.connections_max, "too many registry connections");
            return;
        }
        // Who says nothing must not keep out who does: of the strangers the oldest goes.
        self.strangers.retain(|peer| !peer.introduced.load(Ordering::Relaxed));
        if self.strangers.len() >= self.connections_max / 4
            && let Some(oldest) = self.strangers.pop_front()
        {
            oldest.outbox.kill();
        }
        let peer = Arc::new(Peer {
            id: self.next_id,
            address: address.ip(),
            outbox: Outbox::new(self.budget.clone()),
            heard: Heard::new(self.epoch),
            introduced: AtomicBool::new(false),
        });
        self.next_id += 1;
        self.strangers.push_back(peer.clone());
        self.connections.spawn(connection::serve(socket, peer, self.intake.clone()));
    }
}
