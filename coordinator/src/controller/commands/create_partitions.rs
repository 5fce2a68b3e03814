//! Growing one topic.

use std::collections::BTreeMap;

use proto::{BrokerId, ErrorCode, v1};

use super::create_topic::{
    assigned, bad_assignment, check_partitions, first_state, partition_writes, placed, topic_value,
};
use crate::controller::decision::{Decision, Refusal};
use crate::controller::outbox::{Delta, topic_message};
use crate::controller::state::{Cluster, Step};
use crate::controller::{subject, unknown_topic};
use crate::registry::fence::Change;
use crate::zk::paths;

/// Decides that a topic has as many partitions as asked from now on.
pub(crate) fn create_partitions(
    cluster: &Cluster,
    asked: &v1::NewPartitions,
    controller_epoch: i32,
) -> Result<Decision, Refusal> {
    let (name, total) = (asked.name.as_str(), asked.total);
    let topic = match cluster.topics.get(name) {
        Some(topic) if !cluster.deletions.contains_key(name) => topic,
        _ => return Err(unknown_topic(cluster, name)),
    };
    check_partitions(name, total)?;
    let now = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    if total <= now {
        return Err(Refusal::new(
            ErrorCode::InvalidPartitions,
            format!("topic `{name}` has {now} partitions, and {total} were asked for"),
            "ask for more than it has; partitions are never removed",
        ));
    }
    let existing: Vec<Vec<BrokerId>> =
        topic.partitions.iter().map(|p| p.replicas.clone()).collect();
    // While replicas are exchanged there are more of them for a time.
    let exchanged = topic.reassigning.partitions.get(&0).map(|r| r.target.len());
    let factor = exchanged.or(existing.first().map(Vec::len));
    let factor = i32::try_from(factor.unwrap_or(1)).unwrap_or(1);
    let added = if asked.assignment.is_empty() {
        placed(cluster, &existing, total - now, factor, topic.id)?
    } else {
        explicit(cluster, asked, now, factor)?
    };
    let mut grown = topic.clone();
    let mut writes = Vec::with_capacity(2 * added.len() + 1);
    for replicas in added {
        let state = first_state(replicas);
        writes.extend(partition_writes(name, grown.partitions.len(), &state, controller_epoch)?);
        grown.partitions.push(state);
    }
    // Last: the new partitions are registered by this value.
    let bytes = topic_value(&grown)?;
    writes.push(Change::Set { path: paths::topic(name), bytes, version: Some(topic.version) });
    grown.version += 1;
    Ok(Decision {
        writes,
        delta: Delta {
            topics: BTreeMap::from([(name.to_owned(), topic_message(name, &grown))]),
            ..Delta::default()
        },
        steps: vec![Step::Topic(name.to_owned(), grown)],
        done: vec![subject::grow(name)],
    })
}

/// The new partitions where somebody else says they are to be.
fn explicit(
    cluster: &Cluster,
    asked: &v1::NewPartitions,
    now: i32,
    factor: i32,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let (new, given) = (asked.total - now, asked.assignment.len());
    if usize::try_from(new) != Ok(given) {
        return Err(bad_assignment(format!("{new} partitions are new, and {given} are assigned")));
    }
    assigned(cluster, &asked.assignment, now, usize::try_from(factor).unwrap_or(0))
}
