//! Three brokers without a cluster around them: real listeners, real fetchers, real logs. Who leads
//! is told by hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::record::ProducerStamp;
use proto::{BrokerId, LeaderEpoch, Offset, v1};
use uuid::Uuid;

use super::rig::{Server, batch, produce, topic_id};
use crate::cluster::metadata::{BrokerImage, ClusterDelta};
use crate::config::{BrokerConfig, Values};
use crate::replication::follower::{Fetchers, LeaderAddress};
use crate::replication::tests::rig::{eventually, job, led};
use crate::replication::{Partition, Replica};
use crate::storage::{FlushPolicy, LogConfig};

struct Node {
    id: i32,
    server: Server,
    fetchers: Fetchers,
}

impl Node {
    async fn start(id: i32) -> Self {
        let server = Server::start(&[]).await;
        let config = BrokerConfig::new(&Values::default(), 1 << 30, 2);
        let me = Replica { broker_id: BrokerId(id), incarnation: run(id) };
        let fetchers = Fetchers::new(config.replication, me, Arc::clone(&server.rig.metrics));
        Self { id, server, fetchers }
    }

    fn partition(&self) -> Arc<Partition> {
        self.server.rig.partitions.find("t", topic_id("t"), 0).unwrap()
    }

    fn follow(&self, leader: &Node, epoch: i32) {
        let partition = self.partition();
        partition.follow(LeaderEpoch(epoch));
        let address = leader.server.address.to_string();
        let leader = LeaderAddress { id: BrokerId(leader.id), address };
        self.fetchers.follow(partition, leader, LeaderEpoch(epoch));
    }

    fn lead(&self, epoch: i32, replicas: &[i32], isr: &[i32]) {
        self.fetchers.stop(self.partition().name());
        let leadership = led(epoch, epoch, replicas, isr);
        self.partition().lead(BrokerId(self.id), &leadership).unwrap();
    }

    /// Appends what nobody acknowledges.
    fn append(&self, records: usize) {
        let (job, outcome) = job(batch(records, 50, ProducerStamp::NONE), LeaderEpoch::UNKNOWN);
        self.partition().queue(job);
        self.partition().drive();
        eventually("the append", || outcome.lock().is_some());
    }

    fn bytes(&self) -> Vec<u8> {
        let folder = self.partition().log().folder();
        std::fs::read(folder.join("00000000000000000000.log")).unwrap()
    }
}

fn run(id: i32) -> Uuid {
    Uuid::from_u128(id as u128)
}

/// Brokers 1 to 3 that know of each other, with an empty partition each.
async fn brokers(config: &LogConfig) -> [Node; 3] {
    let nodes = [Node::start(1).await, Node::start(2).await, Node::start(3).await];
    let images: Vec<BrokerImage> = nodes
        .iter()
        .map(|node| BrokerImage {
            id: BrokerId(node.id),
            host: "localhost".to_owned(),
            kafka: Vec::new(),
            grpc_port: node.server.address.port(),
            rack: String::new(),
            incarnation: run(node.id),
        })
        .collect();
    for node in &nodes {
        node.server.topic("t", 1, config);
        node.partition().stop_leading();
        let brokers = Some(images.clone());
        node.server.metadata.update(|image| {
            image.apply(ClusterDelta { brokers, ..ClusterDelta::default() });
        });
    }
    nodes
}

/// Connections are accepted on the test's own thread: waiting must not block it.
async fn soon(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed().as_secs() < 20, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Sends one record after the other with acks=all; returns the time for each.
async fn round_trips(leader: &Node, records: u64) -> Vec<Duration> {
    let (sender, mut receiver) = leader.server.stream("/ottla.v1.Log/ProduceStream").await;
    let mut times = Vec::new();
    for id in 0..records {
        let request = v1::ProduceRequest {
            acks: v1::Acks::All.into(),
            timeout_ms: 20_000,
            ..produce("t", id, batch(1, 100, ProducerStamp::NONE))
        };
        let sent = Instant::now();
        sender.send_message(&request).await.unwrap();
        let message = receiver.recv().await.unwrap().unwrap();
        let acks = message.decode::<v1::ProduceResponse>().unwrap().acks;
        assert_eq!((acks.len(), &acks[0].error), (1, &None));
        times.push(sent.elapsed());
    }
    times.sort();
    times
}

#[tokio::test]
async fn what_all_acknowledge_all_have_byte_for_byte() {
    let config = LogConfig { min_insync_replicas: 2, ..LogConfig::default() };
    let [leader, second, third] = brokers(&config).await;
    leader.lead(1, &[1, 2, 3], &[1, 2, 3]);
    second.follow(&leader, 1);
    third.follow(&leader, 1);
    let times = round_trips(&leader, 200).await;
    println!("acks=all, 3 replicas: median {:?}, p99 {:?}", times[100], times[198]);
    let all = leader.bytes();
    for node in [&second, &third] {
        assert!(node.bytes() == all, "broker {} differs", node.id);
        eventually("the high watermark", || node.partition().log().high_watermark() == Offset(200));
    }
}

#[tokio::test]
async fn with_before_ack_all_have_it_on_stable_storage() {
    let flush = FlushPolicy::BeforeAck;
    let config = LogConfig { min_insync_replicas: 3, flush, ..LogConfig::default() };
    let [leader, second, third] = brokers(&config).await;
    leader.lead(1, &[1, 2, 3], &[1, 2, 3]);
    second.follow(&leader, 1);
    third.follow(&leader, 1);
    for _ in 0..5 {
        round_trips(&leader, 5).await;
        let end = leader.partition().log().log_end();
        for node in [&leader, &second, &third] {
            assert_eq!(node.partition().log().flushed(), end, "broker {}", node.id);
        }
    }
}

/// KIP-101 with real logs: what the old leader alone had goes, and the new one's takes its place.
#[tokio::test]
async fn a_leader_that_was_cut_off_follows_its_successor() {
    let config = LogConfig { min_insync_replicas: 2, ..LogConfig::default() };
    let [first, second, third] = brokers(&config).await;
    first.lead(1, &[1, 2, 3], &[1, 2, 3]);
    second.follow(&first, 1);
    third.follow(&first, 1);
    round_trips(&first, 20).await;
    for round in 1..4 {
        let epoch = 2 * round;
        // The second leads; the first has not heard of it and appends what nobody fetches.
        third.fetchers.stop(third.partition().name());
        second.lead(epoch, &[1, 2, 3], &[2, 3]);
        third.follow(&second, epoch);
        first.append(7);
        round_trips(&second, 5).await;
        first.follow(&second, epoch);
        soon("agreement", || first.bytes() == second.bytes()).await;
        // And back, with what the second alone has.
        let committed = second.partition().log().log_end();
        third.fetchers.stop(third.partition().name());
        first.fetchers.stop(first.partition().name());
        second.append(3);
        first.lead(epoch + 1, &[1, 2, 3], &[1, 3]);
        third.follow(&first, epoch + 1);
        round_trips(&first, 5).await;
        second.follow(&first, epoch + 1);
        soon("agreement", || second.bytes() == first.bytes()).await;
        assert!(third.bytes() == first.bytes() && first.partition().log().log_end() > committed);
    }
    let cut = |node: &Node| node.server.rig.metrics.replica_truncations.get();
    assert_eq!((cut(&first), cut(&second), cut(&third)), (3, 3, 0));
}
