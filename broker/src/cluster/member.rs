//! The one task that holds this broker's place in the cluster: it follows the session, registers in
//! each new one, reads the registry whole, and takes the controller's updates.
//!
//! It alone decides which news count. It lives on the control thread; while ZooKeeper is away it
//! waits, and produce and fetch go on with what is known. What the news ask for is done by
//! [`settling`], beside it.

use std::sync::Arc;
use std::time::Duration;

use coordinator::registry::brokers::RegisterError;
use coordinator::registry::{RegistryError, brokers};
use coordinator::zk::payload::{Broker, KafkaEndpoint};
use coordinator::zk::{Live, Session, SessionState};
use proto::BrokerId;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use uuid::Uuid;

use super::identity::{Identity, IdentityError};
use super::metadata::{Brokers, ClusterDelta, ClusterImage, MetadataCache};
use super::producer_ids::ProducerIds;
use super::settle::{Epochs, Settler};
use super::settling::{Request, Settling};
use super::states_changed::StatesChanged;
use super::update::{Numbering, Verdict};
use super::whole_read::{self, WholeRead};
use crate::config::TopicDefaults;
use crate::metrics::Metrics;
use crate::replication::PartitionSet;
use crate::replication::follower::Fetchers;
use crate::storage::disk::Disk;

/// Before the registry is asked again after it failed.
const RETRY: Duration = Duration::from_millis(200);
/// Requests to settle that wait: the controller sends one update at a time.
const REQUESTS_MAX: usize = 16;

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
    /// Of the listeners for Kafka clients.
    pub kafka: Vec<KafkaEndpoint>,
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

/// The member, with what it has done.
pub struct Member {
    place: Place,
    settler: Settler,
    image_changed: Arc<Notify>,
}

/// This broker's place in the cluster.
struct Place {
    session: Session,
    identity: Identity,
    registration: Registration,
    metadata: Arc<MetadataCache>,
    producer_ids: Arc<ProducerIds>,
    disk: Arc<dyn Disk>,
    metrics: Arc<Metrics>,
    fetchers: Arc<Fetchers>,
    numbering: Numbering,
    /// The session joined last; 0 before the first.
    joined: u64,
}

impl Member {
    /// A member that has not joined yet. `states_changed` takes what the controller is to be told;
    /// `image_changed` is told by others when they have changed the image.
    pub(super) fn new(
        session: Session,
        parts: MemberParts,
        states_changed: Arc<StatesChanged>,
        image_changed: Arc<Notify>,
        fetchers: Arc<Fetchers>,
    ) -> Self {
        let settler = Settler::new(
            parts.identity.id,
            parts.partitions,
            Arc::clone(&parts.metadata),
            parts.defaults,
            Arc::clone(&parts.metrics),
            states_changed,
            Arc::clone(&fetchers),
        );
        let place = Place {
            session,
            identity: parts.identity,
            registration: parts.registration,
            metadata: parts.metadata,
            producer_ids: parts.producer_ids,
            disk: parts.disk,
            metrics: parts.metrics,
            fetchers,
            numbering: Numbering::default(),
            joined: 0,
        };
        Self { place, settler, image_changed }
    }

    /// Joins for the first time: returns when this broker is registered and leads what it is to
    /// lead. Waits for the registry as long as it takes.
    ///
    /// Leader epochs are raised before the registration: whoever sees the broker come reads them.
    pub async fn join_first(&mut self) -> Result<(), JoinError> {
        loop {
            let Ok(live) = self.place.session.live().await else { return Ok(()) };
            match self.try_join_first(&live).await {
                Ok(()) => return Ok(()),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Registry(error)) => {
                    tracing::warn!(%error, "cannot join the cluster yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn try_join_first(&mut self, live: &Live) -> Result<(), Failure> {
        let WholeRead { states, deleted, .. } = self.place.reread(live).await?;
        self.settler.note_deleted(deleted);
        let lost = self.settler.lost_at_start();
        if !lost.is_empty() {
            let Identity { id, dead, .. } = &self.place.identity;
            brokers::clear_dead(&live.client, *id, dead).await?;
            self.settler.take_out(&live.client, &states, lost).await?;
        }
        self.settler.settle(Some(&live.client), &states, Epochs::MayBeUsed).await?;
        self.settler.partitions.logs().losses_told();
        self.place.register(live).await?;
        self.place.producer_ids.prefetch().await;
        Ok(())
    }

    /// Follows session and controller until the session is closed.
    pub async fn run(self, updates: mpsc::Receiver<Update>) -> Result<(), JoinError> {
        let Self { place, settler, image_changed } = self;
        let (settle, requests) = mpsc::channel(REQUESTS_MAX);
        let settling = Settling::new(settler, place.session.clone(), image_changed);
        // What came between the join and now.
        let _ = settle.try_send(Request::default());
        tokio::select! {
            ended = place.run(updates, settle) => ended,
            () = settling.run(requests) => Ok(()),
        }
    }
}

impl Place {
    async fn run(
        mut self,
        mut updates: mpsc::Receiver<Update>,
        settle: mpsc::Sender<Request>,
    ) -> Result<(), JoinError> {
        let mut states = self.session.watch();
        loop {
            let live = self.note_state(&mut states);
            match live {
                None if matches!(*states.borrow(), SessionState::Closed) => return Ok(()),
                Some(live) if live.number != self.joined => {
                    if let Err(error) = self.join(&live, &settle).await {
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
                    Some(update) => self.update(update, &settle).await,
                    None => return Ok(()),
                },
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

    /// Makes this broker a member in a new session, trying again while the session lives.
    /// Idempotent. The process has lost nothing since the last one, so nothing is waited for.
    async fn join(&mut self, live: &Live, settle: &mpsc::Sender<Request>) -> Result<(), JoinError> {
        loop {
            match self.try_join(live, settle).await {
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

    async fn try_join(
        &mut self,
        live: &Live,
        settle: &mpsc::Sender<Request>,
    ) -> Result<(), Failure> {
        let WholeRead { deleted, .. } = self.reread(live).await?;
        ask(settle, Request { deleted, settled: None }).await;
        self.register(live).await
    }

    async fn register(&mut self, live: &Live) -> Result<(), Failure> {
        let broker = Broker {
            host: self.registration.host.clone(),
            grpc_port: self.registration.grpc_port,
            kafka: self.registration.kafka.clone(),
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
        self.metadata.update(|image| {
            let mut brokers = Brokers::clone(&image.brokers);
            brokers.insert(id, own);
            image.brokers = Arc::new(brokers);
        });
        self.joined = live.number;
        self.metrics.sessions.one();
        tracing::info!(broker = %id, session = live.number, "registered");
        Ok(())
    }

    /// Reads the registry whole and takes it for the image.
    async fn reread(&mut self, live: &Live) -> Result<WholeRead, Failure> {
        self.metrics.cluster_rereads.one();
        let mut read = whole_read::read(&live.client).await?;
        self.identity
            .join(&*self.disk, &read.image.cluster_id)
            .map_err(|error| Failure::Final(error.into()))?;
        let image = std::mem::take(&mut read.image);
        self.metadata.update(|known| known.replace(image));
        self.take_throttle();
        Ok(read)
    }

    /// Puts the rate of replicas that are not in sync in force as the image has it now: before the
    /// image's replicas are followed, and without waiting for a disk.
    fn take_throttle(&self) {
        let rate = self.metadata.image().throttled_rate(self.identity.id, self.fetchers.own_rate());
        self.fetchers.set_throttled_rate(rate);
    }

    async fn update(&mut self, update: Update, settle: &mpsc::Sender<Request>) {
        let Update { controller_epoch, sequence, incarnation, delta, reply } = update;
        let outcome = if incarnation == self.identity.incarnation {
            self.apply(controller_epoch, sequence, delta).await
        } else {
            let own = self.identity.incarnation;
            Err(UpdateError::OtherIncarnation { asked: incarnation, own })
        };
        let (applied, work) = match outcome {
            Ok(taken) => taken,
            Err(error) => {
                tracing::warn!(controller_epoch, sequence, %error, "update not applied");
                // The controller may have gone away.
                let _ = reply.send(Err(error));
                // Leaders that were taken all the same.
                ask(settle, Request { deleted: Vec::new(), settled: None }).await;
                return;
            }
        };
        let Some(Work { deleted, is_awaited }) = work else {
            let _ = reply.send(Ok(applied));
            return;
        };
        if !is_awaited {
            let _ = reply.send(Ok(applied));
            ask(settle, Request { deleted, settled: None }).await;
            return;
        }
        let (settled, done) = oneshot::channel();
        ask(settle, Request { deleted, settled: Some(settled) }).await;
        tokio::spawn(async move {
            // Without an answer the broker is stopping.
            if done.await.is_ok() {
                let _ = reply.send(Ok(applied));
            }
        });
    }

    /// Takes an update into the image, and says what is to be done about it. Clients hear of it at
    /// once, before anything is done on the disk.
    async fn apply(
        &mut self,
        controller_epoch: i32,
        sequence: u64,
        delta: ClusterDelta,
    ) -> Result<(Applied, Option<Work>), UpdateError> {
        let verdict = self.numbering.judge(controller_epoch, sequence);
        let applied = |numbering: Numbering, reread| Applied {
            sequence: numbering.applied,
            controller_epoch: numbering.controller_epoch,
            reread,
        };
        match verdict {
            Verdict::Stale => return Ok((applied(self.numbering, false), None)),
            Verdict::Repeated => {
                // What it asks for may still be under way.
                let work = Work { deleted: Vec::new(), is_awaited: true };
                return Ok((applied(self.numbering, false), Some(work)));
            }
            Verdict::Apply | Verdict::Reread => {}
        }
        self.metrics.cluster_updates.one();
        let image = self.metadata.image();
        let mut work = Work {
            is_awaited: awaits_disk(&image, &delta, self.identity.id),
            deleted: delta.deleted.clone(),
        };
        let reread = verdict == Verdict::Reread;
        if verdict == Verdict::Apply && delta.deleted.is_empty() {
            self.metadata.update(|image| image.apply(delta.clone()));
        } else {
            // A broker that has missed something, and cannot read what while the registry is away,
            // has to hear all the same that others lead: nothing of what it serves is committed.
            let leaders = image.leaders_in(&delta);
            self.metadata.update(|image| image.apply(leaders));
        }
        if reread {
            let live = self.session.connected().ok_or(UpdateError::NoSession)?;
            match self.reread(&live).await {
                Ok(read) => work.deleted.extend(read.deleted),
                Err(Failure::Registry(error)) => return Err(error.into()),
                Err(Failure::Final(error)) => {
                    tracing::error!(%error, "this broker does not belong to the cluster any more");
                    return Err(UpdateError::NoSession);
                }
            }
            work.is_awaited = true;
        }
        if reread || !delta.deleted.is_empty() {
            self.metadata.update(|image| image.apply(delta));
        }
        self.take_throttle();
        self.numbering.applied(controller_epoch, sequence);
        Ok((applied(self.numbering, reread), Some(work)))
    }
}

/// What an update leaves to be done.
struct Work {
    deleted: Vec<(Arc<str>, proto::TopicId)>,
    /// Whether the controller is answered only when it is done.
    is_awaited: bool,
}

/// Who creates, deletes or configures waits until it is done; a change of leaders must not wait for
/// the disk, for the next one comes only after its answer. What is overridden for this broker is in
/// force by then anyway.
fn awaits_disk(image: &ClusterImage, delta: &ClusterDelta, me: BrokerId) -> bool {
    let is_new = |topic: &super::metadata::TopicImage| {
        let known = image.topics.get(&topic.name).filter(|known| known.id == topic.id);
        let stored = |(state, number): (&super::metadata::PartitionImage, i32)| {
            let before = known.and_then(|known| known.partition(number));
            let was = before.is_some_and(|before| before.replicas.contains(&me));
            state.replicas.contains(&me) && !was
        };
        topic.partitions.iter().zip(0..).any(stored)
    };
    !delta.deleted.is_empty() || !delta.topic_configs.is_empty() || delta.topics.iter().any(is_new)
}

/// Asks for settling. An error says that the broker is stopping.
async fn ask(settle: &mpsc::Sender<Request>, request: Request) {
    let _ = settle.send(request).await;
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
