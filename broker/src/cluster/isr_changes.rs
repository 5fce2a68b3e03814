//! Changes of in-sync replicas: what leaders here wish is written to the registry, and what the
//! registry has is told to the partitions.
//!
//! A change goes so: the partition wishes, and from then on its high watermark waits for old and new
//! members; the state is read; `coordinator::registry::in_sync` decides; the write is conditional
//! on the version read, and a lost answer is resolved by reading back; the partition is told what the
//! registry has now. Until then the change stays under way: while ZooKeeper is away it waits, and
//! produce and fetch go on.
//!
//! Who is to join must still be the run that caught up (KIP-903). Registrations are read after the
//! states: a broker that lost data takes away the registration of its earlier run before it writes
//! to the states ([`super::losses`]), so that one of the two reads, or the write, shows it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator::registry::{RegistryError, Versioned, brokers, in_sync, partitions};
use coordinator::zk::payload::PartitionState;
use coordinator::zk::{Client, Closed, Session};
use futures_util::StreamExt;
use parking_lot::Mutex;
use proto::{BrokerId, TopicId, TopicPartition};
use tokio::sync::Notify;
use uuid::Uuid;

use self::batch::{Batch, Kind};
use super::metadata::{FoundState, MetadataCache};
use super::states_changed::StatesChanged;
use crate::metrics::Metrics;
use crate::replication::{IsrListener, IsrWish, Partition, PartitionSet};

/// Reads or writes under way at once.
const AT_ONCE: usize = 256;
/// Before what failed is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// Partitions to be asked for a wish, and wishes; bounded by the partitions there are, for each has
/// one wish at a time.
#[derive(Default)]
pub(super) struct IsrWishes {
    partitions: Mutex<HashMap<(TopicPartition, TopicId), Arc<Partition>>>,
    changes: Mutex<Vec<Change>>,
    came: Notify,
}

impl IsrListener for IsrWishes {
    fn wish(&self, partition: Arc<Partition>) {
        let of = (partition.name().clone(), partition.topic_id());
        self.partitions.lock().insert(of, partition);
        self.came.notify_one();
    }
}

impl IsrWishes {
    /// Asks partitions; what they wish is taken next time.
    fn ask(&self, partitions: impl IntoIterator<Item = Arc<Partition>>) {
        let now = Instant::now();
        let wishes = partitions.into_iter().filter_map(|partition| {
            let wish = partition.isr_wish(now)?;
            Some(Change { partition, wish })
        });
        let wishes: Vec<Change> = wishes.collect();
        if !wishes.is_empty() {
            self.changes.lock().extend(wishes);
            self.came.notify_one();
        }
    }

    fn take(&self) -> Vec<Change> {
        let asked = std::mem::take(&mut *self.partitions.lock());
        self.ask(asked.into_values());
        std::mem::take(&mut *self.changes.lock())
    }
}

/// A wish under way.
struct Change {
    partition: Arc<Partition>,
    wish: IsrWish,
}

/// The registered runs of brokers.
type Runs = HashMap<BrokerId, Uuid>;

/// A change, with the state it is decided on; `None`: there is none any more.
type ReadChange = (Change, Option<Versioned<PartitionState>>);

/// What is to be written for a wish.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// Another leader, or another epoch: the wish is void.
    NotLeader,
    /// The read is behind the leader's own epoch.
    ReadAgain,
    /// The state is as it should be.
    AsItIs,
    /// Write this.
    Write(PartitionState),
}

/// The task that carries wishes out.
pub(super) struct IsrChanges {
    pub(super) me: BrokerId,
    pub(super) session: Session,
    pub(super) partitions: Arc<PartitionSet>,
    pub(super) metadata: Arc<MetadataCache>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) wishes: Arc<IsrWishes>,
    pub(super) states_changed: Arc<StatesChanged>,
    /// Told when the image has news that ask for settling.
    pub(super) image_changed: Arc<Notify>,
    /// So often every led partition is asked whether a member lags.
    pub(super) check_every: Duration,
}

impl IsrChanges {
    /// Carries wishes out until the session is closed.
    pub(super) async fn run(&self) {
        tokio::select! {
            () = self.check() => {}
            Err(Closed) = self.carry_out() => {}
        }
    }

    /// Asks every partition now and then whether a member lags, whatever the registry does.
    async fn check(&self) {
        let mut ticks = tokio::time::interval(self.check_every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.wishes.ask(self.partitions.all());
        }
    }

    /// Carries changes out; what failed is tried again, with what has come meanwhile.
    async fn carry_out(&self) -> Result<(), Closed> {
        let mut again = Vec::new();
        loop {
            if again.is_empty() {
                self.wishes.came.notified().await;
            }
            let live = self.session.live().await?;
            again.append(&mut self.wishes.take());
            let changes = std::mem::take(&mut again);
            let (read, failed) = self.read(&live.client, changes).await;
            let mut failures = failed;
            match runs(&live.client, &read).await {
                Ok(runs) => {
                    let (conflicts, failed) = self.write(&live.client, read, &runs).await;
                    again.extend(conflicts);
                    failures.extend(failed);
                }
                Err(error) => {
                    self.tell_failure(&error);
                    failures.extend(read.into_iter().map(|(change, _)| change));
                }
            }
            if !failures.is_empty() {
                tokio::time::sleep(RETRY).await;
            }
            again.extend(failures);
        }
    }

    async fn read(&self, client: &Client, changes: Vec<Change>) -> (Vec<ReadChange>, Vec<Change>) {
        let reads = changes.into_iter().map(|change| async move {
            let name = change.partition.name();
            let read = partitions::read(client, &name.topic, name.partition).await;
            (change, read)
        });
        let mut reads = futures_util::stream::iter(reads).buffer_unordered(AT_ONCE);
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        while let Some((change, read)) = reads.next().await {
            match read {
                Ok(state) => done.push((change, state)),
                Err(error) => {
                    self.tell_failure(&error);
                    failed.push(change);
                }
            }
        }
        (done, failed)
    }

    /// Decides and writes. Comes back: where somebody else wrote, and what failed.
    async fn write(
        &self,
        client: &Client,
        read: Vec<ReadChange>,
        live: &Runs,
    ) -> (Vec<Change>, Vec<Change>) {
        let writes = read.into_iter().map(|(change, state)| async move {
            let outcome = self.write_one(client, &change, state, live).await;
            (change, outcome)
        });
        let mut writes = futures_util::stream::iter(writes).buffer_unordered(AT_ONCE);
        let (mut conflicts, mut failed, mut found) = (Vec::new(), Vec::new(), Vec::new());
        let mut batch = Batch::default();
        while let Some((change, outcome)) = writes.next().await {
            match outcome {
                Ok(Some(state)) => {
                    batch.note(change.partition.name(), &state.kind);
                    found.push(state);
                }
                Ok(None) => conflicts.push(change),
                Err(error) => {
                    self.tell_failure(&error);
                    failed.push(change);
                }
            }
        }
        batch.tell();
        self.found(found);
        (conflicts, failed)
    }

    /// What the registry has in the end, the partition told; `None`: somebody else wrote meanwhile.
    async fn write_one(
        &self,
        client: &Client,
        Change { partition, wish }: &Change,
        read: Option<Versioned<PartitionState>>,
        live: &Runs,
    ) -> Result<Option<Found>, RegistryError> {
        let (name, id) = (partition.name(), partition.topic_id());
        let Some(Versioned { value: state, version, .. }) = read else {
            // Its topic is being removed.
            partition.isr_settled(wish.epoch, wish.version, &[], &[]);
            return Ok(Some(Found::nothing()));
        };
        let found = |state, version| FoundState { name: name.clone(), id, state, version };
        let minimum = partition.replication().map_or(1, |view| view.minimum);
        match decide(&state, wish, self.me, minimum, live) {
            Decision::NotLeader => {
                tracing::debug!(
                    partition = %name, epoch = %wish.epoch, leader = ?state.leader,
                    leader_epoch = %state.leader_epoch, "another leads; the ISR is not ours to change"
                );
                Ok(Some(Found { state: Some(found(state, version)), kind: Kind::NotOurs }))
            }
            Decision::ReadAgain => {
                tokio::time::sleep(RETRY).await;
                Ok(None)
            }
            Decision::AsItIs => {
                if !wish.joining.is_empty() {
                    // Another run is registered than the one that caught up: it wishes again, and
                    // would go on so until that one is known to be gone.
                    tokio::time::sleep(RETRY).await;
                }
                partition.isr_settled(wish.epoch, version, &state.isr, &state.electable);
                Ok(Some(Found { state: Some(found(state, version)), kind: Kind::AsItWas }))
            }
            Decision::Write(new) => {
                let (topic, number) = (&name.topic, name.partition);
                let written = partitions::set(client, topic, number, &new, version).await?;
                let Some(version) = written else { return Ok(None) };
                partition.isr_settled(wish.epoch, version, &new.isr, &new.electable);
                tracing::debug!(
                    partition = %name, from = ?state.isr, to = ?new.isr, electable = ?new.electable,
                    version, "ISR changed"
                );
                let kind = Kind::between(&state, &new);
                Ok(Some(Found { state: Some(found(new, version)), kind }))
            }
        }
    }

    /// Takes what was found into the image, and tells the controller what was written.
    fn found(&self, found: Vec<Found>) {
        let mut is_news = false;
        let mut states = Vec::new();
        for Found { state, kind } in found {
            let Some(state) = state else { continue };
            if matches!(kind, Kind::Changed { .. }) {
                self.states_changed.note(&state.name, state.id);
            }
            is_news |= state.state.leader != Some(self.me);
            states.push(state);
        }
        if !states.is_empty() {
            self.metadata.update(|image| image.found(states));
        }
        if is_news {
            self.image_changed.notify_one();
        }
    }

    fn tell_failure(&self, error: &RegistryError) {
        self.metrics.isr_update_failures.one();
        tracing::debug!(%error, "a change of an ISR waits");
    }
}

/// The end of a change.
struct Found {
    state: Option<FoundState>,
    kind: Kind,
}

impl Found {
    fn nothing() -> Self {
        Self { state: None, kind: Kind::AsItWas }
    }
}

/// The runs of the brokers that are to join somewhere, as they are registered now.
async fn runs(client: &Client, changes: &[ReadChange]) -> Result<Runs, RegistryError> {
    let joining: HashSet<BrokerId> = changes
        .iter()
        .flat_map(|(change, _)| change.wish.joining.iter().map(|replica| replica.broker_id))
        .collect();
    let mut live = Runs::new();
    for id in joining {
        if let Some(found) = brokers::read(client, id).await? {
            live.insert(id, found.value.incarnation);
        }
    }
    Ok(live)
}

/// What a wish means for the state that was read. Members that the wish does not have leave; those
/// it has join, unless they are another run than the one that caught up.
fn decide(
    state: &PartitionState,
    wish: &IsrWish,
    me: BrokerId,
    minimum: usize,
    live: &Runs,
) -> Decision {
    if state.leader_epoch < wish.epoch {
        return Decision::ReadAgain;
    }
    if state.leader != Some(me) || state.leader_epoch != wish.epoch {
        return Decision::NotLeader;
    }
    let without = wish.lost.iter().fold(state.clone(), |state, id| in_sync::lose(&state, *id));
    let leaving: Vec<BrokerId> =
        without.isr.iter().copied().filter(|id| !wish.isr.contains(id)).collect();
    let joining: Vec<BrokerId> = wish
        .joining
        .iter()
        .filter(|run| live.get(&run.broker_id) == Some(&run.incarnation))
        .map(|run| run.broker_id)
        .filter(|id| wish.isr.contains(id) && !without.isr.contains(id))
        .collect();
    let shrunk = in_sync::shrink(&without, &leaving, minimum);
    let new = in_sync::grow(&shrunk, &joining, minimum);
    if new == *state { Decision::AsItIs } else { Decision::Write(new) }
}

mod batch;
#[cfg(test)]
mod tests;
