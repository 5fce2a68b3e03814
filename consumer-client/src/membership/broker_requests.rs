//! One request to the group's coordinator each; its outcome in the words of the state machine.

use std::time::Duration;

use bytes::Bytes;
use proto::client::{ClientError, Cluster, Connection};
use proto::grpc::MESSAGE_LEN_MAX;
use proto::kafka::consumer_protocol::ConsumerSubscription;
use proto::v1::groups_client::GroupsClient;
use proto::{BrokerId, ErrorCode, LeaderEpoch, Offset, TopicId, TopicPartition, v1};
use tonic::{Code, Response, Status};

use super::assignor::{CONSUMER, GroupMember};
use super::classic_member::{Joined, Refused};
use super::commits::Write;

/// A request that is answered at once is given up after so long.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// The coordinator answers a join or sync after the rebalance timeout at the latest, and a little.
const BEYOND_REBALANCE: Duration = Duration::from_secs(10);

/// The coordinator as a member speaks to it.
#[derive(Clone)]
pub(super) struct Coordinator {
    pub(super) cluster: Cluster,
    pub(super) connection: Connection,
    pub(super) group: String,
}

/// A member's wish to join.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) member_id: String,
    pub(super) instance_id: String,
    pub(super) client_id: String,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) assignor: &'static str,
    pub(super) subscription: Bytes,
}

/// A member was let in.
#[derive(Debug)]
pub(super) struct LetIn {
    pub(super) joined: Joined,
    /// What the members agreed on.
    pub(super) assignor: String,
    /// For the leader: everybody, unless it need not assign.
    pub(super) members: Vec<GroupMember>,
    pub(super) skip: bool,
}

/// What is committed of a partition.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) partition: TopicPartition,
    pub(super) at: Option<(Offset, LeaderEpoch)>,
    pub(super) topic_id: Option<TopicId>,
}

/// The way to the group's coordinator; why it cannot be found.
pub(super) async fn find(cluster: Cluster, group: String) -> Result<Connection, String> {
    let request = v1::FindCoordinatorRequest { group };
    let found = cluster.ask_any(move |connection: Connection| {
        let request = request.clone();
        async move {
            let address = connection.address().to_owned();
            let asked = GroupsClient::new(connection).find_coordinator(request).await;
            asked.map_err(|status| ClientError::Refused { address, status })
        }
    });
    let found = tokio::time::timeout(ANSWERED_WITHIN, found).await;
    let found = found.map_err(|_| "no broker answered".to_owned())?;
    let answer = found.map_err(|error| error.to_string())?.into_inner();
    if let Some(error) = answer.error {
        return Err(error.message);
    }
    let id = BrokerId(answer.coordinator.ok_or("the answer names no broker")?.id);
    let connection = tokio::time::timeout(ANSWERED_WITHIN, cluster.connection(id)).await;
    let connection = connection.map_err(|_| format!("broker {id} did not answer"))?;
    connection.map_err(|error| error.to_string())
}

impl Coordinator {
    fn client(&self) -> GroupsClient<Connection> {
        GroupsClient::new(self.connection.clone()).max_decoding_message_size(MESSAGE_LEN_MAX)
    }

    /// Waits for an answer. One that does not come is of a coordinator that is gone.
    async fn answer<T>(
        &self,
        within: Duration,
        asked: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Refused> {
        match tokio::time::timeout(within, asked).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(by_status(&status)),
            Err(_) => {
                self.cluster.connection_broken(&self.connection);
                Err(Refused::Moved)
            }
        }
    }

    pub(super) async fn join(&self, wish: Wish) -> Result<LetIn, Refused> {
        let rebalance_timeout = wish.rebalance_timeout;
        let protocol =
            v1::GroupProtocol { name: wish.assignor.to_owned(), metadata: wish.subscription };
        let request = v1::JoinGroupRequest {
            group: self.group.clone(),
            member_id: wish.member_id,
            instance_id: wish.instance_id,
            client_id: wish.client_id,
            session_timeout_ms: ms(wish.session_timeout),
            rebalance_timeout_ms: ms(rebalance_timeout),
            protocol_type: CONSUMER.to_owned(),
            protocols: vec![protocol],
        };
        let mut client = self.client();
        let within = rebalance_timeout + BEYOND_REBALANCE;
        let answer = self.answer(within, client.join(request)).await?;
        if let Some(error) = &answer.error {
            return Err(match ErrorCode::from_code(error.code) {
                ErrorCode::MemberIdRequired => Refused::IdRequired(answer.member_id),
                _ => refused(error),
            });
        }
        let leads = answer.leader == answer.member_id;
        let members = answer.members.into_iter().map(|member| GroupMember {
            id: member.member_id,
            instance: member.instance_id,
            // Who says what cannot be read reads nothing.
            subscription: ConsumerSubscription::decode(member.metadata).unwrap_or_default(),
        });
        let joined = Joined { member_id: answer.member_id, generation: answer.generation, leads };
        let (assignor, skip) = (answer.protocol, answer.skip_assignment);
        Ok(LetIn { joined, assignor, members: members.collect(), skip })
    }

    pub(super) async fn sync(
        &self,
        caller: v1::GroupCaller,
        assignor: String,
        given: Vec<(String, Bytes)>,
        rebalance_timeout: Duration,
    ) -> Result<Bytes, Refused> {
        let given = given.into_iter();
        let request = v1::SyncGroupRequest {
            group: self.group.clone(),
            caller: Some(caller),
            protocol_type: CONSUMER.to_owned(),
            protocol: assignor,
            assignments: given
                .map(|(member_id, assignment)| v1::GroupAssignment { member_id, assignment })
                .collect(),
        };
        let mut client = self.client();
        let within = rebalance_timeout + BEYOND_REBALANCE;
        let answer = self.answer(within, client.sync(request)).await?;
        granted(answer.error.as_ref()).map(|()| answer.assignment)
    }

    pub(super) async fn heartbeat(&self, caller: v1::GroupCaller) -> Result<(), Refused> {
        let request = v1::HeartbeatRequest { group: self.group.clone(), caller: Some(caller) };
        let mut client = self.client();
        let answer = self.answer(ANSWERED_WITHIN, client.heartbeat(request)).await?;
        granted(answer.error.as_ref())
    }

    pub(super) async fn leave(&self, member_id: String) -> Result<(), Refused> {
        let group = self.group.clone();
        let request = v1::LeaveGroupRequest { group, member_id, instance_id: String::new() };
        let mut client = self.client();
        let answer = self.answer(ANSWERED_WITHIN, client.leave(request)).await?;
        granted(answer.error.as_ref())
    }

    /// An outcome for each write, in their order.
    pub(super) async fn commit(
        &self,
        caller: v1::GroupCaller,
        writes: &[Write],
    ) -> Result<Vec<Result<(), v1::Error>>, Refused> {
        let offsets = writes.iter().map(|write| v1::OffsetToCommit {
            topic: write.partition.topic.to_string(),
            topic_id: write.value.topic_id.to_bytes(),
            partition: write.partition.partition,
            offset: write.value.offset.unwrap_or_default().0,
            leader_epoch: write.value.leader_epoch.0,
            metadata: write.value.metadata.clone(),
        });
        let request = v1::CommitOffsetsRequest {
            group: self.group.clone(),
            caller: Some(caller),
            offsets: offsets.collect(),
        };
        let mut client = self.client();
        // It waits for the replicas.
        let within = ANSWERED_WITHIN * 3;
        let answer = self.answer(within, client.commit_offsets(request)).await?;
        granted(answer.error.as_ref())?;
        Ok(answer.results.into_iter().map(|one| one.error.map_or(Ok(()), Err)).collect())
    }

    pub(super) async fn fetch_offsets(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<Stored>, Refused> {
        let topics = partitions.chunk_by(|a, b| a.topic == b.topic);
        let topics = topics.map(|of_topic| v1::TopicPartitions {
            topic: of_topic[0].topic.to_string(),
            topic_id: Bytes::new(),
            partitions: of_topic.iter().map(|partition| partition.partition).collect(),
        });
        let (group, topics) = (self.group.clone(), topics.collect());
        let request = v1::FetchOffsetsRequest { group, topics, all: false };
        let mut client = self.client();
        let answer = self.answer(ANSWERED_WITHIN, client.fetch_offsets(request)).await?;
        granted(answer.error.as_ref())?;
        let stored = |one: v1::FetchedOffset| Stored {
            partition: TopicPartition::new(one.topic, one.partition),
            at: (one.offset >= 0).then_some((Offset(one.offset), LeaderEpoch(one.leader_epoch))),
            topic_id: TopicId::from_slice(&one.topic_id),
        };
        Ok(answer.offsets.into_iter().map(stored).collect())
    }
}

fn ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn granted(error: Option<&v1::Error>) -> Result<(), Refused> {
    error.map_or(Ok(()), |error| Err(refused(error)))
}

fn refused(error: &v1::Error) -> Refused {
    match ErrorCode::from_code(error.code) {
        ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => Refused::Moved,
        ErrorCode::CoordinatorLoadInProgress => Refused::Loading,
        ErrorCode::RebalanceInProgress => Refused::Rebalancing,
        // A group that is not there has no member of it.
        ErrorCode::UnknownMemberId | ErrorCode::GroupIdNotFound => Refused::Unknown,
        ErrorCode::IllegalGeneration => Refused::OldGeneration,
        ErrorCode::FencedInstanceId => Refused::Fenced,
        _ => Refused::Other(error.message.clone()),
    }
}

fn by_status(status: &Status) -> Refused {
    match status.code() {
        Code::Unimplemented | Code::InvalidArgument | Code::ResourceExhausted => {
            Refused::Other(status.message().to_owned())
        }
        _ => Refused::Moved,
    }
}
