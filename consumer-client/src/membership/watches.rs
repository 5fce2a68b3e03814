//! What a member watches: the ids of its group, the topics that any member subscribes to, and the
//! plan. One task each a session; every change is read anew and reported whole.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use coordinator::rebalance::{Members, TopicInput, TopicPattern, Topics};
use coordinator::registry::plan::PlanError;
use coordinator::registry::{OneshotWatcher, RegistryError, consumers, plan, topics};
use coordinator::zk::Client;
use coordinator::zk::payload::Subscription;
use futures_util::StreamExt;
use futures_util::future::{join_all, pending};
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::member::{Input, Seen};
use super::zookeeper_group::Report;

const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Topics read side by side.
const SIDE_BY_SIDE: usize = 64;

type Reports = mpsc::UnboundedSender<Report>;

/// Reports the plan, now and at each change, until the session ends.
pub(super) async fn watch_plan(client: Client, group: String, reports: Reports) {
    loop {
        match plan::read_and_watch(&client, &group).await {
            Ok((agreed, watcher)) => {
                if reports.send(Report::Input(Input::Plan(agreed))).is_err() {
                    return;
                }
                watcher.changed().await;
            }
            Err(PlanError::Registry(RegistryError::SessionEnded { .. })) => return,
            Err(error) => {
                tracing::warn!(group, %error, "cannot read the group's plan");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

/// Reports members and topics, now and at each change, until the session ends.
pub(super) async fn watch_members(client: Client, group: String, reports: Reports) {
    loop {
        let error = match watch(&client, &group, &reports).await {
            Ok(()) => return,
            Err(RegistryError::SessionEnded { .. }) => return,
            Err(error) => error,
        };
        tracing::warn!(group, %error, "cannot read the group's members and topics");
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// `Ok`: nobody listens any more.
async fn watch(client: &Client, group: &str, reports: &Reports) -> Result<(), RegistryError> {
    let (members, watcher) = consumers::members_and_watch(client, group).await?;
    let mut members: Members = subscriptions(members);
    let mut members_changed = fires(watcher);
    let mut wanted = TopicsWatched::new(client);
    loop {
        let topics = wanted.bring_up_to_date(&members).await?;
        let seen = Seen { members: members.clone(), topics };
        if reports.send(Report::Input(Input::Seen(seen))).is_err() {
            return Ok(());
        }
        tokio::select! {
            () = &mut members_changed => {
                let (now, watcher) = consumers::members_and_watch(client, group).await?;
                members = subscriptions(now);
                members_changed = fires(watcher);
            }
            () = wanted.changed() => {}
        }
    }
}

fn subscriptions(members: BTreeMap<String, coordinator::zk::payload::Member>) -> Members {
    members.into_iter().map(|(id, member)| (id, member.subscription)).collect()
}

type Fires = Pin<Box<dyn Future<Output = ()> + Send>>;

fn fires(watcher: OneshotWatcher) -> Fires {
    Box::pin(async move { drop(watcher.changed().await) })
}

/// The topics that members subscribe to, each under a watch.
struct TopicsWatched<'a> {
    client: &'a Client,
    /// What stands in the nodes under a watch, also of topics that nobody wants any more.
    known: Topics,
    /// All names, where a pattern asks for them.
    names: Option<Vec<String>>,
    names_changed: Fires,
    watched: BTreeSet<String>,
    changes: FuturesUnordered<Pin<Box<dyn Future<Output = String> + Send>>>,
}

impl<'a> TopicsWatched<'a> {
    fn new(client: &'a Client) -> Self {
        Self {
            client,
            known: Topics::new(),
            names: None,
            names_changed: Box::pin(pending()),
            watched: BTreeSet::new(),
            changes: FuturesUnordered::new(),
        }
    }

    /// The topics that members want; reads those that are not under a watch.
    async fn bring_up_to_date(&mut self, members: &Members) -> Result<Topics, RegistryError> {
        let wanted = self.wanted(members).await?;
        let missing: Vec<String> =
            wanted.iter().filter(|name| !self.watched.contains(*name)).cloned().collect();
        for names in missing.chunks(SIDE_BY_SIDE) {
            let mut reads = Vec::with_capacity(names.len());
            for name in names {
                reads.push(topics::read_and_watch(self.client, name));
            }
            for (name, read) in names.iter().zip(join_all(reads).await) {
                let (topic, watcher) = read?;
                if let Some(topic) = topic {
                    let topic_id = topic.value.topic_id;
                    let partitions = topic.value.partitions.len() as u32;
                    self.known.insert(name.clone(), TopicInput { topic_id, partitions });
                }
                self.watched.insert(name.clone());
                let name = name.clone();
                self.changes.push(Box::pin(async move {
                    watcher.changed().await;
                    name
                }));
            }
        }
        let known = self.known.iter().filter(|(name, _)| wanted.contains(*name));
        Ok(known.map(|(name, topic)| (name.clone(), *topic)).collect())
    }

    async fn wanted(&mut self, members: &Members) -> Result<BTreeSet<String>, RegistryError> {
        let mut wanted = BTreeSet::new();
        let mut patterns = BTreeSet::new();
        for subscription in members.values() {
            match subscription {
                Subscription::Topics(topics) => wanted.extend(topics.keys().cloned()),
                Subscription::Pattern { regex, .. } => drop(patterns.insert(regex.as_str())),
            }
        }
        if patterns.is_empty() {
            self.names = None;
            self.names_changed = Box::pin(pending());
            return Ok(wanted);
        }
        let names = match self.names.take() {
            Some(names) => names,
            None => {
                let (names, watcher) = topics::names_and_watch(self.client).await?;
                self.names_changed = fires(watcher);
                names
            }
        };
        // A pattern that this program cannot read matches nothing; so the plan counts it, too.
        let patterns: Vec<TopicPattern> =
            patterns.into_iter().filter_map(|text| TopicPattern::new(text).ok()).collect();
        let matching = names.iter().filter(|name| patterns.iter().any(|p| p.matches(name)));
        wanted.extend(matching.cloned());
        self.names = Some(names);
        Ok(wanted)
    }

    /// Waits until something wanted has changed.
    async fn changed(&mut self) {
        tokio::select! {
            () = &mut self.names_changed => {
                self.names = None;
                self.names_changed = Box::pin(pending());
            }
            Some(name) = self.changes.next(), if !self.changes.is_empty() => {
                self.watched.remove(&name);
                self.known.remove(&name);
            }
        }
    }
}
