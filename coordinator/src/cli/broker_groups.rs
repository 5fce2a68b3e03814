//! Groups that brokers coordinate (`membership=broker`, and Kafka's consumers), as `coordinator groups`
//! sees them: asked of the brokers themselves, in the words of the Admin service.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proto::client::Connection;
use proto::kafka::consumer_protocol::{ConsumerAssignment, ConsumerSubscription};
use proto::v1::groups_client::GroupsClient;
use proto::{ErrorCode, v1};

use super::admin::{self, Admin};
use super::brokers;
use super::failure::Failure;
use super::reset::{LATEST, Leaders};

/// As the list calls them.
pub(crate) const BROKER: &str = "broker";
/// Between two attempts, where a coordinator has yet to read its state.
const PAUSE: Duration = Duration::from_millis(150);

/// The brokers, each a coordinator of some groups.
pub(crate) struct Coordinators {
    addresses: BTreeMap<i32, String>,
    clients: BTreeMap<i32, GroupsClient<Connection>>,
    deadline: Instant,
}

impl Coordinators {
    /// Learns who is there; nobody is connected before the first call.
    pub(crate) async fn find(admin: &mut Admin) -> Result<Self, Failure> {
        let cluster = brokers::describe_cluster(admin).await?;
        let nodes = cluster.brokers.into_iter().filter_map(|broker| broker.node);
        let addresses = nodes.map(|node| (node.id, format!("{}:{}", node.host, node.grpc_port)));
        let deadline = Instant::now() + admin.patience();
        Ok(Self { addresses: addresses.collect(), clients: BTreeMap::new(), deadline })
    }

    async fn client(&mut self, broker: i32) -> Result<GroupsClient<Connection>, Failure> {
        if let Some(client) = self.clients.get(&broker) {
            return Ok(client.clone());
        }
        let address = self.addresses.get(&broker).cloned().unwrap_or_default();
        let client = GroupsClient::new(admin::connect(&address).await?)
            .max_decoding_message_size(proto::grpc::MESSAGE_LEN_MAX);
        Ok(self.clients.entry(broker).or_insert(client).clone())
    }

    /// Asks again while a coordinator is reading its state, or about to be another.
    async fn pause(&self, error: &v1::Error) -> Result<(), Failure> {
        let code = ErrorCode::from_code(error.code);
        let passes = matches!(
            code,
            ErrorCode::CoordinatorLoadInProgress | ErrorCode::CoordinatorNotAvailable
        );
        if !passes || Instant::now() + PAUSE > self.deadline {
            return Err(Failure::of(error));
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    /// All groups. A broker that cannot be asked is named on standard error.
    pub(crate) async fn list(&mut self) -> Result<Vec<v1::GroupListing>, Failure> {
        let mut groups = BTreeMap::new();
        for broker in self.addresses.keys().copied().collect::<Vec<_>>() {
            match self.list_of(broker).await {
                Ok(listed) => groups.extend(listed.into_iter().map(|one| (one.name.clone(), one))),
                Err(failure) => eprintln!(
                    "broker {broker} does not tell of the groups it coordinates: {}",
                    failure.text
                ),
            }
        }
        Ok(groups.into_values().collect())
    }

    async fn list_of(&mut self, broker: i32) -> Result<Vec<v1::GroupListing>, Failure> {
        let mut client = self.client(broker).await?;
        loop {
            let answer = client.list(v1::ListCoordinatedRequest {}).await;
            let answer = match answer {
                Ok(answer) => answer.into_inner(),
                // One of before there were such groups.
                Err(status) if status.code() == tonic::Code::Unimplemented => return Ok(Vec::new()),
                Err(status) => return Err(Failure::unreachable(status.message())),
            };
            if let Some(error) = &answer.error {
                self.pause(error).await?;
                continue;
            }
            let listed = answer.groups.into_iter().map(|group| v1::GroupListing {
                name: group.name,
                kind: BROKER.to_owned(),
                state: group.state,
                members: i32::try_from(group.members).unwrap_or(i32::MAX),
            });
            return Ok(listed.collect());
        }
    }

    /// Who coordinates the group and how it is; `None` where there is no such group. Every broker is
    /// asked, not for the coordinator: that would have the topic of groups created.
    async fn look(
        &mut self,
        name: &str,
    ) -> Result<Option<(i32, v1::DescribeCoordinatedResponse)>, Failure> {
        let mut unreachable = None;
        for broker in self.addresses.keys().copied().collect::<Vec<_>>() {
            let mut client = match self.client(broker).await {
                Ok(client) => client,
                Err(failure) => {
                    unreachable = Some(failure);
                    continue;
                }
            };
            loop {
                let request = v1::DescribeCoordinatedRequest { group: name.to_owned() };
                let answer = match client.describe(request).await {
                    Ok(answer) => answer.into_inner(),
                    Err(status) if status.code() == tonic::Code::Unimplemented => break,
                    Err(status) => {
                        unreachable = Some(Failure::unreachable(status.message()));
                        break;
                    }
                };
                let Some(error) = &answer.error else { return Ok(Some((broker, answer))) };
                match ErrorCode::from_code(error.code) {
                    ErrorCode::NotCoordinator => break,
                    ErrorCode::GroupIdNotFound => return Ok(None),
                    _ => self.pause(error).await?,
                }
            }
        }
        // The one that was not asked may be its coordinator.
        unreachable.map_or(Ok(None), Err)
    }

    /// Whether there is a group of the name.
    pub(crate) async fn is_there(&mut self, name: &str) -> Result<bool, Failure> {
        Ok(self.look(name).await?.is_some())
    }

    /// A group with offsets, owners and lag; `None` where there is none of the name.
    pub(crate) async fn describe(
        &mut self,
        admin: &mut Admin,
        name: &str,
    ) -> Result<Option<v1::DescribeGroupResponse>, Failure> {
        let Some((broker, group)) = self.look(name).await? else { return Ok(None) };
        let mut partitions: BTreeMap<(String, i32), v1::GroupPartition> = BTreeMap::new();
        for offset in self.offsets(broker, name).await? {
            let partition = partition(&offset.topic, offset.partition);
            let key = (offset.topic, offset.partition);
            partitions.insert(key, v1::GroupPartition { committed: offset.offset, ..partition });
        }
        for member in &group.members {
            for (topic, number) in given(member) {
                let key = (topic.clone(), number);
                let at = partitions.entry(key).or_insert_with(|| partition(&topic, number));
                at.owner.clone_from(&member.member_id);
            }
        }
        add_ends(admin, &mut partitions).await;
        Ok(Some(v1::DescribeGroupResponse {
            error: None,
            state: group.state,
            generation: -1,
            members: group.members.iter().map(member_message).collect(),
            partitions: partitions.into_values().collect(),
        }))
    }

    async fn offsets(
        &mut self,
        broker: i32,
        name: &str,
    ) -> Result<Vec<v1::FetchedOffset>, Failure> {
        let group = name.to_owned();
        let request = v1::FetchOffsetsRequest { group, topics: Vec::new(), all: true };
        let answer = self.client(broker).await?.fetch_offsets(request).await;
        let answer = answer.map_err(|status| Failure::unreachable(status.message()))?.into_inner();
        answer.error.map_or(Ok(answer.offsets), |error| Err(Failure::of(&error)))
    }

    /// Deletes a group; refused while it has members.
    pub(crate) async fn delete(&mut self, name: &str) -> Result<(), Failure> {
        let Some((broker, _)) = self.look(name).await? else {
            return Err(Failure::refused(format!("there is no group `{name}` at the brokers")));
        };
        let request = v1::DeleteCoordinatedRequest { group: name.to_owned() };
        let answer = self.client(broker).await?.delete(request).await;
        let answer = answer.map_err(|status| Failure::unreachable(status.message()))?.into_inner();
        match answer.error {
            Some(error) => Err(Failure::refused(format!("group `{name}`: {}", error.message))),
            None => Ok(()),
        }
    }

    /// Commits for a group without members.
    pub(crate) async fn commit(
        &mut self,
        name: &str,
        offsets: Vec<v1::OffsetToCommit>,
    ) -> Result<(), Failure> {
        let broker = self.coordinator(name).await?;
        let group = name.to_owned();
        let request = v1::CommitOffsetsRequest { group, caller: None, offsets };
        let answer = self.client(broker).await?.commit_offsets(request).await;
        let answer = answer.map_err(|status| Failure::unreachable(status.message()))?.into_inner();
        let errors = answer.results.iter().filter_map(|result| result.error.as_ref());
        let failures = answer.error.iter().chain(errors).map(|error| {
            match ErrorCode::from_code(error.code) {
                // Nobody in particular is no member of it.
                ErrorCode::UnknownMemberId => Failure::refused(format!(
                    "group `{name}` has live members: stop them, or wait until their sessions \
                     are over"
                )),
                _ => Failure::refused(format!("group `{name}`: {}", error.message)),
            }
        });
        Failure::all(failures.collect())
    }

    /// Who coordinates a group that may be new.
    async fn coordinator(&mut self, name: &str) -> Result<i32, Failure> {
        let broker = self.addresses.keys().next().copied();
        let broker = broker.ok_or_else(|| Failure::unreachable("no broker is live"))?;
        let mut client = self.client(broker).await?;
        loop {
            let request = v1::FindCoordinatorRequest { group: name.to_owned() };
            let answer = client.find_coordinator(request).await;
            let answer = answer.map_err(|status| Failure::unreachable(status.message()))?;
            let answer = answer.into_inner();
            match (answer.error, answer.coordinator) {
                (Some(error), _) => self.pause(&error).await?,
                (None, Some(node)) => return Ok(node.id),
                (None, None) => return Err(Failure::refused("the answer names no coordinator")),
            }
        }
    }
}

fn partition(topic: &str, number: i32) -> v1::GroupPartition {
    v1::GroupPartition {
        topic: topic.to_owned(),
        partition: number,
        committed: -1,
        log_end: -1,
        owner: String::new(),
    }
}

/// What a member was given, where it is a consumer.
fn given(member: &v1::CoordinatedMember) -> Vec<(String, i32)> {
    let assignment = ConsumerAssignment::decode(member.assignment.clone()).unwrap_or_default();
    let topics = assignment.assigned_partitions.into_iter();
    let of = |topic: proto::kafka::consumer_protocol::ConsumerPartitions| {
        let name = topic.topic.to_string();
        topic.partitions.into_iter().map(move |number| (name.clone(), number))
    };
    topics.flat_map(of).collect()
}

fn member_message(member: &v1::CoordinatedMember) -> v1::GroupMember {
    let subscription = ConsumerSubscription::decode(member.metadata.clone()).unwrap_or_default();
    let topics: Vec<String> = subscription.topics.iter().map(ToString::to_string).collect();
    v1::GroupMember {
        id: member.member_id.clone(),
        host: member.host.trim_start_matches('/').to_owned(),
        subscription: topics.join(","),
        streams: 1,
    }
}

/// Adds the ends of the logs, as far as they can be known.
async fn add_ends(admin: &mut Admin, groups: &mut BTreeMap<(String, i32), v1::GroupPartition>) {
    let wanted: BTreeSet<(String, i32)> = groups.keys().cloned().collect();
    let ends = match Leaders::find(admin, &wanted).await {
        Ok(mut leaders) => leaders.offsets(&wanted, LATEST).await,
        Err(failure) => Err(failure),
    };
    match ends {
        Ok(ends) => {
            for (key, partition) in groups {
                partition.log_end = ends.get(key).copied().unwrap_or(-1);
            }
        }
        Err(failure) => eprintln!("the ends of the logs are not known: {}", failure.text),
    }
}

#[cfg(test)]
mod tests {
    use proto::kafka::consumer_protocol::ConsumerPartitions;

    use super::*;

    #[test]
    fn a_member_tells_what_it_reads_and_has() {
        let partitions = ConsumerPartitions { topic: "t".into(), partitions: vec![1, 4] };
        let subscription =
            ConsumerSubscription { topics: vec!["t".into(), "u".into()], ..Default::default() };
        let assignment =
            ConsumerAssignment { assigned_partitions: vec![partitions], user_data: None };
        let mut member = v1::CoordinatedMember {
            member_id: "c-1".to_owned(),
            host: "/127.0.0.1".to_owned(),
            metadata: subscription.encode(),
            assignment: assignment.encode(),
            ..Default::default()
        };
        assert_eq!(given(&member), [("t".to_owned(), 1), ("t".to_owned(), 4)]);
        let told = member_message(&member);
        assert_eq!((&*told.host, &*told.subscription), ("127.0.0.1", "t,u"));
        // Members of another kind, and those that have nothing yet.
        (member.metadata, member.assignment) = (vec![9].into(), vec![1, 2, 3].into());
        assert!(given(&member).is_empty() && member_message(&member).subscription.is_empty());
    }
}
