//! The stream on which a broker pushes metadata, kept as long as somebody wants it.
//!
//! | the stream | done |
//! |---|---|
//! | answers | put in place; older ones take nothing back (see [`Metadata`](super::Metadata)) |
//! | ends, or is silent for three keep-alives | another broker's, at once if this one had lasted, else after a backoff |
//! | is of a broker that is not registered any more | another broker's: this one is not told of changes |
//! | is of other topics than wanted | one of those, after a moment in which more may be named |
//!
//! Each begins with a whole answer, so that nothing is missed between two.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tonic::Streaming;

use super::backoff::Backoff;
use super::cluster::{Cluster, Inner};
use super::error::ClientError;
use super::metadata::Metadata;
use crate::grpc::MESSAGE_LEN_MAX;
use crate::v1::log_client::LogClient;
use crate::{BrokerId, v1};

/// Topics named in one go are asked for in one go.
const GATHER: Duration = Duration::from_millis(20);
/// A stream that lasted so long was a good one.
const LASTED: Duration = Duration::from_secs(1);
/// Signs of life that may be missing.
const MISSED_MAX: u32 = 3;

/// A stream and its first answer.
struct Opened {
    address: String,
    answers: Streaming<v1::MetadataResponse>,
    first: v1::MetadataResponse,
    asked: Instant,
}

/// Why a stream is not read any more.
enum End {
    /// It broke, or the broker ended it.
    Broken(String),
    /// Nothing came for long.
    Silent,
    /// The broker is not among the live ones.
    Unregistered,
    /// Other topics are wanted.
    OtherTopics,
    /// Nobody wants anything.
    Unwanted,
}

/// Runs until the cluster is dropped.
pub(super) async fn run(cluster: Weak<Inner>, mut wanted: watch::Receiver<BTreeSet<String>>) {
    let Some(first) = cluster.upgrade() else { return };
    let options = &first.options;
    let mut backoff = Backoff::new(options.reconnect_backoff, options.reconnect_backoff_max);
    let keep_alive = options.watch_keep_alive;
    drop(first);
    let mut avoided = None;
    loop {
        if wanted.borrow().is_empty() {
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        }
        tokio::time::sleep(GATHER).await;
        let topics: Vec<String> = wanted.borrow_and_update().iter().cloned().collect();
        let Some(inner) = cluster.upgrade() else { return };
        let opened = open(Cluster { inner }, topics, avoided.take()).await;
        let (pause, since) = (backoff.after_failure(), Instant::now());
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::debug!(%error, "no broker pushes metadata");
                tokio::time::sleep(pause).await;
                continue;
            }
        };
        let address = opened.address.clone();
        let end = follow(&cluster, opened, &mut wanted, keep_alive * MISSED_MAX).await;
        match &end {
            End::Unwanted => return,
            End::OtherTopics => {}
            End::Broken(cause) => tracing::debug!(%address, cause, "metadata stream ended"),
            End::Silent => tracing::warn!(%address, "metadata stream is silent, another is asked"),
            End::Unregistered => tracing::debug!(%address, "the pushing broker is gone"),
        }
        if since.elapsed() >= LASTED || matches!(end, End::OtherTopics) {
            backoff.reset();
        } else {
            tokio::time::sleep(pause).await;
        }
        if !matches!(end, End::OtherTopics) {
            avoided = Some(address);
        }
    }
}

/// Opens a stream to whichever broker answers first, `avoided` asked last.
async fn open(
    cluster: Cluster,
    topics: Vec<String>,
    avoided: Option<String>,
) -> Result<Opened, ClientError> {
    let mut addresses = cluster.candidates();
    addresses.sort_by_key(|address| Some(address) == avoided.as_ref());
    let opened = cluster
        .race(addresses, move |cluster, address| open_at(cluster, address, topics.clone()))
        .await?;
    cluster.inner.counts.streams.fetch_add(1, Ordering::Relaxed);
    Ok(opened)
}

async fn open_at(
    cluster: Cluster,
    address: String,
    topics: Vec<String>,
) -> Result<Opened, ClientError> {
    let options = &cluster.inner.options;
    let connection = cluster.inner.pool.connect(&address).await?;
    let keep_alive_ms = options.watch_keep_alive.as_millis().try_into().unwrap_or(u32::MAX);
    let request = v1::MetadataRequest { topics, keep_alive_ms, ..Default::default() };
    let mut client = LogClient::new(connection).max_decoding_message_size(MESSAGE_LEN_MAX);
    let asked = Instant::now();
    let call = async {
        let mut answers = client.watch_metadata(request).await?.into_inner();
        let first = answers.message().await?;
        let ended = || tonic::Status::unavailable("the stream ended before the first answer");
        Ok((first.ok_or_else(ended)?, answers))
    };
    let after = options.request_timeout;
    match tokio::time::timeout(after, call).await {
        Ok(Ok((first, answers))) => Ok(Opened { address, answers, first, asked }),
        Ok(Err(status)) => Err(ClientError::Refused { address, status }),
        Err(_) => Err(ClientError::TimedOut { address, what: "a metadata stream", after }),
    }
}

/// Puts in place what comes on a stream, until it is of no use.
async fn follow(
    cluster: &Weak<Inner>,
    opened: Opened,
    wanted: &mut watch::Receiver<BTreeSet<String>>,
    silence_max: Duration,
) -> End {
    let Opened { address, mut answers, first, asked } = opened;
    let (mut next, mut heard) = (Some(first), tokio::time::Instant::now());
    let (mut changes, mut pushing) = match cluster.upgrade() {
        Some(inner) => (Cluster { inner }.subscribe(), None),
        None => return End::Unwanted,
    };
    loop {
        if let Some(answer) = next.take().filter(|answer| !answer.unchanged) {
            let Some(inner) = cluster.upgrade() else { return End::Unwanted };
            inner.counts.pushes.fetch_add(1, Ordering::Relaxed);
            Cluster { inner }.apply(answer, asked, false);
        }
        {
            let metadata = changes.borrow_and_update();
            pushing = pushing.or_else(|| broker_at(&metadata, &address));
            if pushing.is_some_and(|id| is_gone(&metadata, id)) {
                return End::Unregistered;
            }
        }
        tokio::select! {
            answer = tokio::time::timeout_at(heard + silence_max, answers.message()) => match answer {
                Ok(Ok(Some(answer))) => {
                    heard = tokio::time::Instant::now();
                    next = Some(answer);
                }
                Ok(Ok(None)) => return End::Broken("the broker ended it".into()),
                Ok(Err(status)) => return End::Broken(status.message().into()),
                Err(_) => {
                    if let Some(inner) = cluster.upgrade() {
                        inner.pool.suspect(&address);
                    }
                    return End::Silent;
                }
            },
            changed = wanted.changed() => {
                return if changed.is_ok() { End::OtherTopics } else { End::Unwanted };
            }
            changed = changes.changed() => {
                if changed.is_err() {
                    return End::Unwanted;
                }
            }
        }
    }
}

fn broker_at(metadata: &Arc<Metadata>, address: &str) -> Option<BrokerId> {
    metadata.brokers.values().find(|node| node.address == address).map(|node| node.id)
}

/// Others live and this one does not.
fn is_gone(metadata: &Metadata, id: BrokerId) -> bool {
    !metadata.brokers.is_empty() && !metadata.brokers.contains_key(&id)
}
