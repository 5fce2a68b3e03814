//! The cluster as a client sees it: metadata that is renewed when it proves wrong, and one
//! connection a broker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tonic::Code;

use super::connection::Connection;
use super::error::ClientError;
use super::metadata::{Metadata, TopicMetadata};
use super::pool::Pool;
use super::socket::SocketOptions;
use crate::grpc::MESSAGE_LEN_MAX;
use crate::v1::log_client::LogClient;
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
        }
    }
}

/// The cluster; cheap to clone, all clones share metadata and connections.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    options: ClusterOptions,
    pool: Pool,
    metadata: watch::Sender<Arc<Metadata>>,
    /// One refresh at a time; who waited for it is often served by it.
    refreshing: tokio::sync::Mutex<()>,
}

/// What a refresh asks for.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    Topics(&'a [&'a str]),
    AllTopics,
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
        let refreshing = tokio::sync::Mutex::default();
        Self { inner: Arc::new(Inner { options, pool, metadata, refreshing }) }
    }

    /// What is known now.
    pub fn metadata(&self) -> Arc<Metadata> {
        Arc::clone(&self.inner.metadata.borrow())
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

    /// Asks a broker for its view of these topics (none: of the brokers only) and of the live
    /// brokers. To be called at once when an answer shows that what is known is wrong. Calls that
    /// come together are served by one request; an answer asked for before the call never counts.
    pub async fn refresh(&self, topics: &[&str]) -> Result<Arc<Metadata>, ClientError> {
        self.refresh_wanted(Wanted::Topics(topics)).await
    }

    /// The same for all topics of the cluster; those that are gone are forgotten.
    pub async fn refresh_all(&self) -> Result<Arc<Metadata>, ClientError> {
        self.refresh_wanted(Wanted::AllTopics).await
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

    /// A connection to whichever broker can be reached: open ones first, then the brokers known,
    /// then the bootstrap addresses. For administration and group work, which any broker forwards.
    pub async fn any_connection(&self) -> Result<Connection, ClientError> {
        let mut tried = Vec::new();
        for address in self.candidates() {
            match self.inner.pool.connect(&address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => tried.push(error),
            }
        }
        Err(no_broker(tried))
    }

    /// To be told when a connection is of no use (requests on it time out): it is closed at once, all
    /// that is on it fails, and the next call makes a new one. A connection that closed itself
    /// needs no telling.
    pub fn connection_broken(&self, connection: &Connection) {
        self.inner.pool.broken(connection);
    }

    fn address(&self, broker: BrokerId) -> Option<String> {
        Some(self.inner.metadata.borrow().brokers.get(&broker)?.address.clone())
    }

    /// Every address known once, the best first: open, then not backing off, the rest last; brokers
    /// in random order so that clients spread.
    fn candidates(&self) -> Vec<String> {
        let pool = &self.inner.pool;
        let mut brokers: Vec<String> =
            self.metadata().brokers.values().map(|node| node.address.clone()).collect();
        fastrand::shuffle(&mut brokers);
        let bootstrap = self.inner.options.bootstrap.iter().cloned();
        let mut addresses: Vec<String> = Vec::new();
        for address in pool.open_addresses().into_iter().chain(brokers).chain(bootstrap) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
            .sort_by_key(|address| pool.open(address).is_none() && pool.is_backing_off(address));
        addresses
    }

    async fn refresh_wanted(&self, wanted: Wanted<'_>) -> Result<Arc<Metadata>, ClientError> {
        let since = Instant::now();
        let _refreshing = self.inner.refreshing.lock().await;
        if let Wanted::Topics(topics) = wanted
            && !topics.is_empty()
            && self.inner.metadata.borrow().is_fresh(topics, since)
        {
            return Ok(self.metadata());
        }
        let mut tried = Vec::new();
        for address in self.candidates() {
            match self.ask(&address, wanted).await {
                Ok(metadata) => return Ok(metadata),
                Err(error) => {
                    tracing::debug!(%address, %error, "a broker gave no metadata");
                    tried.push(error);
                }
            }
        }
        Err(no_broker(tried))
    }

    /// Asks one broker and puts its answer in place.
    async fn ask(&self, address: &str, wanted: Wanted<'_>) -> Result<Arc<Metadata>, ClientError> {
        let pool = &self.inner.pool;
        let connection = pool.connect(address).await?;
        let (topics, all_topics) = match wanted {
            Wanted::Topics(names) => (names.iter().map(|&name| name.to_owned()).collect(), false),
            Wanted::AllTopics => (Vec::new(), true),
        };
        let asked = Instant::now();
        let mut client =
            LogClient::new(connection.clone()).max_decoding_message_size(MESSAGE_LEN_MAX);
        let allow_auto_create = self.inner.options.allow_auto_create;
        let call = client.metadata(v1::MetadataRequest { topics, all_topics, allow_auto_create });
        let after = self.inner.options.request_timeout;
        let answer = match tokio::time::timeout(after, call).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => {
                if status.code() == Code::Unavailable {
                    pool.broken(&connection);
                }
                return Err(ClientError::Refused { address: address.into(), status });
            }
            Err(_) => {
                pool.broken(&connection);
                let what = "a metadata request";
                return Err(ClientError::TimedOut { address: address.into(), what, after });
            }
        };
        let merged = Arc::new(self.metadata().merged(answer, asked, all_topics));
        self.inner.metadata.send_replace(Arc::clone(&merged));
        let bootstrap = &self.inner.options.bootstrap;
        pool.retain(|address| {
            bootstrap.iter().any(|known| known == address)
                || merged.brokers.values().any(|node| node.address == address)
        });
        Ok(merged)
    }
}

fn no_broker(tried: Vec<ClientError>) -> ClientError {
    // One cause is best told as itself, and a wrong address is no matter of time.
    match tried.len() {
        0 => ClientError::NoBroker { tried: vec!["no bootstrap server is configured".into()] },
        1 => tried.into_iter().next().unwrap_or(ClientError::NoBroker { tried: Vec::new() }),
        _ => ClientError::NoBroker { tried: tried.iter().map(ToString::to_string).collect() },
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cluster").field(&self.inner.options.bootstrap).finish()
    }
}
