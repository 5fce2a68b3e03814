//! `/admin/delete/<t>`: topics whose deletion was accepted and is not finished.

use std::collections::BTreeMap;

use zookeeper_client::Client;

use super::fence::{Change, is_applied};
use super::{EpochFence, FencedError, RegistryError, node};
use crate::zk::payload::Deletion;
use crate::zk::{Payload, paths};

/// Accepts a deletion; accepted before is fine. [`super::topics::remove`] takes the mark away.
pub async fn mark(
    client: &Client,
    fence: EpochFence,
    topic: &str,
    deletion: &Deletion,
) -> Result<(), FencedError> {
    let change = [Change::create(paths::admin_delete(topic), deletion.encode()?)];
    let applied = async |first: &Change| is_applied(client, first).await;
    match fence.commit_in_parts(client, &change, applied).await {
        Err(FencedError::Exists { .. }) => Ok(()),
        other => other,
    }
}

/// The deletions under way.
pub async fn list(client: &Client) -> Result<BTreeMap<String, Deletion>, RegistryError> {
    let names = node::children(client, paths::ADMIN_DELETE).await?;
    let found = node::read_many(client, names.iter().map(|name| paths::admin_delete(name))).await?;
    let marks = names.into_iter().zip(found);
    Ok(marks.filter_map(|(name, found)| Some((name, found?.value))).collect())
}
