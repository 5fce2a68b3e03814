//! Where new partitions go: balanced over the live brokers, replicas of a partition over racks.
//!
//! Pure and deterministic: the same candidates, topic and seed give the same placement. Knows nothing
//! of ZooKeeper or of who leads now; [`super::commands`] turns a placement into writes.
//!
//! The choice for each replica is the least of these, compared left to right, so that a topic is
//! spread evenly first, the cluster second, and ties fall by a seeded shuffle:
//!
//! | replica | key |
//! |---|---|
//! | preferred leader | leaders in this topic, replicas in this topic, leaders in all, replicas in all, rank |
//! | each follower | replicas of this partition in the broker's rack, replicas in this topic, replicas in all, rank |

use std::collections::HashMap;

use proto::BrokerId;

/// A live broker that may take partitions, and what it carries already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The broker.
    pub(crate) id: BrokerId,
    /// Its rack; brokers of one rack may fail together. Empty: a rack of its own.
    pub(crate) rack: String,
    /// Replicas it has, of all topics.
    pub(crate) replicas: usize,
    /// Partitions of which it is the preferred leader, of all topics.
    pub(crate) leaders: usize,
}

/// The live brokers cannot carry the replicas asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a replication factor of {asked} needs as many live brokers, and {live} are live")]
pub(crate) struct TooFewBrokers {
    /// Replicas asked for.
    pub(crate) asked: usize,
    /// Brokers there are.
    pub(crate) live: usize,
}

/// Places `partitions` more partitions of a topic whose partitions so far are `existing`.
///
/// Each answer lists distinct brokers, the preferred leader first.
pub(crate) fn place(
    candidates: &[Candidate],
    existing: &[Vec<BrokerId>],
    partitions: usize,
    replication_factor: usize,
    seed: u64,
) -> Result<Vec<Vec<BrokerId>>, TooFewBrokers> {
    if replication_factor == 0 || candidates.len() < replication_factor {
        return Err(TooFewBrokers { asked: replication_factor.max(1), live: candidates.len() });
    }
    let mut bins = Bins::new(candidates, existing, seed);
    Ok((0..partitions).map(|_| bins.take(replication_factor)).collect())
}

/// A candidate with its counts as the placement goes on.
struct Bin {
    id: BrokerId,
    rack: usize,
    rank: usize,
    topic_leaders: usize,
    topic_replicas: usize,
    leaders: usize,
    replicas: usize,
}

struct Bins {
    bins: Vec<Bin>,
    racks: usize,
}

impl Bins {
    fn new(candidates: &[Candidate], existing: &[Vec<BrokerId>], seed: u64) -> Self {
        let mut sorted: Vec<&Candidate> = candidates.iter().collect();
        sorted.sort_by_key(|candidate| candidate.id);
        fastrand::Rng::with_seed(seed).shuffle(&mut sorted);
        let mut names: HashMap<&str, usize> = HashMap::new();
        let mut racks = 0;
        let mut bins = Vec::with_capacity(sorted.len());
        for (rank, candidate) in sorted.into_iter().enumerate() {
            let rack = match names.get(candidate.rack.as_str()) {
                Some(&rack) if !candidate.rack.is_empty() => rack,
                _ => {
                    names.insert(&candidate.rack, racks);
                    racks += 1;
                    racks - 1
                }
            };
            bins.push(Bin {
                id: candidate.id,
                rack,
                rank,
                topic_leaders: existing.iter().filter(|r| r.first() == Some(&candidate.id)).count(),
                topic_replicas: existing.iter().filter(|r| r.contains(&candidate.id)).count(),
                leaders: candidate.leaders,
                replicas: candidate.replicas,
            });
        }
        Self { bins, racks }
    }

    /// The replicas of one partition; `replication_factor` is at most the number of bins.
    fn take(&mut self, replication_factor: usize) -> Vec<BrokerId> {
        let mut in_rack = vec![0usize; self.racks];
        let mut replicas: Vec<BrokerId> = Vec::with_capacity(replication_factor);
        for position in 0..replication_factor {
            let free = self.bins.iter_mut().filter(|bin| !replicas.contains(&bin.id));
            let chosen = if position == 0 {
                free.min_by_key(|bin| {
                    (bin.topic_leaders, bin.topic_replicas, bin.leaders, bin.replicas, bin.rank)
                })
            } else {
                free.min_by_key(|bin| {
                    (in_rack[bin.rack], bin.topic_replicas, bin.replicas, bin.rank)
                })
            };
            let Some(bin) = chosen else { break };
            if position == 0 {
                bin.topic_leaders += 1;
                bin.leaders += 1;
            }
            bin.topic_replicas += 1;
            bin.replicas += 1;
            in_rack[bin.rack] += 1;
            replicas.push(bin.id);
        }
        replicas
    }
}

#[cfg(test)]
mod tests;
