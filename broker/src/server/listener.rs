//! The acceptors and the threads that serve connections.
//!
//! One task a listener accepts and hands connections round-robin to N threads, each with a
//! current-thread runtime; a connection is one task of one of them, and goes to another only as
//! [`super::seat`] says. Above `max.connections`, over
//! all listeners, and above `max.connections.per.ip` of one address, a new one is closed at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use proto::client::{BusyPoll, CongestionControl};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use super::seat::{self, Loads, Seated};
use super::{Services, grpc, kafka};

/// Connections handed to a thread that it has not yet taken; more are closed.
const HANDED_MAX: usize = 256;
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long connections may finish what they do after a stop was asked for.
const DRAIN: Duration = Duration::from_millis(500);

/// What is spoken on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Ottla's own.
    Grpc,
    /// Kafka's, on the listener of this number.
    Kafka(usize),
}

/// The data threads. They end when `stop` is set and their connections are done.
pub(crate) struct DataThreads {
    inboxes: Arc<[mpsc::Sender<Handed>]>,
    /// Each gives back its runtime: timers of a connection that went elsewhere are still of it.
    threads: Vec<JoinHandle<Runtime>>,
    open: Arc<Open>,
    turn: AtomicUsize,
    services: Arc<Services>,
}

/// What a data thread is given.
enum Handed {
    Accepted(Accepted),
    /// From another data thread.
    Moved(Seated),
}

/// A connection and its place under `max.connections`.
struct Accepted {
    socket: std::net::TcpStream,
    peer: SocketAddr,
    protocol: Protocol,
    _place: Place,
}

/// Counts a connection while it lives.
struct Place {
    open: Arc<Open>,
    peer: IpAddr,
    services: Arc<Services>,
}

/// Connections that are open.
#[derive(Default)]
struct Open(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    all: usize,
    /// Never 0.
    by_peer: HashMap<IpAddr, usize>,
}

impl Open {
    /// Counts one more; the key of the limit that is reached otherwise.
    fn add(&self, peer: IpAddr, max: usize, max_of_peer: usize) -> Result<(), &'static str> {
        let mut counts = self.0.lock();
        if counts.all >= max {
            return Err("max.connections");
        }
        if counts.by_peer.get(&peer).is_some_and(|&open| open >= max_of_peer) {
            return Err("max.connections.per.ip");
        }
        counts.all += 1;
        *counts.by_peer.entry(peer).or_default() += 1;
        Ok(())
    }

    fn remove(&self, peer: IpAddr) {
        let mut counts = self.0.lock();
        counts.all -= 1;
        if let Entry::Occupied(mut of_peer) = counts.by_peer.entry(peer) {
            *of_peer.get_mut() -= 1;
            if *of_peer.get() == 0 {
                of_peer.remove();
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.remove(self.peer);
        self.services.metrics.connections.add(-1);
    }
}

impl DataThreads {
    /// Starts the threads.
    pub(crate) fn start(services: Arc<Services>, stop: &watch::Receiver<bool>) -> io::Result<Self> {
        let (mut inboxes, mut parts) = (Vec::new(), Vec::new());
        for _ in 0..services.config.threads {
            let (sender, inbox) = mpsc::channel(HANDED_MAX);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(4)
                .build()?;
            inboxes.push(sender);
            parts.push((runtime, inbox));
        }
        let inboxes: Arc<[_]> = inboxes.into();
        // Threads that poll do not sleep, and each polls for its own.
        let may_move = services.config.busy_poll.is_zero();
        let loads = may_move.then(|| Arc::new(Loads::of(parts.len())));
        let mut threads = Vec::new();
        for (number, (runtime, inbox)) in parts.into_iter().enumerate() {
            let (services, stop) = (Arc::clone(&services), stop.clone());
            let (inboxes, loads) = (Arc::clone(&inboxes), loads.clone());
            let serving = DataThread { services, inboxes, loads, stop };
            let thread =
                std::thread::Builder::new().name(format!("data-{number}")).spawn(move || {
                    seat::number_this_thread(number);
                    if let Some(loads) = &serving.loads {
                        loads.is_here(number);
                    }
                    runtime.block_on(serving.serve(inbox));
                    runtime
                })?;
            threads.push(thread);
        }
        Ok(Self { inboxes, threads, open: Arc::default(), turn: AtomicUsize::new(0), services })
    }

    /// Accepts until a stop is asked for.
    pub(crate) async fn accept(
        &self,
        listener: TcpListener,
        protocol: Protocol,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|&stop| stop) => return,
            };
            match accepted {
                Ok((socket, peer)) => {
                    if let Err(error) = self.hand_over(socket, peer, protocol) {
                        tracing::debug!(%peer, %error, "connection lost while it was accepted");
                    }
                }
                Err(error) => {
                    let anybody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                    if let Some(suppressed) = self.services.complaints.admit("accept", anybody) {
                        tracing::warn!(%error, suppressed, "cannot accept a connection; trying again");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Gives a connection to the thread whose turn it is, or to the next one that takes it.
    fn hand_over(&self, socket: TcpStream, peer: SocketAddr, protocol: Protocol) -> io::Result<()> {
        let Services { metrics, config, .. } = &*self.services;
        let from = peer.ip().to_canonical();
        let limits = (config.max_connections, config.max_connections_per_ip);
        if let Err(limit) = self.open.add(from, limits.0, limits.1) {
            metrics.connections_refused.one();
            if let Some(suppressed) = self.services.complaints.admit(limit, from) {
                tracing::warn!(%peer, limit, suppressed, "connection refused: the limit is reached");
            }
            return Ok(());
        }
        metrics.connections.add(1);
        metrics.connections_accepted.one();
        let (open, services) = (Arc::clone(&self.open), Arc::clone(&self.services));
        let place = Place { open, peer: from, services };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let accepted = Accepted { socket: socket.into_std()?, peer, protocol, _place: place };
        let mut handed = Handed::Accepted(accepted);
        for offset in 0..self.inboxes.len() {
            let inbox = &self.inboxes[(turn + offset) % self.inboxes.len()];
            match inbox.try_send(handed) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(back) | TrySendError::Closed(back)) => handed = back,
            }
        }
        metrics.connections_refused.one();
        if let Some(suppressed) = self.services.complaints.admit("behind", from) {
            tracing::warn!(%peer, suppressed, "every data thread is behind; connection closed");
        }
        Ok(())
    }

    /// Waits for the threads; a stop must have been asked for.
    pub(crate) fn join(self) {
        drop(self.inboxes);
        let ended = self.threads.into_iter().map(JoinHandle::join);
        // All have ended before the first runtime goes.
        for ended in ended.collect::<Vec<_>>() {
            match ended {
                Ok(runtime) => runtime.shutdown_background(),
                Err(_) => tracing::error!("a data thread panicked"),
            }
        }
    }
}

/// One data thread.
struct DataThread {
    services: Arc<Services>,
    inboxes: Arc<[mpsc::Sender<Handed>]>,
    /// `None`: connections stay where they are.
    loads: Option<Arc<Loads>>,
    stop: watch::Receiver<bool>,
}

impl DataThread {
    async fn serve(mut self, mut inbox: mpsc::Receiver<Handed>) {
        let (alive, mut all_done) = mpsc::channel::<()>(1);
        let busy_poll = BusyPoll::new(self.services.config.busy_poll);
        let _polling = busy_poll.start();
        loop {
            let handed = tokio::select! {
                handed = inbox.recv() => handed,
                _ = self.stop.wait_for(|&stop| stop) => None,
            };
            let seated = match handed {
                Some(Handed::Accepted(accepted)) => {
                    let (services, stop) = (Arc::clone(&self.services), self.stop.clone());
                    let connection = connection(accepted, services, busy_poll.clone(), stop);
                    Seated::new(connection, self.loads.clone())
                }
                Some(Handed::Moved(seated)) => seated,
                None => break,
            };
            let (services, inboxes) = (Arc::clone(&self.services), Arc::clone(&self.inboxes));
            let alive = alive.clone();
            tokio::spawn(async move {
                keep(seated, &inboxes, &services).await;
                drop(alive);
            });
        }
        drop(alive);
        let _ = tokio::time::timeout(DRAIN, all_done.recv()).await;
    }
}

/// Serves a connection until it is over, or another thread has it.
async fn keep(mut seated: Seated, inboxes: &[mpsc::Sender<Handed>], services: &Services) {
    while let Some(thread) = std::future::poll_fn(|cx| seated.poll(cx)).await {
        let Some(inbox) = inboxes.get(thread) else { continue };
        match inbox.try_send(Handed::Moved(seated)) {
            Ok(()) => {
                services.metrics.connections_moved.one();
                return;
            }
            Err(TrySendError::Full(back) | TrySendError::Closed(back)) => match back {
                Handed::Moved(back) => seated = back,
                Handed::Accepted(_) => return,
            },
        }
    }
}

/// A connection from its first byte to its last.
async fn connection(
    Accepted { socket, peer, protocol, _place }: Accepted,
    services: Arc<Services>,
    busy_poll: BusyPoll,
    stop: watch::Receiver<bool>,
) {
    match TcpStream::from_std(socket) {
        Ok(socket) => {
            if let Err(error) = set_options(&socket, peer, &services) {
                tracing::debug!(%peer, %error, "socket option not set");
            }
            match protocol {
                Protocol::Grpc => grpc::serve(socket, peer, services, busy_poll, stop).await,
                Protocol::Kafka(listener) => {
                    kafka::serve(socket, peer, listener, services, busy_poll, stop).await;
                }
            }
        }
        Err(error) => tracing::debug!(%peer, %error, "connection lost at once"),
    }
    drop(_place);
}

fn set_options(socket: &TcpStream, peer: SocketAddr, services: &Services) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let control: CongestionControl = services.config.congestion_control.parse().unwrap_or_default();
    control.apply(socket, peer)
}
