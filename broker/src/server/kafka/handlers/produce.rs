//! Produce: one batch a partition, appended as it came.
//!
//! All partitions of a request are queued before this returns, in the order of the requests; the
//! answer waits for all of them. Records are slices of the frame, whose place in the budget is kept
//! until the last of them is written.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::kafka::messages::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceResponse,
};
use proto::kafka::{Str, encode};
use proto::record::{BatchHeader, Compression};
use proto::{ErrorCode, LeaderEpoch};
use tokio::sync::oneshot;

use super::super::budget::Reservation;
use super::{Answer, Context, LeaderHints, NONE, Outgoing, Work, by_name, code};
use crate::api::{Produce, Produced, Refusal, timed_out};
use crate::replication::{Partition, RequiredAcks};

/// Batches in flight of one producer, as Kafka's clients have at most.
const MAX_IN_FLIGHT: u32 = 5;
/// The first version whose clients know zstd.
const ZSTD_FROM: i16 = 7;
/// Where a batch says its format.
const MAGIC_AT: usize = 16;
const MAGIC: u8 = 2;

type Outcome = Result<Produced, Refusal>;

/// What is awaited: by topic, by partition.
type Awaited = Vec<(Str, Vec<(i32, oneshot::Receiver<Outcome>)>)>;

pub(in super::super) fn produce(
    context: &Context,
    correlation_id: i32,
    request: ProduceRequest,
    place: Reservation,
) -> Work {
    let acks = match request.acks {
        0 => RequiredAcks::None,
        1 => RequiredAcks::Leader,
        -1 => RequiredAcks::All,
        other => return refuse_acks(context, correlation_id, request, other),
    };
    let wait = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let due = Instant::now() + wait;
    let place = Arc::new(place);
    // By their addresses: a partition is driven once, however often it is named.
    let mut touched: HashMap<*const Partition, Arc<Partition>> = HashMap::new();
    let mut awaited: Awaited = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let mut partitions = Vec::with_capacity(topic.partition_data.len());
        for PartitionProduceData { index, records } in topic.partition_data {
            let (sender, receiver) = oneshot::channel();
            let hold = Box::new(Arc::clone(&place));
            let queued = queue(context, &topic.name, index, records, (acks, due), hold, sender);
            if let Some(partition) = queued {
                touched.insert(Arc::as_ptr(&partition), partition);
            }
            partitions.push((index, receiver));
        }
        awaited.push((topic.name, partitions));
    }
    drop(place);
    for partition in touched.into_values() {
        partition.drive();
    }
    match acks {
        RequiredAcks::None => Box::pin(unacknowledged(awaited)),
        _ => Box::pin(acknowledged(context.clone(), awaited, correlation_id, due)),
    }
}

/// Queues one batch; the partition to drive, where it was taken.
fn queue(
    context: &Context,
    topic: &str,
    partition: i32,
    records: Option<Bytes>,
    (acks, due): (RequiredAcks, Instant),
    hold: Box<dyn Send>,
    sender: oneshot::Sender<Outcome>,
) -> Option<Arc<Partition>> {
    let api = &context.services.api;
    let records = records.unwrap_or_default();
    let checked = check(&records, context.version).and_then(|()| api.topic_id_of(topic));
    let topic_id = match checked {
        Ok(id) => id.to_bytes(),
        Err(refusal) => {
            let _ = sender.send(Err(refusal));
            return None;
        }
    };
    let produce = Produce {
        topic,
        topic_id: &topic_id,
        partition,
        leader_epoch: LeaderEpoch::UNKNOWN,
        max_in_flight: MAX_IN_FLIGHT,
        acks,
        due,
        records: vec![records],
        hold: Some(hold),
    };
    let done = move |outcome| {
        let _ = sender.send(outcome);
    };
    api.produce(produce, done)
}

/// What Kafka's protocol wants of records beyond what every batch must be.
fn check(records: &Bytes, version: i16) -> Result<(), Refusal> {
    let invalid = |text: &'static str| {
        Refusal::new(ErrorCode::InvalidRecord, text, "correct the client, or use a newer one")
    };
    if records.get(MAGIC_AT).is_some_and(|&magic| magic != MAGIC) {
        return Err(invalid("the records are not a batch of format 2"));
    }
    match BatchHeader::parse(records) {
        Ok(header) if header.size_in_bytes() < records.len() => {
            Err(invalid("there is more than one batch for the partition"))
        }
        Ok(header)
            if version < ZSTD_FROM && header.attributes.compression() == Ok(Compression::Zstd) =>
        {
            Err(Refusal::new(
                ErrorCode::UnsupportedCompressionType,
                "zstd needs version 7 of Produce",
                "use a newer client, or another codec",
            ))
        }
        // What else is wrong with it is found where all batches are checked.
        _ => Ok(()),
    }
}

/// Waits for all partitions and answers.
async fn acknowledged(
    context: Context,
    awaited: Awaited,
    correlation_id: i32,
    due: Instant,
) -> Answer {
    let due = tokio::time::Instant::from_std(due);
    let mut hints = LeaderHints::default();
    let mut responses = Vec::with_capacity(awaited.len());
    for (name, partitions) in awaited {
        let mut partition_responses = Vec::with_capacity(partitions.len());
        for (index, receiver) in partitions {
            let outcome = match tokio::time::timeout_at(due, receiver).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) | Err(_) => Err(timed_out(
                    "the records were not flushed to disk, or not replicated, within the \
                     request's time; whether they will be is not known",
                )),
            };
            let error = outcome.as_ref().err().map(|refusal| refusal.code);
            let hint = error.map(|error| hints.of(&context, error, &name, index));
            let current_leader = hint.unwrap_or_default();
            let response = response(index, outcome);
            partition_responses.push(PartitionProduceResponse { current_leader, ..response });
        }
        responses.push(TopicProduceResponse { name, partition_responses });
    }
    let node_endpoints = hints.endpoints(&context);
    let response = ProduceResponse { responses, node_endpoints, ..Default::default() };
    let encoded = encode::<ProduceRequest>(context.version, correlation_id, &response);
    Answer::Send(Outgoing::new(encoded, Vec::new()))
}

/// Who wants no acknowledgement learns of a failure by the end of the connection, as from Kafka.
async fn unacknowledged(awaited: Awaited) -> Answer {
    for (topic, partitions) in awaited {
        for (index, receiver) in partitions {
            if let Ok(Err(refusal)) = receiver.await {
                return Answer::Close(format!(
                    "records for partition {index} of topic {topic:.64} with acks=0 were refused: \
                     {refusal}"
                ));
            }
        }
    }
    Answer::Nothing
}

fn response(index: i32, outcome: Outcome) -> PartitionProduceResponse {
    match outcome {
        Ok(produced) => PartitionProduceResponse {
            index,
            // Appended before, and forgotten at which offset: clients take that for a success.
            error_code: produced
                .base_offset
                .map_or(ErrorCode::DuplicateSequenceNumber as i16, |_| NONE),
            base_offset: produced.base_offset.map_or(-1, |offset| offset.0),
            log_append_time_ms: produced.log_append_time_ms.unwrap_or(-1),
            log_start_offset: produced.log_start.0,
            ..Default::default()
        },
        Err(refusal) => {
            let refusal = by_name(refusal);
            PartitionProduceResponse {
                index,
                error_code: code(&refusal),
                base_offset: -1,
                error_message: Some(refusal.message.as_ref().into()),
                ..Default::default()
            }
        }
    }
}

fn refuse_acks(context: &Context, correlation_id: i32, request: ProduceRequest, acks: i16) -> Work {
    let refusal = || {
        Refusal::new(
            ErrorCode::InvalidRequiredAcks,
            format!("acks is {acks}; 0, 1 and -1 (all) are known"),
            "correct the client",
        )
    };
    let responses = request.topic_data.into_iter().map(|topic| TopicProduceResponse {
        partition_responses: topic
            .partition_data
            .iter()
            .map(|data| response(data.index, Err(refusal())))
            .collect(),
        name: topic.name,
    });
    let response = ProduceResponse { responses: responses.collect(), ..Default::default() };
    let encoded = encode::<ProduceRequest>(context.version, correlation_id, &response);
    Box::pin(std::future::ready(Answer::Send(Outgoing::new(encoded, Vec::new()))))
}
