//! Registry, controller and brokers on threads of their own, talking over sockets.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use broker::broker::Broker;
use broker::config::{BrokerConfig, Values};
use coordinator::controller::{Controller, ControllerOptions};
use coordinator::embedded::{EmbeddedOptions, Server};
use coordinator::registry::partitions;
use coordinator::zk::payload::PartitionState;
use coordinator::zk::{Session, SessionOptions};
use proto::client::{Connection, SocketOptions};
use proto::record::{BatchBuilder, ProducerStamp};
use proto::v1::admin_client::AdminClient;
use proto::v1::log_client::LogClient;
use proto::{ErrorCode, v1};
use tokio::sync::oneshot;

/// A server on a thread of its own; it stops when this drops.
pub(crate) struct Running {
    pub(crate) address: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start<F, Fut>(serve: F) -> Self
    where
        F: FnOnce(mpsc::Sender<String>, oneshot::Receiver<()>) -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        let (stop, stopped) = oneshot::channel();
        let (told, address) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(serve(told, stopped));
        });
        let address = address.recv().expect("the server starts");
        Self { address, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A registry and a controller.
pub(crate) struct Cluster {
    pub(crate) controller: Running,
    pub(crate) registry: Running,
    dir: tempfile::TempDir,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("registry");
        let registry = Running::start(move |told, stopped| async move {
            let options = EmbeddedOptions::new(data, "127.0.0.1:0".parse().unwrap());
            let server = Server::bind(options).unwrap();
            told.send(server.local_addr().to_string()).unwrap();
            let _ = server.run(async { drop(stopped.await) }).await;
        });
        let zookeeper = format!("{}/ottla", registry.address);
        let controller = Running::start(move |told, stopped| async move {
            let session = SessionOptions::new(zookeeper.parse().unwrap());
            let controller = Controller::start(ControllerOptions::new(session)).await.unwrap();
            told.send(controller.address().to_owned()).unwrap();
            controller.run(async { drop(stopped.await) }).await;
        });
        Self { controller, registry, dir }
    }

    pub(crate) fn data(&self, id: i32) -> PathBuf {
        self.dir.path().join(format!("broker-{id}"))
    }

    /// Rewrites the state of a topic's first partition, as nobody else would.
    pub(crate) fn write_state(
        &self,
        topic: &str,
        change: impl FnOnce(PartitionState) -> PartitionState + Send,
    ) {
        let connect = format!("{}/ottla", self.registry.address).parse().unwrap();
        let writing = async {
            let session = Session::start(SessionOptions::new(connect)).await.unwrap();
            let client = session.live().await.unwrap().client;
            let state = partitions::read(&client, topic, 0).await.unwrap().unwrap();
            let changed = change(state.value);
            let written = partitions::set(&client, topic, 0, &changed, state.version).await;
            assert!(written.unwrap().is_some());
            session.close().await;
        };
        // A thread of its own: tests have a runtime already.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(writing);
            });
        });
    }

    pub(crate) fn config(&self, id: i32, data: &Path) -> BrokerConfig {
        let mut values = Values::default();
        for setting in [
            format!("broker.id={id}"),
            format!("log.dirs={}", data.display()),
            format!("zookeeper.connect={}/ottla", self.registry.address),
            "listen.grpc=127.0.0.1:0".to_owned(),
            "listen.http=127.0.0.1:0".to_owned(),
            "auto.create.topics.enable=true".to_owned(),
            // Followers find out soon; tests say when they wait for it.
            "replica.lag.time.max.ms=1500".to_owned(),
            "zookeeper.session.timeout.ms=3000".to_owned(),
        ] {
            values.read_assignment(&setting).unwrap();
        }
        BrokerConfig::new(&values, 1 << 30, 1)
    }

    pub(crate) fn broker(&self, id: i32) -> Running {
        self.start_broker(self.config(id, &self.data(id)))
    }

    /// A broker with other settings than the usual.
    pub(crate) fn start_broker(&self, config: BrokerConfig) -> Running {
        Running::start(move |told, stopped| async move {
            let broker = Broker::start(config).await.unwrap();
            told.send(broker.addresses().grpc.to_string()).unwrap();
            broker.run(async { drop(stopped.await) }).await.unwrap();
        })
    }
}

pub(crate) async fn connect(broker: &Running) -> Connection {
    Connection::connect(&broker.address, &SocketOptions::default()).await.unwrap()
}

pub(crate) async fn create(broker: &Running, topic: &str, assignment: &[i32]) {
    let assignment =
        assignment.iter().map(|&id| v1::Replicas { brokers: vec![id] }).collect::<Vec<_>>();
    create_assigned(broker, topic, assignment, &[]).await;
}

/// Creates a topic of one partition with these replicas, two of which must be in sync.
pub(crate) async fn create_replicated(broker: &Running, topic: &str, replicas: &[i32]) {
    let assignment = vec![v1::Replicas { brokers: replicas.to_vec() }];
    create_assigned(broker, topic, assignment, &[("min.insync.replicas", "2")]).await;
}

async fn create_assigned(
    broker: &Running,
    topic: &str,
    assignment: Vec<v1::Replicas>,
    configs: &[(&str, &str)],
) {
    let configs = configs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    let topic = v1::NewTopic { name: topic.to_owned(), assignment, configs, ..Default::default() };
    let request = v1::CreateTopicsRequest {
        request_id: uuid::Uuid::new_v4().as_bytes().to_vec().into(),
        topics: vec![topic],
        ..Default::default()
    };
    let mut admin = AdminClient::new(connect(broker).await);
    loop {
        let results = admin.create_topics(request.clone()).await.unwrap().into_inner().results;
        match &results[0].error {
            None => return,
            // The controller has not seen a broker yet that was started just now.
            Some(error) if error.code == ErrorCode::InvalidReplicaAssignment as i32 => {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            Some(error) => panic!("{error:?}"),
        }
    }
}

pub(crate) async fn delete(broker: &Running, topic: &str) {
    let request = v1::DeleteTopicsRequest {
        request_id: uuid::Uuid::new_v4().as_bytes().to_vec().into(),
        topics: vec![topic.to_owned()],
        ..Default::default()
    };
    let mut admin = AdminClient::new(connect(broker).await);
    let results = admin.delete_topics(request).await.unwrap().into_inner().results;
    assert_eq!(results[0].error, None);
}

/// The topic as a broker knows it, once `is_fine` says so.
pub(crate) async fn known(
    broker: &Running,
    topic: &str,
    is_fine: impl Fn(&v1::Topic) -> bool,
) -> v1::Topic {
    let mut client = LogClient::new(connect(broker).await);
    let request = v1::MetadataRequest { topics: vec![topic.to_owned()], ..Default::default() };
    let mut answers = client.watch_metadata(request).await.unwrap().into_inner();
    let waiting = async {
        loop {
            let answer = answers.message().await.unwrap().unwrap();
            // None where only the brokers changed.
            let Some(topic) = answer.topics.into_iter().next() else { continue };
            if topic.error.is_none() && is_fine(&topic) {
                return topic;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), waiting).await.expect(topic)
}

pub(crate) async fn produce(broker: &Running, topic: &v1::Topic, partition: i32) -> v1::ProduceAck {
    send(broker, topic, partition, v1::Acks::Leader).await
}

/// As `produce`, acknowledged when every replica in sync has it.
pub(crate) async fn produce_all(
    broker: &Running,
    topic: &v1::Topic,
    partition: i32,
) -> v1::ProduceAck {
    send(broker, topic, partition, v1::Acks::All).await
}

async fn send(
    broker: &Running,
    topic: &v1::Topic,
    partition: i32,
    acks: v1::Acks,
) -> v1::ProduceAck {
    let mut batch = BatchBuilder::new(1_000);
    batch.append(1, None, Some(b"value"), &[]).unwrap();
    let request = v1::ProduceRequest {
        acks: acks.into(),
        topic: topic.name.clone(),
        topic_id: topic.topic_id.clone(),
        partition,
        leader_epoch: -1,
        records: batch.finish(ProducerStamp::NONE),
        ..Default::default()
    };
    let mut client = LogClient::new(connect(broker).await);
    client.produce(request).await.unwrap().into_inner()
}

pub(crate) fn code(ack: &v1::ProduceAck) -> i32 {
    ack.error.as_ref().map_or(0, |error| error.code)
}
