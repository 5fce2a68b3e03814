//! Which topics a member of a broker's group follows: those that the application wants, by name or by
//! pattern, and, where it leads the group, those of all members. What is known of them is compared with
//! what was: that makes rebalances, and tells of deletions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use coordinator::rebalance::{TopicInput, TopicPattern, Topics};

use super::broker_group::BrokerGroup;
use super::classic_member::Input;
use super::delivery;
use super::streams::Wanted;

/// A topic that is not told of any more counts as gone after so long: brokers learn of topics at
/// different moments.
const MISSING_IS_GONE: Duration = Duration::from_secs(1);
/// How often the names of all topics are asked for, where a pattern is to match them.
const NAMES_EVERY: Duration = Duration::from_secs(5);

impl BrokerGroup {
    pub(super) fn look_for_names(&mut self, now: Instant) {
        let by_pattern = matches!(self.streams.borrow().wanted(), Wanted::Pattern { .. });
        if by_pattern && now >= self.names_at {
            self.names_at = now + NAMES_EVERY.min(self.shared.config.metadata_max_age);
            let cluster = self.cluster.clone();
            // Where it fails it is asked for again.
            self.tasks.spawn(async move { drop(cluster.refresh_all().await) });
        }
    }

    /// Takes up what the application wants, as far as it is known by name.
    pub(super) fn subscribe(&mut self) -> bool {
        let wanted = self.streams.borrow_and_update().wanted().clone();
        let subscribed = match wanted {
            Wanted::Topics(topics) => topics,
            Wanted::Pattern { regex, streams } => {
                let pattern = TopicPattern::new(&regex).ok();
                let known = self.cluster.metadata();
                let names = known.topics().map(|topic| topic.name.to_string());
                let matches = |name: &String| pattern.as_ref().is_some_and(|p| p.matches(name));
                names.filter(matches).map(|name| (name, streams)).collect()
            }
        };
        let changed = subscribed != self.subscribed;
        self.subscribed = subscribed;
        self.cluster.watch(self.followed().cloned().collect());
        changed
    }

    fn followed(&self) -> impl Iterator<Item = &String> {
        self.subscribed.keys().chain(&self.led)
    }

    /// Compares what is known of the topics with what was.
    pub(super) fn follow_topics(&mut self, inputs: &mut Vec<Input>) {
        if self.subscribe() {
            inputs.push(Input::Resubscribed);
        }
        let topics = self.view();
        if topics != self.topics {
            let mut before = std::mem::replace(&mut self.topics, topics.clone());
            // Of what is not followed any more nothing is known.
            let followed: BTreeSet<&String> = self.followed().collect();
            before.retain(|name, _| followed.contains(name));
            delivery::tell_deletions(&self.shared, &before, &topics);
            inputs.push(Input::Topics(topics));
        }
    }

    /// The topics that are followed and exist.
    fn view(&mut self) -> Topics {
        let (known, now) = (self.cluster.metadata(), Instant::now());
        let followed: BTreeSet<String> = self.followed().cloned().collect();
        let mut topics = Topics::new();
        let mut missing = BTreeMap::new();
        for name in followed {
            if let Some(topic) = known.topic(&name) {
                let partitions = topic.partitions.len() as u32;
                topics.insert(name, TopicInput { topic_id: topic.id, partitions });
            } else if let Some(before) = self.topics.get(&name) {
                let since = self.missing_since.get(&name).copied().unwrap_or(now);
                if now.duration_since(since) < MISSING_IS_GONE {
                    topics.insert(name.clone(), *before);
                    missing.insert(name, since);
                }
            }
        }
        self.missing_since = missing;
        topics
    }

    /// What is known of a topic that is followed.
    pub(super) fn topic(&self, name: &str) -> Option<&TopicInput> {
        self.topics.get(name)
    }
}
