//! `/consumers`: groups and their live members. A member registers again in each new session.

use std::collections::BTreeMap;
use std::time::Duration;

use zookeeper_client::{Client, Error, OneshotWatcher};

use super::RegistryError;
use super::node::{self, Created};
use crate::zk::payload::Member;
use crate::zk::{Payload, paths};

/// A member could not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Another session holds the id and does not go away.
    #[error(
        "consumer id {consumer} is in use in group {group} by another session (from {host}): \
         stop that consumer, or give this one another id"
    )]
    Taken {
        /// The group.
        group: String,
        /// The id.
        consumer: String,
        /// Where the other runs.
        host: String,
    },
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Registers a member in the client's session, and makes the group if need be. Idempotent; call it
/// in each new session. A node of another session, also of an own dead one, is waited out for
/// `patience`, which should be above 1.5 session timeouts.
pub async fn join(
    client: &Client,
    group: &str,
    consumer: &str,
    member: &Member,
    patience: Duration,
) -> Result<(), JoinError> {
    let path = paths::member(group, consumer);
    let bytes = member.encode().map_err(RegistryError::from)?;
    let deadline = tokio::time::Instant::now() + patience;
    for parent in [paths::owners(group), paths::offsets(group)] {
        node::ensure(client, &parent).await?;
    }
    loop {
        node::ensure(client, &paths::members(group)).await?;
        let theirs = match node::create_ephemeral(client, &path, &bytes).await {
            Ok(Created::Ours) => return Ok(()),
            Ok(Created::Theirs(None)) => continue,
            // The group was deleted in between.
            Err(RegistryError::Refused { source: Error::NoNode, .. }) => continue,
            Ok(Created::Theirs(Some((bytes, _)))) => bytes,
            Err(error) => return Err(error.into()),
        };
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        if left.is_zero() || !node::gone_within(client, &path, left).await? {
            let other = Member::decode(&path, &theirs).map_err(RegistryError::from)?;
            return Err(JoinError::Taken {
                group: group.to_owned(),
                consumer: consumer.to_owned(),
                host: other.host,
            });
        }
    }
}

/// Takes the registration back before the session ends; another's is left alone.
pub async fn leave(client: &Client, group: &str, consumer: &str) -> Result<(), RegistryError> {
    node::delete_own_ephemeral(client, &paths::member(group, consumer)).await
}

/// The live members of a group.
pub async fn members(
    client: &Client,
    group: &str,
) -> Result<BTreeMap<String, Member>, RegistryError> {
    let ids = node::children(client, &paths::members(group)).await?;
    read_all(client, group, ids).await
}

/// The live members of a group, and a watch that fires when one comes or goes.
pub async fn members_and_watch(
    client: &Client,
    group: &str,
) -> Result<(BTreeMap<String, Member>, OneshotWatcher), RegistryError> {
    let (ids, watcher) = node::children_and_watch(client, &paths::members(group)).await?;
    Ok((read_all(client, group, ids).await?, watcher))
}

async fn read_all(
    client: &Client,
    group: &str,
    ids: Vec<String>,
) -> Result<BTreeMap<String, Member>, RegistryError> {
    // A list, no iterator: the future can then be shown to be `Send`.
    let nodes: Vec<String> = ids.iter().map(|id| paths::member(group, id)).collect();
    let found = node::read_many(client, nodes).await?;
    // One that went between the listing and the reading is left out; the watch has fired for it.
    Ok(ids.into_iter().zip(found).filter_map(|(id, found)| Some((id, found?.value))).collect())
}
