//! What can go wrong, one enum for each family of operations, one variant for each thing a caller
//! can act on.

use std::io;
use std::path::PathBuf;

use proto::record::BatchError;
use proto::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId, TopicPartition};

use super::disk;

/// Why a log takes no more part: it stays so until it is opened anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "partition {partition} is offline on this broker: {cause}; check the disk and the kernel's \
     log, then restart the broker or let it verify the partition again"
)]
pub struct Offline {
    /// Which.
    pub partition: TopicPartition,
    /// What happened.
    pub cause: String,
}

/// Why an append was refused; nothing of the request was written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The partition is offline.
    #[error(transparent)]
    Offline(#[from] Offline),
    /// The disk is full. Passes by itself when there is space.
    #[error(
        "the disk of partition {partition} is full; shorten retention, delete topics or add \
         space: producing goes on by itself then"
    )]
    DiskFull {
        /// Which.
        partition: TopicPartition,
    },
    /// The disk is almost full: the rest is for what frees space. Passes by itself.
    #[error(
        "the disk of partition {partition} is almost full: {free} bytes are free, {mark} are to stay \
         so (log.min.free.bytes, log.min.free.percent); shorten retention, delete topics \
         or add space: producing goes on by itself then"
    )]
    LowSpace {
        /// Which.
        partition: TopicPartition,
        /// As last seen.
        free: u64,
        /// What is to stay free.
        mark: u64,
    },
    /// The process has no descriptor left to open the segment with. Passes by itself.
    #[error(
        "no file of partition {partition} can be opened: the process has as many files open as it \
         may; raise the limit on open files, or lower max.connections or log.open.files.max"
    )]
    OutOfFiles {
        /// Which.
        partition: TopicPartition,
    },
    /// A batch is larger than the topic allows.
    #[error(
        "a record batch of {size} bytes is larger than the topic's max.message.bytes of {limit}; \
         send smaller batches or raise the limit"
    )]
    BatchTooLarge {
        /// Its bytes.
        size: usize,
        /// The limit.
        limit: u32,
    },
    /// A batch may not be appended as it is.
    #[error(transparent)]
    InvalidBatch(#[from] BatchError),
    /// The bytes are not the batches the headers describe.
    #[error("the request has {bytes} bytes, its batch headers tell of {described}")]
    LengthMismatch {
        /// Bytes that came.
        bytes: usize,
        /// Bytes by the headers.
        described: usize,
    },
    /// The producer may not append this batch now.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// A fetched batch does not begin where the log ends.
    #[error(
        "a fetched batch begins at offset {found}, the log of partition {partition} ends at \
         {log_end}; fetch from the log end"
    )]
    NotNext {
        /// Which.
        partition: TopicPartition,
        /// The offset of the next record.
        log_end: Offset,
        /// The batch's.
        found: Offset,
    },
    /// A fetched batch is of an older leader epoch than the one before it: the two logs part
    /// somewhere below.
    #[error(
        "a fetched batch is of leader epoch {found}, the log of partition {partition} ends in \
         {latest}; compare the epochs with the leader's and cut the log back first"
    )]
    OlderEpoch {
        /// Which.
        partition: TopicPartition,
        /// Of the last batch.
        latest: LeaderEpoch,
        /// The fetched batch's.
        found: LeaderEpoch,
    },
}

impl AppendError {
    /// What a disk's answer means that passes by itself; `None` for any other.
    pub(super) fn passing(partition: &TopicPartition, error: &io::Error) -> Option<Self> {
        let partition = partition.clone();
        if disk::is_out_of_files(error) {
            return Some(Self::OutOfFiles { partition });
        }
        disk::is_full(error).then_some(Self::DiskFull { partition })
    }
}

/// Why a producer's sequence is not the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// A batch before this one is missing.
    #[error(
        "producer {producer_id} sent sequence {found} where {expected} comes next: a batch \
         before it failed or is still on its way; send the failed ones again in order"
    )]
    OutOfOrder {
        /// The producer.
        producer_id: ProducerId,
        /// The sequence that would be next.
        expected: i32,
        /// What came.
        found: i32,
    },
    /// The batch was appended long ago; its offset is forgotten. As good as acknowledged.
    #[error(
        "producer {producer_id} sent sequence {found} again, which was appended before; its \
         offset is no longer remembered"
    )]
    Duplicate {
        /// The producer.
        producer_id: ProducerId,
        /// What came.
        found: i32,
    },
    /// Nothing is known of the producer, and its sequence is not the first.
    #[error(
        "producer {producer_id} is not known here but sent sequence {found}: it was idle for \
         longer than producer.id.expiration.ms, or what it wrote was lost; raise the producer's \
         epoch and begin at sequence 0"
    )]
    UnknownProducer {
        /// The producer.
        producer_id: ProducerId,
        /// What came.
        found: i32,
    },
    /// A newer instance of the producer has written.
    #[error(
        "producer {producer_id} sent epoch {found}, its current epoch is {current}: another \
         instance took over; stop this one"
    )]
    Fenced {
        /// The producer.
        producer_id: ProducerId,
        /// The newest epoch seen.
        current: ProducerEpoch,
        /// What came.
        found: ProducerEpoch,
    },
}

/// Why records were not deleted, or are not certain to stay so.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeleteRecordsError {
    /// The partition is offline.
    #[error(transparent)]
    Offline(#[from] Offline),
    /// The offset is not one that records can be deleted up to.
    #[error(
        "records of partition {partition} can be deleted up to an offset from {log_start} (its \
         first) to {high_watermark} (its high watermark), not up to {offset}"
    )]
    OutOfRange {
        /// Which.
        partition: TopicPartition,
        /// The one asked for.
        offset: Offset,
        /// The first offset there is.
        log_start: Offset,
        /// Where deletable records end.
        high_watermark: Offset,
    },
    /// The topic's records are not deleted but compacted.
    #[error(
        "the records of partition {0} are not deleted by offset: its cleanup.policy is compact"
    )]
    CompactedOnly(TopicPartition),
    /// The new log start holds, but only until a restart.
    #[error("the new log start of partition {partition} could not be written down: {cause}")]
    NotStored {
        /// Which.
        partition: TopicPartition,
        /// Why.
        cause: String,
    },
}

/// Why a read gives nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The log does not have this offset, or not any more.
    #[error(
        "offset {offset} is out of range, the log has {log_start} to {log_end}; retention \
         deleted it, or it belongs to another log: start at the earliest or latest offset"
    )]
    OutOfRange {
        /// Asked for.
        offset: Offset,
        /// First offset.
        log_start: Offset,
        /// The offset after the last.
        log_end: Offset,
    },
    /// The offset lies in bytes that are damaged on disk.
    #[error(
        "offsets {from} to {to} (not included) of the log are damaged on disk; step over them or \
         restore them from a replica"
    )]
    Damaged {
        /// First damaged offset.
        from: Offset,
        /// First offset after the damage.
        to: Offset,
    },
    /// The process has no descriptor left to open the segment with. Passes by itself.
    #[error(
        "no file of partition {partition} can be opened: the process has as many files open as it \
         may; raise the limit on open files, or lower max.connections or log.open.files.max"
    )]
    OutOfFiles {
        /// Which.
        partition: TopicPartition,
    },
    /// The bytes are on disk only; ask again from a thread that may wait, with `Wait::Allowed`.
    #[error("the bytes are not in memory")]
    WouldBlock,
    /// The partition is offline.
    #[error(transparent)]
    Offline(#[from] Offline),
}

/// Why a flush did not happen; the partition is offline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct FlushError(#[from] pub Offline);

/// Why a change to a log (truncation, epoch) failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The partition is offline.
    #[error(transparent)]
    Offline(#[from] Offline),
    /// The disk refused; nothing changed.
    #[error("partition {partition}: {what}: {cause}")]
    Io {
        /// Which.
        partition: TopicPartition,
        /// What was tried.
        what: &'static str,
        /// The disk's answer.
        cause: io::Error,
    },
}

/// Why a log set cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Every directory failed.
    #[error("none of the log directories can be used; the first failure: {0}")]
    NoDirectory(String),
    /// Another process uses a directory.
    #[error(
        "the log directory {0} is in use by another process; stop it, or give this broker its own"
    )]
    Locked(PathBuf),
    /// A directory belongs to another broker.
    #[error(
        "the log directory {directory} belongs to broker {found}, this is broker {asked}: give each \
         broker its own directories, or correct broker.id"
    )]
    OtherBroker {
        /// The directory.
        directory: PathBuf,
        /// Who used it.
        found: i32,
        /// Who wants it.
        asked: i32,
    },
}

/// Why a partition cannot be created, deleted or set aside.
#[derive(Debug, thiserror::Error)]
pub enum LogSetError {
    /// The folder on disk belongs to another topic of the same name.
    #[error(
        "partition {partition} on disk belongs to topic id {found}, not {expected}; set it aside \
         first"
    )]
    OtherTopic {
        /// Which.
        partition: TopicPartition,
        /// On disk.
        found: TopicId,
        /// Asked for.
        expected: TopicId,
    },
    /// There is no such partition here.
    #[error("partition {0} is not stored on this broker")]
    Unknown(TopicPartition),
    /// The partition is offline.
    #[error(transparent)]
    Offline(#[from] Offline),
    /// Its folder is there but was not opened at start.
    #[error(
        "partition {partition} has a folder {folder} that could not be opened at start; see the \
         log for the cause, repair it or move the folder away, and restart the broker"
    )]
    NotOpened {
        /// Which.
        partition: TopicPartition,
        /// Where.
        folder: PathBuf,
    },
    /// It is known to be in a directory that is offline, or cannot be opened where it is.
    #[error(
        "partition {partition} is offline on this broker: {cause}; it is not made anew elsewhere, \
         since that would lose what it holds. Repair the disk and restart the broker"
    )]
    Absent {
        /// Which.
        partition: TopicPartition,
        /// Where it is and what is wrong there.
        cause: String,
    },
    /// No directory is left to put it in.
    #[error("no log directory is usable; see the log for the failure of each")]
    NoDirectory,
    /// The disk refused.
    #[error("partition {partition}: {what}: {cause}")]
    Io {
        /// Which.
        partition: TopicPartition,
        /// What was tried.
        what: &'static str,
        /// The disk's answer.
        cause: io::Error,
    },
}
