//! Taking up roles: steps down, follows, leads. See [`super::placement`] for which, and
//! [`super::settle`] for when.

use std::sync::Arc;

use coordinator::registry::RegistryError;
use coordinator::zk::Client;
use proto::{LeaderEpoch, TopicId, TopicPartition};

use super::blocking;
use super::metadata::{FoundState, PartitionImage};
use super::placement::{self, Action, LeaderAt, Role};
use super::raise::{self, Raised};
use super::settle::{Epochs, Settler, States};
use crate::replication::follower::{Fetchers, LeaderAddress};
use crate::replication::{Leadership, Partition};

impl Settler {
    /// Takes up the roles that the image asks for in what is served: steps down first.
    pub(super) async fn take_roles(
        &mut self,
        client: Option<&Client>,
        states: &States,
        epochs: Epochs,
    ) -> Result<(), RegistryError> {
        let image = self.metadata.image();
        let actions = placement::roles(&image, &self.here(), self.me);
        if actions.is_empty() {
            return Ok(());
        }
        let (mut to_lead, mut begin, mut to_follow) = (Vec::new(), Vec::new(), Vec::new());
        for action in actions {
            match action {
                Action::Follow(name, id, epoch, leader) => {
                    to_follow.push((name, id, epoch, leader));
                }
                Action::Adopt(name, id) => begin.push((name, id)),
                Action::Lead(name, id, epoch) => to_lead.push((name, id, epoch)),
            }
        }
        self.follow(to_follow).await;
        let (ready, outcome) = self.raise(client, states, to_lead, epochs).await;
        begin.extend(ready);
        self.lead(begin).await;
        outcome
    }

    /// Steps down, and follows whoever leads.
    async fn follow(
        &mut self,
        to_follow: Vec<(TopicPartition, TopicId, LeaderEpoch, Option<LeaderAt>)>,
    ) {
        let image = self.metadata.image();
        let work = to_follow.into_iter().filter_map(|(name, id, epoch, leader)| {
            let partition = self.partitions.find(&name.topic, id, name.partition).ok()?;
            let state = image.partition(&name, id)?;
            let counts = state.isr.contains(&self.me) || state.electable.contains(&self.me);
            Some((partition, epoch, leader, counts))
        });
        let fetchers = Arc::clone(&self.fetchers);
        let done = blocking::each(work.collect(), move |(partition, epoch, leader, counts)| {
            follow(&fetchers, &partition, epoch, leader.as_ref(), !counts);
            (partition, epoch, leader)
        });
        for (partition, epoch, leader) in done.await {
            let of = (partition.name().clone(), partition.topic_id());
            self.roles.insert(of, Role::Following { epoch, leader });
        }
    }

    /// Who may be led now: those whose epoch cannot have been used, and those whose epoch was raised.
    async fn raise(
        &mut self,
        client: Option<&Client>,
        states: &States,
        to_lead: Vec<(TopicPartition, TopicId, LeaderEpoch)>,
        epochs: Epochs,
    ) -> (Vec<(TopicPartition, TopicId)>, Result<(), RegistryError>) {
        let (mut ready, mut used) = (Vec::new(), Vec::new());
        for (name, id, epoch) in to_lead {
            let Ok(partition) = self.partitions.find(&name.topic, id, name.partition) else {
                continue;
            };
            if partition.log().offline().is_some() {
                continue;
            }
            let unused = epoch > partition.log().latest_epoch();
            if unused && (partition.leading().is_some() || epochs == Epochs::OfThisRun) {
                ready.push((name, id));
            } else {
                used.push((name, id));
            }
        }
        if used.is_empty() {
            return (ready, Ok(()));
        }
        let Some(client) = client else {
            self.unsettled = true;
            return (ready, Ok(()));
        };
        let Raised { states: raised, outcome } = raise::all(client, self.me, states, used).await;
        let led = raised.iter().filter(|found| found.state.leader == Some(self.me));
        let led: Vec<_> = led.map(|found| (found.name.clone(), found.id)).collect();
        for (name, id) in &led {
            self.states_changed.note(name, *id);
        }
        self.found(raised);
        ready.extend(led);
        (ready, outcome)
    }

    pub(super) fn found(&self, states: Vec<FoundState>) {
        if !states.is_empty() {
            self.metadata.update(|image| image.found(states));
        }
    }

    /// Begins to lead, or takes news of a leadership, as the image has it.
    async fn lead(&mut self, begin: Vec<(TopicPartition, TopicId)>) {
        let image = self.metadata.image();
        let work = begin.into_iter().filter_map(|(name, id)| {
            let state = image.partition(&name, id).filter(|s| s.leader == Some(self.me))?;
            let partition = self.partitions.find(&name.topic, id, name.partition).ok()?;
            Some((partition, state.clone()))
        });
        let (me, fetchers) = (self.me, Arc::clone(&self.fetchers));
        let led = blocking::each(work.collect(), move |(partition, state)| {
            fetchers.stop(partition.name());
            let outcome = partition.lead(me, &leadership(&state));
            (partition, state, outcome)
        });
        for (partition, state, outcome) in led.await {
            let (name, id, epoch) =
                (partition.name().clone(), partition.topic_id(), state.leader_epoch);
            if let Err(error) = outcome {
                tracing::error!(partition = %name, %epoch, %error, "cannot lead yet");
                self.unsettled = true;
                continue;
            }
            tracing::debug!(partition = %name, %epoch, "leading");
            let PartitionImage { version, replicas, adding, .. } = state;
            self.roles.insert((name, id), Role::Leading { epoch, version, replicas, adding });
        }
    }
}

/// What the image says, in the words of a partition.
fn leadership(state: &PartitionImage) -> Leadership {
    Leadership {
        epoch: state.leader_epoch,
        version: state.version,
        replicas: state.replicas.clone(),
        isr: state.isr.clone(),
        electable: state.electable.clone(),
        adding: state.adding.clone(),
    }
}

/// Follows somebody, or nobody for now. A replica that does not count has what is damaged in its
/// log fetched anew, with all that follows.
fn follow(
    fetchers: &Fetchers,
    partition: &Arc<Partition>,
    epoch: LeaderEpoch,
    leader: Option<&LeaderAt>,
    refills: bool,
) {
    let Some(leader) = leader else {
        fetchers.stop(partition.name());
        if partition.leading().is_some() {
            // Nobody leads in the epoch that this broker led in.
            partition.stop_leading();
        }
        return partition.follow(epoch);
    };
    partition.follow(epoch);
    if let Some(damaged) = partition.log().damaged().iter().map(|range| range.from).min()
        && refills
    {
        fetchers.stop(partition.name());
        match partition.truncate_as_follower(epoch, damaged) {
            Ok(end) => tracing::warn!(
                partition = %partition.name(), %end, leader = %leader.id,
                "the log was damaged from here on; it is fetched anew"
            ),
            Err(error) => {
                tracing::error!(partition = %partition.name(), %error, "damage stays in the log");
            }
        }
    }
    let address = LeaderAddress { id: leader.id, address: leader.address.clone() };
    fetchers.follow(Arc::clone(partition), address, epoch);
}
