//! Who leads a partition and who counts as in sync, when brokers come and go. Pure.
//!
//! Decided from the state as its node has it now, by the level and not by the event: asked again,
//! also by the next controller, it comes to the same, or finds that nothing is to be done. So any
//! number of events may share one look, and a look may be repeated after a lost answer.
//!
//! | wish | state | leader, leader epoch | ISR and electable |
//! |---|---|---|---|
//! | any | no live leader, somebody may lead ([`in_sync::elect`]) | that one, + 1 | as elected, then without the dead ([`in_sync::shrink`]) |
//! | any | no live leader, nobody may | as they were | as they were: they are who may lead later |
//! | any | live leader, dead members | as they were | without the dead |
//! | preferred | the first replica is in sync and does not lead | the first replica, + 1 | as they were |
//! | unclean | no live leader, nobody in sync | any live replica, + 1 | that one alone |
//! | leave | it leads, another may | the other, + 1 | without it, while at the minimum |
//! | leave | it follows | as they were | without it, while at the minimum |
//!
//! The leader epoch counts leaders only: a change of the ISR alone raises the node's version and not
//! the epoch, so that no client and no follower has to begin anew for it. A recorded leader that is
//! down while nobody else may lead stays recorded: it can go on by itself when it is back, also
//! without a controller, and a cluster that starts as a whole is not written twice. Answers to clients
//! show a leader only while it is live.
//!
//! A live member that is about to stop may not be elected. Electable replicas have everything
//! committed, for leaders count them in until they have cleared them away themselves; so it does no
//! harm where the minimum that holds here is not the one that the leader goes by.

use std::collections::BTreeSet;

use proto::{BrokerId, ErrorCode, LeaderEpoch};

use super::commands::Defaults;
use super::state::Cluster;
use crate::registry::configs::Kind;
use crate::registry::in_sync;
use crate::zk::payload::PartitionState;

/// The brokers, as elections see them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hosts {
    /// Registered.
    pub(crate) live: BTreeSet<BrokerId>,
    /// Of these, about to stop.
    pub(crate) leaving: BTreeSet<BrokerId>,
}

impl Hosts {
    /// Those of the picture.
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self {
            live: cluster.brokers.keys().copied().collect(),
            leaving: cluster.leaving.keys().copied().collect(),
        }
    }

    fn may_lead(&self, id: BrokerId) -> bool {
        self.live.contains(&id) && !self.leaving.contains(&id)
    }
}

/// What holds for a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// `min.insync.replicas`.
    pub(crate) min_insync: usize,
    /// `unclean.leader.election.enable`.
    pub(crate) unclean: bool,
}

impl Rules {
    /// The overrides of a topic, else the defaults.
    pub(crate) fn of(cluster: &Cluster, defaults: &Defaults, topic: &str) -> Self {
        let overrides = cluster.configs.get(&(Kind::Topic, topic.to_owned()));
        let value = |key: &str| overrides.and_then(|overrides| overrides.values.get(key));
        let min = value("min.insync.replicas").and_then(|value| value.parse().ok());
        let unclean = value("unclean.leader.election.enable").and_then(|value| value.parse().ok());
        Self {
            min_insync: min.unwrap_or(defaults.min_insync_replicas),
            unclean: unclean.unwrap_or(defaults.unclean_leader_election),
        }
    }
}

/// What is wanted of a partition, beside that it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Nothing else.
    Repair,
    /// The first replica leads.
    Preferred,
    /// Somebody leads, whatever is lost.
    Unclean,
    /// This broker is about to stop.
    Leave(BrokerId),
}

/// What became of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is so, by this decision.
    Done,
    /// It was so before.
    NotNeeded,
    /// The first replica is not live, or not in sync.
    PreferredNotAvailable,
    /// Nobody may lead.
    NobodyEligible,
    /// No such partition, or its state cannot be read.
    Unknown,
}

impl Answer {
    /// The error that callers get; `None`: none.
    pub(crate) fn error(self) -> Option<ErrorCode> {
        match self {
            Self::Done => None,
            Self::NotNeeded => Some(ErrorCode::ElectionNotNeeded),
            Self::PreferredNotAvailable => Some(ErrorCode::PreferredLeaderNotAvailable),
            Self::NobodyEligible => Some(ErrorCode::EligibleLeadersNotAvailable),
            Self::Unknown => Some(ErrorCode::UnknownTopicOrPartition),
        }
    }
}

/// The outcome for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    /// What to write, if anything.
    pub(crate) write: Option<PartitionState>,
    /// What became of the wish.
    pub(crate) answer: Answer,
    /// The new leader may lack acknowledged records.
    pub(crate) unclean: bool,
}

/// Decides for a partition whose node has `state`.
pub(crate) fn decide(
    state: &PartitionState,
    replicas: &[BrokerId],
    hosts: &Hosts,
    rules: Rules,
    wish: Wish,
) -> Decided {
    let min_insync = rules.min_insync.clamp(1, replicas.len().max(1));
    let mut next = state.clone();
    let lives = |id: BrokerId| hosts.live.contains(&id) && replicas.contains(&id);
    let may_lead = |id: BrokerId| hosts.may_lead(id);
    let mut unclean = false;
    let led = next.leader.filter(|leader| lives(*leader));
    let leader = match (led, wish) {
        (None, _) => {
            let any = rules.unclean || wish == Wish::Unclean;
            let elected = in_sync::elect(&next, replicas, may_lead, any);
            elected.map(|elected| {
                unclean = elected.unclean;
                (next.isr, next.electable) = (elected.isr.clone(), elected.electable.clone());
                elected.leader
            })
        }
        (Some(leader), Wish::Preferred) => {
            let first = replicas.first().copied();
            first.filter(|id| next.isr.contains(id) && may_lead(*id)).or(Some(leader))
        }
        (Some(leader), Wish::Leave(id)) if id == leader => {
            let other = replicas.iter().copied().find(|id| next.isr.contains(id) && may_lead(*id));
            other.or(Some(leader))
        }
        (Some(leader), _) => Some(leader),
    };
    let answer = answer(led, leader, replicas, wish);
    let Some(leader) = leader else { return Decided { write: None, answer, unclean } };
    let gone: Vec<BrokerId> =
        next.isr.iter().copied().filter(|id| !hosts.live.contains(id)).collect();
    next = in_sync::shrink(&next, &gone, min_insync);
    if let Wish::Leave(id) = wish
        && id != leader
        && next.isr.len() > min_insync
    {
        next = in_sync::shrink(&next, &[id], min_insync);
    }
    if next.leader != Some(leader) {
        next.leader = Some(leader);
        next.leader_epoch = LeaderEpoch(next.leader_epoch.0.wrapping_add(1).max(0));
    }
    Decided { write: (next != *state).then_some(next), answer, unclean }
}

fn answer(
    led: Option<BrokerId>,
    leader: Option<BrokerId>,
    replicas: &[BrokerId],
    wish: Wish,
) -> Answer {
    match (wish, leader) {
        (_, None) if wish == Wish::Preferred => Answer::PreferredNotAvailable,
        (_, None) => Answer::NobodyEligible,
        (Wish::Preferred, leader) if leader != replicas.first().copied() => {
            Answer::PreferredNotAvailable
        }
        (Wish::Leave(id), Some(leader)) if id == leader => Answer::NobodyEligible,
        _ if led == leader => Answer::NotNeeded,
        _ => Answer::Done,
    }
}

#[cfg(test)]
mod tests;
