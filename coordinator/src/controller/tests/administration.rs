//! Admin calls against one controller.

use std::collections::HashMap;

use proto::client::Connection;
use proto::v1::admin_client::AdminClient;
use proto::{ErrorCode, TopicId, v1};

use super::harness::*;
use crate::registry::{consumers, offsets};
use crate::zk::payload::{Member, Subscription};

#[test]
fn topics_are_created_described_grown_and_deleted_and_brokers_are_told() {
    run(async {
        let registry = Registry::start();
        let controller = registry.controller().await;
        let (one, two) =
            (RunningBroker::start(&registry, 1).await, RunningBroker::start(&registry, 2).await);
        let mut admin = controller.active().await;
        let live = async |admin: &mut AdminClient<Connection>| {
            let cluster = admin.describe_cluster(v1::DescribeClusterRequest {}).await.unwrap();
            cluster.into_inner().brokers.len()
        };
        until(async || live(&mut admin).await == 2).await;

        let created = admin.create_topics(create(1, "a", 4)).await.unwrap().into_inner();
        assert_eq!((created.results[0].partitions, created.results[0].error.clone()), (4, None));
        // The answer came after both had been told.
        for broker in [&one, &two] {
            let told = broker.told.lock();
            assert!(told.topics().contains(&"a".to_owned()));
            assert_eq!(told.updates[0].sequence, 1);
            let numbers: Vec<u64> = told.updates.iter().map(|update| update.sequence).collect();
            assert!(numbers.is_sorted(), "{numbers:?}");
        }
        let exists = admin.create_topics(create(2, "a", 4)).await.unwrap();
        assert_eq!(code(exists), ErrorCode::TopicAlreadyExists as i32);

        let topics =
            vec![v1::NewPartitions { name: "a".to_owned(), total: 6, ..Default::default() }];
        let grow =
            v1::CreatePartitionsRequest { request_id: request(3), topics, ..Default::default() };
        assert_eq!(code(admin.create_partitions(grow.clone()).await.unwrap()), 0);
        // Sent again: answered, not done again.
        assert_eq!(code(admin.create_partitions(grow).await.unwrap()), 0);

        let describe = v1::DescribeTopicsRequest {
            topics: vec!["a".to_owned(), "b".to_owned()],
            with_logs: true,
        };
        let response = admin.describe_topics(describe.clone()).await.unwrap().into_inner();
        assert!(response.unreachable.is_empty(), "{:?}", response.unreachable);
        let described = response.topics;
        let logs = &described[0].logs;
        assert_eq!(logs.iter().map(|replica| replica.broker).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(logs[0].log.as_ref().unwrap().log_end_offset, 7);
        // One that does not answer is named, and the rest is told.
        two.told.lock().silent = true;
        let response = admin.describe_topics(describe).await.unwrap().into_inner();
        assert_eq!(response.unreachable.iter().map(|broker| broker.id).collect::<Vec<_>>(), [2]);
        assert_eq!(response.topics[0].logs.len(), 1);
        two.told.lock().silent = false;
        let topic = described[0].topic.clone().unwrap();
        assert_eq!(topic.partitions.len(), 6);
        for broker in [1, 2] {
            assert_eq!(topic.partitions.iter().filter(|p| p.leader == broker).count(), 3);
        }
        assert!(described[1].topic.as_ref().unwrap().error.is_some());

        assert_eq!(code(admin.delete_topics(delete(4, "a")).await.unwrap()), 0);
        assert_eq!(one.told.lock().deleted(), ["a"]);
        let (_session, watcher) = registry.session().await;
        let left = watcher.client.list_children("/brokers/topics").await.unwrap();
        assert!(left.is_empty(), "{left:?}");
        let again = admin.create_topics(create(5, "a", 1)).await.unwrap().into_inner();
        assert_ne!(
            TopicId::from_slice(&again.results[0].topic_id),
            TopicId::from_slice(&topic.topic_id)
        );
        controller.stop().await;
    });
}

#[test]
fn a_deletion_waits_for_a_live_broker_and_not_for_a_dead_one() {
    run(async {
        let registry = Registry::start();
        let controller = registry.controller().await;
        let broker = RunningBroker::start(&registry, 1).await;
        let mut admin = controller.active().await;
        until(async || code(admin.create_topics(create(1, "a", 1)).await.unwrap()) == 0).await;
        broker.told.lock().silent = true;
        // Accepted, not finished: the answer does not wait for ever.
        assert_eq!(code(admin.delete_topics(delete(2, "a")).await.unwrap()), 0);
        let taken = admin.create_topics(create(3, "a", 1)).await.unwrap();
        assert_eq!(code(taken), ErrorCode::TopicAlreadyExists as i32);
        let all = v1::DescribeTopicsRequest::default();
        assert!(admin.describe_topics(all).await.unwrap().into_inner().topics.is_empty());
        broker.stop().await;
        let other = RunningBroker::start(&registry, 2).await;
        until(async || code(admin.create_topics(create(4, "a", 1)).await.unwrap()) == 0).await;
        assert!(other.told.lock().topics().contains(&"a".to_owned()));
        controller.stop().await;
    });
}

#[test]
fn overrides_are_checked_written_and_told() {
    run(async {
        let registry = Registry::start();
        let controller = registry.controller().await;
        let broker = RunningBroker::start(&registry, 1).await;
        let mut admin = controller.active().await;
        until(async || code(admin.create_topics(create(1, "a", 1)).await.unwrap()) == 0).await;
        let alter = |n, key: &str, value: &str| v1::AlterConfigsRequest {
            request_id: request(n),
            kind: v1::ConfigKind::Topic.into(),
            name: "a".to_owned(),
            set: HashMap::from([(key.to_owned(), value.to_owned())]),
            remove: Vec::new(),
        };
        let bad = admin.alter_configs(alter(2, "retention.mss", "1")).await.unwrap().into_inner();
        let error = bad.error.unwrap();
        assert_eq!(error.code, ErrorCode::InvalidConfig as i32);
        assert_eq!(error.remedy, "did you mean `retention.ms`?");
        assert!(!error.message.contains("did you mean"), "{error:?}");
        let good = admin.alter_configs(alter(3, "retention.ms", "1000")).await.unwrap();
        assert_eq!(good.into_inner().error, None);
        let told = broker.told.lock().updates.iter().flat_map(|u| u.configs.clone()).next();
        assert_eq!(told.unwrap().values["retention.ms"], "1000");
        let describe = v1::DescribeConfigsRequest { kind: 0, names: vec!["a".to_owned()] };
        let described = admin.describe_configs(describe).await.unwrap().into_inner();
        let overridden = described.resources[0].entries.iter().filter(|entry| !entry.is_default);
        assert_eq!(
            overridden.map(|entry| entry.key.as_str()).collect::<Vec<_>>(),
            ["retention.ms"]
        );
        controller.stop().await;
    });
}

#[test]
fn a_group_is_reset_and_deleted_only_without_members() {
    run(async {
        let registry = Registry::start();
        let controller = registry.controller().await;
        let _broker = RunningBroker::start(&registry, 1).await;
        let mut admin = controller.active().await;
        until(async || code(admin.create_topics(create(1, "a", 2)).await.unwrap()) == 0).await;
        let reset = |n, partition| v1::ResetOffsetsRequest {
            request_id: request(n),
            group: "g".to_owned(),
            offsets: vec![v1::OffsetReset { topic: "a".to_owned(), partition, offset: 7 }],
        };
        // A group that is not there yet is made.
        assert_eq!(admin.reset_offsets(reset(2, 1)).await.unwrap().into_inner().error, None);
        assert!(admin.reset_offsets(reset(3, 2)).await.unwrap().into_inner().error.is_some());
        let describe = v1::DescribeGroupRequest { name: "g".to_owned() };
        let group = admin.describe_group(describe).await.unwrap().into_inner();
        assert_eq!((group.state.as_str(), group.partitions[0].committed), ("Empty", 7));

        let (session, live) = registry.session().await;
        let member = Member {
            subscription: Subscription::Topics([("a".to_owned(), 1)].into()),
            host: "h".to_owned(),
            start_time_ms: 0,
        };
        consumers::join(&live.client, "g", "c1", &member, SESSION).await.unwrap();
        let listed = admin.list_groups(v1::ListGroupsRequest {}).await.unwrap().into_inner();
        let listed = &listed.groups[0];
        assert_eq!((listed.kind.as_str(), listed.members), ("zookeeper", 1));
        let refused = admin.reset_offsets(reset(4, 0)).await.unwrap().into_inner().error.unwrap();
        assert_eq!(refused.code, ErrorCode::NonEmptyGroup as i32);
        let delete = |n| v1::DeleteGroupRequest { request_id: request(n), name: "g".to_owned() };
        let refused = admin.delete_group(delete(5)).await.unwrap().into_inner().error.unwrap();
        assert_eq!(refused.code, ErrorCode::NonEmptyGroup as i32);
        session.close().await;

        assert_eq!(admin.delete_group(delete(6)).await.unwrap().into_inner().error, None);
        assert_eq!(admin.delete_group(delete(6)).await.unwrap().into_inner().error, None);
        let (_session, live) = registry.session().await;
        assert!(offsets::list(&live.client, "g").await.unwrap().is_empty());
        let gone = admin.delete_group(delete(7)).await.unwrap().into_inner().error.unwrap();
        assert_eq!(gone.code, ErrorCode::GroupIdNotFound as i32);
        controller.stop().await;
    });
}

#[test]
fn many_topics_in_one_request_share_transactions() {
    run(async {
        let registry = Registry::start();
        let controller = registry.controller().await;
        let _broker = RunningBroker::start(&registry, 1).await;
        let mut admin = controller.active().await;
        until(async || code(admin.create_topics(create(1, "a", 1)).await.unwrap()) == 0).await;
        let topics = (0..500).map(|n| v1::NewTopic { name: format!("t{n}"), ..Default::default() });
        let request = v1::CreateTopicsRequest {
            request_id: request(2),
            topics: topics.collect(),
            ..Default::default()
        };
        // On a busy machine this takes longer than a call may: the same request finds what is there then.
        let all_made = |answer: tonic::Response<v1::TopicResults>| {
            answer.into_inner().results.iter().all(|result| result.error.is_none())
        };
        until(async || admin.create_topics(request.clone()).await.is_ok_and(all_made)).await;
        // One of 8,000 partitions needs several transactions.
        let mut big = async || admin.create_topics(create(3, "big", 8_000)).await;
        until(async || big().await.is_ok_and(|answer| code(answer) == 0)).await;
        let describe =
            v1::DescribeTopicsRequest { topics: vec!["big".to_owned()], with_logs: false };
        let big = admin.describe_topics(describe).await.unwrap().into_inner().topics.remove(0);
        assert_eq!(big.topic.unwrap().partitions.len(), 8_000);
        assert_eq!(code(admin.delete_topics(delete(4, "big")).await.unwrap()), 0);
        controller.stop().await;
    });
}

#[test]
fn a_peer_that_does_not_speak_http2_is_closed() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    run(async {
        let registry = Registry::start();
        let controller = registry.controller().await;
        let mut admin = controller.active().await;
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], b"PRI * HTTP/2.0\r\n\r\nXX"] {
            let mut socket = tokio::net::TcpStream::connect(&controller.address).await.unwrap();
            socket.write_all(garbage).await.unwrap();
            // Closed or reset, without a byte.
            assert_eq!(socket.read(&mut [0; 16]).await.unwrap_or(0), 0);
        }
        admin.list_groups(v1::ListGroupsRequest {}).await.unwrap();
        controller.stop().await;
    });
}
