//! What is sent, and what comes back for it.

use proto::record::Header;
use proto::{Offset, Partition};

/// A record to be sent. It borrows: `send` encodes it straight into a batch, so nothing of it needs
/// to outlive the call.
///
/// ```
/// use producer_client::{Header, Record};
///
/// let headers = [Header::new("source", Some(b"web-1"))];
/// let record = Record::to("clicks").key("user-7").value("{}").headers(&headers);
/// assert_eq!(record.key, Some(&b"user-7"[..]));
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Record<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// Where it must go; `None` leaves it to the partitioner.
    pub partition: Option<Partition>,
    /// Milliseconds since the epoch; `None` means now: the first record of a batch by the clock, those
    /// behind it by the kernel's last tick, up to some milliseconds ago but never before the first.
    pub timestamp: Option<i64>,
    /// The key, if any: records of one key go to one partition.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is null, which a compacted topic takes as a deletion.
    pub value: Option<&'a [u8]>,
    /// Headers in order; a key may occur more than once.
    pub headers: &'a [Header<'a>],
}

impl<'a> Record<'a> {
    /// An empty record for `topic`.
    pub fn to(topic: &'a str) -> Self {
        Self { topic, ..Self::default() }
    }

    /// With this key.
    #[must_use]
    pub fn key<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// With this value.
    #[must_use]
    pub fn value<V: AsRef<[u8]> + ?Sized>(mut self, value: &'a V) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    /// With these headers.
    #[must_use]
    pub fn headers(mut self, headers: &'a [Header<'a>]) -> Self {
        self.headers = headers;
        self
    }

    /// To this partition.
    #[must_use]
    pub fn partition(mut self, partition: Partition) -> Self {
        self.partition = Some(partition);
        self
    }

    /// With this timestamp, in milliseconds since the epoch.
    #[must_use]
    pub fn timestamp(mut self, timestamp_ms: i64) -> Self {
        self.timestamp = Some(timestamp_ms);
        self
    }

    /// An upper bound of its bytes in a batch of its own.
    pub(crate) fn size_bound(&self) -> usize {
        /// Record length, attributes, timestamp, offset, key length, value length, header count.
        const FIXED: usize = proto::record::HEADER_LEN + 5 + 1 + 10 + 5 + 5 + 5 + 5;
        let headers: usize = self
            .headers
            .iter()
            .map(|h| 10 + h.key_bytes().len() + h.value().map_or(0, <[u8]>::len))
            .sum();
        FIXED + self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers
    }
}

/// Where a record is, once acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The partition it went to.
    pub partition: Partition,
    /// Its offset; `None` where the broker does not tell: with `acks=0`, and for a batch that was
    /// found appended long before it was retried.
    pub offset: Option<Offset>,
    /// Milliseconds since the epoch: the record's own, or the broker's where the topic stamps
    /// append time.
    pub timestamp: i64,
}

/// A copy of a record that waits for room.
#[derive(Debug)]
pub(crate) struct OwnedRecord {
    topic: Box<str>,
    partition: Option<Partition>,
    timestamp: i64,
    key: Option<Box<[u8]>>,
    value: Option<Box<[u8]>>,
    headers: Vec<OwnedHeader>,
}

type OwnedHeader = (Box<str>, Option<Box<[u8]>>);

impl OwnedRecord {
    /// Copies `record`, stamped `now_ms` if it has no timestamp.
    pub(crate) fn copy(record: &Record<'_>, now_ms: i64) -> Self {
        Self {
            topic: record.topic.into(),
            partition: record.partition,
            timestamp: record.timestamp.unwrap_or(now_ms),
            key: record.key.map(Into::into),
            value: record.value.map(Into::into),
            headers: record
                .headers
                .iter()
                .map(|h| (h.key().into(), h.value().map(Into::into)))
                .collect(),
        }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Hands `f` the record as it was.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&Record<'_>) -> R) -> R {
        let headers: Vec<Header<'_>> =
            self.headers.iter().map(|(key, value)| Header::new(key, value.as_deref())).collect();
        f(&Record {
            topic: &self.topic,
            partition: self.partition,
            timestamp: Some(self.timestamp),
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &headers,
        })
    }
}

/// Milliseconds since the epoch at the kernel's last tick, at most a few milliseconds ago: a quarter of
/// the price of [`now_ms`].
#[cfg(any(target_os = "linux", target_os = "android"))]
#[inline]
pub(crate) fn tick_ms() -> i64 {
    use nix::time::{ClockId, clock_gettime};
    match clock_gettime(ClockId::CLOCK_REALTIME_COARSE) {
        Ok(time) => time.tv_sec() * 1000 + time.tv_nsec() / 1_000_000,
        Err(_) => now_ms(),
    }
}

/// There is no cheaper clock.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn tick_ms() -> i64 {
    now_ms()
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis() as i64)
}
