//! Watches the registry during a run, past every gate: who leads, who is the controller, who owns
//! which partition of the group, what is committed. A thread of its own, which asks ten times a
//! second and goes on where the registry does not answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};
use coordinator::registry::{offsets, owners, partitions};
use coordinator::zk::payload::{Controller, PartitionState};
use coordinator::zk::{Payload, paths};
use parking_lot::Mutex;
use zookeeper_client::Client;

use super::group_log;
use crate::checker::{Claim, StoredOffset};

const EVERY: Duration = Duration::from_millis(100);
/// A look that takes longer is given up, with its connection.
const LOOK_MAX: Duration = Duration::from_secs(3);

/// What was seen last, and everything that was seen of the group.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The state of each partition.
    pub states: Vec<Option<PartitionState>>,
    /// The controller's address.
    pub controller: Option<String>,
    /// The broker that coordinates the group, where one does.
    pub group_coordinator: Option<i32>,
    /// Every claim.
    pub claims: BTreeSet<Claim>,
    /// Every committed offset.
    pub stored: BTreeSet<StoredOffset>,
    /// How many looks succeeded.
    pub looks: u64,
}

/// What to look at.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The registry with its chroot.
    pub zookeeper: String,
    /// The topic.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// The group.
    pub group: String,
    /// Whether a broker coordinates the group, instead of the registry.
    pub has_coordinator: bool,
}

/// A watching thread.
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Starts to watch.
    pub fn start(subject: Subject) -> Result<Self> {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn({
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            move || runtime.block_on(watch(&subject, &seen, &stop))
        });
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    /// What was seen last.
    pub fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    /// Who led a partition when it was last seen.
    pub fn leader(&self, partition: u32) -> Option<i32> {
        let seen = self.seen.lock();
        let count = seen.states.len().max(1);
        let state = seen.states.get(partition as usize % count)?.as_ref()?;
        state.leader.map(|leader| leader.0)
    }

    /// Which broker coordinated the group when it was last seen.
    pub fn group_coordinator(&self) -> Option<i32> {
        self.seen.lock().group_coordinator
    }

    /// The controller's address when it was last seen.
    pub fn controller(&self) -> Option<String> {
        self.seen.lock().controller.clone()
    }

    /// Ends the watch; everything that was seen.
    pub fn stop(mut self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| anyhow!("the observer panicked"))?;
        }
        Ok(std::mem::take(&mut *self.seen.lock()))
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

async fn watch(subject: &Subject, seen: &Mutex<Seen>, stop: &AtomicBool) {
    let mut client: Option<Client> = None;
    while !stop.load(Ordering::Relaxed) {
        let looked = tokio::time::timeout(LOOK_MAX, async {
            let connected = match client.take() {
                Some(client) => client,
                None => {
                    let connector = Client::connector().with_session_timeout(LOOK_MAX * 3);
                    connector.connect(&subject.zookeeper).await?
                }
            };
            look(&connected, subject, seen).await?;
            client = Some(connected);
            anyhow::Ok(())
        });
        // Without an answer, the next look has a connection of its own.
        let _ = looked.await;
        tokio::time::sleep(EVERY).await;
    }
}

async fn look(client: &Client, subject: &Subject, seen: &Mutex<Seen>) -> Result<()> {
    let Subject { topic, group, .. } = subject;
    let states = partitions::read_all(client, topic, subject.partitions as usize).await?;
    let controller = match client.get_data(paths::CONTROLLER).await {
        Ok((data, _)) => Some(Controller::decode(paths::CONTROLLER, &data)?.address),
        Err(zookeeper_client::Error::NoNode) => None,
        Err(error) => return Err(error.into()),
    };
    let owned = owners::list(client, group).await?.remove(topic).unwrap_or_default();
    let mut stored = Vec::new();
    for partition in 0..subject.partitions {
        if let Some(found) = offsets::read(client, group, topic, partition).await? {
            let offset = found.value.offset.map(|offset| (found.version, offset.0));
            stored.extend(offset.map(|(version, offset)| (partition, version, offset)));
        }
    }
    let group_coordinator = match subject.has_coordinator {
        true => group_log::coordinator(client).await?,
        false => None,
    };
    let mut seen = seen.lock();
    seen.group_coordinator = group_coordinator;
    seen.states = states.into_iter().map(|state| Some(state?.value)).collect();
    seen.controller = controller;
    seen.claims.extend(owned.into_iter().map(|(partition, owner)| Claim {
        group: group.clone(),
        partition,
        generation: owner.generation,
        member: owner.consumer,
    }));
    let group = group.clone();
    seen.stored.extend(stored.into_iter().map(|(partition, version, offset)| StoredOffset {
        group: group.clone(),
        partition,
        version: i64::from(version),
        offset,
    }));
    seen.looks += 1;
    Ok(())
}
