//! A broker from its parts, and its orderly end. Wiring only: every decision is elsewhere.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

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
use crate::config::BrokerConfig;
use crate::groups::{ControllerCreates, Groups};
use crate::http;
use crate::listeners::{self, bind_all};
use crate::metrics::Metrics;
use crate::opened_logs::open_logs;
use crate::replication::PartitionSet;
use crate::server::{DataThreads, KafkaEndpoints, Protocol, Services};
use crate::storage::OpenError;
use crate::storage::disk::{Disk, RealDisk};

pub use crate::listeners::Addresses;

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
            KafkaEndpoints::new(config.id, listeners::kafka_endpoints(&config, &addresses)),
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
    let mut troubles = partitions.troubles();
    while !partitions.logs().usable_dirs().is_empty() {
        // Never fails: the set has the other end.
        let _ = troubles.changed().await;
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

fn registration(config: &BrokerConfig, addresses: &Addresses, clean: bool) -> Registration {
    let (host, grpc_port) = listeners::advertised(config, addresses);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Registration {
        host,
        grpc_port,
        kafka: listeners::registered_kafka(config, addresses),
        http_port: addresses.http.port(),
        rack: config.rack.clone(),
        start_time_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
        clean,
    }
}
