//! The producer while leadership moves: pushed changes are followed before anything fails, a leader that
//! hangs is left, a partition without one waits alone.

use std::time::Duration;

use producer_client::{Producer, ProducerConfig, Record, SendError};

use crate::broker::{Brokers, Faults};

const PUSHES: Faults = Faults {
    drop_before: 0,
    drop_after: 0,
    error_before: 0,
    error_after: 0,
    end_stream: 0,
    stall: 0,
    stall_for: Duration::ZERO,
    late: 0,
    move_leader: 0,
    reorder: false,
    slow: false,
    pushes: true,
    batch_len_max: 0,
    poison: None,
};

fn config(brokers: &Brokers) -> ProducerConfig {
    ProducerConfig {
        linger: Duration::from_millis(1),
        batch_size: 400,
        ..ProducerConfig::new(brokers.bootstrap())
    }
}

fn record(number: usize) -> String {
    format!("{number:08}")
}

/// Nothing here may hang.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("must not hang")
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let mut waited = Duration::ZERO;
    while !holds() {
        assert!(waited < Duration::from_secs(20), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
        waited += Duration::from_millis(5);
    }
}

#[tokio::test]
async fn a_pushed_change_is_followed_before_anything_fails() {
    let brokers = Brokers::start(1, 3, 1, PUSHES).await;
    let producer = Producer::start(config(&brokers)).unwrap();
    producer.send(Record::to("t").partition(0).value("first")).await.unwrap();
    until("a stream", || producer.stats().metadata_pushes > 0).await;
    for turn in 1..10 {
        brokers.lead(0, turn % 3);
        until("the change", || producer.stats().leader_changes == turn as u64).await;
        soon(producer.send(Record::to("t").partition(0).value("next"))).await.unwrap();
    }
    assert_eq!(brokers.lock().astray, 0, "the new leader was known all the time");
    assert_eq!(brokers.log(0).len(), 10);
    assert_eq!(producer.stats().metadata_refreshes, 1);
}

/// Neither the retries that failed with the old leader nor `retry.backoff.ms` hold up what goes to a new one
/// that does not know of it yet.
#[tokio::test]
async fn a_new_leader_that_does_not_know_yet_is_asked_again_soon() {
    let brokers = Brokers::start(1, 3, 1, PUSHES).await;
    let config = ProducerConfig {
        retry_backoff: Duration::from_secs(90),
        retry_backoff_max: Duration::from_secs(90),
        ..config(&brokers)
    };
    let producer = Producer::start(config).unwrap();
    producer.send(Record::to("t").partition(0).value("first")).await.unwrap();
    for turn in 1..6 {
        brokers.lead_later(0, turn % 3, Duration::from_millis(30));
        soon(producer.send(Record::to("t").partition(0).value("next"))).await.unwrap();
    }
    assert_eq!(brokers.log(0).len(), 6);
}

#[tokio::test]
async fn a_leader_that_hangs_is_left_once_another_leads() {
    for seed in 0..4 {
        let brokers = Brokers::start(seed, 2, 2, PUSHES).await;
        brokers.lead(1, 0);
        // Nobody waits for the request's timeout.
        let config = ProducerConfig {
            request_timeout: Duration::from_secs(60),
            max_in_flight: [1, 5, 128, 128][seed as usize],
            enable_idempotence: Some(seed != 3),
            ..config(&brokers)
        };
        let producer = Producer::start(config).unwrap();
        let mut sent = Vec::new();
        for number in 0..600 {
            if number == 200 {
                brokers.hang(0);
            }
            if number == 400 {
                // What is under way is taken by the hung one for sure.
                tokio::time::sleep(Duration::from_millis(20)).await;
                (0..2).for_each(|partition| brokers.lead(partition, 1));
            }
            let value = record(number);
            let mut future =
                producer.send(Record::to("t").partition(number as i32 % 2).value(&value));
            soon(future.accepted()).await.unwrap();
            sent.push(future);
        }
        for future in sent {
            soon(future).await.unwrap();
        }
        for partition in 0..2 {
            let expected: Vec<String> =
                (0..600).filter(|n| n % 2 == partition).map(record).collect();
            assert_eq!(brokers.log(partition), expected, "seed {seed}");
        }
    }
}

#[tokio::test]
async fn a_partition_without_a_leader_waits_alone_and_its_timeout_says_why() {
    let brokers = Brokers::start(1, 2, 2, PUSHES).await;
    let config = ProducerConfig {
        request_timeout: Duration::from_millis(300),
        delivery_timeout: Duration::from_millis(600),
        ..config(&brokers)
    };
    let producer = Producer::start(config).unwrap();
    brokers.lead(0, -1);
    let waiting = producer.send(Record::to("t").partition(0).value("too late"));
    for number in 0..100 {
        let value = record(number);
        soon(producer.send(Record::to("t").partition(1).value(&value))).await.unwrap();
    }
    let error = soon(waiting).await.unwrap_err();
    assert!(matches!(error, SendError::DeliveryTimeout { in_doubt: false, .. }), "{error}");
    assert!(error.to_string().contains("no live broker leads the partition"), "{error}");
    let waiting = producer.send(Record::to("t").partition(0).value("in time"));
    brokers.lead(0, 1);
    soon(waiting).await.unwrap();
    assert_eq!(brokers.log(0), ["in time"]);
    assert_eq!(brokers.log(1).len(), 100);
}

#[tokio::test]
async fn too_few_replicas_are_waited_for_and_named_at_the_timeout() {
    let faults = Faults { error_before: 1000, ..PUSHES };
    let brokers = Brokers::start(1, 1, 1, faults).await;
    let config = ProducerConfig {
        request_timeout: Duration::from_millis(200),
        delivery_timeout: Duration::from_millis(400),
        retry_backoff: Duration::from_millis(10),
        retry_backoff_max: Duration::from_millis(50),
        ..config(&brokers)
    };
    let producer = Producer::start(config).unwrap();
    let error = soon(producer.send(Record::to("t").value("v"))).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("min.insync.replicas") && !error.in_doubt(), "{text}");
    // Nothing came back at once: waits double from 10 ms.
    let requests = brokers.lock().requests;
    assert!((2..=20).contains(&requests), "{requests} requests");
    let waiting = producer.send(Record::to("t").value("v"));
    brokers.lock().faults = PUSHES;
    soon(waiting).await.unwrap();
}
