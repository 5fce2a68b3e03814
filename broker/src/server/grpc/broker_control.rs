//! `BrokerControl`: what the controller tells this broker, handed to the cluster member.

use std::sync::Arc;

use coordinator::zk::payload::KafkaEndpoint;
use hyper::body::Incoming;
use proto::{BrokerId, ErrorCode, LeaderEpoch, TopicId, v1};
use tokio::sync::oneshot;
use tonic::Status;

use super::requests::Requests;
use super::watch::StreamGuard;
use super::{ResponseBody, Services, wire};
use crate::cluster::member::{Update, UpdateError};
use crate::cluster::metadata::{BrokerImage, ClusterDelta, PartitionImage, TopicImage};

/// `UpdateCluster`.
pub(super) async fn update_cluster(
    services: &Services,
    body: Incoming,
    guard: Arc<StreamGuard>,
) -> Result<http::Response<ResponseBody>, Status> {
    let request: v1::UpdateClusterRequest = Requests::small(body, guard).only().await?;
    let (reply, answer) = oneshot::channel();
    let update = Update {
        controller_epoch: request.controller_epoch,
        sequence: request.sequence,
        incarnation: uuid::Uuid::from_slice(&request.incarnation)
            .map_err(|_| Status::invalid_argument("incarnation is not 16 bytes"))?,
        delta: delta(request)?,
        reply,
    };
    let stopping = || Status::unavailable("this broker is starting or stopping; send it again");
    services.updates.send(update).await.map_err(|_| stopping())?;
    let response = match answer.await.map_err(|_| stopping())? {
        Ok(applied) => v1::UpdateClusterResponse {
            applied: applied.sequence,
            controller_epoch: applied.controller_epoch,
            reread: applied.reread,
            error: None,
        },
        Err(error) => {
            let code = match error {
                UpdateError::OtherIncarnation { .. } => ErrorCode::InvalidRequest,
                UpdateError::Registry(_) | UpdateError::NoSession => {
                    ErrorCode::CoordinatorNotAvailable
                }
            };
            let error = Some(code.to_message(error.to_string(), ""));
            v1::UpdateClusterResponse { error, ..Default::default() }
        }
    };
    Ok(wire::answer_message(&response))
}

/// The change in domain types; overrides of clients do not concern a broker.
fn delta(request: v1::UpdateClusterRequest) -> Result<ClusterDelta, Status> {
    let topics = request.topics.into_iter().map(topic).collect::<Result<_, _>>()?;
    let deleted = request
        .deleted
        .into_iter()
        .map(|topic| Ok((topic.name.into(), topic_id(&topic.topic_id)?)))
        .collect::<Result<_, Status>>()?;
    let brokers =
        request.brokers.map(|live| live.nodes.into_iter().map(broker).collect::<Vec<_>>());
    let (mut topic_configs, mut broker_configs) = (Vec::new(), Vec::new());
    for v1::ConfigOverrides { kind, name, values } in request.configs {
        let values = values.into_iter().collect();
        match (kind.as_str(), name.parse()) {
            ("topics", _) => topic_configs.push((name.into(), values)),
            ("brokers", Ok(id)) => broker_configs.push((BrokerId(id), values)),
            // Of another kind, or from a newer controller.
            _ => {}
        }
    }
    let controller = (!request.controller.is_empty()).then(|| request.controller.into());
    Ok(ClusterDelta { topics, deleted, brokers, topic_configs, broker_configs, controller })
}

fn topic(topic: v1::Topic) -> Result<TopicImage, Status> {
    let id = topic_id(&topic.topic_id)?;
    let in_order =
        topic.partitions.iter().zip(0..).all(|(state, number)| state.partition == number);
    if !in_order {
        return Err(Status::invalid_argument("partitions of a topic are not dense from 0"));
    }
    let ids = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
    let partitions = topic.partitions.into_iter().map(|state| PartitionImage {
        leader: (state.leader >= 0).then_some(BrokerId(state.leader)),
        leader_epoch: LeaderEpoch(state.leader_epoch),
        replicas: ids(state.replicas),
        isr: ids(state.isr),
        electable: ids(state.electable),
        adding: ids(state.adding),
        version: state.state_version,
    });
    let partitions = partitions.collect();
    let throttle = u64::try_from(topic.throttle).ok().filter(|rate| *rate > 0);
    Ok(TopicImage { name: topic.name.into(), id, partitions, throttle })
}

fn topic_id(bytes: &[u8]) -> Result<TopicId, Status> {
    TopicId::from_slice(bytes).ok_or_else(|| Status::invalid_argument("topic_id is not 16 bytes"))
}

fn broker(node: v1::Node) -> BrokerImage {
    BrokerImage {
        id: BrokerId(node.id),
        host: node.host,
        grpc_port: u16::try_from(node.grpc_port).unwrap_or_default(),
        kafka: node.kafka.into_iter().map(kafka_endpoint).collect(),
        rack: node.rack,
        incarnation: uuid::Uuid::from_slice(&node.incarnation).unwrap_or_default(),
    }
}

fn kafka_endpoint(endpoint: v1::KafkaEndpoint) -> KafkaEndpoint {
    let port = u16::try_from(endpoint.port).unwrap_or_default();
    KafkaEndpoint { name: endpoint.name, host: endpoint.host, port }
}
