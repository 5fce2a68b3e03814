//! What a request for reassignments changes, and what it is refused for. Pure.

use proto::{BrokerId, ErrorCode, v1};

use super::topic::{Scope, advance, record};
use crate::controller::decision::{Decision, Refusal};
use crate::controller::outbox::topic_message;
use crate::controller::state::{Cluster, Step, TopicState};
use crate::controller::{subject, unknown_topic};
use crate::zk::payload::Reassignment;

/// So many partitions of a topic may be under way at a time: its record is one small node.
const PARTITIONS_MAX: usize = 1_000;
/// So many replicas a partition may have.
const REPLICAS_MAX: usize = 100;

/// Decides the partitions of one topic together.
pub(crate) fn reassign(
    cluster: &Cluster,
    name: &str,
    asked: &[&v1::PartitionReassignment],
    rate: i64,
    controller_epoch: i32,
) -> Result<Decision, Refusal> {
    let mut after = found(cluster, name)?.clone();
    for asked in asked {
        take(cluster, &mut after, asked)?;
    }
    let under_way = after.reassigning.partitions.len();
    if under_way > PARTITIONS_MAX {
        return Err(Refusal::new(
            ErrorCode::PolicyViolation,
            format!("{under_way} partitions of topic `{name}` would be reassigned at once"),
            format!(
                "ask for at most {PARTITIONS_MAX} of a topic, and for the rest when they are done"
            ),
        ));
    }
    let mut decision = Decision { done: vec![subject::reassign(name)], ..Decision::default() };
    if rate > 0 && under_way > 0 {
        after.reassigning.throttle = Some(rate.unsigned_abs());
    }
    match advance(cluster, name, &after, Scope::Begin, controller_epoch)? {
        Some(begun) => decision.push(begun),
        None => {
            // Nobody comes, or not by this: the steps that follow see to it.
            record(cluster, name, &mut after, &mut decision)?;
            if !decision.writes.is_empty() {
                // Who goes or comes, and how fast, may be another by the record alone.
                decision.delta.topics.insert(name.to_owned(), topic_message(name, &after));
            }
            decision.steps.push(Step::Topic(name.to_owned(), after));
        }
    }
    Ok(decision)
}

/// Judges one partition by itself.
pub(crate) fn check(cluster: &Cluster, asked: &v1::PartitionReassignment) -> Result<(), Refusal> {
    take(cluster, &mut found(cluster, &asked.topic)?.clone(), asked)
}

fn found<'a>(cluster: &'a Cluster, name: &str) -> Result<&'a TopicState, Refusal> {
    let topic = cluster.topics.get(name).filter(|_| !cluster.deletions.contains_key(name));
    topic.ok_or_else(|| unknown_topic(cluster, name))
}

/// Enters one partition into the record.
fn take(
    cluster: &Cluster,
    topic: &mut TopicState,
    asked: &v1::PartitionReassignment,
) -> Result<(), Refusal> {
    let (name, partition) = (&asked.topic, asked.partition);
    let Some(state) = topic.partition(partition) else {
        return Err(Refusal::new(
            ErrorCode::UnknownTopicOrPartition,
            format!("topic `{name}` has no partition {partition}"),
            "describing the topic shows its partitions",
        ));
    };
    let replicas = state.replicas.clone();
    let under_way = topic.reassigning.partitions.get_mut(&partition);
    match (&asked.target, under_way) {
        (None, Some(reassignment)) => reassignment.target.clone_from(&reassignment.original),
        (None, None) => {
            return Err(Refusal::new(
                ErrorCode::NoReassignmentInProgress,
                format!("{name}-{partition} is not being reassigned"),
                "it may be done already; listing shows what is under way",
            ));
        }
        (Some(target), under_way) => {
            let target: Vec<BrokerId> = target.brokers.iter().map(|&id| BrokerId(id)).collect();
            check_target(cluster, asked, &replicas, &target)?;
            match under_way {
                Some(reassignment) => reassignment.target = target,
                None if target == replicas => {}
                None => {
                    let begun = Reassignment { target, original: replicas };
                    topic.reassigning.partitions.insert(partition, begun);
                }
            }
        }
    }
    Ok(())
}

fn check_target(
    cluster: &Cluster,
    asked: &v1::PartitionReassignment,
    replicas: &[BrokerId],
    target: &[BrokerId],
) -> Result<(), Refusal> {
    let of = format!("{}-{}", asked.topic, asked.partition);
    let bad = |what: String, remedy: &str| {
        Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, what, remedy))
    };
    if target.is_empty() {
        return bad(format!("{of} would have no replica"), "name at least one broker");
    }
    if target.len() > REPLICAS_MAX {
        let n = target.len();
        return bad(format!("{of} would have {n} replicas"), "name 100 brokers at most");
    }
    if (1..target.len()).any(|i| target[..i].contains(&target[i])) {
        return bad(format!("{of} names a broker twice"), "name each broker once");
    }
    let unknown = |id: &&BrokerId| !cluster.brokers.contains_key(id) && !replicas.contains(id);
    if let Some(id) = target.iter().find(unknown) {
        return bad(
            format!("{of} is to have a replica on broker {id}, which is not live"),
            "start that broker first, or name another; `brokers --list` shows who is live",
        );
    }
    let drained = |id: &&BrokerId| cluster.is_cordoned(**id) && !replicas.contains(id);
    if let Some(id) = target.iter().find(drained) {
        return bad(
            format!("{of} is to have a replica on broker {id}, which is drained"),
            "name another, or let that one take replicas again: `brokers --undrain`",
        );
    }
    Ok(())
}
