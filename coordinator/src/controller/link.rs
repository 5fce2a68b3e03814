//! Tells each live broker what changed, over gRPC, until it has acknowledged it.
//!
//! One task a broker incarnation, one update under way at a time, resent after a backoff. What is to
//! be told sits in the link's [`Outbox`], shared with the owner of the state under a lock that is
//! held for no longer than a merge. A link ends when its broker's registration goes, or another
//! incarnation takes its place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proto::client::{Backoff, Connection, SocketOptions};
use proto::v1::broker_control_client::BrokerControlClient;
use proto::{BrokerId, v1};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::event::Event;
use super::outbox::{Delta, Outbox, Sender};
use crate::zk::payload::Broker;

/// How long a broker may take to apply an update; it may read ZooKeeper whole.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// The links to all live brokers, for one term.
pub(crate) struct Links {
    sender: Sender,
    events: mpsc::Sender<Event>,
    links: BTreeMap<BrokerId, Link>,
}

struct Link {
    incarnation: Uuid,
    outbox: Arc<Mutex<Outbox>>,
    news: Arc<Notify>,
    acknowledged: watch::Receiver<u64>,
    task: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Links {
    /// No links yet; what brokers answer goes to `events`.
    pub(crate) fn new(sender: Sender, events: mpsc::Sender<Event>) -> Self {
        Self { sender, events, links: BTreeMap::new() }
    }

    /// Ends the links of brokers that left, starts those of new incarnations; a new one's first
    /// update carries `first`.
    pub(crate) fn follow(&mut self, brokers: &BTreeMap<BrokerId, Broker>, first: &Delta) {
        self.links.retain(|id, link| {
            brokers.get(id).is_some_and(|broker| broker.incarnation == link.incarnation)
        });
        for (id, broker) in brokers {
            if !self.links.contains_key(id) {
                self.links.insert(*id, self.start(*id, broker, first.clone()));
            }
        }
    }

    /// Tells every broker.
    pub(crate) fn tell(&self, delta: &Delta) {
        if delta.is_empty() {
            return;
        }
        for link in self.links.values() {
            link.outbox.lock().add(delta);
            link.news.notify_one();
        }
    }

    /// What brokers have been told up to now and did not acknowledge yet.
    pub(crate) fn unheard(&self) -> Unheard {
        let links = self.links.values();
        Unheard(links.map(|l| (l.acknowledged.clone(), l.outbox.lock().added())).collect())
    }

    fn start(&self, id: BrokerId, broker: &Broker, first: Delta) -> Link {
        let incarnation = broker.incarnation;
        let outbox = Outbox::new(self.sender.clone(), incarnation, first);
        let outbox = Arc::new(Mutex::new(outbox));
        let news = Arc::new(Notify::new());
        let (acknowledgements, acknowledged) = watch::channel(0);
        let task = LinkTask {
            id,
            incarnation,
            address: format!("{}:{}", broker.host, broker.grpc_port),
            outbox: Arc::clone(&outbox),
            news: Arc::clone(&news),
            events: self.events.clone(),
            acknowledgements,
            connection: None,
        };
        Link {
            incarnation,
            outbox,
            news,
            acknowledged,
            task: tokio::spawn(task.run()).abort_handle(),
        }
    }
}

/// Deltas under way to brokers.
pub(crate) struct Unheard(Vec<(watch::Receiver<u64>, u64)>);

impl Unheard {
    /// Waits until every broker has acknowledged, or left, or the time is over.
    pub(crate) async fn heard_within(self, limit: Duration) {
        let heard = async {
            for (mut acknowledged, added) in self.0 {
                // An error means that the link ended: the broker left, or this term is over.
                let _ = acknowledged.wait_for(|&done| done >= added).await;
            }
        };
        // A broker that is slow or stopped is told all the same, later.
        let _ = tokio::time::timeout(limit, heard).await;
    }
}

struct LinkTask {
    id: BrokerId,
    incarnation: Uuid,
    address: String,
    outbox: Arc<Mutex<Outbox>>,
    news: Arc<Notify>,
    events: mpsc::Sender<Event>,
    acknowledgements: watch::Sender<u64>,
    connection: Option<Connection>,
}

/// An update was not acknowledged.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Connect(#[from] proto::client::ClientError),
    #[error("{0}")]
    Status(String),
    #[error("no answer in {UPDATE_TIMEOUT:?}")]
    TimedOut,
    #[error("{}", .0.message)]
    Refused(v1::Error),
}

impl LinkTask {
    async fn run(mut self) {
        let mut backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX);
        loop {
            let Some(update) = self.next_update() else {
                self.news.notified().await;
                continue;
            };
            match self.send(update).await {
                Ok(response) => {
                    backoff.reset();
                    if self.acknowledged(response).await.is_err() {
                        // The term is over.
                        return;
                    }
                }
                Err(error) => {
                    let wait = backoff.after_failure();
                    if backoff.failures().is_power_of_two() {
                        tracing::warn!(
                            broker = %self.id, address = self.address, %error,
                            failures = backoff.failures(), "broker did not take an update yet"
                        );
                    }
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    fn next_update(&self) -> Option<v1::UpdateClusterRequest> {
        self.outbox.lock().next()
    }

    async fn send(
        &mut self,
        update: v1::UpdateClusterRequest,
    ) -> Result<v1::UpdateClusterResponse, SendError> {
        let connection = match &self.connection {
            Some(connection) if !connection.is_closed() => connection.clone(),
            _ => {
                let made = Connection::connect(&self.address, &SocketOptions::default()).await?;
                self.connection.insert(made).clone()
            }
        };
        let mut client = BrokerControlClient::new(connection);
        match tokio::time::timeout(UPDATE_TIMEOUT, client.update_cluster(update)).await {
            Ok(Ok(response)) => {
                let response = response.into_inner();
                match response.error {
                    Some(error) => Err(SendError::Refused(error)),
                    None => Ok(response),
                }
            }
            Ok(Err(status)) => {
                Err(SendError::Status(format!("{:?}: {}", status.code(), status.message())))
            }
            Err(_) => {
                self.connection = None;
                Err(SendError::TimedOut)
            }
        }
    }

    async fn acknowledged(
        &self,
        response: v1::UpdateClusterResponse,
    ) -> Result<(), mpsc::error::SendError<Event>> {
        // What another controller had applied says nothing of ours.
        if response.controller_epoch > self.outbox.lock().controller_epoch() {
            return self.events.send(Event::NewerController(response.controller_epoch)).await;
        }
        let topics = {
            let mut outbox = self.outbox.lock();
            let topics = outbox.acknowledged(response.applied);
            self.acknowledgements.send_replace(outbox.acknowledged_deltas());
            topics
        };
        if !topics.is_empty() {
            let (broker, incarnation) = (self.id, self.incarnation);
            self.events.send(Event::Dropped { broker, incarnation, topics }).await?;
        }
        Ok(())
    }
}
