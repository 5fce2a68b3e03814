//! The task that owns the network side: which batch goes to whom and what becomes of it.
//!
//! One task holds all state and is its only writer; everything reaches it as an event, a command or
//! the accumulator's list of partitions with something to send. It never waits for one broker: each
//! has a [`link`] task that owns the stream and reports back.
//!
//! - `run`: the loop, timers, commands.
//! - `partition`: one partition's window, leader and back-off; what is sent next.
//! - `answers`: what acknowledgements, lost links and timeouts do to batches.
//! - `metadata`: leaders, partitions and the producer id, pushed or asked for in the background.
//! - `link`: the stream to one broker.
//!
//! The decisions about sequences are in [`crate::idempotence`]; nothing here encodes a record.

mod answers;
mod link;
mod metadata;
mod partition;
mod run;

use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::client::{ClientError, Cluster, Metadata, StreamSender};
use proto::record::{Compression, Compressor};
use proto::{BrokerId, ProducerEpoch, ProducerId, TopicId, v1};
use tokio::sync::{mpsc, oneshot, watch};

use crate::accumulator::QueueIndex;
use crate::config::ProducerConfig;
use crate::error::FlushError;
use crate::producer::Shared;
use link::Link;
pub(crate) use partition::BatchMade;
use partition::PartitionState;

/// Where the end of a flush is told.
type Reply = oneshot::Sender<Result<(), FlushError>>;

/// The producer ends when all is answered, or then.
struct Closing {
    deadline: Instant,
    reply: Option<Reply>,
}

/// What the application asks.
#[derive(Debug)]
pub(crate) enum Command {
    /// Send everything now and answer when all of it has ended.
    Flush(Reply),
    /// The same, but until the deadline only; then end.
    Close(Instant, Reply),
}

/// What tasks report.
enum Event {
    /// The stream to a broker can be written to.
    LinkOpen(BrokerId, u64, StreamSender),
    /// Acknowledgements.
    Acks(BrokerId, u64, Vec<v1::ProduceAck>),
    /// A full link has room again.
    LinkRoom(BrokerId, u64),
    /// The stream ended.
    LinkClosed(BrokerId, u64, ClientError),
    /// A refresh has ended; what it brought is told as any change is.
    Metadata(Result<(), ClientError>),
    ProducerId(Result<(ProducerId, ProducerEpoch), Arc<str>>),
    Flushed(Reply),
    CloseFlushed,
}

/// A topic as the sender sees it.
struct TopicState {
    id: TopicId,
    partitions: Vec<QueueIndex>,
}

/// Progress of something asked for in the background.
#[derive(Debug, Default)]
struct Asking {
    under_way: bool,
    wanted: bool,
    not_before: Option<Instant>,
    failures: u32,
}

/// See the module.
pub(crate) struct Sender {
    shared: Arc<Shared>,
    cluster: Cluster,
    topics: HashMap<Arc<str>, TopicState>,
    partitions: Vec<PartitionState>,
    links: HashMap<BrokerId, Link>,
    next_link: u64,
    next_request: u64,
    events: mpsc::UnboundedReceiver<Event>,
    report: mpsc::UnboundedSender<Event>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// Partitions to look at now.
    ready: VecDeque<QueueIndex>,
    /// Partitions to look at later; an entry counts only if it is its partition's `timer`.
    timers: BinaryHeap<std::cmp::Reverse<(Instant, QueueIndex)>>,
    metadata: Asking,
    metadata_at: Instant,
    /// Tells changes of what is known of the cluster, pushed or asked for.
    known: watch::Receiver<Arc<Metadata>>,
    /// What was taken up of it.
    applied: Arc<Metadata>,
    producer_id: Asking,
    id: Option<(ProducerId, ProducerEpoch)>,
    /// Flushes under way: nothing lingers.
    flushing: usize,
    closing: Option<Closing>,
    /// For error texts: the last thing that went wrong with a broker.
    trouble: Option<Arc<str>>,
    swept: Instant,
    /// What batches are compressed with when they are taken from the accumulator, if at all.
    compressor: Option<Compressor>,
}

impl Sender {
    pub(crate) fn new(
        shared: Arc<Shared>,
        cluster: Cluster,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        let (report, events) = mpsc::unbounded_channel();
        let now = Instant::now();
        Self {
            compressor: compressor(&shared.config),
            shared,
            topics: HashMap::new(),
            partitions: Vec::new(),
            links: HashMap::new(),
            next_link: 0,
            next_request: 0,
            events,
            report,
            commands,
            ready: VecDeque::new(),
            timers: BinaryHeap::new(),
            metadata: Asking::default(),
            metadata_at: now,
            known: cluster.subscribe(),
            applied: Arc::default(),
            cluster,
            producer_id: Asking::default(),
            id: None,
            flushing: 0,
            closing: None,
            trouble: None,
            swept: now,
        }
    }

    fn config(&self) -> &ProducerConfig {
        &self.shared.config
    }

    /// `linger.ms`; none during a flush, or while somebody waits for memory that only open batches
    /// hold. Memory in flight comes back by itself: cutting batches short for it would send them
    /// with a record or two, each at the price of a request.
    fn linger(&self) -> Duration {
        let in_flight = || self.links.values().any(|link| !link.in_flight.is_empty());
        let starved = !self.shared.line.is_empty() && !in_flight();
        match self.flushing > 0 || self.closing.is_some() || starved {
            true => Duration::ZERO,
            false => self.shared.config.linger,
        }
    }

    /// Puts a partition among those to be looked at.
    fn make_ready(&mut self, at: QueueIndex) {
        if let Some(partition) = self.partitions.get_mut(at)
            && !std::mem::replace(&mut partition.is_ready, true)
        {
            self.ready.push_back(at);
        }
    }

    /// Looks at a partition at `when`, unless an earlier look is planned.
    fn make_ready_at(&mut self, at: QueueIndex, when: Instant) {
        let Some(partition) = self.partitions.get_mut(at) else { return };
        if partition.timer.is_none_or(|timer| when < timer) {
            partition.timer = Some(when);
            self.timers.push(std::cmp::Reverse((when, at)));
        }
    }
}

/// For the settings, whose level was checked with them.
fn compressor(config: &ProducerConfig) -> Option<Compressor> {
    if config.compression == Compression::None {
        return None;
    }
    match Compressor::new(config.compression, config.compression_level()) {
        Ok(compressor) => Some(compressor),
        Err(error) => {
            tracing::error!(%error, "batches go uncompressed");
            None
        }
    }
}
