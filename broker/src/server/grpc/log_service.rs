//! The small calls of `Log`: one message in, one out, and the stream of metadata changes.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use proto::{ErrorCode, LeaderEpoch, Offset, grpc, v1};
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;

use super::requests::Requests;
use super::watch::StreamGuard;
use super::{ResponseBody, Services, wire};
use crate::api::{DeleteRecords, DeleteUpTo, MetadataView, OffsetAt, Refusal, Wanted};
use crate::cluster::metadata::{BrokerImage, TopicImage};

type Answer = Result<http::Response<ResponseBody>, Status>;

/// Queries, or topics, of one request.
const ITEMS_MAX: usize = 100_000;
/// How long a topic that was just created may take to be known here.
const CREATED_WITHIN: Duration = Duration::from_secs(5);

/// `ListOffsets`.
pub(super) async fn list_offsets(
    services: &Services,
    body: Incoming,
    guard: Arc<StreamGuard>,
) -> Answer {
    let request: v1::ListOffsetsRequest = Requests::small(body, guard).only().await?;
    bounded(request.queries.len(), "queries")?;
    let mut answers = Vec::with_capacity(request.queries.len());
    for query in request.queries {
        let at = match query.timestamp_ms {
            -1 => Ok(OffsetAt::Latest),
            -2 => Ok(OffsetAt::Earliest),
            time if time >= 0 => Ok(OffsetAt::Time(time)),
            other => Err(Refusal::invalid_request(format!(
                "timestamp_ms is {other}; a time, -1 (latest) or -2 (earliest) is expected"
            ))),
        };
        let found = match at {
            Ok(at) => {
                let api = &services.api;
                api.list_offsets(&query.topic, &query.topic_id, query.partition, at).await
            }
            Err(refusal) => Err(refusal),
        };
        answers.push(match found {
            Ok(found) => v1::OffsetAnswer {
                error: None,
                offset: found.offset.map_or(-1, |offset| offset.0),
                timestamp_ms: found.timestamp_ms.unwrap_or(-1),
                leader_epoch: found.leader_epoch.0,
            },
            Err(refusal) => v1::OffsetAnswer {
                error: Some(wire::error(&refusal)),
                offset: -1,
                timestamp_ms: -1,
                leader_epoch: -1,
            },
        });
    }
    Ok(wire::answer_message(&v1::ListOffsetsResponse { answers }))
}

/// `DeleteRecords`.
pub(super) async fn delete_records(
    services: &Services,
    body: Incoming,
    guard: Arc<StreamGuard>,
) -> Answer {
    let request: v1::DeleteRecordsRequest = Requests::small(body, guard).only().await?;
    bounded(request.partitions.len(), "partitions")?;
    let asked = request.partitions.iter().map(|asked| DeleteRecords {
        topic: &asked.topic,
        topic_id: &asked.topic_id,
        partition: asked.partition,
        leader_epoch: LeaderEpoch(asked.leader_epoch),
        upto: match asked.offset {
            -1 => DeleteUpTo::HighWatermark,
            offset => DeleteUpTo::Offset(Offset(offset)),
        },
    });
    let answers = services.api.delete_records(&asked.collect::<Vec<_>>()).await;
    let results = answers.into_iter().map(|answer| match answer {
        Ok(done) => v1::DeletedRecords {
            error: None,
            low_watermark: done.low_watermark.0,
            leader_epoch: done.leader_epoch.0,
        },
        Err(refusal) => v1::DeletedRecords {
            error: Some(wire::error(&refusal)),
            low_watermark: -1,
            leader_epoch: -1,
        },
    });
    Ok(wire::answer_message(&v1::DeleteRecordsResponse { results: results.collect() }))
}

/// `InitProducerId`.
pub(super) async fn init_producer_id(
    services: &Services,
    body: Incoming,
    guard: Arc<StreamGuard>,
) -> Answer {
    let request: v1::InitProducerIdRequest = Requests::small(body, guard).only().await?;
    let response = match services.api.init_producer_id(&request.client_id).await {
        Ok(producer_id) => {
            v1::InitProducerIdResponse { error: None, producer_id, producer_epoch: 0 }
        }
        Err(refusal) => v1::InitProducerIdResponse {
            error: Some(wire::error(&refusal)),
            producer_id: -1,
            producer_epoch: -1,
        },
    };
    Ok(wire::answer_message(&response))
}

/// `Metadata`.
pub(super) async fn metadata(
    services: &Services,
    body: Incoming,
    guard: Arc<StreamGuard>,
) -> Answer {
    let request: v1::MetadataRequest = Requests::small(body, guard).only().await?;
    bounded(request.topics.len(), "topics")?;
    if request.allow_auto_create && services.auto_create {
        create_missing(services, &request.topics).await;
    }
    Ok(wire::answer_message(&metadata_message(services.api.metadata(&wanted(request)))))
}

/// `WatchMetadata`: the answer, and again after each change of it.
pub(super) async fn watch_metadata(
    services: Arc<Services>,
    body: Incoming,
    guard: Arc<StreamGuard>,
) -> Answer {
    let request: v1::MetadataRequest = Requests::small(body, guard).only().await?;
    bounded(request.topics.len(), "topics")?;
    let changes = WatchStream::new(services.api.metadata_changes());
    let wanted = wanted(request);
    Ok(wire::answer(MetadataStream { services, wanted, changes, last: None }.boxed_unsync()))
}

/// Creates the topics that are missing and waits until they are known here. What fails is left
/// out: the answer says that the topic does not exist.
async fn create_missing(services: &Services, names: &[String]) {
    let mut changes = services.api.metadata_changes();
    let view = services.api.metadata(&Wanted::Named(names.to_vec()));
    let mut awaited = HashSet::new();
    for (name, _) in view.topics.into_iter().filter_map(Result::err) {
        match services.controller.create_topic(&name).await {
            Ok(()) => {
                tracing::info!(topic = name, "topic created because a client asked for it");
                awaited.insert(name);
            }
            Err(status) => {
                tracing::info!(topic = name, cause = status.message(), "topic not created");
            }
        }
    }
    let known = async {
        loop {
            let view = services.api.metadata(&Wanted::Named(awaited.iter().cloned().collect()));
            if view.topics.iter().all(Result::is_ok) || changes.changed().await.is_err() {
                return;
            }
        }
    };
    if tokio::time::timeout(CREATED_WITHIN, known).await.is_err() {
        tracing::warn!("topics were created and are not known here yet");
    }
}

fn wanted(request: v1::MetadataRequest) -> Wanted {
    if request.all_topics { Wanted::All } else { Wanted::Named(request.topics) }
}

fn bounded(items: usize, what: &str) -> Result<(), Status> {
    if items > ITEMS_MAX {
        return Err(Status::invalid_argument(format!(
            "{items} {what} in one request, at most {ITEMS_MAX} are taken; divide it"
        )));
    }
    Ok(())
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
    }
}

fn error_of(refusal: &Refusal) -> v1::Error {
    debug_assert_ne!(refusal.code as i16, ErrorCode::UnknownServerError as i16);
    wire::error(refusal)
}

fn topic_message(topic: &TopicImage, is_live: impl Fn(proto::BrokerId) -> bool) -> v1::Topic {
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
    }
}

fn node_message(broker: &BrokerImage) -> v1::Node {
    v1::Node {
        id: broker.id.0,
        host: broker.host.clone(),
        grpc_port: broker.grpc_port.into(),
        rack: broker.rack.clone(),
        incarnation: Bytes::copy_from_slice(broker.incarnation.as_bytes()),
    }
}

/// The body of a metadata stream: ends only with the connection.
struct MetadataStream {
    services: Arc<Services>,
    wanted: Wanted,
    changes: WatchStream<u64>,
    last: Option<v1::MetadataResponse>,
}

impl Body for MetadataStream {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            // The first one comes at once.
            if ready!(Pin::new(&mut self.changes).poll_next(cx)).is_none() {
                return Poll::Ready(None);
            }
            let now = metadata_message(self.services.api.metadata(&self.wanted));
            if self.last.as_ref() == Some(&now) {
                continue;
            }
            let frame = grpc::encode_message(&now)
                .map_err(|error| Status::resource_exhausted(error.to_string()));
            self.last = Some(now);
            return Poll::Ready(Some(frame.map(Frame::data)));
        }
    }
}
