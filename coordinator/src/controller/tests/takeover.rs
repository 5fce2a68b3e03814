//! Two controllers, fencing, and what an earlier controller left.

use proto::{BrokerId, ErrorCode, TopicId, v1};
use tonic::Code;
use zookeeper_client::{Acls, CreateMode};

use super::harness::*;
use crate::controller::CONTROLLER_HEADER;
use crate::zk::payload::{self, ControllerEpoch, Payload};
use crate::zk::{Client, paths};

#[test]
fn a_standby_names_the_active_one_and_takes_over_with_its_finished_requests() {
    run(async {
        let registry = Registry::start();
        let first = registry.controller().await;
        let broker = RunningBroker::start(&registry, 1).await;
        let mut admin = first.active().await;
        let second = registry.controller().await;
        let mut standby = second.admin().await;
        until(async || {
            let status = standby.list_groups(v1::ListGroupsRequest {}).await.unwrap_err();
            status.code() == Code::FailedPrecondition
                && status.metadata().get(CONTROLLER_HEADER).unwrap() == first.address.as_str()
        })
        .await;
        until(async || code(admin.create_topics(create(1, "a", 1)).await.unwrap()) == 0).await;
        assert_eq!(code(admin.create_topics(create(2, "b", 1)).await.unwrap()), 0);
        assert_eq!(code(admin.delete_topics(delete(3, "b")).await.unwrap()), 0);
        first.stop().await;

        let mut admin = second.active().await;
        // The retries of requests that were done are answered, not refused.
        assert_eq!(code(admin.create_topics(create(1, "a", 1)).await.unwrap()), 0);
        assert_eq!(code(admin.delete_topics(delete(3, "b")).await.unwrap()), 0);
        let other = admin.create_topics(create(9, "a", 1)).await.unwrap();
        assert_eq!(code(other), ErrorCode::TopicAlreadyExists as i32);
        // The new controller numbers its updates from 1, under a higher epoch.
        until(async || broker.told.lock().updates.last().unwrap().controller_epoch == 2).await;
        let updates = broker.told.lock().updates.clone();
        let new = updates.iter().find(|update| update.controller_epoch == 2).unwrap();
        assert_eq!((new.sequence, &new.controller), (1, &second.address));
        second.stop().await;
    });
}

#[test]
fn a_fenced_controller_writes_nothing_more_and_stands_again() {
    run(async {
        let registry = Registry::start();
        let controller = registry.controller().await;
        let _broker = RunningBroker::start(&registry, 1).await;
        let mut admin = controller.active().await;
        until(async || code(admin.create_topics(create(1, "a", 1)).await.unwrap()) == 0).await;
        // As if another one had been elected.
        let (_session, live) = registry.session().await;
        let value = ControllerEpoch { epoch: 7 }.encode().unwrap();
        live.client.set_data(paths::CONTROLLER_EPOCH, &value, None).await.unwrap();
        let refused = admin.create_topics(create(2, "b", 1)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(live.client.check_stat("/brokers/topics/b").await.unwrap().is_none());
        // The same request, when it is the controller again.
        let mut admin = controller.active().await;
        until(async || {
            admin.create_topics(create(2, "b", 1)).await.is_ok_and(|answer| code(answer) == 0)
        })
        .await;
        let epoch = admin.describe_cluster(v1::DescribeClusterRequest {}).await.unwrap();
        assert_eq!(epoch.into_inner().controller_epoch, 8);
        controller.stop().await;
    });
}

#[test]
fn a_controller_that_hears_of_a_newer_one_ends_its_term() {
    run(async {
        let registry = Registry::start();
        let controller = registry.controller().await;
        let broker = RunningBroker::start(&registry, 1).await;
        let mut admin = controller.active().await;
        until(async || code(admin.create_topics(create(1, "a", 1)).await.unwrap()) == 0).await;
        // Nothing in the registry says so: the broker alone has heard of it.
        broker.told.lock().heard_of = 2;
        let _ = admin.create_topics(create(2, "b", 1)).await;
        until(async || {
            let mut admin = controller.active().await;
            let described = admin.describe_cluster(v1::DescribeClusterRequest {});
            described.await.is_ok_and(|cluster| cluster.into_inner().controller_epoch == 2)
        })
        .await;
        controller.stop().await;
    });
}

async fn make(client: &Client, path: &str, value: &[u8]) {
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    let parent = path.rsplit_once('/').unwrap().0;
    client.mkdir(parent, &options).await.unwrap();
    client.create(path, value, &options).await.unwrap();
}

#[test]
fn what_an_earlier_controller_left_is_finished_on_election() {
    run(async {
        let registry = Registry::start();
        let (_session, live) = registry.session().await;
        let client = &live.client;
        let state = payload::PartitionState {
            leader: Some(BrokerId(1)),
            leader_epoch: proto::LeaderEpoch(5),
            isr: vec![BrokerId(1)],
            electable: Vec::new(),
            controller_epoch: 0,
        };
        // A creation that stopped half-way.
        make(client, &paths::topic("half"), b"").await;
        make(client, &paths::partition_state("half", 0), &state.encode().unwrap()).await;
        // A growth that stopped half-way, and a topic whose deletion was accepted.
        for name in ["grown", "doomed"] {
            let topic =
                payload::Topic { topic_id: TopicId::random(), partitions: vec![vec![BrokerId(1)]] };
            make(client, &paths::topic(name), &topic.encode().unwrap()).await;
            make(client, &paths::partition_state(name, 0), &state.encode().unwrap()).await;
            let deletion = payload::Deletion { topic_id: topic.topic_id, accepted_ms: 0 };
            if name == "doomed" {
                make(client, &paths::admin_delete(name), &deletion.encode().unwrap()).await;
            } else {
                make(client, &paths::partition_state(name, 1), &state.encode().unwrap()).await;
            }
        }
        // Overrides of no topic, and a topic that something else wrote.
        let overrides = payload::Overrides::default().encode().unwrap();
        make(client, &paths::config("topics", "none"), &overrides).await;
        make(client, &paths::topic("foreign"), b"{}").await;
        let stale = payload::Deletion { topic_id: TopicId::random(), accepted_ms: 0 };
        make(client, &paths::admin_delete("gone"), &stale.encode().unwrap()).await;

        let controller = registry.controller().await;
        let mut admin = controller.active().await;
        until(async || {
            let mut left = client.list_children("/brokers/topics").await.unwrap();
            left.sort_unstable();
            left == ["foreign", "grown"]
        })
        .await;
        assert!(client.list_children("/config/topics").await.unwrap().is_empty());
        let foreign = admin.create_topics(create(1, "foreign", 1)).await.unwrap();
        assert_eq!(code(foreign), ErrorCode::TopicAlreadyExists as i32);
        let partitions = client.list_children("/brokers/topics/grown/partitions").await.unwrap();
        assert_eq!(partitions, ["0"]);
        assert!(client.list_children("/admin/delete").await.unwrap().is_empty());
        let topics = admin.describe_topics(v1::DescribeTopicsRequest::default()).await.unwrap();
        let topic = topics.into_inner().topics.remove(0).topic.unwrap();
        // The recorded leader is not live: nobody leads; its epoch is what the node says.
        assert_eq!((topic.partitions[0].leader, topic.partitions[0].leader_epoch), (-1, 5));
        controller.stop().await;
    });
}

#[test]
fn a_controller_cut_off_from_the_registry_answers_that_none_is_active() {
    run(async {
        let registry = Registry::start();
        let controller = registry.controller().await;
        let mut admin = controller.active().await;
        registry.stop();
        tokio::time::sleep(SESSION).await;
        let began = std::time::Instant::now();
        let refused = admin.create_topics(create(1, "a", 1)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        assert!(began.elapsed() < std::time::Duration::from_secs(5));
    });
}
