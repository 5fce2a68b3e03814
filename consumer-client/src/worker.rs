//! The consumer's own task: runs the fetcher and the group membership, and answers what is asked of
//! the cluster. Lives until the consumer is closed or dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::client::{Cluster, ClusterOptions};
use proto::{Offset, TopicPartition};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::config::ConsumerConfig;
use crate::error::{ConfigError, ConsumerError};
use crate::fetcher::{Fetcher, lookup};
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
    let mut tasks = JoinSet::new();
    let fetcher = Fetcher::new(Arc::clone(&shared), cluster.clone());
    tasks.spawn(fetcher.run());
    let mut closing = None;
    while let Some(command) = commands.recv().await {
        while tasks.try_join_next().is_some() {}
        match command {
            Command::Close { reply } => {
                closing = Some(reply);
                break;
            }
            other => {
                tasks.spawn(answer(Arc::clone(&shared), cluster.clone(), other));
            }
        }
    }
    tasks.shutdown().await;
    shared.close();
    if let Some(reply) = closing {
        // Nobody may wait for it.
        let _ = reply.send(Ok(()));
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
        Command::Close { .. } => {}
    }
}
