//! Everything that this broker does as a member of the cluster, side by side on the control thread,
//! from its first join to its orderly end.

use std::sync::Arc;

use coordinator::zk::Session;
use proto::BrokerId;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use super::controller_link::ControllerLink;
use super::isr_changes::{IsrChanges, IsrWishes};
use super::member::{JoinError, Member, MemberParts, Update};
use super::metadata::MetadataCache;
use super::states_changed::StatesChanged;
use super::{blocking, controlled_shutdown};
use crate::config::ReplicationConfig;
use crate::replication::follower::Fetchers;
use crate::replication::{IsrListener, Replica};

/// Updates of the controller that wait for the member: the controller sends one at a time.
const UPDATES_MAX: usize = 16;

/// The broker's membership.
pub struct Membership {
    id: BrokerId,
    incarnation: Uuid,
    member: Member,
    updates: (mpsc::Sender<Update>, mpsc::Receiver<Update>),
    controller: Arc<ControllerLink>,
    metadata: Arc<MetadataCache>,
    states_changed: Arc<StatesChanged>,
    isr_changes: IsrChanges,
    fetchers: Arc<Fetchers>,
    controlled_shutdown: bool,
}

impl Membership {
    /// Joins the cluster and leads what it is to lead. Waits for the registry as long as it takes;
    /// `control` is the runtime that it runs on.
    pub async fn join(
        session: Session,
        parts: MemberParts,
        config: &ReplicationConfig,
        control: Handle,
    ) -> Result<Self, JoinError> {
        let metadata = Arc::clone(&parts.metadata);
        let wishes = Arc::new(IsrWishes::default());
        parts.partitions.set_isr_listener(Arc::clone(&wishes) as Arc<dyn IsrListener>);
        let (id, incarnation) = (parts.identity.id, parts.identity.incarnation);
        let (states_changed, image_changed) =
            (Arc::new(StatesChanged::default()), Arc::new(Notify::new()));
        let isr_changes = IsrChanges {
            me: id,
            session: session.clone(),
            partitions: Arc::clone(&parts.partitions),
            metadata: Arc::clone(&metadata),
            metrics: Arc::clone(&parts.metrics),
            wishes,
            states_changed: Arc::clone(&states_changed),
            image_changed: Arc::clone(&image_changed),
            check_every: config.lag_time_max / 2,
        };
        let controller = ControllerLink::new(session.clone(), Arc::clone(&metadata), control);
        let replica = Replica { broker_id: id, incarnation };
        let fetchers = Fetchers::new(config.clone(), replica, Arc::clone(&parts.metrics));
        let fetchers = Arc::new(fetchers);
        let told = Arc::clone(&states_changed);
        let mut member = Member::new(session, parts, told, image_changed, Arc::clone(&fetchers));
        member.join_first().await?;
        Ok(Self {
            id,
            incarnation,
            member,
            updates: mpsc::channel(UPDATES_MAX),
            controller,
            metadata,
            states_changed,
            isr_changes,
            fetchers,
            controlled_shutdown: config.controlled_shutdown,
        })
    }

    /// Where the controller's updates go.
    pub fn updates(&self) -> mpsc::Sender<Update> {
        self.updates.0.clone()
    }

    /// What is followed; to be closed before the logs are.
    pub fn fetchers(&self) -> Arc<Fetchers> {
        Arc::clone(&self.fetchers)
    }

    /// The way to the controller.
    pub fn controller(&self) -> Arc<ControllerLink> {
        Arc::clone(&self.controller)
    }

    /// Is a member until `shutdown`, and until others lead what this broker led, as far as there are
    /// others; or until it cannot be one any more.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), JoinError> {
        let Self { id, incarnation, member, metadata, controller, .. } = self;
        let leaving = async {
            shutdown.await;
            if self.controlled_shutdown
                && controlled_shutdown::is_worth_asking(&metadata.image(), id)
            {
                let stop_following = async || {
                    let fetchers = Arc::clone(&self.fetchers);
                    blocking::run(move || fetchers.close()).await;
                };
                controlled_shutdown::leave(id, incarnation, &controller, stop_following).await;
            }
        };
        tokio::select! {
            ended = member.run(self.updates.1) => ended,
            () = self.isr_changes.run() => Ok(()),
            () = self.states_changed.tell(id, &controller) => Ok(()),
            () = leaving => Ok(()),
        }
    }
}
