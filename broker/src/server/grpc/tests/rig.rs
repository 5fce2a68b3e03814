//! A server with a few partitions, and a client.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use coordinator::zk::payload::KafkaEndpoint;
use coordinator::zk::{Session, SessionOptions};
use proto::client::{Connection, SocketOptions, StreamReceiver, StreamSender};
use proto::record::ProducerStamp;
use proto::{BrokerId, LeaderEpoch, v1};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::super::Services;
use crate::api::Api;
use crate::cluster::controller_link::ControllerLink;
use crate::cluster::metadata::{
    BrokerImage, ClusterDelta, MetadataCache, PartitionImage, TopicImage,
};
use crate::cluster::producer_ids::ProducerIds;
use crate::config::{BrokerConfig, Values};
use crate::groups::{Groups, NewOffsetsTopic, TopicCreator};
use crate::metrics::Metrics;
use crate::replication::tests::rig;
use crate::server::{DataThreads, Endpoint, KafkaEndpoints, Protocol};
use crate::storage::LogConfig;
use crate::storage::disk::faulty::FaultyDisk;

pub(in crate::server) use crate::replication::tests::rig::{batch, topic_id};

/// Creates nothing: the tests make the topics there are.
struct NoTopics;

impl TopicCreator for NoTopics {
    fn create(&self, _: NewOffsetsTopic, _: Box<dyn FnOnce() + Send>) {}
}

/// A listener for Kafka clients: its name, where it listens, what it advertises.
pub(in crate::server) type Listener = (&'static str, &'static str, Option<(&'static str, u16)>);

/// What there is where a test wants nothing else.
const PLAIN: Listener = ("PLAINTEXT", "127.0.0.1:0", None);

/// A running server. It stops when this drops.
pub(in crate::server) struct Server {
    pub(in crate::server) address: SocketAddr,
    /// Where Kafka clients connect.
    pub(in crate::server) kafka: SocketAddr,
    /// By their numbers, all of them.
    pub(in crate::server) kafka_listeners: Vec<SocketAddr>,
    pub(in crate::server) rig: rig::Rig,
    pub(in crate::server) metrics: Arc<Metrics>,
    pub(in crate::server) metadata: Arc<MetadataCache>,
    stop: watch::Sender<bool>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

impl Server {
    /// With settings as `KEY=VALUE`.
    pub(in crate::server) async fn start(settings: &[&str]) -> Self {
        Self::over(rig::Rig::new(), settings, &[PLAIN]).await
    }

    /// With listeners for Kafka clients: name, address, what is advertised.
    pub(in crate::server) async fn listening(listeners: &[Listener]) -> Self {
        Self::over(rig::Rig::new(), &[], listeners).await
    }

    /// On a disk that breaks when told to.
    pub(in crate::server) async fn breakable() -> (Self, FaultyDisk) {
        let (rig, disk) = rig::Rig::breakable();
        (Self::over(rig, &[], &[PLAIN]).await, disk)
    }

    async fn over(rig: rig::Rig, settings: &[&str], listeners: &[Listener]) -> Self {
        let mut values = Values::default();
        values.read_assignment("num.network.threads=2").unwrap();
        for setting in settings {
            values.read_assignment(setting).unwrap();
        }
        let config = BrokerConfig::new(&values, 1 << 30, 2);
        let metrics = Arc::clone(&rig.metrics);
        let metadata = Arc::new(MetadataCache::default());
        // Nobody is there, and nobody waits for it.
        let nowhere = SessionOptions::new("127.0.0.1:1/none".parse().unwrap());
        let session = Session::start(nowhere).await.unwrap();
        let api = Api::new(
            Arc::clone(&rig.partitions),
            Arc::clone(&metadata),
            Arc::new(ProducerIds::fixed()),
            Arc::clone(&metrics),
            config.requests.clone(),
            "zookeeper:2181/ottla".to_owned(),
            config.settings.clone(),
        );
        let (stop, stopping) = watch::channel(false);
        let (groups, _) = Groups::start(
            BrokerId(1),
            config.groups.clone(),
            Arc::clone(&rig.partitions),
            Arc::clone(&metadata),
            Arc::new(NoTopics),
            stopping.clone(),
        )
        .unwrap();
        let api = api.with_groups(groups);
        let controller = ControllerLink::new(session, Arc::clone(&metadata), Handle::current());
        let (updates, _) = mpsc::channel(1);
        let endpoints = listeners.iter().map(|(name, _, advertised)| Endpoint {
            name: (*name).into(),
            advertised: advertised.map(|(host, port)| (host.into(), port)),
        });
        let services = Services::new(
            Arc::new(api),
            config.sockets,
            Arc::clone(&metrics),
            controller,
            updates,
            false,
            KafkaEndpoints::new(BrokerId(1), endpoints.collect()),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let threads = Arc::new(DataThreads::start(services, &stopping).unwrap());
        let accept = |listener: TcpListener, protocol: Protocol| {
            let (threads, stopping) = (Arc::clone(&threads), stopping.clone());
            tokio::spawn(async move { threads.accept(listener, protocol, stopping).await });
        };
        accept(listener, Protocol::Grpc);
        let mut kafka_listeners = Vec::new();
        for (number, (_, bind, _)) in listeners.iter().enumerate() {
            let listener = TcpListener::bind(bind).await.unwrap();
            kafka_listeners.push(listener.local_addr().unwrap());
            accept(listener, Protocol::Kafka(number));
        }
        let kafka = kafka_listeners[0];
        Self { address, kafka, kafka_listeners, rig, metrics, metadata, stop }
    }

    /// A topic led here, known to metadata.
    pub(in crate::server) fn topic(&self, name: &str, partitions: i32, config: &LogConfig) {
        for partition in 0..partitions {
            self.rig.lead(name, partition, config.clone());
        }
        let me = BrokerId(1);
        let state = PartitionImage {
            leader: Some(me),
            leader_epoch: LeaderEpoch(0),
            replicas: vec![me],
            isr: vec![me],
            electable: Vec::new(),
            adding: Vec::new(),
            version: 0,
        };
        let topic = TopicImage {
            name: name.into(),
            id: topic_id(name),
            partitions: vec![state; partitions as usize],
            throttle: None,
        };
        let broker = BrokerImage {
            id: me,
            host: "localhost".to_owned(),
            grpc_port: self.address.port(),
            kafka: Vec::new(),
            rack: String::new(),
            incarnation: uuid::Uuid::from_u128(1),
        };
        self.metadata.update(|image| {
            image.apply(ClusterDelta {
                topics: vec![topic],
                brokers: Some(vec![broker]),
                ..ClusterDelta::default()
            });
        });
    }

    /// Another broker, in one of its runs; the one before is gone.
    pub(in crate::server) fn register(&self, id: BrokerId, incarnation: uuid::Uuid) {
        self.register_with(id, incarnation, Vec::new());
    }

    /// The same, with listeners for Kafka clients.
    pub(in crate::server) fn register_with(
        &self,
        id: BrokerId,
        incarnation: uuid::Uuid,
        kafka: Vec<KafkaEndpoint>,
    ) {
        self.metadata.update(|image| {
            let mut brokers: Vec<_> = image.brokers.values().cloned().collect();
            brokers.retain(|broker| broker.id != id);
            brokers.push(BrokerImage {
                id,
                host: "localhost".to_owned(),
                grpc_port: 1,
                kafka,
                rack: String::new(),
                incarnation,
            });
            image.apply(ClusterDelta { brokers: Some(brokers), ..ClusterDelta::default() });
        });
    }

    pub(in crate::server) async fn connect(&self) -> Connection {
        let address = self.address.to_string();
        Connection::connect(&address, &SocketOptions::default()).await.unwrap()
    }

    /// A raw stream of a method of `Log`.
    pub(in crate::server) async fn stream(
        &self,
        path: &'static str,
    ) -> (StreamSender, StreamReceiver) {
        self.connect().await.open_stream(path, 64, 64 << 20)
    }

    /// Appends without a socket.
    pub(in crate::server) fn append(
        &self,
        topic: &str,
        partition: i32,
        records: usize,
        value_len: usize,
    ) {
        let partition = self.rig.partitions.find(topic, topic_id(topic), partition).unwrap();
        let batch = batch(records, value_len, ProducerStamp::NONE);
        let (job, outcome) = rig::job(batch, LeaderEpoch::UNKNOWN);
        partition.queue(job);
        partition.drive();
        rig::eventually("the append", || outcome.lock().is_some());
        outcome.lock().take().unwrap().unwrap();
    }
}

/// A request with one batch.
pub(in crate::server) fn produce(
    topic: &str,
    request_id: u64,
    records: Bytes,
) -> v1::ProduceRequest {
    v1::ProduceRequest {
        request_id,
        topic: topic.to_owned(),
        topic_id: topic_id(topic).to_bytes(),
        leader_epoch: -1,
        records,
        ..Default::default()
    }
}

/// A handle for partition 0 of a topic, from the start.
pub(in crate::server) fn handle(number: u32, topic: &str, offset: i64) -> v1::FetchPartition {
    v1::FetchPartition {
        handle: number,
        topic: topic.to_owned(),
        topic_id: topic_id(topic).to_bytes(),
        offset,
        leader_epoch: -1,
        ..Default::default()
    }
}
