//! Leadership back to the preferred leaders, once they are live and in sync again. Pure.
//!
//! The first replica of a partition is its preferred leader: placement spread these evenly. After
//! fail-overs others lead, and a broker that was down leads nothing. From time to time it is looked,
//! broker by broker, at how many of the partitions preferring it others lead; above the percentage
//! all of those are to be elected anew, as far as the broker may lead them.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::BrokerId;

use super::due::Place;
use super::state::Cluster;

/// When leadership goes back by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// `leader.imbalance.check.interval.seconds`.
    pub interval: Duration,
    /// `leader.imbalance.per.broker.percentage`.
    pub percentage: u64,
}

impl Default for Balance {
    fn default() -> Self {
        Self { interval: Duration::from_secs(300), percentage: 10 }
    }
}

/// The partitions to be led by their preferred leaders again.
pub(crate) fn imbalanced(cluster: &Cluster, percentage: u64) -> Vec<Place> {
    let mut by_broker: BTreeMap<BrokerId, (u64, Vec<Place>)> = BTreeMap::new();
    for (topic, partition, state) in cluster.partitions() {
        let Some(&preferred) = state.replicas.first() else { continue };
        let topic_state = cluster.topics.get(topic);
        if topic_state.is_some_and(|t| t.reassigning.partitions.contains_key(&partition)) {
            // Its replicas are being changed, and who is preferred with them.
            continue;
        }
        let (prefer, elsewhere) = by_broker.entry(preferred).or_default();
        *prefer += 1;
        if state.leader != Some(preferred) {
            elsewhere.push((topic.to_owned(), partition));
        }
    }
    let over = by_broker.into_iter().filter(|(id, (prefer, elsewhere))| {
        cluster.may_lead(*id) && elsewhere.len() as u64 * 100 > percentage * prefer
    });
    let places = over.flat_map(|(_, (_, elsewhere))| elsewhere);
    // One that is not in sync is left for the next time.
    places
        .filter(|(topic, partition)| {
            let state = cluster.partition(topic, *partition);
            state.is_some_and(|s| s.replicas.first().is_some_and(|first| s.isr.contains(first)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proto::{LeaderEpoch, TopicId};

    use super::*;
    use crate::controller::state::{PartitionState, TopicState};
    use crate::zk::payload::Reassignment;

    /// Ten partitions preferring broker 1 of 2 replicas; `led` of them are led by it.
    fn cluster(led: usize, live: &[i32]) -> Cluster {
        let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
        let partitions = (0..10).map(|p| PartitionState {
            replicas: ids(&[1, 2]),
            leader: Some(BrokerId(if p < led { 1 } else { 2 })),
            leader_epoch: LeaderEpoch(0),
            isr: ids(&[1, 2]),
            electable: Vec::new(),
            version: 0,
        });
        let topic = TopicState {
            id: TopicId::random(),
            partitions: partitions.collect(),
            version: 0,
            reassigning: Default::default(),
        };
        let mut cluster = Cluster::default();
        cluster.topics.insert("t".to_owned(), topic);
        for id in live {
            cluster.brokers.insert(BrokerId(*id), crate::controller::tests::broker());
        }
        cluster
    }

    #[test]
    fn leadership_goes_back_above_the_percentage_only() {
        assert_eq!(imbalanced(&cluster(9, &[1, 2]), 10), []);
        let two = [("t".to_owned(), 8), ("t".to_owned(), 9)];
        assert_eq!(imbalanced(&cluster(8, &[1, 2]), 10), two);
        assert_eq!(imbalanced(&cluster(10, &[1, 2]), 0), []);
        assert_eq!(imbalanced(&cluster(9, &[1, 2]), 0).len(), 1);
    }

    #[test]
    fn nothing_goes_to_who_is_down_stopping_or_not_in_sync() {
        assert_eq!(imbalanced(&cluster(0, &[2]), 10), []);
        let mut stopping = cluster(0, &[1, 2]);
        stopping.leaving.insert(BrokerId(1), uuid::Uuid::nil());
        assert_eq!(imbalanced(&stopping, 10), []);
        let mut behind = cluster(0, &[1, 2]);
        for state in &mut behind.topics.get_mut("t").unwrap().partitions[1..] {
            state.isr = vec![BrokerId(2)];
        }
        assert_eq!(imbalanced(&behind, 10), [("t".to_owned(), 0)]);
        // Nor to who is preferred only until the replicas are others.
        let mut moving = cluster(0, &[1, 2]);
        let reassigning = &mut moving.topics.get_mut("t").unwrap().reassigning;
        for p in 1..10 {
            let (target, original) = (vec![BrokerId(2)], vec![BrokerId(1), BrokerId(2)]);
            reassigning.partitions.insert(p, Reassignment { target, original });
        }
        assert_eq!(imbalanced(&moving, 10), [("t".to_owned(), 0)]);
    }
}
