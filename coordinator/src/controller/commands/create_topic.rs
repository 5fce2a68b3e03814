//! Creating one topic.

use std::collections::BTreeMap;

use proto::{BrokerId, ErrorCode, LeaderEpoch, TopicId, v1};

use super::{Defaults, PARTITIONS_MAX, check_topic_configs};
use crate::controller::decision::{Decision, Refusal};
use crate::controller::outbox::{Delta, topic_message};
use crate::controller::placement::{Candidate, place};
use crate::controller::state::{Cluster, Overrides, PartitionState, Reassigning, Step, TopicState};
use crate::controller::subject;
use crate::registry::configs::Kind;
use crate::registry::fence::{Change, PART_BYTES};
use crate::zk::payload::{self, Payload};
use crate::zk::{names, paths};

/// A topic asked for, and what the picture cannot know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewTopic<'a> {
    /// As asked.
    pub(crate) asked: &'a v1::NewTopic,
    /// The id it gets; also the seed of its placement.
    pub(crate) id: TopicId,
    /// Of the deciding controller.
    pub(crate) controller_epoch: i32,
}

/// Decides the creation of a topic; the topic as it will be is the first change.
pub(crate) fn create_topic(
    cluster: &Cluster,
    defaults: Defaults,
    new: NewTopic<'_>,
) -> Result<Decision, Refusal> {
    let name = new.asked.name.as_str();
    check_name(cluster, name)?;
    check_topic_configs(&new.asked.configs)?;
    let replicas = replicas(cluster, defaults, new)?;
    let topic = TopicState {
        id: new.id,
        partitions: replicas.into_iter().map(first_state).collect(),
        version: 0,
        reassigning: Reassigning::default(),
    };
    let overrides = Overrides {
        values: new.asked.configs.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        version: 0,
    };
    writes(name, topic, overrides, new.controller_epoch)
}

fn check_name(cluster: &Cluster, name: &str) -> Result<(), Refusal> {
    names::check_topic(name).map_err(|error| {
        Refusal::new(ErrorCode::InvalidTopicException, error.to_string(), "choose another name")
    })?;
    if cluster.deletions.contains_key(name) {
        return Err(Refusal::new(
            ErrorCode::TopicAlreadyExists,
            format!("topic `{name}` is being deleted"),
            "try again when the deletion is done; it waits for every live broker that stored it",
        ));
    }
    if cluster.unreadable.contains(name) {
        return Err(Refusal::new(
            ErrorCode::TopicAlreadyExists,
            format!("topic `{name}` is registered in a form that this controller cannot read"),
            "a newer coordinator may have written it: upgrade this one; its log names the node",
        ));
    }
    if cluster.topics.contains_key(name) {
        return Err(Refusal::new(
            ErrorCode::TopicAlreadyExists,
            format!("topic `{name}` exists"),
            "choose another name, or ask with --if-not-exists",
        ));
    }
    if let Some(other) = cluster.topics.keys().find(|other| names::collides(other, name)) {
        return Err(Refusal::new(
            ErrorCode::InvalidTopicException,
            format!(
                "topic `{name}` would be mixed up with `{other}` in metrics, where `.` and `_` are one"
            ),
            "choose a name that differs in more",
        ));
    }
    Ok(())
}

fn replicas(
    cluster: &Cluster,
    defaults: Defaults,
    new: NewTopic<'_>,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let asked = new.asked;
    if !asked.assignment.is_empty() {
        return explicit(cluster, asked);
    }
    let partitions = if asked.partitions == 0 { defaults.partitions } else { asked.partitions };
    check_partitions(&asked.name, partitions)?;
    let factor = match asked.replication_factor {
        0 => defaults.replication_factor,
        asked => asked,
    };
    check_factor(&asked.name, factor)?;
    placed(cluster, &[], partitions, factor, new.id)
}

/// Places partitions over the live brokers that take new replicas.
pub(super) fn placed(
    cluster: &Cluster,
    existing: &[Vec<BrokerId>],
    partitions: i32,
    factor: i32,
    id: TopicId,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let load = cluster.load();
    let candidates: Vec<Candidate> = cluster
        .brokers
        .iter()
        .filter(|(id, _)| cluster.may_lead(**id) && !cluster.is_cordoned(**id))
        .map(|(id, broker)| {
            let (replicas, leaders) = load.get(id).copied().unwrap_or_default();
            Candidate { id: *id, rack: broker.rack.clone(), replicas, leaders }
        })
        .collect();
    let seed = id.0.as_u64_pair().0;
    let partitions = usize::try_from(partitions).unwrap_or(0);
    let factor = usize::try_from(factor).unwrap_or(0);
    place(&candidates, existing, partitions, factor, seed).map_err(|error| {
        let drained = cluster.brokers.keys().filter(|id| cluster.is_cordoned(**id));
        let drained: Vec<String> = drained.map(ToString::to_string).collect();
        let (besides, remedy) = match drained.is_empty() {
            true => (
                String::new(),
                "start more brokers, or wait until those that are starting register",
            ),
            false => (
                format!(" besides those that are drained ({})", drained.join(", ")),
                "start more brokers, or let a drained one take replicas again: `brokers --undrain`",
            ),
        };
        let message = format!("{error}{besides}");
        Refusal::new(ErrorCode::InvalidReplicationFactor, message, remedy)
    })
}

fn explicit(cluster: &Cluster, asked: &v1::NewTopic) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    if asked.partitions != 0 || asked.replication_factor != 0 {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            format!("topic `{}` has an assignment and also numbers", asked.name),
            "give either an assignment or partitions and replication factor",
        ));
    }
    check_partitions(&asked.name, i32::try_from(asked.assignment.len()).unwrap_or(i32::MAX))?;
    let factor = asked.assignment[0].brokers.len();
    check_factor(&asked.name, i32::try_from(factor).unwrap_or(i32::MAX))?;
    assigned(cluster, &asked.assignment, 0, factor)
}

pub(super) fn bad_assignment(message: String) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidReplicaAssignment,
        message,
        "give each partition a list of distinct live brokers, all lists of one length",
    )
}

/// An assignment as it was given, of the partitions from `first` on, if all of it can be had.
pub(super) fn assigned(
    cluster: &Cluster,
    assignment: &[v1::Replicas],
    first: i32,
    factor: usize,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let mut all = Vec::with_capacity(assignment.len());
    for (p, replicas) in (first..).zip(assignment) {
        let ids: Vec<BrokerId> = replicas.brokers.iter().map(|&id| BrokerId(id)).collect();
        if ids.len() != factor {
            return Err(bad_assignment(format!(
                "partition {p} has {} replicas, others have {factor}",
                ids.len()
            )));
        }
        if let Some(id) = ids.iter().find(|id| !cluster.may_lead(**id)) {
            return Err(bad_assignment(format!(
                "partition {p} is assigned to broker {id}, which is not live or is stopping"
            )));
        }
        if let Some(id) = ids.iter().find(|id| cluster.is_cordoned(**id)) {
            return Err(bad_assignment(format!(
                "partition {p} is assigned to broker {id}, which is drained and takes no replicas"
            )));
        }
        if (1..ids.len()).any(|i| ids[..i].contains(&ids[i])) {
            return Err(bad_assignment(format!("partition {p} names a broker twice")));
        }
        all.push(ids);
    }
    Ok(all)
}

/// Refuses numbers of partitions that no topic can have.
pub(super) fn check_partitions(name: &str, partitions: i32) -> Result<(), Refusal> {
    if (1..=PARTITIONS_MAX).contains(&partitions) {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::InvalidPartitions,
        format!("topic `{name}` cannot have {partitions} partitions"),
        format!("ask for 1 to {PARTITIONS_MAX}"),
    ))
}

fn check_factor(name: &str, factor: i32) -> Result<(), Refusal> {
    if factor >= 1 {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::InvalidReplicationFactor,
        format!("topic `{name}` asks for {factor} replicas"),
        "ask for 1 or more, or leave it out",
    ))
}

/// The state of a partition that never had a leader at work.
pub(super) fn first_state(replicas: Vec<BrokerId>) -> PartitionState {
    PartitionState {
        leader: replicas.first().copied(),
        leader_epoch: LeaderEpoch(0),
        isr: replicas.clone(),
        electable: Vec::new(),
        version: 0,
        replicas,
    }
}

/// The writes that create partition `p`.
pub(super) fn partition_writes(
    topic: &str,
    p: usize,
    state: &PartitionState,
    controller_epoch: i32,
) -> Result<[Change; 2], Refusal> {
    let p = i32::try_from(p).unwrap_or(i32::MAX);
    let value = state.payload(controller_epoch);
    Ok([
        Change::create(paths::partition(topic, p), Vec::new()),
        Change::create(paths::partition_state(topic, p), value.encode()?),
    ])
}

/// The value of a topic's node.
pub(crate) fn topic_value(topic: &TopicState) -> Result<Vec<u8>, Refusal> {
    let partitions = topic.partitions.iter().map(|p| p.replicas.clone()).collect();
    Ok(payload::Topic { topic_id: topic.id, partitions }.encode()?)
}

fn writes(
    name: &str,
    mut topic: TopicState,
    overrides: Overrides,
    controller_epoch: i32,
) -> Result<Decision, Refusal> {
    let value = topic_value(&topic)?;
    let mut writes = vec![
        Change::create(paths::topic(name), value.clone()),
        Change::create(paths::partitions(name), Vec::new()),
        Change::create(paths::stored_parent(name), Vec::new()),
    ];
    for (p, state) in topic.partitions.iter().enumerate() {
        writes.extend(partition_writes(name, p, state, controller_epoch)?);
    }
    if !overrides.values.is_empty() {
        let value = payload::Overrides { values: overrides.values.clone() }.encode()?;
        writes.push(Change::create(paths::config(Kind::Topic.plural(), name), value));
    }
    if writes.iter().map(Change::size).sum::<usize>() > PART_BYTES {
        // Until its node has a value, nobody takes the topic for registered.
        writes[0] = Change::create(paths::topic(name), Vec::new());
        writes.push(Change::Set { path: paths::topic(name), bytes: value, version: Some(0) });
        topic.version = 1;
    }
    let told = topic_message(name, &topic);
    let mut decision = Decision {
        writes,
        delta: Delta { topics: BTreeMap::from([(name.to_owned(), told)]), ..Delta::default() },
        steps: vec![Step::Topic(name.to_owned(), topic)],
        done: vec![subject::create(name)],
    };
    if !overrides.values.is_empty() {
        let of = (Kind::Topic, name.to_owned());
        decision.delta.configs.insert(of, overrides.values.clone());
        let step = Step::Configs(Kind::Topic, name.to_owned(), Some(overrides));
        decision.steps.push(step);
    }
    Ok(decision)
}
