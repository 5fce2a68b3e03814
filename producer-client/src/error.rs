//! What can go wrong, one variant for each thing a caller can act on. Texts say what happened, the
//! likely cause, and what to do.

use std::sync::Arc;
use std::time::Duration;

use proto::{ErrorCode, Partition};

/// Why a record was not sent, or is not known to be.
///
/// Cheap to clone: all records of a batch share one.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The record can never fit.
    #[error(
        "the record takes up to {size} bytes and max.request.size is {limit}: split it, or raise \
         max.request.size here and max.message.bytes of the topic"
    )]
    RecordTooLarge {
        /// Its bytes in a batch, at most.
        size: usize,
        /// The limit it breaks.
        limit: usize,
    },
    /// No room in `buffer.memory` came free in time.
    #[error(
        "no room came free in the {memory} bytes of buffer.memory within {waited:?} \
         (max.block.ms): brokers take records more slowly than they are sent, or are not reachable; \
         await the futures of earlier sends, or raise buffer.memory{}", cause_text(.cause)
    )]
    BufferExhausted {
        /// How long the record stood in line.
        waited: Duration,
        /// `buffer.memory`.
        memory: usize,
        /// The last trouble with a broker, if any.
        cause: Option<Arc<str>>,
    },
    /// The topic's partitions did not become known in time.
    #[error(
        "the partitions of topic `{topic}` are not known after {waited:?} (max.block.ms): {cause}; \
         create the topic (`coordinator topics create`), or check bootstrap.servers"
    )]
    TopicNotAvailable {
        /// The topic.
        topic: Arc<str>,
        /// How long the record stood in line.
        waited: Duration,
        /// What the cluster said last.
        cause: Arc<str>,
    },
    /// The record or the partitioner names a partition that the topic does not have.
    #[error(
        "topic `{topic}` has no partition {partition}, only 0 to {}: correct the record's partition \
         or the partitioner, or add partitions", .count - 1
    )]
    UnknownPartition {
        /// The topic.
        topic: Arc<str>,
        /// What was asked for.
        partition: Partition,
        /// How many there are.
        count: i32,
    },
    /// The batch was not acknowledged within `delivery.timeout.ms`.
    #[error(
        "{topic}-{partition}: not acknowledged within {elapsed:?} (delivery.timeout.ms) and {attempts} \
         attempts{}; {}", cause_text(.cause), doubt_text(*.in_doubt)
    )]
    DeliveryTimeout {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: Partition,
        /// Since the batch was opened.
        elapsed: Duration,
        /// How often it was sent.
        attempts: u32,
        /// True when it was sent and no answer came: it may have been appended, or may yet be.
        in_doubt: bool,
        /// The last trouble.
        cause: Option<Arc<str>>,
    },
    /// The broker refused the batch for good.
    #[error("{topic}-{partition}: refused by the broker, {code}: {message}{}", remedy_text(.remedy))]
    Rejected {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: Partition,
        /// Why, as Kafka numbers it.
        code: ErrorCode,
        /// What the broker says happened.
        message: Arc<str>,
        /// What the broker says to do.
        remedy: Arc<str>,
    },
    /// `retries` attempts failed.
    #[error(
        "{topic}-{partition}: gave up after {attempts} attempts (retries){}; {}",
        cause_text(.cause), doubt_text(*.in_doubt)
    )]
    RetriesExhausted {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: Partition,
        /// How often it was sent.
        attempts: u32,
        /// True when it may have been appended.
        in_doubt: bool,
        /// The last trouble.
        cause: Option<Arc<str>>,
    },
    /// Another producer writes with this producer's id and a newer epoch. Nothing more can be sent to
    /// the partition.
    #[error(
        "{topic}-{partition}: fenced, the broker knows a newer epoch of this producer's id: {message}; \
         close this producer and make a new one"
    )]
    Fenced {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: Partition,
        /// What the broker says happened.
        message: Arc<str>,
    },
    /// The producer was closed before the record was acknowledged.
    #[error("the producer was closed{}", doubt_close(*.in_doubt))]
    Closed {
        /// True when it was sent and no answer came: it may have been appended.
        in_doubt: bool,
    },
}

impl SendError {
    /// True when the record may nevertheless be in the log: sending it again may make it two.
    pub fn in_doubt(&self) -> bool {
        matches!(
            self,
            Self::DeliveryTimeout { in_doubt: true, .. }
                | Self::RetriesExhausted { in_doubt: true, .. }
                | Self::Closed { in_doubt: true }
        )
    }

    /// The broker's error number, where a broker refused the record.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Rejected { code, .. } => Some(*code),
            Self::Fenced { .. } => Some(ErrorCode::InvalidProducerEpoch),
            Self::RecordTooLarge { .. } => Some(ErrorCode::MessageTooLarge),
            _ => None,
        }
    }
}

fn cause_text(cause: &Option<Arc<str>>) -> String {
    cause.as_ref().map_or_else(String::new, |cause| format!("; last trouble: {cause}"))
}

fn remedy_text(remedy: &str) -> String {
    if remedy.is_empty() { String::new() } else { format!("; {remedy}") }
}

fn doubt_text(in_doubt: bool) -> &'static str {
    if in_doubt {
        "it may have been appended: check before sending it again"
    } else {
        "it was not appended: it is safe to send it again"
    }
}

fn doubt_close(in_doubt: bool) -> &'static str {
    if in_doubt {
        " while the record waited for its acknowledgement; it may have been appended"
    } else {
        " before the record was sent; send it through another producer"
    }
}

fn failed_text(failed: u64) -> String {
    format!("{failed} record{} failed", if failed == 1 { "" } else { "s" })
}

/// A flush that ended with records that were not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{} since the last flush; the first: {first}", failed_text(*.failed))]
pub struct FlushError {
    /// How many.
    pub failed: u64,
    /// The first record's error.
    #[source]
    pub first: SendError,
}

/// Why a producer did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is not valid.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The producer's thread or its runtime could not be made.
    #[error(
        "the producer's thread could not be started: {0}; the process may be at its limit of \
             threads or files"
    )]
    Thread(#[source] std::io::Error),
    /// `on_current_runtime()` outside a runtime.
    #[error(
        "on_current_runtime() was asked for outside a tokio runtime: call it from async code, \
             or leave it out to let the producer have a thread of its own"
    )]
    NoRuntime,
}
