//! Produce, Fetch, ListOffsets, epochs, producer ids: what clients check.

use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::ErrorCode;
use proto::kafka::Records;
use proto::kafka::messages::*;
use proto::record::{BatchHeader, ProducerStamp};

use super::rig::{Client, Server, batch, fetch, produce};
use crate::storage::LogConfig;

fn records(count: usize) -> Bytes {
    batch(count, 100, ProducerStamp::NONE)
}

fn bytes_of(data: &PartitionData) -> &Bytes {
    match &data.records {
        Records::Here(bytes) => bytes,
        Records::Elsewhere(_) => panic!("a client has its records"),
    }
}

#[tokio::test]
async fn what_is_produced_comes_back_as_it_was_in_every_version() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut client = Client::connect(&server).await;
    let mut offset = 0;
    // Longer than what goes out from memory, and shorter.
    for (version, count) in (3..=12).zip([1, 3, 400, 1, 2000, 7, 1, 1, 2, 3]) {
        let sent = records(count);
        let answer = client.produce(version, &produce(-1, "t", sent.clone())).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, offset), "version {version}");
        for version in 4..=17 {
            let read = client.fetch(version, &fetch("t", offset)).await;
            assert_eq!(read.error_code, 0);
            let end = offset + count as i64;
            assert_eq!((read.high_watermark, read.last_stable_offset), (end, end));
            assert_eq!(read.aborted_transactions, None);
            let read = bytes_of(&read);
            // Base offset and leader epoch are the broker's, the rest is the client's.
            assert_eq!(read[16..], sent[16..], "version {version}");
            assert_eq!(BatchHeader::parse(read).unwrap().base_offset.0, offset);
        }
        offset += count as i64;
    }
}

#[tokio::test]
async fn refused_records_say_why() {
    let server = Server::start(&["request.timeout.ms=1000"]).await;
    server.topic("t", 1, &LogConfig { max_message_bytes: 2000, ..LogConfig::default() });
    let mut client = Client::connect(&server).await;
    let mut old = records(1).to_vec();
    old[16] = 1;
    let mut broken = records(1).to_vec();
    *broken.last_mut().unwrap() ^= 1;
    let two = [records(1), records(1)].concat();
    for (what, records, expected) in [
        ("format 1", old.into(), ErrorCode::InvalidRecord),
        ("a wrong checksum", broken.into(), ErrorCode::CorruptMessage),
        ("two batches", two.into(), ErrorCode::InvalidRecord),
        ("too much", records(50), ErrorCode::MessageTooLarge),
        ("a half batch", records(1).slice(..70), ErrorCode::CorruptMessage),
    ] {
        let answer = client.produce(9, &produce(1, "t", records)).await;
        assert_eq!(answer.error_code, expected as i16, "{what}: {:?}", answer.error_message);
    }
    let answer = client.produce(9, &produce(2, "t", records(1))).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidRequiredAcks as i16);
    let answer = client.produce(9, &produce(-1, "none", records(1))).await;
    assert_eq!(answer.error_code, ErrorCode::UnknownTopicOrPartition as i16);
    let answer = client.produce(9, &produce(-1, "t", records(1))).await;
    assert_eq!((answer.error_code, answer.base_offset), (0, 0), "nothing was appended");
}

#[tokio::test]
async fn acks_0_is_not_answered_and_an_error_ends_the_connection() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut client = Client::connect(&server).await;
    client.send(9, &produce(0, "t", records(1))).await;
    client.send(9, &produce(0, "t", records(2))).await;
    let answer = client.produce(9, &produce(1, "t", records(1))).await;
    assert_eq!((answer.error_code, answer.base_offset), (0, 3), "the first answer there is");
    client.send(9, &produce(0, "none", records(1))).await;
    assert_eq!(client.frame().await, None);
}

#[tokio::test]
async fn an_idempotent_producers_retry_gets_the_first_offset() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut client = Client::connect(&server).await;
    let id = client.call(4, &InitProducerIdRequest::default()).await.producer_id;
    let stamp = |base_sequence| ProducerStamp { id, epoch: 0, base_sequence };
    for round in 0..2 {
        for sequence in 0..5 {
            let records = batch(1, 10, stamp(sequence));
            let answer = client.produce(8, &produce(-1, "t", records)).await;
            let told = (answer.error_code, answer.base_offset);
            assert_eq!(told, (0, sequence.into()), "round {round}");
        }
    }
    let answer = client.produce(8, &produce(-1, "t", batch(1, 10, stamp(7)))).await;
    assert_eq!(answer.error_code, ErrorCode::OutOfOrderSequenceNumber as i16);
    let other = client.call(4, &InitProducerIdRequest::default()).await;
    assert!(other.error_code == 0 && other.producer_id != id && other.producer_epoch == 0);
    let transactional = InitProducerIdRequest {
        transactional_id: Some("t".into()),
        ..InitProducerIdRequest::default()
    };
    let refused = client.call(4, &transactional).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidRequest as i16);
}

#[tokio::test]
async fn a_fetch_waits_for_what_it_asks_and_no_longer() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut client = Client::connect(&server).await;
    let waiting = |offset, min_bytes, max_wait_ms| FetchRequest {
        min_bytes,
        max_wait_ms,
        ..fetch("t", offset)
    };
    let begun = Instant::now();
    let read = client.fetch(11, &waiting(0, 1, 200)).await;
    assert!(bytes_of(&read).is_empty() && read.error_code == 0);
    assert!(begun.elapsed() >= Duration::from_millis(200));

    let id = client.send(11, &waiting(0, 300, 10_000)).await;
    server.append("t", 0, 1, 10);
    server.append("t", 0, 1, 400);
    let read = client.receive::<FetchRequest>(11, id).await.responses[0].partitions[0].clone();
    assert!(bytes_of(&read).len() >= 300, "both, since the first was too little");
    assert!(begun.elapsed() < Duration::from_secs(8));
    // What does not exist ends the wait.
    for (offset, expected) in [(3, ErrorCode::OffsetOutOfRange), (-1, ErrorCode::OffsetOutOfRange)]
    {
        let read = client.fetch(11, &waiting(offset, 1, 10_000)).await;
        assert_eq!(read.error_code, expected as i16, "offset {offset}");
    }
    let mut request = waiting(0, 1 << 20, 10_000);
    request.topics[0].topic = "none".into();
    let read = client.fetch(11, &request).await;
    assert_eq!(read.error_code, ErrorCode::UnknownTopicOrPartition as i16);
    let mut fenced = waiting(0, 1 << 20, 10_000);
    fenced.topics[0].partitions[0].current_leader_epoch = 5;
    let read = client.fetch(12, &fenced).await;
    assert_eq!(read.error_code, ErrorCode::UnknownLeaderEpoch as i16);
    assert!(begun.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn the_first_batch_comes_whole_and_limits_hold_for_the_rest() {
    let server = Server::start(&[]).await;
    server.topic("t", 3, &LogConfig::default());
    for partition in 0..3 {
        server.append("t", partition, 10, 1000);
    }
    let mut client = Client::connect(&server).await;
    let mut request = FetchRequest { max_bytes: 100, ..fetch("t", 0) };
    let position = request.topics[0].partitions[0].clone();
    request.topics[0].partitions =
        (0..3).map(|partition| FetchPartition { partition, ..position.clone() }).collect();
    // More is wanted than there is room for: full is enough.
    (request.min_bytes, request.max_wait_ms) = (100, 10_000);
    let begun = Instant::now();
    let answer = client.call(12, &request).await;
    let lens: Vec<_> =
        answer.responses[0].partitions.iter().map(|data| bytes_of(data).len()).collect();
    assert!(lens[0] > 10_000 && lens[1..] == [0, 0], "{lens:?}");
    request.max_bytes = 25_000;
    request.min_bytes = 25_000;
    let answer = client.call(12, &request).await;
    let lens: Vec<_> =
        answer.responses[0].partitions.iter().map(|data| bytes_of(data).len()).collect();
    assert!(lens[1] > 10_000 && lens[2] == 0, "{lens:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn limits_that_contradict_each_other_keep_nobody_waiting() {
    let server = Server::start(&["fetch.max.wait.ms=400"]).await;
    server.topic("t", 1, &LogConfig::default());
    server.append("t", 0, 1, 10);
    let mut client = Client::connect(&server).await;
    let begun = Instant::now();
    // Too little: until the broker's longest wait is over.
    let waiting = FetchRequest { min_bytes: 300, max_wait_ms: 30_000, ..fetch("t", 0) };
    let read = client.fetch(11, &waiting).await;
    assert!(!bytes_of(&read).is_empty() && begun.elapsed() >= Duration::from_millis(400));
    // Not even a byte of a partition, or less than a batch over all: one batch comes, and at once.
    let mut none = fetch("t", 0);
    none.topics[0].partitions[0].partition_max_bytes = 0;
    assert!(!bytes_of(&client.fetch(11, &none).await).is_empty());
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    server.append("t", 0, 10, 1000);
    let mut client = Client::connect(&server).await;
    let greedy = FetchRequest { max_bytes: 100, min_bytes: 1 << 30, ..fetch("t", 0) };
    let read = client.fetch(11, &FetchRequest { max_wait_ms: 20_000, ..greedy }).await;
    assert!(bytes_of(&read).len() > 10_000);
    // What comes in small pieces is waited for piece by piece.
    let pieces = FetchRequest { min_bytes: 900, max_wait_ms: 20_000, ..fetch("t", 10) };
    let id = client.send(11, &pieces).await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        server.append("t", 0, 1, 300);
    }
    let answer = client.receive::<FetchRequest>(11, id).await;
    assert!(bytes_of(&answer.responses[0].partitions[0]).len() >= 900);
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn read_committed_gets_a_list_and_epochs_have_ends() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    server.append("t", 0, 4, 10);
    let mut client = Client::connect(&server).await;
    let read = client.fetch(11, &FetchRequest { isolation_level: 1, ..fetch("t", 0) }).await;
    assert_eq!(read.aborted_transactions, Some(Vec::new()));

    let asking = |current_leader_epoch, leader_epoch| OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic {
            topic: "t".into(),
            partitions: vec![OffsetForLeaderPartition {
                partition: 0,
                current_leader_epoch,
                leader_epoch,
            }],
        }],
        ..OffsetForLeaderEpochRequest::default()
    };
    for (version, current, epoch, expected) in [
        (2, -1, 0, (0, 0, 4)),
        (4, 0, 0, (0, 0, 4)),
        (3, -1, 9, (0, -1, -1)),
        (3, 9, 0, (75, -1, -1)),
    ] {
        let answer = client.call(version, &asking(current, epoch)).await;
        let of = &answer.topics[0].partitions[0];
        assert_eq!((of.error_code, of.leader_epoch, of.end_offset), expected, "epoch {epoch}");
    }
}

#[tokio::test]
async fn offsets_by_time_are_those_of_records() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut client = Client::connect(&server).await;
    let asking = |timestamp| ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![ListOffsetsPartition { timestamp, ..ListOffsetsPartition::default() }],
        }],
        ..ListOffsetsRequest::default()
    };
    let empty = client.call(7, &asking(-3)).await.topics[0].partitions[0].clone();
    assert_eq!((empty.error_code, empty.offset, empty.timestamp), (0, -1, -1));
    server.append("t", 0, 10, 10);
    let first = BatchHeader::parse(&records(10)).unwrap();
    let (base, newest) = (first.base_timestamp, first.max_timestamp);
    for (timestamp, expected) in [
        (-2, (0, -1)),
        (-1, (10, -1)),
        (base, (0, base)),
        (newest, (9 - i64::from(newest == base) * 9, newest)),
        (newest + 1, (-1, -1)),
    ] {
        for version in 1..=10 {
            let answer = client.call(version, &asking(timestamp)).await;
            let of = &answer.topics[0].partitions[0];
            assert_eq!(of.error_code, 0);
            assert_eq!((of.offset, of.timestamp), expected, "{timestamp}, version {version}");
        }
    }
    let newest_of = client.call(7, &asking(-3)).await.topics[0].partitions[0].clone();
    assert_eq!(newest_of.timestamp, newest);
    let refused = client.call(6, &asking(-3)).await.topics[0].partitions[0].error_code;
    assert_eq!(refused, ErrorCode::UnsupportedVersion as i16);
    // All that is here is on the broker's disks, and nothing elsewhere.
    for (timestamp, from, expected) in [(-4, 8, (0, 0)), (-5, 9, (-1, -1))] {
        for version in from..=10 {
            let answer = client.call(version, &asking(timestamp)).await;
            let of = &answer.topics[0].partitions[0];
            let told = (of.error_code, of.offset, of.leader_epoch, of.timestamp);
            assert_eq!(told, (0, expected.0, expected.1, -1), "{timestamp}, version {version}");
        }
        let answer = client.call(from - 1, &asking(timestamp)).await;
        let refused = answer.topics[0].partitions[0].error_code;
        assert_eq!(refused, ErrorCode::UnsupportedVersion as i16);
    }
    let answer = client.call(10, &asking(-6)).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::UnsupportedVersion as i16);
}

#[tokio::test]
async fn who_is_woken_by_another_thread_goes_there_and_misses_nothing() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    // Connections go round the two threads.
    let mut reader = Client::connect(&server).await;
    let mut producer = Client::connect(&server).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut next, mut goes_on) = (0, 0);
    while goes_on < 100 {
        let asked = FetchRequest { max_wait_ms: 30_000, min_bytes: 1, ..fetch("t", next) };
        let id = reader.send(12, &asked).await;
        let answer = producer.produce(9, &produce(-1, "t", records(1))).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, next));
        let read = reader.receive::<FetchRequest>(12, id).await;
        next += 1;
        assert_eq!(read.responses[0].partitions[0].high_watermark, next);
        goes_on += i32::from(server.metrics.connections_moved.get() > 0);
        assert!(Instant::now() < deadline, "it stays after {next} rounds");
    }
}
