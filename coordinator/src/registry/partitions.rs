//! `/brokers/topics/<t>/partitions/<p>/state`: who leads, in which epoch, who is in sync.
//!
//! Written by the controller (fenced), and by the leader: its own ISR, and a raised epoch before
//! it leads. Every write is conditional on the version that was read; states are persistent and go
//! only with their topic.

use futures_util::stream::{self, StreamExt};
use proto::Partition;
use zookeeper_client::Client;

use super::RegistryError;
use super::node::{self, Versioned};
use crate::zk::paths;
use crate::zk::payload::PartitionState;

/// The state of one partition.
pub async fn read(
    client: &Client,
    topic: &str,
    partition: Partition,
) -> Result<Option<Versioned<PartitionState>>, RegistryError> {
    node::read(client, &paths::partition_state(topic, partition)).await
}

/// The states of the partitions 0 to `count` - 1 of a topic, in order.
pub async fn read_all(
    client: &Client,
    topic: &str,
    count: usize,
) -> Result<Vec<Option<Versioned<PartitionState>>>, RegistryError> {
    let partitions = 0..count as Partition;
    node::read_many(client, partitions.map(|p| paths::partition_state(topic, p))).await
}

/// The states of these partitions, in order. One that cannot be read (written by a newer program, or
/// by hand) is left out, and does not keep the others from being read.
pub(crate) async fn read_each(
    client: &Client,
    places: &[(String, Partition)],
) -> Result<Vec<Option<Versioned<PartitionState>>>, RegistryError> {
    let reads = places.iter().map(async |(topic, p)| read(client, topic, *p).await);
    let mut reads = stream::iter(reads).buffered(node::PIPELINE);
    let mut states = Vec::with_capacity(places.len());
    while let Some(found) = reads.next().await {
        states.push(match found {
            Ok(state) => state,
            Err(RegistryError::Payload(error)) => {
                tracing::error!(%error, "partition left alone");
                None
            }
            Err(error) => return Err(error),
        });
    }
    Ok(states)
}

/// A leader's write: the new version, or `None` when somebody else (the controller) has written
/// since `expected`: read again. A lost answer is resolved by reading back: the next version with
/// this very state counts as written, whoever wrote it.
pub async fn set(
    client: &Client,
    topic: &str,
    partition: Partition,
    state: &PartitionState,
    expected: i32,
) -> Result<Option<i32>, RegistryError> {
    node::set(client, &paths::partition_state(topic, partition), state, expected).await
}
