//! How the application takes records from one queue: one [`Reader`] a queue, on the application's
//! thread, decoding as it goes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use parking_lot::MutexGuard;
use proto::Offset;
use proto::record::BatchDecoder;

use super::Shared;
use super::state::{Fetched, Item, State};
use crate::decoder::{Damage, Decoder};
use crate::error::ConsumerError;
use crate::event::Event;
use crate::positions::Positions;
use crate::record::{Record, RecordBatch};

/// How long to wait for something to take.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wait {
    No,
    Until(Instant),
    Forever,
}

impl Wait {
    fn blocks(self) -> bool {
        match self {
            Self::No => false,
            Self::Until(deadline) => deadline > Instant::now(),
            Self::Forever => true,
        }
    }
}

/// What was taken.
#[derive(Debug)]
pub(crate) enum Taken {
    /// The next batch of a partition; not claimed yet.
    Batch(Arc<Positions>, RecordBatch),
    /// Records that were put back, when their partition goes on.
    Rest(Rest),
    /// An event in the order of the records.
    Event(InOrder),
    /// There are events that have no place among the records: [`Shared::take_events`].
    Events,
    /// Nothing within the time.
    Nothing,
    /// The consumer was closed.
    Closed,
}

/// Takes batches from one queue.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) shared: Arc<Shared>,
    queue: usize,
    /// Looks at the consumer's events too.
    with_events: bool,
    open: Option<Open>,
    /// Answers begun whose partition was paused meanwhile.
    set_aside: Vec<Open>,
    /// To be told when what was decoded before them has been taken.
    events: Vec<InOrder>,
    /// Opens compressed batches.
    unpack: BatchDecoder,
}

/// An answer being decoded.
#[derive(Debug)]
struct Open {
    positions: Arc<Positions>,
    next_offset: Offset,
    decoder: Decoder,
    /// Decoded already, before what the decoder gives.
    rest: Option<Rest>,
    /// The decoder ended with it, to be dealt with when all before it is taken.
    damage: Option<Damage>,
}

/// An event that comes after the records taken before it.
#[derive(Debug)]
pub(crate) struct InOrder {
    event: Event,
    positions: Arc<Positions>,
}

impl InOrder {
    /// To be called when everything taken before is done: where delivery jumps, the positions jump
    /// with it.
    pub(crate) fn tell(self) -> Event {
        let goes_on = match self.event {
            Event::OutOfRange { resume_at, .. } | Event::LogTruncated { resume_at, .. } => {
                resume_at
            }
            Event::Damaged { resume_at, skipped: true, .. } => resume_at,
            _ => None,
        };
        if let Some(offset) = goes_on.filter(|_| !self.positions.is_stopped()) {
            self.positions.begin_at(offset);
        }
        self.event
    }

    /// The partition was given up or sought meanwhile.
    pub(crate) fn is_stale(&self) -> bool {
        self.positions.is_stopped()
    }

    /// The event as the error it is, where the partition stops at it (`on.damage=stop`,
    /// `auto.offset.reset=none`).
    pub(crate) fn failure(&self) -> Option<ConsumerError> {
        match &self.event {
            Event::Damaged { partition, offset, resume_at, why, skipped: false } => {
                Some(ConsumerError::Damaged {
                    partition: partition.clone(),
                    offset: *offset,
                    resume_at: *resume_at,
                    why: why.clone(),
                })
            }
            Event::LogTruncated { partition, position, safe_offset, resume_at: None } => {
                Some(ConsumerError::LogTruncated {
                    partition: partition.clone(),
                    position: *position,
                    safe_offset: *safe_offset,
                })
            }
            _ => None,
        }
    }
}

/// Decoded records that are not handed out yet; not claimed.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(crate) positions: Arc<Positions>,
    pub(crate) records: std::vec::IntoIter<Record>,
    /// The offset after the last.
    pub(crate) end: Offset,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, queue: usize, with_events: bool) -> Self {
        let max = usize::try_from(shared.config.batch_decompressed_max_bytes);
        let unpack = BatchDecoder::new(max.unwrap_or(usize::MAX));
        Self {
            shared,
            queue,
            with_events,
            open: None,
            set_aside: Vec::new(),
            events: Vec::new(),
            unpack,
        }
    }

    /// The next batch or event, waiting for it on this thread.
    pub(crate) fn take(&mut self, wait: Wait) -> Taken {
        self.shared.taken.fetch_add(1, Ordering::Relaxed);
        loop {
            if let Some(taken) = self.take_opened() {
                return taken;
            }
            let shared = Arc::clone(&self.shared);
            let mut polls = wait.blocks() && !shared.config.busy_poll.is_zero();
            let mut state = shared.state.lock();
            loop {
                match self.look(&mut state) {
                    Look::Opened => break,
                    Look::Taken(taken) => return taken,
                    Look::Empty => {}
                }
                state.waiting += 1;
                if std::mem::take(&mut polls) {
                    let told = shared.tellings.load(Ordering::Acquire);
                    MutexGuard::unlocked(&mut state, || shared.poll_busily(told));
                    state.waiting -= 1;
                    continue;
                }
                let over = match wait {
                    Wait::No => true,
                    Wait::Forever => {
                        shared.readable.wait(&mut state);
                        false
                    }
                    Wait::Until(deadline) => {
                        shared.readable.wait_until(&mut state, deadline).timed_out()
                            && Instant::now() >= deadline
                    }
                };
                state.waiting -= 1;
                if over {
                    return Taken::Nothing;
                }
            }
        }
    }

    /// The same for a task.
    pub(crate) fn poll_take(&mut self, cx: &Context<'_>) -> Poll<Taken> {
        self.shared.taken.fetch_add(1, Ordering::Relaxed);
        loop {
            if let Some(taken) = self.take_opened() {
                return Poll::Ready(taken);
            }
            let shared = Arc::clone(&self.shared);
            let mut state = shared.state.lock();
            match self.look(&mut state) {
                Look::Opened => {}
                Look::Taken(taken) => return Poll::Ready(taken),
                Look::Empty => {
                    if let Some(queue) = state.queues.get_mut(self.queue) {
                        queue.waker = Some(cx.waker().clone());
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// The next batch of the answer that is being decoded.
    fn take_opened(&mut self) -> Option<Taken> {
        if let Some(event) = self.next_event() {
            return Some(Taken::Event(event));
        }
        if self.open.is_none() && !self.set_aside.is_empty() {
            self.set_aside.retain(|open| !open.positions.is_void());
            let ready = self.set_aside.iter().position(|open| !open.positions.is_paused());
            self.open = ready.map(|at| self.set_aside.remove(at));
        }
        let open = self.open.as_mut()?;
        if open.positions.is_void() {
            self.open = None;
            return None;
        }
        if open.positions.is_paused() {
            self.set_aside.extend(self.open.take());
            return None;
        }
        if let Some(rest) = open.rest.take() {
            return Some(Taken::Rest(rest));
        }
        let next = match open.damage.take() {
            Some(damage) => Err(damage),
            None => open.decoder.next_batch(&mut self.unpack),
        };
        match next {
            Ok(Some(batch)) => Some(Taken::Batch(Arc::clone(&open.positions), batch)),
            Ok(None) => {
                // What follows the last record (control batches, gaps) is passed over.
                let end = open.next_offset.max(open.decoder.wanted());
                if open.positions.next().is_some_and(|next| next < end) && open.positions.claim(end)
                {
                    open.positions.hand_out(end);
                    open.positions.abandon();
                }
                self.open = None;
                None
            }
            Err(damage) => {
                let open = self.open.take()?;
                let event = self.shared.damaged(&open.positions, damage)?;
                Some(Taken::Event(InOrder { event, positions: open.positions }))
            }
        }
    }

    /// Adds the next batches of the answer that is being decoded to `run`, up to `room` bytes, where it is of
    /// this partition and nothing stands before them. Returns the bytes they take.
    pub(crate) fn take_run_of(
        &mut self,
        positions: &Arc<Positions>,
        room: usize,
        run: &mut Vec<RecordBatch>,
    ) -> usize {
        let open = self.open.as_mut().filter(|open| Arc::ptr_eq(&open.positions, positions));
        let Some(open) = open.filter(|open| open.damage.is_none()) else { return 0 };
        let (bytes, damage) = open.decoder.next_run(&mut self.unpack, room, run);
        open.damage = damage;
        bytes
    }

    /// The first event that nothing of its partition waits before.
    fn next_event(&mut self) -> Option<InOrder> {
        self.events.retain(|event| !event.positions.is_stopped());
        let set_aside = &self.set_aside;
        let waits =
            |event: &InOrder| set_aside.iter().any(|o| Arc::ptr_eq(&o.positions, &event.positions));
        let at = self.events.iter().position(|event| !waits(event))?;
        Some(self.events.remove(at))
    }

    fn has_event(&self) -> bool {
        self.events.iter().any(|event| {
            let waits = |open: &Open| Arc::ptr_eq(&open.positions, &event.positions);
            !event.positions.is_stopped() && !self.set_aside.iter().any(waits)
        })
    }

    /// The records of a batch, owned, and the offset after what could be decoded. Where a record
    /// cannot be, the partition stands still from there, with an event.
    pub(crate) fn decode(
        &mut self,
        positions: &Arc<Positions>,
        batch: &RecordBatch,
    ) -> (Vec<Record>, Offset) {
        // The count is the peer's word: a bound for what is allocated on it.
        let mut records =
            Vec::with_capacity(batch.header().record_count.clamp(0, 1 << 14) as usize);
        for record in batch.owned_records() {
            match record {
                Ok(record) => records.push(record),
                Err(error) => {
                    let last = records.last().map(|record: &Record| record.offset.plus(1));
                    let offset = last.unwrap_or_else(|| batch.first_offset());
                    self.open = None;
                    let (resume_at, why) = (Some(batch.next_offset()), error.to_string());
                    let damage = Damage { offset, resume_at, why, is_doubtful: false };
                    let event = self.shared.damaged(positions, damage);
                    let positions = Arc::clone(positions);
                    self.events.extend(event.map(|event| InOrder { event, positions }));
                    return (records, offset);
                }
            }
        }
        (records, batch.next_offset())
    }

    /// Keeps decoded records of a paused partition until it goes on.
    pub(crate) fn put_back(&mut self, rest: Rest) {
        let open = self.open.take_if(|open| Arc::ptr_eq(&open.positions, &rest.positions));
        let mut open = open.unwrap_or_else(|| Open {
            positions: Arc::clone(&rest.positions),
            next_offset: rest.end,
            decoder: Decoder::new(
                rest.positions.partition.clone(),
                Vec::new(),
                rest.end,
                rest.end,
                false,
            ),
            rest: None,
            damage: None,
        });
        open.rest = Some(rest);
        self.set_aside.push(open);
    }

    /// The number of its queue.
    pub(crate) fn queue(&self) -> usize {
        self.queue
    }

    /// Looks for something to take under the lock.
    fn look(&mut self, state: &mut State) -> Look {
        if self.with_events && !state.events.is_empty() {
            return Look::Taken(Taken::Events);
        }
        let goes_on = self.set_aside.iter().any(|open| !open.positions.is_paused());
        if self.open.is_some() || goes_on || self.has_event() {
            return Look::Opened;
        }
        let share = self.shared.queue_share(state);
        while let Some(at) = state
            .queues
            .get(self.queue)
            .and_then(|queue| queue.items.iter().position(|item| self.may_take(item)))
        {
            let (item, has_room) = state.remove_item(self.queue, at, share);
            if has_room {
                self.shared.wants_changed();
            }
            match item {
                Some(item) if item.positions().is_stopped() => {}
                Some(Item::Answer(fetched)) => {
                    self.open = Some(self.opened(fetched));
                    return Look::Opened;
                }
                Some(Item::Event(positions, event)) => {
                    return Look::Taken(Taken::Event(InOrder { event, positions }));
                }
                Some(Item::Parted(positions)) => {
                    let event = self.shared.come_to_parting(state, &positions);
                    if let Some(event) = event {
                        return Look::Taken(Taken::Event(InOrder { event, positions }));
                    }
                }
                None => break,
            }
        }
        if state.closed { Look::Taken(Taken::Closed) } else { Look::Empty }
    }

    /// Not of a paused partition, nor overtaking what was set aside of the same one.
    fn may_take(&self, item: &Item) -> bool {
        let positions = item.positions();
        !positions.is_paused()
            && !self.set_aside.iter().any(|open| Arc::ptr_eq(&open.positions, positions))
    }

    fn opened(&self, fetched: Fetched) -> Open {
        let partition = fetched.positions.partition.clone();
        let check_crcs = self.shared.config.check_crcs;
        let (from, until) = (fetched.from, fetched.next_offset);
        Open {
            decoder: Decoder::new(partition, fetched.chunks, from, until, check_crcs),
            positions: fetched.positions,
            next_offset: fetched.next_offset,
            rest: None,
            damage: None,
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.abandon_queue(self.queue);
    }
}

enum Look {
    Opened,
    Taken(Taken),
    Empty,
}
