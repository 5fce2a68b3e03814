//! A scripted follower over a real stream, and what consumers and producers see of it.

use std::time::{Duration, Instant};

use proto::client::{StreamReceiver, StreamSender};
use proto::record::{Batches, ProducerStamp};
use proto::{BrokerId, ErrorCode, LeaderEpoch, Offset, v1};
use uuid::Uuid;

use super::rig::{Server, batch, handle, produce, topic_id};
use super::unmodified_client::client;
use crate::replication::Leadership;
use crate::replication::tests::rig::led;
use crate::storage::LogConfig;

/// Broker 2, as it is registered.
const RUN: u128 = 22;

struct Stream {
    sender: StreamSender,
    receiver: StreamReceiver,
    round: u64,
}

impl Stream {
    async fn open(server: &Server) -> Self {
        let (sender, receiver) = server.stream("/ottla.v1.Log/Fetch").await;
        Self { sender, receiver, round: 0 }
    }

    async fn ask(&mut self, request: v1::FetchRequest) {
        self.round += 1;
        let request = v1::FetchRequest { request_id: self.round, ..request };
        self.sender.send_message(&request).await.unwrap();
    }

    /// Begins as the follower 2, with a handle.
    async fn follow(&mut self, run: u128, partition: v1::FetchPartition, max_wait_ms: u32) {
        let replica = v1::Replica { broker_id: 2, incarnation: bytes_of(run) };
        let add = vec![partition];
        self.ask(v1::FetchRequest { replica: Some(replica), add, max_wait_ms, ..round(0) }).await;
    }

    async fn tell(&mut self, handle: u32, offset: i64, max_wait_ms: u32) {
        let progress = vec![v1::ReplicaProgress { handle, offset, log_start_offset: 0 }];
        self.ask(v1::FetchRequest { progress, ..round(max_wait_ms) }).await;
    }

    /// The messages of the next round that ends.
    async fn answers(&mut self) -> Vec<v1::FetchResponse> {
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

    async fn refusal(&mut self) -> ErrorCode {
        let answers = self.answers().await;
        ErrorCode::from_code(answers[0].error.as_ref().unwrap().code)
    }
}

fn round(max_wait_ms: u32) -> v1::FetchRequest {
    v1::FetchRequest { max_wait_ms, ..Default::default() }
}

fn bytes_of(run: u128) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(Uuid::from_u128(run).as_bytes())
}

fn records(message: &v1::FetchResponse) -> usize {
    Batches::new(&message.records).map(|batch| batch.unwrap().records().count()).sum()
}

fn leadership(epoch: i32, replicas: &[i32], isr: &[i32]) -> Leadership {
    led(epoch, epoch, replicas, isr)
}

/// Topic "t", led by broker 1 in epoch 1 with broker 2, both in sync.
async fn cluster() -> Server {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig { min_insync_replicas: 2, ..LogConfig::default() });
    server.register(BrokerId(2), Uuid::from_u128(RUN));
    partition(&server).lead(BrokerId(1), &leadership(1, &[1, 2], &[1, 2])).unwrap();
    server
}

fn partition(server: &Server) -> std::sync::Arc<crate::replication::Partition> {
    server.rig.partitions.find("t", topic_id("t"), 0).unwrap()
}

#[tokio::test]
async fn a_follower_reads_to_the_log_end_and_consumers_to_the_high_watermark() {
    let server = cluster().await;
    server.append("t", 0, 3, 10);
    let mut consumer = Stream::open(&server).await;
    consumer.ask(v1::FetchRequest { add: vec![handle(1, "t", 0)], ..round(0) }).await;
    assert!(consumer.answers().await.is_empty(), "nothing is committed yet");
    consumer.ask(round(20_000)).await;
    let mut follower = Stream::open(&server).await;
    follower.follow(RUN, handle(1, "t", 0), 0).await;
    let answers = follower.answers().await;
    assert_eq!((records(&answers[0]), answers[0].high_watermark), (3, 0));
    let window = partition(&server).log().producer_window();
    assert_eq!(answers[0].producer_window, u32::from(window));
    // What was sent is not what is held.
    assert_eq!(partition(&server).log().high_watermark(), Offset(0));
    let start = Instant::now();
    follower.tell(1, 3, 20_000).await;
    let seen = consumer.answers().await;
    assert_eq!((records(&seen[0]), seen[0].high_watermark), (3, 3));
    // The follower is told of the high watermark alone.
    let news = follower.answers().await;
    assert_eq!((news.len(), news[0].high_watermark, news[0].next_offset), (1, 3, 3));
    assert!(news[0].records.is_empty() && start.elapsed() < Duration::from_secs(5));
    // Once: nothing more has moved.
    follower.ask(round(50)).await;
    assert!(follower.answers().await.is_empty());
}

#[tokio::test]
async fn rounds_are_pipelined_and_progress_ends_a_round_without_records() {
    let server = cluster().await;
    let mut follower = Stream::open(&server).await;
    follower.follow(RUN, handle(1, "t", 0), 20_000).await;
    assert_eq!(follower.answers().await[0].high_watermark, 0, "where it stands, at first");
    follower.ask(round(20_000)).await;
    let start = Instant::now();
    for end in 1..=5 {
        server.append("t", 0, 1, 10);
        let answers = follower.answers().await;
        assert_eq!(answers[0].next_offset, end);
        follower.ask(round(20_000)).await;
        follower.tell(1, end, 20_000).await;
        // The round before, which what is told does not wait for.
        follower.answers().await;
        let log = partition(&server);
        while log.log().high_watermark().0 < end {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Tells the high watermark; another round for the next records.
        assert_eq!(follower.answers().await[0].high_watermark, end);
        follower.ask(round(20_000)).await;
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn acks_of_all_are_answered_when_the_follower_has_told() {
    let server = cluster().await;
    let (sender, mut receiver) = server.stream("/ottla.v1.Log/ProduceStream").await;
    let record = || batch(1, 20, ProducerStamp::NONE);
    let all = |id| v1::ProduceRequest { acks: v1::Acks::All.into(), ..produce("t", id, record()) };
    sender.send_message(&all(1)).await.unwrap();
    sender.send_message(&produce("t", 2, record())).await.unwrap();
    let short = v1::ProduceRequest { timeout_ms: 100, ..all(3) };
    sender.send_message(&short).await.unwrap();
    let mut acks = Vec::new();
    while acks.len() < 2 {
        let message = receiver.recv().await.unwrap().unwrap();
        acks.extend(message.decode::<v1::ProduceResponse>().unwrap().acks);
    }
    assert_eq!((acks[0].request_id, acks[0].error.is_none()), (2, true));
    let timed_out = acks[1].error.as_ref().unwrap().code;
    assert_eq!(
        (acks[1].request_id, ErrorCode::from_code(timed_out)),
        (3, ErrorCode::RequestTimedOut)
    );
    let mut follower = Stream::open(&server).await;
    // Where it begins counts as what it has.
    follower.follow(RUN, handle(1, "t", 1), 0).await;
    follower.answers().await;
    let message = receiver.recv().await.unwrap().unwrap();
    let acks = message.decode::<v1::ProduceResponse>().unwrap().acks;
    assert_eq!((acks.len(), acks[0].request_id, acks[0].base_offset), (1, 1, 0));
    assert!(acks[0].error.is_none());
}

#[tokio::test]
async fn another_run_of_the_broker_counts_for_nothing() {
    let server = cluster().await;
    server.append("t", 0, 3, 10);
    let mut zombie = Stream::open(&server).await;
    zombie.follow(RUN + 1, handle(1, "t", 3), 20_000).await;
    assert_eq!(zombie.refusal().await, ErrorCode::StaleBrokerEpoch);
    // One that was registered when it began, and is not when it tells.
    let mut follower = Stream::open(&server).await;
    follower.follow(RUN, handle(1, "t", 0), 0).await;
    assert_eq!(records(&follower.answers().await[0]), 3);
    server.register(BrokerId(2), Uuid::from_u128(RUN + 1));
    follower.tell(1, 3, 20_000).await;
    assert_eq!(follower.refusal().await, ErrorCode::StaleBrokerEpoch);
    assert_eq!(partition(&server).log().high_watermark(), Offset(0));
}

#[tokio::test]
async fn who_is_no_replica_or_tells_what_cannot_be_is_told_so() {
    let server = cluster().await;
    server.append("t", 0, 1, 10);
    server.register(BrokerId(3), Uuid::from_u128(33));
    let mut stranger = Stream::open(&server).await;
    let replica = Some(v1::Replica { broker_id: 3, incarnation: bytes_of(33) });
    let add = vec![handle(1, "t", 0)];
    stranger.ask(v1::FetchRequest { replica, add, ..round(20_000) }).await;
    assert_eq!(stranger.refusal().await, ErrorCode::ReplicaNotAvailable);
    let mut ahead = Stream::open(&server).await;
    ahead.follow(RUN, handle(1, "t", 2), 20_000).await;
    assert_eq!(ahead.refusal().await, ErrorCode::OffsetOutOfRange);
    let mut liar = Stream::open(&server).await;
    liar.follow(RUN, handle(1, "t", 0), 0).await;
    liar.answers().await;
    liar.tell(1, 99, 0).await;
    assert!(liar.answers().await.iter().all(|answer| answer.error.is_none()));
    assert_eq!(partition(&server).log().high_watermark(), Offset(0));
    for request in [
        v1::FetchRequest {
            progress: vec![v1::ReplicaProgress { handle: 1, offset: 1, log_start_offset: 0 }],
            ..round(0)
        },
        v1::FetchRequest {
            replica: Some(v1::Replica { broker_id: 2, incarnation: vec![1].into() }),
            ..round(0)
        },
    ] {
        let mut odd = Stream::open(&server).await;
        odd.ask(request).await;
        assert!(odd.receiver.recv().await.is_err(), "the stream ends with a status");
    }
}

#[tokio::test]
async fn who_has_another_history_is_told_where_the_logs_part() {
    let server = cluster().await;
    // Epoch 1 has [0, 3), epoch 4 what follows.
    server.append("t", 0, 3, 10);
    partition(&server).lead(BrokerId(1), &leadership(4, &[1, 2], &[1, 2])).unwrap();
    server.append("t", 0, 3, 10);
    let last = |epoch, offset| v1::FetchPartition {
        last_fetched_epoch: Some(epoch),
        ..handle(1, "t", offset)
    };
    let end = |leader_epoch, end_offset| Some(v1::EpochEnd { leader_epoch, end_offset });
    let answer = async |from: &v1::FetchPartition, is_follower: bool| {
        let mut stream = Stream::open(&server).await;
        match is_follower {
            true => stream.follow(RUN, from.clone(), 0).await,
            false => stream.ask(v1::FetchRequest { add: vec![from.clone()], ..round(0) }).await,
        }
        stream.answers().await.into_iter().next().unwrap_or_default()
    };
    for (from, diverging) in [
        (last(1, 5), end(1, 3)),
        (last(2, 5), end(1, 3)),
        (last(9, 6), end(4, 6)),
        (last(0, 2), end(-1, 0)),
    ] {
        for is_follower in [true, false] {
            let answer = answer(&from, is_follower).await;
            assert_eq!((answer.diverging, answer.error), (diverging, None), "{from:?}");
        }
    }
    assert_eq!(partition(&server).log().high_watermark(), Offset(0), "none of it counts");
    for from in [last(1, 3), last(4, 6), last(0, 0)] {
        for is_follower in [true, false] {
            let answer = answer(&from, is_follower).await;
            assert_eq!((answer.diverging, answer.error), (None, None), "{from:?}");
        }
    }
    assert_eq!(partition(&server).log().high_watermark(), Offset(6));
}

#[tokio::test]
async fn latest_is_not_known_before_the_high_watermark_has_come_to_the_new_epoch() {
    let server = cluster().await;
    server.append("t", 0, 2, 10);
    let partition = partition(&server);
    partition.follow(LeaderEpoch(2));
    partition.lead(BrokerId(1), &leadership(3, &[1, 2], &[1, 2])).unwrap();
    let latest = async || {
        let mut client = client(&server).await;
        let query = v1::OffsetQuery { topic: "t".into(), timestamp_ms: -1, ..Default::default() };
        let request = v1::ListOffsetsRequest { queries: vec![query] };
        client.list_offsets(request).await.unwrap().into_inner().answers.remove(0)
    };
    let error = latest().await.error.unwrap();
    assert_eq!(ErrorCode::from_code(error.code), ErrorCode::OffsetNotAvailable);
    let mut follower = Stream::open(&server).await;
    follower.follow(RUN, handle(1, "t", 2), 0).await;
    follower.answers().await;
    let answer = latest().await;
    assert_eq!((answer.error, answer.offset), (None, 2));
}
