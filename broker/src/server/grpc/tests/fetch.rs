//! Fetch: rounds, long polls, handles, limits.

use std::time::{Duration, Instant};

use proto::ErrorCode;
use proto::client::{StreamReceiver, StreamSender};
use proto::record::{Batches, ProducerStamp};
use proto::v1;

use super::rig::{Server, handle, topic_id};
use crate::storage::LogConfig;

struct Stream {
    sender: StreamSender,
    receiver: StreamReceiver,
}

impl Stream {
    async fn open(server: &Server) -> Self {
        let (sender, receiver) = server.stream("/ottla.v1.Log/Fetch").await;
        Self { sender, receiver }
    }

    async fn ask(&self, request: v1::FetchRequest) {
        self.sender.send_message(&request).await.unwrap();
    }

    /// The messages of one round, its end left out.
    async fn round(&mut self) -> Vec<v1::FetchResponse> {
        let mut messages = Vec::new();
        loop {
            let message = self.receiver.recv().await.unwrap().unwrap();
            let message: v1::FetchResponse = message.decode().unwrap();
            if message.end {
                return messages;
            }
            messages.push(message);
        }
    }
}

fn add(partitions: Vec<v1::FetchPartition>, max_wait_ms: u32) -> v1::FetchRequest {
    v1::FetchRequest { add: partitions, max_wait_ms, ..Default::default() }
}

fn wait(max_wait_ms: u32) -> v1::FetchRequest {
    v1::FetchRequest { max_wait_ms, ..Default::default() }
}

fn records(message: &v1::FetchResponse) -> usize {
    Batches::new(&message.records).map(|batch| batch.unwrap().records().count()).sum()
}

#[tokio::test]
async fn the_broker_keeps_the_position_of_a_handle() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    server.append("t", 0, 3, 10);
    let mut stream = Stream::open(&server).await;
    stream.ask(add(vec![handle(7, "t", 0)], 0)).await;
    let round = stream.round().await;
    assert_eq!(round.len(), 1);
    assert_eq!((round[0].handle, round[0].next_offset, records(&round[0])), (7, 3, 3));
    server.append("t", 0, 2, 10);
    stream.ask(wait(0)).await;
    let round = stream.round().await;
    assert_eq!((round[0].next_offset, records(&round[0]), round[0].high_watermark), (5, 2, 5));
    stream.ask(wait(0)).await;
    assert!(stream.round().await.is_empty());
}

#[tokio::test]
async fn a_long_poll_is_woken_by_the_append_and_not_by_time() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut stream = Stream::open(&server).await;
    stream.ask(add(vec![handle(1, "t", 0)], 20_000)).await;
    // Wait until the round sleeps, then see how soon the append gets through.
    while server.metrics.parked_fetches.get() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let start = Instant::now();
    server.append("t", 0, 1, 10);
    let round = stream.round().await;
    assert_eq!(records(&round[0]), 1);
    assert!(start.elapsed() < Duration::from_secs(2), "took {:?}", start.elapsed());
    assert_eq!(server.metrics.fetch_rounds.get(), 1);
}

#[tokio::test]
async fn an_empty_long_poll_ends_after_its_time_with_the_end_alone() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut stream = Stream::open(&server).await;
    let start = Instant::now();
    stream.ask(add(vec![handle(1, "t", 0)], 100)).await;
    assert!(stream.round().await.is_empty());
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn pipelined_rounds_are_answered_in_order() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut stream = Stream::open(&server).await;
    stream.ask(v1::FetchRequest { request_id: 1, ..add(vec![handle(1, "t", 0)], 10_000) }).await;
    stream.ask(v1::FetchRequest { request_id: 2, ..wait(10_000) }).await;
    server.append("t", 0, 1, 10);
    let first = stream.round().await;
    assert_eq!((first[0].request_id, first[0].next_offset), (1, 1));
    server.append("t", 0, 1, 10);
    let second = stream.round().await;
    assert_eq!((second[0].request_id, second[0].next_offset), (2, 2));
}

#[tokio::test]
async fn a_seek_does_not_wait_for_the_round_before_it() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    server.append("t", 0, 5, 10);
    let mut stream = Stream::open(&server).await;
    stream.ask(add(vec![handle(1, "t", 5)], 20_000)).await;
    let start = Instant::now();
    stream.ask(v1::FetchRequest { forget: vec![1], ..add(vec![handle(2, "t", 0)], 20_000) }).await;
    assert!(stream.round().await.is_empty());
    let round = stream.round().await;
    assert_eq!((round[0].handle, records(&round[0])), (2, 5));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn min_bytes_holds_small_answers_back_until_enough_is_there() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    server.append("t", 0, 1, 100);
    let mut stream = Stream::open(&server).await;
    let request = v1::FetchRequest { min_bytes: 1_000, ..add(vec![handle(1, "t", 0)], 20_000) };
    stream.ask(request).await;
    while server.metrics.parked_fetches.get() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.append("t", 0, 1, 100);
    server.append("t", 0, 1, 2_000);
    let round = stream.round().await;
    assert_eq!(round.iter().map(records).sum::<usize>(), 3);
    // Out of time, what there is comes.
    server.append("t", 0, 1, 100);
    stream.ask(v1::FetchRequest { min_bytes: 1_000, ..wait(50) }).await;
    assert_eq!(stream.round().await.iter().map(records).sum::<usize>(), 1);
}

#[tokio::test]
async fn limits_hold_but_the_first_batch_is_always_whole() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    for _ in 0..10 {
        server.append("t", 0, 1, 1_000);
    }
    let mut stream = Stream::open(&server).await;
    let small = v1::FetchPartition { max_bytes: 10, ..handle(1, "t", 0) };
    stream.ask(add(vec![small], 0)).await;
    assert_eq!(stream.round().await.iter().map(records).sum::<usize>(), 1);
    let three = v1::FetchPartition { max_bytes: 3_500, ..handle(2, "t", 1) };
    stream.ask(v1::FetchRequest { forget: vec![1], ..add(vec![three], 0) }).await;
    assert_eq!(stream.round().await.iter().map(records).sum::<usize>(), 3);
    // The limit of the whole round.
    stream.ask(v1::FetchRequest { max_bytes: 1, ..wait(0) }).await;
    assert_eq!(stream.round().await.iter().map(records).sum::<usize>(), 1);
}

#[tokio::test]
async fn one_answer_spans_thousands_of_small_batches() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    for _ in 0..5_000 {
        server.append("t", 0, 1, 20);
    }
    let mut stream = Stream::open(&server).await;
    stream.ask(add(vec![handle(1, "t", 0)], 0)).await;
    let round = stream.round().await;
    assert_eq!(round.len(), 1, "one answer was expected");
    assert_eq!((records(&round[0]), round[0].next_offset), (5_000, 5_000));
}

#[tokio::test]
async fn a_busy_partition_does_not_starve_the_others() {
    let server = Server::start(&[]).await;
    server.topic("t", 4, &LogConfig::default());
    for partition in 0..4 {
        for _ in 0..50 {
            server.append("t", partition, 1, 1_000);
        }
    }
    let mut stream = Stream::open(&server).await;
    let handles = (0..4).map(|number| v1::FetchPartition {
        partition: number,
        max_bytes: 10_000,
        ..handle(number as u32, "t", 0)
    });
    // Room for two answers a round: after two rounds each handle has had its turn.
    stream.ask(v1::FetchRequest { max_bytes: 20_000, ..add(handles.collect(), 0) }).await;
    let mut seen: Vec<u32> = stream.round().await.iter().map(|message| message.handle).collect();
    stream.ask(v1::FetchRequest { max_bytes: 20_000, ..wait(0) }).await;
    seen.extend(stream.round().await.iter().map(|message| message.handle));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [0, 1, 2, 3]);
}

#[tokio::test]
async fn refused_handles_are_told_by_name_and_end_the_wait() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    server.append("t", 0, 1, 10);
    let mut stream = Stream::open(&server).await;
    let elsewhere = handle(1, "nowhere", 0);
    let beyond = handle(2, "t", 99);
    let fenced = v1::FetchPartition { leader_epoch: 9, ..handle(3, "t", 0) };
    stream.ask(add(vec![elsewhere, beyond, fenced], 20_000)).await;
    let mut errors: Vec<_> = stream
        .round()
        .await
        .into_iter()
        .map(|message| (message.handle, ErrorCode::from_code(message.error.unwrap().code)))
        .collect();
    errors.sort_by_key(|(handle, _)| *handle);
    assert_eq!(
        errors,
        [
            (1, ErrorCode::UnknownTopicOrPartition),
            (2, ErrorCode::OffsetOutOfRange),
            (3, ErrorCode::UnknownLeaderEpoch)
        ]
    );
}

#[tokio::test]
async fn a_reader_of_a_deleted_topic_is_told_at_once() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut stream = Stream::open(&server).await;
    stream.ask(add(vec![handle(1, "t", 0)], 20_000)).await;
    while server.metrics.parked_fetches.get() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let partition = server.rig.partitions.all().remove(0);
    server.rig.partitions.delete(partition.name(), partition.topic_id()).unwrap();
    let round = stream.round().await;
    assert!(round[0].error.is_some(), "{round:?}");
}

#[tokio::test]
async fn one_request_and_a_half_close_give_one_round_and_the_status() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    server.append("t", 0, 2, 10);
    let stream = Stream::open(&server).await;
    stream.ask(add(vec![handle(1, "t", 0)], 100)).await;
    let Stream { sender, receiver } = stream;
    drop(sender);
    let (spare, _) = server.stream("/ottla.v1.Log/Fetch").await;
    let mut stream = Stream { sender: spare, receiver };
    assert_eq!(stream.round().await.len(), 1);
    assert!(stream.receiver.recv().await.unwrap().is_none());
}

#[tokio::test]
async fn records_that_are_on_disk_only_come_through_a_disk_thread() {
    let (server, disk) = Server::breakable().await;
    server.topic("t", 2, &LogConfig::default());
    server.append("t", 0, 3, 10_000);
    server.append("t", 1, 2, 10_000);
    disk.set_faults(|faults| faults.cold = true);
    let mut stream = Stream::open(&server).await;
    let second = v1::FetchPartition { partition: 1, ..handle(2, "t", 0) };
    let request =
        v1::FetchRequest { min_bytes: 40_000, ..add(vec![handle(1, "t", 0), second], 20_000) };
    stream.ask(request).await;
    let start = Instant::now();
    assert_eq!(stream.round().await.iter().map(records).sum::<usize>(), 5);
    assert!(start.elapsed() < Duration::from_secs(15), "the disk thread woke nobody");
    assert!(server.metrics.fetch_cold_reads.get() >= 2);
    // Also by a round that waits for nothing: an empty answer would say that there are none.
    let again = v1::FetchRequest { forget: vec![1, 2], ..add(vec![handle(3, "t", 0)], 0) };
    stream.ask(again).await;
    assert_eq!(stream.round().await.iter().map(records).sum::<usize>(), 3);
}

#[tokio::test]
async fn a_directory_that_fails_is_told_to_its_readers() {
    let (server, disk) = Server::breakable().await;
    server.topic("t", 1, &LogConfig::default());
    server.append("t", 0, 1, 10_000);
    disk.set_faults(|faults| faults.failing_reads = Some("t-0".to_owned()));
    let mut stream = Stream::open(&server).await;
    stream.ask(add(vec![handle(1, "t", 0)], 20_000)).await;
    let round = stream.round().await;
    let error = round[0].error.as_ref().unwrap();
    assert_eq!(ErrorCode::from_code(error.code), ErrorCode::KafkaStorageError);
}

#[tokio::test]
async fn a_batch_that_a_client_doubts_is_checked_from_the_disk_so_many_times_a_second() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    for _ in 0..3 {
        server.append("t", 0, 4, 10);
    }
    let partition = server.rig.partitions.find("t", topic_id("t"), 0).unwrap();
    let path = partition.log().folder().join("00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    let one = bytes.len() / 3;
    bytes[one + 100] ^= 1;
    #[allow(clippy::disallowed_methods, reason = "damages a file as nobody else should")]
    std::fs::write(&path, &bytes).unwrap();

    let mut stream = Stream::open(&server).await;
    let doubted =
        |number, offset| v1::FetchPartition { verify: true, ..handle(number, "t", offset) };
    // Nobody has looked: it is sent as it lies. What is right is sent after the check.
    stream.ask(add(vec![handle(1, "t", 4)], 0)).await;
    assert_eq!(stream.round().await[0].next_offset, 12);
    stream.ask(add(vec![doubted(2, 0)], 0)).await;
    assert!(
        stream.round().await.iter().any(|message| message.handle == 2 && message.error.is_none())
    );
    stream.ask(add(vec![doubted(3, 5)], 0)).await;
    let answers = stream.round().await;
    let refused = answers.iter().find(|message| message.handle == 3).unwrap();
    assert_eq!(refused.error.as_ref().unwrap().code, ErrorCode::CorruptMessage as i32);
    assert_eq!(refused.damaged, Some(v1::DamagedOffsets { from_offset: 4, to_offset: 8 }));
    // Later readers are told without asking.
    stream.ask(add(vec![handle(4, "t", 6)], 0)).await;
    assert!(stream.round().await.iter().any(|m| m.handle == 4 && m.damaged.is_some()));
    let ranges = partition.log().damaged();
    assert_eq!((ranges.len(), ranges[0].from.0, ranges[0].position), (1, 4, one as u64));

    let many = (10..40).map(|number| doubted(number, 8)).collect();
    stream.ask(add(many, 0)).await;
    let answers = stream.round().await;
    let throttled = ErrorCode::ThrottlingQuotaExceeded as i32;
    let refused = answers.iter().filter(|m| m.error.as_ref().is_some_and(|e| e.code == throttled));
    assert!((10..=20).contains(&refused.count()), "{}", answers.len());
}

#[tokio::test]
async fn who_is_woken_by_another_thread_goes_there_and_misses_nothing() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    // Connections go round the two threads.
    let mut stream = Stream::open(&server).await;
    let (producer, mut acks) = server.stream("/ottla.v1.Log/ProduceStream").await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut next, mut goes_on) = (0, 0);
    stream.ask(add(vec![handle(7, "t", 0)], 30_000)).await;
    while goes_on < 100 {
        let batch = super::rig::batch(1, 10, ProducerStamp::NONE);
        producer.send_message(&super::rig::produce("t", next, batch)).await.unwrap();
        acks.recv().await.unwrap().unwrap();
        let round = stream.round().await;
        next += 1;
        assert_eq!((round.len(), round[0].next_offset), (1, next as i64));
        stream.ask(wait(30_000)).await;
        goes_on += i32::from(server.metrics.connections_moved.get() > 0);
        assert!(Instant::now() < deadline, "it stays after {next} rounds");
    }
}
