//! Which versions are told, and what the newer ones of Fetch and Produce have: topic ids and the
//! addresses of leaders.

use coordinator::zk::payload::KafkaEndpoint;
use proto::kafka::ApiKey;
use proto::kafka::messages::*;
use proto::record::ProducerStamp;
use proto::{BrokerId, ErrorCode, LeaderEpoch, TopicId};
use uuid::Uuid;

use super::super::dispatch::{ADVERTISED, is_served};
use super::rig::{Client, Server, batch, fetch, produce, topic_id};
use crate::cluster::metadata::{BrokerImage, ClusterDelta, PartitionImage, TopicImage};
use crate::storage::LogConfig;

/// By which single version kafka-python tells a broker's release, newest first; the first one that is in
/// the ranges counts.
const MARKERS: &[(&str, ApiKey, i16)] = &[
    ("4.3", ApiKey::DescribeLogDirs, 5),
    ("4.2", ApiKey::ListOffsets, 11),
    ("4.1", ApiKey::Produce, 13),
    ("4.0", ApiKey::ListOffsets, 10),
    ("3.9", ApiKey::Fetch, 17),
    ("3.8", ApiKey::Produce, 11),
    ("3.7", ApiKey::Fetch, 16),
    ("3.5", ApiKey::Fetch, 15),
    ("3.2", ApiKey::JoinGroup, 9),
    ("3.1", ApiKey::Fetch, 13),
    ("3.0", ApiKey::ListOffsets, 7),
];

/// The highest version that an API has in Kafka 2.1 (or in the first release that has it), and in 4.0: a
/// client that is told to speak to one of those or one between uses something between, unasked.
const RELEASES: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 7, 12),
    (ApiKey::Fetch, 10, 17),
    (ApiKey::ListOffsets, 4, 10),
    (ApiKey::Metadata, 7, 13),
    (ApiKey::OffsetCommit, 6, 9),
    (ApiKey::OffsetFetch, 5, 9),
    (ApiKey::FindCoordinator, 2, 6),
    (ApiKey::JoinGroup, 3, 9),
    (ApiKey::Heartbeat, 2, 4),
    (ApiKey::LeaveGroup, 2, 5),
    (ApiKey::SyncGroup, 2, 5),
    (ApiKey::DescribeGroups, 2, 6),
    (ApiKey::ListGroups, 2, 5),
    (ApiKey::ApiVersions, 2, 4),
    (ApiKey::CreateTopics, 3, 7),
    (ApiKey::DeleteTopics, 3, 6),
    (ApiKey::DeleteRecords, 1, 2),
    (ApiKey::InitProducerId, 1, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::DescribeConfigs, 2, 4),
    (ApiKey::AlterConfigs, 1, 2),
    (ApiKey::DescribeLogDirs, 1, 4),
    (ApiKey::CreatePartitions, 1, 3),
    (ApiKey::DeleteGroups, 1, 2),
    (ApiKey::ElectLeaders, 0, 2),
    (ApiKey::IncrementalAlterConfigs, 0, 1),
    (ApiKey::AlterPartitionReassignments, 0, 0),
    (ApiKey::ListPartitionReassignments, 0, 0),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::DescribeCluster, 0, 2),
];

#[test]
fn the_release_that_clients_take_this_for_is_served() {
    let is_told = |api: ApiKey, version: i16| {
        ADVERTISED.iter().any(|(told, versions)| *told == api && versions.contains(&version))
    };
    let markers = MARKERS.iter().filter(|(_, api, version)| is_told(*api, *version));
    let releases: Vec<_> = markers.map(|(release, ..)| *release).collect();
    assert_eq!(releases, ["4.0", "3.9", "3.8", "3.7", "3.5", "3.2", "3.1", "3.0"]);
    for (api, _) in ADVERTISED {
        let Some(&(_, from, to)) = RELEASES.iter().find(|(of, ..)| of == api) else {
            panic!("{api:?}: say which versions the releases between 2.1 and the guess have");
        };
        for version in from..=to {
            assert!(is_served(*api, version), "{api:?} {version} is asked for unseen");
        }
    }
}

/// A topic that others lead: partition 0 broker 2, which is live, partition 1 broker 3, which is not.
fn led_elsewhere(server: &Server, name: &str) {
    let state = |leader| PartitionImage {
        leader: Some(BrokerId(leader)),
        leader_epoch: LeaderEpoch(4),
        replicas: vec![BrokerId(leader)],
        isr: vec![BrokerId(leader)],
        electable: Vec::new(),
        adding: Vec::new(),
        version: 0,
    };
    let endpoint = KafkaEndpoint { name: "PLAINTEXT".to_owned(), host: "two".to_owned(), port: 92 };
    let other = BrokerImage {
        id: BrokerId(2),
        host: "two".to_owned(),
        grpc_port: 1,
        kafka: vec![endpoint],
        rack: "r".to_owned(),
        incarnation: Uuid::nil(),
    };
    let partitions = vec![state(2), state(3)];
    let topic = TopicImage { name: name.into(), id: topic_id(name), partitions, throttle: None };
    server.metadata.update(|image| {
        let brokers = image.brokers.values().cloned().chain([other]).collect();
        image.apply(ClusterDelta {
            topics: vec![topic],
            brokers: Some(brokers),
            ..ClusterDelta::default()
        });
    });
}

fn of_partition(partition: i32, mut request: FetchRequest) -> FetchRequest {
    request.topics[0].partitions[0].partition = partition;
    request
}

#[tokio::test]
async fn who_asks_the_wrong_broker_is_told_the_leader_and_its_address() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    led_elsewhere(&server, "u");
    let mut client = Client::connect(&server).await;
    let two = NodeEndpoint { node_id: 2, host: "two".into(), port: 92, rack: Some("r".into()) };
    for version in 4..=17 {
        let answer = client.call(version, &fetch("u", 0)).await;
        let data = &answer.responses[0].partitions[0];
        assert_eq!(data.error_code, ErrorCode::NotLeaderOrFollower as i16);
        assert_eq!((data.high_watermark, data.log_start_offset), (-1, -1));
        let hint = LeaderIdAndEpoch { leader_id: 2, leader_epoch: 4 };
        let hint = if version < 12 { LeaderIdAndEpoch::default() } else { hint };
        assert_eq!(data.current_leader, hint, "version {version}");
        let endpoints = if version < 16 { Vec::new() } else { vec![two.clone()] };
        assert_eq!(answer.node_endpoints, endpoints, "version {version}");
        // No address of one that is gone.
        let answer = client.call(version, &of_partition(1, fetch("u", 0))).await;
        let told = answer.responses[0].partitions[0].current_leader.leader_id;
        assert_eq!(told, if version < 12 { -1 } else { 3 });
        assert!(answer.node_endpoints.is_empty());
    }
    let records = || batch(1, 10, ProducerStamp::NONE);
    for version in 3..=12 {
        let answer = client.call(version, &produce(-1, "u", records())).await;
        let data = &answer.responses[0].partition_responses[0];
        assert_eq!(data.error_code, ErrorCode::NotLeaderOrFollower as i16);
        let leader_id = if version < 10 { -1 } else { 2 };
        assert_eq!(data.current_leader.leader_id, leader_id, "version {version}");
        let endpoints = if version < 10 { Vec::new() } else { vec![two.clone()] };
        assert_eq!(answer.node_endpoints, endpoints, "version {version}");
    }
    // Other errors, and what is well, have no hint.
    let mut early = fetch("t", 0);
    early.topics[0].partitions[0].current_leader_epoch = 9;
    for request in [early, fetch("t", 0), fetch("t", 7)] {
        let answer = client.call(17, &request).await;
        assert_eq!(answer.responses[0].partitions[0].current_leader.leader_id, -1);
        assert!(answer.node_endpoints.is_empty());
    }
    let answer = client.call(12, &produce(-1, "t", records())).await;
    assert_eq!(answer.responses[0].partition_responses[0].current_leader.leader_id, -1);
}

#[tokio::test]
async fn topics_by_id_are_those_of_the_id() {
    let server = Server::start(&[]).await;
    server.topic("t", 2, &LogConfig::default());
    server.append("t", 0, 1, 10);
    // The cluster's topic "u" is not the one that is stored here.
    server.topic("u", 1, &LogConfig::default());
    let newer = Uuid::from_u128(99);
    server.metadata.update(|image| {
        let mut topic = TopicImage::clone(&image.topics["u"]);
        topic.id = TopicId(newer);
        image.apply(ClusterDelta { topics: vec![topic], ..ClusterDelta::default() });
    });
    let mut client = Client::connect(&server).await;
    let by_id = |id: Uuid| {
        let mut request = fetch("t", 0);
        request.topics[0].topic = "".into();
        request.topics[0].topic_id = id;
        request
    };
    for version in 13..=17 {
        let answer = client.call(version, &by_id(topic_id("t").0)).await;
        let topic = &answer.responses[0];
        assert_eq!((topic.topic_id, topic.partitions[0].error_code), (topic_id("t").0, 0));
        assert!(topic.partitions[0].records.len() > 10);
        let missing = client.fetch(version, &of_partition(2, by_id(topic_id("t").0))).await;
        assert_eq!(missing.error_code, ErrorCode::UnknownTopicOrPartition as i16);
        for (id, expected) in [
            (Uuid::from_u128(5), ErrorCode::UnknownTopicId),
            (Uuid::nil(), ErrorCode::UnknownTopicId),
            (topic_id("u").0, ErrorCode::UnknownTopicId),
            (newer, ErrorCode::InconsistentTopicId),
        ] {
            let answer = client.call(version, &by_id(id)).await;
            let topic = &answer.responses[0];
            assert_eq!((topic.topic_id, topic.partitions[0].error_code), (id, expected as i16));
        }
    }
    // Who does not know ids is told that there is no such topic.
    let unknown = ErrorCode::UnknownTopicOrPartition as i16;
    assert_eq!(client.fetch(12, &fetch("u", 0)).await.error_code, unknown);
    let answer = client.produce(9, &produce(-1, "u", batch(1, 10, ProducerStamp::NONE))).await;
    assert_eq!(answer.error_code, unknown);
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: "u".into(),
            partitions: vec![ListOffsetsPartition { timestamp: -1, ..Default::default() }],
        }],
        ..ListOffsetsRequest::default()
    };
    let answer = client.call(7, &request).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, unknown);
}

#[tokio::test]
async fn a_session_by_ids_notices_that_its_topic_is_gone_and_comes() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut client = Client::connect(&server).await;
    let opening = FetchRequest { session_id: 0, session_epoch: 0, ..fetch("t", 0) };
    let id = client.call(17, &opening).await.session_id;
    assert!(id > 0);
    let next =
        |session_epoch| FetchRequest { session_id: id, session_epoch, ..FetchRequest::default() };
    assert!(client.call(17, &next(1)).await.responses.is_empty());
    // Deleted: the broker is told, and its log goes.
    let known = server.metadata.image().topics["t"].clone();
    server.metadata.update(|image| {
        let deleted = vec![(known.name.clone(), known.id)];
        image.apply(ClusterDelta { deleted, ..ClusterDelta::default() });
    });
    server.rig.partitions.find("t", topic_id("t"), 0).unwrap().stop_leading();
    let answer = client.call(17, &next(2)).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, ErrorCode::UnknownTopicId as i16);
    server.topic("t", 1, &LogConfig::default());
    let answer = client.call(17, &next(3)).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, 0);
    assert!(client.call(17, &next(4)).await.responses.is_empty());
    let by_name = client.call(12, &next(5)).await;
    assert_eq!(by_name.error_code, ErrorCode::FetchSessionTopicIdError as i16);
}
