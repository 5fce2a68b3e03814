//! Message streams: the paper's blocking iterators that never end, and the same as an async
//! `Stream`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use proto::Offset;

use crate::error::ConsumerError;
use crate::positions::Positions;
use crate::record::Record;
use crate::shared::{Reader, Rest, Shared, Taken, Wait};

/// Records of the partitions that one stream of a group member owns.
///
/// As an iterator it blocks while there is nothing and ends only when the consumer is shut down. As
/// an async [`Stream`] it does the same for a task; use one of the two at a time.
///
/// A record counts as handled, and is committed automatically, when the next one is asked for, or
/// when the stream is dropped other than by a panic. A partition that moves to another member ends
/// between two records; what was handed out is committed before it moves.
///
/// Events (out of range, damage, …) are logged and taken with [`crate::Control::take_events`].
///
/// With `on.damage=stop` it also ends where it comes to offsets that cannot be read, and
/// [`MessageStream::failure`] says which. Asked for more all the same, it goes on with its other
/// partitions, and with that one after a seek.
#[derive(Debug)]
pub struct MessageStream {
    reader: Reader,
    batch: Option<Handing>,
    failure: Option<ConsumerError>,
}

/// A batch that was claimed and is being handed out.
#[derive(Debug)]
struct Handing {
    positions: Arc<Positions>,
    records: std::vec::IntoIter<Record>,
    /// The record handed out last is done below this.
    handed: Offset,
    end: Offset,
}

impl MessageStream {
    pub(crate) fn new(shared: Arc<Shared>, queue: usize) -> Self {
        Self { reader: Reader::new(shared, queue, false), batch: None, failure: None }
    }

    /// Why the stream ended, if not by the close of its consumer.
    pub fn failure(&self) -> Option<&ConsumerError> {
        self.failure.as_ref()
    }

    /// The next record if one is there, without waiting.
    pub fn try_next(&mut self) -> Option<Record> {
        self.step(Wait::No).ok().flatten()
    }

    /// The next record, waiting for it at most so long.
    pub fn next_within(&mut self, limit: std::time::Duration) -> Option<Record> {
        self.step(Wait::Until(std::time::Instant::now() + limit)).ok().flatten()
    }

    /// `Err`: the stream ends.
    fn step(&mut self, wait: Wait) -> Result<Option<Record>, End> {
        loop {
            if let Some(record) = self.next_of_batch() {
                return Ok(Some(record));
            }
            let taken = self.reader.take(wait);
            match self.absorb(taken) {
                Absorbed::Again => {}
                Absorbed::Nothing => return Ok(None),
                Absorbed::Ended => return Err(End),
            }
        }
    }

    /// The next record of the batch at hand; the one before it is done.
    #[inline]
    fn next_of_batch(&mut self) -> Option<Record> {
        let batch = self.batch.as_mut()?;
        batch.positions.finish(batch.handed);
        if batch.positions.is_paused() {
            self.put_back();
            return None;
        }
        if !batch.positions.is_void()
            && let Some(record) = batch.records.next()
        {
            batch.handed = record.offset.plus(1);
            batch.positions.hand_out(batch.handed);
            return Some(record);
        }
        self.end_batch();
        None
    }

    /// The partition was paused: what is left of the batch waits in the reader.
    fn put_back(&mut self) {
        let Some(Handing { positions, records, end, .. }) = self.batch.take() else { return };
        positions.abandon();
        if positions.is_stopped() {
            self.reader.shared.drained.notify_waiters();
        } else {
            self.reader.put_back(Rest { positions, records, end });
        }
    }

    fn begin(&mut self, Rest { positions, records, end }: Rest) {
        if !positions.is_parted() && positions.claim(end) {
            let handed = positions.next().unwrap_or_default();
            self.batch = Some(Handing { positions, records, handed, end });
        }
    }

    fn end_batch(&mut self) {
        let Some(batch) = self.batch.take() else { return };
        if !batch.positions.is_void() {
            batch.positions.hand_out(batch.end);
        }
        batch.positions.abandon();
        if batch.positions.is_stopped() {
            self.reader.shared.drained.notify_waiters();
        }
    }

    fn absorb(&mut self, taken: Taken) -> Absorbed {
        match taken {
            Taken::Batch(positions, batch) => {
                let (records, end) = self.reader.decode(&positions, &batch);
                self.begin(Rest { positions, records: records.into_iter(), end });
                Absorbed::Again
            }
            Taken::Rest(rest) => {
                self.begin(rest);
                Absorbed::Again
            }
            Taken::Event(event) => {
                let failure = event.failure();
                self.reader.shared.keep_event(event.tell());
                if failure.is_none() {
                    return Absorbed::Again;
                }
                self.failure = failure;
                Absorbed::Ended
            }
            Taken::Events | Taken::Nothing => Absorbed::Nothing,
            Taken::Closed => {
                self.failure = None;
                Absorbed::Ended
            }
        }
    }
}

struct End;

enum Absorbed {
    Again,
    Nothing,
    /// By the consumer's close, or a failure.
    Ended,
}

impl Iterator for MessageStream {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        loop {
            match self.step(Wait::Forever) {
                Ok(Some(record)) => return Some(record),
                Ok(None) => {}
                Err(End) => return None,
            }
        }
    }
}

impl Stream for MessageStream {
    type Item = Record;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Record>> {
        loop {
            if let Some(record) = self.next_of_batch() {
                return Poll::Ready(Some(record));
            }
            let Poll::Ready(taken) = self.reader.poll_take(cx) else { return Poll::Pending };
            if let Absorbed::Ended = self.absorb(taken) {
                return Poll::Ready(None);
            }
        }
    }
}

impl Drop for MessageStream {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let Some(batch) = self.batch.take() {
            batch.positions.abandon();
        }
        self.reader.shared.drained.notify_waiters();
    }
}
