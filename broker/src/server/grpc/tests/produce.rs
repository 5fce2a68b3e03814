//! Produce, unary and pipelined.

use std::time::Duration;

use bytes::Bytes;
use proto::ErrorCode;
use proto::record::{HEADER_LEN, ProducerStamp};
use proto::v1;
use proto::v1::log_client::LogClient;

use super::rig::{Server, batch, produce};
use crate::storage::{FlushPolicy, LogConfig};

const STREAM: &str = "/ottla.v1.Log/ProduceStream";

fn plain(records: usize) -> Bytes {
    batch(records, 20, ProducerStamp::NONE)
}

/// Sends requests and collects as many acknowledgements.
async fn exchange(server: &Server, requests: Vec<v1::ProduceRequest>) -> Vec<v1::ProduceAck> {
    let (sender, mut receiver) = server.stream(STREAM).await;
    let wanted = requests.len();
    for request in requests {
        sender.send_message(&request).await.unwrap();
    }
    let mut acks = Vec::new();
    while acks.len() < wanted {
        let message = receiver.recv().await.unwrap().unwrap();
        acks.extend(message.decode::<v1::ProduceResponse>().unwrap().acks);
    }
    acks
}

fn code(ack: &v1::ProduceAck) -> Option<ErrorCode> {
    ack.error.as_ref().map(|error| ErrorCode::from_code(error.code))
}

#[tokio::test]
async fn requests_of_a_stream_are_appended_in_order_and_acknowledged() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let requests = (0..500).map(|id| produce("t", id, plain(2))).collect();
    let acks = exchange(&server, requests).await;
    for ack in acks {
        assert_eq!((code(&ack), ack.base_offset), (None, ack.request_id as i64 * 2));
    }
    assert!(server.metrics.appends.get() < 500, "small requests were not written together");
    assert_eq!(server.metrics.queued_bytes.get(), 0);
}

#[tokio::test]
async fn a_stream_that_half_closes_gets_its_acknowledgements_and_the_status() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig { flush: FlushPolicy::BeforeAck, ..LogConfig::default() });
    let (sender, mut receiver) = server.stream(STREAM).await;
    for id in 0..10 {
        sender.send_message(&produce("t", id, plain(1))).await.unwrap();
    }
    drop(sender);
    let mut acks = 0;
    while let Some(message) = receiver.recv().await.unwrap() {
        acks += message.decode::<v1::ProduceResponse>().unwrap().acks.len();
    }
    assert_eq!(acks, 10);
}

/// What is answered earlier is reset when its end comes, and a connection has a thousand resets.
#[tokio::test]
async fn unary_calls_are_answered_when_they_have_ended() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let (sender, mut receiver) = server.stream("/ottla.v1.Log/Produce").await;
    sender.send_message(&produce("t", 7, plain(1))).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(300), receiver.recv()).await;
    assert!(early.is_err(), "answered before its end");
    drop(sender);
    let ack: v1::ProduceAck = receiver.recv().await.unwrap().unwrap().decode().unwrap();
    assert_eq!((ack.request_id, ack.error, ack.base_offset), (7, None, 0));

    let (sender, mut receiver) = server.stream("/ottla.v1.Log/Metadata").await;
    sender.send_message(&v1::MetadataRequest::default()).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(300), receiver.recv()).await;
    assert!(early.is_err(), "answered before its end");
    sender.send_message(&v1::MetadataRequest::default()).await.unwrap();
    let error = receiver.recv().await.unwrap_err().to_string();
    assert!(error.contains("exactly one"), "{error}");
}

#[tokio::test]
async fn what_may_not_be_appended_is_refused_by_name_and_the_stream_goes_on() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig { max_message_bytes: 2_000, ..LogConfig::default() });
    let mut damaged = plain(1).to_vec();
    damaged[HEADER_LEN + 3] ^= 1;
    let compressed = |codec: u8| {
        let mut bytes = plain(1).to_vec();
        bytes[22] = codec;
        let crc = proto::record::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes
    };
    let mut old = plain(1).to_vec();
    old[16] = 1;
    let wrong_id =
        v1::ProduceRequest { topic_id: Bytes::from_static(&[9; 16]), ..produce("t", 0, plain(1)) };
    let no_id = v1::ProduceRequest { topic_id: Bytes::new(), ..produce("t", 0, plain(1)) };
    let partition = v1::ProduceRequest { partition: 7, ..produce("t", 0, plain(1)) };
    let future = v1::ProduceRequest { leader_epoch: 5, ..produce("t", 0, plain(1)) };
    let cases = vec![
        (produce("t", 0, damaged.into()), ErrorCode::CorruptMessage),
        (produce("t", 0, plain(1).slice(..30)), ErrorCode::CorruptMessage),
        (produce("t", 0, Bytes::new()), ErrorCode::InvalidRequest),
        (produce("t", 0, compressed(5).into()), ErrorCode::UnsupportedCompressionType),
        (produce("t", 0, compressed(0x20).into()), ErrorCode::InvalidRecord),
        (produce("t", 0, old.into()), ErrorCode::UnsupportedVersion),
        (produce("t", 0, batch(1, 5_000, ProducerStamp::NONE)), ErrorCode::MessageTooLarge),
        (produce("nowhere", 0, plain(1)), ErrorCode::UnknownTopicOrPartition),
        (partition, ErrorCode::UnknownTopicOrPartition),
        (wrong_id, ErrorCode::UnknownTopicId),
        (no_id, ErrorCode::InvalidRequest),
        (future, ErrorCode::UnknownLeaderEpoch),
    ];
    let mut requests: Vec<_> = cases.iter().map(|(request, _)| request.clone()).collect();
    requests.push(produce("t", 0, plain(3)));
    for (id, request) in requests.iter_mut().enumerate() {
        request.request_id = id as u64;
    }
    let mut acks = exchange(&server, requests).await;
    acks.sort_by_key(|ack| ack.request_id);
    for (ack, (_, expected)) in acks.iter().zip(&cases) {
        assert_eq!(code(ack), Some(*expected), "{ack:?}");
        let error = ack.error.as_ref().unwrap();
        assert!(!error.message.is_empty() && !error.remedy.is_empty(), "{error:?}");
    }
    let last = acks.last().unwrap();
    assert_eq!((code(last), last.base_offset), (None, 0));
}

#[tokio::test]
async fn a_retry_under_the_same_sequence_is_not_appended_again() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let numbered = |base_sequence| batch(1, 5, ProducerStamp { id: 4, epoch: 0, base_sequence });
    let mut client = LogClient::new(server.connect().await);
    let mut send =
        async |records| client.produce(produce("t", 1, records)).await.unwrap().into_inner();
    assert_eq!(send(numbered(0)).await.base_offset, 0);
    assert_eq!(send(numbered(1)).await.base_offset, 1);
    assert_eq!(send(numbered(0)).await.base_offset, 0);
    assert_eq!(code(&send(numbered(9)).await), Some(ErrorCode::OutOfOrderSequenceNumber));
}

#[tokio::test]
async fn acks_none_is_appended_without_an_answer() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let none =
        |id| v1::ProduceRequest { acks: v1::Acks::None.into(), ..produce("t", id, plain(1)) };
    let (sender, mut receiver) = server.stream(STREAM).await;
    for id in 0..3 {
        sender.send_message(&none(id)).await.unwrap();
    }
    sender.send_message(&produce("t", 3, plain(1))).await.unwrap();
    let message = receiver.recv().await.unwrap().unwrap();
    let acks = message.decode::<v1::ProduceResponse>().unwrap().acks;
    assert_eq!(
        acks.iter().map(|ack| (ack.request_id, ack.base_offset)).collect::<Vec<_>>(),
        [(3, 3)]
    );
    let mut client = LogClient::new(server.connect().await);
    let ack = client.produce(none(4)).await.unwrap().into_inner();
    assert_eq!((ack.request_id, ack.base_offset), (4, -1));
}

#[tokio::test]
async fn more_than_the_budget_in_flight_waits_and_is_all_appended() {
    let server = Server::start(&["queued.max.bytes=1048576"]).await;
    server.topic("t", 2, &LogConfig::default());
    let large = batch(10, 60_000, ProducerStamp::NONE);
    let streams = (0..4).map(|_| {
        let requests = (0..20).map(|id| produce("t", id, large.clone())).collect();
        exchange(&server, requests)
    });
    for acks in futures_util::future::join_all(streams).await {
        assert!(acks.iter().all(|ack| ack.error.is_none()));
    }
    assert_eq!(server.metrics.produce_records.get(), 800);
    assert_eq!(server.metrics.queued_bytes.get(), 0);
}
