//! tonic's own transport and generated code: what is framed by hand here is plain gRPC there.

use std::sync::Arc;
use std::time::Duration;

use proto::record::{Batches, ProducerStamp};
use proto::v1;
use proto::v1::log_client::LogClient;
use tonic::Code;
use tonic::transport::Channel;

use super::rig::{Server, batch, handle, produce};
use crate::cluster::metadata::ClusterImage;
use crate::storage::LogConfig;

pub(super) async fn client(server: &Server) -> LogClient<Channel> {
    let address = format!("http://{}", server.address);
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    LogClient::new(channel)
}

#[tokio::test]
async fn an_unmodified_client_produces_and_fetches() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut client = client(&server).await;

    let sent = batch(100, 200, ProducerStamp::NONE);
    let ack = client.produce(produce("t", 5, sent.clone())).await.unwrap().into_inner();
    assert_eq!((ack.request_id, ack.error, ack.base_offset), (5, None, 0));

    let requests: Vec<_> = (0..20).map(|id| produce("t", id, sent.clone())).collect();
    let answers = client.produce_stream(tokio_stream::iter(requests)).await.unwrap();
    let mut answers = answers.into_inner();
    let mut acks = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        acks.extend(answer.acks);
    }
    assert_eq!(acks.len(), 20);
    assert!(acks.iter().all(|ack| ack.base_offset == (ack.request_id as i64 + 1) * 100));

    let request =
        v1::FetchRequest { request_id: 9, add: vec![handle(1, "t", 0)], ..Default::default() };
    let mut answers = client.fetch(tokio_stream::iter([request])).await.unwrap().into_inner();
    let mut records = 0;
    let mut ended = false;
    while let Some(answer) = answers.message().await.unwrap() {
        assert_eq!((answer.request_id, answer.error), (9, None));
        ended = answer.end;
        for batch in Batches::new(&answer.records) {
            records += batch.unwrap().records().inspect(|record| assert!(record.is_ok())).count();
        }
    }
    assert!(ended);
    assert_eq!(records, 2_100);
}

#[tokio::test]
async fn the_small_calls_answer_an_unmodified_client() {
    let server = Server::start(&[]).await;
    server.topic("t", 2, &LogConfig::default());
    server.append("t", 1, 3, 10);
    let mut client = client(&server).await;

    let request =
        v1::MetadataRequest { topics: vec!["t".into(), "x".into()], ..Default::default() };
    let answer = client.metadata(request).await.unwrap().into_inner();
    assert_eq!(answer.zookeeper, "zookeeper:2181/ottla");
    assert_eq!((answer.topics[0].partitions.len(), answer.brokers.len()), (2, 1));
    assert_eq!(answer.topics[1].error.as_ref().unwrap().code, 3);

    let query = |timestamp_ms| v1::OffsetQuery {
        topic: "t".into(),
        partition: 1,
        timestamp_ms,
        ..Default::default()
    };
    let queries = vec![query(-2), query(-1), query(1_000), query(2_000), query(-7)];
    let answer = client.list_offsets(v1::ListOffsetsRequest { queries }).await.unwrap();
    let offsets: Vec<i64> = answer.into_inner().answers.iter().map(|a| a.offset).collect();
    assert_eq!(offsets, [0, 3, 0, -1, -1]);

    let ids = [
        client.init_producer_id(v1::InitProducerIdRequest::default()).await,
        client.init_producer_id(v1::InitProducerIdRequest::default()).await,
    ];
    let ids = ids.map(|answer| answer.unwrap().into_inner().producer_id);
    assert_eq!(ids, [0, 1]);
}

#[tokio::test]
async fn records_are_deleted_by_partition_and_each_answer_stands_for_itself() {
    let server = Server::start(&[]).await;
    server.topic("t", 3, &LogConfig::default());
    server.append("t", 0, 10, 10);
    server.append("t", 1, 10, 10);
    let mut client = client(&server).await;
    let id = handle(0, "t", 0).topic_id;
    let asked = |partition, offset| v1::RecordsToDelete {
        topic: "t".into(),
        topic_id: id.clone(),
        partition,
        leader_epoch: -1,
        offset,
    };
    let newer = v1::RecordsToDelete { leader_epoch: 5, ..asked(0, 9) };
    let other = v1::RecordsToDelete { topic_id: vec![9; 16].into(), ..asked(0, 9) };
    let nameless = v1::RecordsToDelete { topic_id: Vec::new().into(), ..asked(0, 9) };
    let partitions = vec![
        newer,
        asked(0, 4),
        other,
        asked(1, -1),
        nameless,
        asked(2, 1),
        asked(9, 0),
        asked(0, -7),
        asked(0, 2),
    ];
    let answer = client
        .delete_records(v1::DeleteRecordsRequest { partitions, timeout_ms: 0 })
        .await
        .unwrap();
    let results = answer.into_inner().results;
    let codes: Vec<i32> =
        results.iter().map(|r| r.error.as_ref().map_or(0, |error| error.code)).collect();
    assert_eq!(codes, [75, 0, 100, 0, 42, 1, 3, 1, 0]);
    let starts: Vec<i64> = results.iter().map(|result| result.low_watermark).collect();
    assert_eq!(starts, [-1, 4, -1, 10, -1, -1, -1, -1, 4]);
    assert!(results.iter().flat_map(|r| &r.error).all(|error| !error.remedy.is_empty()));

    let add = vec![handle(1, "t", 3), handle(2, "t", 4)];
    let request = v1::FetchRequest { request_id: 1, add, ..Default::default() };
    let mut answers = client.fetch(tokio_stream::iter([request])).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        if !answer.end {
            let code = answer.error.as_ref().map_or(0, |error| error.code);
            seen.push((answer.handle, code, answer.next_offset));
        }
    }
    seen.sort_unstable();
    assert_eq!((seen[0].0, seen[0].1), (1, 1), "below the new start");
    assert_eq!(seen[1], (2, 0, 10));
}

#[tokio::test]
async fn a_metadata_stream_answers_at_once_and_after_each_change() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut client = client(&server).await;
    let request = v1::MetadataRequest { topics: vec!["later".into()], ..Default::default() };
    let mut answers = client.watch_metadata(request).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert!(first.topics[0].error.is_some());
    server.topic("other", 1, &LogConfig::default());
    server.topic("later", 3, &LogConfig::default());
    let second = answers.message().await.unwrap().unwrap();
    assert_eq!(second.topics[0].partitions.len(), 3);
}

#[tokio::test]
async fn a_metadata_stream_tells_what_has_changed_and_signs_of_life() {
    let server = Server::start(&[]).await;
    for name in ["a", "b", "c"] {
        server.topic(name, 1, &LogConfig::default());
    }
    let mut client = client(&server).await;
    let all = v1::MetadataRequest { all_topics: true, ..Default::default() };
    let mut of_all = client.watch_metadata(all).await.unwrap().into_inner();
    let topics = vec!["c".into(), "a".into(), "none".into()];
    let named = v1::MetadataRequest { topics, keep_alive_ms: 1, ..Default::default() };
    let mut of_named = client.watch_metadata(named).await.unwrap().into_inner();
    assert_eq!(names(&mut of_all).await, ["a", "b", "c"]);
    assert_eq!(names(&mut of_named).await, ["c", "a", "none"]);
    // A leader and an epoch change, a topic comes, another goes: each is told, and nothing else.
    let raise = |image: &mut ClusterImage| {
        let topic = image.topics.get_mut("a").unwrap();
        Arc::make_mut(topic).partitions[0].leader_epoch = proto::LeaderEpoch(7);
    };
    server.metadata.update(raise);
    assert_eq!(names(&mut of_named).await, ["a"]);
    assert_eq!(names(&mut of_all).await, ["a"]);
    server.topic("bb", 1, &LogConfig::default());
    assert_eq!(names(&mut of_all).await, ["bb"]);
    server.metadata.update(|image| drop(image.topics.remove("b")));
    let answer = of_all.message().await.unwrap().unwrap();
    assert_eq!((answer.topics.len(), answer.topics[0].name.as_str()), (1, "b"));
    assert_eq!(answer.topics[0].error.as_ref().map(|error| error.code), Some(3));
    // The brokers changed, and with them who can lead.
    server.metadata.update(|image| image.brokers = Arc::default());
    let answer = of_all.message().await.unwrap().unwrap();
    assert!(answer.brokers.is_empty() && answer.topics.len() == 3);
    assert!(answer.topics.iter().all(|topic| topic.partitions[0].leader == -1));
    // What concerned others was no answer to the one, who hears that the stream lives all the same.
    let mut answer = of_named.message().await.unwrap().unwrap();
    while answer.unchanged {
        answer = of_named.message().await.unwrap().unwrap();
    }
    assert!(answer.topics.len() == 2 && answer.brokers.is_empty());
    for _ in 0..2 {
        let answer = of_named.message().await.unwrap().unwrap();
        assert_eq!(answer, v1::MetadataResponse { unchanged: true, ..Default::default() });
    }
    // Nobody asked for signs of life here.
    let more = tokio::time::timeout(Duration::from_millis(300), of_all.message()).await;
    assert!(more.is_err());
}

/// When a broker dies, every partition's ISR changes, each by itself; clients are told together, and
/// are not kept from what they act on.
#[tokio::test]
async fn changes_of_isrs_alone_are_told_together_and_leaders_at_once() {
    const PARTITIONS: usize = 2_000;
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let shrink = |image: &mut ClusterImage, range: std::ops::Range<usize>, isr: &[i32]| {
        let topic = Arc::make_mut(image.topics.get_mut("t").unwrap());
        for partition in &mut topic.partitions[range] {
            partition.isr = isr.iter().copied().map(proto::BrokerId).collect();
            partition.version += 1;
        }
    };
    server.metadata.update(|image| {
        let topic = Arc::make_mut(image.topics.get_mut("t").unwrap());
        let mut partition = topic.partitions[0].clone();
        partition.replicas = [1, 2, 3].map(proto::BrokerId).into();
        partition.isr.clone_from(&partition.replicas);
        topic.partitions = vec![partition; PARTITIONS];
    });
    let mut client = client(&server).await;
    let request = v1::MetadataRequest { topics: vec!["t".into()], ..Default::default() };
    let mut answers = client.watch_metadata(request).await.unwrap().into_inner();
    assert_eq!(names(&mut answers).await, ["t"]);
    let start = std::time::Instant::now();
    for from in (0..PARTITIONS).step_by(20) {
        server.metadata.update(|image| shrink(image, from..from + 20, &[1, 2]));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (mut told, mut bytes, mut in_sync) = (0, 0, 3 * PARTITIONS);
    while in_sync > 2 * PARTITIONS {
        let answer = answers.message().await.unwrap().unwrap();
        (told, bytes) = (told + 1, bytes + prost::Message::encoded_len(&answer));
        in_sync = answer.topics[0].partitions.iter().map(|p| p.isr.len()).sum();
    }
    let most = start.elapsed().as_millis() / 100 + 1;
    assert!((1..=most).contains(&told), "{told} answers of {bytes} bytes, at most {most}");
    assert!(bytes < 80_000 * told as usize, "{told} answers of {bytes} bytes");
    // A leader goes at once, and what waited goes with it.
    server.metadata.update(|image| shrink(image, 0..1, &[1]));
    let waits = tokio::time::timeout(Duration::from_millis(20), answers.message()).await;
    server.metadata.update(|image| {
        let topic = Arc::make_mut(image.topics.get_mut("t").unwrap());
        topic.partitions[1].leader_epoch = proto::LeaderEpoch(9);
    });
    let answer = match waits {
        Ok(_) => panic!("a change of an ISR alone did not wait"),
        Err(_) => answers.message().await.unwrap().unwrap(),
    };
    let [first, second, ..] = &answer.topics[0].partitions[..] else { panic!("{answer:?}") };
    assert_eq!((&first.isr[..], second.leader_epoch), (&[1][..], 9));
    let more = tokio::time::timeout(Duration::from_millis(150), answers.message()).await;
    assert!(more.is_err(), "what was told is told again: {more:?}");
}

/// Of the next answer that is not only a sign of life.
async fn names(answers: &mut tonic::Streaming<v1::MetadataResponse>) -> Vec<String> {
    loop {
        let answer = answers.message().await.unwrap().unwrap();
        if !answer.unchanged {
            assert!(!answer.brokers.is_empty());
            return answer.topics.into_iter().map(|topic| topic.name).collect();
        }
    }
}

#[tokio::test]
async fn what_cannot_be_served_is_a_status_with_a_cause() {
    let server = Server::start(&["socket.request.max.bytes=10000"]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut client = client(&server).await;
    let large = batch(1, 20_000, ProducerStamp::NONE);
    let status = client.produce(produce("t", 0, large)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("the limit is 10000"), "{}", status.message());
}
