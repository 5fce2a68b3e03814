//! One connection: generated clients, raw streams, and every way in which they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;
use crate::grpc::{FrameError, MESSAGE_LEN_MAX, produce_request_head};
use crate::v1;
use crate::v1::log_client::LogClient;

const PRODUCE: &str = "/ottla.v1.Log/ProduceStream";

async fn connected() -> (TestServer, Arc<Behaviour>, Connection) {
    let behaviour = Arc::<Behaviour>::default();
    let server = TestServer::start(Arc::clone(&behaviour)).await;
    let connection = Connection::connect(&server.address.to_string(), &quick()).await.unwrap();
    (server, behaviour, connection)
}

async fn until_positive(counter: &AtomicUsize) {
    while counter.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
}

/// Opens a stream that the server will not like and returns what the receiver says.
async fn outcome(path: &'static str) -> ClientError {
    let (_server, _, connection) = connected().await;
    let (_sender, mut receiver) = connection.open_stream(path, 4, 1 << 20);
    let error = loop {
        match soon(receiver.recv()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("ended well"),
            Err(error) => break error,
        }
    };
    assert!(matches!(receiver.recv().await, Ok(None)), "told once");
    error
}

#[tokio::test]
async fn generated_clients_run_on_a_connection() {
    let (_server, behaviour, connection) = connected().await;
    behaviour.metadata.lock().unwrap().cluster_id = "abc".into();
    let mut client = LogClient::new(connection);
    let answer = soon(client.metadata(v1::MetadataRequest::default())).await.unwrap();
    assert_eq!(answer.into_inner().cluster_id, "abc");
}

#[tokio::test]
async fn a_raw_stream_pipelines_and_ends_well() {
    let (_server, behaviour, connection) = connected().await;
    let (sender, mut receiver) = connection.open_stream(PRODUCE, 8, MESSAGE_LEN_MAX);
    let payload = Bytes::from(vec![7; 300_000]);
    let sending = tokio::spawn(async move {
        for request_id in 0..100 {
            let head = v1::ProduceRequest { request_id, ..Default::default() };
            let head = produce_request_head(&head, payload.len()).unwrap();
            sender.send(head, payload.clone()).await.unwrap();
        }
        let last = v1::ProduceRequest { request_id: 100, ..Default::default() };
        sender.send_message(&last).await.unwrap();
    });
    for expected in 0..=100 {
        let message = soon(receiver.recv()).await.unwrap().unwrap();
        let response: v1::ProduceResponse = message.decode().unwrap();
        assert_eq!(response.acks[0].request_id, expected);
    }
    sending.await.unwrap();
    assert!(soon(receiver.recv()).await.unwrap().is_none());
    assert_eq!(behaviour.payload_bytes.load(Ordering::SeqCst), 100 * 300_000);
}

#[tokio::test]
async fn a_reader_that_stalls_bounds_the_sender() {
    let (_server, _, connection) = connected().await;
    let (sender, receiver) = connection.open_stream("/stall", 4, 1 << 20);
    let payload = Bytes::from(vec![1; 1 << 20]);
    let head = produce_request_head(&v1::ProduceRequest::default(), payload.len()).unwrap();
    let mut accepted = 0;
    while sender.try_send(head.clone(), payload.clone()).is_ok() {
        accepted += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!((4..20).contains(&accepted), "{accepted}");
    drop(receiver);
    // The call is cancelled: who waits to send is told.
    soon(sender.send(head, payload)).await.unwrap_err();
    assert!(sender.is_closed());
    // What is under way to a peer that takes nothing goes with the connection.
    connection.abort();
    soon(connection.closed()).await;
}

#[tokio::test]
async fn a_dropped_receiver_cancels_the_call() {
    let (_server, behaviour, connection) = connected().await;
    let (sender, mut receiver) = connection.open_stream(PRODUCE, 4, 1 << 20);
    sender.send_message(&v1::ProduceRequest::default()).await.unwrap();
    soon(receiver.recv()).await.unwrap().unwrap();
    let waiting = sender.clone();
    drop(receiver);
    soon(waiting.send_message(&v1::ProduceRequest::default())).await.unwrap_err();
    // The server sees the reset, not a clean end, and the connection goes on.
    soon(until_positive(&behaviour.broken_streams)).await;
    let mut client = LogClient::new(connection);
    soon(client.metadata(v1::MetadataRequest::default())).await.unwrap();
}

#[tokio::test]
async fn a_refused_call_tells_the_status() {
    let error = outcome("/refuse").await;
    let ClientError::Refused { status, .. } = &error else { panic!("{error}") };
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert_eq!(status.message(), "too many streams: wait");
    assert!(error.is_retriable());
    let error = outcome("/not-found").await;
    assert!(error.to_string().contains("404"), "{error}");
    assert!(!error.is_retriable());
}

#[tokio::test]
async fn what_is_not_grpc_is_told() {
    assert!(matches!(outcome("/no-status").await, ClientError::ConnectionLost { .. }));
    let error = outcome("/too-large").await;
    assert!(
        matches!(error, ClientError::Frame { source: FrameError::TooLarge { max, .. }, .. } if max == 1 << 20)
    );
}

#[tokio::test]
async fn a_broken_connection_ends_its_streams_and_calls() {
    let (server, behaviour, connection) = connected().await;
    let (sender, mut receiver) = connection.open_stream(PRODUCE, 8, 1 << 20);
    sender.send_message(&v1::ProduceRequest::default()).await.unwrap();
    soon(receiver.recv()).await.unwrap().unwrap();
    let _stalled = behaviour.stall.lock().await;
    let mut client = LogClient::new(connection.clone());
    let call = tokio::spawn(async move { client.metadata(v1::MetadataRequest::default()).await });
    soon(until_positive(&behaviour.metadata_requests)).await;
    server.stop();
    let error = soon(receiver.recv()).await.unwrap_err();
    assert!(matches!(error, ClientError::ConnectionLost { .. }) && error.is_retriable());
    let status = soon(call).await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().contains(&server.address.to_string()), "{status}");
    soon(connection.closed()).await;
    assert!(connection.is_closed());
    let error = soon(sender.send(Bytes::from_static(&[0; 5]), Bytes::new())).await.unwrap_err();
    assert!(error.is_retriable());
}

#[tokio::test]
async fn no_listener_and_bad_addresses_are_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = Connection::connect(&address, &quick()).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }) && error.is_retriable());
    assert!(error.to_string().contains(&address), "{error}");
    for bad in ["", "localhost", "host:port", "http://localhost:1", "a b:1"] {
        let error = Connection::connect(bad, &quick()).await.unwrap_err();
        assert!(matches!(error, ClientError::InvalidAddress(_)), "{bad}: {error}");
    }
}

#[tokio::test]
async fn a_peer_that_speaks_something_else_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let connection = Connection::connect(&address, &quick()).await.unwrap();
    let (_sender, mut receiver) = connection.open_stream(PRODUCE, 1, 1000);
    let error = soon(receiver.recv()).await.unwrap_err();
    assert!(matches!(error, ClientError::ConnectionLost { .. }), "{error}");
    assert!(error.to_string().contains("does not speak gRPC"), "{error}");
}

#[tokio::test]
async fn a_silent_peer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connection = Connection::connect(&address, &quick()).await.unwrap();
    let _accepted = listener.accept().await.unwrap();
    let (_sender, mut receiver) = connection.open_stream(PRODUCE, 1, 1000);
    let error = soon(receiver.recv()).await.unwrap_err();
    assert!(matches!(error, ClientError::ConnectionLost { .. }), "{error}");
    soon(connection.closed()).await;
}

#[tokio::test]
async fn loopback_runs_reno_and_an_unknown_name_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let allowed =
        std::fs::read_to_string("/proc/sys/net/ipv4/tcp_allowed_congestion_control").unwrap();
    if allowed.split_whitespace().any(|name| name == "reno") {
        let socket = quick().connect(&address).await.unwrap();
        let name = socket2::SockRef::from(&socket).tcp_congestion().unwrap();
        assert!(name.starts_with(b"reno"), "{name:?}");
    }
    let options = SocketOptions {
        congestion_control: CongestionControl::Named("no-such-control".into()),
        ..quick()
    };
    let error = Connection::connect(&address, &options).await.unwrap_err();
    assert!(error.to_string().contains("no-such-control"), "{error}");
    assert!(matches!(error, ClientError::CongestionControl { .. }) && !error.is_retriable());
}

#[test]
fn everything_can_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    fn check(connection: &Connection, cluster: &Cluster) {
        let (sender, mut receiver) = connection.open_stream(PRODUCE, 1, 1);
        is_send(&sender.send(Bytes::new(), Bytes::new()));
        is_send(&receiver.recv());
        is_send(&cluster.refresh(&[]));
        is_send(&cluster.connection(crate::BrokerId(1)));
        is_send(&cluster.any_connection());
        is_send(&LogClient::new(connection.clone()).metadata(v1::MetadataRequest::default()));
    }
    let _ = check;
}
