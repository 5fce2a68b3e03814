//! Produce: what a client sent is checked here and queued at its partition.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use proto::record::{
    BatchError, BatchHeader, DecompressError, RecodeError, RecordError, check_chunks,
};
use proto::{ErrorCode, LeaderEpoch, Offset, Partition as PartitionNumber};

use super::{Api, Refusal};
use crate::groups::OFFSETS_TOPIC;
use crate::replication::{AppendJob, OnAppended, Partition, PartitionError, RequiredAcks};
use crate::storage::{AppendError, Appended, SequenceError, TimestampError};

/// Most batches in flight of one producer to a partition.
const WINDOW_MAX: u32 = 1024;

/// A request to append.
pub struct Produce<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The topic's id, 16 bytes.
    pub topic_id: &'a [u8],
    /// The partition.
    pub partition: PartitionNumber,
    /// The epoch the client believes in.
    pub leader_epoch: LeaderEpoch,
    /// Batches of one producer in flight to the partition.
    pub max_in_flight: u32,
    /// Who must have the records before the answer.
    pub acks: RequiredAcks,
    /// When the client gets an answer at the latest.
    pub due: Instant,
    /// Whole record batches, in the chunks they came in.
    pub records: Vec<Bytes>,
    /// Dropped when the records are written or refused.
    pub hold: Option<Box<dyn Send>>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// Offset of the first record; `None` for a retry of a batch whose offset is forgotten.
    pub base_offset: Option<Offset>,
    /// Where the topic stamps append time.
    pub log_append_time_ms: Option<i64>,
    /// The first offset of the partition.
    pub log_start: Offset,
    /// The epoch appended in.
    pub leader_epoch: LeaderEpoch,
}

impl Produced {
    /// The answer to a client that wants none.
    pub fn unacknowledged() -> Self {
        Self {
            base_offset: None,
            log_append_time_ms: None,
            log_start: Offset(-1),
            leader_epoch: LeaderEpoch::UNKNOWN,
        }
    }
}

impl Api {
    /// Checks a request and queues it; the caller drives the partition that is returned, once for
    /// all requests it has queued there. `None`: refused, `done` has been called. It is called once
    /// with the outcome, from any thread, and must not block.
    pub fn produce(
        &self,
        request: Produce<'_>,
        done: impl FnOnce(Result<Produced, Refusal>) + Send + 'static,
    ) -> Option<Arc<Partition>> {
        self.metrics.produce_requests.one();
        let (partition, headers) = match self.check(&request) {
            Ok(checked) => checked,
            Err(refusal) => {
                self.metrics.produce_errors.one();
                done(Err(refusal));
                return None;
            }
        };
        let metrics = Arc::clone(&self.metrics);
        let answer_of = Arc::clone(&partition);
        partition.queue(AppendJob {
            chunks: request.records,
            headers,
            leader_epoch: request.leader_epoch,
            window: request.max_in_flight.clamp(1, WINDOW_MAX) as u16,
            acks: request.acks,
            due: request.due,
            hold: request.hold,
            done: OnAppended::new(move |outcome| {
                let outcome = answer(&answer_of, outcome);
                if outcome.is_err() {
                    metrics.produce_errors.one();
                }
                done(outcome);
            }),
        });
        Some(partition)
    }

    fn check(&self, request: &Produce<'_>) -> Result<(Arc<Partition>, Vec<BatchHeader>), Refusal> {
        if request.topic == OFFSETS_TOPIC {
            return Err(Refusal::new(
                ErrorCode::InvalidTopicException,
                format!("topic {OFFSETS_TOPIC} is written by the coordinators of groups alone"),
                "commit offsets instead",
            ));
        }
        let id = Self::topic_id(request.topic, request.topic_id)?;
        let partition = self.partition(request.topic, id, request.partition)?;
        partition
            .check_leader(request.leader_epoch)
            .map_err(|error| refusal(&partition, &error))?;
        if request.max_in_flight > WINDOW_MAX {
            return Err(Refusal::invalid_request(format!(
                "max_in_flight is {}, at most {WINDOW_MAX} batches are remembered",
                request.max_in_flight
            )));
        }
        let limit = partition.log().config().max_message_bytes;
        check_size(&request.records, limit)?;
        let headers = check_chunks(&request.records).map_err(|error| malformed(&error))?;
        if headers.is_empty() {
            return Err(Refusal::invalid_request("the request carries no record batch"));
        }
        headers.iter().try_for_each(|header| check_batch(header, limit))?;
        partition
            .log()
            .check_timestamps(&headers, &request.records)
            .map_err(|error| timestamp_refusal(&partition, &error))?;
        Ok((partition, headers))
    }
}

/// A request whose first batch alone is too large is refused by its header, before its checksum
/// is computed over all of it.
fn check_size(records: &[Bytes], limit: u32) -> Result<(), Refusal> {
    let Some(first) = records.first() else { return Ok(()) };
    match BatchHeader::parse(first) {
        Ok(header) => check_batch_size(&header, limit),
        // Cut off by the chunk's end, or malformed: the whole check tells.
        Err(_) => Ok(()),
    }
}

fn check_batch_size(header: &BatchHeader, limit: u32) -> Result<(), Refusal> {
    let size = header.size_in_bytes();
    if size > limit as usize {
        return Err(too_large(size, limit));
    }
    Ok(())
}

fn check_batch(header: &BatchHeader, limit: u32) -> Result<(), Refusal> {
    check_batch_size(header, limit)?;
    header.check_produced().map_err(|error| malformed(&error))?;
    // What is inside stays closed: batches are stored as sent, unless the topic forces a codec.
    if let Err(error) = header.attributes.compression() {
        return Err(Refusal::new(
            ErrorCode::UnsupportedCompressionType,
            error.to_string(),
            "compress with one of these codecs, or not at all",
        ));
    }
    if header.attributes.is_transactional() {
        return Err(Refusal::new(
            ErrorCode::InvalidRecord,
            "the batch belongs to a transaction; transactions are not supported",
            "send without a transactional id",
        ));
    }
    Ok(())
}

fn too_large(size: usize, limit: u32) -> Refusal {
    Refusal::new(
        ErrorCode::MessageTooLarge,
        format!("a batch of {size} bytes is above the topic's max.message.bytes of {limit}"),
        "send smaller batches, or raise max.message.bytes of the topic",
    )
}

fn timestamp_refusal(partition: &Partition, error: &TimestampError) -> Refusal {
    let text = format!("partition {}: {error}", partition.name());
    let remedy = match error {
        TimestampError::TooNew { .. } => {
            "set the clocks of the producer's and the broker's machines, look at what the \
             application stamps (milliseconds, not micro- or nanoseconds), or raise the bound; \
             message.timestamp.type=LogAppendTime takes any stamp and writes the broker's over it"
        }
        TimestampError::TooOld { .. } => {
            "raise the bound to load old records, or look at what the application stamps \
             (milliseconds, not seconds); message.timestamp.type=LogAppendTime takes any stamp"
        }
        TimestampError::Unreadable(_) => {
            return Refusal::new(ErrorCode::InvalidRecord, text, "correct the client");
        }
        TimestampError::Malformed(error) => return malformed(error),
    };
    Refusal::new(ErrorCode::InvalidTimestamp, text, remedy)
}

fn malformed(error: &BatchError) -> Refusal {
    let (code, remedy) = match error {
        BatchError::UnsupportedMagic(_) => {
            (ErrorCode::UnsupportedVersion, "send record batches v2")
        }
        BatchError::InvalidField { .. } => (ErrorCode::InvalidRecord, "correct the client"),
        _ => (ErrorCode::CorruptMessage, "send it again; if it repeats, the client is faulty"),
    };
    Refusal::new(code, error.to_string(), remedy)
}

fn answer(
    partition: &Partition,
    outcome: Result<Appended, PartitionError>,
) -> Result<Produced, Refusal> {
    let produced = |base_offset, log_append_time_ms| Produced {
        base_offset,
        log_append_time_ms,
        log_start: partition.log().log_start(),
        leader_epoch: partition.leading().unwrap_or(LeaderEpoch::UNKNOWN),
    };
    match outcome {
        Ok(appended) => Ok(produced(Some(appended.base_offset), appended.log_append_time)),
        // Appended before, its offset forgotten: as good as acknowledged.
        Err(PartitionError::Append(AppendError::Sequence(SequenceError::Duplicate { .. }))) => {
            Ok(produced(None, None))
        }
        Err(error) => Err(refusal(partition, &error)),
    }
}

/// The refusal of a request that was appended and not acknowledged in time.
pub fn timed_out(message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(
        ErrorCode::RequestTimedOut,
        message,
        "retry with the same sequence (an idempotent producer does); look at the broker's disk \
         and, with acks=all, for replicas that lag",
    )
}

/// The one map from what a partition says to what a client is told.
pub(super) fn refusal(partition: &Partition, error: &PartitionError) -> Refusal {
    let name = partition.name();
    match error {
        PartitionError::NotLeader => Refusal::not_leader(&name.topic, name.partition),
        PartitionError::Fenced { .. } => Refusal::new(
            ErrorCode::FencedLeaderEpoch,
            format!("partition {name}: {error}"),
            "refresh metadata: the partition has a new leader epoch",
        ),
        PartitionError::UnknownEpoch { .. } => Refusal::new(
            ErrorCode::UnknownLeaderEpoch,
            format!("partition {name}: {error}; this broker has not heard of it yet"),
            "retry after a moment",
        ),
        PartitionError::NotEnoughReplicas { .. } => Refusal::new(
            ErrorCode::NotEnoughReplicas,
            format!("partition {name}: {error}"),
            "retry; if it repeats, look for replicas that are down or lag (topics describe \
             --under-replicated), or lower min.insync.replicas",
        ),
        PartitionError::NotEnoughReplicasAfterAppend { .. } => Refusal::new(
            ErrorCode::NotEnoughReplicasAfterAppend,
            format!("partition {name}: {error}"),
            "retry with the same sequence (an idempotent producer does); look for replicas that \
             are down or lag",
        ),
        PartitionError::TimedOut => timed_out(format!("partition {name}: {error}")),
        PartitionError::TooManyWaiting { .. } => Refusal::new(
            ErrorCode::ThrottlingQuotaExceeded,
            format!("partition {name}: {error}"),
            "retry after a moment; look for replicas that lag",
        ),
        PartitionError::NotReplica { .. } => Refusal::new(
            ErrorCode::ReplicaNotAvailable,
            format!("partition {name}: {error}"),
            "retry after a moment: the leader may not have heard of a new replica yet",
        ),
        PartitionError::BeyondLogEnd { .. } => {
            Refusal::new(ErrorCode::OffsetOutOfRange, format!("partition {name}: {error}"), "")
        }
        PartitionError::NotFollower => Refusal::not_leader(&name.topic, name.partition),
        PartitionError::Log(error) => Refusal::new(
            ErrorCode::KafkaStorageError,
            error.to_string(),
            "check the broker's disk and its log",
        ),
        PartitionError::Append(error) => append_refusal(error),
        PartitionError::Recode(error) => recode_refusal(error),
        PartitionError::Key(error) => Refusal::new(
            ErrorCode::InvalidRecord,
            format!("partition {name}: {error}"),
            "send every record with a key",
        ),
        PartitionError::Interrupted => Refusal::new(
            ErrorCode::KafkaStorageError,
            format!("partition {name}: {error}"),
            "retry with the same sequence (an idempotent producer does); report what the broker's \
             log says of the panic",
        ),
        PartitionError::OpeningPanicked => Refusal::new(
            ErrorCode::UnknownServerError,
            format!("partition {name}: {error}"),
            "report what the broker's log says of the panic, with the records if you may",
        ),
        PartitionError::Flush(error) => Refusal::new(
            ErrorCode::KafkaStorageError,
            error.to_string(),
            "the record may or may not be on disk; retry with the same sequence",
        ),
    }
}

/// Records that the topic's codec cannot be given to.
fn recode_refusal(error: &RecodeError) -> Refusal {
    match error {
        RecodeError::Record(RecordError::Compressed {
            source: DecompressError::TooLarge { .. },
            ..
        }) => Refusal::new(
            ErrorCode::MessageTooLarge,
            error.to_string(),
            "send smaller batches, or set compression.type=producer for the topic",
        ),
        _ => Refusal::new(
            ErrorCode::InvalidRecord,
            error.to_string(),
            "correct the client: the topic's compression.type has the broker read every record",
        ),
    }
}

fn append_refusal(error: &AppendError) -> Refusal {
    let text = error.to_string();
    match error {
        AppendError::Offline(_) => {
            Refusal::new(ErrorCode::KafkaStorageError, text, "check the broker's disk and its log")
        }
        AppendError::DiskFull { .. } | AppendError::LowSpace { .. } => Refusal::new(
            ErrorCode::KafkaStorageError,
            text,
            "retry: producing goes on by itself when there is space",
        ),
        AppendError::OutOfFiles { .. } => {
            Refusal::new(ErrorCode::KafkaStorageError, text, "retry after a moment")
        }
        AppendError::BatchTooLarge { size, limit } => too_large(*size, *limit),
        AppendError::InvalidBatch(error) => malformed(error),
        AppendError::LengthMismatch { .. } => Refusal::invalid_request(text),
        AppendError::Sequence(SequenceError::OutOfOrder { .. }) => Refusal::new(
            ErrorCode::OutOfOrderSequenceNumber,
            text,
            "send the failed batches again in order",
        ),
        AppendError::Sequence(SequenceError::Duplicate { .. }) => {
            Refusal::new(ErrorCode::DuplicateSequenceNumber, text, "")
        }
        AppendError::Sequence(SequenceError::UnknownProducer { .. }) => {
            Refusal::new(ErrorCode::UnknownProducerId, text, "begin a new epoch at sequence 0")
        }
        AppendError::Sequence(SequenceError::Fenced { .. }) => {
            Refusal::new(ErrorCode::InvalidProducerEpoch, text, "stop this instance")
        }
        // Of followers' appends alone.
        AppendError::NotNext { .. } | AppendError::OlderEpoch { .. } => {
            Refusal::new(ErrorCode::UnknownServerError, text, "")
        }
    }
}
