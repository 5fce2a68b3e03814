//! The consumer's own task: runs the fetcher and the group membership, and answers what is asked of
//! the cluster. Lives until the consumer is closed or dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::client::{BusyPoll, Cluster, ClusterOptions};
use proto::{Offset, TopicPartition};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::config::ConsumerConfig;
use crate::error::{CommitError, ConfigError, ConsumerError};
use crate::fetcher::{Fetcher, lookup};
use crate::membership::commits::Wish;
use crate::membership::streams::Streams;
use crate::membership::{GroupCommand, join};
use crate::shared::{Shared, StartAt};

type Reply<T> = oneshot::Sender<Result<T, ConsumerError>>;

/// What is asked of the worker; each has an answer, also when the consumer closes.
#[derive(Debug)]
pub(crate) enum Command {
    Offsets {
        partitions: Vec<TopicPartition>,
        start: StartAt,
        reply: Reply<BTreeMap<TopicPartition, Option<Offset>>>,
    },
    Partitions {
        topic: String,
        reply: Reply<Vec<TopicPartition>>,
    },
    Topics {
        reply: Reply<Vec<String>>,
    },
    /// Join the group, or change what is read as a member of it.
    Subscribe {
        streams: Streams,
    },
    Commit {
        offsets: BTreeMap<TopicPartition, Offset>,
        reply: Reply<()>,
    },
    Close {
        reply: Reply<()>,
    },
}

/// The cluster as the settings describe it.
pub(crate) fn cluster(config: &ConsumerConfig) -> Result<Cluster, ConfigError> {
    let mut options = ClusterOptions::new(config.bootstrap_servers.iter().cloned());
    let name = &config.socket_congestion_control;
    options.socket.congestion_control = name.parse().map_err(|_| ConfigError::InvalidValue {
        name: "socket.congestion.control",
        value: name.clone(),
        reason: "auto, os or the name of an algorithm is expected".to_owned(),
    })?;
    options.socket.busy_poll = BusyPoll::new(config.busy_poll);
    options.reconnect_backoff = config.retry_backoff.min(options.reconnect_backoff);
    options.reconnect_backoff_max = config.retry_backoff_max;
    Ok(Cluster::new(options))
}

/// Runs until closed, or until every handle on the consumer is gone.
pub(crate) async fn run(
    shared: Arc<Shared>,
    cluster: Cluster,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let _polling = cluster.busy_poll().start();
    let mut worker = Worker { shared, cluster, tasks: JoinSet::new(), group: None };
    let fetcher = Fetcher::new(Arc::clone(&worker.shared), worker.cluster.clone());
    worker.tasks.spawn(fetcher.run());
    let mut closing = None;
    while let Some(command) = commands.recv().await {
        while worker.tasks.try_join_next().is_some() {}
        match command {
            Command::Close { reply } => {
                closing = Some(reply);
                break;
            }
            Command::Subscribe { streams } => worker.subscribe(streams),
            Command::Commit { offsets, reply } => worker.commit(offsets, reply),
            other => {
                let (shared, cluster) = (Arc::clone(&worker.shared), worker.cluster.clone());
                worker.tasks.spawn(answer(shared, cluster, other));
            }
        }
    }
    let mut left = Ok(());
    if let Some(group) = worker.group.take() {
        let _ = group.commands.send(GroupCommand::Close);
        left = group.task.await.unwrap_or(Err(CommitError::Closed));
    }
    worker.tasks.shutdown().await;
    worker.shared.close();
    if let Some(reply) = closing {
        // Nobody may wait for it.
        let _ = reply.send(left.map_err(ConsumerError::Commit));
    }
}

struct Worker {
    shared: Arc<Shared>,
    cluster: Cluster,
    tasks: JoinSet<()>,
    group: Option<Membership>,
}

struct Membership {
    streams: watch::Sender<Streams>,
    commands: mpsc::UnboundedSender<GroupCommand>,
    task: JoinHandle<Result<(), CommitError>>,
}

impl Worker {
    fn subscribe(&mut self, streams: Streams) {
        if let Some(group) = &self.group {
            group.streams.send_replace(streams);
            return;
        }
        let Some(group) = self.shared.config.group_id.clone() else { return };
        let (streams, subscribed) = watch::channel(streams);
        let (commands, received) = mpsc::unbounded_channel();
        let (shared, cluster) = (Arc::clone(&self.shared), self.cluster.clone());
        let task = tokio::spawn(join(shared, cluster, group, subscribed, received));
        self.group = Some(Membership { streams, commands, task });
    }

    fn commit(&mut self, offsets: BTreeMap<TopicPartition, Offset>, reply: Reply<()>) {
        let Some(group) = &self.group else {
            let _ = reply.send(Err(ConsumerError::NoGroup { call: "commit" }));
            return;
        };
        let (written, answer) = oneshot::channel();
        let offsets = offsets.into_iter().map(|(p, offset)| (p, Wish::at(offset))).collect();
        let _ = group.commands.send(GroupCommand::Commit { offsets, reply: written });
        self.tasks.spawn(async move {
            let answer = answer.await.unwrap_or(Err(CommitError::Closed));
            let _ = reply.send(answer.map_err(ConsumerError::Commit));
        });
    }
}

/// Answers one question about the cluster.
async fn answer(shared: Arc<Shared>, cluster: Cluster, command: Command) {
    let limit = shared.config.default_api_timeout;
    match command {
        Command::Offsets { partitions, start, reply } => {
            let _ = reply.send(lookup::offsets(&cluster, &partitions, start, limit).await);
        }
        Command::Partitions { topic, reply } => {
            let _ = reply.send(lookup::partitions(&cluster, &topic, limit).await);
        }
        Command::Topics { reply } => {
            let _ = reply.send(lookup::topics(&cluster, limit).await);
        }
        Command::Subscribe { .. } | Command::Commit { .. } | Command::Close { .. } => {}
    }
}
