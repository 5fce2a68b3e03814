//! Which addresses clients are told.

use std::net::SocketAddr;

use coordinator::zk::payload::KafkaEndpoint;
use proto::BrokerId;
use proto::kafka::messages::*;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::rig::{Client, Server};
use crate::storage::LogConfig;

async fn connect(host: &str, listener: SocketAddr) -> Client {
    let address = SocketAddr::new(host.parse().unwrap(), listener.port());
    Client::over(TcpStream::connect(address).await.unwrap())
}

/// Number, host and port of every broker, as Metadata and DescribeCluster tell them alike.
async fn told(client: &mut Client) -> Vec<(i32, String, i32)> {
    let metadata = client.call(12, &MetadataRequest::default()).await;
    let cluster = client.call(0, &DescribeClusterRequest::default()).await;
    let of = |id, host: &str, port| (id, host.to_owned(), port);
    let brokers =
        metadata.brokers.iter().map(|broker| of(broker.node_id, &broker.host, broker.port));
    let brokers: Vec<_> = brokers.collect();
    let mut same: Vec<_> = cluster
        .brokers
        .iter()
        .map(|broker| of(broker.broker_id, &broker.host, broker.port))
        .collect();
    same.sort();
    assert_eq!(brokers, same);
    brokers
}

#[tokio::test]
async fn with_nothing_configured_a_client_is_told_the_address_it_came_in_on() {
    let server = Server::listening(&[("PLAINTEXT", "[::]:0", None)]).await;
    server.topic("t", 1, &LogConfig::default());
    let port = i32::from(server.kafka.port());
    // One that came as IPv4 is told IPv4, whatever the socket says.
    for host in ["127.0.0.1", "::1", "127.0.0.2"] {
        let mut client = connect(host, server.kafka).await;
        assert_eq!(told(&mut client).await, [(1, host.to_owned(), port)]);
    }
    let server = Server::listening(&[("PLAINTEXT", "0.0.0.0:0", None)]).await;
    server.topic("t", 1, &LogConfig::default());
    let port = i32::from(server.kafka.port());
    for host in ["127.0.0.2", "127.0.0.1"] {
        let mut client = connect(host, server.kafka).await;
        assert_eq!(told(&mut client).await, [(1, host.to_owned(), port)]);
    }
}

#[tokio::test]
async fn each_listener_tells_the_addresses_of_its_name() {
    let server = Server::listening(&[
        ("INTERNAL", "127.0.0.1:0", None),
        ("EXTERNAL", "127.0.0.1:0", Some(("kafka.example.org", 19_092))),
        ("LOCAL", "127.0.0.2:0", None),
    ])
    .await;
    server.topic("t", 1, &LogConfig::default());
    let endpoint = |name: &str, host: &str, port| KafkaEndpoint {
        name: name.to_owned(),
        host: host.to_owned(),
        port,
    };
    let kafka = vec![
        endpoint("EXTERNAL", "other.example.org", 19_093),
        endpoint("INTERNAL", "10.0.0.2", 1),
    ];
    server.register_with(BrokerId(2), Uuid::from_u128(2), kafka);
    let [internal, external, local] = server.kafka_listeners[..] else { panic!() };
    let own = |host: &str, port: u16| (1, host.to_owned(), i32::from(port));
    let other = |host: &str, port| (2, host.to_owned(), port);

    let mut client = connect("127.0.0.1", internal).await;
    let expected = [own("127.0.0.1", internal.port()), other("10.0.0.2", 1)];
    assert_eq!(told(&mut client).await, expected);
    let mut client = connect("127.0.0.1", external).await;
    let expected = [own("kafka.example.org", 19_092), other("other.example.org", 19_093)];
    assert_eq!(told(&mut client).await, expected);
    // The other broker has no listener of that name: who came in here cannot reach it.
    let mut client = connect("127.0.0.2", local).await;
    assert_eq!(told(&mut client).await, [own("127.0.0.2", local.port())]);
    let topics = client.call(12, &MetadataRequest::default()).await.topics;
    assert_eq!(topics[0].partitions[0].leader_id, 1);
}
