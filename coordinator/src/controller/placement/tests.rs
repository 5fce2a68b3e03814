//! Placement: balance, racks, determinism.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;

fn brokers(n: usize) -> Vec<Candidate> {
    (0..n)
        .map(|id| Candidate {
            id: BrokerId(id as i32),
            rack: String::new(),
            replicas: 0,
            leaders: 0,
        })
        .collect()
}

fn spread(counts: impl IntoIterator<Item = usize>) -> usize {
    let counts: Vec<usize> = counts.into_iter().collect();
    counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0)
}

#[test]
fn twelve_partitions_on_three_brokers_are_four_each() {
    let placed = place(&brokers(3), &[], 12, 1, 7).unwrap();
    for id in 0..3 {
        assert_eq!(placed.iter().filter(|r| r[0] == BrokerId(id)).count(), 4);
    }
}

#[test]
fn small_topics_go_where_the_cluster_is_emptiest() {
    let mut candidates = brokers(4);
    for seed in 0..40 {
        let placed = place(&candidates, &[], 1, 1, seed).unwrap();
        let taker = candidates.iter_mut().find(|c| c.id == placed[0][0]).unwrap();
        taker.replicas += 1;
        taker.leaders += 1;
    }
    assert_eq!(spread(candidates.iter().map(|c| c.leaders)), 0);
}

#[test]
fn growth_evens_out_what_is_there() {
    let existing = vec![vec![BrokerId(0)], vec![BrokerId(0)], vec![BrokerId(1)]];
    let placed = place(&brokers(3), &existing, 3, 1, 1).unwrap();
    let mut counts = BTreeMap::<BrokerId, usize>::new();
    for replicas in existing.iter().chain(&placed) {
        *counts.entry(replicas[0]).or_default() += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [2, 2, 2]);
}

#[test]
fn too_few_brokers_is_an_error() {
    assert_eq!(place(&brokers(1), &[], 1, 2, 0), Err(TooFewBrokers { asked: 2, live: 1 }));
    assert_eq!(place(&[], &[], 1, 1, 0), Err(TooFewBrokers { asked: 1, live: 0 }));
}

proptest! {
    #[test]
    fn every_placement_is_balanced_distinct_and_over_racks(
        racks in proptest::collection::vec(0usize..4, 1..12),
        partitions in 0usize..60,
        factor in 1usize..5,
        seed in any::<u64>(),
    ) {
        prop_assume!(factor <= racks.len());
        let mut candidates = brokers(racks.len());
        for (candidate, rack) in candidates.iter_mut().zip(&racks) {
            candidate.rack = format!("r{rack}");
        }
        let placed = place(&candidates, &[], partitions, factor, seed).unwrap();
        let again = place(&candidates, &[], partitions, factor, seed).unwrap();
        prop_assert_eq!(&placed, &again);
        prop_assert_eq!(placed.len(), partitions);
        let rack_count = racks.iter().collect::<HashSet<_>>().len();
        let mut leaders = vec![0usize; racks.len()];
        for replicas in &placed {
            prop_assert_eq!(replicas.len(), factor);
            prop_assert_eq!(replicas.iter().collect::<HashSet<_>>().len(), factor);
            let used = replicas.iter().map(|id| racks[id.0 as usize]).collect::<HashSet<_>>();
            prop_assert_eq!(used.len(), factor.min(rack_count));
            leaders[replicas[0].0 as usize] += 1;
        }
        prop_assert!(spread(leaders) <= 1);
    }
}

#[test]
fn a_replica_that_goes_is_replaced_in_its_place_and_the_rest_stays() {
    let rack = |id: i32| ["a", "b", "a", "b"][id as usize].to_owned();
    let racks = (0..4).map(|id| (BrokerId(id), rack(id))).collect();
    let candidates: Vec<Candidate> = (1..4)
        .map(|id| Candidate { id: BrokerId(id), rack: rack(id), replicas: 0, leaders: 0 })
        .collect();
    let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
    let partitions = [ids(&[0, 1]), ids(&[1, 2]), ids(&[3, 0]), ids(&[0]), ids(&[0]), ids(&[0])];
    let replaced = replace(&candidates, &racks, &partitions, BrokerId(0), 3).unwrap();
    assert_eq!(replaced.keys().copied().collect::<Vec<_>>(), [0, 2, 3, 4, 5]);
    // 2 is the only other one in rack a.
    assert_eq!((&replaced[&0], &replaced[&2]), (&ids(&[2, 1]), &ids(&[3, 2])));
    let leaders: HashSet<BrokerId> = (3..6).map(|p| replaced[&p][0]).collect();
    assert!(leaders.len() >= 2, "{replaced:?}");
    let full = [ids(&[0, 1, 2, 3])];
    let none = replace(&candidates, &racks, &full, BrokerId(0), 3).unwrap_err();
    assert_eq!((none.asked, none.live), (4, 3));
}
