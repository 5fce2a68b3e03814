//! What peers may take of us: memory, places, time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use proto::kafka::encode_request;
use proto::kafka::messages::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::super::frames::Frames;
use super::requests::{self, Whole};
use super::rig::{Client, Server, fetch};
use crate::metrics::Metrics;
use crate::server::budget::Budget;
use crate::storage::LogConfig;

/// Waits until something holds that other tasks bring about.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(15), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
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
    assert_eq!(
        (server.metrics.connections_stalled.get(), server.metrics.queued_bytes.get()),
        (3, 0)
    );
}

/// Sends the size of a frame, then a byte of it now and then, until the broker has had enough.
async fn dribble(server: &Server, size: i32) -> Duration {
    let mut client = Client::connect(server).await;
    let begun = Instant::now();
    client.send_raw(&size.to_be_bytes()).await;
    while client.socket.write_all(&[0]).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(begun.elapsed() < Duration::from_secs(15), "it may go on for ever");
    }
    begun.elapsed()
}

#[tokio::test]
async fn who_sends_a_byte_now_and_then_is_not_waited_for_either() {
    let server = Server::start(&["socket.stalled.timeout.ms=300"]).await;
    let took = dribble(&server, 200).await;
    assert!(took >= Duration::from_millis(450), "{took:?}: less than the slowest line needs");
    assert_eq!(server.metrics.connections_stalled.get(), 1);
    assert_eq!(server.metrics.queued_bytes.get(), 0);
}

#[tokio::test]
async fn slow_requests_that_use_up_the_budget_make_room_for_others() {
    let settings = ["socket.stalled.timeout.ms=300", "queued.max.bytes=100000"];
    let server = Server::start(&settings).await;
    server.topic("t", 1, &LogConfig::default());
    // On a line as slow as this it would take a minute and a half; nobody waits, so it may.
    let slow = dribble(&server, 95_000);
    let other = async {
        eventually("the slow one has its place", || server.metrics.queued_bytes.get() > 0).await;
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        assert_eq!(server.metrics.connections_stalled.get(), 0, "nobody waits yet");
        let mut client = Client::connect(&server).await;
        let mut request = fetch("t", 0);
        let position = request.topics[0].partitions[0].clone();
        request.topics[0].partitions = vec![position; 1_000];
        client.call(4, &request).await
    };
    let (took, answer) = tokio::join!(slow, other);
    assert!(took < Duration::from_secs(10) && !answer.responses.is_empty());
}

#[tokio::test]
async fn what_requests_in_progress_hold_keeps_others_from_beginning() {
    let server = Server::start(&["queued.max.bytes=200000"]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut request = FetchRequest { max_wait_ms: 1_500, min_bytes: 1, ..fetch("t", 0) };
    let position = request.topics[0].partitions[0].clone();
    request.topics[0].partitions = vec![position; 5_000];
    let mut waiting = Client::connect(&server).await;
    let begun = Instant::now();
    let id = waiting.send(11, &request).await;
    let charged = || server.metrics.charged_bytes.get();
    eventually("its items are counted", || charged() >= 200_000).await;
    let mut other = Client::connect(&server).await;
    other.call(4, &ApiVersionsRequest::default()).await;
    assert!(begun.elapsed() >= Duration::from_millis(1_400), "it began although there was no room");
    waiting.receive::<FetchRequest>(11, id).await;
    eventually("all is given back", || charged() == 0).await;
    // Also where the peer is gone before.
    waiting.send(11, &FetchRequest { max_wait_ms: 20_000, ..request }).await;
    eventually("its items are counted", || charged() >= 200_000).await;
    drop(waiting);
    eventually("all is given back", || charged() == 0).await;
    eventually("the frames too", || server.metrics.queued_bytes.get() == 0).await;
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
    assert_eq!(server.metrics.connections_faulty.get(), 0, "to be idle is no fault");
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
    assert_eq!(server.metrics.connections_refused.get(), 1);
}

async fn connect_from(server: &Server, address: &str) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
    Client::over(socket.connect(server.kafka).await.unwrap())
}

#[tokio::test]
async fn one_address_has_no_more_connections_than_its_share() {
    let server = Server::start(&["max.connections.per.ip=2"]).await;
    let ask = ApiVersionsRequest::default();
    let mut first = connect_from(&server, "127.0.0.1").await;
    first.call(0, &ask).await;
    let mut second = connect_from(&server, "127.0.0.1").await;
    second.call(0, &ask).await;
    assert_eq!(connect_from(&server, "127.0.0.1").await.frame().await, None);
    connect_from(&server, "127.0.0.2").await.call(0, &ask).await;
    assert_eq!(server.metrics.connections_refused.get(), 1);
    drop(first);
    eventually("both places are free", || server.metrics.connections.get() <= 1).await;
    connect_from(&server, "127.0.0.1").await.call(0, &ask).await;
    second.call(0, &ask).await;
}

#[tokio::test]
async fn requests_whose_answers_nobody_takes_are_not_read_for_ever() {
    let server = Server::start(&[]).await;
    let mut client = Client::connect(&server).await;
    let name = "x".repeat(1_000);
    let ask = encode_request(0, 7, Some(&name), &ApiVersionsRequest::default()).join().unwrap();
    let many = ask.repeat(100);
    let mut sent = 0;
    // What both sockets hold is taken, and no more.
    let pushed = async {
        loop {
            client.socket.write_all(&many).await.unwrap();
            sent += 100;
        }
    };
    let _: Result<(), _> = tokio::time::timeout(Duration::from_secs(1), pushed).await;
    assert!(sent > 100, "{sent}");
    assert!(server.metrics.requests.get() < 200_000, "{}", server.metrics.requests.get());
    assert!(server.metrics.charged_bytes.get() < 1 << 20);
    let (from, _to) = client.socket.split();
    let mut from = BufReader::new(from);
    let mut answers = 0;
    let mut answer = vec![0; 16 << 10];
    while answers < sent {
        let size = from.read_i32().await.unwrap() as usize;
        from.read_exact(&mut answer[..size]).await.unwrap();
        assert_eq!(answer[..4], 7i32.to_be_bytes());
        answers += 1;
    }
}

#[tokio::test]
async fn a_peer_that_has_closed_its_side_is_gone() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut client = Client::connect(&server).await;
    let poll = FetchRequest { max_wait_ms: 20_000, min_bytes: 1, ..fetch("t", 0) };
    client.send(11, &poll).await;
    eventually("it waits", || server.metrics.requests.get() == 1).await;
    client.socket.shutdown().await.unwrap();
    assert_eq!(client.frame().await, None);
    eventually("its place is free", || server.metrics.connections.get() == 0).await;
}

#[tokio::test]
async fn other_protocols_on_the_port_are_told_apart_and_counted() {
    let server = Server::start(&[]).await;
    let peers: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &[0xff; 40],
    ];
    for peer in peers {
        let mut client = Client::connect(&server).await;
        client.send_raw(peer).await;
        assert_eq!(client.frame().await, None, "{peer:?}");
    }
    eventually("all are counted", || server.metrics.connections_faulty.get() == 5).await;
}

/// What is there of a connection's memory when a long request was taken off it.
#[test]
fn a_long_request_leaves_no_memory_behind() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut socket, mut to, mut frames) = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let metrics = std::sync::Arc::new(Metrics::default());
        (socket, to, Frames::new(8 << 20, Budget::new(1 << 30, metrics)))
    });
    let long = [&(4i32 << 20).to_be_bytes()[..], &vec![7; 4 << 20]].concat();
    let taken = measure(|| {
        runtime.block_on(async {
            let read = async {
                let (frame, _) = frames.next(&socket).await.unwrap().unwrap();
                assert_eq!(frame.len(), 4 << 20);
            };
            let (_, sent) = tokio::join!(read, to.write_all(&long));
            sent.unwrap();
        });
    });
    assert!(taken.bytes_max > 4 << 20, "{taken:?}");
    assert!(taken.bytes_max < 16 << 20, "{taken:?}: it doubles as it fills, and no more");
    assert!(taken.bytes_current < 64 << 10, "{taken:?}");
    // The next request is read as any other.
    runtime.block_on(async {
        to.write_all(&[0, 0, 0, 1, 9]).await.unwrap();
        let (frame, _) = frames.next(&socket).await.unwrap().unwrap();
        assert_eq!(&frame[..], [9]);
        socket.shutdown().await.unwrap();
    });
}

/// No more than this for each byte of a request, whatever its items repeat, and [`ANSWER_BASE`].
const ANSWER_PER_BYTE: usize = 48;
const ANSWER_BASE: usize = 64 << 10;

#[tokio::test]
async fn repeated_items_do_not_make_an_answer_grow_beyond_its_request() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    server.append("t", 0, 3, 10);
    let mut worst = (0, None);
    for Whole { key, version, frame } in requests::all(3_000) {
        let mut client = Client::connect(&server).await;
        client.send_raw(&frame).await;
        // What is the controller's affair waits for it: there is none here.
        let answer = tokio::time::timeout(Duration::from_millis(700), client.frame()).await;
        let Ok(Some(answer)) = answer else { continue };
        let bound = ANSWER_PER_BYTE * frame.len() + ANSWER_BASE;
        let (asked, told) = (frame.len(), answer.len());
        assert!(told <= bound, "{key:?} {version}: {told} bytes for {asked}");
        worst = worst.max((told / asked, Some((key, version))));
    }
    println!("longest answers: {worst:?} times their requests");
}
