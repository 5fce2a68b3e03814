//! What is under way, and how far the new replicas are.

use std::collections::BTreeMap;

use proto::v1;

use crate::controller::logs;
use crate::controller::outbox::topic_message;
use crate::controller::state::{Brokers, Cluster};

/// The reassignments under way of these topics; none named: of all.
pub(crate) fn list(cluster: &Cluster, names: &[String]) -> Vec<v1::OngoingReassignment> {
    let named = |name: &String| names.is_empty() || names.contains(name);
    let topics = cluster.topics.iter().filter(|(name, _)| named(name));
    let topics = topics.filter(|(name, _)| !cluster.deletions.contains_key(*name));
    let mut all = Vec::new();
    for (name, topic) in topics.filter(|(_, topic)| !topic.reassigning.partitions.is_empty()) {
        let mut message = topic_message(name, topic);
        let reassigning = &topic.reassigning;
        for partition in std::mem::take(&mut message.partitions) {
            let Some(of) = reassigning.partitions.get(&partition.partition) else { continue };
            let throttle = reassigning.throttle.unwrap_or(0);
            all.push(v1::OngoingReassignment {
                topic: name.clone(),
                topic_id: message.topic_id.clone(),
                partition: Some(partition),
                target: of.target.iter().map(|id| id.0).collect(),
                original: of.original.iter().map(|id| id.0).collect(),
                throttle: i64::try_from(throttle).unwrap_or(i64::MAX),
                progress: Vec::new(),
            });
        }
    }
    all
}

/// Adds how far the replicas that come are, by what the brokers have on their disks. Returns the
/// brokers that could not be asked.
pub(crate) async fn with_progress(
    reassignments: &mut [v1::OngoingReassignment],
    brokers: &Brokers,
) -> Vec<v1::UnreachableBroker> {
    let mut topics: BTreeMap<&str, v1::DescribedTopic> = BTreeMap::new();
    for under_way in &*reassignments {
        let described = topics.entry(&under_way.topic).or_insert_with(|| {
            let (name, topic_id) = (under_way.topic.clone(), under_way.topic_id.clone());
            let topic = v1::Topic { name, topic_id, ..Default::default() };
            v1::DescribedTopic { topic: Some(topic), ..Default::default() }
        });
        if let Some(topic) = &mut described.topic {
            topic.partitions.extend(under_way.partition.clone());
        }
    }
    let names: Vec<String> = topics.keys().map(|name| (*name).to_owned()).collect();
    let mut topics: Vec<v1::DescribedTopic> = topics.into_values().collect();
    let unreachable = logs::add(&mut topics, brokers).await;
    let logs: BTreeMap<String, Vec<v1::ReplicaLog>> =
        names.into_iter().zip(topics.into_iter().map(|topic| topic.logs)).collect();
    for under_way in reassignments {
        let logs = logs.get(&under_way.topic).map_or(&[][..], Vec::as_slice);
        under_way.progress = progress(under_way.partition.as_ref(), logs);
    }
    unreachable
}

/// How far the replicas of one partition that come are.
fn progress(partition: Option<&v1::Partition>, logs: &[v1::ReplicaLog]) -> Vec<v1::AddingReplica> {
    let Some(partition) = partition else { return Vec::new() };
    let log_of = |broker: i32| {
        let of = |replica: &&v1::ReplicaLog| {
            let log = replica.log.as_ref();
            replica.broker == broker && log.is_some_and(|l| l.partition == partition.partition)
        };
        logs.iter().find(of).and_then(|replica| replica.log.as_ref())
    };
    let leader = log_of(partition.leader);
    let bytes = |log: &v1::StoredLog| i64::try_from(log.size_bytes).unwrap_or(i64::MAX);
    let comes = partition.adding.iter().map(|&broker| {
        let in_sync = partition.isr.contains(&broker);
        let mut progress = v1::AddingReplica {
            broker,
            in_sync,
            offsets_left: -1,
            bytes_left: -1,
            bytes_total: leader.map_or(-1, bytes),
        };
        if in_sync {
            (progress.offsets_left, progress.bytes_left) = (0, 0);
        } else if let (Some(leader), Some(own)) = (leader, log_of(broker)) {
            progress.offsets_left = (leader.log_end_offset - own.log_end_offset).max(0);
            progress.bytes_left = match progress.offsets_left {
                0 => 0,
                _ => (bytes(leader) - bytes(own)).max(0),
            };
        }
        progress
    });
    comes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_behind_by_what_its_log_lacks() {
        let partition = v1::Partition {
            partition: 3,
            leader: 1,
            isr: vec![1, 4],
            adding: vec![2, 4, 5],
            ..Default::default()
        };
        let log = |broker, partition, log_end_offset, size_bytes| v1::ReplicaLog {
            broker,
            directory: "/d".to_owned(),
            log: Some(v1::StoredLog {
                partition,
                log_end_offset,
                size_bytes,
                ..Default::default()
            }),
        };
        let logs =
            [log(1, 3, 100, 5_000), log(2, 3, 40, 2_000), log(2, 0, 99, 9), log(4, 3, 98, 1)];
        let left = |p: &v1::AddingReplica| (p.broker, p.in_sync, p.offsets_left, p.bytes_left);
        let told = progress(Some(&partition), &logs);
        assert_eq!(
            told.iter().map(left).collect::<Vec<_>>(),
            [(2, false, 60, 3_000), (4, true, 0, 0), (5, false, -1, -1)]
        );
        assert!(told.iter().all(|p| p.bytes_total == 5_000));
    }
}
