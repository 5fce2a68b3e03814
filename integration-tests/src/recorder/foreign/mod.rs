//! Kafka clients of other makes: each is a process of its own (`integration-tests/foreign/python/recorded`)
//! that does as ours do and says what it does, a line of JSON each ([`line`]).

mod line;
mod process;
mod reader;
mod sender;

pub(super) use reader::{join, tail};
pub(super) use sender::produce;

use super::client::Clients;

/// What the library is called on the command line of the process; none of ours.
pub(super) fn library(clients: Clients) -> Option<&'static str> {
    match clients {
        Clients::Ottla => None,
        Clients::ConfluentKafka => Some("confluent-kafka"),
        Clients::KafkaPython => Some("kafka-python"),
    }
}
