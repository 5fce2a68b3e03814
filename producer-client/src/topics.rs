//! The topics that sending threads know, and how a record finds its partition.
//!
//! Looking a topic up for every record would cost more than encoding the record: two locks, a hash
//! and their cache lines. So each thread remembers the topics it sent to last, with the partitions
//! they had then. A topic counts its changes; what a thread remembers holds while the count does.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use proto::Partition;

use crate::accumulator::PartitionQueue;
use crate::partitioner::Sticky;

/// Topics that a thread remembers, of all producers it uses.
const REMEMBERED: usize = 8;

thread_local! {
    static REMEMBER: RefCell<[Option<Remembered>; REMEMBERED]> = const {
        RefCell::new([const { None }; REMEMBERED])
    };
}

/// A topic as a thread saw it last.
#[derive(Debug)]
struct Remembered {
    /// Whose topic it is.
    topics: u64,
    version: u64,
    topic: Arc<Topic>,
    routes: Arc<Routes>,
}

/// A topic as sending threads see it.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    pub(crate) sticky: Sticky,
    routes: RwLock<Arc<Routes>>,
    /// Counts the changes of `routes`.
    version: AtomicU64,
}

/// A topic's partitions. Replaced by the sender when metadata changes; partitions are never taken
/// away.
#[derive(Debug, Default, Clone)]
pub(crate) struct Routes {
    /// By partition number.
    pub(crate) queues: Vec<Arc<PartitionQueue>>,
    /// Partitions that have a leader.
    pub(crate) available: Vec<Partition>,
}

/// See the module. Topics are added, never removed.
#[derive(Debug)]
pub(crate) struct Topics {
    /// Tells producers apart in what threads remember; an address would be used again.
    number: u64,
    by_name: RwLock<HashMap<Arc<str>, Arc<Topic>>>,
    turn_bytes: u64,
}

impl Topics {
    /// None yet. A sticky partition takes `turn_bytes` before the next is drawn.
    pub(crate) fn new(turn_bytes: u64) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Self { number, by_name: RwLock::default(), turn_bytes }
    }

    /// Hands `f` the topic and its partitions, at least one; `None` where it is not known.
    #[inline]
    pub(crate) fn with<R>(&self, name: &str, f: impl FnOnce(&Topic, &Routes) -> R) -> Option<R> {
        // A thread that ends has forgotten already, and `f` may be called while `f` is: both look up.
        let mut f = Some(f);
        let remembered = REMEMBER.try_with(|slots| {
            let mut slots = slots.try_borrow_mut().ok()?;
            let slot = slots.get_mut(slot_of(name))?;
            let found = match slot {
                Some(seen) if seen.is(self.number, name) => seen,
                _ => slot.insert(self.look_up(name)?),
            };
            f.take().map(|f| f(&found.topic, &found.routes))
        });
        match remembered {
            Ok(Some(result)) => Some(result),
            _ => {
                let found = self.look_up(name)?;
                f.map(|f| f(&found.topic, &found.routes))
            }
        }
    }

    #[cold]
    fn look_up(&self, name: &str) -> Option<Remembered> {
        let topic = Arc::clone(self.by_name.read().get(name)?);
        // Before the routes: a change in between is seen by the next record.
        let version = topic.version.load(Ordering::Acquire);
        let routes = Arc::clone(&topic.routes.read());
        let topics = self.number;
        (!routes.queues.is_empty()).then_some(Remembered { topics, version, topic, routes })
    }

    /// The topic, made empty if it is new.
    pub(crate) fn topic(&self, name: &str) -> Arc<Topic> {
        if let Some(topic) = self.by_name.read().get(name) {
            return Arc::clone(topic);
        }
        let name: Arc<str> = name.into();
        let topic = Arc::new(Topic {
            name: Arc::clone(&name),
            sticky: Sticky::new(self.turn_bytes),
            routes: RwLock::default(),
            version: AtomicU64::new(0),
        });
        self.by_name.write().insert(name, Arc::clone(&topic));
        topic
    }
}

impl Remembered {
    #[inline]
    fn is(&self, topics: u64, name: &str) -> bool {
        self.topics == topics
            && *self.topic.name == *name
            && self.version == self.topic.version.load(Ordering::Acquire)
    }
}

/// Where a thread remembers a topic: names mostly differ in length or at the end.
#[inline]
fn slot_of(name: &str) -> usize {
    (name.len() + usize::from(name.as_bytes().last().copied().unwrap_or(0))) % REMEMBERED
}

impl Topic {
    /// Changes what sending threads see.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Routes)) {
        let mut current = self.routes.write();
        let mut routes = Routes::clone(&current);
        let before = std::mem::take(&mut routes.available);
        change(&mut routes);
        let left = before.into_iter().filter(|p| !routes.available.contains(p));
        let left: Vec<Partition> = left.collect();
        *current = Arc::new(routes);
        self.version.fetch_add(1, Ordering::Release);
        left.into_iter().for_each(|partition| self.sticky.leave(partition));
    }
}

impl Routes {
    /// A random partition that has a leader; any where none has.
    pub(crate) fn draw(&self) -> Partition {
        match self.available.as_slice() {
            [] => fastrand::i32(0..self.queues.len().max(1) as i32),
            available => available[fastrand::usize(..available.len())],
        }
    }

    /// Of two random partitions the one with fewer full batches waiting, `last` only if there is no
    /// other: a slow broker gets less.
    pub(crate) fn draw_shorter(&self, last: Partition) -> Partition {
        let backlog = |partition: Partition| {
            usize::try_from(partition)
                .ok()
                .and_then(|p| self.queues.get(p))
                .map_or(usize::MAX, |queue| queue.backlog())
        };
        let drawn = [self.draw(), self.draw(), self.draw()];
        let others = drawn.into_iter().filter(|&partition| partition != last);
        others.min_by_key(|&partition| backlog(partition)).unwrap_or(drawn[0])
    }
}

#[cfg(test)]
mod tests {
    use proto::TopicPartition;

    use super::*;

    fn partitions(topics: &Topics, name: &str) -> Option<usize> {
        topics.with(name, |topic, routes| {
            assert_eq!(&*topic.name, name);
            routes.queues.len()
        })
    }

    fn add(topics: &Topics, name: &str, partition: Partition) {
        let queue = PartitionQueue::new(TopicPartition::new(name, partition), 0);
        topics.topic(name).update(|routes| routes.queues.push(queue));
    }

    #[test]
    fn changes_are_seen_at_once_and_producers_are_told_apart() {
        let (ours, others) = (Topics::new(100), Topics::new(100));
        assert_eq!(partitions(&ours, "a"), None);
        ours.topic("a");
        assert_eq!(partitions(&ours, "a"), None);
        add(&ours, "a", 0);
        assert_eq!(partitions(&ours, "a"), Some(1));
        assert_eq!(partitions(&others, "a"), None);
        add(&others, "a", 0);
        add(&others, "a", 1);
        assert_eq!((partitions(&others, "a"), partitions(&ours, "a")), (Some(2), Some(1)));
        add(&ours, "a", 1);
        assert_eq!(partitions(&ours, "a"), Some(2));
    }

    #[test]
    fn where_no_partition_has_a_leader_any_is_drawn() {
        let topics = Topics::new(100);
        (0..3).for_each(|partition| add(&topics, "a", partition));
        for _ in 0..100 {
            let drawn = topics.with("a", |_, routes| routes.draw_shorter(-1)).unwrap();
            assert!((0..3).contains(&drawn), "{drawn}");
        }
    }

    #[test]
    fn more_topics_than_are_remembered_and_one_inside_the_other() {
        let topics = Topics::new(100);
        let names: Vec<String> = (0..50).map(|i| format!("topic-{i}")).collect();
        names.iter().for_each(|name| add(&topics, name, 0));
        for name in names.iter().chain(&names) {
            assert_eq!(partitions(&topics, name), Some(1));
        }
        let inner = topics.with("topic-1", |_, _| partitions(&topics, "topic-2"));
        assert_eq!(inner, Some(Some(1)));
    }
}
