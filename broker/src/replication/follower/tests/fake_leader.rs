//! A leader over a real socket, served by the generated gRPC service: what it holds and how it
//! misbehaves is a table that tests change while followers fetch.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use proto::record::{BatchHeader, HEADER_LEN};
use proto::v1::log_server::{Log, LogServer};
use proto::{ErrorCode, v1};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tonic::codegen::Service;
use tonic::{Request, Response, Status, Streaming};

use super::rig::batch_at;

/// What is wrong with the next answer for a partition; one is used up by each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A bit of the records is turned over.
    Garbled,
    /// Refused with this.
    Refused(ErrorCode),
    /// Records from further on.
    Jump,
    /// A wrong `next_offset`.
    WrongNext,
    /// For a handle that nobody gave.
    UnknownHandle,
    /// Of a round that nobody asked for.
    WrongRound,
    /// More than a message may have.
    Oversized,
    /// The stream ends.
    Ends,
    /// It diverges, and does not say where.
    DivergesAtEnd,
}

/// One partition as its leader holds it.
#[derive(Debug, Clone, Default)]
pub(super) struct FakePartition {
    pub(super) epoch: i32,
    pub(super) log_start: i64,
    pub(super) batches: Vec<Bytes>,
    /// Below the log end, where it is set.
    pub(super) high_watermark: Option<i64>,
    pub(super) faults: VecDeque<Fault>,
    /// What followers said they have, and whether it was when they were added.
    pub(super) told: Vec<i64>,
    /// Where followers said that their logs start.
    pub(super) told_starts: Vec<i64>,
    /// How often it was added, with `verify` and without.
    pub(super) added: usize,
    pub(super) verified: usize,
    /// So often it was added while an earlier handle of it was held.
    pub(super) held_twice: usize,
    pub(super) last_epochs: Vec<Option<i32>>,
}

fn header(batch: &Bytes) -> BatchHeader {
    BatchHeader::parse(&batch[..HEADER_LEN]).unwrap()
}

impl FakePartition {
    pub(super) fn end(&self) -> i64 {
        self.batches.last().map_or(self.log_start, |b| header(b).next_offset().0)
    }

    fn watermark(&self) -> i64 {
        self.high_watermark.unwrap_or(self.end())
    }

    /// Appends `records` records in the present epoch.
    pub(super) fn append(&mut self, records: usize) {
        self.batches.push(batch_at(self.end(), records, self.epoch));
    }

    /// All bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.batches.concat()
    }

    /// The newest epoch at or before `epoch`, and its end.
    fn end_of(&self, epoch: i32) -> (i32, i64) {
        let known = self.batches.iter().map(|b| header(b).leader_epoch.0).filter(|e| *e <= epoch);
        let Some(known) = known.max() else { return (-1, self.log_start) };
        let next = self.batches.iter().find(|b| header(b).leader_epoch.0 > known);
        (known, next.map_or(self.end(), |b| header(b).base_offset.0))
    }
}

#[derive(Default)]
struct Table {
    partitions: BTreeMap<(String, i32), FakePartition>,
    connections: usize,
    streams: usize,
    rounds: usize,
    replica: Option<v1::Replica>,
    silent: bool,
}

/// The leader. Its sockets live on a runtime of its own.
pub(super) struct FakeLeader {
    table: Arc<Mutex<Table>>,
    changed: Arc<watch::Sender<u64>>,
    runtime: tokio::runtime::Handle,
    stop: Arc<Notify>,
    running: Mutex<Option<tokio::task::AbortHandle>>,
    port: Mutex<u16>,
}

impl FakeLeader {
    pub(super) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stop = Arc::new(Notify::new());
        let (handle, stopped) = (runtime.handle().clone(), Arc::clone(&stop));
        std::thread::spawn(move || runtime.block_on(stopped.notified()));
        let leader = Self {
            table: Arc::default(),
            changed: Arc::new(watch::Sender::new(0)),
            runtime: handle,
            stop,
            running: Mutex::default(),
            port: Mutex::new(0),
        };
        leader.listen();
        leader
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.lock())
    }

    /// Listens, on the port it had before if it listened before.
    pub(super) fn listen(&self) {
        let mut port = self.port.lock();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        // The task that listened before ends when it is next polled.
        let listener = loop {
            match std::net::TcpListener::bind(("127.0.0.1", *port)) {
                Ok(listener) => break listener,
                Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
            }
            std::thread::park_timeout(Duration::from_millis(1));
        };
        listener.set_nonblocking(true).unwrap();
        *port = listener.local_addr().unwrap().port();
        let broker =
            FakeBroker { table: Arc::clone(&self.table), changed: self.changed.subscribe() };
        let task = self.runtime.spawn(serve(listener, broker));
        *self.running.lock() = Some(task.abort_handle());
    }

    /// Listens on another port from now on.
    pub(super) fn move_away(&self) {
        self.kill();
        *self.port.lock() = 0;
        self.listen();
    }

    /// Ends with all its connections.
    pub(super) fn kill(&self) {
        if let Some(task) = self.running.lock().take() {
            task.abort();
        }
    }

    /// Answers nothing, and says nothing either.
    pub(super) fn silence(&self, silent: bool) {
        self.table.lock().silent = silent;
        self.notify();
    }

    pub(super) fn create(&self, topic: &str, partitions: i32) {
        let mut table = self.table.lock();
        for partition in 0..partitions {
            table.partitions.insert((topic.to_owned(), partition), FakePartition::default());
        }
    }

    pub(super) fn change<T>(
        &self,
        topic: &str,
        partition: i32,
        change: impl FnOnce(&mut FakePartition) -> T,
    ) -> T {
        let key = (topic.to_owned(), partition);
        let changed = change(self.table.lock().partitions.get_mut(&key).unwrap());
        self.notify();
        changed
    }

    /// Changes all partitions of a topic at once.
    pub(super) fn change_all(&self, topic: &str, mut change: impl FnMut(i32, &mut FakePartition)) {
        let mut table = self.table.lock();
        for ((_, number), partition) in table.partitions.iter_mut().filter(|p| p.0.0 == topic) {
            change(*number, partition);
        }
        drop(table);
        self.notify();
    }

    pub(super) fn read<T>(
        &self,
        topic: &str,
        partition: i32,
        read: impl FnOnce(&FakePartition) -> T,
    ) -> T {
        read(&self.table.lock().partitions[&(topic.to_owned(), partition)])
    }

    /// Connections, streams and rounds so far.
    pub(super) fn seen(&self) -> (usize, usize, usize) {
        let table = self.table.lock();
        (table.connections, table.streams, table.rounds)
    }

    /// Who said that it follows.
    pub(super) fn replica(&self) -> Option<v1::Replica> {
        self.table.lock().replica.clone()
    }

    fn notify(&self) {
        self.changed.send_modify(|n| *n += 1);
    }
}

impl Drop for FakeLeader {
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
        broker.table.lock().connections += 1;
        let service = LogServer::new(broker.clone())
            .max_encoding_message_size(128 << 20)
            .max_decoding_message_size(64 << 20);
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
    table: Arc<Mutex<Table>>,
    changed: watch::Receiver<u64>,
}

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Log for FakeBroker {
    type ProduceStreamStream = Boxed<v1::ProduceResponse>;
    type FetchStream = Boxed<v1::FetchResponse>;
    type WatchMetadataStream = Boxed<v1::MetadataResponse>;

    async fn fetch(
        &self,
        request: Request<Streaming<v1::FetchRequest>>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let (out, answers) = mpsc::channel(4);
        self.table.lock().streams += 1;
        let broker = self.clone();
        tokio::spawn(async move { broker.fetch_rounds(request.into_inner(), out).await });
        let stream = futures_util::stream::unfold(answers, |mut answers| async {
            answers.recv().await.map(|answer| (answer, answers))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        let table = self.table.lock();
        let answers = request.into_inner().queries.into_iter().map(|query| {
            assert_eq!(query.timestamp_ms, -2);
            let p = &table.partitions[&(query.topic, query.partition)];
            v1::OffsetAnswer { offset: p.log_start, leader_epoch: p.epoch, ..Default::default() }
        });
        Ok(Response::new(v1::ListOffsetsResponse { answers: answers.collect() }))
    }

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

    async fn delete_records(
        &self,
        _: Request<v1::DeleteRecordsRequest>,
    ) -> Result<Response<v1::DeleteRecordsResponse>, Status> {
        Err(Status::unimplemented("a fake"))
    }

    async fn metadata(
        &self,
        _: Request<v1::MetadataRequest>,
    ) -> Result<Response<v1::MetadataResponse>, Status> {
        Err(Status::unimplemented("a fake"))
    }

    async fn watch_metadata(
        &self,
        _: Request<v1::MetadataRequest>,
    ) -> Result<Response<Self::WatchMetadataStream>, Status> {
        Err(Status::unimplemented("a fake"))
    }

    async fn init_producer_id(
        &self,
        _: Request<v1::InitProducerIdRequest>,
    ) -> Result<Response<v1::InitProducerIdResponse>, Status> {
        Err(Status::unimplemented("a fake"))
    }
}

type Answer = Result<v1::FetchResponse, Status>;

/// A handle: what was asked for, and the high watermark last told.
struct Held {
    wanted: v1::FetchPartition,
    watermark: i64,
}

impl FakeBroker {
    async fn fetch_rounds(
        self,
        mut requests: Streaming<v1::FetchRequest>,
        out: mpsc::Sender<Answer>,
    ) {
        let mut handles: HashMap<u32, Held> = HashMap::new();
        let mut changed = self.changed.clone();
        let mut waiting = None;
        loop {
            let next = match waiting.take() {
                Some(request) => Some(Ok(request)),
                None => requests.next().await,
            };
            let Some(Ok(request)) = next else { return };
            let request_id = request.request_id;
            let (wait, most) = (request.max_wait_ms, request.max_bytes);
            self.begin(&mut handles, request);
            let deadline = tokio::time::Instant::now() + Duration::from_millis(wait.into());
            loop {
                changed.mark_unchanged();
                let answers = self.round(&mut handles, request_id, most);
                let any = !answers.is_empty();
                for answer in answers {
                    let over = answer.is_err();
                    if out.send(answer).await.is_err() || over {
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
                        Some(Ok(next)) => { waiting = Some(next); if !self.is_silent() { break } }
                        _ => return,
                    },
                    () = tokio::time::sleep_until(deadline), if !self.is_silent() => break,
                }
            }
            let end = v1::FetchResponse { request_id, end: true, ..Default::default() };
            if out.send(Ok(end)).await.is_err() {
                return;
            }
        }
    }

    fn is_silent(&self) -> bool {
        self.table.lock().silent
    }

    fn begin(&self, handles: &mut HashMap<u32, Held>, request: v1::FetchRequest) {
        let mut table = self.table.lock();
        table.rounds += 1;
        if request.replica.is_some() {
            table.replica = request.replica;
        }
        for told in request.progress {
            if let Some(held) = handles.get(&told.handle) {
                let key = (held.wanted.topic.clone(), held.wanted.partition);
                let partition = table.partitions.get_mut(&key).unwrap();
                partition.told.push(told.offset);
                partition.told_starts.push(told.log_start_offset);
            }
        }
        request.forget.iter().for_each(|handle| drop(handles.remove(handle)));
        let of = |held: &Held| (held.wanted.topic.clone(), held.wanted.partition);
        let held: HashSet<_> = handles.values().map(of).collect();
        for wanted in request.add {
            let key = (wanted.topic.clone(), wanted.partition);
            if let Some(p) = table.partitions.get_mut(&key) {
                p.held_twice += usize::from(held.contains(&key));
                p.added += 1;
                p.verified += usize::from(wanted.verify);
                p.last_epochs.push(wanted.last_fetched_epoch);
                p.told.push(wanted.offset);
            }
            let handle = wanted.handle;
            let fresh = handles.insert(handle, Held { wanted, watermark: -1 });
            assert!(fresh.is_none(), "handle {handle} was given twice");
        }
    }

    /// The answers there are now.
    fn round(
        &self,
        handles: &mut HashMap<u32, Held>,
        request_id: u64,
        mut room: u64,
    ) -> Vec<Answer> {
        let mut table = self.table.lock();
        if table.silent {
            return Vec::new();
        }
        let mut answers = Vec::new();
        handles.retain(|&handle, held| {
            let key = (held.wanted.topic.clone(), held.wanted.partition);
            let answer = v1::FetchResponse { request_id, handle, ..Default::default() };
            let Some(p) = table.partitions.get_mut(&key) else {
                let error = Some(ErrorCode::UnknownTopicOrPartition.to_message("no such", ""));
                answers.push(Ok(v1::FetchResponse { error, ..answer }));
                return false;
            };
            if room == 0 {
                return true;
            }
            let (answer, keeps) = answer_of(p, held, answer);
            let Some(answer) = answer else { return keeps };
            room = room.saturating_sub(answer.as_ref().map_or(0, |a| a.records.len() as u64));
            answers.push(answer);
            keeps
        });
        answers
    }
}

/// The answer for one handle, and whether it stays.
fn answer_of(
    p: &mut FakePartition,
    held: &mut Held,
    answer: v1::FetchResponse,
) -> (Option<Answer>, bool) {
    let refused = |code: ErrorCode| {
        let error = Some(code.to_message(code.text(), ""));
        (Some(Ok(v1::FetchResponse { error, ..answer.clone() })), false)
    };
    match held.wanted.leader_epoch {
        epoch if epoch < p.epoch => return refused(ErrorCode::FencedLeaderEpoch),
        epoch if epoch > p.epoch => return refused(ErrorCode::UnknownLeaderEpoch),
        _ => {}
    }
    // Compared once, as it is added.
    if let Some(epoch) = held.wanted.last_fetched_epoch.take() {
        let (known, end) = p.end_of(epoch);
        let wanted = &held.wanted;
        if wanted.offset > p.log_start && (known != epoch || end < wanted.offset) {
            let diverging = Some(v1::EpochEnd { leader_epoch: known, end_offset: end });
            return (Some(Ok(v1::FetchResponse { diverging, ..answer })), false);
        }
    }
    if held.wanted.offset < p.log_start || held.wanted.offset > p.end() {
        return refused(ErrorCode::OffsetOutOfRange);
    }
    match p.faults.front() {
        Some(Fault::Refused(code)) => {
            let code = *code;
            p.faults.pop_front();
            return refused(code);
        }
        Some(Fault::Ends) => {
            p.faults.pop_front();
            return (Some(Err(Status::unavailable("the fake ends the stream"))), false);
        }
        Some(Fault::DivergesAtEnd) => {
            p.faults.pop_front();
            let diverging = Some(v1::EpochEnd { leader_epoch: p.epoch, end_offset: p.end() });
            return (Some(Ok(v1::FetchResponse { diverging, ..answer })), false);
        }
        _ => {}
    }
    (records(p, held, answer).map(Ok), true)
}

fn records(
    p: &mut FakePartition,
    held: &mut Held,
    mut answer: v1::FetchResponse,
) -> Option<v1::FetchResponse> {
    let wanted = &mut held.wanted;
    let mut records = BytesMut::new();
    let mut next = wanted.offset;
    for batch in p.batches.iter().filter(|b| header(b).next_offset().0 > wanted.offset) {
        if !records.is_empty() && records.len() + batch.len() > wanted.max_bytes as usize {
            break;
        }
        records.extend_from_slice(batch);
        next = header(batch).next_offset().0;
    }
    if records.is_empty() && held.watermark == p.watermark() {
        return None;
    }
    held.watermark = p.watermark();
    wanted.offset = next;
    answer.high_watermark = p.watermark();
    answer.log_start_offset = p.log_start;
    answer.next_offset = next;
    if !records.is_empty() {
        match p.faults.pop_front() {
            Some(Fault::Garbled) => *records.last_mut().unwrap() ^= 1,
            Some(Fault::Jump) => records = (&batch_at(next + 10, 1, p.epoch)[..]).into(),
            Some(Fault::WrongNext) => answer.next_offset += 1,
            Some(Fault::UnknownHandle) => answer.handle = 1_000_000,
            Some(Fault::WrongRound) => answer.request_id += 7,
            Some(Fault::Oversized) => records = BytesMut::zeroed(65 << 20),
            _ => {}
        }
    }
    answer.records = records.freeze();
    Some(answer)
}
