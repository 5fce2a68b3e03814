//! The cluster as a client sees it: metadata that is pushed by a broker and asked for anew when it
//! proves wrong, and one connection a broker.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::busy_poll::BusyPoll;
use super::connection::Connection;
use super::error::ClientError;
use super::metadata::{Metadata, TopicMetadata};
use super::pool::Pool;
use super::socket::SocketOptions;
use super::watching;
use crate::{BrokerId, v1};

/// How a client finds and asks the cluster.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// `bootstrap.servers`: addresses (`HOST:PORT`) to ask first; any live broker will do.
    pub bootstrap: Vec<String>,
    /// How sockets are opened.
    pub socket: SocketOptions,
    /// The longest wait for a metadata answer before another broker is asked; default 5 s.
    pub request_timeout: Duration,
    /// `reconnect.backoff.ms`: wait after the first failure; default 50 ms.
    pub reconnect_backoff: Duration,
    /// `reconnect.backoff.max.ms`: waits double up to this; default 1 s.
    pub reconnect_backoff_max: Duration,
    /// Asks brokers to create topics that are missing, where they allow it; default false.
    pub allow_auto_create: bool,
    /// A broker that has not answered for so long is no longer waited for alone: the next one is asked
    /// beside it; default 100 ms.
    pub stagger: Duration,
    /// How often a broker that pushes metadata gives a sign of life where nothing changes; after three
    /// missing ones another broker is asked to push; default 1 s.
    pub watch_keep_alive: Duration,
}

impl ClusterOptions {
    /// The defaults, with these addresses.
    pub fn new(bootstrap: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            bootstrap: bootstrap.into_iter().map(Into::into).collect(),
            socket: SocketOptions::default(),
            request_timeout: Duration::from_secs(5),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            allow_auto_create: false,
            stagger: Duration::from_millis(100),
            watch_keep_alive: Duration::from_secs(1),
        }
    }
}

/// The cluster; cheap to clone, all clones share metadata and connections.
#[derive(Clone)]
pub struct Cluster {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) options: ClusterOptions,
    pub(super) pool: Pool,
    metadata: watch::Sender<Arc<Metadata>>,
    /// One refresh at a time; who waited for it is often served by it.
    pub(super) refreshing: tokio::sync::Mutex<()>,
    /// The topics whose changes are to be pushed.
    watched: watch::Sender<BTreeSet<String>>,
    watching: Mutex<Option<AbortHandle>>,
    pub(super) counts: Arc<ClusterCounts>,
}

/// Counts how a client comes to know what it knows; readable when the cluster is gone.
#[derive(Debug, Default)]
pub struct ClusterCounts {
    pub(super) refreshes: AtomicU64,
    pub(super) pushes: AtomicU64,
    pub(super) streams: AtomicU64,
    leader_changes: AtomicU64,
}

/// How a client came to know what it knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClusterStats {
    /// Answers that were asked for.
    pub refreshes: u64,
    /// Answers that brokers pushed; the first of each stream, and each change.
    pub pushes: u64,
    /// Streams of pushed metadata that were opened, one after another.
    pub streams: u64,
    /// Partitions that were seen to have a newer leader epoch than before.
    pub leader_changes: u64,
}

impl ClusterCounts {
    /// What happened so far.
    pub fn stats(&self) -> ClusterStats {
        ClusterStats {
            refreshes: self.refreshes.load(Ordering::Relaxed),
            pushes: self.pushes.load(Ordering::Relaxed),
            streams: self.streams.load(Ordering::Relaxed),
            leader_changes: self.leader_changes.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(task) = self.watching.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

impl Cluster {
    /// Knows nothing yet and opens nothing yet.
    pub fn new(options: ClusterOptions) -> Self {
        let pool = Pool::new(
            options.socket.clone(),
            options.reconnect_backoff,
            options.reconnect_backoff_max,
        );
        let metadata = watch::Sender::new(Arc::default());
        Self {
            inner: Arc::new(Inner {
                options,
                pool,
                metadata,
                refreshing: tokio::sync::Mutex::default(),
                watched: watch::Sender::new(BTreeSet::new()),
                watching: Mutex::new(None),
                counts: Arc::default(),
            }),
        }
    }

    /// What is known now.
    pub fn metadata(&self) -> Arc<Metadata> {
        Arc::clone(&self.inner.metadata.borrow())
    }

    /// Names the topics whose changes brokers are to push, instead of those named before; for the life
    /// of the cluster and from within its runtime. What is pushed is told as any change is: see
    /// [`Cluster::subscribe`]. Where no broker pushes, refreshing is all there is.
    pub fn watch(&self, topics: BTreeSet<String>) {
        self.inner.watched.send_if_modified(|watched| {
            let changes = *watched != topics;
            *watched = topics;
            changes
        });
        let mut watching = self.inner.watching.lock().unwrap_or_else(PoisonError::into_inner);
        watching.get_or_insert_with(|| {
            let task = watching::run(Arc::downgrade(&self.inner), self.inner.watched.subscribe());
            tokio::spawn(task).abort_handle()
        });
    }

    /// What happened so far.
    pub fn stats(&self) -> ClusterStats {
        self.inner.counts.stats()
    }

    /// What counts it.
    pub fn counts(&self) -> Arc<ClusterCounts> {
        Arc::clone(&self.inner.counts)
    }

    /// What its sockets tell of their traffic.
    pub fn busy_poll(&self) -> &BusyPoll {
        &self.inner.options.socket.busy_poll
    }

    /// Tells each change of what is known.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Metadata>> {
        self.inner.metadata.subscribe()
    }

    /// A topic: as known, else by asking once. Where it does not exist, [`Metadata::topic_error`]
    /// says so and this is `None`.
    pub async fn topic(&self, name: &str) -> Result<Option<Arc<TopicMetadata>>, ClientError> {
        if let Some(known) = self.metadata().topic(name) {
            return Ok(Some(Arc::clone(known)));
        }
        Ok(self.refresh(&[name]).await?.topic(name).cloned())
    }

    /// The connection to a broker; asks for metadata once if the broker is not known. After failures
    /// it waits for the backoff, then makes one attempt.
    pub async fn connection(&self, broker: BrokerId) -> Result<Connection, ClientError> {
        let mut address = self.address(broker);
        if address.is_none() {
            self.refresh(&[]).await?;
            address = self.address(broker);
        }
        let address = address.ok_or(ClientError::UnknownBroker(broker))?;
        self.inner.pool.connect(&address).await
    }

    /// To be told when a connection is of no use (requests on it time out): it is closed at once, all
    /// that is on it fails, and the next call makes a new one. A connection that closed itself
    /// needs no telling.
    pub fn connection_broken(&self, connection: &Connection) {
        self.inner.pool.broken(connection);
    }

    /// To be told when a broker is silent, or its connection was lost: for a while others are asked first
    /// for what any broker can answer.
    pub fn suspect(&self, broker: BrokerId) {
        if let Some(address) = self.address(broker) {
            self.inner.pool.suspect(&address);
        }
    }

    fn address(&self, broker: BrokerId) -> Option<String> {
        Some(self.inner.metadata.borrow().brokers.get(&broker)?.address.clone())
    }

    /// Puts an answer in place, as far as it is not older than what is known.
    pub(super) fn apply(&self, answer: v1::MetadataResponse, asked: Instant, all: bool) {
        let inner = &self.inner;
        let mut came = Vec::new();
        inner.metadata.send_if_modified(|known| {
            let (merged, difference) = known.merged(answer, asked, all);
            inner.counts.leader_changes.fetch_add(difference.leaders, Ordering::Relaxed);
            let new =
                merged.brokers.iter().filter(|(id, node)| known.brokers.get(id) != Some(node));
            came = new.map(|(_, node)| node.address.clone()).collect();
            *known = Arc::new(merged);
            difference.any
        });
        came.iter().for_each(|address| inner.pool.came(address));
        let metadata = self.metadata();
        inner.pool.retain(|address| {
            inner.options.bootstrap.iter().any(|known| known == address)
                || metadata.brokers.values().any(|node| node.address == address)
        });
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cluster").field(&self.inner.options.bootstrap).finish()
    }
}
