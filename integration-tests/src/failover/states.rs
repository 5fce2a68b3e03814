//! Watches who leads: each write of a partition's state with the registry's time of it, and when a client
//! that only listens was told.
//!
//! Times of writes are the registry's own milliseconds, of the same machine's clock. A write that another
//! one followed before it was read is missed; what is made of the rest says how many were.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Result, anyhow, ensure};
use coordinator::zk::payload::PartitionState;
use coordinator::zk::{Payload, paths};
use parking_lot::Mutex;
use proto::client::{Cluster, ClusterOptions};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use zookeeper_client::Client;

use super::clock::{Clock, Micros};
use super::readers::Leadership;

/// One write of a partition's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The partition.
    pub partition: i32,
    /// When.
    pub at: Micros,
    /// Counts the writes.
    pub version: i32,
    /// What.
    pub state: PartitionState,
}

/// Everything seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Every write, in the order of each partition's.
    pub written: Vec<Written>,
    /// When a client was told first who leads in this epoch.
    pub told: BTreeMap<Leadership, Micros>,
}

/// A leader change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The partition.
    pub partition: i32,
    /// The new epoch.
    pub epoch: i32,
    /// Who leads in it.
    pub leader: i32,
    /// When it was written; `None` where another write came before it could be read.
    pub committed: Option<Micros>,
}

impl Seen {
    /// The newest state of each partition.
    pub fn now(&self) -> BTreeMap<i32, &PartitionState> {
        self.written.iter().map(|written| (written.partition, &written.state)).collect()
    }

    /// Every change of leader, the first leaders left out.
    pub fn changes(&self) -> Vec<Change> {
        let mut before: BTreeMap<i32, &Written> = BTreeMap::new();
        let mut changes = Vec::new();
        for written in &self.written {
            let last = before.insert(written.partition, written);
            let Some((last, leader)) = last.zip(written.state.leader) else { continue };
            let led = last.state.leader.is_some();
            let epoch = written.state.leader_epoch;
            if epoch > last.state.leader_epoch || !led {
                let exact = written.version == last.version + 1;
                changes.push(Change {
                    partition: written.partition,
                    epoch: epoch.0,
                    leader: leader.0,
                    committed: exact.then_some(written.at),
                });
            }
        }
        changes
    }
}

/// A watching thread.
pub struct States {
    seen: Arc<Mutex<Seen>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// What to watch.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The registry with its chroot.
    pub zookeeper: String,
    /// Brokers to ask first.
    pub bootstrap: String,
    /// The topic.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: i32,
}

impl States {
    /// Starts to watch.
    pub fn start(subject: Subject, clock: Clock) -> Result<Self> {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let noted = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let mut tasks = JoinSet::new();
                let client = Client::connect(&subject.zookeeper).await?;
                for partition in 0..subject.partitions {
                    let path = paths::partition_state(&subject.topic, partition);
                    let (client, seen) = (client.clone(), Arc::clone(&noted));
                    tasks.spawn(
                        async move { writes(&client, &path, partition, clock, &seen).await },
                    );
                }
                tasks.spawn(pushes(subject, clock, Arc::clone(&noted)));
                tokio::select! {
                    _ = stopped => Ok(()),
                    Some(ended) = tasks.join_next() => ended?,
                }
            })
        });
        Ok(Self { seen, stop: Some(stop), thread: Some(thread) })
    }

    /// What was seen so far.
    pub fn seen(&self) -> Result<Seen> {
        let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        ensure!(!ended, "the watch of the registry ended: see the end of the run");
        Ok(self.seen.lock().clone())
    }

    /// Ends the watch.
    pub fn stop(mut self) -> Result<Seen> {
        drop(self.stop.take());
        let thread = self.thread.take().ok_or_else(|| anyhow!("the watch was ended before"))?;
        thread.join().map_err(|_| anyhow!("the watch of the registry panicked"))??;
        Ok(std::mem::take(&mut *self.seen.lock()))
    }
}

async fn writes(
    client: &Client,
    path: &str,
    partition: i32,
    clock: Clock,
    seen: &Mutex<Seen>,
) -> Result<()> {
    let mut version = -1;
    loop {
        let (data, stat, changed) = client.get_and_watch_data(path).await?;
        if stat.version != version {
            version = stat.version;
            let (at, state) = (clock.of_wall_ms(stat.mtime), PartitionState::decode(path, &data)?);
            seen.lock().written.push(Written { partition, at, version, state });
        }
        changed.changed().await;
    }
}

/// Notes what brokers push to a client that asks for nothing.
async fn pushes(subject: Subject, clock: Clock, seen: Arc<Mutex<Seen>>) -> Result<()> {
    let cluster = Cluster::new(ClusterOptions::new(subject.bootstrap.split(',')));
    let mut known = cluster.subscribe();
    cluster.watch(BTreeSet::from([subject.topic.clone()]));
    loop {
        known.changed().await?;
        let now = clock.now();
        let metadata = Arc::clone(&known.borrow_and_update());
        let Some(topic) = metadata.topic(&subject.topic) else { continue };
        let led = topic.partitions.iter().filter(|partition| partition.leader.is_some());
        let mut seen = seen.lock();
        for partition in led {
            seen.told.entry((partition.partition, partition.leader_epoch.0)).or_insert(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{BrokerId, LeaderEpoch};

    fn written(version: i32, leader: Option<i32>, epoch: i32) -> Written {
        let state = PartitionState {
            leader: leader.map(BrokerId),
            leader_epoch: LeaderEpoch(epoch),
            isr: Vec::new(),
            electable: Vec::new(),
            controller_epoch: 1,
        };
        Written { partition: 0, at: Micros::from(version), version, state }
    }

    #[test]
    fn a_change_of_leader_has_the_time_of_its_write_where_none_was_missed() {
        let writes = [
            written(0, Some(1), 0),
            written(1, Some(1), 0),
            written(2, Some(2), 1),
            written(4, Some(3), 2),
            written(5, None, 3),
            written(6, Some(3), 3),
        ];
        let seen = Seen { written: writes.to_vec(), ..Seen::default() };
        let changes: Vec<_> =
            seen.changes().iter().map(|c| (c.epoch, c.leader, c.committed)).collect();
        assert_eq!(changes, [(1, 2, Some(2)), (2, 3, None), (3, 3, Some(6))]);
        assert_eq!(seen.now()[&0].leader_epoch, LeaderEpoch(3));
    }
}
