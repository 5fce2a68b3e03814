//! Which member reads which topic, with how many streams.

use std::collections::BTreeMap;

use super::{Members, TopicInput, TopicPattern, Topics};
use crate::zk::payload::Subscription;

/// A subscription ready to be asked.
enum Wanted<'a> {
    Topics(&'a BTreeMap<String, u32>),
    /// `None`: a pattern that this program cannot read matches nothing.
    Pattern(Option<TopicPattern>, u32),
}

/// The subscriptions of all members, ready to be asked; members are known by their rank.
pub(super) struct Subscribed<'a>(Vec<Wanted<'a>>);

impl<'a> Subscribed<'a> {
    pub(super) fn new(members: &'a Members) -> Self {
        let wanted = members.values().map(|subscription| match subscription {
            Subscription::Topics(topics) => Wanted::Topics(topics),
            Subscription::Pattern { regex, streams } => {
                Wanted::Pattern(TopicPattern::new(regex).ok(), *streams)
            }
        });
        Self(wanted.collect())
    }

    /// The streams that the member of this rank reads a topic with; 0 when it does not.
    ///
    /// Streams above the number of partitions could own nothing; leaving them out changes no
    /// assignment, and bounds what a member can make the others compute.
    pub(super) fn streams(&self, rank: usize, name: &str, topic: &TopicInput) -> u32 {
        let streams = match &self.0[rank] {
            Wanted::Topics(topics) => topics.get(name).copied().unwrap_or(0),
            Wanted::Pattern(Some(pattern), streams) if pattern.matches(name) => *streams,
            Wanted::Pattern(..) => 0,
        };
        streams.min(topic.partitions)
    }

    /// The topics that any member reads.
    pub(super) fn topics<'t>(&self, topics: &'t Topics) -> Vec<(&'t String, &'t TopicInput)> {
        let by_anyone = |(name, topic): &(&String, &TopicInput)| {
            (0..self.0.len()).any(|rank| self.streams(rank, name, topic) > 0)
        };
        topics.iter().filter(by_anyone).collect()
    }
}
