//! Taking records by poll: what a poll hands out, and what becomes of it at the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::Offset;

use super::Consumer;
use crate::error::ConsumerError;
use crate::event::Event;
use crate::positions::Positions;
use crate::record::{Record, RecordBatch};
use crate::shared::{InOrder, Rest, Taken, Wait};

/// Whole batches of one poll are taken up to so many bytes: what was just checked is still in the
/// second-level cache when its records are read.
const BATCHES_BYTES: usize = 256 << 10;

/// What a poll took: events first, then what was read after them. Both are empty where there was
/// nothing within the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Polled<T> {
    /// What happened.
    pub events: Vec<Event>,
    /// Records or batches, in the order of their offsets within a partition.
    pub items: Vec<T>,
}

impl<T> Polled<T> {
    fn new(events: Vec<Event>) -> Self {
        Self { events, items: Vec::new() }
    }

    /// Neither events nor items.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.items.is_empty()
    }
}

impl Consumer {
    /// Takes up to `max.poll.records` records, waiting at most `timeout` for the first.
    ///
    /// With `on.damage=stop` it fails where it comes to offsets that cannot be read
    /// ([`ConsumerError::Damaged`]), once; that partition stands still until a seek.
    ///
    /// Records count as handled, and are committed automatically, when the next poll begins.
    pub fn poll(&mut self, timeout: Duration) -> Result<Polled<Record>, ConsumerError> {
        let deadline = Instant::now() + timeout;
        let mut polled = self.begin_poll()?;
        loop {
            self.hand_out_rest(&mut polled.items);
            if polled.items.len() >= self.control.shared.config.max_poll_records {
                return Ok(polled);
            }
            let wait = if polled.is_empty() { Wait::Until(deadline) } else { Wait::No };
            let taken = self.take(wait);
            if self.absorb(taken, &mut polled)? {
                return Ok(polled);
            }
        }
    }

    /// The same for a task; waits without end for the first record or event.
    pub async fn poll_async(&mut self) -> Result<Polled<Record>, ConsumerError> {
        let mut polled = self.begin_poll()?;
        loop {
            self.hand_out_rest(&mut polled.items);
            if polled.items.len() >= self.control.shared.config.max_poll_records {
                return Ok(polled);
            }
            let taken =
                if polled.is_empty() { self.take_async().await } else { self.take(Wait::No) };
            if self.absorb(taken, &mut polled)? {
                return Ok(polled);
            }
        }
    }

    /// Takes whole batches, whose records can be borrowed: the fastest way to read. Waits at most
    /// `timeout` for the first.
    pub fn poll_batches(
        &mut self,
        timeout: Duration,
    ) -> Result<Polled<RecordBatch>, ConsumerError> {
        let deadline = Instant::now() + timeout;
        let mut polled = self.begin_poll()?;
        let mut bytes = 0;
        loop {
            let wait = if polled.is_empty() { Wait::Until(deadline) } else { Wait::No };
            match self.take(wait) {
                Taken::Batch(positions, batch) => {
                    let room = BATCHES_BYTES.saturating_sub(bytes);
                    bytes += self.claim_run(positions, batch, room, &mut polled.items);
                    if bytes >= BATCHES_BYTES {
                        return Ok(polled);
                    }
                }
                other => {
                    if self.absorb(other, &mut polled)? {
                        return Ok(polled);
                    }
                }
            }
        }
    }

    /// Hands out `first` and the batches behind it, up to `room` bytes, as one: the others may stop the
    /// partition only before or after all of them. Returns the bytes they take.
    fn claim_run(
        &mut self,
        positions: Arc<Positions>,
        first: RecordBatch,
        room: usize,
        batches: &mut Vec<RecordBatch>,
    ) -> usize {
        let before = batches.len();
        if before == 0 {
            batches.reserve(self.batches_before);
        }
        let mut bytes = first.memory();
        batches.push(first);
        if let Some(reader) = self.reader.as_mut() {
            bytes += reader.take_run_of(&positions, room.saturating_sub(bytes), batches);
        }
        let end = batches.last().map_or(Offset(0), RecordBatch::next_offset);
        if positions.is_void() || !positions.claim(end) {
            batches.truncate(before);
            return 0;
        }
        positions.hand_out(end);
        self.note_handed(positions);
        self.batches_before = batches.len();
        bytes
    }

    /// What the last poll handed out is done; an event held back comes first now.
    fn begin_poll<T>(&mut self) -> Result<Polled<T>, ConsumerError> {
        self.settle();
        self.reader_queue();
        let after = self.after.take().filter(|event| !event.is_stale());
        if let Some(failure) = after.as_ref().and_then(InOrder::failure) {
            return Err(failure);
        }
        Ok(Polled::new(after.into_iter().map(InOrder::tell).collect()))
    }

    pub(super) fn settle(&mut self) {
        let mut stopped = false;
        for positions in self.handed.drain(..) {
            positions.abandon();
            stopped |= positions.is_stopped();
        }
        if stopped {
            self.control.shared.drained.notify_waiters();
        }
    }

    fn take(&mut self, wait: Wait) -> Taken {
        self.reader.as_mut().map_or(Taken::Closed, |reader| reader.take(wait))
    }

    async fn take_async(&mut self) -> Taken {
        match self.reader.as_mut() {
            Some(reader) => std::future::poll_fn(|cx| reader.poll_take(cx)).await,
            None => Taken::Closed,
        }
    }

    /// True: the poll is over.
    fn absorb<T>(&mut self, taken: Taken, polled: &mut Polled<T>) -> Result<bool, ConsumerError> {
        match taken {
            Taken::Batch(positions, batch) => {
                self.decode(positions, &batch);
                Ok(false)
            }
            Taken::Rest(rest) => {
                self.rest = Some(rest);
                Ok(false)
            }
            Taken::Event(event) if polled.is_empty() && event.failure().is_some() => {
                event.failure().map_or(Ok(true), Err)
            }
            Taken::Event(event) if polled.items.is_empty() && event.failure().is_none() => {
                polled.events.push(event.tell());
                Ok(false)
            }
            Taken::Event(event) => {
                self.after = Some(event);
                Ok(true)
            }
            Taken::Events => {
                polled.events.extend(self.control.shared.take_events());
                Ok(false)
            }
            Taken::Nothing => Ok(true),
            Taken::Closed if polled.is_empty() => Err(ConsumerError::Closed),
            Taken::Closed => Ok(true),
        }
    }

    fn decode(&mut self, positions: Arc<Positions>, batch: &RecordBatch) {
        let Some(reader) = self.reader.as_mut() else { return };
        let (records, end) = reader.decode(&positions, batch);
        self.rest = Some(Rest { positions, records: records.into_iter(), end });
    }

    /// Hands out decoded records up to `max.poll.records`.
    fn hand_out_rest(&mut self, items: &mut Vec<Record>) {
        let rest = self.rest.take().filter(|rest| !rest.positions.is_parted());
        let Some(mut rest) = rest else { return };
        if rest.positions.is_paused() && !rest.positions.is_stopped() {
            if let Some(reader) = self.reader.as_mut() {
                reader.put_back(rest);
            }
            return;
        }
        let room = self.control.shared.config.max_poll_records.saturating_sub(items.len());
        let left = rest.records.as_slice();
        let end = match left.get(room) {
            Some(next) => next.offset,
            None => rest.end,
        };
        if !rest.positions.claim(end) {
            return;
        }
        items.extend(rest.records.by_ref().take(room));
        rest.positions.hand_out(end);
        self.note_handed(Arc::clone(&rest.positions));
        if rest.records.len() > 0 {
            self.rest = Some(rest);
        }
    }

    fn note_handed(&mut self, positions: Arc<Positions>) {
        if !self.handed.last().is_some_and(|last| Arc::ptr_eq(last, &positions)) {
            self.handed.push(positions);
        }
    }
}
