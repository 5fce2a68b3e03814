//! Keeps every assigned partition fetched: finds its leader, resolves its start, runs a session for
//! each broker that leads something.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use proto::client::{ClientError, Cluster};
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
    shared: Arc<Shared>,
    cluster: Cluster,
    sessions: HashMap<BrokerId, JoinHandle<()>>,
    refreshed: Instant,
}

impl Fetcher {
    pub(crate) fn new(shared: Arc<Shared>, cluster: Cluster) -> Self {
        Self { shared, cluster, sessions: HashMap::new(), refreshed: Instant::now() }
    }

    /// Runs without end.
    pub(crate) async fn run(mut self) {
        loop {
            let next = self.find_leaders().await;
            self.resolve_starts().await;
            self.keep_sessions();
            let now = Instant::now();
            self.shared.report_stalls(now);
            let wake_at = next.unwrap_or(now + LOOK_EVERY).min(now + LOOK_EVERY);
            tokio::select! {
                () = self.shared.work.notified() => {}
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
        }
    }

    /// Looks up what has no leader; returns when the next is due.
    async fn find_leaders(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let (mut topics, next) = self.shared.topics_without_leader(now);
        if now.duration_since(self.refreshed) >= self.shared.config.metadata_max_age {
            self.refreshed = now;
            topics = self.shared.topics();
        }
        if topics.is_empty() {
            return next;
        }
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        match self.cluster.refresh(&names).await {
            Ok(metadata) => {
                for name in names {
                    let found = metadata.topic(name);
                    if let Some(error) = metadata.topic_error(name) {
                        self.shared.apply_metadata(name, Err(error));
                    } else if let Some(topic) = found {
                        self.shared.apply_metadata(name, Ok(topic));
                    }
                }
            }
            Err(error) => self.shared.metadata_failed(&topics, &error.to_string()),
        }
        self.shared.topics_without_leader(Instant::now()).1
    }

    /// Asks leaders where the partitions without a position begin.
    async fn resolve_starts(&self) {
        let mut by_broker: BTreeMap<BrokerId, Vec<Unresolved>> = BTreeMap::new();
        for unresolved in self.shared.unresolved() {
            by_broker.entry(unresolved.broker).or_default().push(unresolved);
        }
        let mut asked = Vec::with_capacity(by_broker.len());
        for (broker, list) in &by_broker {
            asked.push(self.resolve_at(*broker, list));
        }
        join_all(asked).await;
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

    /// One session a broker that leads something assigned.
    fn keep_sessions(&mut self) {
        let leaders: BTreeSet<BrokerId> = self.shared.leaders();
        for &broker in &leaders {
            let running = self.sessions.get(&broker).is_some_and(|task| !task.is_finished());
            if !running {
                let (shared, cluster) = (Arc::clone(&self.shared), self.cluster.clone());
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

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.sessions.values().for_each(JoinHandle::abort);
    }
}
