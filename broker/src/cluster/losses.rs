//! Replicas that do not have what they told they have: this broker takes itself out of their in-sync
//! and electable replicas, before anybody can count on them.
//!
//! At a start it does so before it registers, and first takes away the registration of its earlier
//! run: a leader that is about to count that one in again then finds either no registration, or
//! another version of the state than it has read ([`super::isr_changes`]). So the states of lost
//! replicas are written even where this broker is in neither list.
//!
//! | lost here | anybody else in sync or electable | then |
//! |---|---|---|
//! | anything | yes | [`in_sync::lose`] |
//! | the whole log, of a partition that was in use and has other replicas | no | [`in_sync::lose`]: only an unclean election helps |
//! | anything else | no | stays: nobody has more than this broker |

use coordinator::registry::{RegistryError, Versioned, in_sync, partitions};
use coordinator::zk::Client;
use coordinator::zk::payload::PartitionState;
use futures_util::StreamExt;
use proto::{BrokerId, LeaderEpoch, TopicId, TopicPartition};

use super::metadata::{ClusterImage, FoundState};
use super::placement;
use super::settle::States;
use crate::config::{TopicDefaults, log_config};
use crate::replication::{Partition, PartitionSet};
use crate::storage::Loss;

/// How many states are written at once.
const AT_ONCE: usize = 256;

/// A replica that may lack what it acknowledged.
#[derive(Debug, Clone)]
pub(super) struct LostReplica {
    /// The partition.
    pub(super) name: TopicPartition,
    /// Of its topic.
    pub(super) id: TopicId,
    /// How many brokers store it.
    pub(super) replicas: usize,
    /// There is no log at all, and none may come back.
    pub(super) is_whole: bool,
    /// What happened, for people.
    pub(super) cause: String,
}

impl LostReplica {
    /// A replica whose log went offline while this broker runs.
    pub(super) fn offline(partition: &Partition, replicas: usize) -> Self {
        let offline = partition.log().offline();
        let cause = offline.map_or_else(String::new, |offline| offline.cause.clone());
        Self {
            name: partition.name().clone(),
            id: partition.topic_id(),
            replicas,
            is_whole: false,
            cause,
        }
    }
}

/// The replicas that this start of the broker found to lack something. A partition without other
/// replicas is what it is. To be asked before missing logs are made.
pub(super) fn found_at_start(
    partitions: &PartitionSet,
    image: &ClusterImage,
    defaults: &TopicDefaults,
    me: BrokerId,
) -> Vec<LostReplica> {
    let shared = placement::own(image, me).filter(|(_, _, state)| state.replicas.len() > 1);
    let lost = shared.filter_map(|(name, id, state)| {
        let (is_whole, cause) = match partitions.logs().get(&name) {
            Some(log) if log.topic_id() == id => {
                let overrides = image.topic_configs.get(&name.topic);
                let flush = log_config(defaults, overrides.map(|o| &**o)).flush;
                let loss = log.opening().loss(flush)?;
                (loss == Loss::NoLog, loss.to_string())
            }
            _ => match partitions.logs().absence(&name, id) {
                Some(cause) => (false, cause),
                None => (true, Loss::NoLog.to_string()),
            },
        };
        Some(LostReplica { name, id, replicas: state.replicas.len(), is_whole, cause })
    });
    lost.collect()
}

/// What came of it.
pub(super) struct TakenOut {
    /// States as they are in the registry now.
    pub(super) states: Vec<FoundState>,
    /// The first error; the partitions it concerns are not among the states.
    pub(super) outcome: Result<(), RegistryError>,
}

/// Takes this broker out where it has to go, by writes that are conditional on the states read.
pub(super) async fn take_out(
    client: &Client,
    me: BrokerId,
    known: &States,
    lost: Vec<LostReplica>,
) -> TakenOut {
    let writing = lost.into_iter().map(|lost| async move {
        let found = one(client, me, &lost, known.get(&lost.name).cloned()).await?;
        let LostReplica { name, id, .. } = lost;
        Ok::<_, RegistryError>(found.map(|(state, version)| FoundState {
            name,
            id,
            state,
            version,
        }))
    });
    let mut writing = futures_util::stream::iter(writing).buffer_unordered(AT_ONCE);
    let (mut states, mut outcome) = (Vec::new(), Ok(()));
    while let Some(found) = writing.next().await {
        match found {
            Ok(found) => states.extend(found),
            Err(error) => outcome = Err(error),
        }
    }
    TakenOut { states, outcome }
}

/// What is to be written; `None`: it stays as it is.
fn decide(
    state: &PartitionState,
    version: i32,
    me: BrokerId,
    lost: &LostReplica,
) -> Option<PartitionState> {
    let without = in_sync::lose(state, me);
    let others = !without.isr.is_empty() || !without.electable.is_empty();
    let was_used = state.leader_epoch > LeaderEpoch(0) || version > 0;
    let was_counted = without != *state;
    let gone = lost.is_whole && lost.replicas > 1 && was_used && was_counted;
    (others || gone).then_some(without)
}

async fn one(
    client: &Client,
    me: BrokerId,
    lost: &LostReplica,
    known: Option<Versioned<PartitionState>>,
) -> Result<Option<(PartitionState, i32)>, RegistryError> {
    let LostReplica { name, cause, .. } = lost;
    let mut found = known;
    loop {
        let read = match found.take() {
            Some(state) => Some(state),
            None => partitions::read(client, &name.topic, name.partition).await?,
        };
        let Some(Versioned { value: state, version, .. }) = read else { return Ok(None) };
        let Some(without) = decide(&state, version, me, lost) else {
            if state.isr.contains(&me) {
                tracing::warn!(
                    partition = %name, cause,
                    "something may be lost here; no other replica is known to have more"
                );
            }
            return Ok(Some((state, version)));
        };
        let (topic, number) = (&name.topic, name.partition);
        if let Some(version) = partitions::set(client, topic, number, &without, version).await? {
            tell(name, cause, &state, &without);
            return Ok(Some((without, version)));
        }
        // Somebody else has written: read what.
    }
}

fn tell(name: &TopicPartition, cause: &str, before: &PartitionState, now: &PartitionState) {
    if now == before {
        tracing::info!(partition = %name, cause, "lost here, and not counted in sync before");
    } else if now.isr.is_empty() && now.electable.is_empty() {
        tracing::error!(
            partition = %name, cause,
            "this broker had the last replica in sync and has lost it: the partition stays without \
             a leader. Bring the disk back, or accept the loss with `coordinator elect \
             --election-type unclean`"
        );
    } else {
        tracing::warn!(
            partition = %name, cause, isr = ?now.isr, electable = ?now.electable,
            "out of the replicas in sync until it has caught up again"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: BrokerId = BrokerId(1);

    fn state(leader: Option<i32>, isr: &[i32], electable: &[i32]) -> PartitionState {
        let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
        PartitionState {
            leader: leader.map(BrokerId),
            leader_epoch: LeaderEpoch(0),
            isr: ids(isr),
            electable: ids(electable),
            controller_epoch: 1,
        }
    }

    fn lost(replicas: usize, is_whole: bool) -> LostReplica {
        LostReplica {
            name: TopicPartition::new("t", 0),
            id: TopicId(uuid::Uuid::from_u128(1)),
            replicas,
            is_whole,
            cause: "a test".to_owned(),
        }
    }

    #[test]
    fn who_lost_something_counts_for_nothing_where_somebody_else_does() {
        let decided = |state: &PartitionState| decide(state, 0, ME, &lost(3, false));
        let shared = decided(&state(Some(1), &[1, 2], &[]));
        assert_eq!(shared, Some(state(None, &[2], &[])));
        let electable = decided(&state(Some(1), &[1], &[3]));
        assert_eq!(electable, Some(state(None, &[], &[3])));
        let follower = decided(&state(Some(2), &[2], &[1]));
        assert_eq!(follower, Some(state(Some(2), &[2], &[])));
        let not_counted = state(Some(2), &[2], &[]);
        assert_eq!(decided(&not_counted), Some(not_counted.clone()), "written all the same");
    }

    #[test]
    fn the_last_one_stays_unless_its_whole_log_is_gone() {
        let alone = state(Some(1), &[1], &[]);
        assert_eq!(decide(&alone, 7, ME, &lost(3, false)), None);
        assert_eq!(decide(&alone, 7, ME, &lost(3, true)), Some(state(None, &[], &[])));
        assert_eq!(decide(&alone, 0, ME, &lost(3, true)), None, "never led so far");
        assert_eq!(decide(&alone, 7, ME, &lost(1, true)), None, "nobody could lead instead");
        let nobody = state(None, &[], &[]);
        assert_eq!(decide(&nobody, 7, ME, &lost(3, true)), None);
    }
}
