//! The one task that holds this broker's place in the cluster: it follows the session, registers in
//! each new one, reads the registry whole, takes the controller's updates, and settles partitions.
//!
//! It alone writes the metadata image. It lives on the control thread; while ZooKeeper is away it
//! waits, and produce and fetch go on with what is known.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coordinator::registry::brokers::RegisterError;
use coordinator::registry::{RegistryError, brokers};
use coordinator::zk::payload::{Broker, Stored};
use coordinator::zk::{Live, Session, SessionState};
use proto::TopicPartition;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::identity::{Identity, IdentityError};
use super::metadata::{Brokers, ClusterDelta, MetadataCache};
use super::producer_ids::ProducerIds;
use super::settle::{Epochs, Settler};
use super::update::{Numbering, Verdict};
use super::whole_read;
use crate::config::TopicDefaults;
use crate::metrics::Metrics;
use crate::replication::PartitionSet;
use crate::storage::disk::Disk;

/// Before what the disk refused is tried again: at first, and after many failures.
const TEND_FIRST: Duration = Duration::from_secs(1);
const TEND_LAST: Duration = Duration::from_secs(60);
/// Before the registry is asked again after it failed.
const RETRY: Duration = Duration::from_millis(200);

/// An update of the controller and where its answer goes.
pub struct Update {
    /// The sender's fencing number.
    pub controller_epoch: i32,
    /// Its number in the sender's count.
    pub sequence: u64,
    /// The run of this broker it is meant for.
    pub incarnation: Uuid,
    /// What changed.
    pub delta: ClusterDelta,
    /// Answered when it is applied.
    pub reply: oneshot::Sender<Result<Applied, UpdateError>>,
}

/// The answer to an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The newest update applied.
    pub sequence: u64,
    /// The highest controller epoch seen.
    pub controller_epoch: i32,
    /// Whether the registry was read whole.
    pub reread: bool,
}

/// Why an update was not applied; the controller sends it again.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Meant for another run of this broker.
    #[error("the update is meant for incarnation {asked}, this is {own}: the broker was restarted")]
    OtherIncarnation {
        /// Meant for.
        asked: Uuid,
        /// This run.
        own: Uuid,
    },
    /// The registry cannot be read now.
    #[error("the registry cannot be read whole now ({0}); send the update again")]
    Registry(#[from] RegistryError),
    /// No session.
    #[error("there is no ZooKeeper session now; send the update again")]
    NoSession,
}

/// Why this broker cannot be a member.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The directory is another's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The id is another's.
    #[error(transparent)]
    Register(#[from] RegisterError),
}

/// How this broker is reached, as it registers.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Host name.
    pub host: String,
    /// Of the gRPC listener.
    pub grpc_port: u16,
    /// Of the HTTP listener.
    pub http_port: u16,
    /// Empty: none.
    pub rack: String,
    /// When the process started.
    pub start_time_ms: i64,
    /// Whether the last stop was clean.
    pub clean: bool,
}

/// What a member works with.
pub struct MemberParts {
    /// The registry.
    pub session: Session,
    /// Who this is.
    pub identity: Identity,
    /// How it is reached.
    pub registration: Registration,
    /// What is stored here.
    pub partitions: Arc<PartitionSet>,
    /// The image to keep.
    pub metadata: Arc<MetadataCache>,
    /// To be filled when the registry is there.
    pub producer_ids: Arc<ProducerIds>,
    /// Settings of topics without overrides.
    pub defaults: TopicDefaults,
    /// Of the log directories.
    pub disk: Arc<dyn Disk>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// The member.
pub struct Member {
    session: Session,
    identity: Identity,
    registration: Registration,
    settler: Settler,
    producer_ids: Arc<ProducerIds>,
    disk: Arc<dyn Disk>,
    metrics: Arc<Metrics>,
    numbering: Numbering,
    /// The session joined last; 0 before the first.
    joined: u64,
    /// Until what the disk refused is tried again.
    tend_after: Duration,
}

impl Member {
    /// A member that has not joined yet.
    pub fn new(parts: MemberParts) -> Self {
        Self {
            settler: Settler {
                me: parts.identity.id,
                partitions: parts.partitions,
                metadata: parts.metadata,
                defaults: parts.defaults,
                metrics: Arc::clone(&parts.metrics),
                unsettled: Arc::default(),
            },
            tend_after: TEND_FIRST,
            session: parts.session,
            identity: parts.identity,
            registration: parts.registration,
            producer_ids: parts.producer_ids,
            disk: parts.disk,
            metrics: parts.metrics,
            numbering: Numbering::default(),
            joined: 0,
        }
    }

    /// Joins for the first time: returns when this broker is registered and leads what it is to
    /// lead. Waits for the registry as long as it takes.
    pub async fn join_first(&mut self) -> Result<(), JoinError> {
        while self.joined == 0 {
            let Ok(live) = self.session.live().await else { return Ok(()) };
            self.join(&live).await?;
        }
        Ok(())
    }

    /// Follows session and controller until the session is closed.
    pub async fn run(mut self, mut updates: mpsc::Receiver<Update>) -> Result<(), JoinError> {
        let mut states = self.session.watch();
        loop {
            let live = self.note_state(&mut states);
            match live {
                None if matches!(*states.borrow(), SessionState::Closed) => return Ok(()),
                Some(live) if live.number != self.joined => {
                    if let Err(error) = self.join(&live).await {
                        match error {
                            // Another process with our id: it may yet go away.
                            JoinError::Register(error) => {
                                tracing::error!(%error, "cannot register; trying again");
                            }
                            JoinError::Identity(_) => return Err(error),
                        }
                    }
                    continue;
                }
                _ => {}
            }
            tokio::select! {
                changed = states.changed() => if changed.is_err() { return Ok(()) },
                update = updates.recv() => match update {
                    Some(update) => self.update(update).await,
                    None => return Ok(()),
                },
                () = tokio::time::sleep(self.tend_after) => self.tend().await,
            }
        }
    }

    /// The session if it is connected; counts what is seen.
    fn note_state(&self, states: &mut watch::Receiver<SessionState>) -> Option<Live> {
        let state = states.borrow_and_update();
        let live = match &*state {
            SessionState::Connected(live) => Some(live.clone()),
            _ => None,
        };
        self.metrics.session_connected.set(i64::from(live.is_some()));
        live
    }

    /// Makes this broker a member in a session, trying again while the session lives. Idempotent.
    ///
    /// Leader epochs are raised before the registration: whoever sees the broker come reads them.
    async fn join(&mut self, live: &Live) -> Result<(), JoinError> {
        loop {
            match self.try_join(live).await {
                Ok(()) => return Ok(()),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Registry(RegistryError::SessionEnded { .. })) => return Ok(()),
                Err(Failure::Registry(error)) => {
                    tracing::warn!(%error, "cannot join the cluster yet");
                }
            }
            tokio::time::sleep(RETRY).await;
            if self.session.connected().is_none_or(|now| now.number != live.number) {
                return Ok(());
            }
        }
    }

    async fn try_join(&mut self, live: &Live) -> Result<(), Failure> {
        let first = self.joined == 0;
        let epochs = if first { Epochs::MayBeUsed } else { Epochs::OfThisRun };
        self.reread(live, epochs).await?;
        let broker = Broker {
            host: self.registration.host.clone(),
            grpc_port: self.registration.grpc_port,
            kafka_port: None,
            http_port: Some(self.registration.http_port),
            rack: self.registration.rack.clone(),
            incarnation: self.identity.incarnation,
            start_time_ms: self.registration.start_time_ms,
            clean: self.registration.clean,
        };
        let patience = live.timeout * 2;
        let (id, dead) = (self.identity.id, &self.identity.dead);
        match brokers::register(&live.client, id, &broker, dead, patience).await {
            Ok(()) => {}
            Err(RegisterError::Registry(error)) => return Err(Failure::Registry(error)),
            Err(error) => return Err(Failure::Final(error.into())),
        }
        let own = whole_read::broker_image(id, &broker);
        self.settler.metadata.update(|image| {
            let mut brokers = Brokers::clone(&image.brokers);
            brokers.insert(id, own);
            image.brokers = Arc::new(brokers);
        });
        self.joined = live.number;
        self.metrics.sessions.one();
        tracing::info!(broker = %id, session = live.number, "registered");
        self.publish_stored(live).await;
        if first {
            self.producer_ids.prefetch().await;
        }
        Ok(())
    }

    /// Reads the registry whole and settles.
    async fn reread(&mut self, live: &Live, epochs: Epochs) -> Result<(), Failure> {
        self.metrics.cluster_rereads.one();
        let read = whole_read::read(&live.client).await?;
        self.identity
            .join(&*self.disk, &read.image.cluster_id)
            .map_err(|error| Failure::Final(error.into()))?;
        let whole_read::WholeRead { image, states, deleted } = read;
        self.settler.metadata.update(|known| known.replace(image));
        self.settler.settle(&live.client, &states, deleted, epochs).await?;
        Ok(())
    }

    /// Tries again what the disk refused, and opens anew what went offline; less and less often
    /// while that fails.
    async fn tend(&mut self) {
        let reopened = self.settler.reopen_offline().await;
        if !reopened && !self.settler.is_unsettled() {
            let offline = !self.settler.partitions.offline().is_empty();
            self.tend_after =
                if offline { (self.tend_after * 2).min(TEND_LAST) } else { TEND_FIRST };
            return;
        }
        let Some(live) = self.session.connected() else { return };
        let states = HashMap::new();
        // What is offline no more had led: its epoch is raised, for the log knows it.
        let settled =
            self.settler.settle(&live.client, &states, Vec::new(), Epochs::OfThisRun).await;
        let again = settled.is_err() || self.settler.is_unsettled();
        self.tend_after = if again { (self.tend_after * 2).min(TEND_LAST) } else { TEND_FIRST };
    }

    async fn update(&mut self, update: Update) {
        let Update { controller_epoch, sequence, incarnation, delta, reply } = update;
        let outcome = if incarnation == self.identity.incarnation {
            self.apply(controller_epoch, sequence, delta).await
        } else {
            let own = self.identity.incarnation;
            Err(UpdateError::OtherIncarnation { asked: incarnation, own })
        };
        if let Err(error) = &outcome {
            tracing::warn!(controller_epoch, sequence, %error, "update not applied");
        }
        // The controller may have gone away.
        let _ = reply.send(outcome);
    }

    async fn apply(
        &mut self,
        controller_epoch: i32,
        sequence: u64,
        delta: ClusterDelta,
    ) -> Result<Applied, UpdateError> {
        let verdict = self.numbering.judge(controller_epoch, sequence);
        let applied = |numbering: Numbering, reread| Applied {
            sequence: numbering.applied,
            controller_epoch: numbering.controller_epoch,
            reread,
        };
        if matches!(verdict, Verdict::Stale | Verdict::Repeated) {
            return Ok(applied(self.numbering, false));
        }
        self.metrics.cluster_updates.one();
        let live = self.session.connected().ok_or(UpdateError::NoSession)?;
        // A broker that came has raised its epochs: they are in the registry.
        let reread = verdict == Verdict::Reread || delta.brokers.is_some();
        if reread {
            match self.reread(&live, Epochs::OfThisRun).await {
                Ok(()) => {}
                Err(Failure::Registry(error)) => return Err(error.into()),
                Err(Failure::Final(error)) => {
                    tracing::error!(%error, "this broker does not belong to the cluster any more");
                    return Err(UpdateError::NoSession);
                }
            }
        }
        let deleted = delta.deleted.clone();
        self.settler.metadata.update(|image| image.apply(delta));
        let states = HashMap::<TopicPartition, _>::new();
        self.settler.settle(&live.client, &states, deleted, Epochs::OfThisRun).await?;
        self.numbering.applied(controller_epoch, sequence);
        self.publish_stored(&live).await;
        Ok(applied(self.numbering, reread))
    }

    /// Says for people what is stored here; a failure is of no consequence.
    async fn publish_stored(&self, live: &Live) {
        let mut topics: HashMap<Arc<str>, Vec<i32>> = HashMap::new();
        for partition in self.settler.partitions.all() {
            let name = partition.name();
            topics.entry(Arc::clone(&name.topic)).or_default().push(name.partition);
        }
        for (topic, mut partitions) in topics {
            partitions.sort_unstable();
            let stored = Stored { partitions };
            let id = self.identity.id;
            if let Err(error) = brokers::set_stored(&live.client, &topic, id, &stored).await {
                tracing::debug!(%topic, %error, "what is stored here is not published");
            }
        }
    }
}

/// Why joining failed.
enum Failure {
    /// Try again.
    Registry(RegistryError),
    /// Do not.
    Final(JoinError),
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}
