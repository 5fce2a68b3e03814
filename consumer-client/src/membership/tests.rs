//! Members over the embedded registry and fake brokers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coordinator::embedded::{EmbeddedOptions, Server};
use coordinator::zk::payload::Topic;
use coordinator::zk::{Client, Payload, Session, SessionOptions, paths};
use proto::{BrokerId, Offset, TopicId, TopicPartition};
use tokio::sync::oneshot;

use crate::testing::eventually;
use crate::testing::fake_broker::FakeCluster;
use crate::{Consumer, ConsumerConfig, Event, Record};

const SOON: Duration = Duration::from_millis(20);

/// A registry of its own beside fake brokers.
struct World {
    cluster: FakeCluster,
    connect: String,
    runtime: tokio::runtime::Handle,
    session: Session,
    registry: Option<Registry>,
    data: tempfile::TempDir,
}

/// The embedded registry on a thread of its own.
struct Registry {
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
    address: SocketAddr,
}

impl Registry {
    fn start(data: &Path, listen: SocketAddr) -> Self {
        let options = EmbeddedOptions::new(data, listen);
        let (stop, stopped) = oneshot::channel::<()>();
        let (address, bound) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let server = Server::bind(options).unwrap();
                address.send(server.local_addr()).unwrap();
                server.run(async { drop(stopped.await) }).await.unwrap();
            });
        });
        let address = bound.recv().unwrap();
        Self { stop, thread, address }
    }
}

impl World {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let registry = Registry::start(data.path(), "127.0.0.1:0".parse().unwrap());
        let connect = format!("{}/ottla", registry.address);
        let driven = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let runtime = driven.handle().clone();
        std::thread::spawn(move || driven.block_on(std::future::pending::<()>()));
        let options = SessionOptions::new(connect.parse().unwrap());
        let options = options.failing_after(Duration::from_secs(10));
        let session = runtime.block_on(Session::start(options)).unwrap();
        let cluster = FakeCluster::start(&[1]);
        Self { cluster, connect, runtime, session, registry: Some(registry), data }
    }

    /// Stops the registry, does something, and starts it again where it was.
    fn without_registry(&mut self, meanwhile: impl FnOnce(&Self)) {
        let Registry { stop, thread, address } = self.registry.take().unwrap();
        stop.send(()).unwrap();
        thread.join().unwrap();
        meanwhile(self);
        self.registry = Some(Registry::start(self.data.path(), address));
    }

    fn client(&self) -> Client {
        self.runtime.block_on(self.session.live()).unwrap().client
    }

    fn create(&self, topic: &str, partitions: usize) -> TopicId {
        let topic_id = self.cluster.create(topic, &vec![1; partitions]);
        let partitions = vec![vec![BrokerId(1)]; partitions];
        let bytes = Topic { topic_id, partitions }.encode().unwrap();
        let client = self.client();
        let options = persistent();
        self.runtime.block_on(client.create(&paths::topic(topic), &bytes, &options)).unwrap();
        topic_id
    }

    fn delete(&self, topic: &str) {
        self.cluster.delete(topic);
        let client = self.client();
        self.runtime.block_on(client.delete(&paths::topic(topic), None)).unwrap();
    }

    fn config(&self, group: &str) -> ConsumerConfig {
        let mut config = ConsumerConfig::new(self.cluster.addresses()).group(group);
        config = config.from_beginning();
        config.zookeeper_connect = Some(self.connect.clone());
        config.auto_commit_interval = Duration::from_millis(50);
        config.zookeeper_session_timeout = Duration::from_secs(2);
        config
    }

    fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<Offset> {
        let client = self.client();
        let read = coordinator::registry::offsets::read(&client, group, topic, partition);
        self.runtime.block_on(read).unwrap().and_then(|found| found.value.offset)
    }

    fn owners(&self, group: &str, topic: &str) -> BTreeMap<i32, String> {
        let client = self.client();
        let all = self.runtime.block_on(coordinator::registry::owners::list(&client, group));
        let of_topic = all.unwrap().remove(topic).unwrap_or_default();
        of_topic.into_iter().map(|(p, owner)| (p, owner.consumer)).collect()
    }
}

fn persistent() -> zookeeper_client::CreateOptions<'static> {
    zookeeper_client::CreateMode::Persistent.with_acls(zookeeper_client::Acls::anyone_all())
}

fn poll_all(consumers: &mut [Consumer], records: &mut Vec<Record>) {
    for consumer in consumers {
        records.extend(consumer.poll(SOON).unwrap().items);
    }
}

fn values(topic: &str, count: i64) -> Vec<(Arc<str>, i64)> {
    (0..count).map(|offset| (topic.into(), offset)).collect()
}

#[test]
fn members_share_the_partitions_and_every_record_comes_once() {
    let world = World::start();
    world.create("t", 5);
    for partition in 0..5 {
        world.cluster.append("t", partition, 10, "x");
    }
    let subscribe = |id: &str| {
        let mut config = world.config("g");
        config.consumer_id = Some(id.to_owned());
        let mut consumer = Consumer::new(config).unwrap();
        consumer.subscribe(&crate::Subscription::topics(["t"])).unwrap();
        consumer
    };
    let mut consumers = vec![subscribe("c1")];
    let mut records = Vec::new();
    eventually("all records", || {
        poll_all(&mut consumers, &mut records);
        records.len() >= 50
    });
    consumers.push(subscribe("c2"));
    eventually("two owners", || {
        poll_all(&mut consumers, &mut records);
        consumers.iter().map(|c| c.control().assignment().len()).collect::<Vec<_>>() == [3, 2]
    });
    assert_eq!(world.owners("g", "t")[&4], "c2");
    for partition in 0..5 {
        world.cluster.append("t", partition, 10, "y");
    }
    eventually("the rest", || {
        poll_all(&mut consumers, &mut records);
        records.len() >= 100
    });
    // The one that leaves commits and hands over at once.
    consumers.remove(0).close().unwrap();
    assert_eq!(world.committed("g", "t", 0), Some(Offset(20)));
    world.cluster.append("t", 0, 1, "z");
    eventually("one owner", || {
        poll_all(&mut consumers, &mut records);
        records.len() > 100 && consumers[0].control().assignment().len() == 5
    });
    let mut all: Vec<_> = records.iter().map(|r| (r.partition, r.offset.0)).collect();
    all.sort_unstable();
    let mut expected: Vec<_> = (0..5).flat_map(|p| (0..20).map(move |o| (p, o))).collect();
    expected.push((0, 20));
    expected.sort_unstable();
    assert_eq!(all, expected);
}

#[test]
fn two_message_streams_share_a_topic_and_end_when_the_consumer_closes() {
    let world = World::start();
    world.create("t", 4);
    for partition in 0..4 {
        world.cluster.append("t", partition, 100, "x");
    }
    let mut consumer = Consumer::new(world.config("g")).unwrap();
    let streams = consumer.create_message_streams("t", 2).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let threads: Vec<_> = streams
        .into_iter()
        .enumerate()
        .map(|(n, stream)| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for record in stream {
                    sender.send((n, record)).unwrap();
                }
            })
        })
        .collect();
    let mut by_stream = [0; 2];
    for _ in 0..400 {
        let (n, _) = receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        by_stream[n] += 1;
    }
    assert_eq!(by_stream, [200, 200]);
    // All but the records in hand are committed by time, those when the stream asks for more.
    eventually("commits", || (0..4).all(|p| world.committed("g", "t", p) == Some(Offset(100))));
    consumer.close().unwrap();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(world.owners("g", "t").is_empty());
}

#[test]
fn a_stream_steps_over_damage_and_commits_behind_it_or_ends_and_says_why() {
    let world = World::start();
    world.create("t", 1);
    for _ in 0..3 {
        world.cluster.append("t", 0, 3, "x");
    }
    world.cluster.change("t", 0, |p| {
        for at in [1, 2] {
            let mut broken = p.log[at].to_vec();
            *broken.last_mut().unwrap() ^= 1;
            p.log[at] = broken.into();
        }
    });
    let mut stopping = Consumer::new(world.config("stopping")).unwrap();
    let mut stream = stopping.create_message_streams("t", 1).unwrap().remove(0);
    let seen: Vec<i64> = stream.by_ref().map(|record| record.offset.0).collect();
    assert_eq!(seen, [0, 1, 2]);
    let failure = stream.failure().unwrap();
    assert!(failure.to_string().contains("t-0: offsets 3 to 5"), "{failure}");
    drop(stream);
    stopping.close().unwrap();
    assert_eq!(world.committed("stopping", "t", 0), Some(Offset(3)));

    let mut config = world.config("skipping");
    config.on_damage = crate::OnDamage::Skip;
    let mut skipping = Consumer::new(config).unwrap();
    let mut stream = skipping.create_message_streams("t", 1).unwrap().remove(0);
    let first: Vec<i64> = (0..3).map(|_| stream.next().unwrap().offset.0).collect();
    assert_eq!(first, [0, 1, 2]);
    eventually("the end", || {
        assert!(stream.try_next().is_none());
        skipping.control().position(&TopicPartition::new("t", 0)).unwrap() == Some(Offset(9))
    });
    let events = skipping.control().take_events();
    let damaged = |event: &&Event| matches!(event, Event::Damaged { skipped: true, .. });
    assert_eq!(events.iter().filter(damaged).count(), 2, "{events:?}");
    drop(stream);
    skipping.close().unwrap();
    assert_eq!(world.committed("skipping", "t", 0), Some(Offset(9)));
}

#[test]
fn commits_by_hand_are_where_the_next_member_begins() {
    let world = World::start();
    world.create("t", 1);
    world.cluster.append("t", 0, 10, "x");
    let mut config = world.config("g");
    config.enable_auto_commit = false;
    config.max_poll_records = 4;
    let mut consumer = Consumer::new(config.clone()).unwrap();
    consumer.subscribe(&crate::Subscription::topics(["t"])).unwrap();
    let mut records = Vec::new();
    eventually("four", || {
        poll_all(std::slice::from_mut(&mut consumer), &mut records);
        records.len() == 4
    });
    consumer.control().commit().unwrap();
    assert_eq!(world.committed("g", "t", 0), Some(Offset(4)));
    records.clear();
    eventually("four more", || {
        poll_all(std::slice::from_mut(&mut consumer), &mut records);
        records.len() == 4
    });
    consumer.close().unwrap();
    assert_eq!(world.committed("g", "t", 0), Some(Offset(4)));
    let mut consumer = Consumer::new(config).unwrap();
    consumer.subscribe(&crate::Subscription::topics(["t"])).unwrap();
    records.clear();
    eventually("the uncommitted", || {
        poll_all(std::slice::from_mut(&mut consumer), &mut records);
        !records.is_empty()
    });
    assert_eq!(records[0].offset, Offset(4));
    let foreign = [(TopicPartition::new("t", 7), Offset(0))];
    assert!(consumer.control().commit_offsets(foreign).is_err());
}

#[test]
fn a_pattern_takes_up_new_topics_and_a_deleted_one_is_told() {
    let world = World::start();
    world.create("logs.a", 1);
    world.create("other", 1);
    world.cluster.append("logs.a", 0, 2, "x");
    world.cluster.append("other", 0, 2, "x");
    let mut consumer = Consumer::new(world.config("g")).unwrap();
    consumer.subscribe(&crate::Subscription::pattern("logs\\..*").unwrap()).unwrap();
    let (mut records, mut events) = (Vec::new(), Vec::new());
    let mut until = |consumer: &mut Consumer, count: usize| {
        eventually("records", || {
            let polled = consumer.poll(SOON).unwrap();
            records.extend(polled.items.into_iter().map(|r| (r.topic, r.offset.0)));
            events.extend(polled.events);
            records.len() >= count
        });
        std::mem::take(&mut records)
    };
    assert_eq!(until(&mut consumer, 2), values("logs.a", 2));
    world.create("logs.b", 2);
    world.cluster.append("logs.b", 1, 3, "x");
    assert_eq!(until(&mut consumer, 3), values("logs.b", 3));
    world.delete("logs.a");
    eventually("the end of logs.a", || {
        events.extend(consumer.poll(SOON).unwrap().events);
        consumer.control().assignment().len() == 2
    });
    let told = |e: &Event| matches!(e, Event::TopicDeleted { topic, .. } if topic == "logs.a");
    assert!(events.iter().any(told), "{events:?}");
    // Created again, it is another topic: the stored offset is not for it.
    world.create("logs.a", 1);
    world.cluster.append("logs.a", 0, 4, "new");
    let (mut records, mut events) = (Vec::new(), Vec::new());
    eventually("the new one", || {
        let polled = consumer.poll(SOON).unwrap();
        records.extend(polled.items.into_iter().map(|r| (r.topic, r.offset.0)));
        events.extend(polled.events);
        records.len() >= 4
    });
    assert_eq!(records, values("logs.a", 4));
    let ignored = |e: &Event| matches!(e, Event::StoredOffsetIgnored { stored: Offset(2), .. });
    assert!(events.iter().any(ignored), "{events:?}");
}

#[test]
fn a_topic_that_nobody_wanted_for_a_while_is_planned_again() {
    let world = World::start();
    world.create("a", 1);
    world.create("b", 2);
    world.cluster.append("b", 1, 5, "x");
    let subscribe = |id: &str, topic: &str| {
        let mut config = world.config("g");
        config.consumer_id = Some(id.to_owned());
        let mut consumer = Consumer::new(config).unwrap();
        consumer.subscribe(&crate::Subscription::topics([topic])).unwrap();
        consumer
    };
    let owns = |consumer: &mut Consumer, count: usize| {
        eventually("an assignment", || {
            consumer.poll(SOON).unwrap();
            consumer.control().assignment().len() == count
        });
    };
    let mut first = subscribe("c1", "a");
    owns(&mut first, 1);
    for id in ["c2", "c3", "c4"] {
        let mut other = subscribe(id, "b");
        owns(&mut other, 2);
        other.close().unwrap();
    }
    owns(&mut first, 1);
    let events = first.control().take_events();
    assert!(!events.iter().any(|e| matches!(e, Event::TopicDeleted { .. })), "{events:?}");
    let client = world.client();
    let plan = coordinator::registry::plan::read(&client, "g");
    let generation = world.runtime.block_on(plan).unwrap().unwrap().generation;
    assert!(generation <= 7, "{generation}");
}

#[test]
fn delivery_goes_on_without_the_registry_and_expired_members_come_back() {
    let mut world = World::start();
    world.create("t", 2);
    let mut config = world.config("g");
    config.zookeeper_session_timeout = Duration::from_millis(400);
    let mut consumer = Consumer::new(config).unwrap();
    consumer.subscribe(&crate::Subscription::topics(["t"])).unwrap();
    let mut records: Vec<Record> = Vec::new();
    let mut events = Vec::new();
    let mut round = 0;
    let mut read_next = |world: &World, consumer: &mut Consumer| {
        round += 1;
        (0..2).for_each(|p| assert_eq!(world.cluster.append("t", p, 5, "x"), round * 5));
        eventually("the records of a round", || {
            let polled = consumer.poll(SOON).unwrap();
            records.extend(polled.items);
            events.extend(polled.events);
            records.len() as i64 >= round * 10
        });
        assert_eq!(records.len() as i64, round * 10, "none twice");
        round * 5
    };
    read_next(&world, &mut consumer);
    for _ in 0..3 {
        world.without_registry(|world| {
            read_next(world, &mut consumer);
            std::thread::park_timeout(Duration::from_millis(1200));
            read_next(world, &mut consumer);
        });
        let end = read_next(&world, &mut consumer);
        eventually("commits", || {
            consumer.poll(SOON).unwrap();
            (0..2).all(|p| world.committed("g", "t", p) == Some(Offset(end)))
        });
    }
    events.extend(consumer.control().take_events());
    let expired = events.iter().filter(|e| matches!(e, Event::SessionExpired)).count();
    assert!(expired >= 3, "{events:?}");
    let lost = |e: &Event| matches!(e, Event::PartitionsLost(_) | Event::PartitionsRevoked(_));
    assert!(!events.iter().any(lost), "{events:?}");
    consumer.close().unwrap();
    assert!(world.owners("g", "t").is_empty());
}
