//! Brokers in this process that keep what they get in memory, judge sequences as a broker does, and
//! misbehave as a seed tells: lost connections before and after an append, errors, acknowledgements
//! out of order, stalls, requests that arrive long after their connection died, moving leaders.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use proto::record::{Batch, BatchDecoder, Compression};
use proto::v1::log_server::{Log, LogServer};
use proto::{ErrorCode, v1};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use tower_service::Service;

/// How often each fault happens, in a thousand requests.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) drop_before: u32,
    pub(crate) drop_after: u32,
    pub(crate) error_before: u32,
    pub(crate) error_after: u32,
    pub(crate) end_stream: u32,
    pub(crate) stall: u32,
    pub(crate) stall_for: Duration,
    pub(crate) late: u32,
    pub(crate) move_leader: u32,
    pub(crate) reorder: bool,
    pub(crate) slow: bool,
    /// Metadata are pushed.
    pub(crate) pushes: bool,
    /// Batches of more bytes are refused; 0: none.
    pub(crate) batch_len_max: usize,
    /// Values with this in them are refused for good.
    pub(crate) poison: Option<&'static str>,
}

/// What is known of one producer in one partition.
struct ProducerState {
    epoch: i16,
    next: i32,
    remembered: VecDeque<(i32, i64)>,
}

#[derive(Default)]
struct PartitionLog {
    leader: i32,
    epoch: i32,
    /// The leader refuses everything before: it has not heard yet that it leads.
    takes_over: Option<Instant>,
    values: Vec<Bytes>,
    producers: HashMap<i64, ProducerState>,
}

pub(crate) struct State {
    rng: Rng,
    pub(crate) faults: Faults,
    topic_id: Bytes,
    partitions: Vec<PartitionLog>,
    addresses: Vec<SocketAddr>,
    connections: Vec<AbortHandle>,
    next_producer_id: i64,
    pub(crate) requests: u64,
    /// Requests that came to who does not lead.
    pub(crate) astray: u64,
    /// Brokers that take everything and answer nothing.
    hung: HashSet<i32>,
    changed: watch::Sender<u64>,
    pub(crate) widest: usize,
    /// Batches appended, by codec number.
    pub(crate) codecs: [usize; 5],
}

/// A cluster of fake brokers with one topic, `t`.
#[derive(Clone)]
pub(crate) struct Brokers {
    state: Arc<Mutex<State>>,
}

impl Brokers {
    pub(crate) async fn start(
        seed: u64,
        brokers: usize,
        partitions: usize,
        faults: Faults,
    ) -> Self {
        let logs = (0..partitions)
            .map(|p| PartitionLog { leader: (p % brokers) as i32, ..PartitionLog::default() });
        let state = State {
            rng: Rng::with_seed(seed),
            faults,
            topic_id: Bytes::from_static(&[7; 16]),
            partitions: logs.collect(),
            addresses: Vec::new(),
            connections: Vec::new(),
            next_producer_id: 100,
            requests: 0,
            astray: 0,
            hung: HashSet::new(),
            changed: watch::Sender::new(0),
            widest: 0,
            codecs: [0; 5],
        };
        let this = Self { state: Arc::new(Mutex::new(state)) };
        for id in 0..brokers {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            this.lock().addresses.push(listener.local_addr().unwrap());
            tokio::spawn(this.clone().listen(id as i32, listener));
        }
        this
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn bootstrap(&self) -> Vec<String> {
        self.lock().addresses.iter().map(ToString::to_string).collect()
    }

    /// The values of a partition by offset.
    pub(crate) fn log(&self, partition: usize) -> Vec<Bytes> {
        self.lock().partitions[partition].values.clone()
    }

    /// As kill -9: every connection breaks.
    pub(crate) fn break_connections(&self) {
        self.lock().connections.drain(..).for_each(|task| task.abort());
    }

    /// Another broker leads a partition from now on, or none does (-1).
    pub(crate) fn lead(&self, partition: usize, leader: i32) {
        let mut state = self.lock();
        let log = &mut state.partitions[partition];
        (log.leader, log.epoch) = (leader, log.epoch + 1);
        state.changed();
    }

    /// The same; the new leader hears of it so much later than everybody else.
    pub(crate) fn lead_later(&self, partition: usize, leader: i32, after: Duration) {
        self.lock().partitions[partition].takes_over = Some(Instant::now() + after);
        self.lead(partition, leader);
    }

    /// A broker takes everything and answers nothing from now on.
    pub(crate) fn hang(&self, broker: i32) {
        self.lock().hung.insert(broker);
    }

    /// The topic is deleted and created again.
    pub(crate) fn recreate_topic(&self) {
        let mut state = self.lock();
        state.changed();
        state.topic_id = Bytes::from_static(&[8; 16]);
        for log in &mut state.partitions {
            *log = PartitionLog { leader: log.leader, ..PartitionLog::default() };
        }
    }

    /// The broker forgets the last `records` of a partition and what it knew of their producer.
    pub(crate) fn lose_tail(&self, partition: usize, records: usize) {
        let mut state = self.lock();
        let log = &mut state.partitions[partition];
        log.values.truncate(log.values.len() - records);
        for producer in log.producers.values_mut() {
            producer.next -= records as i32;
            producer.remembered.clear();
        }
    }

    /// What metadata say.
    fn describe(&self, request: &v1::MetadataRequest) -> v1::MetadataResponse {
        let state = self.lock();
        let brokers = state.addresses.iter().enumerate().map(|(id, address)| v1::Node {
            id: id as i32,
            host: address.ip().to_string(),
            grpc_port: u32::from(address.port()),
            ..Default::default()
        });
        let topics = request.topics.iter().map(|name| match name.as_str() {
            "t" => v1::Topic {
                name: name.clone(),
                topic_id: state.topic_id.clone(),
                partitions: (0..)
                    .zip(&state.partitions)
                    .map(|(partition, log)| v1::Partition {
                        partition,
                        leader: log.leader,
                        leader_epoch: log.epoch,
                        ..v1::Partition::default()
                    })
                    .collect(),
                error: None,
                ..v1::Topic::default()
            },
            "bad name" => v1::Topic {
                name: name.clone(),
                error: Some(ErrorCode::InvalidTopicException.to_message("a space", "rename it")),
                ..v1::Topic::default()
            },
            _ => v1::Topic {
                name: name.clone(),
                error: Some(ErrorCode::UnknownTopicOrPartition.to_message("no topic", "create it")),
                ..v1::Topic::default()
            },
        });
        v1::MetadataResponse {
            cluster_id: "fake".into(),
            brokers: brokers.collect(),
            topics: topics.collect(),
            ..v1::MetadataResponse::default()
        }
    }

    /// For ever where the broker hangs.
    async fn unless_hung(&self, id: i32) {
        while self.lock().hung.contains(&id) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn listen(self, id: i32, listener: TcpListener) {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            let server = LogServer::new(FakeBroker { id, brokers: self.clone() });
            let service = service_fn(move |request| {
                let mut server = server.clone();
                async move { server.call(request).await }
            });
            let serving = tokio::spawn(async move {
                let _: Result<(), hyper::Error> =
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .timer(TokioTimer::new())
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
            });
            self.lock().connections.push(serving.abort_handle());
        }
    }
}

impl State {
    fn changed(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }

    fn chance(&mut self, permille: u32) -> bool {
        self.rng.u32(..1000) < permille
    }

    fn append(&mut self, request: &v1::ProduceRequest) -> v1::ProduceAck {
        let refuse = |code: ErrorCode, why: &str| v1::ProduceAck {
            request_id: request.request_id,
            error: Some(code.to_message(why, "")),
            base_offset: -1,
            log_append_time_ms: -1,
            ..v1::ProduceAck::default()
        };
        if request.topic_id != self.topic_id {
            return refuse(ErrorCode::UnknownTopicId, "another topic");
        }
        if (1..request.records.len()).contains(&self.faults.batch_len_max) {
            return refuse(ErrorCode::MessageTooLarge, "more than max.message.bytes");
        }
        let batch = Batch::parse(&request.records).expect("a valid batch");
        let header = batch.header().clone();
        let values = values(&batch);
        if let Some(poison) = self.faults.poison
            && values.iter().any(|v| v.windows(poison.len()).any(|w| w == poison.as_bytes()))
        {
            return refuse(ErrorCode::InvalidRecord, "poison");
        }
        let Some(log) = self.partitions.get_mut(request.partition as usize) else {
            return refuse(ErrorCode::UnknownTopicOrPartition, "no such partition");
        };
        let done = |base_offset: i64| v1::ProduceAck {
            request_id: request.request_id,
            base_offset,
            log_append_time_ms: -1,
            ..v1::ProduceAck::default()
        };
        let end = log.values.len() as i64;
        if header.producer_id >= 0 {
            let producer = log.producers.entry(header.producer_id).or_insert(ProducerState {
                epoch: header.producer_epoch,
                next: 0,
                remembered: VecDeque::new(),
            });
            if header.producer_epoch < producer.epoch {
                return refuse(ErrorCode::InvalidProducerEpoch, "older epoch");
            }
            if header.producer_epoch > producer.epoch {
                if header.base_sequence != 0 {
                    return refuse(ErrorCode::OutOfOrderSequenceNumber, "a new epoch begins at 0");
                }
                *producer = ProducerState {
                    epoch: header.producer_epoch,
                    next: 0,
                    remembered: VecDeque::new(),
                };
            }
            let sequence = header.base_sequence;
            if let Some((_, at)) = producer.remembered.iter().find(|(seen, _)| *seen == sequence) {
                return done(*at);
            }
            if sequence < producer.next {
                return refuse(ErrorCode::DuplicateSequenceNumber, "long ago");
            }
            if sequence != producer.next {
                return refuse(ErrorCode::OutOfOrderSequenceNumber, "a gap");
            }
            producer.next += header.record_count;
            producer.remembered.push_back((sequence, end));
            if producer.remembered.len() > request.max_in_flight as usize {
                producer.remembered.pop_front();
            }
        }
        let codec = header.attributes.compression().unwrap_or(Compression::None);
        self.codecs[codec as usize] += 1;
        log.values.extend(values);
        done(end)
    }
}

/// What the stream's task does after a request.
enum Then {
    Answer(v1::ProduceAck),
    Nothing,
    Break,
    End,
    Stall(Duration, v1::ProduceAck),
    Hang,
}

struct FakeBroker {
    id: i32,
    brokers: Brokers,
}

impl FakeBroker {
    fn judge(&self, request: &v1::ProduceRequest) -> Then {
        let mut state = self.brokers.lock();
        state.requests += 1;
        let faults = state.faults;
        let error = |code: ErrorCode| v1::ProduceAck {
            request_id: request.request_id,
            error: Some(code.to_message("as the seed says", "try again")),
            ..v1::ProduceAck::default()
        };
        let brokers = state.addresses.len() as i32;
        if state.chance(faults.move_leader) {
            let log = &mut state.partitions[request.partition as usize];
            log.leader = (log.leader + 1) % brokers;
            log.epoch += 1;
            state.changed();
        }
        if state.hung.contains(&self.id) {
            return Then::Hang;
        }
        let log = &state.partitions[request.partition as usize];
        if log.takes_over.is_some_and(|when| when > Instant::now()) {
            return Then::Answer(error(ErrorCode::NotLeaderOrFollower));
        }
        if log.leader != self.id {
            state.astray += 1;
            return Then::Answer(error(ErrorCode::NotLeaderOrFollower));
        }
        if state.chance(faults.drop_before) {
            return Then::Break;
        }
        if state.chance(faults.late) {
            let (brokers, request) = (self.brokers.clone(), request.clone());
            let wait = Duration::from_millis(state.rng.u64(1..40));
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                brokers.lock().append(&request);
            });
            return Then::Break;
        }
        if state.chance(faults.error_before) {
            return Then::Answer(error(ErrorCode::NotEnoughReplicas));
        }
        if state.chance(faults.end_stream) {
            return Then::End;
        }
        let ack = state.append(request);
        if request.acks() == v1::Acks::None {
            return Then::Nothing;
        }
        if state.chance(faults.drop_after) {
            return Then::Break;
        }
        if state.chance(faults.error_after) {
            return Then::Answer(error(ErrorCode::RequestTimedOut));
        }
        if state.chance(faults.stall) {
            return Then::Stall(faults.stall_for, ack);
        }
        Then::Answer(ack)
    }

    async fn serve(
        self,
        mut requests: Streaming<v1::ProduceRequest>,
        answers: mpsc::Sender<Result<v1::ProduceResponse, Status>>,
    ) {
        let mut held: Vec<v1::ProduceAck> = Vec::new();
        loop {
            let next = tokio::time::timeout(Duration::from_millis(1), requests.next()).await;
            let request = match next {
                Ok(Some(Ok(request))) => Some(request),
                Ok(_) => break,
                Err(_) => None,
            };
            let idle = request.is_none();
            if let Some(request) = request {
                match self.judge(&request) {
                    Then::Answer(ack) => held.push(ack),
                    Then::Nothing => {}
                    Then::Break => return self.brokers.break_connections(),
                    Then::End => {
                        let _ = answers.send(Err(Status::unavailable("restarting"))).await;
                        return;
                    }
                    Then::Hang => {
                        // Reads on, so that nothing breaks.
                        while requests.next().await.is_some() {}
                        return;
                    }
                    Then::Stall(time, ack) => {
                        tokio::time::sleep(time).await;
                        held.push(ack);
                    }
                }
            }
            let (reorder, slow) = {
                let mut state = self.brokers.lock();
                state.widest = state.widest.max(held.len());
                let State { rng, faults, .. } = &mut *state;
                if faults.reorder {
                    rng.shuffle(&mut held);
                }
                (faults.reorder, faults.slow)
            };
            if held.is_empty() || (reorder && !idle && held.len() < 8) {
                continue;
            }
            if slow {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let acks = std::mem::take(&mut held);
            if answers.send(Ok(v1::ProduceResponse { acks })).await.is_err() {
                return;
            }
        }
        let _ = answers.send(Ok(v1::ProduceResponse { acks: held })).await;
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Log for FakeBroker {
    type ProduceStreamStream = ReceiverStream<Result<v1::ProduceResponse, Status>>;
    type FetchStream = Answers<v1::FetchResponse>;
    type WatchMetadataStream = Answers<v1::MetadataResponse>;

    async fn produce_stream(
        &self,
        request: Request<Streaming<v1::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        let (answers, stream) = mpsc::channel(64);
        let broker = Self { id: self.id, brokers: self.brokers.clone() };
        tokio::spawn(broker.serve(request.into_inner(), answers));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn metadata(
        &self,
        request: Request<v1::MetadataRequest>,
    ) -> Result<Response<v1::MetadataResponse>, Status> {
        self.brokers.unless_hung(self.id).await;
        Ok(Response::new(self.brokers.describe(request.get_ref())))
    }

    async fn watch_metadata(
        &self,
        request: Request<v1::MetadataRequest>,
    ) -> Result<Response<Self::WatchMetadataStream>, Status> {
        if !self.brokers.lock().faults.pushes {
            return Err(Status::unimplemented("the producer asks"));
        }
        let request = request.into_inner();
        let keep_alive = Duration::from_millis(request.keep_alive_ms.into());
        let mut changed = self.brokers.lock().changed.subscribe();
        let (answers, stream) = mpsc::channel(16);
        let (id, brokers) = (self.id, self.brokers.clone());
        tokio::spawn(async move {
            let mut answer = brokers.describe(&request);
            loop {
                brokers.unless_hung(id).await;
                if answers.send(Ok(answer)).await.is_err() {
                    return;
                }
                answer = match tokio::time::timeout(keep_alive, changed.changed()).await {
                    Ok(_) => brokers.describe(&request),
                    Err(_) => v1::MetadataResponse { unchanged: true, ..Default::default() },
                };
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn init_producer_id(
        &self,
        _: Request<v1::InitProducerIdRequest>,
    ) -> Result<Response<v1::InitProducerIdResponse>, Status> {
        let mut state = self.brokers.lock();
        state.next_producer_id += 1;
        Ok(Response::new(v1::InitProducerIdResponse {
            error: None,
            producer_id: state.next_producer_id,
            producer_epoch: 0,
        }))
    }

    async fn produce(
        &self,
        _: Request<v1::ProduceRequest>,
    ) -> Result<Response<v1::ProduceAck>, Status> {
        Err(Status::unimplemented("the producer uses the stream"))
    }

    async fn fetch(
        &self,
        _: Request<Streaming<v1::FetchRequest>>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        Err(Status::unimplemented("a producer does not fetch"))
    }

    async fn delete_records(
        &self,
        _: Request<v1::DeleteRecordsRequest>,
    ) -> Result<Response<v1::DeleteRecordsResponse>, Status> {
        Err(Status::unimplemented("a producer deletes no records"))
    }

    async fn list_offsets(
        &self,
        _: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        Err(Status::unimplemented("a producer does not ask for offsets"))
    }
}

fn values(batch: &Batch<'_>) -> Vec<Bytes> {
    let mut decoder = BatchDecoder::new(1 << 20);
    let records = decoder.records(batch).unwrap();
    records.map(|record| Bytes::copy_from_slice(record.unwrap().value.unwrap())).collect()
}
