//! Makes what this broker stores, leads and follows agree with what the cluster decided: carries out
//! what [`placement`] finds. Disk work runs on threads that may block; epochs are raised in the
//! registry before a partition is led.
//!
//! The order: what goes, then the roles in what is served, then what is missing and the roles in
//! that. So a new leader leads before anybody waits for the files of a new topic.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use coordinator::registry::{RegistryError, Versioned, partitions, topics};
use coordinator::zk::Client;
use coordinator::zk::payload::PartitionState;
use proto::{BrokerId, LeaderEpoch, TopicId, TopicPartition};

use super::blocking;
use super::losses::{self, LostReplica, TakenOut};
use super::metadata::{ClusterImage, MetadataCache, Overrides};
use super::placement::{self, Here, Removal, Role};
use super::states_changed::StatesChanged;
use crate::config::{TopicDefaults, log_config};
use crate::metrics::Metrics;
use crate::replication::PartitionSet;
use crate::replication::follower::Fetchers;
use crate::storage::NewLog;

/// States with their versions, as they were just read.
pub(super) type States = HashMap<TopicPartition, Versioned<PartitionState>>;

/// Carries out what the image asks for.
pub(super) struct Settler {
    pub(super) me: BrokerId,
    pub(super) partitions: Arc<PartitionSet>,
    pub(super) metadata: Arc<MetadataCache>,
    pub(super) defaults: TopicDefaults,
    pub(super) metrics: Arc<Metrics>,
    pub(super) states_changed: Arc<StatesChanged>,
    pub(super) fetchers: Arc<Fetchers>,
    /// The role taken up in each partition that is served.
    pub(super) roles: HashMap<(TopicPartition, TopicId), Role>,
    /// Topics whose deletion was accepted and whose partitions may still be here.
    deleted: Vec<(Arc<str>, TopicId)>,
    /// The overrides that are in force.
    configured: BTreeMap<Arc<str>, Arc<Overrides>>,
    /// Offline partitions that others lead now, if there are others.
    pub(super) handed_over: HashSet<(TopicPartition, TopicId)>,
    /// Something could not be done: settle again after a while.
    pub(super) unsettled: bool,
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
    pub(super) fn new(
        me: BrokerId,
        partitions: Arc<PartitionSet>,
        metadata: Arc<MetadataCache>,
        defaults: TopicDefaults,
        metrics: Arc<Metrics>,
        states_changed: Arc<StatesChanged>,
        fetchers: Arc<Fetchers>,
    ) -> Self {
        Self {
            me,
            partitions,
            metadata,
            defaults,
            metrics,
            states_changed,
            fetchers,
            roles: HashMap::new(),
            deleted: Vec::new(),
            configured: BTreeMap::new(),
            handed_over: HashSet::new(),
            unsettled: false,
        }
    }

    /// Notes topics whose deletion was accepted.
    pub(super) fn note_deleted(&mut self, deleted: Vec<(Arc<str>, TopicId)>) {
        for mark in deleted {
            if !self.deleted.contains(&mark) {
                self.deleted.push(mark);
            }
        }
    }

    /// Whether something is to be done again.
    pub(super) fn is_unsettled(&self) -> bool {
        self.unsettled
    }

    /// Brings the partitions here in line with the image. Without a client, because the registry is
    /// away, what needs it is left for later.
    pub(super) async fn settle(
        &mut self,
        client: Option<&Client>,
        states: &States,
        epochs: Epochs,
    ) -> Result<(), RegistryError> {
        self.unsettled = false;
        let image = self.metadata.image();
        self.remove(client, &image).await;
        let mut outcome = self.take_roles(client, states, epochs).await;
        if self.open_missing(&image, epochs).await {
            outcome = outcome.and(self.take_roles(client, states, epochs).await);
        }
        self.configure(&image).await;
        let led = self.partitions.all().iter().filter(|p| p.leading().is_some()).count();
        self.metrics.partitions_led.set(led as i64);
        self.unsettled |= outcome.is_err();
        outcome
    }

    /// Replicas here that lack something as this process found them.
    pub(super) fn lost_at_start(&self) -> Vec<LostReplica> {
        let image = self.metadata.image();
        losses::found_at_start(&self.partitions, &image, &self.defaults, self.me)
    }

    /// Takes this broker out of the replicas that count, where it has lost something and somebody
    /// else has not.
    pub(super) async fn take_out(
        &self,
        client: &Client,
        known: &States,
        lost: Vec<LostReplica>,
    ) -> Result<(), RegistryError> {
        let TakenOut { states, outcome } = losses::take_out(client, self.me, known, lost).await;
        for found in &states {
            self.states_changed.note(&found.name, found.id);
        }
        self.found(states);
        outcome
    }

    /// What is served, and what lies on disk unserved.
    pub(super) fn here(&self) -> Vec<Here> {
        let mut here: Vec<Here> = self
            .partitions
            .all()
            .iter()
            .map(|partition| {
                let (name, id) = (partition.name().clone(), partition.topic_id());
                let role = self.role_of(&(name.clone(), id), partition.leading());
                Here { name, id, role, served: true }
            })
            .collect();
        let served: HashSet<_> = here.iter().map(|here| (here.name.clone(), here.id)).collect();
        for (name, id) in self.partitions.stored() {
            if !served.contains(&(name.clone(), id)) {
                here.push(Here { name, id, role: Role::Idle, served: false });
            }
        }
        here
    }

    /// The role taken up; a partition that was opened anew meanwhile has none.
    fn role_of(&self, of: &(TopicPartition, TopicId), leading: Option<LeaderEpoch>) -> Role {
        match (self.roles.get(of), leading) {
            (Some(role @ Role::Leading { epoch, .. }), Some(now)) if *epoch == now => role.clone(),
            (_, Some(epoch)) => {
                Role::Leading { epoch, version: i32::MIN, replicas: Vec::new(), adding: Vec::new() }
            }
            (Some(role @ Role::Following { .. }), None) => role.clone(),
            (_, None) => Role::Idle,
        }
    }

    /// Takes away what should not be here; marks that are carried out are forgotten.
    async fn remove(&mut self, client: Option<&Client>, image: &ClusterImage) {
        let here = self.here();
        let mut removals = placement::removals(image, &here, &self.deleted, self.me);
        let (drops, sure): (Vec<_>, Vec<_>) =
            removals.drain(..).partition(|removal| matches!(removal, Removal::Drop(..)));
        let mut certain = sure;
        for removal in drops {
            match self.is_moved_away(client, &removal).await {
                Ok(true) => certain.push(removal),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, ?removal, "not known yet whether it is stored here");
                    self.unsettled = true;
                }
            }
        }
        if certain.is_empty() {
            self.deleted.clear();
            return;
        }
        for Removal::Delete(name, id) | Removal::SetAside(name, id) | Removal::Drop(name, id) in
            &certain
        {
            self.roles.remove(&(name.clone(), *id));
        }
        let (partitions, fetchers) = (Arc::clone(&self.partitions), Arc::clone(&self.fetchers));
        let all = blocking::run(move || {
            let done = certain.into_iter().map(|removal| remove(&partitions, &fetchers, removal));
            // All of them, also after one that failed.
            done.filter(|done| !done).count() == 0
        });
        match all.await {
            Some(true) => self.deleted.clear(),
            _ => self.unsettled = true,
        }
    }

    /// Whether the registry says now that this broker has no part in a partition. An image may be
    /// behind; what is deleted does not come back.
    async fn is_moved_away(
        &self,
        client: Option<&Client>,
        removal: &Removal,
    ) -> Result<bool, RegistryError> {
        let Removal::Drop(name, id) = removal else { return Ok(true) };
        let Some(client) = client else { return Ok(false) };
        let Some(topic) = topics::read(client, &name.topic).await? else { return Ok(false) };
        let index = usize::try_from(name.partition).unwrap_or(usize::MAX);
        let replicas = topic.value.partitions.get(index);
        if topic.value.topic_id != *id || replicas.is_none_or(|ids| ids.contains(&self.me)) {
            return Ok(false);
        }
        let Some(state) = partitions::read(client, &name.topic, name.partition).await? else {
            return Ok(false);
        };
        let state = state.value;
        let counted = state.isr.contains(&self.me) || state.electable.contains(&self.me);
        if counted || state.leader == Some(self.me) {
            tracing::warn!(partition = %name, ?state, "not among the replicas, and still counted in");
            return Ok(false);
        }
        Ok(true)
    }

    /// Opens what should be here; true when something was opened. At a start only what is on the disk
    /// and what this broker is to lead: nobody waits for the rest, a whole disk's logs perhaps.
    async fn open_missing(&mut self, image: &Arc<ClusterImage>, epochs: Epochs) -> bool {
        let mut missing = placement::missing(image, &self.here(), self.me);
        if epochs == Epochs::MayBeUsed {
            missing.retain(|(name, id)| {
                let leader = image.partition(name, *id).and_then(|state| state.leader);
                leader == Some(self.me) || self.partitions.logs().get(name).is_some()
            });
        }
        if missing.is_empty() {
            return false;
        }
        let (partitions, defaults) = (Arc::clone(&self.partitions), self.defaults.clone());
        let image = Arc::clone(image);
        let opening = blocking::run(move || {
            let new = missing.into_iter().map(|(partition, topic_id)| {
                let overrides = image.topic_configs.get(&partition.topic);
                let config = log_config(&defaults, overrides.map(|o| &**o));
                NewLog { partition, topic_id, config }
            });
            let (new, mut refused): (Vec<_>, usize) = (new.collect(), 0);
            for (NewLog { partition, topic_id, .. }, opened) in
                new.iter().zip(partitions.open_all(&new))
            {
                if let Err(error) = opened {
                    tracing::error!(%partition, %topic_id, %error, "not served");
                    refused += 1;
                }
            }
            (new.len() - refused, refused)
        });
        let (opened, refused) = opening.await.unwrap_or((0, 1));
        self.unsettled |= refused > 0;
        opened > 0
    }

    /// Puts the topics' present settings in force.
    async fn configure(&mut self, image: &Arc<ClusterImage>) {
        if image.topic_configs == self.configured {
            return;
        }
        let (partitions, defaults) = (Arc::clone(&self.partitions), self.defaults.clone());
        let now = Arc::clone(image);
        let configuring = blocking::run(move || {
            for partition in partitions.all() {
                let overrides = now.topic_configs.get(&partition.name().topic);
                let config = log_config(&defaults, overrides.map(|o| &**o));
                if *partition.log().config() != config {
                    partition.log().set_config(config);
                }
            }
        });
        if configuring.await.is_some() {
            self.configured.clone_from(&image.topic_configs);
        }
    }
}

/// False when the disk refused.
fn remove(partitions: &PartitionSet, fetchers: &Fetchers, removal: Removal) -> bool {
    let (Removal::Delete(name, _) | Removal::SetAside(name, _) | Removal::Drop(name, _)) = &removal;
    fetchers.stop(name);
    let (name, outcome) = match removal {
        Removal::Delete(name, id) => {
            let outcome = partitions.delete(&name, id);
            if outcome.is_ok() {
                tracing::info!(partition = %name, topic_id = %id, "partition deleted");
            }
            (name, outcome)
        }
        Removal::Drop(name, id) => {
            let outcome = partitions.delete(&name, id);
            if outcome.is_ok() {
                tracing::info!(
                    partition = %name, topic_id = %id,
                    "partition deleted here: its replicas are other brokers now"
                );
            }
            (name, outcome)
        }
        Removal::SetAside(name, id) => {
            let outcome = partitions.set_aside(&name, id);
            if outcome.is_ok() {
                tracing::warn!(
                    partition = %name, topic_id = %id,
                    "the registry does not know this partition's topic; its directory is set aside"
                );
            }
            (name, outcome)
        }
    };
    if let Err(error) = &outcome {
        tracing::error!(partition = %name, %error, "partition not removed");
    }
    outcome.is_ok()
}
