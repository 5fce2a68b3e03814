//! The next writes for the partitions of a topic that are being reassigned. Pure.

use std::collections::BTreeMap;

use proto::Partition;

use super::partition::{Next, next};
use crate::controller::commands::topic_value;
use crate::controller::decision::{Decision, Refusal};
use crate::controller::outbox::{Delta, topic_message};
use crate::controller::state::{Cluster, Reassigning, Step, TopicState};
use crate::registry::fence::Change;
use crate::zk::paths;
use crate::zk::payload::{self, Payload, Reassignment};

/// So many partitions change in one decision, so that its writes fit into one transaction.
pub(super) const CHANGES_MAX: usize = 200;

/// How far the decision on a topic goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Only partitions that have just been recorded: replicas come, nobody goes.
    Begin,
    /// Whatever can be done.
    All,
}

/// Partitions of a topic for which something can be done now, as the picture has them.
pub(crate) fn due(cluster: &Cluster, name: &str) -> Vec<Partition> {
    let Some(topic) = cluster.topics.get(name) else { return Vec::new() };
    let due = changes(cluster, name, topic, Scope::All);
    due.into_iter().map(|(partition, _)| partition).collect()
}

/// What is done next for a topic with this record; `None`: nothing can be done now.
pub(crate) fn advance(
    cluster: &Cluster,
    name: &str,
    topic: &TopicState,
    scope: Scope,
    controller_epoch: i32,
) -> Result<Option<Decision>, Refusal> {
    let changes = changes(cluster, name, topic, scope);
    if changes.is_empty() {
        return Ok(None);
    }
    let mut after = topic.clone();
    let (mut states, mut goes) = (Vec::new(), false);
    for (partition, next) in changes.into_iter().take(CHANGES_MAX) {
        let state = match next {
            Next::Wait => continue,
            Next::Step(state) => state,
            Next::Finish(state) => {
                goes = true;
                after.reassigning.partitions.remove(&partition);
                state
            }
        };
        let Some(place) = after.partition_mut(partition) else { continue };
        let value = state.payload(controller_epoch).encode()?;
        let path = paths::partition_state(name, partition);
        goes |= state.leader_epoch != place.leader_epoch;
        states.push(Change::Set { path, bytes: value, version: Some(state.version) });
        *place = state;
        place.version += 1;
    }
    let bytes = topic_value(&after)?;
    let value = Change::Set { path: paths::topic(name), bytes, version: Some(topic.version) };
    after.version += 1;
    let mut decision = Decision::default();
    if goes {
        decision.writes.extend(states);
        decision.writes.push(value);
        record(cluster, name, &mut after, &mut decision)?;
    } else {
        record(cluster, name, &mut after, &mut decision)?;
        decision.writes.push(value);
        decision.writes.extend(states);
    }
    decision.delta.merge(&Delta {
        topics: BTreeMap::from([(name.to_owned(), topic_message(name, &after))]),
        ..Delta::default()
    });
    decision.steps.push(Step::Topic(name.to_owned(), after));
    Ok(Some(decision))
}

/// Partitions with what is next for them, those that wait left out.
fn changes(
    cluster: &Cluster,
    name: &str,
    topic: &TopicState,
    scope: Scope,
) -> Vec<(Partition, Next)> {
    if cluster.deletions.contains_key(name) {
        return Vec::new();
    }
    let min_insync = cluster.min_insync(name);
    let of = |(&partition, reassignment): (&Partition, &Reassignment)| {
        // A state that somebody's hand took away is not written anew.
        let state = topic.partition(partition).filter(|state| state.version >= 0)?;
        let next = next(state, reassignment, min_insync, |id| cluster.may_lead(id));
        let begins = matches!(&next, Next::Step(after) if after.leader_epoch == state.leader_epoch);
        match next {
            Next::Wait => None,
            next => (scope == Scope::All || begins).then_some((partition, next)),
        }
    };
    topic.reassigning.partitions.iter().filter_map(of).collect()
}

/// Writes the record of `after`, if it is another than the picture's; with its last partition it
/// goes.
pub(crate) fn record(
    cluster: &Cluster,
    name: &str,
    after: &mut TopicState,
    decision: &mut Decision,
) -> Result<(), Refusal> {
    let before = cluster.topics.get(name).map(|topic| topic.reassigning.clone());
    let before = before.unwrap_or_default();
    let path = paths::admin_reassign(name);
    if after.reassigning.partitions.is_empty() {
        if let Some(version) = before.version {
            decision.writes.push(Change::Delete { path, version: Some(version) });
        }
        after.reassigning = Reassigning::default();
        return Ok(());
    }
    if before == after.reassigning {
        return Ok(());
    }
    let Reassigning { partitions, throttle, version: _ } = after.reassigning.clone();
    let value = payload::Reassignments { topic_id: after.id, partitions, throttle };
    let bytes = value.encode()?;
    decision.writes.push(match before.version {
        None => Change::create(path, bytes),
        version => Change::Set { path, bytes, version },
    });
    after.reassigning.version = Some(before.version.map_or(0, |version| version + 1));
    Ok(())
}
