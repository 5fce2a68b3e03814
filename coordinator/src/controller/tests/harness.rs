//! A registry, controllers and brokers on one current-thread runtime.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proto::BrokerId;
use proto::client::{Connection, SocketOptions};
use proto::v1;
use proto::v1::admin_client::AdminClient;
use proto::v1::broker_control_server::{BrokerControl, BrokerControlServer};
use proto::v1::controller_client::ControllerClient;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::controller::{Controller, ControllerOptions};
use crate::embedded::{EmbeddedOptions, Server};
use crate::registry::brokers;
use crate::zk::payload::Broker;
use crate::zk::{Client, Live, Session, SessionOptions};

pub(super) const SESSION: Duration = Duration::from_secs(4);
/// Long, for machines that are busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test on its own runtime.
pub(super) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(async {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test hangs");
    }));
}

/// A registry of its own: an embedded one, or a new chroot of the ZooKeeper that
/// `OTTLA_TEST_ZOOKEEPER` (`HOST:PORT`) names.
pub(super) struct Registry {
    address: SocketAddr,
    chroot: String,
    embedded: Option<(tempfile::TempDir, JoinHandle<()>)>,
}

impl Registry {
    pub(super) fn start() -> Self {
        if let Ok(address) = std::env::var("OTTLA_TEST_ZOOKEEPER") {
            let chroot = format!("ottla-{}", Uuid::new_v4().simple());
            return Self { address: address.parse().unwrap(), chroot, embedded: None };
        }
        let data = tempfile::tempdir().unwrap();
        let options = EmbeddedOptions::new(data.path(), "127.0.0.1:0".parse().unwrap());
        let server = Server::bind(options).unwrap();
        let address = server.local_addr();
        let task = tokio::task::spawn_local(async move {
            server.run(std::future::pending()).await.unwrap();
        });
        Self { address, chroot: "ottla".to_owned(), embedded: Some((data, task)) }
    }

    pub(super) fn stop(self) {
        self.embedded.unwrap().1.abort();
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it is reached by another address.
    pub(super) fn connect_by(&self, address: SocketAddr) -> crate::zk::ConnectString {
        format!("{address}/{}", self.chroot).parse().unwrap()
    }

    pub(super) fn options(&self) -> SessionOptions {
        SessionOptions::new(self.connect_by(self.address)).with_timeout(SESSION)
    }

    pub(super) async fn session(&self) -> (Session, Live) {
        let session = Session::start(self.options()).await.unwrap();
        let live = session.live().await.unwrap();
        (session, live)
    }

    pub(super) async fn controller(&self) -> RunningController {
        self.controller_with(|_| {}).await
    }

    pub(super) async fn controller_with(
        &self,
        set: impl FnOnce(&mut ControllerOptions),
    ) -> RunningController {
        let mut options = ControllerOptions::new(self.options());
        set(&mut options);
        let controller = Controller::start(options).await.unwrap();
        let address = controller.address().to_owned();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::task::spawn_local(controller.run(async {
            let _ = stopped.await;
        }));
        RunningController { address, stop, task }
    }
}

pub(super) struct RunningController {
    pub(super) address: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl RunningController {
    pub(super) async fn admin(&self) -> AdminClient<Connection> {
        admin(&self.address).await
    }

    /// Waits until it is active.
    pub(super) async fn active(&self) -> AdminClient<Connection> {
        active(&self.address).await
    }

    /// What brokers tell it.
    pub(super) async fn of_brokers(&self) -> ControllerClient<Connection> {
        let connection = Connection::connect(&self.address, &SocketOptions::default()).await;
        ControllerClient::new(connection.unwrap())
    }

    pub(super) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

/// A controller on a thread of its own, which can be stopped dead: nothing of it runs on.
pub(super) struct ControllerThread {
    pub(super) address: String,
    freezes: tokio::sync::mpsc::UnboundedSender<std::sync::mpsc::Receiver<()>>,
}

impl ControllerThread {
    pub(super) async fn start(registry: &Registry, session: Duration) -> Self {
        let options = ControllerOptions::new(registry.options().with_timeout(session));
        let (freezes, mut freeze) =
            tokio::sync::mpsc::unbounded_channel::<std::sync::mpsc::Receiver<()>>();
        let (started, address) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let controller = Controller::start(options).await.unwrap();
                started.send(controller.address().to_owned()).unwrap();
                let frozen = async {
                    // Blocks the only thread there is. Ends with the test.
                    while let Some(until) = freeze.recv().await {
                        let _ = until.recv();
                    }
                };
                controller.run(frozen).await;
            });
        });
        Self { address: address.await.unwrap(), freezes }
    }

    /// As by SIGSTOP, until what is returned is dropped.
    pub(super) fn freeze(&self) -> std::sync::mpsc::Sender<()> {
        let (wake, until) = std::sync::mpsc::channel();
        self.freezes.send(until).unwrap();
        wake
    }

    pub(super) async fn active(&self) -> AdminClient<Connection> {
        active(&self.address).await
    }

    /// Why it does not answer as the controller; `None`: it does.
    pub(super) async fn active_or_not(&self) -> Option<Status> {
        admin(&self.address).await.list_groups(v1::ListGroupsRequest {}).await.err()
    }
}

async fn admin(address: &str) -> AdminClient<Connection> {
    AdminClient::new(Connection::connect(address, &SocketOptions::default()).await.unwrap())
}

async fn active(address: &str) -> AdminClient<Connection> {
    let mut admin = admin(address).await;
    until(async || admin.list_groups(v1::ListGroupsRequest {}).await.is_ok()).await;
    admin
}

/// Between a controller and the registry; breaks every connection when it is asked to.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    cut: Arc<tokio::sync::Notify>,
}

impl Proxy {
    pub(super) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = Arc::new(tokio::sync::Notify::new());
        let cuts = Arc::clone(&cut);
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let cuts = Arc::clone(&cuts);
                tokio::spawn(async move {
                    let Ok(mut server) = tokio::net::TcpStream::connect(to).await else { return };
                    let copied = tokio::io::copy_bidirectional(&mut client, &mut server);
                    tokio::select! { _ = copied => {}, () = cuts.notified() => {} }
                });
            }
        });
        Self { address, cut }
    }

    /// What was asked has most likely reached the registry; its answer is lost.
    pub(super) fn cut(&self) {
        self.cut.notify_waiters();
    }
}

/// Waits for a condition.
pub(super) async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "the condition did not come true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a broker was told; whether it answers.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) updates: Vec<v1::UpdateClusterRequest>,
    pub(super) silent: bool,
    /// It says that it has heard of a controller with this epoch.
    pub(super) heard_of: i32,
}

impl Told {
    /// The newest state told of a partition, as a broker would keep it.
    pub(super) fn state(&self, topic: &str, partition: i32) -> Option<v1::Partition> {
        let topics = self.updates.iter().flat_map(|update| &update.topics);
        let states = topics.filter(|t| t.name == topic).flat_map(|t| &t.partitions);
        let of = states.filter(|state| state.partition == partition);
        of.max_by_key(|state| (state.leader_epoch, state.state_version)).cloned()
    }

    pub(super) fn topics(&self) -> Vec<String> {
        let topics = self.updates.iter().flat_map(|update| &update.topics);
        topics.map(|topic| topic.name.clone()).collect()
    }

    pub(super) fn deleted(&self) -> Vec<String> {
        let deleted = self.updates.iter().flat_map(|update| &update.deleted);
        deleted.map(|topic| topic.name.clone()).collect()
    }
}

#[derive(Clone, Default)]
pub(super) struct FakeBroker(pub(super) Arc<Mutex<Told>>);

#[tonic::async_trait]
impl BrokerControl for FakeBroker {
    async fn update_cluster(
        &self,
        request: Request<v1::UpdateClusterRequest>,
    ) -> Result<Response<v1::UpdateClusterResponse>, Status> {
        let request = request.into_inner();
        let mut told = self.0.lock();
        if told.silent {
            return Err(Status::unavailable("silent"));
        }
        let applied = request.sequence;
        let controller_epoch = request.controller_epoch.max(told.heard_of);
        told.updates.push(request);
        let response =
            v1::UpdateClusterResponse { applied, controller_epoch, ..Default::default() };
        Ok(Response::new(response))
    }

    /// One log of partition 0 of each topic asked for that it was told of.
    async fn describe_logs(
        &self,
        request: Request<v1::DescribeLogsRequest>,
    ) -> Result<Response<v1::DescribeLogsResponse>, Status> {
        let asked = request.into_inner().topics;
        let silent = self.0.lock().silent;
        if silent {
            tokio::time::sleep(PATIENCE).await;
        }
        let told = self.0.lock();
        let topics = told.updates.iter().flat_map(|update| &update.topics);
        let log = |topic: &v1::Topic| v1::StoredLog {
            topic: topic.name.clone(),
            topic_id: topic.topic_id.clone(),
            log_end_offset: 7,
            ..Default::default()
        };
        let logs = topics.filter(|topic| asked.contains(&topic.name)).map(log).take(1).collect();
        let directory = v1::LogDirectory { path: "/data".to_owned(), error: None, logs };
        Ok(Response::new(v1::DescribeLogsResponse { directories: vec![directory] }))
    }
}

/// A registered broker; leaves when its session is closed.
pub(super) struct RunningBroker {
    pub(super) told: Arc<Mutex<Told>>,
    pub(super) incarnation: Uuid,
    session: Session,
}

impl RunningBroker {
    pub(super) async fn start(registry: &Registry, id: i32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let broker = FakeBroker::default();
        let told = Arc::clone(&broker.0);
        tokio::spawn(serve(listener, broker));
        let (session, live) = registry.session().await;
        let payload = Broker { grpc_port: port, ..super::broker() };
        let incarnation = payload.incarnation;
        brokers::register(&live.client, BrokerId(id), &payload, &[], PATIENCE).await.unwrap();
        Self { told, incarnation, session }
    }

    pub(super) async fn stop(self) {
        self.session.close().await;
    }
}

async fn serve(listener: TcpListener, broker: FakeBroker) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let server = BrokerControlServer::new(broker.clone());
        let calls = hyper::service::service_fn(move |request| {
            let mut server = server.clone();
            async move { tonic::codegen::Service::call(&mut server, request).await }
        });
        tokio::spawn(async move {
            let executor = hyper_util::rt::TokioExecutor::new();
            let io = hyper_util::rt::TokioIo::new(socket);
            let served = hyper::server::conn::http2::Builder::new(executor);
            // Ends with its peer.
            let _ = served.serve_connection(io, calls).await;
        });
    }
}

/// A registry, a controller, and brokers 1, 2 and 3.
pub(super) struct Three {
    pub(super) registry: Registry,
    pub(super) controller: RunningController,
    pub(super) one: RunningBroker,
    pub(super) two: RunningBroker,
    pub(super) three: RunningBroker,
    /// Of somebody who looks on.
    pub(super) session: Session,
    pub(super) client: Client,
}

impl Three {
    pub(super) async fn start() -> Self {
        let registry = Registry::start();
        let controller = registry.controller().await;
        Self::around(registry, controller).await
    }

    /// With a controller that was started by the test.
    pub(super) async fn around(registry: Registry, controller: RunningController) -> Self {
        let one = RunningBroker::start(&registry, 1).await;
        let two = RunningBroker::start(&registry, 2).await;
        let three = RunningBroker::start(&registry, 3).await;
        let (session, live) = registry.session().await;
        Self { registry, controller, one, two, three, session, client: live.client }
    }
}

/// A request id.
pub(super) fn request(n: u8) -> bytes::Bytes {
    bytes::Bytes::from(vec![n; 16])
}

pub(super) fn create(n: u8, name: &str, partitions: i32) -> v1::CreateTopicsRequest {
    v1::CreateTopicsRequest {
        request_id: request(n),
        topics: vec![v1::NewTopic { name: name.to_owned(), partitions, ..Default::default() }],
        ..Default::default()
    }
}

pub(super) fn delete(n: u8, name: &str) -> v1::DeleteTopicsRequest {
    let topics = vec![name.to_owned()];
    v1::DeleteTopicsRequest { request_id: request(n), topics, if_exists: false }
}

/// The one error of the results, as its code; 0: none.
pub(super) fn code(response: Response<v1::TopicResults>) -> i32 {
    let results = response.into_inner().results;
    assert_eq!(results.len(), 1);
    results[0].error.as_ref().map_or(0, |error| error.code)
}
