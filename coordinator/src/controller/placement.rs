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

#[cfg(feature = "cli")]
use std::collections::BTreeMap;
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

/// New replicas for the partitions of a topic that have one on a broker that goes: another takes its
/// place in the list, the rest stays. `racks` are those of all live brokers; the candidates do not
/// have the one that goes. Answers the partitions concerned, by number.
#[cfg(feature = "cli")]
pub(crate) fn replace(
    candidates: &[Candidate],
    racks: &HashMap<BrokerId, String>,
    partitions: &[Vec<BrokerId>],
    goes: BrokerId,
    seed: u64,
) -> Result<BTreeMap<usize, Vec<BrokerId>>, TooFewBrokers> {
    let mut bins = Bins::new(candidates, partitions, seed);
    let mut replaced = BTreeMap::new();
    for (p, replicas) in partitions.iter().enumerate() {
        let Some(position) = replicas.iter().position(|id| *id == goes) else { continue };
        let rest: Vec<BrokerId> = replicas.iter().copied().filter(|id| *id != goes).collect();
        let mut in_rack = vec![0usize; bins.racks];
        for id in &rest {
            // A rack that no candidate is in cannot be chosen anyway.
            let rack = racks.get(id).filter(|rack| !rack.is_empty());
            let same = candidates.iter().find(|other| rack == Some(&other.rack));
            let bin = same.and_then(|same| bins.bins.iter().find(|bin| bin.id == same.id));
            if let Some(bin) = bin {
                in_rack[bin.rack] += 1;
            }
        }
        let Some(successor) = bins.choose(position == 0, &rest, &in_rack) else {
            return Err(TooFewBrokers { asked: replicas.len(), live: candidates.len() });
        };
        let mut list = replicas.clone();
        list[position] = successor;
        replaced.insert(p, list);
    }
    Ok(replaced)
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
            let Some(chosen) = self.choose(position == 0, &replicas, &in_rack) else { break };
            if let Some(bin) = self.bins.iter().find(|bin| bin.id == chosen) {
                in_rack[bin.rack] += 1;
            }
            replicas.push(chosen);
        }
        replicas
    }

    /// One more replica for a partition that has these, of which so many are in each rack.
    fn choose(&mut self, leads: bool, has: &[BrokerId], in_rack: &[usize]) -> Option<BrokerId> {
        let free = self.bins.iter_mut().filter(|bin| !has.contains(&bin.id));
        let bin = if leads {
            free.min_by_key(|bin| {
                // With replicas there already, racks count for the leader, too.
                let racks = in_rack[bin.rack];
                let topic = (bin.topic_leaders, bin.topic_replicas);
                (racks, topic, bin.leaders, bin.replicas, bin.rank)
            })
        } else {
            free.min_by_key(|bin| {
                let topic = (0, bin.topic_replicas);
                (in_rack[bin.rack], topic, 0, bin.replicas, bin.rank)
            })
        }?;
        if leads {
            bin.topic_leaders += 1;
            bin.leaders += 1;
        }
        bin.topic_replicas += 1;
        bin.replicas += 1;
        Some(bin.id)
    }
}

#[cfg(test)]
mod tests;
