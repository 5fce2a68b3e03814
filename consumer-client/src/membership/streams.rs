//! Which queue of the application a stream of the plan flows into, and the subscription that
//! follows.

use std::collections::BTreeMap;

use coordinator::zk::payload::Subscription as Registered;

use crate::subscription::Subscription;

/// What a member registers.
pub(crate) type Wanted = Registered;

/// The message streams of a member, or the one queue of its polls.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    wanted: Wanted,
    queues: BTreeMap<String, Vec<usize>>,
    /// For topics that are not named: those that match a pattern.
    others: Vec<usize>,
}

impl Streams {
    /// Everything flows into one queue.
    pub(crate) fn one(subscription: &Subscription, queue: usize) -> Self {
        Self::of(subscription, &[queue])
    }

    /// A subscription whose topics (each) flow into these queues.
    pub(crate) fn of(subscription: &Subscription, queues: &[usize]) -> Self {
        let count = queues.len() as u32;
        match subscription {
            Subscription::Topics(topics) => Self {
                wanted: Wanted::Topics(topics.keys().map(|t| (t.clone(), count)).collect()),
                queues: topics.keys().map(|topic| (topic.clone(), queues.to_vec())).collect(),
                others: Vec::new(),
            },
            Subscription::Pattern { text, .. } => Self {
                wanted: Wanted::Pattern { regex: text.clone(), streams: count },
                queues: BTreeMap::new(),
                others: queues.to_vec(),
            },
        }
    }

    /// These and those of another subscription by name; `None` where one of both is by pattern.
    pub(crate) fn and(&self, more: &Self) -> Option<Self> {
        let (Wanted::Topics(a), Wanted::Topics(b)) = (&self.wanted, &more.wanted) else {
            return None;
        };
        let wanted = a.iter().chain(b).map(|(topic, count)| (topic.clone(), *count)).collect();
        let queues = self.queues.iter().chain(&more.queues);
        let queues = queues.map(|(topic, queues)| (topic.clone(), queues.clone())).collect();
        Some(Self { wanted: Wanted::Topics(wanted), queues, others: Vec::new() })
    }

    /// How many streams share a topic.
    pub(crate) fn count(&self, topic: &str) -> u32 {
        self.queues.get(topic).unwrap_or(&self.others).len() as u32
    }

    /// What to register.
    pub(crate) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// The queue of a stream. A stream that is not there any more flows into the first: the plan
    /// that knows of the change is on its way.
    pub(crate) fn queue(&self, topic: &str, stream: u32) -> usize {
        let queues = self.queues.get(topic).unwrap_or(&self.others);
        let queue = queues.get(stream as usize).or(queues.first());
        queue.copied().unwrap_or(0)
    }
}
