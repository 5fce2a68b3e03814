//! The programs of `foreign/python`: Kafka clients of other makes (confluent-kafka, kafka-python), run
//! by the interpreter that `integration-tests/foreign-clients install python` made.
//!
//! A check judges by itself and ends with an exit code ([`programs`]); what crosses from one protocol to
//! the other is compared here ([`records`]). Members of groups are processes of their own ([`members`]), and
//! how groups share partitions is judged in [`groups`] and, while brokers die, in [`failover`].

pub mod failover;
pub mod groups;
pub mod members;
pub mod programs;
pub mod records;

/// A make of client: its programs are `<prefix>_produce.py` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// librdkafka, as Python has it.
    Confluent,
    /// A client all in Python.
    KafkaPython,
}

impl Make {
    fn prefix(self) -> &'static str {
        match self {
            Self::Confluent => "confluent",
            Self::KafkaPython => "kafka_python",
        }
    }
}
