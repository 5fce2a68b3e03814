//! Versions, frames, order, metadata.

use proto::ErrorCode;
use proto::kafka::messages::*;
use proto::kafka::{ApiKey, decode_response};
use tokio::io::AsyncWriteExt;

use super::super::dispatch::{ADVERTISED, is_served};
use super::rig::{Client, Server, batch, fetch, produce};
use crate::storage::LogConfig;

#[tokio::test]
async fn api_versions_tells_the_table_in_every_version() {
    let server = Server::start(&[]).await;
    let mut client = Client::connect(&server).await;
    for version in 0..=4 {
        let answer = client.call(version, &ApiVersionsRequest::default()).await;
        assert_eq!(answer.error_code, 0);
        assert_eq!(answer.api_keys.len(), ADVERTISED.len());
        assert!(answer.api_keys.is_sorted_by_key(|range| range.api_key));
        let produce = answer.api_keys.iter().find(|range| range.api_key == 0).unwrap();
        assert_eq!(produce.min_version, 0, "librdkafka would not compress");
        assert!(answer.supported_features.is_empty() && answer.finalized_features.is_empty());
    }
}

#[tokio::test]
async fn api_versions_of_a_newer_client_is_answered_in_version_0() {
    let server = Server::start(&[]).await;
    let mut client = Client::connect(&server).await;
    // Version 9 with a body that nobody knows.
    client.send_raw(&[0, 0, 0, 13, 0, 18, 0, 9, 0, 0, 0, 5, 0xff, 0xff, 1, 2, 3]).await;
    let frame = client.frame().await.unwrap();
    let (id, answer) = decode_response::<ApiVersionsRequest>(0, frame).unwrap();
    assert_eq!(id, 5);
    assert_eq!(answer.error_code, ErrorCode::UnsupportedVersion as i16);
    let own = ApiVersion { api_key: 18, min_version: 0, max_version: 4 };
    assert_eq!(answer.api_keys, [own]);
    // And the connection goes on.
    assert_eq!(client.call(4, &ApiVersionsRequest::default()).await.error_code, 0);
}

#[test]
fn all_that_is_served_is_defined_and_advertised() {
    for (api, versions) in ADVERTISED {
        for version in versions.clone().filter(|&version| is_served(*api, version)) {
            assert!(api.versions().contains(&version), "{api:?} {version} cannot be read");
        }
        assert!(is_served(*api, *versions.end()) && !is_served(*api, versions.end() + 1));
    }
    assert!(!is_served(ApiKey::Produce, 2));
}

#[tokio::test]
async fn what_is_not_served_or_cannot_be_read_ends_the_connection() {
    let server = Server::start(&[]).await;
    let frames: [&[u8]; 6] = [
        // Produce of a version that is only advertised; an unknown API; half a head; no request.
        &[0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff],
        &[0, 0, 0, 10, 0, 99, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
        &[0, 0, 0, 3, 0, 18, 0],
        &[0, 0, 0, 10, 0, 3, 0, 4, 0, 0, 0, 1, 0xff, 0xff],
        // Sizes that are none.
        &[0xff, 0xff, 0xff, 0xff, 0, 0],
        b"GET / HTTP/1.1\r\n\r\n",
    ];
    for frame in frames {
        let mut client = Client::connect(&server).await;
        client.send_raw(frame).await;
        assert_eq!(client.frame().await, None, "{frame:?}");
    }
}

#[tokio::test]
async fn answers_come_in_the_order_of_requests() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut client = Client::connect(&server).await;
    let records = batch(1, 10, proto::record::ProducerStamp::NONE);
    // A long poll in the middle, and what comes after it does not overtake it.
    let first = client.send(9, &produce(-1, "t", records.clone())).await;
    let poll = FetchRequest { max_wait_ms: 300, min_bytes: 1 << 20, ..fetch("t", 0) };
    let second = client.send(11, &poll).await;
    let third = client.send(9, &produce(1, "t", records.clone())).await;
    let fourth = client.send(4, &ApiVersionsRequest::default()).await;
    let answer = client.receive::<ProduceRequest>(9, first).await;
    assert_eq!(answer.responses[0].partition_responses[0].base_offset, 0);
    let read = client.receive::<FetchRequest>(11, second).await;
    assert_eq!(read.responses[0].partitions[0].high_watermark, 1, "the third had not begun");
    let answer = client.receive::<ProduceRequest>(9, third).await;
    assert_eq!(answer.responses[0].partition_responses[0].base_offset, 1);
    client.receive::<ApiVersionsRequest>(4, fourth).await;
}

#[tokio::test]
async fn requests_in_single_bytes_are_read() {
    let server = Server::start(&[]).await;
    let mut client = Client::connect(&server).await;
    let frame = proto::kafka::encode_request(3, 1, Some("slow"), &ApiVersionsRequest::default());
    for byte in frame.join().unwrap() {
        client.socket.write_all(&[byte]).await.unwrap();
        client.socket.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    client.receive::<ApiVersionsRequest>(3, 1).await;
}

#[tokio::test]
async fn metadata_tells_topics_once_and_where_the_client_came_in() {
    let server = Server::start(&[]).await;
    server.topic("a", 2, &LogConfig::default());
    server.topic("b", 1, &LogConfig::default());
    let mut client = Client::connect(&server).await;
    for version in 0..=13 {
        let all = MetadataRequest {
            topics: (version > 0).then_some(()).map_or(Some(Vec::new()), |()| None),
            ..Default::default()
        };
        let answer = client.call(version, &all).await;
        let broker = &answer.brokers[0];
        assert_eq!(&*broker.host, "127.0.0.1", "version {version}");
        assert_eq!(broker.port, i32::from(server.kafka.port()));
        let names: Vec<_> = answer.topics.iter().map(|topic| topic.name.clone().unwrap()).collect();
        assert_eq!(names, ["a".into(), "b".into()], "version {version}");
        assert_eq!(answer.topics[0].partitions.len(), 2);
        assert_eq!(answer.topics[0].partitions[1].leader_id, 1);
        if version >= 1 {
            assert_eq!(answer.controller_id, 1, "a listed broker");
        }
        if version >= 10 {
            assert!(!answer.topics[0].topic_id.is_nil());
        }
    }
    let named = |name: &str| MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
    let topics = vec![named("a"), named("none"), named("a"), named("bad name"), named("..")];
    let request = MetadataRequest { topics: Some(topics), ..Default::default() };
    let answer = client.call(12, &request).await;
    let told = answer.topics.iter().map(|topic| (topic.name.as_deref().unwrap(), topic.error_code));
    let expected = [("..", 17), ("a", 0), ("bad name", 17), ("none", 3)];
    assert_eq!(told.collect::<Vec<_>>(), expected);

    let id = answer.topics[1].topic_id;
    let by_id = |topic_id| MetadataRequestTopic { topic_id, name: None };
    // Java's admin client sends an empty name with an id.
    let as_java = |topic_id| MetadataRequestTopic { topic_id, name: Some("".into()) };
    let unknown = uuid::Uuid::from_u128;
    let topics = vec![as_java(id), by_id(unknown(7)), as_java(unknown(8))];
    let answer =
        client.call(12, &MetadataRequest { topics: Some(topics), ..Default::default() }).await;
    let mut told: Vec<_> = answer.topics.iter().map(|topic| topic.error_code).collect();
    told.sort_unstable();
    assert_eq!(told, [0, 100, 100]);
    let none = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
    let answer = client.call(1, &none).await;
    assert!(answer.topics.is_empty() && answer.brokers.len() == 1);
}
