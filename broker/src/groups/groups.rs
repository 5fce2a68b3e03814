//! [`Groups`]: what listeners ask of the coordinator, from any thread.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use proto::{BrokerId, TopicPartition};
use tokio::sync::{mpsc, oneshot, watch};

use super::GroupError;
use super::classic::{Caller, Join, JoinRefusal, Joined, Leaving, Protocol, Sync, Synced};
use super::command::{
    Command, CommitRequest, Description, FetchedOffsets, Listing, Outcomes, Reply, Wanted,
};
use super::coordinator::Coordinator;
use super::offsets_topic::{OffsetsTopic, TopicCreator};
use super::report::Report;
use crate::cluster::metadata::MetadataCache;
use crate::config::GroupConfig;
use crate::replication::PartitionSet;

/// Requests that wait for the coordinator's thread; who asks beyond it waits to be let in.
const QUEUE_MAX: usize = 4096;
/// Threads that read offsets partitions at one time.
const LOADERS_MAX: usize = 4;
/// Longest text that a record of the offsets topic can hold.
const TEXT_MAX: usize = i16::MAX as usize;
/// Bytes that a member may have to say, over all its protocols; and the leader for all members.
const METADATA_MAX: usize = 1 << 20;

/// The coordinator of groups.
#[derive(Clone)]
pub struct Groups {
    commands: mpsc::Sender<Command>,
    topic: OffsetsTopic,
    config: GroupConfig,
}

impl Groups {
    /// Starts the coordinator's thread; it ends with `stopping`.
    pub fn start(
        me: BrokerId,
        config: GroupConfig,
        partitions: Arc<PartitionSet>,
        metadata: Arc<MetadataCache>,
        creator: Arc<dyn TopicCreator>,
        stopping: watch::Receiver<bool>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (commands, queue) = mpsc::channel(QUEUE_MAX);
        let (events, reports) = mpsc::unbounded_channel();
        let topic = OffsetsTopic::new(metadata, creator);
        let coordinator = Coordinator::new(me, config.clone(), partitions, topic.clone(), events);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(LOADERS_MAX)
            .thread_name("group-loader")
            .build()?;
        let thread = std::thread::Builder::new()
            .name("groups".to_owned())
            .spawn(move || runtime.block_on(coordinator.run(queue, reports, stopping)))?;
        Ok((Self { commands, topic, config }, thread))
    }

    /// Who coordinates a group. Has the topic that groups are stored in created for the first one.
    pub fn find_coordinator(&self, group: &str) -> Result<BrokerId, GroupError> {
        self.topic.coordinator_of(group, &self.config)
    }

    /// Joins a group; answered when all its members have. `join.token` is not looked at.
    pub async fn join(&self, group: Arc<str>, join: Join) -> Result<Joined, JoinRefusal> {
        let member_id = Arc::clone(&join.member_id);
        let refused = |error| JoinRefusal { error, member_id: Arc::clone(&member_id) };
        check_group(&group).and_then(|()| check_join(&join)).map_err(refused)?;
        let command = |reply| Command::Join(group, Box::new(join), reply);
        self.ask(command).await.map_err(refused)?
    }

    /// Asks for a member's assignment; answered when the leader has brought it. `sync.token` is not
    /// looked at.
    pub async fn sync(&self, group: Arc<str>, sync: Sync) -> Result<Synced, GroupError> {
        check_group(&group)?;
        let bytes: usize = sync.assignments.iter().map(|(id, given)| id.len() + given.len()).sum();
        if bytes > METADATA_MAX {
            return Err(GroupError::TooLarge);
        }
        self.ask(|reply| Command::Sync(group, sync, reply)).await?
    }

    /// A member is alive.
    pub async fn heartbeat(&self, group: Arc<str>, caller: Caller) -> Result<(), GroupError> {
        check_group(&group)?;
        self.ask(|reply| Command::Heartbeat(group, caller, reply)).await?
    }

    /// Members leave; an outcome for each.
    pub async fn leave(&self, group: Arc<str>, leaving: Vec<Leaving>) -> Outcomes {
        check_group(&group)?;
        self.ask(|reply| Command::Leave(group, leaving, reply)).await?
    }

    /// Commits offsets; an outcome for each. A group without a name may be committed for, by old
    /// clients that only store offsets.
    pub async fn commit(&self, group: Arc<str>, request: CommitRequest) -> Outcomes {
        check_text(&group)?;
        self.ask(|reply| Command::Commit(group, request, reply)).await?
    }

    /// What a group has committed.
    pub async fn fetch_offsets(&self, group: Arc<str>, wanted: Wanted) -> FetchedOffsets {
        check_text(&group)?;
        self.ask(|reply| Command::FetchOffsets(group, wanted, reply)).await?
    }

    /// A group; `None`: there is none of the name.
    pub async fn describe(&self, group: Arc<str>) -> Result<Option<Description>, GroupError> {
        check_text(&group)?;
        self.ask(|reply| Command::Describe(group, reply)).await?
    }

    /// Every group that this broker coordinates.
    pub async fn list(&self) -> Result<Vec<Listing>, GroupError> {
        self.ask(Command::List).await?
    }

    /// What the metrics page shows.
    pub async fn report(&self) -> Result<Report, GroupError> {
        self.ask(Command::Report).await?
    }

    /// Deletes a group that has no members.
    pub async fn delete(&self, group: Arc<str>) -> Result<(), GroupError> {
        check_text(&group)?;
        self.ask(|reply| Command::Delete(group, reply)).await?
    }

    /// Forgets offsets; an outcome for each.
    pub async fn delete_offsets(&self, group: Arc<str>, names: Vec<TopicPartition>) -> Outcomes {
        check_group(&group)?;
        self.ask(|reply| Command::DeleteOffsets(group, names, reply)).await?
    }

    /// A coordinator that has ended coordinates nothing.
    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, GroupError> {
        let (reply, answer) = oneshot::channel();
        let gone = GroupError::NotCoordinator;
        self.commands.send(command(reply)).await.map_err(|_| gone)?;
        answer.await.map_err(|_| gone)
    }
}

fn check_group(group: &str) -> Result<(), GroupError> {
    match group.is_empty() {
        true => Err(GroupError::InvalidGroupId),
        false => check_text(group),
    }
}

fn check_text(group: &str) -> Result<(), GroupError> {
    match group.len() > TEXT_MAX {
        true => Err(GroupError::InvalidGroupId),
        false => Ok(()),
    }
}

/// All that is stored of a member has bounds.
fn check_join(join: &Join) -> Result<(), GroupError> {
    let instance = join.instance.as_deref().unwrap_or_default();
    let texts =
        [&*join.member_id, instance, &join.client_id, &join.client_host, &join.protocol_type];
    let names = join.protocols.iter().map(|protocol| &*protocol.name);
    let bytes: usize = join.protocols.iter().map(Protocol::bytes).sum();
    match texts.into_iter().chain(names).any(|text| text.len() > TEXT_MAX) || bytes > METADATA_MAX {
        true => Err(GroupError::InvalidRequest),
        false => Ok(()),
    }
}
