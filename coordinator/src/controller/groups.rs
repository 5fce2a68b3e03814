//! Reads consumer groups for people: members, owners, offsets, lag.

use std::collections::BTreeMap;

use proto::v1;

use super::leaders::{self, LogEnds};
use super::state::{Cluster, TopicState};
use crate::registry::{RegistryError, Versioned, node};
use crate::zk::payload::{CommittedOffset, Member, Owner, PlanNode, Subscription};
use crate::zk::{Client, paths};

/// The one kind of group there is so far.
const ZOOKEEPER: &str = "zookeeper";

/// What belongs to partitions of topics.
pub(crate) type ByPartition<T> = BTreeMap<String, BTreeMap<i32, T>>;

/// A group as it is registered.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Committed offsets; read before the members.
    pub(crate) offsets: ByPartition<Versioned<CommittedOffset>>,
    /// Who owns what.
    pub(crate) owners: ByPartition<Owner>,
    /// The live members.
    pub(crate) members: BTreeMap<String, Member>,
    /// The plan; its version is the generation.
    pub(crate) plan: Option<Versioned<PlanNode>>,
    /// Which of the nodes below the group exist.
    pub(crate) parents: Parents,
}

/// Which of the nodes below a group exist.
#[derive(Debug, Default)]
pub(crate) struct Parents {
    /// `offsets`
    pub(crate) offsets: bool,
    /// `owners`
    pub(crate) owners: bool,
    /// `plan`
    pub(crate) plan: bool,
    /// `ids`
    pub(crate) members: bool,
}

impl Group {
    /// `Empty`, `Stable` (the plan counts with exactly the live members) or `Rebalancing`.
    pub(crate) fn state(&self) -> &'static str {
        if self.members.is_empty() {
            return "Empty";
        }
        let planned = self.plan.as_ref().map(|plan| &plan.value.members[..]).unwrap_or_default();
        let same = planned.len() == self.members.len()
            && planned.iter().all(|member| self.members.contains_key(&member.id));
        if same { "Stable" } else { "Rebalancing" }
    }
}

/// Reads a group; `None` where there is none.
pub(crate) async fn read(client: &Client, name: &str) -> Result<Option<Group>, RegistryError> {
    if node::bytes(client, &paths::group(name)).await?.is_none() {
        return Ok(None);
    }
    let below = node::children(client, &paths::group(name)).await?;
    let there = |child: &str| below.iter().any(|name| name == child);
    let parents = Parents {
        offsets: there("offsets"),
        owners: there("owners"),
        plan: there("plan"),
        members: there("ids"),
    };
    let offset = |topic: &str, p| paths::offset(name, topic, p);
    let offsets = by_partition(client, &paths::offsets(name), offset).await?;
    let owner = |topic: &str, p| paths::owner(name, topic, p);
    let owners: ByPartition<Versioned<Owner>> =
        by_partition(client, &paths::owners(name), owner).await?;
    let (members, plan) = members_and_plan(client, name).await?;
    let owners = owners.into_iter().map(|(topic, owners)| {
        (topic, owners.into_iter().map(|(p, owner)| (p, owner.value)).collect())
    });
    Ok(Some(Group { offsets, owners: owners.collect(), members, plan, parents }))
}

async fn members_and_plan(
    client: &Client,
    name: &str,
) -> Result<(BTreeMap<String, Member>, Option<Versioned<PlanNode>>), RegistryError> {
    let plan = node::read::<PlanNode>(client, &paths::plan(name)).await?;
    let ids = node::children(client, &paths::members(name)).await?;
    let nodes: Vec<String> = ids.iter().map(|id| paths::member(name, id)).collect();
    let members = node::read_many::<Member>(client, nodes).await?;
    let members = ids.into_iter().zip(members).filter_map(|(id, m)| Some((id, m?.value)));
    Ok((members.collect(), plan))
}

async fn by_partition<T: crate::zk::Payload>(
    client: &Client,
    parent: &str,
    path: impl Fn(&str, i32) -> String,
) -> Result<ByPartition<Versioned<T>>, RegistryError> {
    let mut found = BTreeMap::new();
    for topic in node::children(client, parent).await? {
        let children = node::children(client, &format!("{parent}/{topic}")).await?;
        let numbers: Vec<i32> = children.iter().filter_map(|p| p.parse().ok()).collect();
        let nodes: Vec<String> = numbers.iter().map(|p| path(&topic, *p)).collect();
        let values = node::read_many::<T>(client, nodes).await?;
        let values = numbers.iter().copied().zip(values).filter_map(|(p, v)| Some((p, v?)));
        found.insert(topic, values.collect());
    }
    Ok(found)
}

/// All groups, by name.
pub(crate) async fn list(client: &Client) -> Result<Vec<v1::GroupListing>, RegistryError> {
    let mut groups = Vec::new();
    for name in node::children(client, paths::CONSUMERS).await? {
        let (members, plan) = members_and_plan(client, &name).await?;
        let group = Group { members, plan, ..Group::default() };
        groups.push(v1::GroupListing {
            kind: ZOOKEEPER.to_owned(),
            state: group.state().to_owned(),
            members: i32::try_from(group.members.len()).unwrap_or(i32::MAX),
            name,
        });
    }
    Ok(groups)
}

/// The topics a group has to do with, of those that exist.
pub(crate) fn topics_of(group: &Group, cluster: &Cluster) -> BTreeMap<String, TopicState> {
    let planned = group.plan.iter().flat_map(|plan| plan.value.topics.keys());
    let named = group.offsets.keys().chain(group.owners.keys()).chain(planned);
    named.filter_map(|name| Some((name.clone(), cluster.topics.get(name)?.clone()))).collect()
}

/// Describes a group; the log ends are asked from the brokers.
pub(crate) async fn describe(
    group: &Group,
    topics: &BTreeMap<String, TopicState>,
    cluster_brokers: &super::state::Brokers,
) -> v1::DescribeGroupResponse {
    let mut partitions = Vec::new();
    for (topic, state) in topics {
        partitions.extend(partitions_of(group, topic, state));
    }
    let ends: LogEnds = leaders::log_ends(&partitions, topics, cluster_brokers).await;
    for partition in &mut partitions {
        let key = (partition.topic.clone(), partition.partition);
        partition.log_end = ends.get(&key).copied().unwrap_or(-1);
    }
    v1::DescribeGroupResponse {
        error: None,
        state: group.state().to_owned(),
        generation: group.plan.as_ref().map_or(-1, |plan| plan.version),
        members: group.members.iter().map(|(id, member)| member_message(id, member)).collect(),
        partitions,
    }
}

/// The partitions that the plan, an owner or an offset names.
fn partitions_of(group: &Group, topic: &str, state: &TopicState) -> Vec<v1::GroupPartition> {
    let planned = group.plan.as_ref().and_then(|plan| plan.value.topics.get(topic));
    let planned = planned.map_or(0, |planned| planned.partitions);
    let count = i32::try_from(state.partitions.len()).unwrap_or(i32::MAX);
    let (offsets, owners) = (group.offsets.get(topic), group.owners.get(topic));
    (0..count)
        .filter_map(|p| {
            let offset = offsets.and_then(|offsets| offsets.get(&p));
            let owner = owners.and_then(|owners| owners.get(&p));
            let named = offset.is_some() || owner.is_some();
            if !named && u32::try_from(p).is_ok_and(|p| p >= planned) {
                return None;
            }
            // An offset of an earlier topic of the name means nothing.
            let committed = offset
                .filter(|offset| offset.value.topic_id == state.id)
                .and_then(|offset| offset.value.offset);
            Some(v1::GroupPartition {
                topic: topic.to_owned(),
                partition: p,
                committed: committed.map_or(-1, |offset| offset.0),
                log_end: -1,
                owner: owner.map(|o| format!("{}-{}", o.consumer, o.stream)).unwrap_or_default(),
            })
        })
        .collect()
}

fn member_message(id: &str, member: &Member) -> v1::GroupMember {
    let (subscription, streams) = match &member.subscription {
        Subscription::Topics(topics) => {
            let names: Vec<&str> = topics.keys().map(String::as_str).collect();
            (names.join(","), topics.values().copied().max().unwrap_or(0))
        }
        Subscription::Pattern { regex, streams } => (regex.clone(), *streams),
    };
    v1::GroupMember {
        id: id.to_owned(),
        host: member.host.clone(),
        subscription,
        streams: i32::try_from(streams).unwrap_or(i32::MAX),
    }
}
