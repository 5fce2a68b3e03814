//! What the application gets: owned records, and whole batches whose records are borrowed.
//!
//! An owned record's key and value are slices of the memory they were received in (or decompressed
//! to), which stays as long as any of them does; [`Record::detach`] copies them out for keeping.

use std::sync::Arc;

use bytes::Bytes;
use proto::record::{BatchHeader, DecodedBatch, RecordError, RecordRef};
use proto::{Offset, Partition, TopicPartition};

/// One record, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: Partition,
    /// Its number in the partition.
    pub offset: Offset,
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// `None` is null, which is not empty.
    pub key: Option<Bytes>,
    /// `None` is null, which is not empty.
    pub value: Option<Bytes>,
    /// In the order they were sent, duplicates included.
    pub headers: Vec<Header>,
}

/// A name with a value beside a record's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub key: String,
    /// `None` is null, which is not empty.
    pub value: Option<Bytes>,
}

impl Record {
    /// The value, empty where it is null (the paper's `payload`).
    pub fn payload(&self) -> &[u8] {
        self.value.as_deref().unwrap_or_default()
    }

    /// Copies key, value and headers out of the received memory, for records that are kept long.
    #[must_use]
    pub fn detach(mut self) -> Self {
        let copy = |bytes: Option<Bytes>| bytes.map(|b| Bytes::copy_from_slice(&b));
        self.key = copy(self.key);
        self.value = copy(self.value);
        self.headers.iter_mut().for_each(|header| header.value = copy(header.value.take()));
        self
    }

    fn from_ref(tp: &TopicPartition, whole: &Bytes, record: &RecordRef<'_>) -> Self {
        Self {
            topic: Arc::clone(&tp.topic),
            partition: tp.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp,
            key: record.key.map(|key| whole.slice_ref(key)),
            value: record.value.map(|value| whole.slice_ref(value)),
            headers: record
                .headers
                .clone()
                .map(|header| Header {
                    key: header.key().into_owned(),
                    value: header.value().map(|value| whole.slice_ref(value)),
                })
                .collect(),
        }
    }
}

/// One batch as it was produced, in one piece of memory, its checksum verified; compressed records lie
/// decompressed beside it.
#[derive(Debug, Clone)]
pub struct RecordBatch {
    /// Shared by the batches of an answer.
    partition: Arc<TopicPartition>,
    /// As it came, where that is not what its records lie in. Seldom, so it takes little room.
    compressed: Option<Box<Bytes>>,
    decoded: DecodedBatch,
    /// Records below it are not delivered: a fetch may begin inside a batch.
    from: Offset,
}

impl RecordBatch {
    /// A batch that was checked. `from` is the first offset wanted.
    #[inline]
    pub(crate) fn new(
        partition: Arc<TopicPartition>,
        compressed: Option<Bytes>,
        decoded: DecodedBatch,
        from: Offset,
    ) -> Self {
        Self { partition, compressed: compressed.map(Box::new), decoded, from }
    }

    /// The topic and partition.
    #[inline]
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The batch's header; its offsets may begin below [`Self::first_offset`].
    #[inline]
    pub fn header(&self) -> &BatchHeader {
        self.decoded.header()
    }

    /// The whole batch as it was produced and stored, header included, compressed if it was.
    pub fn bytes(&self) -> &Bytes {
        self.compressed.as_deref().unwrap_or_else(|| self.decoded.block())
    }

    /// Bytes of memory it holds on to, its own included.
    #[inline]
    pub(crate) fn memory(&self) -> usize {
        let compressed = self.compressed.as_ref().map_or(0, |whole| whole.len());
        size_of::<Self>() + compressed + self.decoded.block().len()
    }

    /// The lowest offset that is delivered of this batch.
    pub fn first_offset(&self) -> Offset {
        self.from.max(self.header().base_offset)
    }

    /// The offset after the last record.
    #[inline]
    pub fn next_offset(&self) -> Offset {
        self.header().next_offset()
    }

    /// The records, borrowed. Those below the wanted offset are left out.
    #[inline]
    pub fn records(&self) -> impl Iterator<Item = Result<RecordRef<'_>, RecordError>> {
        let from = self.from;
        let wanted =
            move |r: &Result<RecordRef<'_>, _>| r.as_ref().map_or(true, |r| r.offset >= from);
        self.decoded.records().filter(wanted)
    }

    /// The records, owned. An error comes last, after the records that could be read.
    pub fn owned_records(&self) -> impl Iterator<Item = Result<Record, RecordError>> + '_ {
        self.records().map(|record| {
            record.map(|r| Record::from_ref(&self.partition, self.decoded.block(), &r))
        })
    }
}
