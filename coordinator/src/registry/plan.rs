//! `/consumers/<g>/plan`: what the members of a group have agreed on. Its node's version is the
//! plan's generation; members write it by compare-and-set and follow nothing else.

use zookeeper_client::{Client, Error, OneshotWatcher};

use super::RegistryError;
use super::node::{self, Versioned};
use crate::rebalance::{InvalidPlan, Plan};
use crate::zk::payload::PlanNode;
use crate::zk::{Fault, Payload, paths};

/// A plan and its generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// The plan.
    pub plan: Plan,
    /// Counts the plans of the group; claims check it.
    pub generation: i32,
}

/// A plan could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// What is written there is not a plan.
    #[error("{path}: {source}")]
    Invalid {
        /// The node.
        path: String,
        /// Why.
        source: InvalidPlan,
    },
    /// The registry failed; a plan that is too large is a payload error here.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

fn agreed(path: &str, found: Option<Versioned<PlanNode>>) -> Result<Option<Agreed>, PlanError> {
    let Some(found) = found else { return Ok(None) };
    let plan = Plan::from_node(found.value)
        .map_err(|source| PlanError::Invalid { path: path.to_owned(), source })?;
    Ok(Some(Agreed { plan, generation: found.version }))
}

/// The current plan; `None` when there is none yet.
pub async fn read(client: &Client, group: &str) -> Result<Option<Agreed>, PlanError> {
    let path = paths::plan(group);
    agreed(&path, node::read(client, &path).await?)
}

/// The current plan, and a watch for the next one.
pub async fn read_and_watch(
    client: &Client,
    group: &str,
) -> Result<(Option<Agreed>, OneshotWatcher), PlanError> {
    let path = paths::plan(group);
    let (found, watcher) = node::read_and_watch(client, &path).await?;
    Ok((agreed(&path, found)?, watcher))
}

/// Writes a plan over the one of generation `expected` (`None`: there is none): its generation, or
/// `None` when another member was quicker: follow that one.
///
/// A lost answer is resolved by reading back. An equal plan of another member counts as ours: it
/// is the same agreement.
pub async fn write(
    client: &Client,
    group: &str,
    plan: &Plan,
    expected: Option<i32>,
) -> Result<Option<i32>, RegistryError> {
    let path = paths::plan(group);
    let written = plan.to_node();
    if let Some(expected) = expected {
        return node::set(client, &path, &written, expected).await;
    }
    let bytes = written.encode()?;
    loop {
        match client.create(&path, &bytes, &node::PERSISTENT).await {
            Ok(_) => return Ok(Some(0)),
            Err(Error::NodeExists) => {}
            Err(Error::NoNode) => {
                node::ensure(client, &paths::group(group)).await?;
                continue;
            }
            Err(error) if Fault::of(&error) == Fault::AnswerLost => {}
            Err(error) => return Err(RegistryError::from_client("create", &path, error)),
        }
        if let Some((found, stat)) = node::bytes(client, &path).await? {
            let ours = stat.version == 0 && found == bytes;
            return Ok(ours.then_some(0));
        }
        tokio::time::sleep(node::RETRY_PAUSE).await;
    }
}
