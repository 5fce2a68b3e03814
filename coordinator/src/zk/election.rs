//! Who is the controller: an ephemeral node, and an epoch that only grows.
//!
//! Both are written in one transaction, so whoever holds `/controller` has raised
//! `/controller_epoch`, and nobody has raised it without holding the node.

use uuid::Uuid;
use zookeeper_client::{Client, Error, OneshotWatcher};

use super::payload::{Controller, ControllerEpoch};
use super::{Fault, Payload, paths};
use crate::registry::{EpochFence, RegistryError, Versioned, node};

/// The outcome of one attempt.
#[derive(Debug)]
pub enum Election {
    /// This process is the controller of the fence's epoch, in the client's session.
    Elected(EpochFence),
    /// Another process is; try again when the watch fires.
    Standby {
        /// Who.
        controller: Controller,
        /// Fires when that changes.
        watcher: OneshotWatcher,
    },
}

/// Tries to become the controller in the client's session. Idempotent in one session.
///
/// A node of an own older session is waited out like any other: its controller may have writes
/// under way. A lost answer is resolved by reading back.
pub async fn elect(
    client: &Client,
    address: &str,
    incarnation: Uuid,
) -> Result<Election, RegistryError> {
    loop {
        let (found, watcher) =
            node::read_and_watch::<Controller>(client, paths::CONTROLLER).await?;
        if let Some(found) = found {
            if found.ephemeral_owner != client.session_id().0 {
                return Ok(Election::Standby { controller: found.value, watcher });
            }
            if let Some(fence) = fence_of(client, &found.value).await? {
                return Ok(Election::Elected(fence));
            }
            // Ours, yet the epoch has moved on: cannot be while the node is; read again.
            continue;
        }
        drop(watcher);
        let epoch = read_epoch(client).await?;
        let next = epoch.value.epoch + 1;
        let controller = Controller { address: address.to_owned(), incarnation, epoch: next };
        let raised = ControllerEpoch { epoch: next }.encode()?;
        let failed = |error| RegistryError::from_client("election at", paths::CONTROLLER, error);
        let mut writer = client.new_multi_writer();
        writer
            .add_create(paths::CONTROLLER, &controller.encode()?, &node::EPHEMERAL)
            .and_then(|()| {
                writer.add_set_data(paths::CONTROLLER_EPOCH, &raised, Some(epoch.version))
            })
            .map_err(failed)?;
        match writer.commit().await.map_err(Error::from) {
            Ok(_) => {
                let version = epoch.version.wrapping_add(1);
                return Ok(Election::Elected(EpochFence { epoch: next, version }));
            }
            // Somebody was quicker, or the answer was lost: the node tells.
            Err(Error::NodeExists | Error::BadVersion) => {}
            Err(error) if Fault::of(&error) == Fault::AnswerLost => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Steps down: removes the node if this session holds it.
pub async fn resign(client: &Client) -> Result<(), RegistryError> {
    node::delete_own_ephemeral(client, paths::CONTROLLER).await
}

/// The active controller, `None` when there is none.
pub async fn read(client: &Client) -> Result<Option<Controller>, RegistryError> {
    Ok(node::read(client, paths::CONTROLLER).await?.map(|found| found.value))
}

async fn fence_of(
    client: &Client,
    controller: &Controller,
) -> Result<Option<EpochFence>, RegistryError> {
    let epoch = read_epoch(client).await?;
    let ours = epoch.value.epoch == controller.epoch;
    Ok(ours.then_some(EpochFence { epoch: controller.epoch, version: epoch.version }))
}

/// The epoch node, made if need be.
async fn read_epoch(client: &Client) -> Result<Versioned<ControllerEpoch>, RegistryError> {
    loop {
        if let Some(found) = node::read(client, paths::CONTROLLER_EPOCH).await? {
            return Ok(found);
        }
        let none = ControllerEpoch { epoch: 0 }.encode()?;
        match client.create(paths::CONTROLLER_EPOCH, &none, &node::PERSISTENT).await {
            Ok(_) | Err(Error::NodeExists) => {}
            Err(error) if Fault::of(&error) == Fault::AnswerLost => {}
            Err(error) => {
                let path = paths::CONTROLLER_EPOCH;
                return Err(RegistryError::from_client("create", path, error));
            }
        }
    }
}
