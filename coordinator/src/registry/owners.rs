//! `/consumers/<g>/owners`: who reads which partition now.
//!
//! Owner nodes are ephemeral, so their versions restart and fence nothing. What fences is the
//! offset node: a claim rewrites it in the same transaction that creates the owner node and checks
//! the plan's version, so a commit that the owner before has under way meets another version.

use std::collections::BTreeMap;

use proto::{LeaderEpoch, Partition, TopicId};
use zookeeper_client::{Client, Error, MultiWriteError, MultiWriteResult, OneshotWatcher};

use super::node::{self, Versioned};
use super::{RegistryError, offsets};
use crate::zk::payload::{CommittedOffset, Owner};
use crate::zk::{Fault, Payload, paths};

/// A partition that a member wants to own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The group.
    pub group: String,
    /// The member.
    pub consumer: String,
    /// Its stream.
    pub stream: u32,
    /// The generation of the plan that says so.
    pub generation: i32,
    /// The topic.
    pub topic: String,
    /// The topic's id in the plan.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: Partition,
}

/// An owned partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// What the next commit must pass: the offset node's version.
    pub fence: i32,
    /// Where to begin; `None` when the group has committed nothing for this topic.
    pub committed: Option<CommittedOffset>,
    /// What was committed for a topic that had this name before; it means nothing now, and the
    /// application should hear of it.
    pub void: Option<CommittedOffset>,
}

/// What became of a claim.
#[derive(Debug)]
pub enum ClaimOutcome {
    /// Owned.
    Claimed(Claimed),
    /// Another session holds it: wait for the watch, then claim again.
    Held {
        /// By whom.
        owner: Owner,
        /// Fires when that one releases it.
        watcher: OneshotWatcher,
    },
    /// The plan of this generation is no longer the current one: read it again.
    PlanChanged,
}

/// Claims a partition in the client's session. Idempotent: what this session holds already is
/// claimed anew, under the plan's generation and with a new fence.
///
/// A lost answer is resolved by reading back the owner node, which tells our claim by its session
/// and contents. Claims of many partitions can be made side by side. A call that is dropped before
/// it answers may have claimed: claim again, or release.
pub async fn claim(client: &Client, claim: &Claim) -> Result<ClaimOutcome, RegistryError> {
    let path = paths::owner(&claim.group, &claim.topic, claim.partition);
    let owner = Owner {
        consumer: claim.consumer.clone(),
        stream: claim.stream,
        generation: claim.generation,
    };
    let bytes = owner.encode()?;
    // The version of an owner node that this session holds already.
    let mut held: Option<i32> = None;
    loop {
        let before = offsets::read(client, &claim.group, &claim.topic, claim.partition).await?;
        let found = before.as_ref().map(|found| found.value.clone());
        match attempt(client, claim, &path, &bytes, before.as_ref(), held).await {
            Attempt::Done(fence) => return Ok(ClaimOutcome::Claimed(claimed(claim, fence, found))),
            Attempt::PlanChanged => return Ok(ClaimOutcome::PlanChanged),
            Attempt::Failed(error) => return Err(error),
            Attempt::NoParents => prepare(client, &claim.group, &claim.topic).await?,
            Attempt::OffsetChanged => {}
            Attempt::Look { lost } => {
                let (holder, watcher) = node::read_and_watch::<Owner>(client, &path).await?;
                let Some(holder) = holder else {
                    held = None;
                    continue;
                };
                if holder.ephemeral_owner != client.session_id().0 {
                    return Ok(ClaimOutcome::Held { owner: holder.value, watcher });
                }
                if lost && holder.value == owner {
                    // Applied, if the offset node was rewritten along with it.
                    let rewritten = before.map_or(0, |before| before.version.wrapping_add(1));
                    let (group, topic) = (&claim.group, &claim.topic);
                    let now = offsets::read(client, group, topic, claim.partition).await?;
                    if let Some(now) = now.filter(|now| now.version == rewritten) {
                        let claimed = claimed(claim, now.version, Some(now.value));
                        return Ok(ClaimOutcome::Claimed(claimed));
                    }
                }
                held = Some(holder.version);
            }
        }
    }
}

/// Makes the nodes below which claims of a topic are made. [`claim`] does so when need be; doing it
/// first saves every partition's claim a failure.
pub async fn prepare(client: &Client, group: &str, topic: &str) -> Result<(), RegistryError> {
    node::ensure(client, &paths::topic_owners(group, topic)).await?;
    node::ensure(client, &paths::topic_offsets(group, topic)).await
}

enum Attempt {
    /// With the offset node's new version.
    Done(i32),
    PlanChanged,
    NoParents,
    OffsetChanged,
    /// Look at the owner node: it is there, it is not, or the answer was lost.
    Look {
        lost: bool,
    },
    Failed(RegistryError),
}

async fn attempt(
    client: &Client,
    claim: &Claim,
    path: &str,
    owner: &[u8],
    before: Option<&Versioned<CommittedOffset>>,
    held: Option<i32>,
) -> Attempt {
    let offset_path = paths::offset(&claim.group, &claim.topic, claim.partition);
    let failed = |error| RegistryError::from_client("claim", path, error);
    let mut writer = client.new_multi_writer();
    let built = (|| {
        let offset = rewritten(claim, before).encode()?;
        let plan = paths::plan(&claim.group);
        writer.add_check_version(&plan, claim.generation).map_err(failed)?;
        match held {
            None => writer.add_create(path, owner, &node::EPHEMERAL),
            Some(version) => writer.add_set_data(path, owner, Some(version)),
        }
        .map_err(failed)?;
        match before {
            None => writer.add_create(&offset_path, &offset, &node::PERSISTENT),
            Some(before) => writer.add_set_data(&offset_path, &offset, Some(before.version)),
        }
        .map_err(failed)
    })();
    if let Err(error) = built {
        return Attempt::Failed(error);
    }
    let (index, source) = match writer.commit().await {
        Ok(results) => {
            return Attempt::Done(match results.last() {
                Some(MultiWriteResult::SetData { stat }) => stat.version,
                _ => 0,
            });
        }
        Err(MultiWriteError::RequestFailed { source })
            if Fault::of(&source) == Fault::AnswerLost =>
        {
            tokio::time::sleep(node::RETRY_PAUSE).await;
            return Attempt::Look { lost: true };
        }
        Err(MultiWriteError::RequestFailed { source }) => return Attempt::Failed(failed(source)),
        Err(MultiWriteError::OperationFailed { index, source }) => (index, source),
    };
    match (index, source) {
        (0, Error::BadVersion | Error::NoNode) => Attempt::PlanChanged,
        (1, Error::NodeExists | Error::BadVersion) => Attempt::Look { lost: false },
        (1, Error::NoNode) if held.is_some() => Attempt::Look { lost: false },
        (1, Error::NoNode) => Attempt::NoParents,
        (2, Error::NoNode) if before.is_none() => Attempt::NoParents,
        (2, Error::BadVersion | Error::NodeExists | Error::NoNode) => Attempt::OffsetChanged,
        (_, source) => Attempt::Failed(failed(source)),
    }
}

/// The offset node's value as a claim writes it: the same, by another.
fn rewritten(claim: &Claim, before: Option<&Versioned<CommittedOffset>>) -> CommittedOffset {
    let by = claim.consumer.clone();
    match before {
        Some(before) => CommittedOffset { by, ..before.value.clone() },
        None => CommittedOffset {
            offset: None,
            topic_id: claim.topic_id,
            leader_epoch: LeaderEpoch::UNKNOWN,
            metadata: String::new(),
            by,
        },
    }
}

fn claimed(claim: &Claim, fence: i32, found: Option<CommittedOffset>) -> Claimed {
    let found = found.filter(|found| found.offset.is_some());
    let (committed, void) = match found {
        Some(found) if found.topic_id == claim.topic_id => (Some(found), None),
        other => (None, other),
    };
    Claimed { fence, committed, void }
}

/// Releases a partition, if the client's session holds it. Commit before.
pub async fn release(
    client: &Client,
    group: &str,
    topic: &str,
    partition: Partition,
) -> Result<(), RegistryError> {
    node::delete_own_ephemeral(client, &paths::owner(group, topic, partition)).await
}

/// Who owns a partition.
pub async fn read(
    client: &Client,
    group: &str,
    topic: &str,
    partition: Partition,
) -> Result<Option<Versioned<Owner>>, RegistryError> {
    node::read(client, &paths::owner(group, topic, partition)).await
}

/// Every owner of a group: topic to partition to owner.
pub async fn list(
    client: &Client,
    group: &str,
) -> Result<BTreeMap<String, BTreeMap<Partition, Owner>>, RegistryError> {
    let mut all = BTreeMap::new();
    for topic in node::children(client, &paths::owners(group)).await? {
        let names = node::children(client, &paths::topic_owners(group, &topic)).await?;
        let partitions: Vec<Partition> = names.iter().filter_map(|n| n.parse().ok()).collect();
        let paths = partitions.iter().map(|&p| paths::owner(group, &topic, p));
        let found = node::read_many::<Owner>(client, paths).await?;
        let owned = partitions.into_iter().zip(found).filter_map(|(p, o)| Some((p, o?.value)));
        all.insert(topic, owned.collect());
    }
    Ok(all)
}
