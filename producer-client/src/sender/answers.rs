//! What becomes of batches: acknowledgements, lost links, timeouts, the end.

use std::sync::Arc;
use std::time::Instant;

use proto::client::ClientError;
use proto::{BrokerId, ErrorCode, Retry, v1};

use super::Sender;
use super::link::InFlight;
use super::partition::SentBatch;
use crate::accumulator::{PartitionQueue, QueueIndex};
use crate::batch::{OpenBatch, Outcome};
use crate::error::SendError;
use crate::idempotence::{Answer, Mode, Ticket};

/// An acknowledgement's meaning.
enum Verdict {
    Done { base_offset: i64, append_time_ms: i64 },
    Again(Answer, ErrorCode, v1::Error),
    Refused(ErrorCode, v1::Error),
    Fenced(v1::Error),
}

fn judge(ack: v1::ProduceAck) -> Verdict {
    let Some(error) = ack.error else {
        let (base_offset, append_time_ms) = (ack.base_offset, ack.log_append_time_ms);
        return Verdict::Done { base_offset, append_time_ms };
    };
    let code = ErrorCode::from_code(error.code);
    match code {
        ErrorCode::DuplicateSequenceNumber => Verdict::Done { base_offset: -1, append_time_ms: -1 },
        ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId => {
            Verdict::Again(Answer::OutOfOrder, code, error)
        }
        ErrorCode::InvalidProducerEpoch => Verdict::Fenced(error),
        // Told after the append, or without knowing of it: a leader that is none any more tells so for
        // what it had appended too.
        ErrorCode::RequestTimedOut
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::NotLeaderOrFollower
        | ErrorCode::KafkaStorageError => Verdict::Again(Answer::RetryInDoubt, code, error),
        code => match code.retry() {
            Retry::Never => Verdict::Refused(code, error),
            Retry::Backoff | Retry::RefreshMetadata => Verdict::Again(Answer::Retry, code, error),
        },
    }
}

impl Sender {
    pub(super) fn on_acks(&mut self, broker: BrokerId, generation: u64, acks: Vec<v1::ProduceAck>) {
        let link = self.links.get_mut(&broker).filter(|link| link.generation == generation);
        let Some(link) = link else { return };
        link.heard = Some(Instant::now());
        for ack in acks {
            let link = self.links.get_mut(&broker).filter(|link| link.generation == generation);
            let Some(link) = link else { return };
            match link.in_flight.remove(&ack.request_id) {
                Some(sent) if self.is_current(&sent) => self.on_ack(sent.at, sent.ticket, ack),
                Some(sent) => self.on_late_ack(sent.at, sent.ticket, ack),
                None => {
                    tracing::warn!(%broker, request = ack.request_id, "answer to nothing asked");
                }
            }
        }
    }

    /// Whether its batch was not sent another way since.
    fn is_current(&self, sent: &InFlight) -> bool {
        self.partitions.get(sent.at).is_some_and(|partition| partition.route == sent.route)
    }

    /// Its batch is on its way to another leader: what is not appended there yet, that one will tell.
    fn on_late_ack(&mut self, at: QueueIndex, ticket: Ticket, ack: v1::ProduceAck) {
        let Verdict::Done { base_offset, append_time_ms } = judge(ack) else { return };
        let partition = self.partitions.get_mut(at);
        if let Some(batch) = partition.and_then(|p| p.window.appended_before(ticket)) {
            self.end(batch, Outcome::Done { base_offset, append_time_ms });
            self.settle(at);
        }
    }

    fn on_ack(&mut self, at: QueueIndex, ticket: Ticket, ack: v1::ProduceAck) {
        let Some(partition) = self.partitions.get_mut(at) else { return };
        match judge(ack) {
            Verdict::Done { base_offset, append_time_ms } => {
                partition.taken_well(&self.shared.config);
                if let Some(batch) = partition.window.answered(ticket, Answer::Appended) {
                    self.end(batch, Outcome::Done { base_offset, append_time_ms });
                }
            }
            Verdict::Again(answer, code, error) => self.on_retry(at, ticket, answer, code, &error),
            Verdict::Refused(ErrorCode::MessageTooLarge, _)
                if partition.halve(ticket, self.compressor.as_mut()) => {}
            Verdict::Refused(code, error) => {
                let failed = SendError::Rejected {
                    topic: Arc::clone(&partition.queue.name.topic),
                    partition: partition.queue.name.partition,
                    code,
                    message: error.message.into(),
                    remedy: error.remedy.into(),
                };
                if let Some(batch) = partition.window.answered(ticket, Answer::Refused) {
                    self.end(batch, Outcome::Failed(failed));
                }
            }
            Verdict::Fenced(error) => {
                let failed = SendError::Fenced {
                    topic: Arc::clone(&partition.queue.name.topic),
                    partition: partition.queue.name.partition,
                    message: error.message.into(),
                };
                self.fail_partition(at, |_| failed.clone());
            }
        }
        self.settle(at);
    }

    fn on_retry(
        &mut self,
        at: QueueIndex,
        ticket: Ticket,
        answer: Answer,
        code: ErrorCode,
        error: &v1::Error,
    ) {
        let Some(partition) = self.partitions.get_mut(at) else { return };
        let first = partition.window.mode() != Mode::Draining;
        partition.window.answered(ticket, answer);
        if first {
            let wait = partition.backoff.after_failure();
            partition.not_before = Some(Instant::now() + wait);
            let (name, message) = (&partition.queue.name, &error.message);
            tracing::debug!(partition = %name, ?code, %message, "batch not taken, will be resent");
        }
        if answer != Answer::OutOfOrder {
            let text: Arc<str> = format!("{code}: {}", error.message).into();
            partition.trouble = Some(Arc::clone(&text));
            self.trouble = Some(text);
        }
        if code.retry() == Retry::RefreshMetadata {
            self.want_metadata();
        }
        if self.config().retries < i32::MAX as u32 {
            self.expire(at, Instant::now());
        }
    }

    /// `acks=0`: a request that was handed over is done.
    pub(super) fn no_answer_expected(&mut self, at: QueueIndex, ticket: Ticket) {
        let partition = self.partitions.get_mut(at);
        if let Some(batch) = partition.and_then(|p| p.window.answered(ticket, Answer::Appended)) {
            self.end(batch, Outcome::Done { base_offset: -1, append_time_ms: -1 });
        }
    }

    /// A link is gone: what was on it is in doubt.
    pub(super) fn on_link_closed(
        &mut self,
        broker: BrokerId,
        generation: u64,
        error: &ClientError,
    ) {
        if self.links.get(&broker).is_none_or(|link| link.generation != generation) {
            return;
        }
        let Some(mut link) = self.links.remove(&broker) else { return };
        let text: Arc<str> = error.to_string().into();
        if !link.in_flight.is_empty() {
            tracing::warn!(%broker, in_flight = link.in_flight.len(), error = %text,
                "produce stream lost, its batches will be resent");
        } else if link.waiting.is_empty() || self.trouble.as_ref() == Some(&text) {
            tracing::debug!(%broker, error = %text, "produce stream ended");
        } else {
            tracing::warn!(%broker, error = %text, "no produce stream, will try again");
        }
        let mut concerned = std::mem::take(&mut link.waiting);
        let current = link.in_flight.values().filter(|sent| self.is_current(sent));
        concerned.extend(current.map(|sent| sent.at));
        concerned.sort_unstable();
        concerned.dedup();
        // Those that have another leader by now neither lose nor wait for anything.
        concerned.retain(|&at| self.partitions.get(at).is_some_and(|p| p.depends_on(broker)));
        for &at in &concerned {
            let Some(partition) = self.partitions.get_mut(at) else { continue };
            partition.reroute();
            partition.trouble = Some(Arc::clone(&text));
            partition.not_before = Some(Instant::now() + partition.backoff.after_failure());
            self.settle(at);
        }
        self.trouble = Some(text);
        self.cluster.suspect(broker);
        if !concerned.is_empty() {
            self.want_metadata();
        }
    }

    /// Ends links on which no answer came for `request.timeout.ms` although one is due.
    pub(super) fn drop_silent_links(&mut self, now: Instant) {
        let timeout = self.config().request_timeout;
        let patience = self.config().delivery_timeout.max(timeout);
        let silent: Vec<(BrokerId, u64)> = self
            .links
            .iter()
            .filter(|(_, link)| link.is_silent(now, timeout, patience))
            .map(|(&broker, link)| (broker, link.generation))
            .collect();
        for (broker, generation) in silent {
            let known = self.cluster.metadata();
            let address =
                known.brokers.get(&broker).map_or_else(String::new, |b| b.address.clone());
            let what = "a produce request";
            let error = ClientError::TimedOut { address, what, after: timeout };
            if let Some(connection) = self.links.get(&broker).and_then(|l| l.connection.get()) {
                self.cluster.connection_broken(connection);
            }
            self.on_link_closed(broker, generation, &error);
        }
    }

    /// Lets the window decide once its answers are in, then looks at the partition.
    pub(super) fn settle(&mut self, at: QueueIndex) {
        let Some(partition) = self.partitions.get_mut(at) else { return };
        for batch in partition.window.settle() {
            self.shared.accumulator.memory.give(batch.charged);
        }
        if partition.topic_changed && partition.window.on_wire() == 0 {
            partition.topic_changed = false;
            partition.window.begin_anew();
        }
        if partition.window.mode() == Mode::NoId {
            self.id = None;
            self.want_producer_id();
        }
        self.make_ready(at);
    }

    /// Fails what has passed its delivery timeout or its retries.
    pub(super) fn expire(&mut self, at: QueueIndex, now: Instant) {
        let Some(partition) = self.partitions.get_mut(at) else { return };
        let (timeout, retries) = (self.shared.config.delivery_timeout, self.shared.config.retries);
        let (queue, trouble) = (Arc::clone(&partition.queue), partition.trouble.clone());
        let error = |opened: Instant, attempts: u32, in_doubt: bool| {
            let (topic, partition) = (Arc::clone(&queue.name.topic), queue.name.partition);
            let cause = trouble.clone();
            let elapsed = now.saturating_duration_since(opened);
            if elapsed >= timeout {
                SendError::DeliveryTimeout { topic, partition, elapsed, attempts, in_doubt, cause }
            } else {
                SendError::RetriesExhausted { topic, partition, attempts, in_doubt, cause }
            }
        };
        let shared = Arc::clone(&self.shared);
        let draining = partition.window.mode() != Mode::Flowing;
        let dropped = partition.window.expire(|batch, in_doubt| {
            let is_over = now.saturating_duration_since(batch.opened) >= timeout
                || (draining && batch.attempts > retries);
            if is_over {
                let failed = error(batch.opened, batch.attempts, in_doubt);
                shared.tell(&batch.completion, batch.records, 0, Outcome::Failed(failed));
            }
            is_over
        });
        dropped.iter().for_each(|batch| shared.accumulator.memory.give(batch.charged));
        let unsent = now.checked_sub(timeout).map(|before| queue.take_expired(before));
        for batch in unsent.into_iter().flatten() {
            let failed = error(batch.opened, 0, false);
            self.end_unsent(&queue, &batch, failed);
        }
        self.settle(at);
    }

    /// Nothing can be sent to the partition any more.
    pub(super) fn fail_partition(&mut self, at: QueueIndex, why: impl Fn(bool) -> SendError) {
        let Some(partition) = self.partitions.get_mut(at) else { return };
        let queue: Arc<PartitionQueue> = Arc::clone(&partition.queue);
        for (batch, in_doubt) in partition.window.fence() {
            self.end(batch, Outcome::Failed(why(in_doubt)));
        }
        for batch in queue.close(why(false)) {
            self.end_unsent(&queue, &batch, why(false));
        }
    }

    /// Tells the futures and gives the memory back.
    fn end(&self, batch: SentBatch, outcome: Outcome) {
        self.shared.tell(&batch.completion, batch.records, batch.bytes.len(), outcome);
        let accumulator = &self.shared.accumulator;
        accumulator.memory.give(batch.charged);
        accumulator.buffers.give(batch.bytes, accumulator.memory.free());
    }

    fn end_unsent(&self, queue: &PartitionQueue, batch: &OpenBatch, error: SendError) {
        self.shared.accumulator.pace.took(queue, batch.ahead);
        let records = batch.builder.record_count();
        self.shared.tell(&batch.completion, records, 0, Outcome::Failed(error));
        self.shared.accumulator.memory.give(batch.charged);
    }
}
