//! `/admin/reassign/<t>`: partitions whose replicas are being changed. Only the controller writes, fenced.
//!
//! The node names topic, partitions, what each is to have and what it had, so that the next
//! controller goes on, and so that what was begun can be taken back.

use zookeeper_client::Client;

use super::RegistryError;
use super::node::{self, Versioned};
use crate::zk::payload::Reassignments;
use crate::zk::{PayloadError, paths};

/// The reassignments under way, by topic. One that cannot be read does not hide the others.
pub async fn list(
    client: &Client,
) -> Result<Vec<(String, Result<Versioned<Reassignments>, PayloadError>)>, RegistryError> {
    let mut found = Vec::new();
    for name in node::children(client, paths::ADMIN_REASSIGN).await? {
        match node::read(client, &paths::admin_reassign(&name)).await {
            Ok(Some(record)) => found.push((name, Ok(record))),
            Ok(None) => {}
            Err(RegistryError::Payload(error)) => found.push((name, Err(error))),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
