//! Metadata by push: who pushes, what a push may change, and what becomes of a stream that dies.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::watch;

use super::*;
use crate::v1;
use crate::{BrokerId, ErrorCode, LeaderEpoch};

const KEEP_ALIVE: Duration = Duration::from_millis(200);

fn partition(leader: i32, leader_epoch: i32, state_version: i32) -> v1::Partition {
    v1::Partition { leader, leader_epoch, state_version, ..Default::default() }
}

fn topic(id: u8, mut partitions: Vec<v1::Partition>) -> v1::Topic {
    (0..).zip(&mut partitions).for_each(|(number, partition)| partition.partition = number);
    let topic_id = Bytes::from(vec![id; 16]);
    v1::Topic { name: "logs".into(), topic_id, partitions, error: None, throttle: 0 }
}

/// Brokers 1, 2, …, each with what it knows.
struct Brokers {
    servers: Vec<TestServer>,
    behaviours: Vec<Arc<Behaviour>>,
    cluster: Cluster,
    metadata: watch::Receiver<Arc<Metadata>>,
}

impl Brokers {
    async fn start(count: usize) -> Self {
        let behaviours: Vec<Arc<Behaviour>> = (0..count).map(|_| Arc::default()).collect();
        let mut servers = Vec::new();
        for behaviour in &behaviours {
            servers.push(TestServer::start(Arc::clone(behaviour)).await);
        }
        let nodes: Vec<_> = (1..).zip(&servers).map(|(id, server)| server.node(id)).collect();
        for behaviour in &behaviours {
            *behaviour.metadata.lock().unwrap() = v1::MetadataResponse {
                cluster_id: "c".into(),
                brokers: nodes.clone(),
                topics: vec![topic(1, vec![partition(1, 5, 0)])],
                ..Default::default()
            };
        }
        let addresses = servers.iter().map(|server| server.address.to_string());
        let mut options = ClusterOptions::new(addresses);
        options.socket = quick();
        options.request_timeout = Duration::from_secs(2);
        options.watch_keep_alive = KEEP_ALIVE;
        let cluster = Cluster::new(options);
        let metadata = cluster.subscribe();
        Self { servers, behaviours, cluster, metadata }
    }

    /// Waits until the watched metadata are so.
    async fn until(&mut self, is_so: impl Fn(&Metadata) -> bool) -> Arc<Metadata> {
        Arc::clone(&*soon(self.metadata.wait_for(|metadata| is_so(metadata))).await.unwrap())
    }

    async fn until_led(&mut self, leader: i32, epoch: i32) {
        let led = |metadata: &Metadata| {
            metadata.partition("logs", 0).is_some_and(|known| {
                (known.leader, known.leader_epoch) == (Some(BrokerId(leader)), LeaderEpoch(epoch))
            })
        };
        self.until(led).await;
    }

    /// Whose stream is read; waits until there are `streams` in all.
    async fn pusher(&self, streams: usize) -> usize {
        loop {
            let counts: Vec<usize> =
                self.behaviours.iter().map(|b| b.watches.lock().unwrap().len()).collect();
            if counts.iter().sum::<usize>() >= streams {
                return counts.iter().position(|&count| count > 0).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn watch(&self, topics: &[&str]) {
        self.cluster.watch(topics.iter().map(|&name| name.to_owned()).collect());
    }

    fn asked_for(&self, broker: usize) -> Vec<Vec<String>> {
        let watches = self.behaviours[broker].watches.lock().unwrap();
        watches.iter().map(|request| request.topics.clone()).collect()
    }

    fn refreshes(&self) -> usize {
        self.behaviours.iter().map(|b| b.metadata_requests.load(Ordering::SeqCst)).sum()
    }
}

#[tokio::test]
async fn a_change_is_pushed_and_nobody_asks() {
    let mut brokers = Brokers::start(1).await;
    brokers.watch(&["logs"]);
    brokers.until_led(1, 5).await;
    for epoch in 6..20 {
        brokers.behaviours[0].push(|metadata| {
            metadata.topics = vec![topic(1, vec![partition(2, epoch, 0)])];
        });
        brokers.until_led(2, epoch).await;
    }
    let stats = brokers.cluster.stats();
    assert_eq!((brokers.refreshes(), stats.refreshes, stats.streams), (0, 0, 1));
    assert_eq!(stats.leader_changes, 14);
    assert!(stats.pushes >= 15);
    // What says nothing new wakes nobody.
    brokers.metadata.mark_unchanged();
    brokers.behaviours[0].push(|_| {});
    tokio::time::sleep(KEEP_ALIVE * 4).await;
    assert!(!brokers.metadata.has_changed().unwrap());
    assert_eq!(brokers.cluster.stats().streams, 1);
}

#[tokio::test]
async fn the_topics_wanted_last_are_watched() {
    let mut brokers = Brokers::start(1).await;
    brokers.watch(&["a"]);
    brokers.watch(&["b", "c"]);
    brokers.until(|metadata| !metadata.cluster_id.is_empty()).await;
    brokers.watch(&["b", "c"]);
    brokers.watch(&["b", "logs"]);
    brokers.pusher(2).await;
    brokers.watch(&[]);
    brokers.watch(&["logs"]);
    brokers.pusher(3).await;
    assert_eq!(brokers.asked_for(0), [vec!["b", "c"], vec!["b", "logs"], vec!["logs"]]);
}

#[tokio::test]
async fn a_stream_that_breaks_is_replaced_by_another_brokers() {
    let mut brokers = Brokers::start(3).await;
    brokers.watch(&["logs"]);
    brokers.until_led(1, 5).await;
    let first = brokers.pusher(1).await;
    // What happens while nobody pushes is in the first answer of the next.
    for behaviour in &brokers.behaviours {
        behaviour.metadata.lock().unwrap().topics = vec![topic(1, vec![partition(3, 6, 0)])];
    }
    brokers.servers[first].stop();
    brokers.until_led(3, 6).await;
    assert_eq!(brokers.asked_for(first).len(), 1);
    assert_eq!(brokers.refreshes(), 0);
}

#[tokio::test]
async fn a_stream_that_is_silent_is_replaced_by_another_brokers() {
    let mut brokers = Brokers::start(2).await;
    brokers.watch(&["logs"]);
    brokers.until_led(1, 5).await;
    let silent = brokers.pusher(1).await;
    brokers.behaviours[silent].mute.store(true, Ordering::SeqCst);
    brokers.behaviours[1 - silent].push(|metadata| {
        metadata.topics = vec![topic(1, vec![partition(2, 6, 0)])];
    });
    brokers.until_led(2, 6).await;
    // The connection stands, and still the other one is asked first.
    brokers.cluster.refresh(&["logs"]).await.unwrap();
    assert_eq!(brokers.behaviours[1 - silent].metadata_requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_broker_that_is_not_registered_any_more_does_not_push() {
    let mut brokers = Brokers::start(2).await;
    brokers.watch(&["logs"]);
    brokers.until_led(1, 5).await;
    let cut_off = brokers.pusher(1).await;
    // It does not know itself; the other one says so when it is asked.
    let gone = cut_off as i32 + 1;
    let other = Arc::clone(&brokers.behaviours[1 - cut_off]);
    other.push(|metadata| {
        metadata.brokers.retain(|node| node.id != gone);
        metadata.topics = vec![topic(1, vec![partition(3 - gone, 6, 0)])];
    });
    let behaviour = Arc::clone(&brokers.behaviours[cut_off]);
    let _stalled = behaviour.stall.lock().await;
    brokers.cluster.refresh(&["logs"]).await.unwrap();
    brokers.pusher(2).await;
    other.push(|metadata| metadata.topics = vec![topic(1, vec![partition(3 - gone, 7, 0)])]);
    brokers.until_led(3 - gone, 7).await;
}

#[tokio::test]
async fn where_no_broker_pushes_refreshing_still_works_and_is_no_storm() {
    let mut brokers = Brokers::start(2).await;
    brokers.behaviours.iter().for_each(|b| b.pushes_nothing.store(true, Ordering::SeqCst));
    brokers.watch(&["logs"]);
    soon(brokers.cluster.refresh(&["logs"])).await.unwrap();
    brokers.until_led(1, 5).await;
    assert_eq!(brokers.cluster.stats().streams, 0);
    // It can be had later.
    brokers.behaviours[1].pushes_nothing.store(false, Ordering::SeqCst);
    brokers.pusher(1).await;
    brokers.behaviours[1].push(|m| m.topics = vec![topic(1, vec![partition(2, 6, 0)])]);
    brokers.until_led(2, 6).await;
}

/// Asks broker 1 for what it is made to know.
async fn told(brokers: &Brokers, topics: Vec<v1::Topic>) -> Arc<Metadata> {
    brokers.behaviours[0].metadata.lock().unwrap().topics = topics;
    soon(brokers.cluster.refresh(&["logs"])).await.unwrap()
}

#[tokio::test]
async fn an_older_answer_takes_nothing_back() {
    let brokers = Brokers::start(1).await;
    let state = |metadata: &Metadata, number| {
        let known = metadata.partition("logs", number).unwrap();
        (known.leader.map_or(-1, |id| id.0), known.leader_epoch.0, known.state_version)
    };
    told(&brokers, vec![topic(1, vec![partition(1, 5, 3), partition(1, 1, 1)])]).await;
    // Within an epoch the state's version decides, over epochs the epoch does; each partition its own.
    let metadata = told(&brokers, vec![topic(1, vec![partition(-1, 5, 2), partition(2, 2, 0)])]);
    let metadata = metadata.await;
    assert_eq!((state(&metadata, 0), state(&metadata, 1)), ((1, 5, 3), (2, 2, 0)));
    let metadata = told(&brokers, vec![topic(1, vec![partition(2, 4, 9)])]).await;
    assert_eq!((state(&metadata, 0), state(&metadata, 1)), ((1, 5, 3), (2, 2, 0)));
    // A topic that is not there for one broker is as it was for the next.
    let error = ErrorCode::UnknownTopicOrPartition.to_message("no such topic", "create it");
    let missing = v1::Topic { name: "logs".into(), error: Some(error), ..Default::default() };
    let metadata = told(&brokers, vec![missing]).await;
    assert!(metadata.topic("logs").is_none() && metadata.topic_error("logs").is_some());
    let metadata = told(&brokers, vec![topic(1, vec![partition(2, 4, 9)])]).await;
    assert_eq!((state(&metadata, 0), state(&metadata, 1)), ((1, 5, 3), (2, 2, 0)));
}

#[tokio::test]
async fn a_topic_made_anew_is_another_and_its_predecessor_does_not_come_back() {
    let brokers = Brokers::start(1).await;
    let id = |metadata: &Metadata| metadata.topic("logs").unwrap().id.0.as_bytes()[0];
    assert_eq!(id(&*told(&brokers, vec![topic(1, vec![partition(1, 9, 0)])]).await), 1);
    let metadata = told(&brokers, vec![topic(2, vec![partition(1, 0, 0)])]).await;
    assert_eq!(id(&metadata), 2);
    assert_eq!(metadata.partition("logs", 0).unwrap().leader_epoch, LeaderEpoch(0));
    assert_eq!(id(&*told(&brokers, vec![topic(1, vec![partition(1, 9, 0)])]).await), 2);
    assert_eq!(id(&*told(&brokers, vec![topic(3, vec![partition(1, 0, 0)])]).await), 3);
}

#[tokio::test]
async fn a_broker_that_accepts_and_never_answers_delays_by_the_stagger_only() {
    let brokers = Brokers::start(2).await;
    // Asked first for all that is known of it.
    let _stalled = brokers.behaviours[0].stall.lock().await;
    brokers.behaviours[0].mute.store(true, Ordering::SeqCst);
    for _ in 0..20 {
        soon(brokers.cluster.refresh(&["logs"])).await.unwrap();
    }
    // It is waited for once; then the other one is asked first, unless that one was late itself.
    let asked = brokers.behaviours[0].metadata_requests.load(Ordering::SeqCst);
    assert!((1..=4).contains(&asked), "asked {asked} times");
    brokers.watch(&["logs"]);
    assert_eq!(brokers.pusher(1).await, 1);
}
