//! `/brokers/ids`: who is alive. A broker registers again in each new session.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::BrokerId;
use uuid::Uuid;
use zookeeper_client::{Client, Error, OneshotWatcher};

use super::RegistryError;
use super::node::{self, Created, Versioned};
use crate::zk::payload::{Broker, Stored};
use crate::zk::{Fault, Payload, paths};

/// A broker could not register.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Another process holds the id and does not go away.
    #[error(
        "broker id {id} is registered by another process at {host}:{port} (incarnation {incarnation}): \
         stop that one, or give this broker another id"
    )]
    Taken {
        /// The id.
        id: BrokerId,
        /// Where the other is.
        host: String,
        /// Its gRPC port.
        port: u16,
        /// The other's incarnation.
        incarnation: Uuid,
    },
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Registers a broker in the client's session. Idempotent; call it in each new session.
///
/// A node of an own older session is deleted at once: one whose incarnation is `broker`'s, or is
/// in `dead`, which the caller knows to have ended (it holds the lock of that one's directory).
/// Any other is waited out for `patience`, which should be above the session timeout.
pub async fn register(
    client: &Client,
    id: BrokerId,
    broker: &Broker,
    dead: &[Uuid],
    patience: Duration,
) -> Result<(), RegisterError> {
    let path = paths::broker(id);
    let bytes = broker.encode().map_err(RegistryError::from)?;
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let (found, stat) = match node::create_ephemeral(client, &path, &bytes).await? {
            Created::Ours => return Ok(()),
            Created::Theirs(None) => continue,
            Created::Theirs(Some(theirs)) => theirs,
        };
        let other = Broker::decode(&path, &found).map_err(RegistryError::from)?;
        if other.incarnation == broker.incarnation || dead.contains(&other.incarnation) {
            tracing::info!(broker = %id, incarnation = %other.incarnation, "removing the registration of an own dead session");
            match client.delete(&path, Some(stat.version)).await {
                Ok(()) | Err(Error::NoNode | Error::BadVersion) => {}
                Err(error) if Fault::of(&error) == Fault::AnswerLost => {}
                Err(error) => return Err(RegistryError::from_client("delete", &path, error).into()),
            }
            continue;
        }
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        tracing::warn!(broker = %id, host = %other.host, port = other.grpc_port, wait = ?left, "broker id is taken; waiting for it to be released");
        if left.is_zero() || !node::gone_within(client, &path, left).await? {
            return Err(RegisterError::Taken {
                id,
                host: other.host,
                port: other.grpc_port,
                incarnation: other.incarnation,
            });
        }
    }
}

/// Takes away the registration of an own dead run, so that nobody takes what that one had for what
/// is there now. Another's is left alone.
pub async fn clear_dead(client: &Client, id: BrokerId, dead: &[Uuid]) -> Result<(), RegistryError> {
    let path = paths::broker(id);
    loop {
        let Some(found) = node::read::<Broker>(client, &path).await? else { return Ok(()) };
        if !dead.contains(&found.value.incarnation) {
            return Ok(());
        }
        match client.delete(&path, Some(found.version)).await {
            Ok(()) | Err(Error::NoNode) => return Ok(()),
            Err(Error::BadVersion) => {}
            Err(error) if Fault::of(&error) == Fault::AnswerLost => {}
            Err(error) => return Err(RegistryError::from_client("delete", &path, error)),
        }
    }
}

/// One broker's registration.
pub async fn read(
    client: &Client,
    id: BrokerId,
) -> Result<Option<Versioned<Broker>>, RegistryError> {
    node::read(client, &paths::broker(id)).await
}

/// The live brokers.
pub async fn list(client: &Client) -> Result<BTreeMap<BrokerId, Broker>, RegistryError> {
    let ids = node::children(client, paths::BROKER_IDS).await?;
    read_all(client, &ids).await
}

/// The live brokers, and a watch that fires when one comes or goes (also the same one again:
/// compare incarnations).
pub async fn list_and_watch(
    client: &Client,
) -> Result<(BTreeMap<BrokerId, Broker>, OneshotWatcher), RegistryError> {
    let (ids, watcher) = node::children_and_watch(client, paths::BROKER_IDS).await?;
    Ok((read_all(client, &ids).await?, watcher))
}

async fn read_all(
    client: &Client,
    names: &[String],
) -> Result<BTreeMap<BrokerId, Broker>, RegistryError> {
    // A name that is no number is nothing of ours.
    let ids: Vec<BrokerId> = names.iter().filter_map(|n| n.parse().ok().map(BrokerId)).collect();
    let found = node::read_many(client, ids.iter().map(|&id| paths::broker(id))).await?;
    // One that went between the listing and the reading is left out; the watch has fired for it.
    let live = ids.into_iter().zip(found).filter_map(|(id, found)| Some((id, found?.value)));
    Ok(live.collect())
}

/// Says for people which partitions of a topic a broker stores; with none, takes that back.
/// Does nothing when the topic is gone.
pub async fn set_stored(
    client: &Client,
    topic: &str,
    id: BrokerId,
    stored: &Stored,
) -> Result<(), RegistryError> {
    let path = paths::stored(topic, id);
    if stored.partitions.is_empty() {
        return node::delete_own_ephemeral(client, &path).await;
    }
    match node::create_ephemeral(client, &path, &stored.encode()?).await {
        // Left by an own older session: it goes with that one, and nobody decides by it.
        Ok(_) => Ok(()),
        Err(RegistryError::Refused { source: Error::NoNode, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
