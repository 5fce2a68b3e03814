//! Leaders, partitions and the producer id: pushed by a broker, and asked for in the background at
//! once when an answer shows that what is known is wrong.
//!
//! When another broker leads a partition, what is on the wire to the old one is lost to it: it is in
//! doubt and goes to the new one, in order and under its own sequences, without waiting for answers
//! that may never come. The old leader can commit nothing more, and where it has replicated a batch,
//! the new one knows its sequence.

use std::sync::Arc;
use std::time::Instant;

use proto::client::{
    Backoff, ClientError, Cluster, Connection, Metadata, PartitionMetadata, TopicMetadata,
};
use proto::v1::log_client::LogClient;
use proto::{ErrorCode, ProducerEpoch, ProducerId, Retry, TopicPartition, v1};

use super::partition::PartitionState;
use super::{Asking, Event, Sender, TopicState};
use crate::accumulator::{PartitionQueue, QueueIndex};
use crate::error::SendError;
use crate::idempotence::Window;

impl Asking {
    /// Whether to ask now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.wanted && !self.under_way && self.not_before.is_none_or(|when| when <= now)
    }

    /// When it will be due, if it waits for nothing but time.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.not_before.filter(|_| self.wanted && !self.under_way)
    }
}

impl Sender {
    /// Metadata proved wrong or is missing.
    pub(super) fn want_metadata(&mut self) {
        self.metadata.wanted = true;
    }

    pub(super) fn want_producer_id(&mut self) {
        match self.id {
            Some((id, epoch)) => self.give_producer_id(id, epoch),
            None => self.producer_id.wanted = true,
        }
    }

    /// Starts what is due.
    pub(super) fn ask(&mut self, now: Instant) {
        if now.duration_since(self.metadata_at) >= self.config().metadata_max_age {
            self.want_metadata();
        }
        if self.metadata.is_due(now) {
            self.metadata.under_way = true;
            self.metadata.wanted = false;
            let mut topics: Vec<String> = self.topics.keys().map(|t| t.as_ref().into()).collect();
            self.shared.advance_line(|queue| {
                let missing = queue.parked_topics().filter(|&t| !self.topics.contains_key(t));
                topics.extend(missing.map(str::to_owned));
            });
            let (cluster, report) = (self.cluster.clone(), self.report.clone());
            cluster.watch(topics.iter().cloned().collect());
            tokio::spawn(async move {
                let names: Vec<&str> = topics.iter().map(String::as_str).collect();
                let answer = cluster.refresh(&names).await.map(drop);
                let _ = report.send(Event::Metadata(answer));
            });
        }
        if self.producer_id.is_due(now) {
            self.producer_id.under_way = true;
            self.producer_id.wanted = false;
            let (cluster, report) = (self.cluster.clone(), self.report.clone());
            let (client_id, timeout) =
                (self.config().client_id.clone(), self.config().request_timeout);
            tokio::spawn(async move {
                let asked = init_producer_id(&cluster, client_id);
                let answer = tokio::time::timeout(timeout, asked).await;
                let late = |_| Err(format!("no producer id within {timeout:?}").into());
                let _ = report.send(Event::ProducerId(answer.unwrap_or_else(late)));
            });
        }
    }

    /// A refresh has ended.
    pub(super) fn on_metadata(&mut self, answer: Result<(), ClientError>) {
        let now = Instant::now();
        self.metadata.under_way = false;
        match answer {
            Ok(()) => {
                self.metadata.failures = 0;
                self.metadata_at = now;
                self.take_up_metadata();
                self.ask_again();
            }
            Err(error) => {
                self.metadata.failures += 1;
                self.metadata.wanted = true;
                if self.metadata.failures == 1 {
                    tracing::warn!(%error, "no metadata, will ask again");
                }
                self.trouble = Some(error.to_string().into());
            }
        }
        // The next refresh comes at once when wanted, but two in a row keep their distance.
        self.metadata.not_before = Some(now + self.pause(self.metadata.failures));
    }

    /// Follows what is known of the cluster now.
    pub(super) fn take_up_metadata(&mut self) {
        let metadata = Arc::clone(&self.known.borrow_and_update());
        let before = std::mem::replace(&mut self.applied, Arc::clone(&metadata));
        let same_brokers = before.brokers == metadata.brokers;
        for topic in metadata.topics() {
            // Topics are replaced only where they change.
            let seen = before.topic(&topic.name).is_some_and(|seen| Arc::ptr_eq(seen, topic));
            if !seen || !same_brokers {
                self.update_topic(topic, &metadata);
            }
        }
        self.judge_missing(&metadata);
    }

    /// What the last answer did not settle: partitions with work and no leader.
    fn ask_again(&mut self) {
        let has_work = |p: &PartitionState| !p.window.is_empty() || !p.queue.is_empty();
        let waits = |p: &PartitionState| p.leader.is_none() && has_work(p);
        if self.partitions.iter().any(waits) {
            self.metadata.wanted = true;
        }
    }

    /// Topics that records wait for and that are not there: some never will be.
    fn judge_missing(&mut self, metadata: &Metadata) {
        let (mut missing, mut hopeless) = (None, Vec::new());
        self.shared.advance_line(|queue| {
            for name in queue.parked_topics() {
                let Some(error) = metadata.topic_error(name) else { continue };
                let code = ErrorCode::from_code(error.code);
                if code.retry() == Retry::Never {
                    hopeless.push((name.to_owned(), code, error.clone()));
                } else {
                    missing = Some(error.message.clone());
                }
            }
            for (name, code, error) in &hopeless {
                let error = SendError::Rejected {
                    topic: name.as_str().into(),
                    partition: -1,
                    code: *code,
                    message: error.message.as_str().into(),
                    remedy: error.remedy.as_str().into(),
                };
                queue.fail_topic(name, &error);
            }
        });
        if let Some(message) = missing {
            self.trouble = Some(message.into());
            self.metadata.wanted = true;
        }
    }

    fn update_topic(&mut self, topic: &TopicMetadata, metadata: &Metadata) {
        let name = &topic.name;
        let shared = Arc::clone(&self.shared);
        if !self.topics.contains_key(name) && topic.partitions.is_empty() {
            return;
        }
        let mut state = self
            .topics
            .remove(name)
            .unwrap_or_else(|| TopicState { id: topic.id, partitions: Vec::new() });
        let recreated = state.id != topic.id;
        if recreated {
            tracing::warn!(topic = %name, "the topic was deleted and created again; \
                unacknowledged batches go to the new one");
        }
        state.id = topic.id;
        let mut fresh = Vec::new();
        for partition in &topic.partitions {
            let at = match state.partitions.get(partition.partition as usize) {
                Some(&at) => at,
                None => {
                    let queue = self.add_partition(name, topic, partition);
                    state.partitions.push(queue.index);
                    fresh.push(Arc::clone(&queue));
                    queue.index
                }
            };
            self.update_leader(at, topic, partition, metadata, recreated);
        }
        self.topics.insert(Arc::clone(name), state);
        shared.accumulator.topic(name).update(|routes| {
            routes.queues.extend(fresh);
            let led = topic.partitions.iter().filter(|partition| partition.leader.is_some());
            routes.available = led.map(|partition| partition.partition).collect();
        });
        shared.advance_line(|queue| queue.unpark(name));
    }

    fn add_partition(
        &mut self,
        name: &Arc<str>,
        topic: &TopicMetadata,
        partition: &PartitionMetadata,
    ) -> Arc<PartitionQueue> {
        let name = TopicPartition::new(Arc::clone(name), partition.partition);
        let queue = PartitionQueue::new(name, self.partitions.len());
        let config = self.config();
        let mut window = match config.is_idempotent() {
            true => Window::idempotent(config.max_in_flight),
            false => Window::plain(),
        };
        if let Some((id, epoch)) = self.id {
            window.set_producer(id, epoch);
        }
        let backoff = Backoff::new(config.retry_backoff, config.retry_backoff_max);
        self.partitions.push(PartitionState {
            queue: Arc::clone(&queue),
            window,
            topic_id: topic.id,
            topic_changed: false,
            leader: None,
            leader_epoch: partition.leader_epoch,
            link: None,
            route: 0,
            backoff,
            not_before: None,
            trouble: None,
            is_ready: false,
            timer: None,
        });
        queue
    }

    fn update_leader(
        &mut self,
        at: QueueIndex,
        topic: &TopicMetadata,
        partition: &PartitionMetadata,
        metadata: &Metadata,
        recreated: bool,
    ) {
        // A leader that is not among the live brokers cannot be connected to.
        let leader = partition.leader.filter(|leader| metadata.brokers.contains_key(leader));
        let config = &self.shared.config;
        let Some(state) = self.partitions.get_mut(at) else { return };
        state.topic_id = topic.id;
        state.topic_changed |= recreated;
        let older = partition.leader_epoch < state.leader_epoch && !recreated;
        if !older && (state.leader, state.leader_epoch) != (leader, partition.leader_epoch) {
            (state.leader, state.leader_epoch) = (leader, partition.leader_epoch);
            if leader.is_some() {
                state.led_anew(config);
            } else {
                self.metadata.wanted |= !state.window.is_empty();
            }
        }
        let moved = leader.is_some_and(|new| state.link.is_some_and(|(old, _)| old != new));
        if moved && state.reroute() {
            tracing::debug!(partition = %state.queue.name, leader = ?leader, epoch = %state.leader_epoch,
                "another leader, what is on the wire goes to it");
        }
        if moved || recreated {
            self.settle(at);
        }
        self.make_ready(at);
    }

    pub(super) fn on_producer_id(&mut self, answer: Result<(ProducerId, ProducerEpoch), Arc<str>>) {
        self.producer_id.under_way = false;
        match answer {
            Ok((id, epoch)) => {
                tracing::debug!(id, epoch, "producer id");
                self.producer_id.failures = 0;
                self.id = Some((id, epoch));
                self.give_producer_id(id, epoch);
            }
            Err(error) => {
                self.producer_id.failures += 1;
                if self.producer_id.failures == 1 {
                    tracing::warn!(%error, "no producer id, will ask again");
                }
                self.trouble = Some(error);
                self.producer_id.wanted = true;
                let pause = self.pause(self.producer_id.failures);
                self.producer_id.not_before = Some(Instant::now() + pause);
            }
        }
    }

    fn give_producer_id(&mut self, id: ProducerId, epoch: ProducerEpoch) {
        for at in 0..self.partitions.len() {
            if let Some(partition) = self.partitions.get_mut(at) {
                partition.window.set_producer(id, epoch);
            }
            self.make_ready(at);
        }
    }

    /// `retry.backoff.ms` after `failures` of them.
    fn pause(&self, failures: u32) -> std::time::Duration {
        let config = self.config();
        let mut backoff = Backoff::new(config.retry_backoff, config.retry_backoff_max);
        (0..failures.min(10)).fold(backoff.after_failure(), |_, _| backoff.after_failure())
    }
}

async fn init_producer_id(
    cluster: &Cluster,
    client_id: String,
) -> Result<(ProducerId, ProducerEpoch), Arc<str>> {
    let ask = move |connection: Connection| {
        let request = v1::InitProducerIdRequest { client_id: client_id.clone() };
        async move {
            let address = connection.address().to_owned();
            let answer = LogClient::new(connection).init_producer_id(request).await;
            let answer = answer.map(tonic::Response::into_inner);
            let refused = |status| ClientError::Refused { address: address.clone(), status };
            match answer.map_err(&refused)? {
                // Another broker may be able to.
                v1::InitProducerIdResponse { error: Some(error), .. } => {
                    let text = format!("no producer id: {}; {}", error.message, error.remedy);
                    Err(refused(tonic::Status::unavailable(text)))
                }
                answer => Ok(answer),
            }
        }
    };
    let answer = cluster.ask_any(ask).await.map_err(|error| Arc::<str>::from(error.to_string()))?;
    let epoch = ProducerEpoch::try_from(answer.producer_epoch).ok().filter(|epoch| *epoch >= 0);
    match (answer.producer_id, epoch) {
        (id @ 0.., Some(epoch)) => Ok((id, epoch)),
        (id, _) => Err(format!("the broker gave no valid producer id: {id}").into()),
    }
}
