//! The Admin service: in front of the queue of whoever owns the state, or the answer who does.
//!
//! Changes go through the queue, and so do looks at the picture; what the picture does not have
//! (exact partition states, groups) is read from ZooKeeper here, beside the owner. Every call is
//! answered within [`ANSWER_MAX`]; a standby answers at once that it is none, and who is.

use std::time::Duration;

use proto::ErrorCode;
use proto::v1::{self, admin_server::Admin};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Request, Response, Status};

use super::decision::Refusal;
use super::describe;
use super::event::{Command, Event, Reply};
use super::requests::RequestId;
use super::state::Cluster;
use super::{groups, logs, reassignment, unknown_group};
use crate::registry::RegistryError;
use crate::registry::configs::Kind;
use crate::zk::{Live, names};

/// The longest a call takes.
const ANSWER_MAX: Duration = Duration::from_millis(4_800);
/// So many items (topics, keys, offsets) one request may have.
const ITEMS_MAX: usize = 10_000;
/// Response metadata of a refusal by a standby: the active controller's address.
pub const CONTROLLER_HEADER: &str = "ottla-controller";

/// What this process is at the moment.
#[derive(Clone)]
pub(crate) enum Role {
    /// Not connected to ZooKeeper, or the election is not over.
    Starting,
    /// Another process is active.
    Standby {
        /// Its address.
        controller: String,
    },
    /// This process is active.
    Active(Active),
}

/// The way to the owner of the state.
#[derive(Clone)]
pub(crate) struct Active {
    /// The fencing number.
    pub(crate) epoch: i32,
    /// Address of this process.
    pub(crate) address: String,
    /// The session.
    pub(crate) live: Live,
    /// The queue.
    pub(crate) events: mpsc::Sender<Event>,
}

/// The service; clones share it.
#[derive(Clone)]
pub(crate) struct AdminService {
    role: watch::Receiver<Role>,
}

impl AdminService {
    /// A service that follows the role of its process.
    pub(crate) fn new(role: watch::Receiver<Role>) -> Self {
        Self { role }
    }

    fn active(&self) -> Result<Active, Status> {
        match &*self.role.borrow() {
            Role::Active(active) => Ok(active.clone()),
            Role::Standby { controller } => Err(not_controller(controller)),
            Role::Starting => Err(Status::unavailable(
                "no controller is active: this coordinator is not connected to ZooKeeper, or the \
                 election is not over; try again in a moment",
            )),
        }
    }

    async fn change<T>(
        &self,
        request_id: &[u8],
        items: usize,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<Response<T>, Status> {
        let id = RequestId::from_bytes(request_id)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.ask(items, |reply| Event::Command(id, command(reply))).await
    }

    /// Puts an event into the queue and waits for its answer.
    pub(super) async fn ask<T>(
        &self,
        items: usize,
        event: impl FnOnce(Reply<T>) -> Event,
    ) -> Result<Response<T>, Status> {
        if items > ITEMS_MAX {
            return Err(Status::invalid_argument(format!(
                "{items} items in one request, at most {ITEMS_MAX} are taken; split it"
            )));
        }
        let (reply, answer) = oneshot::channel();
        let event = event(reply);
        let active = self.active()?;
        let answered = async {
            active.events.send(event).await.map_err(|_| term_over())?;
            answer.await.map_err(|_| term_over())
        };
        in_time(answered).await.map(Response::new)
    }

    async fn look<T: Send + 'static>(
        active: &Active,
        look: impl FnOnce(&Cluster) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        let look = Event::Look(Box::new(move |cluster| {
            // Nobody may be there to hear it.
            let _ = reply.send(look(cluster));
        }));
        active.events.send(look).await.map_err(|_| term_over())?;
        answer.await.map_err(|_| term_over())
    }

    async fn read<T, F: Future<Output = Result<T, Status>>>(
        &self,
        read: impl FnOnce(Active) -> F,
    ) -> Result<Response<T>, Status> {
        in_time(read(self.active()?)).await.map(Response::new)
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(ANSWER_MAX, answer).await.unwrap_or_else(|_| {
        Err(Status::deadline_exceeded(
            "the controller did not finish in time, probably because ZooKeeper does not answer; \
             a change may still happen: try again with the same request id",
        ))
    })
}

fn term_over() -> Status {
    Status::unavailable(
        "this coordinator stopped being the controller while it worked on the request; try again \
         with the same request id, which tells whether it was done",
    )
}

fn not_controller(controller: &str) -> Status {
    let mut status = Status::failed_precondition(format!(
        "{}: this coordinator stands by, the active controller is at {controller}; ask that one, \
         or any broker",
        ErrorCode::NotController.text()
    ));
    if let Ok(value) = controller.parse() {
        status.metadata_mut().insert(CONTROLLER_HEADER, value);
    }
    status
}

fn unreadable(error: &RegistryError) -> Status {
    if error.is_transient() {
        Status::unavailable(format!("{error}; try again"))
    } else {
        Status::internal(error.to_string())
    }
}

fn kind(kind: i32) -> Result<Kind, Status> {
    match v1::ConfigKind::try_from(kind) {
        Ok(v1::ConfigKind::Topic) => Ok(Kind::Topic),
        Ok(v1::ConfigKind::Broker) => Ok(Kind::Broker),
        Ok(v1::ConfigKind::Client) => Ok(Kind::Client),
        Err(_) => Err(Status::invalid_argument(format!(
            "{kind} is no kind of configuration; 0 is topic, 1 broker, 2 client"
        ))),
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn create_topics(
        &self,
        request: Request<v1::CreateTopicsRequest>,
    ) -> Result<Response<v1::TopicResults>, Status> {
        let request = request.into_inner();
        let id = request.request_id.clone();
        let items = request.topics.len();
        self.change(&id, items, |reply| Command::CreateTopics(request, reply)).await
    }

    async fn delete_topics(
        &self,
        request: Request<v1::DeleteTopicsRequest>,
    ) -> Result<Response<v1::TopicResults>, Status> {
        let request = request.into_inner();
        let id = request.request_id.clone();
        let items = request.topics.len();
        self.change(&id, items, |reply| Command::DeleteTopics(request, reply)).await
    }

    async fn create_partitions(
        &self,
        request: Request<v1::CreatePartitionsRequest>,
    ) -> Result<Response<v1::TopicResults>, Status> {
        let request = request.into_inner();
        let id = request.request_id.clone();
        let items = request.topics.len();
        self.change(&id, items, |reply| Command::CreatePartitions(request, reply)).await
    }

    async fn describe_topics(
        &self,
        request: Request<v1::DescribeTopicsRequest>,
    ) -> Result<Response<v1::DescribeTopicsResponse>, Status> {
        let v1::DescribeTopicsRequest { topics: names, with_logs } = request.into_inner();
        self.read(|active| async move {
            let look =
                |cluster: &Cluster| (describe::seen(cluster, names), cluster.brokers.clone());
            let (seen, brokers) = Self::look(&active, look).await?;
            let topics = describe::topics(&active.live.client, seen).await;
            let mut topics = topics.map_err(|error| unreadable(&error))?;
            let unreachable = match with_logs {
                true => logs::add(&mut topics, &brokers).await,
                false => Vec::new(),
            };
            Ok(v1::DescribeTopicsResponse { topics, unreachable })
        })
        .await
    }

    async fn describe_cluster(
        &self,
        _: Request<v1::DescribeClusterRequest>,
    ) -> Result<Response<v1::DescribeClusterResponse>, Status> {
        self.read(|active| async move {
            let look = |cluster: &Cluster| {
                (describe::brokers(cluster), describe::health(cluster), cluster.cordoned())
            };
            let (brokers, health, cordoned) = Self::look(&active, look).await?;
            let id = describe::cluster_id(&active.live.client).await;
            Ok(v1::DescribeClusterResponse {
                cluster_id: id.map_err(|error| unreadable(&error))?,
                controller: active.address,
                controller_epoch: active.epoch,
                brokers,
                offline_partitions: health.offline,
                under_replicated_partitions: health.under_replicated,
                cordoned: cordoned.into_iter().map(|id| id.0).collect(),
            })
        })
        .await
    }

    async fn describe_configs(
        &self,
        request: Request<v1::DescribeConfigsRequest>,
    ) -> Result<Response<v1::DescribeConfigsResponse>, Status> {
        let request = request.into_inner();
        let kind = kind(request.kind)?;
        self.read(|active| async move {
            let look = move |cluster: &Cluster| describe::configs(cluster, kind, &request.names);
            let resources = Self::look(&active, look).await?;
            Ok(v1::DescribeConfigsResponse { resources })
        })
        .await
    }

    async fn alter_configs(
        &self,
        request: Request<v1::AlterConfigsRequest>,
    ) -> Result<Response<v1::AlterConfigsResponse>, Status> {
        let request = request.into_inner();
        let kind = kind(request.kind)?;
        let id = request.request_id.clone();
        let items = request.set.len() + request.remove.len();
        self.change(&id, items, |reply| Command::AlterConfigs(kind, request, reply)).await
    }

    async fn list_groups(
        &self,
        _: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        self.read(|active| async move {
            let groups = groups::list(&active.live.client).await;
            Ok(v1::ListGroupsResponse { groups: groups.map_err(|error| unreadable(&error))? })
        })
        .await
    }

    async fn describe_group(
        &self,
        request: Request<v1::DescribeGroupRequest>,
    ) -> Result<Response<v1::DescribeGroupResponse>, Status> {
        let name = request.into_inner().name;
        if names::check_group(&name).is_err() {
            return Ok(Response::new(group_refused(unknown_group(&name))));
        }
        self.read(|active| async move {
            let found = groups::read(&active.live.client, &name).await;
            let Some(group) = found.map_err(|error| unreadable(&error))? else {
                return Ok(group_refused(unknown_group(&name)));
            };
            let look = |cluster: &Cluster| {
                let topics = groups::topics_of(&group, cluster);
                (group, topics, cluster.brokers.clone())
            };
            let (group, topics, brokers) = Self::look(&active, look).await?;
            Ok(groups::describe(&group, &topics, &brokers).await)
        })
        .await
    }

    async fn delete_group(
        &self,
        request: Request<v1::DeleteGroupRequest>,
    ) -> Result<Response<v1::DeleteGroupResponse>, Status> {
        let request = request.into_inner();
        let id = request.request_id.clone();
        self.change(&id, 1, |reply| Command::DeleteGroup(request, reply)).await
    }

    async fn reset_offsets(
        &self,
        request: Request<v1::ResetOffsetsRequest>,
    ) -> Result<Response<v1::ResetOffsetsResponse>, Status> {
        let request = request.into_inner();
        let id = request.request_id.clone();
        let items = request.offsets.len();
        self.change(&id, items, |reply| Command::ResetOffsets(request, reply)).await
    }

    async fn alter_partition_reassignments(
        &self,
        request: Request<v1::AlterPartitionReassignmentsRequest>,
    ) -> Result<Response<v1::AlterPartitionReassignmentsResponse>, Status> {
        let request = request.into_inner();
        let id = request.request_id.clone();
        let items = request.partitions.len();
        self.change(&id, items, |reply| Command::AlterReassignments(request, reply)).await
    }

    async fn list_partition_reassignments(
        &self,
        request: Request<v1::ListPartitionReassignmentsRequest>,
    ) -> Result<Response<v1::ListPartitionReassignmentsResponse>, Status> {
        let v1::ListPartitionReassignmentsRequest { topics, with_progress } = request.into_inner();
        self.read(|active| async move {
            let look = move |cluster: &Cluster| {
                (reassignment::list(cluster, &topics), cluster.brokers.clone())
            };
            let (mut reassignments, brokers) = Self::look(&active, look).await?;
            let unreachable = match with_progress {
                true => reassignment::with_progress(&mut reassignments, &brokers).await,
                false => Vec::new(),
            };
            Ok(v1::ListPartitionReassignmentsResponse { reassignments, unreachable })
        })
        .await
    }

    async fn elect_leaders(
        &self,
        request: Request<v1::ElectLeadersRequest>,
    ) -> Result<Response<v1::ElectLeadersResponse>, Status> {
        let request = request.into_inner();
        let items = request.partitions.iter().map(|topic| 1 + topic.partitions.len()).sum();
        if v1::ElectionType::try_from(request.r#type).is_err() {
            return Err(Status::invalid_argument(format!(
                "{} is no type of election; 0 is preferred, 1 unclean",
                request.r#type
            )));
        }
        self.change(&[], items, |reply| Command::ElectLeaders(request, reply)).await
    }
}

fn group_refused(Refusal(error): Refusal) -> v1::DescribeGroupResponse {
    v1::DescribeGroupResponse { error: Some(error), generation: -1, ..Default::default() }
}
