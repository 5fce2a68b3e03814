//! Raising leader epochs in the registry, before a partition is led whose recorded epoch may have
//! been used: one epoch never has two histories.

use coordinator::registry::{RegistryError, Versioned, partitions};
use coordinator::zk::Client;
use coordinator::zk::payload::PartitionState;
use futures_util::StreamExt;
use proto::{BrokerId, LeaderEpoch, TopicId, TopicPartition};

use super::metadata::FoundState;
use super::settle::States;

/// How many epochs are raised at once.
const AT_ONCE: usize = 256;

/// What came of it.
pub(super) struct Raised {
    /// States as they are in the registry now. Where somebody else leads, nothing was written.
    pub(super) states: Vec<FoundState>,
    /// The first error; the partitions it concerns are not among the states.
    pub(super) outcome: Result<(), RegistryError>,
}

/// Raises the epochs of partitions that this broker is recorded to lead, by writes that are
/// conditional on the states that were read.
pub(super) async fn all(
    client: &Client,
    me: BrokerId,
    known: &States,
    partitions: Vec<(TopicPartition, TopicId)>,
) -> Raised {
    let raising = partitions.into_iter().map(|(name, id)| async move {
        let raised = one(client, me, &name, known.get(&name).cloned()).await?;
        let found = |(state, version)| FoundState { name, id, state, version };
        Ok::<_, RegistryError>(raised.map(found))
    });
    let mut raising = futures_util::stream::iter(raising).buffer_unordered(AT_ONCE);
    let (mut states, mut outcome) = (Vec::new(), Ok(()));
    while let Some(raised) = raising.next().await {
        match raised {
            Ok(found) => states.extend(found),
            Err(error) => outcome = Err(error),
        }
    }
    Raised { states, outcome }
}

async fn one(
    client: &Client,
    me: BrokerId,
    name: &TopicPartition,
    known: Option<Versioned<PartitionState>>,
) -> Result<Option<(PartitionState, i32)>, RegistryError> {
    let (topic, number) = (&name.topic, name.partition);
    let mut found = known;
    loop {
        let read = match found.take() {
            Some(state) => Some(state),
            None => partitions::read(client, topic, number).await?,
        };
        let Some(Versioned { value, version, .. }) = read else { return Ok(None) };
        if value.leader != Some(me) {
            return Ok(Some((value, version)));
        }
        let leader_epoch = LeaderEpoch(value.leader_epoch.0.saturating_add(1));
        let raised = PartitionState { leader_epoch, ..value };
        if let Some(version) = partitions::set(client, topic, number, &raised, version).await? {
            return Ok(Some((raised, version)));
        }
        // Somebody else has written: read what.
    }
}
