//! A batch's fate, shared by the futures of its records.
//!
//! A record's future is an `Arc` of its batch's [`Completion`] and an index: sending allocates
//! nothing a record.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proto::record::BatchBuilder;
use proto::{Offset, Partition};

use crate::blocking::{block_on, block_on_polling};
use crate::error::SendError;
use crate::record::RecordMetadata;

/// How a batch ended.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// Appended; `base_offset` and `append_time_ms` are -1 where not known.
    Done { base_offset: i64, append_time_ms: i64 },
    /// Not acknowledged.
    Failed(SendError),
    /// Its records went on in smaller batches: the index of each one's first record, ascending from 0.
    Split(Vec<(i32, Arc<Completion>)>),
}

/// Set once, by the sender; read by any number of futures.
#[derive(Debug)]
pub(crate) struct Completion {
    partition: Partition,
    outcome: OnceLock<Outcome>,
    wakers: Mutex<Vec<Waker>>,
}

impl Completion {
    pub(crate) fn new(partition: Partition) -> Arc<Self> {
        Arc::new(Self { partition, outcome: OnceLock::new(), wakers: Mutex::new(Vec::new()) })
    }

    /// Sets the outcome and wakes who waits. The first outcome stands; false for a later one.
    pub(crate) fn complete(&self, outcome: Outcome) -> bool {
        if self.outcome.set(outcome).is_err() {
            return false;
        }
        // A future registers under this lock after it found no outcome, so none is missed.
        let wakers = std::mem::take(&mut *self.wakers.lock());
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.outcome.get().is_some()
    }

    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.outcome.get()
    }

    pub(crate) fn partition(&self) -> Partition {
        self.partition
    }

    /// Registers `cx`, reusing the place `slot` of an earlier poll.
    fn poll(&self, slot: &mut Option<usize>, cx: &Context<'_>) -> Poll<&Outcome> {
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        let mut wakers = self.wakers.lock();
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        match slot.and_then(|slot| wakers.get_mut(slot)) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => {
                *slot = Some(wakers.len());
                wakers.push(cx.waker().clone());
            }
        }
        Poll::Pending
    }
}

/// A batch that records are or were added to, not yet sent.
#[derive(Debug)]
pub(crate) struct OpenBatch {
    pub(crate) builder: BatchBuilder,
    pub(crate) completion: Arc<Completion>,
    pub(crate) opened: Instant,
    /// The same in milliseconds since the epoch: records behind the first are not stamped earlier.
    pub(crate) opened_ms: i64,
    /// What it counts for among the full ones: 0 while it is open.
    pub(crate) ahead: usize,
    /// What it took from `buffer.memory`.
    pub(crate) charged: usize,
}

/// A record's place in its batch.
#[derive(Debug)]
pub(crate) struct Receipt {
    pub(crate) completion: Arc<Completion>,
    pub(crate) index: i32,
    pub(crate) timestamp: i64,
    pub(crate) slot: Option<usize>,
}

impl Receipt {
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<RecordMetadata, SendError>> {
        loop {
            let outcome = match self.completion.poll(&mut self.slot, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(outcome) => outcome,
            };
            let (first, part) = match outcome {
                Outcome::Failed(error) => return Poll::Ready(Err(error.clone())),
                &Outcome::Done { base_offset, append_time_ms } => {
                    return Poll::Ready(Ok(self.place(base_offset, append_time_ms)));
                }
                Outcome::Split(parts) => {
                    let at = parts.partition_point(|(first, _)| *first <= self.index);
                    match at.checked_sub(1).and_then(|at| parts.get(at)) {
                        Some((first, part)) => (*first, Arc::clone(part)),
                        None => return Poll::Ready(Err(SendError::Closed { in_doubt: true })),
                    }
                }
            };
            (self.index, self.completion, self.slot) = (self.index - first, part, None);
        }
    }

    fn place(&self, base_offset: i64, append_time_ms: i64) -> RecordMetadata {
        RecordMetadata {
            partition: self.completion.partition,
            offset: (base_offset >= 0).then(|| Offset(base_offset).plus(i64::from(self.index))),
            timestamp: if append_time_ms >= 0 { append_time_ms } else { self.timestamp },
        }
    }
}

/// Where a record that waits in line learns that it was taken.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    state: Mutex<AdmissionState>,
}

#[derive(Debug, Default)]
struct AdmissionState {
    /// For the record's future.
    result: Option<Result<Receipt, SendError>>,
    /// For flushes: decided, and the batch if there is one.
    decided: Option<Option<Arc<Completion>>>,
    wakers: Vec<Waker>,
}

impl AdmissionState {
    fn register(&mut self, cx: &Context<'_>) {
        if !self.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.wakers.push(cx.waker().clone());
        }
    }
}

impl Admission {
    pub(crate) fn decide(&self, result: Result<Receipt, SendError>) {
        let wakers = {
            let mut state = self.state.lock();
            let completion = result.as_ref().ok().map(|receipt| Arc::clone(&receipt.completion));
            state.decided = Some(completion);
            state.result = Some(result);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Result<Receipt, SendError>> {
        let mut state = self.state.lock();
        match state.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                state.register(cx);
                Poll::Pending
            }
        }
    }

    fn poll_decided(&self, cx: &Context<'_>) -> Poll<Option<Arc<Completion>>> {
        let mut state = self.state.lock();
        match &state.decided {
            Some(completion) => Poll::Ready(completion.clone()),
            None => {
                state.register(cx);
                Poll::Pending
            }
        }
    }
}

/// Becomes the record's place in the log. Dropping it does not recall the record.
///
/// Many records share a batch and so a completion: awaiting one more of them is cheap.
#[derive(Debug)]
#[must_use = "without the future nobody learns whether the record arrived: use `send_detached`"]
pub struct SendFuture {
    state: State,
    /// How long a blocked thread looks for the outcome before it sleeps.
    busy_poll: Duration,
}

#[derive(Debug)]
enum State {
    InLine(Arc<Admission>),
    InBatch(Receipt),
    Failed(SendError),
}

impl SendFuture {
    pub(crate) fn in_line(admission: Arc<Admission>) -> Self {
        Self::new(State::InLine(admission))
    }

    pub(crate) fn in_batch(receipt: Receipt) -> Self {
        Self::new(State::InBatch(receipt))
    }

    pub(crate) fn failed(error: SendError) -> Self {
        Self::new(State::Failed(error))
    }

    fn new(state: State) -> Self {
        Self { state, busy_poll: Duration::ZERO }
    }

    /// The same for a producer with this `busy.poll.us`.
    pub(crate) fn polling(self, busy_poll: Duration) -> Self {
        Self { busy_poll, ..self }
    }

    fn poll_accepted(&mut self, cx: &Context<'_>) -> Poll<Result<(), SendError>> {
        if let State::InLine(admission) = &self.state {
            match admission.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(receipt)) => self.state = State::InBatch(receipt),
                Poll::Ready(Err(error)) => self.state = State::Failed(error),
            }
        }
        Poll::Ready(match &self.state {
            State::Failed(error) => Err(error.clone()),
            _ => Ok(()),
        })
    }

    /// Waits until the record is in a batch: at once unless `buffer.memory` is full or the topic is
    /// not known yet. This is the back-pressure of code that does not await every record.
    pub async fn accepted(&mut self) -> Result<(), SendError> {
        std::future::poll_fn(|cx| self.poll_accepted(cx)).await
    }

    /// The same on a plain thread.
    pub fn wait_accepted(&mut self) -> Result<(), SendError> {
        match &self.state {
            State::InBatch(_) => Ok(()),
            _ => block_on(self.accepted()),
        }
    }

    pub(crate) fn into_receipt(self) -> Option<Receipt> {
        match self.state {
            State::InBatch(receipt) => Some(receipt),
            _ => None,
        }
    }

    /// Waits for the acknowledgement on a plain thread. Inside an async task, await instead.
    pub fn wait(self) -> Result<RecordMetadata, SendError> {
        let span = self.busy_poll;
        block_on_polling(self, span)
    }
}

impl Future for SendFuture {
    type Output = Result<RecordMetadata, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.poll_accepted(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {}
        }
        match &mut self.state {
            State::InBatch(receipt) => receipt.poll(cx),
            _ => Poll::Pending,
        }
    }
}

/// Waits for the end of what stood in line and of these batches, whatever it is.
pub(crate) async fn ended(line: Vec<Arc<Admission>>, mut batches: Vec<Arc<Completion>>) {
    for admission in line {
        batches.extend(std::future::poll_fn(|cx| admission.poll_decided(cx)).await);
    }
    while let Some(completion) = batches.pop() {
        let mut slot = None;
        std::future::poll_fn(|cx| completion.poll(&mut slot, cx).map(|_| ())).await;
        if let Some(Outcome::Split(parts)) = completion.outcome.get() {
            batches.extend(parts.iter().map(|(_, part)| Arc::clone(part)));
        }
    }
}
