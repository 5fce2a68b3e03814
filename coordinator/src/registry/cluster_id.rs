//! `/cluster/id`: made once by the first comer, never changed.

use uuid::Uuid;
use zookeeper_client::{Client, Error};

use super::{RegistryError, node};
use crate::zk::payload::ClusterId;
use crate::zk::{Fault, Payload, paths};

/// The cluster's id; `None` when nobody has made one.
pub async fn read(client: &Client) -> Result<Option<Uuid>, RegistryError> {
    Ok(node::read::<ClusterId>(client, paths::CLUSTER_ID).await?.map(|found| found.value.id))
}

/// The cluster's id, made if need be. All callers get the same one.
pub async fn read_or_create(client: &Client) -> Result<Uuid, RegistryError> {
    loop {
        if let Some(id) = read(client).await? {
            return Ok(id);
        }
        let bytes = ClusterId { id: Uuid::new_v4() }.encode()?;
        match client.create(paths::CLUSTER_ID, &bytes, &node::PERSISTENT).await {
            Ok(_) | Err(Error::NodeExists) => {}
            Err(Error::NoNode) => node::ensure(client, "/cluster").await?,
            Err(error) if Fault::of(&error) == Fault::AnswerLost => {}
            Err(error) => {
                return Err(RegistryError::from_client("create", paths::CLUSTER_ID, error));
            }
        }
        // Read what won, whoever wrote it.
    }
}
