//! Peers that lie, dawdle or flood: they lose their connection, nobody else notices.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use proto::record::ProducerStamp;
use proto::v1;
use proto::v1::log_client::LogClient;
use tonic::Code;

use super::rig::{Server, batch, handle, produce};
use crate::storage::LogConfig;

/// Serves on, with nothing held.
async fn still_serves(server: &Server) {
    let mut client = LogClient::new(server.connect().await);
    let records = batch(1, 10, ProducerStamp::NONE);
    let ack = client.produce(produce("t", 1, records)).await.unwrap().into_inner();
    assert_eq!(ack.error, None);
}

/// Reads until the peer closes; fails after 10 s.
fn closed_within_ten_seconds(mut socket: TcpStream) {
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut buffer = [0; 4096];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return;
            }
            Err(error) => panic!("the connection was not closed: {error}"),
        }
    }
}

#[tokio::test]
async fn garbage_on_the_port_is_closed() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let garbage: Vec<u8> =
        (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        &[0xff; 64],
        &garbage,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense",
    ] {
        let (address, bytes) = (server.address, bytes.to_vec());
        let poke = move || {
            let mut socket = TcpStream::connect(address).unwrap();
            // The server may close before all is written.
            let _ = socket.write_all(&bytes);
            let _ = socket.shutdown(std::net::Shutdown::Write);
            closed_within_ten_seconds(socket);
        };
        tokio::task::spawn_blocking(poke).await.unwrap();
    }
    still_serves(&server).await;
}

#[tokio::test]
async fn a_length_prefix_of_two_gib_is_refused_without_taking_memory() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    for path in ["/ottla.v1.Log/ProduceStream", "/ottla.v1.Log/Fetch", "/ottla.v1.Log/Metadata"] {
        let (sender, mut receiver) = server.stream(path).await;
        let prefix = bytes::Bytes::from_static(&[0, 0x7f, 0xff, 0xff, 0xff, 1, 2, 3]);
        sender.send(prefix, bytes::Bytes::new()).await.unwrap();
        let error = receiver.recv().await.unwrap_err().to_string();
        assert!(error.contains("2147483647 bytes"), "{path}: {error}");
    }
    assert_eq!(server.metrics.queued_bytes.get(), 0);
    still_serves(&server).await;
}

#[tokio::test]
async fn messages_that_are_not_what_they_should_be_end_their_call_only() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let connection = server.connect().await;
    for path in ["/ottla.v1.Log/ProduceStream", "/ottla.v1.Log/Fetch"] {
        for bytes in [&[0, 0, 0, 0, 3, 0xff, 0xff, 0xff][..], &[1, 0, 0, 0, 0], &[9, 9, 9, 9, 9]] {
            let (sender, mut receiver) = connection.open_stream(path, 4, 1 << 20);
            let bytes = bytes::Bytes::copy_from_slice(bytes);
            sender.send(bytes, bytes::Bytes::new()).await.unwrap();
            assert!(receiver.recv().await.is_err(), "{path}");
        }
    }
    assert!(!connection.is_closed());
    still_serves(&server).await;
}

#[tokio::test]
async fn a_silent_peer_and_half_a_request_are_cut_off() {
    let server = Server::start(&["socket.stalled.timeout.ms=300"]).await;
    server.topic("t", 1, &LogConfig::default());
    let silent = TcpStream::connect(server.address).unwrap();
    // Half a produce request on a connection that is otherwise healthy.
    let connection = server.connect().await;
    let (sender, mut receiver) = connection.open_stream("/ottla.v1.Log/ProduceStream", 4, 1 << 20);
    let half = bytes::Bytes::from_static(&[0, 0, 1, 0, 0, 1, 2, 3]);
    sender.send(half, bytes::Bytes::new()).await.unwrap();
    assert!(receiver.recv().await.is_err());
    // The stream's task ends a moment after its connection.
    while server.metrics.queued_bytes.get() != 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::task::spawn_blocking(move || closed_within_ten_seconds(silent)).await.unwrap();
    still_serves(&server).await;
}

#[tokio::test]
async fn a_fetch_stream_that_takes_no_byte_is_reset() {
    let server = Server::start(&["socket.stalled.timeout.ms=500"]).await;
    server.topic("t", 1, &LogConfig::default());
    for _ in 0..200 {
        server.append("t", 0, 1, 500_000);
    }
    let request = v1::FetchRequest {
        add: vec![v1::FetchPartition { max_bytes: 50 << 20, ..handle(1, "t", 0) }],
        ..Default::default()
    };
    // Takes nothing: its windows (64 MiB) do not hold 100 MB.
    let (sender, _untouched) = server.stream("/ottla.v1.Log/Fetch").await;
    for _ in 0..3 {
        sender.send_message(&request).await.unwrap();
        sender.send_message(&v1::FetchRequest::default()).await.unwrap();
    }
    let start = Instant::now();
    while server.metrics.connections_stalled.get() == 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "the stalled stream lives on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(start.elapsed() > Duration::from_millis(400));
    still_serves(&server).await;
}

#[tokio::test]
async fn above_max_connections_a_new_one_is_closed_at_once() {
    let server = Server::start(&["max.connections=3"]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(server.connect().await);
        still_open(open.last().unwrap()).await;
    }
    let surplus = server.connect().await;
    let answer = LogClient::new(surplus).metadata(v1::MetadataRequest::default()).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
    assert_eq!(server.metrics.connections_refused.get(), 1);
    still_open(&open[0]).await;
}

async fn still_open(connection: &proto::client::Connection) {
    let mut client = LogClient::new(connection.clone());
    client.metadata(v1::MetadataRequest::default()).await.unwrap();
}

#[tokio::test]
async fn unknown_methods_and_other_protocols_are_told_what_is_wrong() {
    let server = Server::start(&[]).await;
    let connection = server.connect().await;
    let (_sender, mut receiver) = connection.open_stream("/ottla.v1.Log/Nonsense", 1, 1 << 20);
    let error = receiver.recv().await.unwrap_err().to_string();
    assert!(error.contains("no method"), "{error}");
}
