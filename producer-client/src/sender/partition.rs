//! One partition on the sender's side, and what is sent to it next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::client::Backoff;
use proto::grpc::produce_request_head;
use proto::record::{
    Batch, BatchBuilder, BatchDecoder, Compressor, Header, ProducerStamp, restamp_producer,
};
use proto::{BrokerId, LeaderEpoch, TopicId, v1};

use super::Sender;
use super::link::{InFlight, Link};
use crate::accumulator::{PartitionQueue, QueueIndex, Taken};
use crate::batch::{Completion, OpenBatch, Outcome};
use crate::config::{Acks, ProducerConfig};
use crate::idempotence::{Mode, Ticket, Window};

/// Batches of one partition sent before the others have their turn: so many bytes, or so many.
const TURN_BYTES: usize = 1 << 20;
const TURN: usize = 256;

/// A broker may hear a little later than its clients that it leads: until it has taken something it is asked
/// again after so long, doubling.
const TAKES_OVER: Duration = Duration::from_millis(5);

/// A batch that was sent at least once.
#[derive(Debug)]
pub(crate) struct SentBatch {
    pub(super) bytes: Bytes,
    stamp: ProducerStamp,
    /// Bytes of the batch before compression.
    plain_len: usize,
    pub(super) completion: Arc<Completion>,
    pub(super) opened: Instant,
    pub(super) charged: usize,
    pub(super) records: i32,
    pub(super) attempts: u32,
}

impl SentBatch {
    /// The batch in two halves with completions of their own; `None` if it cannot be divided.
    fn halve(&self, mut compressor: Option<&mut Compressor>) -> Option<[SentBatch; 2]> {
        if self.records < 2 {
            return None;
        }
        let batch = Batch::parse_without_crc(&self.bytes).ok()?;
        let half = self.records / 2;
        let mut builders = [(); 2].map(|()| BatchBuilder::new(self.plain_len));
        let mut decoder = BatchDecoder::new(self.plain_len);
        for (index, record) in (0..).zip(decoder.records(&batch).ok()?) {
            let record = record.ok()?;
            let headers: Vec<Header<'_>> = record.headers.collect();
            let builder = &mut builders[usize::from(index >= half)];
            builder.append(record.timestamp, record.key, record.value, &headers).ok()?;
        }
        let charges = [self.charged / 2, self.charged - self.charged / 2];
        let mut charges = charges.into_iter();
        Some(builders.map(|builder| SentBatch {
            records: builder.record_count(),
            plain_len: builder.size_in_bytes(),
            bytes: finish(builder, compressor.as_deref_mut(), ProducerStamp::NONE),
            stamp: ProducerStamp::NONE,
            completion: Completion::new(self.completion.partition()),
            opened: self.opened,
            charged: charges.next().unwrap_or_default(),
            attempts: 0,
        }))
    }
}

/// What became of a batch's size when it was closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchMade {
    /// Bytes before compression.
    pub(crate) plain_len: usize,
    /// Bytes that are sent.
    pub(crate) len: usize,
    /// Of `buffer.memory`, no longer needed.
    pub(crate) freed: usize,
}

fn finish(
    builder: BatchBuilder,
    compressor: Option<&mut Compressor>,
    stamp: ProducerStamp,
) -> Bytes {
    match compressor {
        Some(compressor) => builder.finish_compressed(compressor, stamp),
        None => builder.finish(stamp),
    }
}

/// See the module.
pub(super) struct PartitionState {
    pub(super) queue: Arc<PartitionQueue>,
    pub(super) window: Window<SentBatch>,
    pub(super) topic_id: TopicId,
    /// The topic was made again: to be seen to once nothing is on the wire.
    pub(super) topic_changed: bool,
    pub(super) leader: Option<BrokerId>,
    pub(super) leader_epoch: LeaderEpoch,
    /// The link that what is on the wire went over.
    pub(super) link: Option<(BrokerId, u64)>,
    /// Counts how often what was on the wire was given up for another way: answers of an earlier one
    /// are void.
    pub(super) route: u64,
    pub(super) backoff: Backoff,
    pub(super) not_before: Option<Instant>,
    /// The last trouble, for error texts.
    pub(super) trouble: Option<Arc<str>>,
    pub(super) is_ready: bool,
    pub(super) timer: Option<Instant>,
}

/// What a look at a partition ended with.
enum Next {
    /// So many bytes were sent: look again.
    Sent(usize),
    /// Nothing to do until an event or a timer.
    Nothing,
    /// Look again then.
    At(Instant),
    /// The leader is not known.
    NoLeader,
    /// Waits for its link.
    Link(BrokerId),
    /// Waits for a producer id.
    NoId,
}

impl Sender {
    /// Sends what can be sent to a partition.
    pub(super) fn serve(&mut self, at: QueueIndex, now: Instant) {
        let Some(partition) = self.partitions.get_mut(at) else { return };
        partition.is_ready = false;
        partition.queue.looked();
        let mut bytes = 0;
        for _ in 0..TURN {
            match self.send_next(at, now) {
                Next::Sent(more) if bytes + more >= TURN_BYTES => break,
                Next::Sent(more) => bytes += more,
                Next::Nothing => return,
                Next::At(when) => return self.make_ready_at(at, when),
                Next::NoLeader => {
                    if let Some(partition) = self.partitions.get_mut(at) {
                        partition.trouble = Some("no live broker leads the partition".into());
                    }
                    return self.want_metadata();
                }
                Next::NoId => return self.want_producer_id(),
                Next::Link(broker) => {
                    let link = self.link(broker);
                    if !link.waiting.contains(&at) {
                        link.waiting.push(at);
                    }
                    return;
                }
            }
        }
        self.make_ready(at);
    }

    fn send_next(&mut self, at: QueueIndex, now: Instant) -> Next {
        let linger = self.linger();
        let Some(partition) = self.partitions.get_mut(at) else { return Next::Nothing };
        let resending = match partition.window.mode() {
            Mode::Draining | Mode::Fenced => return Next::Nothing,
            Mode::Resending => true,
            Mode::Flowing | Mode::NoId => false,
        };
        if !resending {
            match partition.queue.due(now, linger) {
                None => return Next::Nothing,
                Some(when) if when > now => return Next::At(when),
                Some(_) => {}
            }
            if partition.window.mode() == Mode::NoId {
                return Next::NoId;
            }
            if !partition.window.has_room() {
                return Next::Nothing;
            }
        }
        if let Some(when) = partition.not_before.filter(|&when| when > now) {
            return Next::At(when);
        }
        let Some(leader) = partition.leader else { return Next::NoLeader };
        let Some(link) = self.links.get_mut(&leader).filter(|link| link.has_room()) else {
            return Next::Link(leader);
        };
        let over = Some((leader, link.generation));
        if partition.window.on_wire() > 0 && partition.link != over {
            // Its link is gone, and the end of it will be told.
            return Next::Nothing;
        }
        let sent = match resending {
            true => partition.resend(),
            false => match partition.queue.take(now, linger) {
                Taken::Batch(batch) => {
                    self.shared.accumulator.pace.took(&partition.queue, batch.ahead);
                    let (ticket, bytes, made) = partition.send_new(batch, self.compressor.as_mut());
                    self.shared.batch_made(made);
                    Some((ticket, bytes))
                }
                Taken::Later(when) => return Next::At(when),
                Taken::Empty => return Next::Nothing,
            },
        };
        let Some((ticket, bytes)) = sent else { return Next::Nothing };
        partition.link = over;
        let request_id = self.next_request;
        self.next_request += 1;
        let config = &self.shared.config;
        let head = partition.request(request_id, config.acks, config.max_in_flight);
        let len = bytes.len();
        match produce_request_head(&head, len) {
            Ok(head) => link.send(head, bytes),
            Err(error) => tracing::error!(%error, "a batch cannot be framed"),
        }
        if config.acks == Acks::None {
            self.no_answer_expected(at, ticket);
        } else {
            let route = partition.route;
            link.in_flight.insert(request_id, InFlight { at, ticket, route, since: now });
        }
        Next::Sent(len)
    }

    /// The link to a broker, opened if there is none.
    fn link(&mut self, broker: BrokerId) -> &mut Link {
        self.links.entry(broker).or_insert_with(|| {
            self.next_link += 1;
            Link::open(broker, self.next_link, self.cluster.clone(), self.report.clone())
        })
    }
}

impl PartitionState {
    /// What is on the wire will go another way; false where nothing is. To be settled after.
    pub(super) fn reroute(&mut self) -> bool {
        self.link = None;
        let any = self.window.on_wire() > 0;
        if any {
            self.route += 1;
            self.window.lost();
        }
        any
    }

    /// Another leader, or the same one anew: what failed before need not wait, and counts for nothing.
    pub(super) fn led_anew(&mut self, config: &ProducerConfig) {
        self.not_before = None;
        let first = config.retry_backoff.min(TAKES_OVER);
        self.backoff = Backoff::new(first, config.retry_backoff_max);
    }

    /// Its leader takes what is sent.
    pub(super) fn taken_well(&mut self, config: &ProducerConfig) {
        self.backoff = Backoff::new(config.retry_backoff, config.retry_backoff_max);
    }

    /// Whether it is led by the broker, or has something on the wire to it.
    pub(super) fn depends_on(&self, broker: BrokerId) -> bool {
        let on_wire = self.window.on_wire() > 0;
        let over = self.link.filter(|_| on_wire).map(|(over, _)| over);
        over.or(self.leader) == Some(broker)
    }

    /// Compresses and stamps a batch and puts it in the window.
    fn send_new(
        &mut self,
        batch: OpenBatch,
        compressor: Option<&mut Compressor>,
    ) -> (Ticket, Bytes, BatchMade) {
        let OpenBatch { builder, completion, opened, charged, .. } = batch;
        let records = builder.record_count();
        let plain_len = builder.size_in_bytes();
        let stamp = self.window.next_stamp();
        let bytes = finish(builder, compressor, stamp);
        // A compressed batch has memory of its own, of its own size; what was charged for the room
        // its records had is given back. An uncompressed one stays in that room.
        let freed = if bytes.len() < plain_len { charged - bytes.len() } else { 0 };
        let made = BatchMade { plain_len, len: bytes.len(), freed };
        let sent = SentBatch {
            bytes: bytes.clone(),
            stamp,
            plain_len,
            completion,
            opened,
            charged: charged - freed,
            records,
            attempts: 1,
        };
        (self.window.push(sent, records), bytes, made)
    }

    /// The next batch of the window that has to go again, under the stamp it has now.
    fn resend(&mut self) -> Option<(Ticket, Bytes)> {
        let resend = self.window.resend()?;
        let batch = resend.batch;
        if batch.stamp != resend.stamp {
            match restamp_producer(&batch.bytes, resend.stamp) {
                Ok(bytes) => (batch.bytes, batch.stamp) = (bytes, resend.stamp),
                Err(error) => tracing::error!(%error, "a batch of our own cannot be read"),
            }
        }
        batch.attempts += 1;
        Some((resend.ticket, batch.bytes.clone()))
    }

    /// A batch that the topic finds too large (it may allow less than `batch.size`) goes on as two,
    /// and new ones are smaller. False if it is a single record.
    pub(super) fn halve(&mut self, ticket: Ticket, compressor: Option<&mut Compressor>) -> bool {
        let Some(batch) = self.window.on_wire_batch(ticket) else { return false };
        let Some(halves) = batch.halve(compressor) else { return false };
        let name = &self.queue.name;
        tracing::debug!(partition = %name, bytes = batch.bytes.len(), "batch too large, halved");
        self.queue.limit_batches(batch.plain_len / 2);
        let firsts = [0, halves[0].records];
        match batch.completion.outcome() {
            // Its futures know a timeout already: so do its halves.
            Some(outcome) => {
                for half in &halves {
                    half.completion.complete(outcome.clone());
                }
            }
            None => {
                let parts = firsts.into_iter().zip(&halves);
                let parts = parts.map(|(first, half)| (first, Arc::clone(&half.completion)));
                batch.completion.complete(Outcome::Split(parts.collect()));
            }
        }
        let halves = halves.into_iter().map(|half| {
            let records = half.records;
            (half, records)
        });
        self.window.split(ticket, halves.collect());
        true
    }

    fn request(&self, request_id: u64, acks: Acks, max_in_flight: usize) -> v1::ProduceRequest {
        let acks = match acks {
            Acks::None => v1::Acks::None,
            Acks::Leader => v1::Acks::Leader,
            Acks::All => v1::Acks::All,
        };
        v1::ProduceRequest {
            request_id,
            topic: self.queue.name.topic.as_ref().into(),
            topic_id: self.topic_id.to_bytes(),
            partition: self.queue.name.partition,
            leader_epoch: self.leader_epoch.0,
            acks: acks.into(),
            timeout_ms: 0,
            max_in_flight: max_in_flight as u32,
            records: Bytes::new(),
        }
    }
}
