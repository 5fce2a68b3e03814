//! Brokers of a scripted cluster, served over real sockets by the generated gRPC service: what they
//! hold, who leads and what they answer is a table that tests change while consumers read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use proto::record::{BatchHeader, HEADER_LEN};
use proto::v1::log_server::{Log, LogServer};
use proto::{ErrorCode, TopicId, v1};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tonic::codegen::Service;
use tonic::{Request, Response, Status, Streaming};

use super::{batch_at, in_epoch};

/// One partition as its leader holds it.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakePartition {
    pub(crate) leader: i32,
    pub(crate) epoch: i32,
    pub(crate) log_start: i64,
    pub(crate) log: Vec<Bytes>,
    /// The high watermark is not known: neither the end nor records behind the start are told.
    pub(crate) not_available: bool,
    /// So often the leader says that it does not lead: it has not heard of it yet.
    pub(crate) hears_later: Arc<AtomicU64>,
    /// What `add` told of the records before its offset.
    pub(crate) last_epochs: Arc<Mutex<Vec<Option<i32>>>>,
    /// What gets a wrong last byte on its way.
    pub(crate) garbled: Arc<Mutex<Garbled>>,
    /// Checks of batches that were asked for.
    pub(crate) verified: Arc<AtomicU64>,
}

/// Answers that are spoiled: every one of a handle, so that rounds asked for ahead change nothing.
#[derive(Debug, Default)]
pub(crate) struct Garbled {
    /// So many handles more.
    pub(crate) left: u64,
    handle: Option<u32>,
}

impl Garbled {
    pub(crate) fn next(left: u64) -> Self {
        Self { left, handle: None }
    }

    fn spoils(&mut self, handle: u32) -> bool {
        if self.handle != Some(handle) {
            self.handle = self.left.checked_sub(1).map(|left| {
                self.left = left;
                handle
            });
        }
        self.handle == Some(handle)
    }
}

impl FakePartition {
    pub(crate) fn end(&self) -> i64 {
        self.log.last().map_or(self.log_start, |b| header(b).next_offset().0)
    }

    /// Another leads from now on, in the next epoch.
    pub(crate) fn led_by(&mut self, leader: i32) {
        (self.leader, self.epoch) = (leader, self.epoch + 1);
    }

    fn is_unaware(&self) -> bool {
        let less = |left: u64| left.checked_sub(1);
        self.hears_later.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
    }

    /// Where the log parts from one with a record of `epoch` before `offset`, if it does.
    fn diverging(&self, epoch: i32, offset: i64) -> Option<v1::EpochEnd> {
        let older = self.log.iter().rev().find(|b| header(b).leader_epoch.0 <= epoch);
        let known = older.map_or(-1, |b| header(b).leader_epoch.0);
        let end_offset = older.map_or(self.log_start, |b| header(b).next_offset().0);
        let fits = offset <= self.log_start || (known == epoch && offset <= end_offset);
        (!fits).then_some(v1::EpochEnd { leader_epoch: known, end_offset })
    }
}

fn header(batch: &Bytes) -> BatchHeader {
    BatchHeader::parse(&batch[..HEADER_LEN]).unwrap()
}

#[derive(Debug, Default)]
struct Table {
    brokers: BTreeMap<i32, u16>,
    topics: BTreeMap<String, (TopicId, Vec<FakePartition>)>,
    silent: HashSet<i32>,
    /// Metadata are not pushed.
    pushes_nothing: bool,
    metadata_requests: u64,
}

/// The cluster. Its sockets live on a runtime of its own.
pub(crate) struct FakeCluster {
    table: Arc<Mutex<Table>>,
    changed: Arc<watch::Sender<u64>>,
    pub(crate) bytes_sent: Arc<AtomicU64>,
    runtime: tokio::runtime::Handle,
    stop: Arc<Notify>,
    running: Mutex<HashMap<i32, tokio::task::AbortHandle>>,
}

impl FakeCluster {
    pub(crate) fn start(brokers: &[i32]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stop = Arc::new(Notify::new());
        let (handle, stopped) = (runtime.handle().clone(), Arc::clone(&stop));
        std::thread::spawn(move || runtime.block_on(stopped.notified()));
        let cluster = Self {
            table: Arc::default(),
            changed: Arc::new(watch::Sender::new(0)),
            bytes_sent: Arc::default(),
            runtime: handle,
            stop,
            running: Mutex::default(),
        };
        brokers.iter().for_each(|id| cluster.start_broker(*id));
        cluster
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.table.lock().brokers.values().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// Starts a broker, on the port it had before if it ran before.
    pub(crate) fn start_broker(&self, id: i32) {
        let port = self.table.lock().brokers.get(&id).copied().unwrap_or(0);
        // One that was just killed may still hold its port for a moment.
        let mut bound = None;
        super::eventually("the port", || {
            bound = std::net::TcpListener::bind(("127.0.0.1", port)).ok();
            bound.is_some()
        });
        let listener = bound.unwrap();
        listener.set_nonblocking(true).unwrap();
        self.table.lock().brokers.insert(id, listener.local_addr().unwrap().port());
        let broker = FakeBroker {
            id,
            table: Arc::clone(&self.table),
            changed: self.changed.subscribe(),
            bytes_sent: Arc::clone(&self.bytes_sent),
        };
        let task = self.runtime.spawn(serve(listener, broker));
        self.running.lock().insert(id, task.abort_handle());
    }

    /// Kills a broker with all its connections.
    pub(crate) fn kill_broker(&self, id: i32) {
        if let Some(task) = self.running.lock().remove(&id) {
            task.abort();
        }
    }

    pub(crate) fn silence(&self, id: i32, silent: bool) {
        let mut table = self.table.lock();
        if silent {
            table.silent.insert(id)
        } else {
            table.silent.remove(&id)
        };
        drop(table);
        self.notify();
    }

    /// From now on clients have to ask for metadata.
    pub(crate) fn push_nothing(&self) {
        self.table.lock().pushes_nothing = true;
        self.notify();
    }

    pub(crate) fn metadata_requests(&self) -> u64 {
        self.table.lock().metadata_requests
    }

    /// Creates a topic whose partitions are led by these brokers.
    pub(crate) fn create(&self, topic: &str, leaders: &[i32]) -> TopicId {
        let id = TopicId::random();
        let partition = |leader: &i32| FakePartition { leader: *leader, ..Default::default() };
        let partitions = leaders.iter().map(partition).collect();
        self.table.lock().topics.insert(topic.to_owned(), (id, partitions));
        self.notify();
        id
    }

    pub(crate) fn delete(&self, topic: &str) {
        self.table.lock().topics.remove(topic);
        self.notify();
    }

    /// Appends a batch of `count` records with this value; returns the log end.
    pub(crate) fn append(&self, topic: &str, partition: usize, count: usize, value: &str) -> i64 {
        let mut end = 0;
        self.change(topic, partition, |p| {
            let batch = batch_at(p.end(), count, value);
            p.log.push(in_epoch(&batch, p.epoch));
            end = p.end();
        });
        end
    }

    pub(crate) fn change(&self, topic: &str, partition: usize, f: impl FnOnce(&mut FakePartition)) {
        f(&mut self.table.lock().topics.get_mut(topic).unwrap().1[partition]);
        self.notify();
    }

    fn notify(&self) {
        self.changed.send_modify(|n| *n += 1);
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

async fn serve(listener: std::net::TcpListener, broker: FakeBroker) {
    // Connections die with this task.
    let listener = TcpListener::from_std(listener).unwrap();
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else { return };
        let service = LogServer::new(broker.clone()).max_encoding_message_size(64 << 20);
        let answer = hyper::service::service_fn(move |request: http::Request<_>| {
            let mut service = service.clone();
            async move { service.call(request.map(tonic::body::Body::new)).await }
        });
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(socket), answer);
        connections.spawn(connection);
    }
}

#[derive(Clone)]
struct FakeBroker {
    id: i32,
    table: Arc<Mutex<Table>>,
    changed: watch::Receiver<u64>,
    bytes_sent: Arc<AtomicU64>,
}

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Log for FakeBroker {
    type ProduceStreamStream = Boxed<v1::ProduceResponse>;
    type FetchStream = Boxed<v1::FetchResponse>;
    type WatchMetadataStream = Boxed<v1::MetadataResponse>;

    async fn produce(
        &self,
        _: Request<v1::ProduceRequest>,
    ) -> Result<Response<v1::ProduceAck>, Status> {
        Err(Status::unimplemented("a fake"))
    }

    async fn produce_stream(
        &self,
        _: Request<Streaming<v1::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        Err(Status::unimplemented("a fake"))
    }

    async fn fetch(
        &self,
        request: Request<Streaming<v1::FetchRequest>>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let (out, answers) = mpsc::channel(4);
        let broker = self.clone();
        tokio::spawn(async move { broker.fetch_rounds(request.into_inner(), out).await });
        let stream = futures_util::stream::unfold(answers, |mut answers| async {
            answers.recv().await.map(|answer| (Ok(answer), answers))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn delete_records(
        &self,
        _: Request<v1::DeleteRecordsRequest>,
    ) -> Result<Response<v1::DeleteRecordsResponse>, Status> {
        Err(Status::unimplemented("a consumer deletes no records"))
    }

    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        let table = self.table.lock();
        let answers = request.into_inner().queries.into_iter().map(|query| {
            let topic = table.topics.get(&query.topic);
            let Some(p) = topic.and_then(|t| t.1.get(query.partition as usize)) else {
                let error = ErrorCode::UnknownTopicOrPartition.to_message("no such partition", "");
                return v1::OffsetAnswer { error: Some(error), ..Default::default() };
            };
            let offset = match query.timestamp_ms {
                -1 if p.not_available => {
                    let code = ErrorCode::OffsetNotAvailable;
                    let error = Some(code.to_message(code.text(), ""));
                    return v1::OffsetAnswer { error, ..Default::default() };
                }
                -1 => p.end(),
                -2 => p.log_start,
                // Record n has the timestamp 1000 + n.
                at if at - 1000 < p.end() => (at - 1000).max(p.log_start),
                _ => -1,
            };
            v1::OffsetAnswer { offset, ..Default::default() }
        });
        Ok(Response::new(v1::ListOffsetsResponse { answers: answers.collect() }))
    }

    async fn metadata(
        &self,
        request: Request<v1::MetadataRequest>,
    ) -> Result<Response<v1::MetadataResponse>, Status> {
        self.table.lock().metadata_requests += 1;
        self.unless_silent().await;
        Ok(Response::new(self.describe(&request.into_inner())))
    }

    async fn watch_metadata(
        &self,
        request: Request<v1::MetadataRequest>,
    ) -> Result<Response<Self::WatchMetadataStream>, Status> {
        let request = request.into_inner();
        let keep_alive = Duration::from_millis(request.keep_alive_ms.into());
        let (out, answers) = mpsc::channel(4);
        let broker = self.clone();
        tokio::spawn(async move {
            let mut changed = broker.changed.clone();
            let mut answer = broker.describe(&request);
            loop {
                broker.unless_silent().await;
                if broker.table.lock().pushes_nothing || out.send(Ok(answer)).await.is_err() {
                    return;
                }
                answer = match tokio::time::timeout(keep_alive, changed.changed()).await {
                    Ok(_) => broker.describe(&request),
                    Err(_) => v1::MetadataResponse { unchanged: true, ..Default::default() },
                };
            }
        });
        let stream = futures_util::stream::unfold(answers, |mut answers| async {
            answers.recv().await.map(|answer| (answer, answers))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn init_producer_id(
        &self,
        _: Request<v1::InitProducerIdRequest>,
    ) -> Result<Response<v1::InitProducerIdResponse>, Status> {
        Err(Status::unimplemented("a fake"))
    }
}

fn partition_of(number: i32, partition: &FakePartition) -> v1::Partition {
    v1::Partition {
        partition: number,
        leader: partition.leader,
        leader_epoch: partition.epoch,
        ..Default::default()
    }
}

impl FakeBroker {
    fn describe(&self, request: &v1::MetadataRequest) -> v1::MetadataResponse {
        let table = self.table.lock();
        let names = if request.all_topics {
            table.topics.keys().cloned().collect()
        } else {
            request.topics.clone()
        };
        let topics = names.into_iter().map(|name| match table.topics.get(&name) {
            None => {
                let error = ErrorCode::UnknownTopicOrPartition.to_message("no such topic", "");
                v1::Topic { name, error: Some(error), ..Default::default() }
            }
            Some((id, partitions)) => v1::Topic {
                name,
                topic_id: id.to_bytes(),
                partitions: (0..).zip(partitions).map(|(n, p)| partition_of(n, p)).collect(),
                ..Default::default()
            },
        });
        let host = || "127.0.0.1".to_owned();
        let brokers = table.brokers.iter().map(|(&id, &port)| v1::Node {
            id,
            host: host(),
            grpc_port: port.into(),
            ..Default::default()
        });
        let (topics, brokers) = (topics.collect(), brokers.collect());
        v1::MetadataResponse { topics, brokers, ..Default::default() }
    }

    async fn unless_silent(&self) {
        while self.is_silent() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn fetch_rounds(
        self,
        mut requests: Streaming<v1::FetchRequest>,
        out: mpsc::Sender<v1::FetchResponse>,
    ) {
        let mut handles: BTreeMap<u32, v1::FetchPartition> = BTreeMap::new();
        let mut changed = self.changed.clone();
        let mut waiting = None;
        loop {
            let next = match waiting.take() {
                Some(request) => Some(Ok(request)),
                None => requests.next().await,
            };
            let Some(Ok(request)) = next else { return };
            request.forget.iter().for_each(|handle| drop(handles.remove(handle)));
            for added in &request.add {
                let table = self.table.lock();
                let topic = table.topics.get(&added.topic);
                if let Some(p) = topic.and_then(|t| t.1.get(added.partition as usize)) {
                    p.last_epochs.lock().push(added.last_fetched_epoch);
                }
            }
            handles.extend(request.add.into_iter().map(|p| (p.handle, p)));
            let deadline =
                tokio::time::Instant::now() + Duration::from_millis(request.max_wait_ms.into());
            loop {
                changed.mark_unchanged();
                let answers = self.round(&mut handles, request.request_id);
                let any = !answers.is_empty();
                for answer in answers {
                    self.bytes_sent.fetch_add(answer.records.len() as u64, Ordering::SeqCst);
                    if out.send(answer).await.is_err() {
                        return;
                    }
                }
                if any {
                    break;
                }
                tokio::select! {
                    _ = changed.changed() => {}
                    // A request that waits behind a long poll ends it.
                    next = requests.next() => match next {
                        Some(Ok(next)) => { waiting = Some(next); break }
                        _ => return,
                    },
                    () = tokio::time::sleep_until(deadline) => if !self.is_silent() { break },
                }
            }
            let request_id = request.request_id;
            let end = v1::FetchResponse { request_id, end: true, ..Default::default() };
            if out.send(end).await.is_err() {
                return;
            }
        }
    }

    fn is_silent(&self) -> bool {
        self.table.lock().silent.contains(&self.id)
    }

    fn round(
        &self,
        handles: &mut BTreeMap<u32, v1::FetchPartition>,
        request_id: u64,
    ) -> Vec<v1::FetchResponse> {
        let table = self.table.lock();
        if table.silent.contains(&self.id) {
            return Vec::new();
        }
        let mut answers = Vec::new();
        handles.retain(|&handle, wanted| {
            let answer = v1::FetchResponse { request_id, handle, ..Default::default() };
            let found = table.topics.get(&wanted.topic);
            let found = found.filter(|(id, _)| id.to_bytes() == wanted.topic_id);
            let partition = found.and_then(|(_, p)| p.get(wanted.partition as usize));
            let led = partition.filter(|p| p.leader == self.id);
            let told = wanted.last_fetched_epoch.filter(|_| led.is_some());
            wanted.last_fetched_epoch = None;
            if let Some(end) = told.and_then(|epoch| led?.diverging(epoch, wanted.offset)) {
                answers.push(v1::FetchResponse { diverging: Some(end), ..answer });
                return false;
            }
            let code = match partition {
                None => ErrorCode::UnknownTopicId,
                Some(p) if p.leader != self.id || p.is_unaware() => ErrorCode::NotLeaderOrFollower,
                Some(p) if wanted.offset < p.log_start || wanted.offset > p.end() => {
                    ErrorCode::OffsetOutOfRange
                }
                Some(p) if wanted.leader_epoch >= 0 && wanted.leader_epoch < p.epoch => {
                    ErrorCode::FencedLeaderEpoch
                }
                Some(p) if p.not_available => ErrorCode::OffsetNotAvailable,
                Some(p) => {
                    let damaged = verify(p, wanted);
                    if damaged.is_none() {
                        answers.extend(read(p, wanted, answer));
                        return true;
                    }
                    let code = ErrorCode::CorruptMessage;
                    let error = Some(code.to_message("bad bytes on the disk", ""));
                    answers.push(v1::FetchResponse { error, damaged, ..answer });
                    return false;
                }
            };
            let error = Some(code.to_message(code.text(), ""));
            answers.push(v1::FetchResponse { error, ..answer });
            false
        });
        answers
    }
}

/// What is damaged at the offset, where the client asks.
fn verify(p: &FakePartition, wanted: &v1::FetchPartition) -> Option<v1::DamagedOffsets> {
    if !wanted.verify {
        return None;
    }
    p.verified.fetch_add(1, Ordering::SeqCst);
    let batch = p.log.iter().find(|b| header(b).next_offset().0 > wanted.offset)?;
    let (from_offset, to_offset) = (header(batch).base_offset.0, header(batch).next_offset().0);
    proto::record::Batch::parse(batch)
        .is_err()
        .then_some(v1::DamagedOffsets { from_offset, to_offset })
}

fn read(
    p: &FakePartition,
    wanted: &mut v1::FetchPartition,
    answer: v1::FetchResponse,
) -> Option<v1::FetchResponse> {
    let mut records = BytesMut::new();
    let mut next = wanted.offset;
    for batch in p.log.iter().filter(|b| header(b).next_offset().0 > wanted.offset) {
        if !records.is_empty() && records.len() + batch.len() > wanted.max_bytes as usize {
            break;
        }
        records.extend_from_slice(batch);
        next = header(batch).next_offset().0;
    }
    wanted.offset = next;
    if let Some(last) = records.last_mut()
        && p.garbled.lock().spoils(answer.handle)
    {
        *last ^= 1;
    }
    (!records.is_empty()).then(|| v1::FetchResponse {
        high_watermark: p.end(),
        log_start_offset: p.log_start,
        next_offset: next,
        records: records.freeze(),
        ..answer
    })
}
