//! Brokers as members of a cluster, in one process: registry, controller and brokers on threads of
//! their own, talking over sockets.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy does not see as tests

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use broker::broker::Broker;
use broker::config::{BrokerConfig, Values};
use coordinator::controller::{Controller, ControllerOptions};
use coordinator::embedded::{EmbeddedOptions, Server};
use coordinator::zk::SessionOptions;
use proto::client::{Connection, SocketOptions};
use proto::record::{BatchBuilder, ProducerStamp};
use proto::v1;
use proto::v1::admin_client::AdminClient;
use proto::v1::log_client::LogClient;
use tokio::sync::oneshot;

/// A server on a thread of its own; it stops when this drops.
struct Running {
    address: String,
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
struct Cluster {
    _controller: Running,
    registry: Running,
    dir: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Self {
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
        Self { _controller: controller, registry, dir }
    }

    fn data(&self, id: i32) -> PathBuf {
        self.dir.path().join(format!("broker-{id}"))
    }

    fn config(&self, id: i32, data: &Path) -> BrokerConfig {
        let mut values = Values::default();
        for setting in [
            format!("broker.id={id}"),
            format!("log.dirs={}", data.display()),
            format!("zookeeper.connect={}/ottla", self.registry.address),
            "listen.grpc=127.0.0.1:0".to_owned(),
            "listen.http=127.0.0.1:0".to_owned(),
            "auto.create.topics.enable=true".to_owned(),
        ] {
            values.read_assignment(&setting).unwrap();
        }
        BrokerConfig::new(&values, 1 << 30, 1)
    }

    fn broker(&self, id: i32) -> Running {
        let config = self.config(id, &self.data(id));
        Running::start(move |told, stopped| async move {
            let broker = Broker::start(config).await.unwrap();
            told.send(broker.addresses().grpc.to_string()).unwrap();
            broker.run(async { drop(stopped.await) }).await.unwrap();
        })
    }
}

async fn connect(broker: &Running) -> Connection {
    Connection::connect(&broker.address, &SocketOptions::default()).await.unwrap()
}

async fn create(broker: &Running, topic: &str, assignment: &[i32]) {
    let assignment =
        assignment.iter().map(|&id| v1::Replicas { brokers: vec![id] }).collect::<Vec<_>>();
    let topic = v1::NewTopic { name: topic.to_owned(), assignment, ..Default::default() };
    let request = v1::CreateTopicsRequest {
        request_id: uuid::Uuid::new_v4().as_bytes().to_vec().into(),
        topics: vec![topic],
        ..Default::default()
    };
    let mut admin = AdminClient::new(connect(broker).await);
    let results = admin.create_topics(request).await.unwrap().into_inner().results;
    assert_eq!(results[0].error, None);
}

async fn delete(broker: &Running, topic: &str) {
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
async fn known(broker: &Running, topic: &str, is_fine: impl Fn(&v1::Topic) -> bool) -> v1::Topic {
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

async fn produce(broker: &Running, topic: &v1::Topic, partition: i32) -> v1::ProduceAck {
    let mut batch = BatchBuilder::new(1_000);
    batch.append(1, None, Some(b"value"), &[]).unwrap();
    let request = v1::ProduceRequest {
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

fn code(ack: &v1::ProduceAck) -> i32 {
    ack.error.as_ref().map_or(0, |error| error.code)
}

#[tokio::test]
async fn a_restarted_broker_leads_what_it_led_in_a_raised_epoch() {
    let cluster = Cluster::start();
    let broker = cluster.broker(1);
    create(&broker, "t", &[1, 1]).await;
    let topic = known(&broker, "t", |_| true).await;
    assert_eq!(topic.partitions[0].leader_epoch, 0);
    assert_eq!(produce(&broker, &topic, 0).await.base_offset, 0);
    drop(broker);
    let broker = cluster.broker(1);
    let topic = known(&broker, "t", |topic| topic.partitions[0].leader == 1).await;
    assert_eq!(topic.partitions[0].leader_epoch, 1);
    let ack = produce(&broker, &topic, 0).await;
    assert_eq!((code(&ack), ack.base_offset, ack.leader_epoch), (0, 1, 1));
}

#[tokio::test]
async fn other_brokers_learn_the_raised_epoch() {
    let cluster = Cluster::start();
    let (first, second) = (cluster.broker(1), cluster.broker(2));
    create(&second, "t", &[1]).await;
    known(&second, "t", |topic| topic.partitions[0].leader == 1).await;
    drop(first);
    known(&second, "t", |topic| topic.partitions[0].leader == -1).await;
    let _first = cluster.broker(1);
    let back = |topic: &v1::Topic| {
        topic.partitions[0].leader == 1 && topic.partitions[0].leader_epoch == 1
    };
    known(&second, "t", back).await;
}

#[tokio::test]
async fn a_broker_that_slept_through_a_deletion_serves_nothing_of_the_old_topic() {
    let cluster = Cluster::start();
    let (first, second) = (cluster.broker(1), cluster.broker(2));
    create(&second, "t", &[1]).await;
    let old = known(&first, "t", |topic| topic.partitions[0].leader == 1).await;
    assert_eq!(code(&produce(&first, &old, 0).await), 0);
    drop(first);
    known(&second, "t", |topic| topic.partitions[0].leader == -1).await;
    delete(&second, "t").await;
    create(&second, "t", &[2]).await;
    let first = cluster.broker(1);
    let new = known(&first, "t", |topic| topic.topic_id != old.topic_id).await;
    assert_eq!(code(&produce(&first, &old, 0).await), 100, "unknown topic id");
    assert_eq!(code(&produce(&first, &new, 0).await), 6, "not the leader");
    assert_eq!(produce(&second, &new, 0).await.base_offset, 0);
    let folders: Vec<String> = std::fs::read_dir(cluster.data(1))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("t-0"))
        .collect();
    assert_eq!(folders.len(), 1, "set aside, not lost: {folders:?}");
    assert_ne!(folders[0], "t-0");
}

#[tokio::test]
async fn a_deleted_topic_is_gone_from_disk_and_may_be_created_again() {
    let cluster = Cluster::start();
    let broker = cluster.broker(1);
    create(&broker, "t", &[1]).await;
    let old = known(&broker, "t", |_| true).await;
    produce(&broker, &old, 0).await;
    delete(&broker, "t").await;
    assert!(!cluster.data(1).join("t-0").exists());
    create(&broker, "t", &[1]).await;
    let new = known(&broker, "t", |topic| topic.topic_id != old.topic_id).await;
    assert_eq!(code(&produce(&broker, &old, 0).await), 100);
    assert_eq!(produce(&broker, &new, 0).await.base_offset, 0);
}

#[tokio::test]
async fn a_missing_topic_is_created_for_who_may_ask_so() {
    let cluster = Cluster::start();
    let broker = cluster.broker(1);
    let mut client = LogClient::new(connect(&broker).await);
    let request = |allow_auto_create| v1::MetadataRequest {
        topics: vec!["t".to_owned()],
        allow_auto_create,
        ..Default::default()
    };
    let answer = client.metadata(request(false)).await.unwrap().into_inner();
    assert!(answer.topics[0].error.is_some());
    let answer = client.metadata(request(true)).await.unwrap().into_inner();
    assert_eq!(answer.topics[0].error, None);
    assert_eq!(code(&produce(&broker, &answer.topics[0], 0).await), 0);
}

#[tokio::test]
async fn a_directory_keeps_the_broker_and_the_cluster_it_belongs_to() {
    let cluster = Cluster::start();
    drop(cluster.broker(1));
    let error = Broker::start(cluster.config(2, &cluster.data(1))).await.err().unwrap();
    assert!(error.to_string().contains("belongs to broker 1"), "{error}");
    let other = Cluster::start();
    let error = Broker::start(other.config(1, &cluster.data(1))).await.err().unwrap();
    assert!(error.to_string().contains("belongs to cluster"), "{error}");
}
