//! The plan of a group: what it was computed from, and who owns what.
//!
//! A plan carries its inputs, so that anybody can see whether it still fits ([`Plan::fits`]), and
//! the next one can be computed from it. It is written compactly (runs of owners), because a
//! group with 100,000 partitions must fit into one node of at most 1 MiB.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use proto::{Partition, TopicId};

use super::subscribed::Subscribed;
use super::{range, sticky};
use crate::zk::payload::{PlanNode, PlannedMember, PlannedTopic, Subscription};

/// The live members of a group and what they read.
pub type Members = BTreeMap<String, Subscription>;
/// The registered topics; those that no member reads do not matter.
pub type Topics = BTreeMap<String, TopicInput>;

/// No plan has more partitions: a bound on what a written plan can make a reader allocate.
const MAX_PARTITIONS: u64 = 2_000_000;

/// A topic as it is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicInput {
    /// Its id: a topic created again is another one, and nobody owned it before.
    pub topic_id: TopicId,
    /// Its number of partitions.
    pub partitions: u32,
}

/// How partitions are given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// The paper's: contiguous ranges, topic by topic.
    #[default]
    Range,
    /// As balanced, but moves as little as possible from the previous plan.
    Sticky,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Range => "range",
            Self::Sticky => "sticky",
        })
    }
}

/// A text that names no strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an assignment strategy: use range or sticky")]
pub struct UnknownStrategy(String);

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(text: &str) -> Result<Self, UnknownStrategy> {
        match text {
            "range" => Ok(Self::Range),
            "sticky" => Ok(Self::Sticky),
            other => Err(UnknownStrategy(other.chars().take(64).collect())),
        }
    }
}

/// A partition that a member owns, and the stream it flows into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owned {
    /// The partition.
    pub partition: Partition,
    /// The member's stream.
    pub stream: u32,
}

/// A stream of a member that may own partitions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    member: String,
    stream: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Assigned {
    topic_id: TopicId,
    /// Index into the slots for each partition.
    owners: Vec<u32>,
}

/// Who owns what. Every partition of every topic that anybody reads has exactly one owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    strategy: Strategy,
    members: Members,
    slots: Vec<Slot>,
    topics: BTreeMap<String, Assigned>,
}

/// A written plan that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the plan contradicts itself ({0}): something else wrote it; delete the node to have a new one computed"
)]
pub struct InvalidPlan(String);

impl Plan {
    /// Computes the plan for these members and topics. `previous` matters to
    /// [`Strategy::Sticky`] alone.
    pub fn compute(
        strategy: Strategy,
        members: &Members,
        topics: &Topics,
        previous: Option<&Self>,
    ) -> Self {
        Self::compute_with(strategy, members, topics, |slots, eligible, name, topic| {
            before(previous, slots, eligible, name, topic)
        })
    }

    /// Moves as little as balance allows from what members have: partitions of each topic, with the
    /// member that has them.
    pub fn keeping(
        members: &Members,
        topics: &Topics,
        held: &BTreeMap<String, BTreeMap<Partition, String>>,
    ) -> Self {
        Self::compute_with(Strategy::Sticky, members, topics, |slots, eligible, name, topic| {
            let mut owners = vec![None; topic.partitions as usize];
            let mut given: BTreeMap<&str, usize> = BTreeMap::new();
            for (partition, member) in held.get(name).into_iter().flatten() {
                let at = usize::try_from(*partition).ok().and_then(|at| owners.get_mut(at));
                let Some(owner) = at else { continue };
                let of_member = |slot: &&u32| slots[**slot as usize].member == *member;
                let mine: Vec<u32> = eligible.iter().filter(of_member).copied().collect();
                // Its streams take turns: what it has of each is its own affair.
                let turn = given.entry(member).or_default();
                *owner = mine.get(*turn % mine.len().max(1)).copied();
                *turn += 1;
            }
            owners
        })
    }

    fn compute_with(
        strategy: Strategy,
        members: &Members,
        topics: &Topics,
        before: impl Fn(&[Slot], &[u32], &str, &TopicInput) -> Vec<Option<u32>>,
    ) -> Self {
        let subscribed = Subscribed::new(members);
        let topics = subscribed.topics(topics);
        let mut slots = Vec::new();
        let mut first_slot = Vec::with_capacity(members.len());
        for (rank, member) in members.keys().enumerate() {
            let each = topics.iter().map(|(name, topic)| subscribed.streams(rank, name, topic));
            let streams = 0..each.max().unwrap_or(0);
            first_slot.push(slots.len() as u32);
            slots.extend(streams.map(|stream| Slot { member: member.clone(), stream }));
        }
        let eligible = |name: &str, topic: &TopicInput| -> Vec<u32> {
            let of_rank = |(rank, &first): (usize, &u32)| {
                first..first + subscribed.streams(rank, name, topic)
            };
            first_slot.iter().enumerate().flat_map(of_rank).collect()
        };
        let owners: Vec<Vec<u32>> = match strategy {
            Strategy::Range => topics
                .iter()
                .map(|(name, topic)| range::assign(&eligible(name, topic), topic.partitions))
                .collect(),
            Strategy::Sticky => {
                let job = |&(name, topic): &(&String, &TopicInput)| {
                    let eligible = eligible(name, topic);
                    let before = before(&slots, &eligible, name, topic);
                    sticky::Job { slots: eligible, before }
                };
                sticky::assign(&topics.iter().map(job).collect::<Vec<_>>(), slots.len())
            }
        };
        let assigned = topics.into_iter().zip(owners).map(|((name, topic), owners)| {
            (name.clone(), Assigned { topic_id: topic.topic_id, owners })
        });
        let topics = assigned.collect();
        Self { strategy, members: members.clone(), slots, topics }
    }

    /// True when the plan was computed from these members and, as far as they read them, these
    /// topics. Otherwise a new one is needed.
    pub fn fits(&self, members: &Members, topics: &Topics) -> bool {
        if self.members != *members {
            return false;
        }
        let read = Subscribed::new(members).topics(topics).into_iter();
        let inputs = read.map(|(name, topic)| (name, topic.topic_id, topic.partitions as usize));
        let own = self.topics.iter();
        own.map(|(name, topic)| (name, topic.topic_id, topic.owners.len())).eq(inputs)
    }

    /// How it was computed.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// The members it counts with.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The topics it counts with, each with its id and number of partitions.
    pub fn topics(&self) -> impl Iterator<Item = (&str, TopicInput)> {
        self.topics.iter().map(|(name, topic)| {
            let partitions = topic.owners.len() as u32;
            (name.as_str(), TopicInput { topic_id: topic.topic_id, partitions })
        })
    }

    /// What a member owns: topic to partitions in order; empty when it owns nothing or is not in
    /// the plan.
    pub fn of_member(&self, member: &str) -> BTreeMap<&str, Vec<Owned>> {
        let mut all = BTreeMap::new();
        for (name, topic) in &self.topics {
            let mut owned = Vec::new();
            for (partition, &slot) in (0..).zip(&topic.owners) {
                let slot = &self.slots[slot as usize];
                if slot.member == member {
                    owned.push(Owned { partition, stream: slot.stream });
                }
            }
            if !owned.is_empty() {
                all.insert(name.as_str(), owned);
            }
        }
        all
    }

    /// The owner of a partition: member and stream.
    pub fn owner(&self, topic: &str, partition: Partition) -> Option<(&str, u32)> {
        let slot = *self.topics.get(topic)?.owners.get(usize::try_from(partition).ok()?)?;
        let slot = &self.slots[slot as usize];
        Some((&slot.member, slot.stream))
    }

    /// As it is written.
    pub fn to_node(&self) -> PlanNode {
        let ranks: BTreeMap<&str, u32> = self.members.keys().map(String::as_str).zip(0..).collect();
        let members = self.members.iter().map(|(id, subscription)| PlannedMember {
            id: id.clone(),
            subscription: subscription.clone(),
        });
        let slots = self.slots.iter().map(|slot| (ranks[slot.member.as_str()], slot.stream));
        let topics = self.topics.iter().map(|(name, topic)| {
            let planned = PlannedTopic {
                topic_id: topic.topic_id,
                owners: to_runs(&topic.owners),
                partitions: topic.owners.len() as u32,
            };
            (name.clone(), planned)
        });
        PlanNode {
            strategy: self.strategy.to_string(),
            members: members.collect(),
            slots: slots.collect(),
            topics: topics.collect(),
        }
    }

    /// Reads what was written; checks everything the other functions rely on.
    pub fn from_node(node: PlanNode) -> Result<Self, InvalidPlan> {
        let invalid = |what: String| InvalidPlan(what);
        let strategy: Strategy = node.strategy.parse().map_err(|e| invalid(format!("{e}")))?;
        let mut slots = Vec::with_capacity(node.slots.len());
        for &(rank, stream) in &node.slots {
            let Some(member) = node.members.get(rank as usize) else {
                return Err(invalid(format!("a slot of member {rank}, which is not in it")));
            };
            slots.push(Slot { member: member.id.clone(), stream });
        }
        let mut all = 0;
        let mut topics = BTreeMap::new();
        for (name, topic) in node.topics {
            all += u64::from(topic.partitions);
            if all > MAX_PARTITIONS {
                return Err(invalid(format!("more than {MAX_PARTITIONS} partitions")));
            }
            let owners = from_runs(&topic.owners, topic.partitions as usize, slots.len())
                .ok_or_else(|| invalid(format!("the owners of topic {name}")))?;
            topics.insert(name, Assigned { topic_id: topic.topic_id, owners });
        }
        let members = node.members.into_iter().map(|m| (m.id, m.subscription)).collect();
        Ok(Self { strategy, members, slots, topics })
    }
}

/// The owners of a topic's partitions in the previous plan, as slots of the new one.
fn before(
    previous: Option<&Plan>,
    slots: &[Slot],
    eligible: &[u32],
    name: &str,
    topic: &TopicInput,
) -> Vec<Option<u32>> {
    let count = topic.partitions as usize;
    let same_topic = |plan: &&Plan| {
        plan.topics.get(name).is_some_and(|assigned| assigned.topic_id == topic.topic_id)
    };
    let Some(plan) = previous.filter(same_topic) else { return vec![None; count] };
    let translate = |old: &Slot| {
        let new = slots.binary_search(old).ok()? as u32;
        eligible.binary_search(&new).is_ok().then_some(new)
    };
    let translated: Vec<Option<u32>> = plan.slots.iter().map(translate).collect();
    let mut owners: Vec<_> =
        plan.topics[name].owners.iter().map(|&old| translated[old as usize]).collect();
    owners.resize(count, None);
    owners
}

fn to_runs(owners: &[u32]) -> Vec<i64> {
    let mut runs = Vec::new();
    for run in owners.chunk_by(|a, b| a == b) {
        runs.push(i64::from(run[0]));
        if run.len() > 1 {
            runs.push(1 - run.len() as i64);
        }
    }
    runs
}

fn from_runs(runs: &[i64], partitions: usize, slots: usize) -> Option<Vec<u32>> {
    let mut owners: Vec<u32> = Vec::with_capacity(partitions);
    for &run in runs {
        if run >= 0 {
            let slot = u32::try_from(run).ok().filter(|&slot| (slot as usize) < slots)?;
            owners.push(slot);
        } else {
            let last = *owners.last()?;
            let more = usize::try_from(run.unsigned_abs()).ok()?;
            let more = Some(more).filter(|more| *more <= partitions - owners.len())?;
            owners.extend(std::iter::repeat_n(last, more));
        }
        if owners.len() > partitions {
            return None;
        }
    }
    (owners.len() == partitions).then_some(owners)
}
