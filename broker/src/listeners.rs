//! The sockets of a broker: bound as configured, and what others are told of them.

use std::net::SocketAddr;

use coordinator::zk::payload::KafkaEndpoint;
use tokio::net::TcpListener;

use crate::broker::BrokerError;
use crate::config::{BrokerConfig, KafkaListener};
use crate::server::{Endpoint, Protocol};

/// Where a running broker is reached, for its ready line.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// Of the gRPC listener.
    pub grpc: SocketAddr,
    /// Of the listeners for Kafka clients, as they are configured.
    pub kafka: Vec<SocketAddr>,
    /// Of the HTTP listener.
    pub http: SocketAddr,
}

impl Addresses {
    /// Of the listeners for Kafka clients, as the ready line has them.
    pub fn kafka_texts(&self) -> Vec<String> {
        self.kafka.iter().map(ToString::to_string).collect()
    }
}

async fn bind(address: &str, what: &'static str) -> Result<TcpListener, BrokerError> {
    let failed = |source| BrokerError::Listen { address: address.to_owned(), what, source };
    TcpListener::bind(address).await.map_err(failed)
}

fn local_addr(listener: &TcpListener, what: &'static str) -> Result<SocketAddr, BrokerError> {
    let failed = |source| BrokerError::Listen { address: String::new(), what, source };
    listener.local_addr().map_err(failed)
}

/// Host and port told to others: as configured, else the listener's, with this machine's name where
/// that listens everywhere.
pub(crate) fn advertised(config: &BrokerConfig, addresses: &Addresses) -> (String, u16) {
    let own_port = addresses.grpc.port();
    if let Some((host, port)) = config.advertised_grpc.rsplit_once(':') {
        let port = port.parse().ok().filter(|&port| port != 0).unwrap_or(own_port);
        return (host.to_owned(), port);
    }
    (reachable_host(&config.listen_grpc, addresses.grpc), own_port)
}

/// The host to tell others of a listener: its own, or this machine's name where it listens
/// everywhere.
fn reachable_host(listen: &str, bound: SocketAddr) -> String {
    if bound.ip().is_unspecified() {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = if name.trim().is_empty() { "localhost" } else { name.trim() };
        return name.to_owned();
    }
    let host = listen.rsplit_once(':').map_or("127.0.0.1", |(host, _)| host);
    host.trim_matches(['[', ']']).to_owned()
}

/// Every listener: those of the data threads, the one of HTTP, and where all of them are.
pub(crate) async fn bind_all(
    config: &BrokerConfig,
) -> Result<(Vec<(TcpListener, Protocol)>, TcpListener, Addresses), BrokerError> {
    let grpc = bind(&config.listen_grpc, "gRPC").await?;
    let http = bind(&config.listen_http, "HTTP").await?;
    let mut listeners = bind_kafka(config).await?;
    let kafka = listeners.iter().map(|(listener, _)| local_addr(listener, "Kafka clients"));
    let addresses = Addresses {
        kafka: kafka.collect::<Result<_, _>>()?,
        grpc: local_addr(&grpc, "gRPC")?,
        http: local_addr(&http, "HTTP")?,
    };
    listeners.push((grpc, Protocol::Grpc));
    Ok((listeners, http, addresses))
}

async fn bind_kafka(config: &BrokerConfig) -> Result<Vec<(TcpListener, Protocol)>, BrokerError> {
    if let Some(name) = config.kafka.unknown.first() {
        return Err(BrokerError::Advertised { name: name.clone() });
    }
    let mut bound = Vec::new();
    for (number, KafkaListener { listen, .. }) in config.kafka.listeners.iter().enumerate() {
        bound.push((bind(listen, "Kafka clients").await?, Protocol::Kafka(number)));
    }
    Ok(bound)
}

/// The listeners with the addresses that are configured for clients.
pub(crate) fn kafka_endpoints(config: &BrokerConfig, addresses: &Addresses) -> Vec<Endpoint> {
    let each = config.kafka.listeners.iter().zip(&addresses.kafka);
    each.map(|(listener, bound)| {
        let advertised = listener.advertised.as_ref();
        let advertised =
            advertised.map(|(host, port)| (host.as_str().into(), or_own(*port, bound)));
        Endpoint { name: listener.name.as_str().into(), advertised }
    })
    .collect()
}

/// What other brokers tell of the listeners.
pub(crate) fn registered_kafka(config: &BrokerConfig, addresses: &Addresses) -> Vec<KafkaEndpoint> {
    let each = config.kafka.listeners.iter().zip(&addresses.kafka);
    each.map(|(listener, bound)| {
        let (host, port) = match &listener.advertised {
            Some((host, port)) => (host.clone(), or_own(*port, bound)),
            None => (reachable_host(&listener.listen, *bound), bound.port()),
        };
        KafkaEndpoint { name: listener.name.clone(), host, port }
    })
    .collect()
}

/// A configured port, or the one the listener got.
fn or_own(port: u16, bound: &SocketAddr) -> u16 {
    if port == 0 { bound.port() } else { port }
}
