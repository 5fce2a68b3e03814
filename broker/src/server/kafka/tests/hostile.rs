//! Peers that lie, stall, or speak something else.

use std::time::{Duration, Instant};

use proto::kafka::messages::*;
use proto::kafka::{ApiKey, encode_request};
use proto::record::ProducerStamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::dispatch::ADVERTISED;
use super::rig::{Client, Server, batch, fetch, produce};
use crate::storage::LogConfig;

/// Mutated frames sent; more by the environment.
fn rounds() -> u64 {
    std::env::var("OTTLA_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

#[tokio::test]
async fn no_frame_takes_the_server_down() {
    let server = Server::start(&["socket.stalled.timeout.ms=200"]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..rounds() {
        let (api, versions) = &ADVERTISED[random.usize(..ADVERTISED.len())];
        let version = random.i16(versions.clone());
        let mut frame = match api {
            ApiKey::Produce => {
                let records = batch(2, 20, ProducerStamp::NONE);
                encode_request(version, 1, None, &produce(1, "t", records)).join().unwrap()
            }
            ApiKey::Fetch => encode_request(version, 1, None, &fetch("t", 0)).join().unwrap(),
            _ => {
                let body: Vec<u8> = (0..random.usize(..60)).map(|_| random.u8(..)).collect();
                let mut frame = vec![0; 4];
                frame.extend(api.code().to_be_bytes());
                frame.extend(version.to_be_bytes());
                frame.extend([0, 0, 0, 1, 0xff, 0xff]);
                frame.extend(body);
                let size = (frame.len() - 4) as i32;
                frame[..4].copy_from_slice(&size.to_be_bytes());
                frame
            }
        };
        // Behind the head: what comes before is another test's.
        for _ in 0..random.usize(..4) {
            let at = random.usize(12..frame.len());
            frame[at] = [0, 1, 0x7f, 0x80, 0xff, random.u8(..)][random.usize(..6)];
        }
        let mut client = Client::connect(&server).await;
        client.send_raw(&frame).await;
        client.socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = client.socket.read_to_end(&mut answer).await;
    }
    let mut client = Client::connect(&server).await;
    assert_eq!(client.call(4, &ApiVersionsRequest::default()).await.error_code, 0);
}

#[tokio::test]
async fn half_a_frame_is_waited_for_no_longer_than_a_stall() {
    let server = Server::start(&["socket.stalled.timeout.ms=200"]).await;
    let begun = Instant::now();
    for half in [&[0, 0][..], &[0, 0, 1, 0, 0, 18], &[0x00, 0x40, 0, 0, 0, 0]] {
        let mut client = Client::connect(&server).await;
        client.send_raw(half).await;
        assert_eq!(client.frame().await, None);
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    // Such a peer holds nothing that others need.
    let mut client = Client::connect(&server).await;
    client.call(4, &ApiVersionsRequest::default()).await;
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_cut_off() {
    let server = Server::start(&["socket.stalled.timeout.ms=300"]).await;
    server.topic("t", 1, &LogConfig::default());
    for _ in 0..40 {
        server.append("t", 0, 10, 50_000);
    }
    let mut client = Client::connect(&server).await;
    let mut request = fetch("t", 0);
    request.topics[0].partitions[0].partition_max_bytes = i32::MAX;
    for _ in 0..3 {
        client.send(12, &request).await;
    }
    // Reads nothing for longer than the limit; then there is less than was asked for.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let mut taken = Vec::new();
    let ended = client.socket.read_to_end(&mut taken).await;
    assert!(ended.is_err() || taken.len() < 50 << 20, "{} bytes", taken.len());
    assert_eq!(server.metrics.connections_stalled.get(), 1);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let settings = ["connections.max.idle.ms=1000", "socket.stalled.timeout.ms=300"];
    let server = Server::start(&settings).await;
    server.topic("t", 1, &LogConfig::default());
    let mut busy = Client::connect(&server).await;
    let poll = FetchRequest { max_wait_ms: 2_500, min_bytes: 1, ..fetch("t", 0) };
    let id = busy.send(11, &poll).await;
    let mut idle = Client::connect(&server).await;
    let begun = Instant::now();
    assert_eq!(idle.frame().await, None);
    assert!(begun.elapsed() >= Duration::from_millis(900));
    busy.receive::<FetchRequest>(11, id).await;
}

#[tokio::test]
async fn connections_above_the_limit_are_closed_at_once() {
    let server = Server::start(&["max.connections=2"]).await;
    let mut kept = [Client::connect(&server).await, Client::connect(&server).await];
    for client in &mut kept {
        client.call(0, &ApiVersionsRequest::default()).await;
    }
    let mut refused = Client::connect(&server).await;
    assert_eq!(refused.frame().await, None);
}
