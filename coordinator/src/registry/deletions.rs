//! `/admin/delete/<t>`: topics whose deletion was accepted and is not finished.

use std::collections::BTreeMap;

use zookeeper_client::Client;

use super::{RegistryError, node};
use crate::zk::paths;
use crate::zk::payload::Deletion;

/// The deletions under way.
pub async fn list(client: &Client) -> Result<BTreeMap<String, Deletion>, RegistryError> {
    let names = node::children(client, paths::ADMIN_DELETE).await?;
    let found = node::read_many(client, names.iter().map(|name| paths::admin_delete(name))).await?;
    let marks = names.into_iter().zip(found);
    Ok(marks.filter_map(|(name, found)| Some((name, found?.value))).collect())
}
