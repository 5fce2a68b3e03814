//! Where Kafka clients are told to find brokers.
//!
//! A client is told the endpoints of the listener it came in by (same name on every broker). For this
//! broker that is the advertised address, or, where none is configured, the address the client itself
//! came in on: it has reached us by that, through whatever lies between.

use std::net::SocketAddr;

use proto::BrokerId;
use proto::kafka::Str;

use crate::cluster::metadata::BrokerImage;

/// The listeners of this broker, by their numbers.
pub(crate) struct KafkaEndpoints {
    own: BrokerId,
    listeners: Vec<Endpoint>,
}

/// One of them.
pub(crate) struct Endpoint {
    pub(crate) name: Str,
    /// As configured.
    pub(crate) advertised: Option<(Str, u16)>,
}

impl KafkaEndpoints {
    pub(crate) fn new(own: BrokerId, listeners: Vec<Endpoint>) -> Self {
        Self { own, listeners }
    }

    /// This broker.
    pub(super) fn own_id(&self) -> BrokerId {
        self.own
    }

    /// Where a client that came in by a listener, on address `local`, finds a broker; `None` where
    /// that has no listener of the name.
    pub(super) fn of(
        &self,
        broker: &BrokerImage,
        listener: usize,
        local: SocketAddr,
    ) -> Option<(Str, u16)> {
        let listener = self.listeners.get(listener)?;
        if broker.id == self.own {
            let came_in = || (local.ip().to_canonical().to_string().into(), local.port());
            return Some(listener.advertised.clone().unwrap_or_else(came_in));
        }
        let endpoint = broker.kafka.iter().find(|endpoint| *endpoint.name == *listener.name)?;
        Some((endpoint.host.as_str().into(), endpoint.port))
    }
}

#[cfg(test)]
mod tests {
    use coordinator::zk::payload::KafkaEndpoint;

    use super::*;

    fn broker(id: i32, name: &str) -> BrokerImage {
        let (host, port) = (format!("host-{id}"), 9000);
        BrokerImage {
            id: BrokerId(id),
            host: String::new(),
            grpc_port: 1,
            kafka: vec![KafkaEndpoint { name: name.to_owned(), host, port }],
            rack: String::new(),
            incarnation: uuid::Uuid::nil(),
        }
    }

    #[test]
    fn a_client_is_told_what_it_can_reach() {
        let advertised = Some(("proxy".into(), 80));
        let endpoints = KafkaEndpoints::new(
            BrokerId(1),
            vec![
                Endpoint { name: "IN".into(), advertised: None },
                Endpoint { name: "OUT".into(), advertised },
            ],
        );
        let local: SocketAddr = "[::ffff:10.0.0.7]:9092".parse().unwrap();
        let of = |broker: &BrokerImage, listener| endpoints.of(broker, listener, local);
        let me = broker(1, "IN");
        assert_eq!(of(&me, 0), Some(("10.0.0.7".into(), 9092)));
        assert_eq!(of(&me, 1), Some(("proxy".into(), 80)));
        assert_eq!(of(&broker(2, "IN"), 0), Some(("host-2".into(), 9000)));
        assert_eq!(of(&broker(2, "IN"), 1), None, "no listener of that name");
    }
}
