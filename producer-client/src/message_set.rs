//! The paper's message set: messages of one topic sent as one request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use proto::{Offset, Partition};

use crate::batch::Receipt;
use crate::blocking::block_on;
use crate::error::SendError;
use crate::record::{Record, RecordMetadata};

/// Messages in order, kept in one buffer. A set goes to one partition: the one it names, else the one
/// of its key, else the sticky one.
///
/// ```
/// use producer_client::MessageSet;
///
/// let mut set = MessageSet::new();
/// set.push("first").push("second");
/// assert_eq!(set.len(), 2);
/// ```
#[derive(Debug, Clone, Default)]
pub struct MessageSet {
    buffer: Vec<u8>,
    /// End of each message in `buffer`.
    ends: Vec<usize>,
    key: Option<Box<[u8]>>,
    pub(crate) partition: Option<Partition>,
}

impl MessageSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// A set whose messages all have this key.
    pub fn with_key(key: impl AsRef<[u8]>) -> Self {
        Self { key: Some(key.as_ref().into()), ..Self::default() }
    }

    /// A set for this partition.
    pub fn for_partition(partition: Partition) -> Self {
        Self { partition: Some(partition), ..Self::default() }
    }

    /// Adds a message.
    pub fn push(&mut self, payload: impl AsRef<[u8]>) -> &mut Self {
        self.buffer.extend_from_slice(payload.as_ref());
        self.ends.push(self.buffer.len());
        self
    }

    /// How many messages it has.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Removes the messages and keeps the memory.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.ends.clear();
    }

    pub(crate) fn record<'a>(
        &'a self,
        topic: &'a str,
        index: usize,
        partition: Option<Partition>,
    ) -> Option<Record<'a>> {
        let begin = match index.checked_sub(1) {
            None => 0,
            Some(before) => *self.ends.get(before)?,
        };
        let value = self.buffer.get(begin..*self.ends.get(index)?)?;
        let key = self.key.as_deref();
        Some(Record { topic, partition, timestamp: None, key, value: Some(value), headers: &[] })
    }
}

/// The records of a set that are in one batch.
#[derive(Debug)]
pub(crate) struct SetPart {
    first: Receipt,
    /// Where the last one is, if there is more than one.
    last: Option<Receipt>,
    count: usize,
}

impl SetPart {
    /// Adds a record, to the last part if it is in the same batch.
    pub(crate) fn add(parts: &mut Vec<Self>, receipt: Receipt) {
        match parts.last_mut() {
            Some(last) if Arc::ptr_eq(&last.first.completion, &receipt.completion) => {
                last.count += 1;
                last.last = Some(receipt);
            }
            _ => parts.push(Self { first: receipt, last: None, count: 1 }),
        }
    }

    pub(crate) fn partition(&self) -> Partition {
        self.first.completion.partition()
    }
}

/// Where a set is, once acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetMetadata {
    /// The partition.
    pub partition: Partition,
    /// Offset of the first message; `None` where the broker does not tell.
    pub first_offset: Option<Offset>,
    /// Offset of the last message. Messages of other senders may lie between where the set took more
    /// than one batch.
    pub last_offset: Option<Offset>,
    /// How many messages.
    pub count: usize,
}

/// Becomes a set's place in the log; fails if any of its messages does.
#[derive(Debug)]
#[must_use = "await it or call `wait`; dropping it does not recall the set"]
pub struct SetFuture {
    parts: Vec<SetPart>,
    next: usize,
    first: Option<RecordMetadata>,
    last_offset: Option<Offset>,
    failed: Option<SendError>,
}

impl SetFuture {
    pub(crate) fn new(parts: Vec<SetPart>) -> Self {
        Self { parts, next: 0, first: None, last_offset: None, failed: None }
    }

    pub(crate) fn failed(error: SendError) -> Self {
        Self { failed: Some(error), ..Self::new(Vec::new()) }
    }

    /// Waits on a plain thread.
    pub fn wait(self) -> Result<SetMetadata, SendError> {
        block_on(self)
    }
}

impl Future for SetFuture {
    type Output = Result<SetMetadata, SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(error) = &this.failed {
            return Poll::Ready(Err(error.clone()));
        }
        while let Some(part) = this.parts.get_mut(this.next) {
            for receipt in [Some(&mut part.first), part.last.as_mut()].into_iter().flatten() {
                let metadata = match receipt.poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(metadata)) => metadata,
                };
                this.first.get_or_insert(metadata);
                this.last_offset = metadata.offset;
            }
            this.next += 1;
        }
        let count = this.parts.iter().map(|part| part.count).sum();
        let first = this.first;
        Poll::Ready(Ok(SetMetadata {
            partition: first.map_or(-1, |first| first.partition),
            first_offset: first.and_then(|first| first.offset),
            last_offset: this.last_offset,
            count,
        }))
    }
}
