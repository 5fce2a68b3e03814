//! One term of the active controller: the task that owns the state and takes the events.
//!
//! A term begins with reading everything and clearing up what an earlier controller left, and ends
//! when another controller is seen, or when our session may have expired by its lease. Nothing is
//! kept beyond it. Events are taken one at a time; a write whose outcome is not known is followed by
//! reading everything anew, and the request is then decided again: its id tells whether it is done.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::balance::Balance;
use super::commands::Defaults;
use super::decision::{Decision, Refusal};
use super::deletion;
use super::due::Due;
use super::election_calls::Then;
use super::event::{Command, Event, Reply};
use super::fence::{CommitError, FencedWriter};
use super::link::Links;
use super::outbox::{Delta, Sender};
use super::picture;
use super::reassignment;
use super::removals::Removals;
use super::requests::RequestId;
use super::state::{Cluster, Step};
use super::waiting::WaitingDeletions;
use crate::registry::configs::Kind;
use crate::registry::{RegistryError, brokers};
use crate::zk::Live;

/// Before ZooKeeper is asked again after it failed.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long an answer waits for the brokers to hear of the change.
const HEAR_MAX: Duration = Duration::from_millis(1_500);
/// So often a request is decided anew after an unknown outcome.
const ATTEMPTS: usize = 3;

/// Why a term ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TermEnd {
    /// Another controller was elected.
    Deposed,
    /// The session is over, or may be by our clock.
    LeaseOver,
    /// This process stops.
    Stopped,
}

/// The active controller.
pub(crate) struct Term {
    pub(super) writer: FencedWriter,
    pub(super) cluster: Cluster,
    pub(super) defaults: Defaults,
    pub(super) links: Links,
    pub(super) due: Due<Then>,
    pub(super) balance: Option<Balance>,
    pub(super) next_balance: Option<Instant>,
    pub(super) waiting: WaitingDeletions,
    removals: Removals,
    pub(super) looks: reassignment::Looks,
}

/// Decides on the picture that is passed in.
type Decide<'a> = Box<dyn Fn(&Cluster) -> Result<Decision, Refusal> + Send + Sync + 'a>;

/// One subject of a request: its name in the record of finished requests, and the decision on it.
pub(super) struct Item<'a> {
    pub(super) subject: String,
    pub(super) decide: Decide<'a>,
}

impl Term {
    /// Begins a term: nothing is read yet.
    pub(crate) fn new(
        writer: FencedWriter,
        address: &str,
        defaults: Defaults,
        balance: Option<Balance>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let sender = Sender { controller_epoch: writer.epoch(), address: address.to_owned() };
        Self {
            writer,
            cluster: Cluster::default(),
            defaults,
            links: Links::new(sender, events),
            due: Due::default(),
            balance,
            next_balance: balance.map(|balance| Instant::now() + balance.interval),
            waiting: WaitingDeletions::default(),
            removals: Removals::default(),
            looks: reassignment::Looks::default(),
        }
    }

    /// Acts until the term ends.
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<Event>) -> TermEnd {
        let lease_over = lease_over(self.writer.live().clone());
        tokio::pin!(lease_over);
        tokio::select! {
            biased;
            () = &mut lease_over => return TermEnd::LeaseOver,
            read = self.read_everything() => if let Err(end) = read { return end },
        }
        self.finish_deletions();
        if let Err(end) = self.advance_reassignments().await {
            return end;
        }
        loop {
            let taken = tokio::select! {
                biased;
                () = &mut lease_over => return TermEnd::LeaseOver,
                taken = self.turn(&mut events) => taken,
            };
            if let Err(end) = taken {
                return end;
            }
        }
    }

    /// A chunk of elections where some are due, then what comes next: neither keeps the other
    /// waiting for long.
    async fn turn(&mut self, events: &mut mpsc::Receiver<Event>) -> Result<(), TermEnd> {
        let now = Instant::now();
        if self.due.ready_at(now).is_some_and(|at| at <= now) {
            self.hold_elections().await?;
        }
        let next_answer = self.waiting.next_deadline();
        let next_elections = self.due.ready_at(Instant::now());
        let event = tokio::select! {
            biased;
            () = at(self.next_balance) => {
                self.balance();
                return Ok(());
            }
            () = at(next_answer) => {
                self.waiting.answer(&self.cluster, Instant::now());
                return Ok(());
            }
            () = at(self.looks.next()) => return self.look_at_reassignments().await,
            Some((name, result)) = self.removals.next() => return self.removed(name, result),
            event = events.recv() => event,
            () = at(next_elections) => return Ok(()),
        };
        match event {
            Some(event) => self.handle(event).await,
            None => Err(TermEnd::Stopped),
        }
    }

    async fn handle(&mut self, event: Event) -> Result<(), TermEnd> {
        match event {
            Event::Look(look) => look(&self.cluster),
            Event::Brokers(brokers) => self.brokers_changed(brokers),
            Event::Dropped { broker, incarnation, topics } => {
                let same = self.cluster.brokers.get(&broker);
                if same.is_some_and(|live| live.incarnation == incarnation) {
                    for (topic, id) in topics {
                        let meant = self.cluster.deletions.get(&topic).is_some_and(|d| d.id == id);
                        if meant {
                            self.cluster.apply(Step::DroppedBy(topic, broker));
                        }
                    }
                }
            }
            Event::NewerController(epoch) if epoch > self.writer.epoch() => {
                tracing::warn!(epoch, own = self.writer.epoch(), "a newer controller is active");
                return Err(TermEnd::Deposed);
            }
            Event::NewerController(_) => {}
            Event::StatesChanged(request, reply) => self.states_changed(request, reply),
            Event::ControlledShutdown(request, reply) => self.controlled_shutdown(&request, reply),
            Event::Command(id, command) => self.command(&id, command).await?,
        }
        self.finish_deletions();
        self.advance_reassignments().await
    }

    async fn command(&mut self, id: &RequestId, command: Command) -> Result<(), TermEnd> {
        match command {
            Command::CreateTopics(request, reply) => {
                let results = self.create_topics(id, &request).await?;
                self.answer_when_heard(reply, results);
            }
            Command::DeleteTopics(request, reply) => self.delete_topics(id, request, reply).await?,
            Command::CreatePartitions(request, reply) => {
                let results = self.create_partitions(id, &request).await?;
                self.answer_when_heard(reply, results);
            }
            Command::AlterConfigs(kind, request, reply) => {
                let response = self.alter_configs(id, kind, &request).await?;
                if kind == Kind::Topic {
                    self.look_at_topic(&request.name);
                }
                self.answer_when_heard(reply, response);
            }
            Command::AlterReassignments(request, reply) => {
                let response = self.alter_reassignments(id, &request).await?;
                self.answer_when_heard(reply, response);
            }
            Command::DeleteGroup(request, reply) => {
                let _ = reply.send(self.delete_group(id, &request).await?);
            }
            Command::ResetOffsets(request, reply) => {
                let _ = reply.send(self.reset_offsets(id, &request).await?);
            }
            Command::ElectLeaders(request, reply) => self.elect_leaders(&request, reply),
        }
        Ok(())
    }

    /// Answers once the live brokers know: who creates a topic can use it at once. It is decided
    /// whatever they say, so nobody waits for long.
    pub(super) fn answer_when_heard<T: Send + 'static>(&self, reply: Reply<T>, answer: T) {
        let unheard = self.links.unheard();
        tokio::spawn(async move {
            unheard.heard_within(HEAR_MAX).await;
            // An answer that nobody waits for any more is dropped.
            let _ = reply.send(answer);
        });
    }

    fn brokers_changed(&mut self, brokers: super::state::Brokers) {
        if brokers == self.cluster.brokers {
            return;
        }
        let ids: Vec<i32> = brokers.keys().map(|id| id.0).collect();
        tracing::info!(live = ?ids, "brokers changed");
        let before = self.cluster.brokers.clone();
        self.cluster.apply(Step::Brokers(brokers));
        self.look_after(&before);
        let live = Delta::live_brokers(&self.cluster);
        self.links.tell(&live);
        self.links.follow(&self.cluster.brokers, &self.first_update());
    }

    /// Tells every broker.
    pub(super) fn tell(&self, delta: &Delta) {
        self.links.tell(delta);
    }

    /// What a broker is told first; the rest it reads itself. Deletions are told again, for it may
    /// have read the registry before they were marked.
    fn first_update(&self) -> Delta {
        let mut first = Delta::live_brokers(&self.cluster);
        for (name, deletion) in &self.cluster.deletions {
            first.merge(&deletion::told(name, deletion.id));
        }
        first
    }

    /// Reads the picture and clears up what was left unfinished, as often as it takes.
    pub(super) async fn read_everything(&mut self) -> Result<(), TermEnd> {
        loop {
            match self.try_read().await {
                Ok(()) => return Ok(()),
                Err(CommitError::Deposed) => return Err(TermEnd::Deposed),
                Err(CommitError::TermOver) => return Err(TermEnd::LeaseOver),
                Err(error) => tracing::warn!(%error, "cannot read the registry yet"),
            }
            if !self.writer.live().lease_valid() {
                return Err(TermEnd::LeaseOver);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn try_read(&mut self) -> Result<(), CommitError> {
        let found = picture::read(&self.writer.live().client).await.map_err(from_registry)?;
        for topic in &found.unfinished {
            tracing::info!(topic, "removing what an unfinished creation or deletion left");
            self.writer.remove_topic(topic).await?;
        }
        self.writer.commit(&found.repairs()).await?;
        let mut before = std::mem::replace(&mut self.cluster, found.cluster);
        self.cluster.min_insync_default = self.defaults.min_insync_replicas;
        for (id, incarnation) in std::mem::take(&mut before.leaving) {
            if self.cluster.brokers.get(&id).is_some_and(|b| b.incarnation == incarnation) {
                self.cluster.apply(Step::Leaving(id, incarnation));
            }
        }
        self.survey();
        self.links.follow(&self.cluster.brokers, &self.first_update());
        // After a lost answer brokers may miss what happened: they are told all of it.
        self.links.tell(&Delta::everything(&before, &self.cluster));
        tracing::info!(
            topics = self.cluster.topics.len(),
            brokers = self.cluster.brokers.len(),
            deletions = self.cluster.deletions.len(),
            epoch = self.writer.epoch(),
            "registry read"
        );
        Ok(())
    }

    /// Carries out the items of a request; the answers in order.
    pub(super) async fn carry_out(
        &mut self,
        id: &RequestId,
        items: &[Item<'_>],
    ) -> Result<Vec<Result<(), Refusal>>, TermEnd> {
        let mut results: Vec<Option<Result<(), Refusal>>> = vec![None; items.len()];
        for attempt in 1..=ATTEMPTS {
            match self.try_items(id, items, &mut results).await {
                Ok(()) => break,
                Err(CommitError::Deposed) => return Err(TermEnd::Deposed),
                Err(CommitError::TermOver) => return Err(TermEnd::LeaseOver),
                Err(error) => {
                    tracing::warn!(%error, attempt, "write not known to have happened; reading anew");
                    self.read_everything().await?;
                }
            }
        }
        Ok(results.into_iter().map(|result| result.unwrap_or_else(|| Err(not_written()))).collect())
    }

    /// Decides each item on the picture that the ones before it leave, and writes as many as fit into
    /// one transaction at a time.
    async fn try_items(
        &mut self,
        id: &RequestId,
        items: &[Item<'_>],
        results: &mut [Option<Result<(), Refusal>>],
    ) -> Result<(), CommitError> {
        let mut ahead = self.cluster.clone();
        let mut batch = Decision::default();
        let mut in_batch = Vec::new();
        for (i, item) in items.iter().enumerate() {
            if results[i].is_some() {
                continue;
            }
            if self.cluster.finished.has(id, &item.subject) {
                results[i] = Some(Ok(()));
                continue;
            }
            match (item.decide)(&ahead) {
                Err(refusal) => results[i] = Some(Err(refusal)),
                Ok(decision) => {
                    if !in_batch.is_empty() && !batch.takes(&decision) {
                        self.commit(id, std::mem::take(&mut batch)).await?;
                        in_batch.drain(..).for_each(|done: usize| results[done] = Some(Ok(())));
                    }
                    decision.steps.iter().for_each(|step| ahead.apply(step.clone()));
                    batch.push(decision);
                    in_batch.push(i);
                }
            }
        }
        if !in_batch.is_empty() {
            self.commit(id, batch).await?;
            in_batch.into_iter().for_each(|done| results[done] = Some(Ok(())));
        }
        Ok(())
    }

    /// Writes a decision together with the record of its request, changes the picture, tells.
    pub(super) async fn commit(
        &mut self,
        id: &RequestId,
        decision: Decision,
    ) -> Result<(), CommitError> {
        let Decision { mut writes, steps, delta, done } = decision;
        let mut finished = self.cluster.finished.with(id, done);
        writes.push(finished.write().map_err(|error| CommitError::Conflict(error.to_string()))?);
        self.writer.commit(&writes).await?;
        finished.version += 1;
        self.cluster.finished = finished;
        steps.into_iter().for_each(|step| self.cluster.apply(step));
        self.links.tell(&delta);
        Ok(())
    }

    /// Starts to remove the topics whose deletion waits for nobody any more, and answers who asked
    /// for those that are gone.
    fn finish_deletions(&mut self) {
        for name in deletion::ready(&self.cluster) {
            if self.removals.start(&name) {
                let writer = self.writer.clone();
                self.removals.push(name, Duration::ZERO, writer);
            }
        }
        self.waiting.answer(&self.cluster, Instant::now());
    }

    /// A removal ended.
    fn removed(&mut self, name: String, result: Result<(), CommitError>) -> Result<(), TermEnd> {
        match result {
            Ok(()) => {
                tracing::info!(topic = name, "topic deleted");
                self.removals.forget(&name);
                let removed = deletion::removed(&self.cluster, &name);
                removed.steps.into_iter().for_each(|step| self.cluster.apply(step));
                self.links.tell(&removed.delta);
                self.waiting.answer(&self.cluster, Instant::now());
                Ok(())
            }
            Err(CommitError::Deposed) => Err(TermEnd::Deposed),
            Err(CommitError::TermOver) => Err(TermEnd::LeaseOver),
            Err(error) => {
                tracing::warn!(topic = name, %error, "deletion not finished; trying again");
                self.removals.push(name, RETRY_PAUSE, self.writer.clone());
                Ok(())
            }
        }
    }
}

pub(super) fn from_registry(error: RegistryError) -> CommitError {
    crate::registry::FencedError::from(error).into()
}

pub(super) fn not_written() -> Refusal {
    Refusal::new(
        proto::ErrorCode::RequestTimedOut,
        "the registry did not take the change: its answers were lost, or something else than the \
         controller writes to the nodes of topics",
        "try again; if it stays, see the controller's log",
    )
}

/// Resolves when the session is not certain to be alive any more.
async fn lease_over(live: Live) {
    loop {
        let remaining = live.lease.remaining();
        if remaining.is_zero() {
            return;
        }
        tokio::time::sleep(remaining).await;
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Reports the live brokers as they change, until the session or the term ends.
pub(crate) async fn watch_brokers(live: Live, events: mpsc::Sender<Event>) {
    loop {
        match brokers::list_and_watch(&live.client).await {
            Ok((brokers, changed)) => {
                if events.send(Event::Brokers(brokers)).await.is_err() {
                    return;
                }
                changed.changed().await;
            }
            Err(RegistryError::SessionEnded { .. }) => return,
            Err(error) => {
                tracing::warn!(%error, "cannot read the live brokers yet");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}
