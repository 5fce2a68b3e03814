//! Fetch: a reader's position in one partition.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use proto::{ErrorCode, LeaderEpoch, Offset, Partition as PartitionNumber};

use super::produce::refusal;
use super::{Api, Refusal};
use crate::replication::{Partition, Wake};
use crate::storage::{Cursor, Log, ReadError, ReadLimits, ReadSlice, Wait};

/// A position in a partition. Knows where in its segment it is, so reading on needs no look-up.
pub struct Reader {
    partition: Arc<Partition>,
    cursor: Cursor,
    /// The epoch it was opened in; a new leader's clients ask anew.
    leader_epoch: LeaderEpoch,
    /// The batch at the position is checked before it is read.
    verify: bool,
}

/// Records that may be sent.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Whole batches; the first may begin before the position.
    pub records: Bytes,
    /// The offset after the last record.
    pub next_offset: Offset,
    /// The partition's, when they were read.
    pub high_watermark: Offset,
    /// The partition's, when they were read.
    pub log_start: Offset,
    next: Cursor,
}

/// Records on their way from the disk, on a thread that may wait for it.
pub type ColdRead = Pin<Box<dyn Future<Output = Result<Fetched, Refusal>> + Send>>;

/// What is at a position.
pub enum Read {
    /// Records.
    Records(Fetched),
    /// Nothing yet.
    Nothing,
    /// Records that are on disk only.
    Cold(ColdRead),
}

impl Api {
    /// A reader at `offset`. Refuses what does not exist, is led by another, or is out of range.
    pub fn open_reader(
        &self,
        topic: &str,
        topic_id: &[u8],
        partition: PartitionNumber,
        leader_epoch: LeaderEpoch,
        offset: Offset,
    ) -> Result<Reader, Refusal> {
        let id = Self::topic_id(topic, topic_id)?;
        let partition = self.partition(topic, id, partition)?;
        let leader_epoch =
            partition.check_leader(leader_epoch).map_err(|error| refusal(&partition, &error))?;
        Ok(Reader { partition, cursor: Cursor::at(offset), leader_epoch, verify: false })
    }
}

impl Reader {
    /// Has the batch at the position checked, on a thread that may wait for the disk, before
    /// anything is read: a client doubts it.
    pub fn verifying(self) -> Self {
        Self { verify: true, ..self }
    }

    /// It was checked.
    pub fn verified(&mut self) {
        self.verify = false;
    }

    /// Records from the position on: whole batches of at most `max_bytes`, but at least one. Does
    /// not move the position and never waits for the disk.
    pub fn read(&self, max_bytes: usize) -> Result<Read, Refusal> {
        self.partition
            .check_leader(self.leader_epoch)
            .map_err(|error| refusal(&self.partition, &error))?;
        let limits =
            ReadLimits { max_bytes, upto: self.partition.visible_end(), first_batch_whole: true };
        if self.verify {
            return Ok(Read::Cold(self.read_cold(limits)));
        }
        let log = self.partition.log();
        match log.read(self.cursor, limits, Wait::Never) {
            Ok(slice) if slice.is_empty() => Ok(Read::Nothing),
            Ok(slice) => Ok(Read::Records(fetched(log, limits.upto, slice))),
            Err(ReadError::WouldBlock) => Ok(Read::Cold(self.read_cold(limits))),
            Err(error) => Err(self.read_refusal(&error)),
        }
    }

    fn read_cold(&self, limits: ReadLimits) -> ColdRead {
        let reader = Self {
            partition: Arc::clone(&self.partition),
            cursor: self.cursor,
            leader_epoch: self.leader_epoch,
            verify: self.verify,
        };
        let reading = tokio::task::spawn_blocking(move || {
            let log = reader.partition.log();
            if reader.verify {
                let verified = log.verify(reader.cursor.offset());
                verified.map_err(|error| reader.read_refusal(&error))?;
            }
            match log.read(reader.cursor, limits, Wait::Allowed) {
                Ok(slice) => Ok(fetched(log, limits.upto, slice)),
                Err(error) => Err(reader.read_refusal(&error)),
            }
        });
        Box::pin(async move {
            reading.await.unwrap_or_else(|error| {
                Err(Refusal::new(
                    ErrorCode::KafkaStorageError,
                    format!("reading from disk failed: {error}"),
                    "retry; look at the broker's log",
                ))
            })
        })
    }

    /// Moves the position behind what was read.
    pub fn advance(&mut self, fetched: &Fetched) {
        self.cursor = fetched.next;
    }

    /// The next offset to be read.
    pub fn offset(&self) -> Offset {
        self.cursor.offset()
    }

    /// Whether the partition shows more than `seen` (exclusive), or must be looked at for another
    /// reason. Asked after parking: what happened before that rang no bell.
    pub fn has_moved_beyond(&self, seen: Offset) -> bool {
        self.partition.visible_end() > seen
            || self.partition.log().log_start() > self.cursor.offset()
            || self.partition.log().offline().is_some()
            || self.partition.leading() != Some(self.leader_epoch)
    }

    /// Has `wake` called with `token` when the partition moves; look at it once more afterwards.
    pub fn park(&self, wake: Arc<dyn Wake>, token: u32) {
        self.partition.park(wake, token);
    }

    /// Takes that back.
    pub fn unpark(&self, wake: &Arc<dyn Wake>, token: u32) {
        self.partition.unpark(wake, token);
    }

    fn read_refusal(&self, error: &ReadError) -> Refusal {
        let name = self.partition.name();
        let text = format!("partition {name}: {error}");
        match error {
            ReadError::OutOfRange { .. } => Refusal::new(
                ErrorCode::OffsetOutOfRange,
                text,
                "begin at the earliest or the latest offset (ListOffsets), as the application wants",
            ),
            ReadError::Damaged { from, to } => Refusal::new(
                ErrorCode::CorruptMessage,
                text,
                format!("the rest of the partition is served: go on at offset {to}"),
            )
            .with_damage(*from, *to),
            ReadError::WouldBlock | ReadError::Offline(_) | ReadError::OutOfFiles { .. } => {
                Refusal::new(
                    ErrorCode::KafkaStorageError,
                    text,
                    "check the broker's disk and its log",
                )
            }
        }
    }
}

fn fetched(log: &Log, high_watermark: Offset, slice: ReadSlice) -> Fetched {
    Fetched {
        next_offset: slice.next_offset(),
        next: slice.next(),
        high_watermark,
        log_start: log.log_start(),
        records: slice.into_bytes(),
    }
}

impl Fetched {
    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.records.len()
    }
}
