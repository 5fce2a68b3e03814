//! From the settings to a member at work: who it is, and where the registry is.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coordinator::zk::{ConnectString, Session, SessionOptions};
use proto::client::Cluster;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::broker_group::BrokerGroup;
use super::delivery::GroupCommand;
use super::other_kind;
use super::streams::Streams;
use super::zookeeper_group::{Group, Identity};
use crate::config::Membership;
use crate::error::CommitError;
use crate::event::Event;
use crate::shared::Shared;

const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Joins the group of the settings and stays a member until told to close. The error: the last
/// positions could not be committed.
pub(crate) async fn join(
    shared: Arc<Shared>,
    cluster: Cluster,
    group: String,
    streams: watch::Receiver<Streams>,
    mut commands: mpsc::UnboundedReceiver<GroupCommand>,
) -> Result<(), CommitError> {
    let warning = other_kind::warn(Arc::clone(&shared), cluster.clone(), group.clone());
    let _warning = AbortOnDrop(tokio::spawn(warning).abort_handle());
    if shared.config.membership == Membership::Broker {
        return BrokerGroup::run(shared, group, streams, commands).await;
    }
    let identity = identity(&shared, group);
    let session = tokio::select! {
        session = session(&shared, &cluster) => session,
        () = told_to_close(&mut commands) => return Ok(()),
    };
    Group::run(shared, identity, session, streams, commands).await
}

/// A task that is of use only while the group is joined.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Until there is a session there is nothing to commit or release.
async fn told_to_close(commands: &mut mpsc::UnboundedReceiver<GroupCommand>) {
    while let Some(command) = commands.recv().await {
        match command {
            GroupCommand::Commit { offsets, reply } => {
                let missing = offsets.into_keys().next();
                let _ = reply.send(match missing {
                    Some(partition) => Err(CommitError::OwnershipLost(partition)),
                    None => Ok(()),
                });
            }
            GroupCommand::Close => return,
        }
    }
}

fn identity(shared: &Shared, group: String) -> Identity {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let start_time_ms = now.as_millis() as i64;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut host: String = host.trim().chars().filter(|c| is_name(*c)).take(64).collect();
    if host.is_empty() {
        "localhost".clone_into(&mut host);
    }
    let random = Uuid::new_v4().simple().to_string();
    let made_up = || format!("{group}_{host}-{start_time_ms}-{}", &random[..8]);
    let consumer = shared.config.consumer_id.clone().unwrap_or_else(made_up);
    Identity { group, consumer, host, start_time_ms }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// The session in the registry; where it is, the settings say, or the brokers.
async fn session(shared: &Shared, cluster: &Cluster) -> Session {
    let mut told = false;
    loop {
        let why = match connect_string(shared, cluster).await {
            Ok(connect) => {
                let timeout = shared.config.zookeeper_session_timeout;
                let options = SessionOptions::new(connect).with_timeout(timeout);
                match Session::start(options).await {
                    Ok(session) => return session,
                    Err(error) => error.to_string(),
                }
            }
            Err(why) => why,
        };
        tracing::warn!(why, "cannot join the group yet");
        if !std::mem::replace(&mut told, true) {
            shared.emit(Event::RegistryUnreachable);
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

async fn connect_string(shared: &Shared, cluster: &Cluster) -> Result<ConnectString, String> {
    let text = match &shared.config.zookeeper_connect {
        Some(text) => text.clone(),
        None => {
            let metadata = cluster.refresh(&[]).await.map_err(|error| error.to_string())?;
            metadata.zookeeper.clone()
        }
    };
    if text.is_empty() {
        return Err("the brokers do not say where the registry is: set zookeeper.connect".into());
    }
    text.parse().map_err(|error| format!("{error}"))
}
