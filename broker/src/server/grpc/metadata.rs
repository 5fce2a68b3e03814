//! `Metadata` and `WatchMetadata`: what this broker knows of the cluster, once or as it changes.
//!
//! What clients act on goes out at once: leaders, epochs, replicas, brokers, topics. Changes of ISRs
//! alone wait a moment for others, since they come by the thousand when a broker dies, each topic is
//! told whole, and clients only show them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use proto::{BrokerId, ErrorCode, grpc, v1};
use tokio::time::{Instant, Sleep};
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;

use super::log_service::{Answer, bounded};
use super::requests::Requests;
use super::watch::StreamGuard;
use super::{Services, auto_create, wire};
use crate::api::{MetadataView, Refusal, Wanted};
use crate::cluster::metadata::{BrokerImage, ClusterImage, TopicImage};

/// A change of an ISR alone waits so long for others.
const ISR_WAITS: Duration = Duration::from_millis(100);
/// Signs of life come no more often.
const KEEP_ALIVE_MIN_MS: u32 = 100;

/// `Metadata`.
pub(super) async fn metadata(
    services: &Services,
    body: Incoming,
    guard: Arc<StreamGuard>,
) -> Answer {
    let request: v1::MetadataRequest = Requests::small(body, guard).only().await?;
    bounded(request.topics.len(), "topics")?;
    if request.allow_auto_create && services.auto_create {
        auto_create::create_missing(services, &request.topics).await;
    }
    Ok(wire::answer_message(&metadata_message(services.api.metadata(&wanted(request)))))
}

/// `WatchMetadata`: the answer, then what has changed in it.
pub(super) async fn watch_metadata(
    services: Arc<Services>,
    body: Incoming,
    guard: Arc<StreamGuard>,
) -> Answer {
    let request: v1::MetadataRequest = Requests::small(body, guard).only().await?;
    bounded(request.topics.len(), "topics")?;
    let changes = WatchStream::new(services.api.metadata_changes());
    let keep_alive = (request.keep_alive_ms > 0)
        .then(|| Duration::from_millis(request.keep_alive_ms.max(KEEP_ALIVE_MIN_MS).into()));
    let stream = MetadataStream {
        services,
        wanted: wanted(request),
        changes,
        last: None,
        held_until: None,
        keep_alive,
        quiet_until: Box::pin(tokio::time::sleep(keep_alive.unwrap_or_default())),
    };
    Ok(wire::answer(stream.boxed_unsync()))
}

fn wanted(request: v1::MetadataRequest) -> Wanted {
    if request.all_topics { Wanted::All } else { Wanted::Named(request.topics) }
}

/// An answer as a message.
fn metadata_message(view: MetadataView) -> v1::MetadataResponse {
    let image = &view.image;
    let topics = view.topics.into_iter().map(|topic| match topic {
        Ok(topic) => topic_message(&topic, |id| image.brokers.contains_key(&id)),
        Err((name, refusal)) => {
            v1::Topic { name, error: Some(error_of(&refusal)), ..Default::default() }
        }
    });
    v1::MetadataResponse {
        cluster_id: image.cluster_id.to_string(),
        topics: topics.collect(),
        brokers: image.brokers.values().map(node_message).collect(),
        zookeeper: view.zookeeper,
        controller: image.controller.as_deref().unwrap_or_default().to_owned(),
        unchanged: false,
    }
}

fn error_of(refusal: &Refusal) -> v1::Error {
    debug_assert_ne!(refusal.code as i16, ErrorCode::UnknownServerError as i16);
    wire::error(refusal)
}

fn topic_message(topic: &TopicImage, is_live: impl Fn(BrokerId) -> bool) -> v1::Topic {
    let partitions = topic.partitions.iter().enumerate().map(|(number, state)| v1::Partition {
        partition: number as i32,
        leader: state.leader.filter(|&leader| is_live(leader)).map_or(-1, |leader| leader.0),
        leader_epoch: state.leader_epoch.0,
        replicas: state.replicas.iter().map(|id| id.0).collect(),
        isr: state.isr.iter().map(|id| id.0).collect(),
        electable: state.electable.iter().map(|id| id.0).collect(),
        adding: Vec::new(),
        removing: Vec::new(),
        state_version: state.version,
    });
    v1::Topic {
        name: topic.name.to_string(),
        topic_id: topic.id.to_bytes(),
        partitions: partitions.collect(),
        error: None,
        throttle: 0,
    }
}

fn node_message(broker: &BrokerImage) -> v1::Node {
    v1::Node {
        id: broker.id.0,
        host: broker.host.clone(),
        grpc_port: broker.grpc_port.into(),
        rack: broker.rack.clone(),
        incarnation: Bytes::copy_from_slice(broker.incarnation.as_bytes()),
        kafka: Vec::new(),
    }
}

/// The body of a metadata stream: ends only with the connection.
struct MetadataStream {
    services: Arc<Services>,
    wanted: Wanted,
    changes: WatchStream<u64>,
    /// What was sent, all answers taken together.
    last: Option<MetadataView>,
    /// Something has changed since that can wait, until then.
    held_until: Option<Pin<Box<Sleep>>>,
    /// A sign of life is wanted after so much silence.
    keep_alive: Option<Duration>,
    quiet_until: Pin<Box<Sleep>>,
}

impl MetadataStream {
    /// What has changed since the last answer, if that is to be told now: because it cannot wait, or
    /// because it has `waited`.
    fn next_answer(&mut self, waited: bool) -> Option<v1::MetadataResponse> {
        let now = self.services.api.metadata(&self.wanted);
        let answer = match &self.last {
            None => metadata_message(now.clone()),
            Some(last) => {
                let Some(topics) = difference(last, &now) else {
                    self.held_until = None;
                    return None;
                };
                if !waited && can_wait(last, &now, &topics) {
                    let from_now = || Box::pin(tokio::time::sleep(ISR_WAITS));
                    self.held_until.get_or_insert_with(from_now);
                    return None;
                }
                metadata_message(MetadataView { topics, ..now.clone() })
            }
        };
        self.held_until = None;
        self.last = Some(now);
        Some(answer)
    }

    /// An answer goes out: the next sign of life is due a while after it.
    fn send(&mut self, answer: &v1::MetadataResponse) -> Result<Frame<Bytes>, Status> {
        if let Some(keep_alive) = self.keep_alive {
            self.quiet_until.as_mut().reset(Instant::now() + keep_alive);
        }
        let encoded = grpc::encode_message(answer);
        encoded.map(Frame::data).map_err(|error| Status::resource_exhausted(error.to_string()))
    }
}

impl Body for MetadataStream {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // The first one comes at once.
        while let Poll::Ready(change) = Pin::new(&mut self.changes).poll_next(cx) {
            if change.is_none() {
                return Poll::Ready(None);
            }
            if let Some(answer) = self.next_answer(false) {
                return Poll::Ready(Some(self.send(&answer)));
            }
        }
        if self.held_until.as_mut().is_some_and(|held| held.as_mut().poll(cx).is_ready())
            && let Some(answer) = self.next_answer(true)
        {
            return Poll::Ready(Some(self.send(&answer)));
        }
        if self.keep_alive.is_some() && self.quiet_until.as_mut().poll(cx).is_ready() {
            let alive = v1::MetadataResponse { unchanged: true, ..Default::default() };
            return Poll::Ready(Some(self.send(&alive)));
        }
        Poll::Pending
    }
}

type Topics = Vec<Result<Arc<TopicImage>, (String, Refusal)>>;

/// The topics of `now` that are not as in `last`, those that are gone with an error; `None` where
/// nothing else has changed either.
fn difference(last: &MetadataView, now: &MetadataView) -> Option<Topics> {
    let (old, new) = (&last.image, &now.image);
    let mut topics = Topics::new();
    // Both name the same topics in the same order, unless all are wanted: then in that of the names.
    let mut before = last.topics.iter().peekable();
    for topic in &now.topics {
        while let Some(gone) = before.next_if(|before| name(before) < name(topic)) {
            topics.push(Err((name(gone).to_owned(), Refusal::unknown_topic(name(gone)))));
        }
        let known = before.next_if(|before| name(before) == name(topic));
        if !known.is_some_and(|known| is_same(known, topic, old, new)) {
            topics.push(topic.clone());
        }
    }
    let gone = before.map(|gone| Err((name(gone).into(), Refusal::unknown_topic(name(gone)))));
    topics.extend(gone);
    (!topics.is_empty() || !is_same_cluster(old, new)).then_some(topics)
}

fn is_same_cluster(old: &ClusterImage, new: &ClusterImage) -> bool {
    old.brokers == new.brokers
        && old.cluster_id == new.cluster_id
        && old.controller == new.controller
}

/// Whether the `changed` topics differ in their ISRs only, and nothing else does.
fn can_wait(last: &MetadataView, now: &MetadataView, changed: &Topics) -> bool {
    let before = |topic: &TopicImage| last.image.topics.get(&topic.name);
    is_same_cluster(&last.image, &now.image)
        && changed.iter().all(|topic| match topic {
            Ok(topic) => before(topic).is_some_and(|before| leads_alike(before, topic)),
            Err(_) => false,
        })
}

/// The same but for who is in sync.
fn leads_alike(before: &TopicImage, topic: &TopicImage) -> bool {
    before.id == topic.id
        && before.partitions.len() == topic.partitions.len()
        && before.partitions.iter().zip(&topic.partitions).all(|(before, now)| {
            before.leader == now.leader
                && before.leader_epoch == now.leader_epoch
                && before.replicas == now.replicas
        })
}

fn name(topic: &Result<Arc<TopicImage>, (String, Refusal)>) -> &str {
    match topic {
        Ok(topic) => &topic.name,
        Err((name, _)) => name,
    }
}

/// Whether a client would be told the same, by the brokers that lived then and those that live now.
fn is_same(
    before: &Result<Arc<TopicImage>, (String, Refusal)>,
    topic: &Result<Arc<TopicImage>, (String, Refusal)>,
    old: &ClusterImage,
    new: &ClusterImage,
) -> bool {
    let (Ok(before), Ok(topic)) = (before, topic) else {
        return before.is_err() && topic.is_err();
    };
    let is_steady =
        |leader: BrokerId| old.brokers.contains_key(&leader) == new.brokers.contains_key(&leader);
    (Arc::ptr_eq(before, topic) || before == topic)
        && (Arc::ptr_eq(&old.brokers, &new.brokers)
            || topic.partitions.iter().filter_map(|state| state.leader).all(is_steady))
}
