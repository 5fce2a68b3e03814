//! What this broker has to do so that what it stores agrees with what the cluster decided. Pure.
//!
//! First what is here and should not be ([`removals`]), then what should be here and is not
//! ([`missing`]), then the part that this broker has in each partition ([`roles`]):
//!
//! | the image says | here it is | do |
//! |---|---|---|
//! | led by this broker | led in an older epoch, or not led | [`Action::Lead`] |
//! | led by this broker | led in this epoch, as of an older version | [`Action::Adopt`] |
//! | led by this broker | led in a newer epoch | nothing: the image is behind |
//! | led by another that is live | anything else than following it there in this epoch | [`Action::Follow`] that one |
//! | led by nobody, or by one that is not live | led, or following somebody | [`Action::Follow`] nobody |

use std::sync::Arc;

use proto::{BrokerId, LeaderEpoch, TopicId, TopicPartition};

use super::metadata::{ClusterImage, PartitionImage};

/// Who is followed, and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeaderAt {
    /// Its number.
    pub(super) id: BrokerId,
    /// `host:port` of its gRPC listener.
    pub(super) address: String,
    /// Its run: another one has another history of streams.
    pub(super) incarnation: uuid::Uuid,
}

/// The part of this broker in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// None yet.
    Idle,
    /// It leads.
    Leading {
        /// In this epoch.
        epoch: LeaderEpoch,
        /// As of this version of the state's node.
        version: i32,
        /// With these replicas.
        replicas: Vec<BrokerId>,
        /// Of which these are on their way.
        adding: Vec<BrokerId>,
    },
    /// It follows.
    Following {
        /// In this epoch.
        epoch: LeaderEpoch,
        /// Nobody while the leader is not known or not live.
        leader: Option<LeaderAt>,
    },
}

/// A partition as it is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Here {
    /// Its name.
    pub(super) name: TopicPartition,
    /// Of its topic.
    pub(super) id: TopicId,
    /// What this broker does with it.
    pub(super) role: Role,
    /// Served, or only lying on disk.
    pub(super) served: bool,
}

/// Takes something away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Removal {
    /// Its topic was deleted.
    Delete(TopicPartition, TopicId),
    /// Nobody knows its topic, or the name belongs to another topic now: keep it for a person.
    SetAside(TopicPartition, TopicId),
    /// This broker is not among its replicas as far as the image knows: to be deleted, once the
    /// registry itself says so.
    Drop(TopicPartition, TopicId),
}

/// Takes up a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// This broker is the recorded leader in this epoch and does not lead in it yet.
    Lead(TopicPartition, TopicId, LeaderEpoch),
    /// It leads in the recorded epoch; ISR or replicas have changed.
    Adopt(TopicPartition, TopicId),
    /// Another broker leads, or nobody that could be followed.
    Follow(TopicPartition, TopicId, LeaderEpoch, Option<LeaderAt>),
}

/// What is here and should not be. `deleted` are topics whose deletion was accepted: their
/// partitions are deleted, while those of topics that are merely unknown are set aside.
pub(super) fn removals(
    image: &ClusterImage,
    here: &[Here],
    deleted: &[(Arc<str>, TopicId)],
    me: BrokerId,
) -> Vec<Removal> {
    let mut removals = Vec::new();
    for Here { name, id, .. } in here {
        let known = image.topics.get(&name.topic).filter(|topic| topic.id == *id);
        if deleted.iter().any(|(topic, deleted)| *topic == name.topic && deleted == id) {
            removals.push(Removal::Delete(name.clone(), *id));
        } else if let Some(topic) = known {
            // A number that the image has not got yet is of a growth that it has not heard of.
            let state = topic.partition(name.partition);
            if state.is_some_and(|state| !state.replicas.contains(&me)) {
                removals.push(Removal::Drop(name.clone(), *id));
            }
        } else {
            removals.push(Removal::SetAside(name.clone(), *id));
        }
    }
    removals
}

/// What this broker stores by the image.
pub(super) fn own(
    image: &ClusterImage,
    me: BrokerId,
) -> impl Iterator<Item = (TopicPartition, TopicId, &PartitionImage)> {
    image.topics.values().flat_map(move |topic| {
        let numbered = topic.partitions.iter().zip(0..);
        let mine = numbered.filter(move |(state, _)| state.replicas.contains(&me));
        mine.map(|(state, number)| {
            (TopicPartition::new(Arc::clone(&topic.name), number), topic.id, state)
        })
    })
}

/// What should be here and is not served.
pub(super) fn missing(
    image: &ClusterImage,
    here: &[Here],
    me: BrokerId,
) -> Vec<(TopicPartition, TopicId)> {
    let served: std::collections::HashSet<(&TopicPartition, TopicId)> =
        here.iter().filter(|here| here.served).map(|here| (&here.name, here.id)).collect();
    let own = own(image, me).map(|(name, id, _)| (name, id));
    own.filter(|(name, id)| !served.contains(&(name, *id))).collect()
}

/// The roles to take up in what is served here.
pub(super) fn roles(image: &ClusterImage, here: &[Here], me: BrokerId) -> Vec<Action> {
    let here: std::collections::HashMap<(&TopicPartition, TopicId), &Here> =
        here.iter().filter(|here| here.served).map(|here| ((&here.name, here.id), here)).collect();
    let mut actions = Vec::new();
    for (name, id, state) in own(image, me) {
        let Some(known) = here.get(&(&name, id)) else { continue };
        let led_in = match &known.role {
            Role::Leading { epoch, .. } => Some(*epoch),
            Role::Idle | Role::Following { .. } => None,
        };
        if led_in.is_some_and(|epoch| epoch > state.leader_epoch) {
            continue;
        }
        if state.leader == Some(me) {
            if led_in.is_none_or(|epoch| epoch < state.leader_epoch) {
                actions.push(Action::Lead(name, id, state.leader_epoch));
            } else if is_news(&known.role, state) {
                actions.push(Action::Adopt(name, id));
            }
            continue;
        }
        let leader = state.leader.and_then(|leader| leader_at(image, leader));
        let wanted = Role::Following { epoch: state.leader_epoch, leader: leader.clone() };
        if known.role != wanted {
            actions.push(Action::Follow(name, id, state.leader_epoch, leader));
        }
    }
    actions
}

fn is_news(role: &Role, state: &PartitionImage) -> bool {
    match role {
        Role::Leading { version, replicas, adding, .. } => {
            *version < state.version || *replicas != state.replicas || *adding != state.adding
        }
        Role::Idle | Role::Following { .. } => false,
    }
}

fn leader_at(image: &ClusterImage, id: BrokerId) -> Option<LeaderAt> {
    let broker = image.brokers.get(&id)?;
    let address = format!("{}:{}", broker.host, broker.grpc_port);
    Some(LeaderAt { id, address, incarnation: broker.incarnation })
}

#[cfg(test)]
mod tests;
