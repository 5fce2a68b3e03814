//! [`Fetchers`]: which partitions are followed, and the threads that fetch them.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proto::client::SocketOptions;
use proto::{BrokerId, LeaderEpoch, TopicPartition};
use tokio::sync::mpsc;

use super::board::Board;
use super::fetcher::{self, Command};
use super::followed::Followed;
use super::lane::Lane;
use super::rounds::ReplicaNumber;
use super::throttle::Throttle;
use crate::config::ReplicationConfig;
use crate::metrics::Metrics;
use crate::replication::{Partition, Replica};

/// A leader from which nothing came for so long is asked for a sign of life …
const PING_EVERY: Duration = Duration::from_secs(2);
/// … and left when it gives none for so long: its successor may have its address.
const PING_ANSWER_MAX: Duration = Duration::from_secs(3);

/// Where a leader is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaderAddress {
    /// Its broker id.
    pub id: BrokerId,
    /// `HOST:PORT` of its gRPC listener.
    pub address: String,
}

/// One fetcher.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct FetcherKey {
    pub(super) leader: LeaderAddress,
    pub(super) shard: usize,
    pub(super) lane: Lane,
}

/// Follows partitions. One that catches up moves between fetchers by itself; another leader, address or
/// epoch is told by [`Fetchers::follow`].
pub struct Fetchers(Arc<Shared>);

/// What the fetchers have in common.
pub(super) struct Shared {
    pub(super) config: ReplicationConfig,
    pub(super) me: Replica,
    pub(super) metrics: Arc<Metrics>,
    pub(super) sockets: SocketOptions,
    pub(super) throttle: Throttle,
    pub(super) board: Board,
    /// Held for moments only; a partition's gate may be taken under it, never the reverse.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    following: HashMap<TopicPartition, Following>,
    fetchers: HashMap<FetcherKey, Running>,
    /// Threads that were told to end.
    ending: Vec<JoinHandle<()>>,
    last_number: ReplicaNumber,
    closed: bool,
}

struct Following {
    followed: Arc<Followed>,
    key: FetcherKey,
}

struct Running {
    /// Bounded by what is told: a partition is added and taken away once. Dropped, the thread ends.
    commands: mpsc::UnboundedSender<Command>,
    thread: JoinHandle<()>,
    partitions: usize,
}

impl Fetchers {
    /// Follows nothing yet.
    pub fn new(config: ReplicationConfig, me: Replica, metrics: Arc<Metrics>) -> Self {
        Self::with_sockets(config, me, SocketOptions::default(), metrics)
    }

    /// The same with other sockets. How soon a leader that gives no sign of life is left is decided
    /// here.
    pub fn with_sockets(
        config: ReplicationConfig,
        me: Replica,
        sockets: SocketOptions,
        metrics: Arc<Metrics>,
    ) -> Self {
        let sockets = SocketOptions {
            keep_alive_interval: PING_EVERY,
            keep_alive_timeout: PING_ANSWER_MAX,
            ..sockets
        };
        Self(Arc::new(Shared {
            throttle: Throttle::new(config.throttled_rate, Instant::now()),
            board: Board::new(Arc::clone(&metrics)),
            config,
            me,
            metrics,
            sockets,
            state: Mutex::default(),
        }))
    }

    /// Fetches a partition from its leader in `epoch` from now on. Told again with the same it does
    /// nothing; with another leader, address, epoch or log, what was followed before is stopped first.
    /// The partition's log is that of a follower already (`Partition::follow`).
    pub fn follow(&self, partition: Arc<Partition>, leader: LeaderAddress, epoch: LeaderEpoch) {
        let shared = &self.0;
        let mut state = shared.state.lock();
        if state.closed {
            return;
        }
        let name = partition.name().clone();
        let shard = shard_of(&name, shared.config.fetchers);
        if let Some(following) = state.following.get(&name) {
            let followed = &following.followed;
            if followed.epoch == epoch
                && following.key.leader == leader
                && Arc::ptr_eq(&followed.partition, &partition)
            {
                return;
            }
            stop(shared, &mut state, &name);
        }
        state.last_number += 1;
        let followed = Followed::new(state.last_number, partition, epoch);
        let key = FetcherKey { leader, shard, lane: Lane::InSync };
        assign(shared, &mut state, Following { followed, key }, false);
    }

    /// Follows a partition no more. When it returns nothing more is appended by a fetcher: it waits for
    /// an append that is under way.
    pub fn stop(&self, name: &TopicPartition) {
        stop(&self.0, &mut self.0.state.lock(), name);
    }

    /// How many partitions are followed.
    pub fn len(&self) -> usize {
        self.0.state.lock().following.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `follower.replication.throttled.rate` of this broker's own settings.
    pub fn own_rate(&self) -> Option<u64> {
        self.0.config.throttled_rate
    }

    /// Another rate in force, bytes a second; the same one changes nothing.
    pub fn set_throttled_rate(&self, rate: Option<u64>) {
        self.0.throttle.set_rate(rate, Instant::now());
        let told = rate.map_or(0, |rate| i64::try_from(rate).unwrap_or(i64::MAX));
        self.0.metrics.replica_throttled_rate.set(told);
    }

    /// Stops everything for good and waits for the threads.
    pub fn close(&self) {
        let threads: Vec<JoinHandle<()>> = {
            let mut state = self.0.state.lock();
            state.closed = true;
            let names: Vec<_> = state.following.keys().cloned().collect();
            for name in &names {
                stop(&self.0, &mut state, name);
            }
            std::mem::take(&mut state.ending)
        };
        for thread in threads {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Fetchers {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// Hands a partition to the fetcher of another lane. Its present fetcher has let go of it.
    pub(super) fn change_lane(self: &Arc<Self>, followed: &Followed, lane: Lane) {
        let mut state = self.state.lock();
        let name = followed.name();
        let current = state.following.get(name);
        if current.is_none_or(|current| current.followed.number != followed.number) {
            return;
        }
        if let Some(mut following) = state.following.remove(name) {
            release(self, &mut state, &following.key);
            following.key.lane = lane;
            assign(self, &mut state, following, true);
        }
    }

    /// What a fetcher follows: for one that begins anew after a panic.
    pub(super) fn followed_by(&self, key: &FetcherKey) -> Vec<Arc<Followed>> {
        let state = self.state.lock();
        let of_key = state.following.values().filter(|following| following.key == *key);
        of_key.map(|following| Arc::clone(&following.followed)).collect()
    }

    #[cfg(test)]
    pub(super) fn lane_of(&self, name: &TopicPartition) -> Option<Lane> {
        self.state.lock().following.get(name).map(|following| following.key.lane)
    }
}

/// Partitions of a leader are spread over its fetchers by name.
fn shard_of(name: &TopicPartition, shards: usize) -> usize {
    let mut hash = crc32fast::Hasher::new();
    hash.update(name.topic.as_bytes());
    (hash.finalize() as usize).wrapping_add(name.partition.unsigned_abs() as usize) % shards.max(1)
}

fn assign(shared: &Arc<Shared>, state: &mut State, following: Following, moved: bool) {
    let key = &following.key;
    if !state.fetchers.contains_key(key) {
        state.ending.retain(|thread| !thread.is_finished());
        match start(shared, key) {
            Ok(running) => {
                state.fetchers.insert(key.clone(), running);
                shared.metrics.replica_fetchers.set(state.fetchers.len() as i64);
            }
            Err(error) => {
                // Not followed: the leader drops this replica from the ISR, and whoever settles
                // placement tells again.
                tracing::error!(
                    partition = %following.followed.name(), leader = %key.leader.id, %error,
                    "no thread to fetch with: raise the process limit"
                );
                shared.metrics.replica_fetchers_dead.add(1);
                return;
            }
        }
    }
    if let Some(running) = state.fetchers.get_mut(key) {
        running.partitions += 1;
        // A thread ends only after its sender is dropped.
        let _ = running
            .commands
            .send(Command::Follow { followed: Arc::clone(&following.followed), moved });
    }
    state.following.insert(following.followed.name().clone(), following);
}

fn start(shared: &Arc<Shared>, key: &FetcherKey) -> std::io::Result<Running> {
    let (commands, receiver) = mpsc::unbounded_channel();
    let name = format!("{}-{}-{}", key.lane.name(), key.leader.id, key.shard);
    let (shared, key) = (Arc::clone(shared), key.clone());
    let thread = std::thread::Builder::new()
        .name(name)
        .spawn(move || fetcher::thread(&shared, &key, receiver))?;
    Ok(Running { commands, thread, partitions: 0 })
}

fn stop(shared: &Shared, state: &mut State, name: &TopicPartition) {
    let Some(following) = state.following.remove(name) else { return };
    following.followed.stop();
    if let Some(running) = state.fetchers.get(&following.key) {
        let _ = running.commands.send(Command::Stop(following.followed.number));
    }
    release(shared, state, &following.key);
}

/// One partition less; a fetcher without any ends.
fn release(shared: &Shared, state: &mut State, key: &FetcherKey) {
    let Some(running) = state.fetchers.get_mut(key) else { return };
    running.partitions -= 1;
    if running.partitions == 0
        && let Some(running) = state.fetchers.remove(key)
    {
        state.ending.push(running.thread);
        shared.metrics.replica_fetchers.set(state.fetchers.len() as i64);
    }
}
