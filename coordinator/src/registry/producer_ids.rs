//! `/producer_ids`: blocks of producer ids, handed out to brokers once each.

use std::ops::Range;

use proto::ProducerId;
use uuid::Uuid;
use zookeeper_client::{Client, Error};

use super::{RegistryError, node};
use crate::zk::payload::ProducerIds;
use crate::zk::{Fault, Payload, paths};

/// As many ids as Kafka takes at once.
pub const BLOCK_SIZE: i64 = 1000;

/// Takes the next block. A lost answer is resolved by reading back who took it; what cannot be
/// resolved is skipped, so ids are never handed out twice.
pub async fn take_block(client: &Client, size: i64) -> Result<Range<ProducerId>, RegistryError> {
    let size = size.max(1);
    loop {
        let by = Uuid::new_v4();
        let Some(found) = node::read::<ProducerIds>(client, paths::PRODUCER_IDS).await? else {
            let first = ProducerIds { next: 0, by }.encode()?;
            match client.create(paths::PRODUCER_IDS, &first, &node::PERSISTENT).await {
                Ok(_) | Err(Error::NodeExists) => continue,
                Err(error) if Fault::of(&error) == Fault::AnswerLost => continue,
                Err(error) => {
                    return Err(RegistryError::from_client("create", paths::PRODUCER_IDS, error));
                }
            }
        };
        let first = found.value.next;
        let taken = ProducerIds { next: first.saturating_add(size), by };
        if node::set(client, paths::PRODUCER_IDS, &taken, found.version).await?.is_some() {
            return Ok(first..taken.next);
        }
    }
}
