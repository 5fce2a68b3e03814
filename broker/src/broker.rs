//! A broker from its parts, and its orderly end. Wiring only: every decision is elsewhere.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use coordinator::zk::payload::KafkaEndpoint;
use coordinator::zk::{InvalidConnectString, Session, SessionOptions, StartError as SessionError};
use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::api::Api;
use crate::cluster::controller_link::ControllerLink;
use crate::cluster::identity::{Identity, IdentityError};
use crate::cluster::member::{JoinError, MemberParts, Registration};
use crate::cluster::membership::Membership;
use crate::cluster::metadata::MetadataCache;
use crate::cluster::producer_ids::ProducerIds;
use crate::config::{BrokerConfig, KafkaListener, log_config, open_files_max};
use crate::groups::{ControllerCreates, Groups};
use crate::http;
use crate::metrics::Metrics;
use crate::replication::PartitionSet;
use crate::server::{DataThreads, Endpoint, KafkaEndpoints, Protocol, Services};
use crate::storage::disk::{Disk, RealDisk};
use crate::storage::{LogSet, LogSetConfig, OpenError, StartReport, SystemClock};

/// Why a broker does not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// An address cannot be bound.
    #[error(
        "cannot listen on {address} for {what}: {source}; is another process using the port? Port 0 \
         picks a free one"
    )]
    Listen {
        /// As configured.
        address: String,
        /// Which listener.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// An address without a listener.
    #[error(
        "advertised.listeners names {name}, and listeners does not: give the listener there the same \
         name, or take it out here"
    )]
    Advertised {
        /// The name.
        name: String,
    },
    /// The log directories cannot be used.
    #[error(transparent)]
    Logs(#[from] OpenError),
    /// Every log directory has failed.
    #[error(
        "every log directory has failed, so this broker has nothing left to serve; see the log for \
         the failure of each, repair the disks and start it again"
    )]
    NoDirectory,
    /// A log directory belongs to somebody else.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The connect string is wrong.
    #[error(transparent)]
    ConnectString(#[from] InvalidConnectString),
    /// The registry.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// This broker cannot be a member of the cluster.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The system gives no threads.
    #[error("cannot start a thread: {0}; raise the limit on processes")]
    Thread(#[source] io::Error),
}

/// Where a running broker is reached, for its ready line.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// Of the gRPC listener.
    pub grpc: SocketAddr,
    /// Of the listeners for Kafka clients, as they are configured.
    pub kafka: Vec<SocketAddr>,
    /// Of the HTTP listener.
    pub http: SocketAddr,
}

impl Addresses {
    /// Of the listeners for Kafka clients, as the ready line has them.
    pub fn kafka_texts(&self) -> Vec<String> {
        self.kafka.iter().map(ToString::to_string).collect()
    }
}

/// A broker that has joined its cluster.
pub struct Broker {
    addresses: Addresses,
    listeners: Vec<(TcpListener, Protocol)>,
    threads: DataThreads,
    /// Of consumer groups.
    coordinator: JoinHandle<()>,
    membership: Membership,
    session: Session,
    partitions: Arc<PartitionSet>,
    pages: Arc<http::Pages>,
    stop: watch::Sender<bool>,
}

impl Broker {
    /// Opens the logs, joins the cluster and leads what it is to lead. Runs on the control thread's
    /// runtime, and waits for ZooKeeper as long as it takes.
    pub async fn start(config: BrokerConfig) -> Result<Self, BrokerError> {
        Self::start_over(config, Arc::new(RealDisk)).await
    }

    /// The same over another disk than the machine's.
    pub(crate) async fn start_over(
        config: BrokerConfig,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, BrokerError> {
        let (listeners, http_listener, addresses) = bind_all(&config).await?;
        let (logs, report) = open_logs(&config, &disk).await?;
        let identity = Identity::begin(&*disk, logs.usable_dirs(), config.id)?;

        let metrics = Arc::new(Metrics::default());
        let lag_time_max = config.replication.lag_time_max;
        let partitions = PartitionSet::new(logs, Arc::clone(&metrics), lag_time_max);
        let partitions = Arc::new(partitions);
        let metadata = Arc::new(MetadataCache::default());
        let (stop, stopping) = watch::channel(false);
        let pages = Arc::new(http::Pages {
            metrics: Arc::clone(&metrics),
            partitions: Arc::clone(&partitions),
            groups: OnceLock::new(),
            ready: AtomicBool::new(false),
        });
        tokio::spawn(http::serve(http_listener, Arc::clone(&pages), stopping.clone()));

        let options = SessionOptions::new(config.zookeeper.connect.parse()?)
            .with_timeout(config.zookeeper.session_timeout);
        let session = Session::start(options).await?;
        let producer_ids = Arc::new(ProducerIds::new(session.clone(), Handle::current()));
        let parts = MemberParts {
            identity,
            registration: registration(&config, &addresses, report.clean),
            partitions: Arc::clone(&partitions),
            metadata: Arc::clone(&metadata),
            producer_ids: Arc::clone(&producer_ids),
            defaults: config.topics.clone(),
            disk,
            metrics: Arc::clone(&metrics),
        };
        let (control, replication) = (Handle::current(), &config.replication);
        let membership = Membership::join(session.clone(), parts, replication, control).await?;

        let (groups, coordinator) =
            start_groups(&config, &partitions, &metadata, membership.controller(), &stopping)?;
        let _ = pages.groups.set(groups.clone());
        let api = Api::new(
            Arc::clone(&partitions),
            Arc::clone(&metadata),
            producer_ids,
            Arc::clone(&metrics),
            config.requests.clone(),
            config.zookeeper.connect_clients.clone(),
            config.settings.clone(),
        );
        let services = Services::new(
            Arc::new(api.with_groups(groups)),
            config.sockets.clone(),
            metrics,
            membership.controller(),
            membership.updates(),
            config.auto_create_topics,
            KafkaEndpoints::new(config.id, kafka_endpoints(&config, &addresses)),
        );
        let threads = DataThreads::start(services, &stopping).map_err(BrokerError::Thread)?;
        Ok(Self {
            addresses,
            listeners,
            threads,
            coordinator,
            membership,
            session,
            partitions,
            pages,
            stop,
        })
    }

    /// What it serves, for tests to look at.
    #[cfg(test)]
    pub(crate) fn partitions(&self) -> Arc<PartitionSet> {
        Arc::clone(&self.partitions)
    }

    /// Where it is reached.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Serves until `shutdown`, then stops cleanly: others take over what it leads while it still
    /// serves, then it goes out of the registry, then connections, then the logs with their marks.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), BrokerError> {
        let Self { listeners, threads, coordinator, .. } = self;
        let Self { membership, session, partitions, pages, stop, .. } = self;
        let fetchers = membership.fetchers();
        pages.ready.store(true, Ordering::Relaxed);
        let mut outcome = Ok(());
        {
            let shutdown = async {
                shutdown.await;
                tracing::info!("asked to stop");
                pages.ready.store(false, Ordering::Relaxed);
            };
            let mut membership = std::pin::pin!(membership.run(shutdown));
            let accepting = listeners
                .into_iter()
                .map(|(listener, protocol)| threads.accept(listener, protocol, stop.subscribe()));
            let mut accepting = std::pin::pin!(join_all(accepting));
            tokio::select! {
                ended = &mut membership => outcome = ended.map_err(BrokerError::from),
                _ = &mut accepting => {}
                () = every_directory_failed(&partitions) => {
                    outcome = Err(BrokerError::NoDirectory);
                }
            }
            tracing::info!("stopping");
            pages.ready.store(false, Ordering::Relaxed);
            session.close().await;
        }
        let _ = stop.send(true);
        let closing = tokio::task::spawn_blocking(move || {
            fetchers.close();
            threads.join();
            if coordinator.join().is_err() {
                tracing::error!("the coordinator of groups panicked");
            }
            partitions.logs().close();
        });
        if closing.await.is_err() {
            tracing::error!("closing the logs panicked");
        }
        tracing::info!("stopped");
        outcome
    }
}

/// Returns when no log directory is left, as Kafka's brokers stop then.
async fn every_directory_failed(partitions: &PartitionSet) {
    const LOOK: std::time::Duration = std::time::Duration::from_millis(500);
    while !partitions.logs().usable_dirs().is_empty() {
        tokio::time::sleep(LOOK).await;
    }
}

/// The coordinator of the groups that this broker is responsible for.
fn start_groups(
    config: &BrokerConfig,
    partitions: &Arc<PartitionSet>,
    metadata: &Arc<MetadataCache>,
    controller: Arc<ControllerLink>,
    stopping: &watch::Receiver<bool>,
) -> Result<(Groups, JoinHandle<()>), BrokerError> {
    let (partitions, metadata) = (Arc::clone(partitions), Arc::clone(metadata));
    let creator = Arc::new(ControllerCreates(controller));
    Groups::start(config.id, config.groups.clone(), partitions, metadata, creator, stopping.clone())
        .map_err(BrokerError::Thread)
}

async fn bind(address: &str, what: &'static str) -> Result<TcpListener, BrokerError> {
    let failed = |source| BrokerError::Listen { address: address.to_owned(), what, source };
    TcpListener::bind(address).await.map_err(failed)
}

fn local_addr(listener: &TcpListener, what: &'static str) -> Result<SocketAddr, BrokerError> {
    let failed = |source| BrokerError::Listen { address: String::new(), what, source };
    listener.local_addr().map_err(failed)
}

async fn open_logs(
    config: &BrokerConfig,
    disk: &Arc<dyn Disk>,
) -> Result<(LogSet, StartReport), BrokerError> {
    let settings = LogSetConfig {
        broker_id: config.id.0,
        log: log_config(&config.topics, None),
        mmap_bytes: config.mmap_bytes,
        mmap_count: map_count_max(),
        open_files: open_files(config),
        free_mark: config.free_mark,
        recovery_threads: config.recovery_threads,
        retention_check: config.retention_check_interval,
        cleaner: config.cleaner.clone(),
        delete_delay: config.delete_delay,
        ..LogSetConfig::new(config.dirs.clone())
    };
    let disk = Arc::clone(disk);
    let opening = tokio::task::spawn_blocking(move || {
        LogSet::open(settings, disk, Arc::new(SystemClock::new()))
    });
    let opened = opening.await.map_err(|error| BrokerError::Thread(io::Error::other(error)))?;
    let (logs, report) = opened?;
    tell(&report);
    Ok((logs, report))
}

/// As configured, or what the limit on open files of this process leaves.
fn open_files(config: &BrokerConfig) -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    const FALLBACK: u64 = 1024;
    if config.open_files > 0 {
        return config.open_files;
    }
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(FALLBACK, |(soft, _)| soft);
    open_files_max(limit, config.sockets.max_connections)
}

/// A quarter of the mappings that the kernel gives a process: allocators need some too.
fn map_count_max() -> usize {
    const FALLBACK: usize = 65_530;
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    text.trim().parse().unwrap_or(FALLBACK) / 4
}

/// What recovery found, for the log of the process.
fn tell(report: &StartReport) {
    tracing::info!(
        partitions = report.opened,
        clean = report.clean,
        scanned_bytes = report.scanned_bytes,
        cut_bytes = report.cut_bytes,
        "logs opened"
    );
    if report.unsynced_lost {
        tracing::warn!("the machine went down without a clean stop: unflushed records may be lost");
    }
    for (partition, range) in &report.damaged {
        tracing::error!(%partition, ?range, "a range of the log is damaged");
    }
    for (partition, cause) in &report.failed {
        tracing::error!(%partition, cause, "partition cannot be opened");
    }
    for (directory, cause) in &report.failed_dirs {
        tracing::error!(directory = %directory.display(), cause, "log directory cannot be used");
    }
}

fn registration(config: &BrokerConfig, addresses: &Addresses, clean: bool) -> Registration {
    let (host, grpc_port) = advertised(config, addresses);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Registration {
        host,
        grpc_port,
        kafka: registered_kafka(config, addresses),
        http_port: addresses.http.port(),
        rack: config.rack.clone(),
        start_time_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
        clean,
    }
}

/// Host and port told to others: as configured, else the listener's, with this machine's name where
/// that listens everywhere.
fn advertised(config: &BrokerConfig, addresses: &Addresses) -> (String, u16) {
    let own_port = addresses.grpc.port();
    if let Some((host, port)) = config.advertised_grpc.rsplit_once(':') {
        let port = port.parse().ok().filter(|&port| port != 0).unwrap_or(own_port);
        return (host.to_owned(), port);
    }
    (reachable_host(&config.listen_grpc, addresses.grpc), own_port)
}

/// The host to tell others of a listener: its own, or this machine's name where it listens
/// everywhere.
fn reachable_host(listen: &str, bound: SocketAddr) -> String {
    if bound.ip().is_unspecified() {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = if name.trim().is_empty() { "localhost" } else { name.trim() };
        return name.to_owned();
    }
    let host = listen.rsplit_once(':').map_or("127.0.0.1", |(host, _)| host);
    host.trim_matches(['[', ']']).to_owned()
}

/// Every listener: those of the data threads, the one of HTTP, and where all of them are.
async fn bind_all(
    config: &BrokerConfig,
) -> Result<(Vec<(TcpListener, Protocol)>, TcpListener, Addresses), BrokerError> {
    let grpc = bind(&config.listen_grpc, "gRPC").await?;
    let http = bind(&config.listen_http, "HTTP").await?;
    let mut listeners = bind_kafka(config).await?;
    let kafka = listeners.iter().map(|(listener, _)| local_addr(listener, "Kafka clients"));
    let addresses = Addresses {
        kafka: kafka.collect::<Result<_, _>>()?,
        grpc: local_addr(&grpc, "gRPC")?,
        http: local_addr(&http, "HTTP")?,
    };
    listeners.push((grpc, Protocol::Grpc));
    Ok((listeners, http, addresses))
}

async fn bind_kafka(config: &BrokerConfig) -> Result<Vec<(TcpListener, Protocol)>, BrokerError> {
    if let Some(name) = config.kafka.unknown.first() {
        return Err(BrokerError::Advertised { name: name.clone() });
    }
    let mut bound = Vec::new();
    for (number, KafkaListener { listen, .. }) in config.kafka.listeners.iter().enumerate() {
        bound.push((bind(listen, "Kafka clients").await?, Protocol::Kafka(number)));
    }
    Ok(bound)
}

/// The listeners with the addresses that are configured for clients.
fn kafka_endpoints(config: &BrokerConfig, addresses: &Addresses) -> Vec<Endpoint> {
    let each = config.kafka.listeners.iter().zip(&addresses.kafka);
    each.map(|(listener, bound)| {
        let advertised = listener.advertised.as_ref();
        let advertised =
            advertised.map(|(host, port)| (host.as_str().into(), or_own(*port, bound)));
        Endpoint { name: listener.name.as_str().into(), advertised }
    })
    .collect()
}

/// What other brokers tell of the listeners.
fn registered_kafka(config: &BrokerConfig, addresses: &Addresses) -> Vec<KafkaEndpoint> {
    let each = config.kafka.listeners.iter().zip(&addresses.kafka);
    each.map(|(listener, bound)| {
        let (host, port) = match &listener.advertised {
            Some((host, port)) => (host.clone(), or_own(*port, bound)),
            None => (reachable_host(&listener.listen, *bound), bound.port()),
        };
        KafkaEndpoint { name: listener.name.clone(), host, port }
    })
    .collect()
}

/// A configured port, or the one the listener got.
fn or_own(port: u16, bound: &SocketAddr) -> u16 {
    if port == 0 { bound.port() } else { port }
}
