//! Keeps every assigned partition fetched: finds its leader, resolves its start, runs a session for
//! each broker that leads something.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::client::{ClientError, Cluster, Metadata};
use proto::{BrokerId, Offset};
use tokio::task::JoinHandle;

use super::lookup::{self, Query};
use super::session;
use crate::shared::{Shared, StartAt, Unresolved};

/// Between looks when nothing calls for one: stalls are reported by them.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// See the module. Dropping it ends all sessions.
#[derive(Debug)]
pub(crate) struct Fetcher {
    lookups: Lookups,
    sessions: HashMap<BrokerId, JoinHandle<()>>,
    /// Leaders being asked for starts; one that does not answer holds up its own partitions only.
    resolving: HashMap<BrokerId, JoinHandle<()>>,
    refreshing: Option<JoinHandle<()>>,
    refreshed: Instant,
    /// What was taken up of what is known of the cluster.
    applied: Arc<Metadata>,
}

/// What tasks of the fetcher ask the cluster.
#[derive(Debug, Clone)]
struct Lookups {
    shared: Arc<Shared>,
    cluster: Cluster,
}

impl Fetcher {
    pub(crate) fn new(shared: Arc<Shared>, cluster: Cluster) -> Self {
        Self {
            lookups: Lookups { shared, cluster },
            sessions: HashMap::new(),
            resolving: HashMap::new(),
            refreshing: None,
            refreshed: Instant::now(),
            applied: Arc::default(),
        }
    }

    /// Runs without end. Waits for nothing but changes: what it asks for, tasks do.
    pub(crate) async fn run(mut self) {
        let shared = Arc::clone(&self.lookups.shared);
        let mut known = self.lookups.cluster.subscribe();
        loop {
            self.lookups.cluster.watch(shared.topics());
            let metadata = Arc::clone(&known.borrow_and_update());
            self.take_up(&metadata);
            let next = self.find_leaders();
            self.resolve_starts();
            self.keep_sessions();
            let now = Instant::now();
            shared.report_stalls(now);
            let wake_at = next.unwrap_or(now + LOOK_EVERY).min(now + LOOK_EVERY);
            tokio::select! {
                Ok(()) = known.changed() => {}
                () = shared.work.notified() => {}
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
        }
    }

    /// Follows what has changed in what is known of the cluster, pushed or asked for.
    fn take_up(&mut self, metadata: &Arc<Metadata>) {
        let before = std::mem::replace(&mut self.applied, Arc::clone(metadata));
        if Arc::ptr_eq(&before, metadata) {
            return;
        }
        for name in self.lookups.shared.topics() {
            // Topics are replaced only where they change.
            if let Some(topic) = metadata.topic(&name) {
                if !before.topic(&name).is_some_and(|seen| Arc::ptr_eq(seen, topic)) {
                    self.lookups.shared.apply_metadata(&name, Ok(topic));
                }
            } else if let Some(error) = metadata.topic_error(&name)
                && before.topic_error(&name) != Some(error)
            {
                self.lookups.shared.apply_metadata(&name, Err(error));
            }
        }
    }

    /// Looks up what has no leader; returns when the next is due.
    fn find_leaders(&mut self) -> Option<Instant> {
        if self.refreshing.as_ref().is_some_and(|task| !task.is_finished()) {
            return None;
        }
        let shared = &self.lookups.shared;
        let now = Instant::now();
        let (mut topics, next) = shared.topics_without_leader(now);
        if now.duration_since(self.refreshed) >= shared.config.metadata_max_age {
            self.refreshed = now;
            topics = shared.topics();
        }
        if topics.is_empty() {
            return next;
        }
        self.refreshing = Some(tokio::spawn(self.lookups.clone().refresh(topics)));
        None
    }

    /// Asks leaders where the partitions without a position begin.
    fn resolve_starts(&mut self) {
        self.resolving.retain(|_, task| !task.is_finished());
        let mut by_broker: BTreeMap<BrokerId, Vec<Unresolved>> = BTreeMap::new();
        for unresolved in self.lookups.shared.unresolved() {
            by_broker.entry(unresolved.broker).or_default().push(unresolved);
        }
        for (broker, list) in by_broker {
            let lookups = self.lookups.clone();
            self.resolving.entry(broker).or_insert_with(|| {
                tokio::spawn(async move {
                    lookups.resolve_at(broker, &list).await;
                    lookups.shared.work.notify_one();
                })
            });
        }
    }

    /// One session a broker that leads something assigned.
    fn keep_sessions(&mut self) {
        let leaders: BTreeSet<BrokerId> = self.lookups.shared.leaders();
        for &broker in &leaders {
            let running = self.sessions.get(&broker).is_some_and(|task| !task.is_finished());
            if !running {
                let Lookups { shared, cluster } = self.lookups.clone();
                let task = tokio::spawn(session::run(shared, cluster, broker));
                self.sessions.insert(broker, task);
            }
        }
        // A broker that leads nothing for a moment (its stream broke) keeps its session: it waits.
        if !leaders.is_empty() {
            self.sessions.retain(|broker, task| {
                let keep = leaders.contains(broker);
                if !keep {
                    task.abort();
                }
                keep
            });
        }
    }
}

impl Lookups {
    /// Asks for topics whose partitions have no leader that is known to work.
    async fn refresh(self, topics: BTreeSet<String>) {
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        match self.cluster.refresh(&names).await {
            Ok(metadata) => {
                for name in names {
                    if let Some(error) = metadata.topic_error(name) {
                        self.shared.apply_metadata(name, Err(error));
                    } else if let Some(topic) = metadata.topic(name) {
                        self.shared.apply_metadata(name, Ok(topic));
                    }
                }
            }
            Err(error) => self.shared.metadata_failed(&topics, &error.to_string()),
        }
        self.shared.work.notify_one();
    }

    async fn resolve_at(&self, broker: BrokerId, unresolved: &[Unresolved]) {
        if let Err(error) = self.try_resolve(broker, unresolved).await {
            self.shared.broker_failed(broker, &error.to_string());
        }
    }

    async fn try_resolve(
        &self,
        broker: BrokerId,
        unresolved: &[Unresolved],
    ) -> Result<(), ClientError> {
        let is_lost = |one: &Unresolved| matches!(one.start, StartAt::Offset(_));
        let (lost, starts): (Vec<_>, Vec<_>) = unresolved.iter().cloned().partition(is_lost);
        self.resolve_lost(broker, &lost).await?;
        let mut after_the_last = Vec::new();
        for (one, answer) in starts.iter().zip(self.ask(broker, &starts, None).await?) {
            match answer {
                Ok(Some(offset)) => self.shared.resolved(&one.positions, offset),
                Ok(None) => after_the_last.push(one.clone()),
                Err(error) => self.shared.set_problem(&one.positions, error.message),
            }
        }
        // Every record is older than the time asked for: begin behind them.
        let ends = self.ask(broker, &after_the_last, Some(StartAt::End)).await?;
        for (one, answer) in after_the_last.iter().zip(ends) {
            match answer {
                Ok(offset) => self.shared.resolved(&one.positions, offset.unwrap_or_default()),
                Err(error) => self.shared.set_problem(&one.positions, error.message),
            }
        }
        Ok(())
    }

    /// For positions that are not in the log: what is.
    async fn resolve_lost(&self, broker: BrokerId, lost: &[Unresolved]) -> Result<(), ClientError> {
        let starts = self.ask(broker, lost, Some(StartAt::Beginning)).await?;
        let ends = self.ask(broker, lost, Some(StartAt::End)).await?;
        for (one, (start, end)) in lost.iter().zip(starts.into_iter().zip(ends)) {
            let StartAt::Offset(wanted) = one.start else { continue };
            match (start, end) {
                (Ok(start), Ok(end)) => {
                    let (start, end) = (start.unwrap_or_default(), end.unwrap_or_default());
                    self.shared.out_of_range(&one.positions, wanted, start, end);
                }
                (Err(error), _) | (_, Err(error)) => {
                    self.shared.set_problem(&one.positions, error.message);
                }
            }
        }
        Ok(())
    }

    async fn ask(
        &self,
        broker: BrokerId,
        unresolved: &[Unresolved],
        start: Option<StartAt>,
    ) -> Result<Vec<Result<Option<Offset>, proto::v1::Error>>, ClientError> {
        if unresolved.is_empty() {
            return Ok(Vec::new());
        }
        let queries: Vec<Query> = unresolved
            .iter()
            .map(|one| Query {
                partition: one.positions.partition.clone(),
                topic_id: one.topic_id,
                start: start.unwrap_or(one.start),
            })
            .collect();
        lookup::ask(&self.cluster, broker, &queries).await
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        let tasks = self.sessions.values().chain(self.resolving.values()).chain(&self.refreshing);
        tasks.for_each(JoinHandle::abort);
    }
}
