//! The whole producer against brokers that misbehave by seed: nothing acknowledged is lost, nothing
//! is there twice, order holds in each partition.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;
use producer_client::{
    Acks, Compression, MessageSet, Producer, ProducerConfig, Record, RecordMetadata, SendError,
};
use proto::record::BatchBuilder;

use crate::broker::{Brokers, Faults};

const PARTITIONS: usize = 3;

fn config(brokers: &Brokers) -> ProducerConfig {
    ProducerConfig {
        linger: Duration::from_millis(1),
        batch_size: 400,
        retry_backoff: Duration::from_millis(1),
        retry_backoff_max: Duration::from_millis(10),
        reconnect_backoff: Duration::from_millis(1),
        reconnect_backoff_max: Duration::from_millis(10),
        request_timeout: Duration::from_millis(500),
        delivery_timeout: Duration::from_secs(60),
        ..ProducerConfig::new(brokers.bootstrap())
    }
}

fn value(number: usize) -> String {
    format!("{number:08}")
}

struct Sent {
    number: usize,
    result: Result<RecordMetadata, SendError>,
}

/// Sends `count` numbered records over all partitions and waits for all of them.
async fn send_all(producer: &Producer, count: usize, rng: &mut Rng) -> Vec<Sent> {
    let mut futures = Vec::with_capacity(count);
    for number in 0..count {
        let value = value(number);
        let record = Record::to("t").partition((number % PARTITIONS) as i32).value(&value);
        let mut future = producer.send(record);
        // Back-pressure without waiting for every acknowledgement.
        let _ = future.accepted().await;
        futures.push(future);
        if rng.u32(..50) == 0 {
            tokio::time::sleep(Duration::from_millis(rng.u64(..3))).await;
        }
    }
    let mut sent = Vec::with_capacity(count);
    for (number, future) in futures.into_iter().enumerate() {
        sent.push(Sent { number, result: future.await });
    }
    sent
}

/// The codecs in turn.
fn codec(seed: u64) -> Compression {
    Compression::ALL[seed as usize % Compression::ALL.len()]
}

/// The promises, for everything that was sent.
fn check(brokers: &Brokers, sent: &[Sent]) {
    let logs: Vec<Vec<String>> = (0..PARTITIONS)
        .map(|p| brokers.log(p).iter().map(|v| String::from_utf8(v.to_vec()).unwrap()).collect())
        .collect();
    for (partition, log) in logs.iter().enumerate() {
        assert!(log.is_sorted_by(|a, b| a < b), "partition {partition}: twice or out of order");
    }
    let there: HashSet<&str> = logs.iter().flatten().map(String::as_str).collect();
    for Sent { number, result } in sent {
        let value = value(*number);
        match result {
            Ok(place) => {
                assert_eq!(place.partition as usize, number % PARTITIONS);
                assert!(there.contains(value.as_str()), "{value} was acknowledged and is lost");
                if let Some(offset) = place.offset {
                    let found = &logs[place.partition as usize][offset.0 as usize];
                    assert_eq!(*found, value, "at offset {offset}");
                }
            }
            Err(error) if !error.in_doubt() => {
                assert!(!there.contains(value.as_str()), "{value} is there although: {error}");
            }
            Err(_) => {}
        }
    }
}

fn faults(rng: &mut Rng) -> Faults {
    let mut rarely = |max: u32| if rng.bool() { rng.u32(..max) } else { 0 };
    Faults {
        drop_before: rarely(20),
        drop_after: rarely(20),
        error_before: rarely(40),
        error_after: rarely(40),
        end_stream: rarely(20),
        late: rarely(20),
        move_leader: rarely(20),
        stall: 0,
        stall_for: Duration::ZERO,
        reorder: rng.bool(),
        slow: rng.bool(),
        pushes: rng.bool(),
        batch_len_max: 0,
        poison: None,
    }
}

async fn over_seeds<F: Future<Output = ()> + Send + 'static>(
    seeds: std::ops::Range<u64>,
    run: impl Fn(u64) -> F,
) {
    let mut running = tokio::task::JoinSet::new();
    for seed in seeds {
        if running.len() >= 16 {
            running.join_next().await.unwrap().unwrap();
        }
        let run = run(seed);
        running.spawn(async move {
            let outcome = tokio::spawn(run).await;
            assert!(outcome.is_ok(), "seed {seed}");
        });
    }
    while let Some(outcome) = running.join_next().await {
        outcome.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_lost_twice_or_out_of_order_whatever_breaks() {
    // The same against a model over 1,500 seeds: `idempotence::tests`.
    over_seeds(0..100, async |seed| {
        let mut rng = Rng::with_seed(seed);
        let brokers = Brokers::start(seed, 1 + rng.usize(..3), PARTITIONS, faults(&mut rng)).await;
        let mut config = config(&brokers);
        config.max_in_flight = [1, 2, 5, 32, 128][rng.usize(..5)];
        config.acks = if rng.bool() { Acks::All } else { Acks::Leader };
        config.compression = codec(seed);
        let producer = Producer::start(config).unwrap();
        let sent = send_all(&producer, 1500, &mut rng).await;
        for sent in &sent {
            assert!(sent.result.is_ok(), "{:?}", sent.result);
        }
        check(&brokers, &sent);
        producer.close(Duration::from_secs(5)).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn timeouts_in_the_middle_break_nothing_after_them() {
    static TIMED_OUT: AtomicUsize = AtomicUsize::new(0);
    over_seeds(1000..1032, async |seed| {
        let mut rng = Rng::with_seed(seed);
        let mut faults = faults(&mut rng);
        faults.stall = 4;
        faults.stall_for = Duration::from_millis(rng.u64(100..1200));
        let brokers = Brokers::start(seed, 2, PARTITIONS, faults).await;
        let mut config = config(&brokers);
        config.request_timeout = Duration::from_millis(250);
        config.delivery_timeout = Duration::from_millis(600);
        let producer = Producer::start(config).unwrap();
        let sent = send_all(&producer, 1500, &mut rng).await;
        let timed_out = sent.iter().filter(|sent| sent.result.is_err()).count();
        TIMED_OUT.fetch_add(timed_out, Ordering::Relaxed);
        // What is in doubt may still arrive.
        tokio::time::sleep(Duration::from_millis(1300)).await;
        check(&brokers, &sent);
        // The producer goes on as if nothing had been.
        brokers.lock().faults = Faults::default();
        tokio::time::sleep(Duration::from_millis(100)).await;
        // (The machine may be too busy for the short timeouts, so there is more than one try.)
        for last in 99_999_000..99_999_020 {
            let last = last.to_string();
            if producer.send(Record::to("t").partition(0).value(&last)).await.is_ok() {
                let log = brokers.log(0);
                assert!(log.is_sorted_by(|a, b| a < b) && *log.last().unwrap() == last);
                let _ = producer.close(Duration::from_secs(5)).await;
                return;
            }
        }
        panic!("nothing arrives after the faults");
    })
    .await;
    assert!(TIMED_OUT.load(Ordering::Relaxed) > 0, "the stalls are too short for the timeout");
}

#[tokio::test]
async fn a_refused_batch_fails_alone() {
    over_seeds(2000..2020, async |seed| {
        let mut rng = Rng::with_seed(seed);
        let faults = Faults { poison: Some("77"), ..faults(&mut rng) };
        let brokers = Brokers::start(seed, 2, PARTITIONS, faults).await;
        let producer = Producer::start(config(&brokers)).unwrap();
        let sent = send_all(&producer, 1500, &mut rng).await;
        check(&brokers, &sent);
        let refused = sent.iter().filter(|sent| sent.result.is_err()).count();
        assert!(refused > 0 && refused < 1000, "{refused}");
        for sent in sent.iter().filter(|sent| value(sent.number).contains("77")) {
            assert!(matches!(sent.result, Err(SendError::Rejected { .. })));
        }
        assert_eq!(producer.stats().failed as usize, refused);
        let error = producer.close(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.failed as usize, refused);
    })
    .await;
}

#[tokio::test]
async fn batches_are_compressed_and_their_memory_is_given_back() {
    for codec in Compression::ALL {
        let brokers = Brokers::start(1, 1, PARTITIONS, Faults::default()).await;
        let config = ProducerConfig {
            compression: codec,
            batch_size: 20_000,
            linger: Duration::from_secs(30),
            gzip_level: Some(9),
            zstd_level: -5,
            ..config(&brokers)
        };
        let producer = Producer::start(config).unwrap();
        producer.send(Record::to("t").partition(0).value("")).accepted().await.unwrap();
        let futures: Vec<_> = (0..3000)
            .map(|number| {
                let partition = (number % PARTITIONS) as i32;
                producer.send(Record::to("t").partition(partition).value(&value(number)))
            })
            .collect();
        producer.flush().await.unwrap();
        for (number, future) in futures.into_iter().enumerate() {
            let place = future.await.unwrap();
            let log = brokers.log(number % PARTITIONS);
            assert_eq!(log[place.offset.unwrap().0 as usize], value(number));
        }
        let stats = producer.stats();
        let others = |codecs: [usize; 5]| codecs.iter().sum::<usize>() - codecs[codec as usize];
        assert_eq!(others(brokers.lock().codecs), 0, "{codec}");
        let rate = stats.compression_rate().unwrap();
        assert!(if codec == Compression::None { rate == 1.0 } else { rate < 0.7 }, "{rate}");
        assert_eq!(stats.acknowledged_bytes, stats.compressed_bytes);
        assert_eq!(stats.buffered_bytes, 0);
    }
}

#[tokio::test]
async fn a_batch_that_is_too_large_for_its_topic_goes_on_in_pieces() {
    over_seeds(3000..3030, async |seed| {
        let mut rng = Rng::with_seed(seed);
        let faults = Faults { batch_len_max: rng.usize(100..380), ..faults(&mut rng) };
        let brokers = Brokers::start(seed, 2, PARTITIONS, faults).await;
        let mut config = config(&brokers);
        config.enable_idempotence = Some(seed % 4 != 0);
        config.compression = codec(seed);
        let idempotent = config.is_idempotent();
        let producer = Producer::start(config).unwrap();
        let sent = send_all(&producer, 1500, &mut rng).await;
        for sent in &sent {
            assert!(sent.result.is_ok(), "{:?}", sent.result);
        }
        if idempotent {
            check(&brokers, &sent);
        }
        assert_eq!(producer.stats().acknowledged, 1500);
        producer.close(Duration::from_secs(5)).await.unwrap();
        assert_eq!(producer.stats().buffered_bytes, 0);
        // A record that is too large alone is refused.
        let producer = Producer::start(self::config(&brokers)).unwrap();
        let large = "x".repeat(500);
        let error = producer.send(Record::to("t").value(&large)).await.unwrap_err();
        assert_eq!(error.code(), Some(proto::ErrorCode::MessageTooLarge), "{error}");
    })
    .await;
}

#[tokio::test]
async fn many_batches_are_in_flight_with_idempotence_and_one_without() {
    for (idempotent, most) in [(true, 64), (false, PARTITIONS)] {
        let faults = Faults { slow: true, reorder: true, ..Faults::default() };
        let brokers = Brokers::start(1, 1, PARTITIONS, faults).await;
        let mut config = config(&brokers);
        config.enable_idempotence = Some(idempotent);
        let producer = Producer::start(config).unwrap();
        let sent = send_all(&producer, 3000, &mut Rng::with_seed(1)).await;
        assert!(sent.iter().all(|sent| sent.result.is_ok()));
        check(&brokers, &sent);
        let widest = brokers.lock().widest;
        assert!(widest <= most, "{widest} answers were due at once");
        assert!(!idempotent || widest > PARTITIONS, "nothing was pipelined: {widest}");
    }
}

#[tokio::test]
async fn without_acknowledgements_all_is_written_in_order() {
    let brokers = Brokers::start(1, 1, PARTITIONS, Faults::default()).await;
    let config = ProducerConfig { acks: Acks::None, ..config(&brokers) };
    let producer = Producer::start(config).unwrap();
    let sent = send_all(&producer, 2000, &mut Rng::with_seed(1)).await;
    assert!(sent.iter().all(|sent| matches!(sent.result, Ok(place) if place.offset.is_none())));
    producer.close(Duration::from_secs(5)).await.unwrap();
    check(&brokers, &sent);
}

#[tokio::test]
async fn a_gap_in_what_the_broker_remembers_is_overcome() {
    let brokers = Brokers::start(1, 1, PARTITIONS, Faults::default()).await;
    let producer = Producer::start(config(&brokers)).unwrap();
    for number in 0..10 {
        producer.send(Record::to("t").partition(0).value(&value(number))).await.unwrap();
    }
    brokers.lose_tail(0, 3);
    for number in 10..20 {
        producer.send(Record::to("t").partition(0).value(&value(number))).await.unwrap();
    }
    let log = brokers.log(0);
    let expected: Vec<String> = (0..7).chain(10..20).map(value).collect();
    assert_eq!(log, expected);
}

#[tokio::test]
async fn a_topic_made_again_gets_what_follows() {
    let brokers = Brokers::start(1, 1, PARTITIONS, Faults::default()).await;
    let producer = Producer::start(config(&brokers)).unwrap();
    producer.send(Record::to("t").partition(1).value("old")).await.unwrap();
    brokers.recreate_topic();
    for number in 0..50 {
        producer.send(Record::to("t").partition(1).value(&value(number))).await.unwrap();
    }
    assert_eq!(brokers.log(1), (0..50).map(value).collect::<Vec<_>>());
}

/// Records of `value(0)` that go into one batch of `size` bytes.
fn batch_capacity(size: usize) -> usize {
    let (mut builder, value) = (BatchBuilder::new(size), value(0));
    std::iter::from_fn(|| builder.append(0, None, Some(value.as_bytes()), &[]).ok()).count()
}

#[tokio::test]
async fn senders_wait_when_exactly_the_memory_is_taken() {
    let brokers = Brokers::start(1, 2, 1, Faults { pushes: true, ..Faults::default() }).await;
    brokers.hang(0);
    let mut config = config(&brokers);
    (config.buffer_memory, config.batch_size) = (64 << 10, 4 << 10);
    // Batches are full when they go, and nobody gives up.
    (config.linger, config.request_timeout) = (Duration::from_secs(20), Duration::from_secs(30));
    let producer = Producer::start(config).unwrap();
    let room = 16 * batch_capacity(4 << 10);
    for number in 0..room + 20 {
        let value = value(number);
        let record = Record::to("t").partition(0).timestamp(0).value(&value);
        let mut future = producer.send(record);
        if number == 0 {
            // Until the topic is known.
            future.accepted().await.unwrap();
        }
        let accepted = tokio::time::timeout(Duration::ZERO, future.accepted()).await.is_ok();
        assert_eq!(accepted, number < room, "record {number}, there is room for {room}");
    }
    let stats = producer.stats();
    assert_eq!((stats.buffered_bytes, stats.acknowledged), (64 << 10, 0));
    producer.close(Duration::from_millis(1)).await.unwrap_err();
    assert_eq!(producer.stats().failed as usize, room + 20);
    assert_eq!(producer.stats().buffered_bytes, 0);
}

#[tokio::test]
async fn senders_of_several_threads_wait_their_turn() {
    let faults = Faults { slow: true, ..Faults::default() };
    let brokers = Brokers::start(1, 1, PARTITIONS, faults).await;
    let mut config = config(&brokers);
    config.buffer_memory = 64 << 10;
    config.batch_size = 4 << 10;
    let producer = Producer::start(config).unwrap();
    let threads: Vec<_> = (0..3)
        .map(|thread| {
            let producer = producer.clone();
            std::thread::spawn(move || {
                for number in 0..2_500 {
                    let value = value(number);
                    let record = Record::to("t").partition(thread).value(&value);
                    producer.send_detached(record).unwrap();
                    assert!(producer.stats().buffered_bytes <= 64 << 10);
                }
            })
        })
        .collect();
    let joined = tokio::task::spawn_blocking(|| threads.into_iter().all(|t| t.join().is_ok()));
    assert!(joined.await.unwrap());
    producer.flush().await.unwrap();
    for partition in 0..PARTITIONS {
        assert_eq!(brokers.log(partition), (0..2_500).map(value).collect::<Vec<_>>());
    }
    let stats = producer.stats();
    assert_eq!((stats.acknowledged, stats.failed, stats.buffered_bytes), (7_500, 0, 0));
}

#[tokio::test]
async fn missing_topics_and_oversized_records_are_told_apart() {
    let brokers = Brokers::start(1, 1, PARTITIONS, Faults::default()).await;
    let mut config = config(&brokers);
    config.max_block = Duration::from_millis(100);
    let producer = Producer::start(config).unwrap();
    let error = producer.send(Record::to("nope").value("v")).await.unwrap_err();
    assert!(matches!(error, SendError::TopicNotAvailable { .. }), "{error}");
    assert!(error.to_string().contains("no topic"), "{error}");
    let error = producer.send(Record::to("bad name").value("v")).await.unwrap_err();
    assert!(matches!(error, SendError::Rejected { .. }), "{error}");
    let error = producer.send(Record::to("t").partition(9).value("v")).await.unwrap_err();
    assert!(matches!(error, SendError::UnknownPartition { count: 3, .. }), "{error}");
    let large = vec![0; 2 << 20];
    let error = producer.send(Record::to("t").value(&large)).await.unwrap_err();
    assert!(matches!(error, SendError::RecordTooLarge { .. }), "{error}");
    producer.send(Record::to("t").value("v")).await.unwrap();
    producer.close(Duration::from_secs(1)).await.unwrap_err();
    let error = producer.send(Record::to("t").value("v")).await.unwrap_err();
    assert!(matches!(error, SendError::Closed { in_doubt: false }), "{error}");
}

#[tokio::test]
async fn no_broker_is_an_error_in_time_and_close_leaves_no_future_hanging() {
    let mut config = ProducerConfig::new(["127.0.0.1:1"]);
    config.max_block = Duration::from_millis(200);
    let producer = Producer::start(config).unwrap();
    let error = producer.send(Record::to("t").value("v")).await.unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    let waiting = producer.send(Record::to("t").value("v"));
    producer.close(Duration::from_millis(20)).await.unwrap_err();
    assert!(matches!(waiting.await, Err(SendError::Closed { in_doubt: false })));
}

#[tokio::test]
async fn a_producer_lives_on_the_callers_runtime() {
    let brokers = Brokers::start(1, 2, PARTITIONS, Faults::default()).await;
    let builder = Producer::builder().config(config(&brokers)).on_current_runtime();
    let producer = builder.start().unwrap();
    let sent = send_all(&producer, 2000, &mut Rng::with_seed(1)).await;
    assert!(sent.iter().all(|sent| sent.result.is_ok()));
    check(&brokers, &sent);
    producer.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_message_set_stays_together() {
    let brokers = Brokers::start(1, 1, PARTITIONS, Faults::default()).await;
    let producer = Producer::start(config(&brokers)).unwrap();
    let result = tokio::task::spawn_blocking(move || {
        let mut set = MessageSet::new();
        (0..200).for_each(|number| _ = set.push(value(number)));
        let place = producer.send_set("t", &set).wait();
        let empty = producer.send_set("t", &MessageSet::new()).wait();
        (place, empty)
    });
    let (place, empty) = result.await.unwrap();
    let place = place.unwrap();
    assert_eq!((place.count, place.first_offset.unwrap().0), (200, 0));
    assert_eq!(place.last_offset.unwrap().0, 199);
    assert_eq!(empty.unwrap().count, 0);
    assert_eq!(brokers.log(place.partition as usize), (0..200).map(value).collect::<Vec<_>>());
}
