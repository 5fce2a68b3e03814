//! A client that records what it does: whose it is, how it is ended and what it leaves.

use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Result, anyhow};

use crate::checker::{Commit, Delivered, Resumed, Taken};

/// Whose clients produce and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Clients {
    /// Ours, over gRPC; the members of the group agree by the registry
    Ottla,
    /// Ours, over gRPC; a broker coordinates the group (membership=broker)
    OttlaByBroker,
    /// confluent-kafka for Python (librdkafka), over Kafka's protocol; a broker coordinates the group
    ConfluentKafka,
    /// kafka-python, over Kafka's protocol; a broker coordinates the group
    KafkaPython,
    /// Apache Kafka's own in Java, over its protocol; a broker coordinates the group
    KafkaJava,
}

impl Clients {
    /// Whether a broker coordinates their group.
    pub fn have_coordinator(self) -> bool {
        self != Self::Ottla
    }
}

/// What a reader leaves.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) delivered: Delivered,
    pub(super) commits: Vec<Commit>,
    /// What a member was assigned; only of groups that a broker coordinates, as the next.
    pub(super) taken: Vec<Taken>,
    pub(super) resumed: Vec<Resumed>,
}

impl Reading {
    pub(super) fn new(reader: &str, group: Option<&str>) -> Self {
        Self {
            delivered: Delivered::new(reader, group),
            commits: Vec::new(),
            taken: Vec::new(),
            resumed: Vec::new(),
        }
    }
}

/// What tells a client to end.
pub(super) enum Stop {
    /// It looks at this.
    Flag(Arc<AtomicBool>),
    /// It ends when its standard input does, also where this process was killed.
    Input(Option<ChildStdin>),
}

/// The thread of a client.
pub(super) struct Client<T> {
    pub(super) thread: JoinHandle<Result<T>>,
    pub(super) stop: Stop,
}

impl<T> Client<T> {
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    fn tell_to_end(&mut self) {
        match &mut self.stop {
            Stop::Flag(flag) => flag.store(true, Ordering::Relaxed),
            Stop::Input(input) => drop(input.take()),
        }
    }

    /// Ends all of them; what they leave.
    pub(super) fn end(mut clients: Vec<Self>) -> Result<Vec<T>> {
        clients.iter_mut().for_each(Self::tell_to_end);
        // Each is waited for, also behind one that failed.
        let ended = clients.into_iter().map(|client| match client.thread.join() {
            Ok(ended) => ended,
            Err(_) => Err(anyhow!("a thread of the recorder panicked")),
        });
        ended.collect::<Vec<_>>().into_iter().collect()
    }
}
