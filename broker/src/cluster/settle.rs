//! Makes what this broker stores and leads agree with what the cluster decided: carries out a
//! [`placement::plan`]. Disk work runs on a thread that may block; epochs are raised in the
//! registry before a partition is led.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coordinator::registry::{RegistryError, Versioned, partitions};
use coordinator::zk::Client;
use coordinator::zk::payload::PartitionState;
use futures_util::StreamExt;
use proto::{BrokerId, LeaderEpoch, TopicId, TopicPartition};

use super::metadata::{ClusterImage, MetadataCache};
use super::placement::{self, Action, Here};
use crate::config::{TopicDefaults, log_config};
use crate::metrics::Metrics;
use crate::replication::{Leadership, PartitionSet};

/// How many epochs are raised at once.
const RAISES_AT_ONCE: usize = 256;

type Marks = Vec<(Arc<str>, TopicId)>;

/// Carries out plans.
pub(super) struct Settler {
    pub(super) me: BrokerId,
    pub(super) partitions: Arc<PartitionSet>,
    pub(super) metadata: Arc<MetadataCache>,
    pub(super) defaults: TopicDefaults,
    pub(super) metrics: Arc<Metrics>,
    /// Something could not be done on the disk: settle again after a while.
    pub(super) unsettled: Arc<AtomicBool>,
}

/// What may be known of the epochs that the registry records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Epochs {
    /// An earlier run of this broker may have led in them: raise before leading.
    MayBeUsed,
    /// Recorded while this run was registered: nobody has led in one that the log does not know.
    OfThisRun,
}

impl Settler {
    /// Brings the partitions here in line with the image.
    pub(super) async fn settle(
        &self,
        client: &Client,
        states: &HashMap<TopicPartition, Versioned<PartitionState>>,
        deleted: Marks,
        epochs: Epochs,
    ) -> Result<(), RegistryError> {
        self.unsettled.store(false, Ordering::Relaxed);
        let image = self.metadata.image();
        let actions = placement::plan(&image, &self.here(), &deleted, self.me);
        let (lead, other): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| matches!(action, Action::Lead(..)));
        self.carry_out(other, Arc::clone(&image)).await;
        self.configure(&image);
        let lead: Vec<_> = lead
            .into_iter()
            .filter_map(|action| match action {
                Action::Lead(name, id, epoch) => Some((name, id, epoch)),
                _ => None,
            })
            .collect();
        let ready = self.raise(client, states, lead, epochs).await?;
        if !ready.is_empty() {
            self.metadata.update(|image| {
                for (name, id, epoch) in &ready {
                    image.raised(&name.topic, *id, name.partition, *epoch);
                }
            });
        }
        self.lead(ready).await;
        Ok(())
    }

    /// Whether something is to be done again.
    pub(super) fn is_unsettled(&self) -> bool {
        self.unsettled.load(Ordering::Relaxed)
    }

    /// Opens offline partitions anew; true when one came back and is to be led again.
    pub(super) async fn reopen_offline(&self) -> bool {
        let offline = self.partitions.offline();
        if offline.is_empty() {
            return false;
        }
        let partitions = Arc::clone(&self.partitions);
        let reopening = tokio::task::spawn_blocking(move || {
            let mut any = false;
            for partition in offline {
                match partitions.reopen(partition.name(), partition.topic_id()) {
                    Ok(()) => {
                        tracing::warn!(partition = %partition.name(), "opened anew and checked");
                        any = true;
                    }
                    Err(error) => {
                        tracing::warn!(partition = %partition.name(), %error, "still offline");
                    }
                }
            }
            any
        });
        reopening.await.unwrap_or(false)
    }

    /// What is served, and what lies on disk unserved.
    fn here(&self) -> Vec<Here> {
        let mut here: Vec<Here> = self
            .partitions
            .all()
            .iter()
            .map(|partition| Here {
                name: partition.name().clone(),
                id: partition.topic_id(),
                leading: partition.leading(),
                served: true,
            })
            .collect();
        let served: std::collections::HashSet<_> =
            here.iter().map(|here| (here.name.clone(), here.id)).collect();
        for (name, id) in self.partitions.stored() {
            if !served.contains(&(name.clone(), id)) {
                here.push(Here { name, id, leading: None, served: false });
            }
        }
        here
    }

    async fn carry_out(&self, actions: Vec<Action>, image: Arc<ClusterImage>) {
        if actions.is_empty() {
            return;
        }
        let partitions = Arc::clone(&self.partitions);
        let defaults = self.defaults.clone();
        let unsettled = Arc::clone(&self.unsettled);
        self.blocking(move || {
            for action in actions {
                if !carry_out(&partitions, &defaults, &image, action) {
                    unsettled.store(true, Ordering::Relaxed);
                }
            }
        })
        .await;
        self.count_led();
    }

    /// Puts the topics' present settings in force.
    fn configure(&self, image: &ClusterImage) {
        for partition in self.partitions.all() {
            let overrides = image.topic_configs.get(&partition.name().topic);
            let config = log_config(&self.defaults, overrides.map(|o| &**o));
            if *partition.log().config() != config {
                partition.log().set_config(config);
            }
        }
    }

    /// The epochs to lead in; those that may have been used are raised first. A partition whose
    /// leader changed meanwhile drops out: the controller's update will tell.
    async fn raise(
        &self,
        client: &Client,
        states: &HashMap<TopicPartition, Versioned<PartitionState>>,
        lead: Vec<(TopicPartition, TopicId, LeaderEpoch)>,
        epochs: Epochs,
    ) -> Result<Vec<(TopicPartition, TopicId, LeaderEpoch)>, RegistryError> {
        let raising = lead.into_iter().map(|(name, id, epoch)| async move {
            let Ok(partition) = self.partitions.find(&name.topic, id, name.partition) else {
                return Ok::<_, RegistryError>(None);
            };
            let unused = epoch > partition.log().latest_epoch();
            if unused && (partition.leading().is_some() || epochs == Epochs::OfThisRun) {
                return Ok(Some((name, id, epoch)));
            }
            let known = states.get(&name).cloned();
            let raised = self.raise_one(client, &name, known).await?;
            Ok(raised.map(|epoch| (name, id, epoch)))
        });
        let mut raising = futures_util::stream::iter(raising).buffer_unordered(RAISES_AT_ONCE);
        let mut ready = Vec::new();
        while let Some(raised) = raising.next().await {
            ready.extend(raised?);
        }
        Ok(ready)
    }

    /// Raises the leader epoch of a partition this broker is recorded to lead, by a write that is
    /// conditional on the state that was read.
    async fn raise_one(
        &self,
        client: &Client,
        name: &TopicPartition,
        known: Option<Versioned<PartitionState>>,
    ) -> Result<Option<LeaderEpoch>, RegistryError> {
        let mut found = known;
        loop {
            let read = match found.take() {
                Some(state) => Some(state),
                None => partitions::read(client, &name.topic, name.partition).await?,
            };
            let Some(state) = read else { return Ok(None) };
            if state.value.leader != Some(self.me) {
                return Ok(None);
            }
            let epoch = LeaderEpoch(state.value.leader_epoch.0.saturating_add(1));
            let raised = PartitionState { leader_epoch: epoch, ..state.value };
            let (topic, number) = (&name.topic, name.partition);
            if partitions::set(client, topic, number, &raised, state.version).await?.is_some() {
                return Ok(Some(epoch));
            }
            // Somebody else has written: read what.
        }
    }

    async fn lead(&self, ready: Vec<(TopicPartition, TopicId, LeaderEpoch)>) {
        if ready.is_empty() {
            return;
        }
        let partitions = Arc::clone(&self.partitions);
        let unsettled = Arc::clone(&self.unsettled);
        let (me, image) = (self.me, self.metadata.image());
        self.blocking(move || {
            for (name, id, epoch) in ready {
                let Ok(partition) = partitions.find(&name.topic, id, name.partition) else {
                    continue;
                };
                match partition.lead(me, &leadership(&image, &name, epoch, me)) {
                    Ok(()) => tracing::debug!(partition = %name, %epoch, "leading"),
                    Err(error) => {
                        tracing::error!(partition = %name, %epoch, %error, "cannot lead yet");
                        unsettled.store(true, Ordering::Relaxed);
                    }
                }
            }
        })
        .await;
        self.count_led();
    }

    async fn blocking(&self, work: impl FnOnce() + Send + 'static) {
        if tokio::task::spawn_blocking(work).await.is_err() {
            tracing::error!("work on partitions panicked");
        }
    }

    fn count_led(&self) {
        let led = self.partitions.all().iter().filter(|p| p.leading().is_some()).count();
        self.metrics.partitions_led.set(led as i64);
    }
}

/// What the image says of a partition that is led here in `epoch`.
fn leadership(
    image: &ClusterImage,
    name: &TopicPartition,
    epoch: LeaderEpoch,
    me: BrokerId,
) -> Leadership {
    let topic = image.topics.get(&name.topic);
    match topic.and_then(|topic| topic.partition(name.partition)) {
        Some(state) => Leadership {
            epoch,
            version: state.version,
            replicas: state.replicas.clone(),
            isr: state.isr.clone(),
        },
        None => Leadership { epoch, version: 0, replicas: vec![me], isr: vec![me] },
    }
}

/// False when the disk refused.
fn carry_out(
    partitions: &PartitionSet,
    defaults: &TopicDefaults,
    image: &ClusterImage,
    action: Action,
) -> bool {
    match action {
        Action::Delete(name, id) => match partitions.delete(&name, id) {
            Ok(()) => tracing::info!(partition = %name, topic_id = %id, "partition deleted"),
            Err(error) => {
                tracing::error!(partition = %name, %error, "partition not deleted");
                return false;
            }
        },
        Action::SetAside(name, id) => match partitions.set_aside(&name, id) {
            Ok(()) => tracing::warn!(
                partition = %name, topic_id = %id,
                "the registry does not know this partition's topic; its directory is set aside"
            ),
            Err(error) => {
                tracing::error!(partition = %name, %error, "partition not set aside");
                return false;
            }
        },
        Action::Open(name, id) => {
            let overrides = image.topic_configs.get(&name.topic);
            let config = log_config(defaults, overrides.map(|o| &**o));
            if let Err(error) = partitions.open(&name, id, config) {
                tracing::error!(partition = %name, topic_id = %id, %error, "partition not served");
                return false;
            }
        }
        Action::StopLeading(name, id) => {
            if let Ok(partition) = partitions.find(&name.topic, id, name.partition) {
                partition.stop_leading();
            }
        }
        Action::Lead(..) => {}
    }
    true
}
