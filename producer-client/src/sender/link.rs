//! The stream to one broker: a task that connects, writes requests and reads acknowledgements.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::BrokerId;
use proto::client::{ClientError, Cluster, Connection, StreamSender};
use proto::v1;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::Event;
use crate::accumulator::QueueIndex;
use crate::idempotence::Ticket;

/// Bytes handed to a link that the HTTP/2 stream has not taken; above it, partitions wait.
const QUEUED_MAX: usize = 2 << 20;
/// Room is reported when so many are left.
const QUEUED_LOW: usize = 1 << 20;
/// A request counts as at least so many bytes.
const REQUEST_MIN: usize = 2 << 10;
/// Messages the stream itself takes ahead: small ones go out together, in one frame.
const STREAM_MESSAGES: usize = 64;
/// The longest acknowledgement message taken.
const ACKS_LEN_MAX: usize = 4 << 20;

/// A request without an answer yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct InFlight {
    pub(super) at: QueueIndex,
    pub(super) ticket: Ticket,
    /// Its partition's route when it was sent.
    pub(super) route: u64,
    pub(super) since: Instant,
}

/// The sender's side of a link. Dropping it ends the task and the stream.
pub(super) struct Link {
    /// Tells this link from an earlier one to the same broker.
    pub(super) generation: u64,
    /// `None` once the producer closes: the task writes what it has and half-closes.
    requests: Option<mpsc::UnboundedSender<(Bytes, Bytes)>>,
    /// Once it is open, for what has not to wait behind others.
    stream: Option<StreamSender>,
    queued: Arc<AtomicUsize>,
    /// Set once it is open.
    pub(super) connection: Arc<OnceLock<Connection>>,
    /// When the last acknowledgement came.
    pub(super) heard: Option<Instant>,
    /// By request id, which ascends: the first is the oldest.
    pub(super) in_flight: BTreeMap<u64, InFlight>,
    /// Partitions that wait until it is open or has room.
    pub(super) waiting: Vec<QueueIndex>,
    task: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// Begins to connect.
    pub(super) fn open(
        broker: BrokerId,
        generation: u64,
        cluster: Cluster,
        report: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let (requests, queue) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let connection = Arc::new(OnceLock::new());
        let task = LinkTask {
            broker,
            generation,
            cluster,
            report,
            queue,
            queued: Arc::clone(&queued),
            connection: Arc::clone(&connection),
        };
        Self {
            generation,
            requests: Some(requests),
            stream: None,
            queued,
            connection,
            heard: None,
            in_flight: BTreeMap::new(),
            waiting: Vec::new(),
            task: tokio::spawn(task.run()).abort_handle(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.stream.is_some() && self.queued.load(Ordering::Acquire) < QUEUED_MAX
    }

    /// Whether the broker has been silent for `timeout` although an answer is due, or has answered
    /// others but left one request for `patience`. A slow broker that answers in turn is not silent,
    /// however long its queue.
    pub(super) fn is_silent(&self, now: Instant, timeout: Duration, patience: Duration) -> bool {
        self.in_flight.values().next().is_some_and(|oldest| {
            let last = self.heard.map_or(oldest.since, |heard| heard.max(oldest.since));
            now.saturating_duration_since(last) >= timeout
                || now.saturating_duration_since(oldest.since) >= patience
        })
    }

    /// Requests can be handed over from now on.
    pub(super) fn opened(&mut self, stream: StreamSender) {
        self.stream = Some(stream);
    }

    /// No more requests come: the task writes what it has and half-closes.
    pub(super) fn finish(&mut self) {
        (self.requests, self.stream) = (None, None);
    }

    /// Hands over a request: to the stream at once where none waits before it, which spares a turn of the
    /// task. If the task is gone its end was reported and the request counts as lost.
    pub(super) fn send(&self, mut head: Bytes, mut records: Bytes) {
        // Only this side adds to the queue, so it stays empty meanwhile.
        if let Some(stream) = &self.stream
            && self.queued.load(Ordering::Acquire) == 0
        {
            match stream.try_send(head, records) {
                Ok(()) => return,
                Err(back) => (head, records) = back,
            }
        }
        self.queued.fetch_add(weight(&records), Ordering::AcqRel);
        if let Some(requests) = &self.requests {
            let _ = requests.send((head, records));
        }
    }
}

/// What a request counts for in `QUEUED_MAX`.
fn weight(records: &Bytes) -> usize {
    records.len().max(REQUEST_MIN)
}

struct LinkTask {
    broker: BrokerId,
    generation: u64,
    cluster: Cluster,
    report: mpsc::UnboundedSender<Event>,
    queue: mpsc::UnboundedReceiver<(Bytes, Bytes)>,
    queued: Arc<AtomicUsize>,
    connection: Arc<OnceLock<Connection>>,
}

impl LinkTask {
    /// Only a sender that is gone does not take reports, and it ends this task.
    fn tell(&self, event: Event) {
        let _ = self.report.send(event);
    }

    async fn run(mut self) {
        let (broker, generation) = (self.broker, self.generation);
        let error = match self.cluster.connection(broker).await {
            Ok(connection) => self.serve(connection).await,
            Err(error) => error,
        };
        self.tell(Event::LinkClosed(broker, generation, error));
    }

    async fn serve(&mut self, connection: Connection) -> ClientError {
        let (broker, generation) = (self.broker, self.generation);
        let path = "/ottla.v1.Log/ProduceStream";
        let _ = self.connection.set(connection.clone());
        let (stream, mut answers) = connection.open_stream(path, STREAM_MESSAGES, ACKS_LEN_MAX);
        self.tell(Event::LinkOpen(broker, generation, stream.clone()));
        let address = connection.address().to_owned();
        let over = |cause: &str| ClientError::ConnectionLost {
            address: address.clone(),
            cause: cause.into(),
        };
        let report = self.report.clone();
        let (queue, queued) = (&mut self.queue, &self.queued);
        let write = async move {
            while let Some((head, records)) = queue.recv().await {
                let weight = weight(&records);
                stream.send(head, records).await?;
                let before = queued.fetch_sub(weight, Ordering::AcqRel);
                if before > QUEUED_LOW && before - weight <= QUEUED_LOW {
                    let _ = report.send(Event::LinkRoom(broker, generation));
                }
            }
            // Half-closes; the answers still come.
            drop(stream);
            std::future::pending::<Result<(), ClientError>>().await
        };
        let report = &self.report;
        let read = async {
            while let Some(message) = answers.recv().await? {
                let malformed = |source| ClientError::Frame { address: address.clone(), source };
                let mut acks = message.decode::<v1::ProduceResponse>().map_err(malformed)?.acks;
                // What has come meanwhile goes along: one wake-up of the sender for all.
                while let Ok(Some(more)) = answers.try_recv() {
                    acks.extend(more.decode::<v1::ProduceResponse>().map_err(malformed)?.acks);
                }
                let _ = report.send(Event::Acks(broker, generation, acks));
            }
            Err::<(), _>(over("the broker ended the stream"))
        };
        let ended = tokio::select! {
            ended = read => ended,
            // The reader knows the reason better than the writer, if it has one.
            Err(error) = write => match answers.recv().await {
                Err(reason) => Err(reason),
                Ok(_) => Err(error),
            },
        };
        ended.err().unwrap_or_else(|| over("the stream ended"))
    }
}
