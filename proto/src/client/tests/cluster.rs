//! Metadata and connections of a cluster: cached, renewed at once, from whoever is alive.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::time::Instant;

use super::*;
use crate::v1;
use crate::{BrokerId, ErrorCode, LeaderEpoch};

fn topic(name: &str, leaders: &[i32]) -> v1::Topic {
    let partitions = leaders.iter().enumerate().map(|(partition, &leader)| v1::Partition {
        partition: partition as i32,
        leader,
        leader_epoch: 5,
        replicas: vec![1],
        isr: vec![1],
        ..Default::default()
    });
    v1::Topic {
        name: name.into(),
        topic_id: Bytes::from_static(&[9; 16]),
        partitions: partitions.collect(),
        ..Default::default()
    }
}

fn cluster(servers: &[&TestServer]) -> Cluster {
    let mut options = ClusterOptions::new(servers.iter().map(|server| server.address.to_string()));
    options.socket = quick();
    options.request_timeout = Duration::from_secs(2);
    Cluster::new(options)
}

/// Two brokers that tell the same metadata.
async fn two_brokers() -> (TestServer, TestServer, Arc<Behaviour>, Cluster) {
    let behaviour = Arc::<Behaviour>::default();
    let one = TestServer::start(Arc::clone(&behaviour)).await;
    let two = TestServer::start(Arc::clone(&behaviour)).await;
    *behaviour.metadata.lock().unwrap() = v1::MetadataResponse {
        cluster_id: "c".into(),
        brokers: vec![one.node(1), two.node(2)],
        topics: vec![topic("logs", &[1, 2, -1])],
        zookeeper: "zk:2181/ottla".into(),
        ..Default::default()
    };
    let cluster = cluster(&[&one]);
    (one, two, behaviour, cluster)
}

#[tokio::test]
async fn a_topic_is_asked_for_once_and_leaders_are_known() {
    let (_one, two, behaviour, cluster) = two_brokers().await;
    for _ in 0..3 {
        let topic = soon(cluster.topic("logs")).await.unwrap().unwrap();
        assert_eq!(topic.partitions.len(), 3);
        assert_eq!(topic.id.0.as_bytes(), &[9; 16]);
    }
    assert_eq!(behaviour.metadata_requests.load(Ordering::SeqCst), 1);
    let metadata = cluster.metadata();
    assert_eq!(metadata.zookeeper, "zk:2181/ottla");
    assert_eq!(metadata.leader("logs", 1).unwrap().address, two.address.to_string());
    assert_eq!(metadata.partition("logs", 2).unwrap().leader, None);
    assert_eq!(metadata.partition("logs", 0).unwrap().leader_epoch, LeaderEpoch(5));
    assert!(metadata.partition("logs", 3).is_none() && metadata.partition("logs", -1).is_none());
    let connection = soon(cluster.connection(BrokerId(2))).await.unwrap();
    assert_eq!(connection.address(), two.address.to_string());
}

#[tokio::test]
async fn refreshes_that_come_together_are_one_request_and_see_what_is_new() {
    let (_one, _two, behaviour, cluster) = two_brokers().await;
    soon(cluster.topic("logs")).await.unwrap();
    let mut changes = cluster.subscribe();
    changes.mark_unchanged();
    behaviour.metadata.lock().unwrap().topics = vec![topic("logs", &[2, 2, 2])];
    let refreshes: Vec<_> = (0..50)
        .map(|_| {
            let cluster = cluster.clone();
            tokio::spawn(async move { cluster.refresh(&["logs"]).await })
        })
        .collect();
    for refresh in refreshes {
        let metadata = soon(refresh).await.unwrap().unwrap();
        assert_eq!(metadata.partition("logs", 0).unwrap().leader, Some(BrokerId(2)));
    }
    let requests = behaviour.metadata_requests.load(Ordering::SeqCst);
    assert!(requests <= 3, "{requests}");
    assert!(changes.has_changed().unwrap());
}

#[tokio::test]
async fn unknown_topics_and_brokers_are_told() {
    let (_one, _two, behaviour, cluster) = two_brokers().await;
    let error = ErrorCode::UnknownTopicOrPartition.to_message("no such topic", "create it");
    let gone = v1::Topic { name: "gone".into(), error: Some(error), ..Default::default() };
    behaviour.metadata.lock().unwrap().topics.push(gone);
    assert!(soon(cluster.topic("gone")).await.unwrap().is_none());
    assert_eq!(cluster.metadata().topic_error("gone").unwrap().remedy, "create it");
    let error = soon(cluster.connection(BrokerId(7))).await.unwrap_err();
    assert!(matches!(error, ClientError::UnknownBroker(BrokerId(7))) && error.is_retriable());
    // All topics: those that are gone are forgotten.
    behaviour.metadata.lock().unwrap().topics.pop();
    let metadata = soon(cluster.refresh_all()).await.unwrap();
    assert_eq!(metadata.topics().count(), 1);
    assert!(metadata.topic_error("gone").is_none());
}

#[tokio::test]
async fn the_next_broker_is_asked_when_one_is_gone() {
    let (one, two, behaviour, cluster) = two_brokers().await;
    soon(cluster.refresh(&["logs"])).await.unwrap();
    one.stop();
    behaviour.metadata.lock().unwrap().brokers = vec![two.node(2)];
    let metadata = soon(cluster.refresh(&["logs"])).await.unwrap();
    assert_eq!(metadata.brokers.len(), 1);
    let any = soon(cluster.any_connection()).await.unwrap();
    assert_eq!(any.address(), two.address.to_string());
    two.stop();
    let error = soon(cluster.refresh(&["logs"])).await.unwrap_err();
    let ClientError::NoBroker { tried } = &error else { panic!("{error}") };
    assert_eq!(tried.len(), 2);
    assert!(error.is_retriable());
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_passed_over() {
    let stalling = Arc::<Behaviour>::default();
    let one = TestServer::start(Arc::clone(&stalling)).await;
    let behaviour = Arc::<Behaviour>::default();
    let two = TestServer::start(Arc::clone(&behaviour)).await;
    let cluster = cluster(&[&one, &two]);
    let _stalled = stalling.stall.lock().await;
    behaviour.metadata.lock().unwrap().cluster_id = "from two".into();
    assert_eq!(soon(cluster.refresh(&[])).await.unwrap().cluster_id, "from two");
}

#[tokio::test]
async fn a_restarted_broker_is_connected_again_with_backoff() {
    let (one, _two, behaviour, cluster) = two_brokers().await;
    soon(cluster.refresh(&[])).await.unwrap();
    let before = soon(cluster.connection(BrokerId(1))).await.unwrap();
    one.stop();
    soon(before.closed()).await;
    let started = Instant::now();
    let mut attempts = 0;
    while attempts < 2 || started.elapsed() < Duration::from_millis(500) {
        soon(cluster.connection(BrokerId(1))).await.unwrap_err();
        attempts += 1;
    }
    assert!(attempts <= 6, "{attempts} attempts");
    let _again = TestServer::start_on(one.address, behaviour).await;
    let after = soon(cluster.connection(BrokerId(1))).await.unwrap();
    assert!(!after.is_closed() && before.is_closed());
    // A connection that was reported is not handed out again.
    cluster.connection_broken(&after);
    let another = soon(cluster.connection(BrokerId(1))).await.unwrap();
    assert!(!another.is_same(&after));
}

#[tokio::test]
async fn an_older_leader_epoch_undoes_nothing_unless_the_topic_is_another() {
    let (_one, _two, behaviour, cluster) = two_brokers().await;
    soon(cluster.topic("logs")).await.unwrap();
    let stale = |topic: &mut v1::Topic| {
        topic.partitions.iter_mut().for_each(|p| (p.leader, p.leader_epoch) = (2, 4));
    };
    stale(&mut behaviour.metadata.lock().unwrap().topics[0]);
    let metadata = soon(cluster.refresh(&["logs"])).await.unwrap();
    assert_eq!(metadata.partition("logs", 0).unwrap().leader, Some(BrokerId(1)));
    behaviour.metadata.lock().unwrap().topics[0].topic_id = Bytes::from_static(&[8; 16]);
    let metadata = soon(cluster.refresh(&["logs"])).await.unwrap();
    assert_eq!(metadata.partition("logs", 0).unwrap().leader_epoch, LeaderEpoch(4));
}
