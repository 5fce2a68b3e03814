//! Joining, restarting, sleeping through changes.

use broker::broker::Broker;
use proto::v1;
use proto::v1::log_client::LogClient;

use crate::rig::{Cluster, code, connect, create, delete, known, produce};

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
