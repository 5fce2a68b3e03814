//! The data under the lock.
//!
//! - A partition is in `partitions` exactly while it is assigned; its [`Positions`] are not
//!   stopped.
//! - `queued_bytes` is the sum over the queues; a queue's `bytes` the sum over its answers.
//! - `fetch` of a partition is the end of what is queued for it: an answer is accepted only if it
//!   begins there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;
use proto::{BrokerId, LeaderEpoch, Offset, TopicId, TopicPartition};

use super::StartAt;
use crate::event::Event;
use crate::positions::Positions;

/// Events kept for an application that does not take them.
const EVENTS_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(super) partitions: BTreeMap<TopicPartition, Assigned>,
    pub(super) queues: Vec<Queue>,
    pub(super) queued_bytes: u64,
    pub(super) events: VecDeque<Event>,
    events_dropped: u64,
    pub(super) closed: bool,
    /// Threads of the application that wait for records.
    pub(super) waiting: usize,
}

/// The broker that leads a partition, as the metadata say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) broker: BrokerId,
    pub(crate) epoch: LeaderEpoch,
}

/// An assigned partition.
#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) positions: Arc<Positions>,
    pub(super) topic_id: Option<TopicId>,
    pub(super) fetch: FetchFrom,
    pub(super) leader: Option<Leader>,
    pub(super) queue: usize,
    pub(super) problem: Option<Problem>,
    pub(super) high_watermark: Option<Offset>,
    pub(super) log_start: Option<Offset>,
    /// The metadata said once that the topic is not there.
    pub(super) missing_since: Option<Instant>,
    /// What was fetched from here did not hold.
    pub(super) doubt: Option<Doubt>,
}

/// A batch that did not hold when it was fetched so many times: the wire may have done it, so it is
/// fetched again; then the broker is asked to check its disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doubt {
    pub(super) offset: Offset,
    pub(super) times: u32,
}

/// Where the next answer must begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FetchFrom {
    /// To be asked of the leader. Followed by `At`.
    Unresolved(StartAt),
    /// Here. Followed by itself, `Lost`, `Parted` or `Halted`.
    At(Offset),
    /// The leader says that this is not in its log; what is, is asked of it. Followed by `At` or
    /// `Halted`.
    Lost(Offset),
    /// The leader's log has another history from here on. What was fetched is void; the reader, who knows
    /// what of it was handed out, decides. Followed by `At` or `Halted`.
    Parted(Offset),
    /// Nowhere until the application seeks (out of range with `auto.offset.reset=none`, damage) or
    /// the topic is there again. Left by a seek, which makes a new assignment entry.
    Halted,
}

/// Why a partition is not fetched now.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) why: String,
    pub(super) since: Instant,
    /// How many times it was reported.
    pub(super) reported: u32,
    /// Not tried before.
    pub(super) retry_at: Instant,
    pub(super) tries: u32,
    /// The leader it was last met with, if there was one.
    pub(super) leader: Option<Leader>,
}

/// Answers for one stream of the application.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) items: VecDeque<Item>,
    pub(super) bytes: u64,
    /// The partitions of this queue are not fetched: it is full. Set above its share, cleared below
    /// half of it.
    pub(super) full: bool,
    pub(super) waker: Option<Waker>,
    /// Nobody reads it any more.
    pub(super) abandoned: bool,
}

/// What is queued, in the order it is delivered.
#[derive(Debug)]
pub(super) enum Item {
    Answer(Fetched),
    /// An event that belongs between the records before and after it.
    Event(Arc<Positions>, Event),
    /// The leader's log parts from what was fetched: what to do, and to tell, the reader finds.
    Parted(Arc<Positions>),
}

/// One answer of one partition.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) positions: Arc<Positions>,
    pub(super) from: Offset,
    pub(super) next_offset: Offset,
    pub(super) chunks: Vec<Bytes>,
    pub(super) bytes: u64,
}

impl Item {
    pub(super) fn positions(&self) -> &Arc<Positions> {
        match self {
            Self::Answer(fetched) => &fetched.positions,
            Self::Event(positions, _) | Self::Parted(positions) => positions,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Answer(fetched) => fetched.bytes,
            Self::Event(..) | Self::Parted(_) => 0,
        }
    }
}

impl State {
    pub(super) fn push_event(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
            self.events_dropped += 1;
        }
        self.events.push_back(event);
    }

    pub(super) fn take_events(&mut self) -> Vec<Event> {
        let dropped = std::mem::take(&mut self.events_dropped);
        let lost = (dropped > 0).then_some(Event::EventsDropped(dropped));
        lost.into_iter().chain(self.events.drain(..)).collect()
    }

    pub(super) fn wake_tasks(&mut self) {
        self.queues.iter_mut().filter_map(|queue| queue.waker.take()).for_each(Waker::wake);
    }

    pub(super) fn push_item(&mut self, queue: usize, item: Item, share: u64) -> bool {
        let bytes = item.bytes();
        let queue = &mut self.queues[queue];
        queue.items.push_back(item);
        queue.bytes += bytes;
        self.queued_bytes += bytes;
        let became_full = !queue.full && queue.bytes >= share;
        queue.full |= became_full;
        became_full
    }

    /// Takes the item at `index`; true with it where the queue is no longer full.
    pub(super) fn remove_item(
        &mut self,
        queue: usize,
        index: usize,
        share: u64,
    ) -> (Option<Item>, bool) {
        let queue = &mut self.queues[queue];
        let Some(item) = queue.items.remove(index) else { return (None, false) };
        queue.bytes -= item.bytes();
        self.queued_bytes -= item.bytes();
        let has_room = queue.full && queue.bytes <= share / 2;
        queue.full &= !has_room;
        (Some(item), has_room)
    }

    /// Drops what is queued for stopped partitions.
    pub(super) fn drop_stopped(&mut self, share: u64) {
        for queue in &mut self.queues {
            queue.items.retain(|item| !item.positions().is_stopped());
            queue.bytes = queue.items.iter().map(Item::bytes).sum();
            queue.full &= queue.bytes > share / 2;
        }
        self.queued_bytes = self.queues.iter().map(|queue| queue.bytes).sum();
    }

    /// Drops what is queued for these positions: true where the queue is no longer full.
    pub(super) fn drop_items(&mut self, positions: &Arc<Positions>, share: u64) -> bool {
        let mut has_room = false;
        for queue in &mut self.queues {
            queue.items.retain(|item| !Arc::ptr_eq(item.positions(), positions));
            let bytes = queue.items.iter().map(Item::bytes).sum();
            has_room |= queue.full && bytes <= share / 2;
            queue.full &= bytes > share / 2;
            self.queued_bytes -= queue.bytes - bytes;
            queue.bytes = bytes;
        }
        has_room
    }

    /// The partition, if these positions are still the ones it is delivered under.
    pub(super) fn current(&mut self, positions: &Arc<Positions>) -> Option<&mut Assigned> {
        self.partitions
            .get_mut(&positions.partition)
            .filter(|assigned| Arc::ptr_eq(&assigned.positions, positions))
    }
}
