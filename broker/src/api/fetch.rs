//! Fetch: a reader's position in one partition.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use proto::{ErrorCode, LeaderEpoch, Offset, Partition as PartitionNumber};

use super::produce::refusal;
use super::replica_fetch::{FollowerReader, Positions};
use super::{Api, Refusal, Resting};
use crate::replication::{Partition, PartitionError, Replica, Wake};
pub use crate::storage::FileRange;
use crate::storage::{Cursor, ReadError, ReadLimits, ReadSlice, Wait};

/// Fewer bytes are copied: that costs less than to ask which pages are in memory, to map them and to
/// write them apart from what stands before and behind them.
pub const COPIED_BELOW: u64 = 16 << 10;

/// A position in a partition. Knows where in its segment it is, so reading on needs no look-up.
pub struct Reader {
    partition: Arc<Partition>,
    cursor: Cursor,
    /// The epoch it was opened in; a new leader's clients ask anew.
    leader_epoch: LeaderEpoch,
    /// The batch at the position is checked before it is read.
    verify: bool,
    /// Reads for another replica, to the log end.
    follower: Option<FollowerReader>,
}

/// Where a reader is to begin.
#[derive(Debug, Clone, Copy)]
pub struct ReadFrom<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The topic's id, 16 bytes.
    pub topic_id: &'a [u8],
    /// The partition.
    pub partition: PartitionNumber,
    /// The epoch the client believes in.
    pub leader_epoch: LeaderEpoch,
    /// The next offset wanted.
    pub offset: Offset,
    /// Of the record before it, where the client knows it.
    pub last_epoch: Option<LeaderEpoch>,
    /// Its log begins there, and it wants to know of the producers before.
    pub wants_producers: bool,
}

/// What came of opening a reader.
pub enum Opened {
    /// It reads on.
    Reader(Reader),
    /// The log here has another history before the offset: this is the newest epoch of it that is
    /// not after the client's, and the offset after its last record (KIP-320, KIP-595). No epoch: it
    /// has none that old, and begins at that offset.
    Diverging(Option<LeaderEpoch>, Offset),
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
    /// What could have been read (exclusive).
    pub seen: Offset,
    /// How deep producers of the partition pipeline.
    pub producer_window: u16,
    slice: ReadSlice,
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
    /// A reader from an offset on, for a follower where one is named. Refuses what does not exist,
    /// is led by another, or is out of range.
    pub fn open_reader(
        &self,
        from: ReadFrom<'_>,
        follower: Option<Replica>,
    ) -> Result<Opened, Refusal> {
        let id = Self::topic_id(from.topic, from.topic_id)?;
        let partition = self.partition(from.topic, id, from.partition)?;
        let leader_epoch = partition
            .check_leader(from.leader_epoch)
            .map_err(|error| refusal(&partition, &error))?;
        let offset = from.offset;
        if let Some(epoch) = from.last_epoch
            && let Some((epoch, end)) = partition.log().diverging(epoch, offset)
        {
            return Ok(Opened::Diverging(epoch, end));
        }
        let follower = follower
            .map(|replica| FollowerReader::begin(&partition, leader_epoch, replica, &from))
            .transpose()?;
        let cursor = Cursor::at(offset);
        Ok(Opened::Reader(Reader { partition, cursor, leader_epoch, verify: false, follower }))
    }
}

impl Reader {
    /// A consumer's, that knows where it is.
    pub(super) fn at(partition: Arc<Partition>, cursor: Cursor, leader_epoch: LeaderEpoch) -> Self {
        Self { partition, cursor, leader_epoch, verify: false, follower: None }
    }

    /// Where it is, for a later request.
    pub fn rest(&self) -> Resting {
        Resting::new(Arc::downgrade(&self.partition), self.cursor, self.leader_epoch)
    }

    /// Where the log parts from that of a client whose record before the position is of an epoch, as in
    /// [`Opened::Diverging`].
    pub fn diverging(&self, last_epoch: LeaderEpoch) -> Option<(Option<LeaderEpoch>, Offset)> {
        self.partition.log().diverging(last_epoch, self.offset())
    }

    /// The epoch it was opened in.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

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
        let limits = ReadLimits { max_bytes, upto: self.readable_end(), first_batch_whole: true };
        if self.verify {
            return Ok(Read::Cold(self.read_cold(limits)));
        }
        match self.partition.log().read_copying(self.cursor, limits, Wait::Never, COPIED_BELOW) {
            Ok(slice) if slice.is_empty() => Ok(Read::Nothing),
            Ok(slice) => Ok(Read::Records(self.fetched(limits.upto, slice))),
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
            follower: self.follower.clone(),
        };
        let reading = tokio::task::spawn_blocking(move || {
            let log = reader.partition.log();
            if reader.verify {
                let verified = log.verify(reader.cursor.offset());
                verified.map_err(|error| reader.read_refusal(&error))?;
            }
            match log.read_copying(reader.cursor, limits, Wait::Allowed, COPIED_BELOW) {
                Ok(slice) => Ok(reader.fetched(limits.upto, slice)),
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

    /// What may be read ends here: for consumers what is visible, for followers the log.
    fn readable_end(&self) -> Offset {
        match self.follower {
            Some(_) => self.partition.log().log_end(),
            None => self.partition.visible_end(),
        }
    }

    fn fetched(&self, seen: Offset, slice: ReadSlice) -> Fetched {
        let log = self.partition.log();
        Fetched {
            next_offset: slice.next_offset(),
            high_watermark: if self.follower.is_some() { log.high_watermark() } else { seen },
            log_start: log.log_start(),
            seen,
            producer_window: if self.follower.is_some() { log.producer_window() } else { 0 },
            records: slice.bytes().clone(),
            slice,
        }
    }

    /// Moves the position behind what was read and sent.
    pub fn advance(&mut self, fetched: &Fetched) {
        self.cursor = fetched.slice.next();
        if let Some(follower) = &mut self.follower {
            let Fetched { high_watermark, log_start, .. } = *fetched;
            follower.told(Positions { high_watermark, log_start });
        }
    }

    fn positions(&self) -> Positions {
        let log = self.partition.log();
        Positions { high_watermark: log.high_watermark(), log_start: log.log_start() }
    }

    /// Looks at the positions of a follower's partition; true when the follower is to be told.
    pub fn look(&mut self) -> bool {
        let positions = self.positions();
        self.follower.as_mut().is_some_and(|follower| follower.look(positions))
    }

    /// What a follower is told without records, once it has changed.
    pub fn take_news(&mut self) -> Option<Positions> {
        let positions = self.positions();
        let follower = self.follower.as_mut()?;
        follower.look(positions).then(|| {
            follower.told(positions);
            positions
        })
    }

    /// What a follower whose log begins here is told of producers; empty after the first time.
    pub fn take_producers(&mut self) -> Vec<u8> {
        let wanted = self.follower.as_mut().and_then(FollowerReader::take_wanted);
        wanted.map_or_else(Vec::new, |offset| self.partition.log().producers_before(offset))
    }

    /// The follower's log ends at `end` now, and starts at `start` for good.
    pub fn follower_told(&self, end: Offset, start: Offset) -> Result<(), Told> {
        let Some(follower) = &self.follower else { return Ok(()) };
        match follower.tell(&self.partition, self.leader_epoch, end) {
            Ok(()) => {
                follower.tell_start(&self.partition, self.leader_epoch, start);
                Ok(())
            }
            Err(error @ PartitionError::BeyondLogEnd { .. }) => {
                Err(Told::Ignored(format!("partition {}: {error}", self.partition.name())))
            }
            Err(error) => Err(Told::Refused(refusal(&self.partition, &error))),
        }
    }

    /// Nobody reads with it any more.
    pub fn close(&self) {
        if let Some(follower) = &self.follower {
            self.partition.follower_gone(&follower.replica);
        }
    }

    /// High watermark and log start, as whoever reads with this is shown them.
    pub fn bounds(&self) -> (Offset, Offset) {
        let log = self.partition.log();
        let end = match self.follower {
            Some(_) => log.high_watermark(),
            None => self.partition.visible_end(),
        };
        (end, log.log_start())
    }

    /// The next offset to be read.
    pub fn offset(&self) -> Offset {
        self.cursor.offset()
    }

    /// Whether the partition shows more than `seen` (exclusive), or must be looked at for another
    /// reason. Asked after parking: what happened before that rang no bell.
    pub fn has_moved_beyond(&self, seen: Offset) -> bool {
        let has_news = |follower: &FollowerReader| follower.has_news(self.positions());
        self.readable_end() > seen
            || self.follower.as_ref().is_some_and(has_news)
            || self.partition.log().log_start() > self.cursor.offset()
            || self.partition.log().offline().is_some()
            || self.partition.leading() != Some(self.leader_epoch)
    }

    /// Has `wake` called with `token` when the partition moves; look at it once more afterwards.
    pub fn park(&self, wake: Arc<dyn Wake>, token: u32) {
        match self.follower {
            Some(_) => self.partition.park_follower(wake, token),
            None => self.partition.park(wake, token),
        }
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

/// Why what a follower told does not count.
#[derive(Debug)]
pub enum Told {
    /// It cannot be; the follower goes on.
    Ignored(String),
    /// It may not follow here.
    Refused(Refusal),
}

impl Fetched {
    /// Where the records are on disk, for `sendfile`; `None` where they are only in memory.
    pub fn file_range(&self) -> Option<FileRange> {
        self.slice.file_range()
    }

    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.records.len()
    }
}
