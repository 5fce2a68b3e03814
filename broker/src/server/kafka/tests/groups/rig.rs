//! A server that coordinates groups, and what members of group `g` say.

use std::time::Duration;

use bytes::Bytes;
use proto::kafka::Str;
use proto::kafka::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
    LeaveGroupRequest, ListGroupsRequest, MemberIdentity, OffsetCommitRequest,
    OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetFetchRequest, OffsetFetchRequestTopic, SyncGroupRequest, SyncGroupRequestAssignment,
};

pub(super) use super::super::rig::{Client, Server};
use crate::groups::OFFSETS_TOPIC;
pub(super) use crate::replication::Partition;
use crate::replication::tests::rig::topic_id;
use crate::storage::LogConfig;

/// Versions that have every field these tests set.
pub(super) const JOIN: i16 = 7;
pub(super) const SYNC: i16 = 5;
pub(super) const HEARTBEAT: i16 = 4;
pub(super) const LEAVE: i16 = 4;
pub(super) const COMMIT: i16 = 8;
pub(super) const FETCH: i16 = 7;

/// What must be answered.
pub(super) use proto::ErrorCode as Code;

/// A server that leads the one offsets partition, and topics `t` (two partitions) and `u` (one).
pub(super) async fn serving(settings: &[&str]) -> (Server, Client) {
    let short = [
        "group.initial.rebalance.delay.ms=50",
        "group.min.session.timeout.ms=100",
        "group.max.session.timeout.ms=60000",
        "offsets.topic.replication.factor=1",
    ];
    let server = Server::start(&[&short, settings].concat()).await;
    for (topic, partitions) in [("t", 2), ("u", 1), (OFFSETS_TOPIC, 1)] {
        server.topic(topic, partitions, &LogConfig::default());
    }
    let mut client = Client::connect(&server).await;
    until_served(&mut client).await;
    (server, client)
}

/// The offsets partition was read.
pub(super) async fn until_served(client: &mut Client) {
    for _ in 0..1000 {
        if client.call(4, &ListGroupsRequest::default()).await.error_code == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the offsets partition is not read");
}

pub(super) fn offsets_partition(server: &Server) -> std::sync::Arc<Partition> {
    server.rig.partitions.find(OFFSETS_TOPIC, topic_id(OFFSETS_TOPIC), 0).unwrap()
}

/// What consumers say that read a topic.
pub(super) fn subscription(topic: &str) -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, topic.len() as u8];
    bytes.extend(topic.as_bytes());
    bytes.into()
}

pub(super) fn protocol(name: &str) -> JoinGroupRequestProtocol {
    JoinGroupRequestProtocol { name: name.into(), metadata: subscription("t") }
}

pub(super) fn join(member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range")],
        ..JoinGroupRequest::default()
    }
}

pub(super) fn fixed(member_id: &str, instance: &str) -> JoinGroupRequest {
    JoinGroupRequest { group_instance_id: Some(instance.into()), ..join(member_id) }
}

/// The leader gives each the text `of` and its id.
pub(super) fn sync(joined: &JoinGroupResponse) -> SyncGroupRequest {
    let given = joined.members.iter().map(|one| SyncGroupRequestAssignment {
        member_id: one.member_id.clone(),
        assignment: format!("of {}", one.member_id).into(),
    });
    SyncGroupRequest {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: given.collect(),
        ..SyncGroupRequest::default()
    }
}

pub(super) fn heartbeat(joined: &JoinGroupResponse) -> HeartbeatRequest {
    HeartbeatRequest {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..HeartbeatRequest::default()
    }
}

pub(super) fn leave(ids: &[(&str, Option<&str>)]) -> LeaveGroupRequest {
    let members = ids.iter().map(|(id, instance)| MemberIdentity {
        member_id: (*id).into(),
        group_instance_id: instance.map(Str::from),
        ..MemberIdentity::default()
    });
    LeaveGroupRequest {
        group_id: "g".into(),
        members: members.collect(),
        ..LeaveGroupRequest::default()
    }
}

/// Commits for partitions of topics, by a member of a generation; -1: by nobody in particular.
pub(super) fn commit(
    generation: i32,
    member_id: &str,
    commits: &[(&str, i32, i64)],
) -> OffsetCommitRequest {
    let topics = commits.iter().map(|&(topic, partition_index, committed_offset)| {
        let partition = OffsetCommitRequestPartition {
            partition_index,
            committed_offset,
            committed_leader_epoch: 3,
            committed_metadata: Some("noted".into()),
        };
        OffsetCommitRequestTopic { name: topic.into(), partitions: vec![partition] }
    });
    OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: generation,
        member_id: member_id.into(),
        topics: topics.collect(),
        ..OffsetCommitRequest::default()
    }
}

pub(super) fn commit_codes(response: &OffsetCommitResponse) -> Vec<i16> {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.error_code).collect()
}

pub(super) fn fetch_request(group: &str, topics: Option<&[(&str, i32)]>) -> OffsetFetchRequest {
    let topic = |&(name, partition): &(&str, i32)| OffsetFetchRequestTopic {
        name: name.into(),
        partition_indexes: vec![partition],
    };
    OffsetFetchRequest {
        group_id: group.into(),
        topics: topics.map(|topics| topics.iter().map(topic).collect()),
        require_stable: true,
        ..OffsetFetchRequest::default()
    }
}

impl Client {
    /// Joins as a client does that has no id: where one is given to it, with that.
    pub(super) async fn enter(&mut self, request: &JoinGroupRequest) -> JoinGroupResponse {
        let joined = self.call(JOIN, request).await;
        if joined.error_code != Code::MemberIdRequired as i16 {
            return joined;
        }
        let again = JoinGroupRequest { member_id: joined.member_id, ..request.clone() };
        self.call(JOIN, &again).await
    }

    /// The error of a sync.
    pub(super) async fn sync(&mut self, request: &SyncGroupRequest) -> i16 {
        self.call(SYNC, request).await.error_code
    }

    /// The error of a heartbeat.
    pub(super) async fn beat(&mut self, joined: &JoinGroupResponse) -> i16 {
        self.call(HEARTBEAT, &heartbeat(joined)).await.error_code
    }

    /// What a group has committed: topic, partition, offset.
    pub(super) async fn committed(&mut self, group: &str) -> Vec<(String, i32, i64)> {
        let answer = self.call(FETCH, &fetch_request(group, None)).await;
        assert_eq!(answer.error_code, 0);
        let topics = answer.topics.iter().flat_map(|topic| {
            let name = topic.name.to_string();
            let partitions = topic.partitions.iter();
            partitions.map(move |one| (name.clone(), one.partition_index, one.committed_offset))
        });
        topics.collect()
    }
}

/// A stable group of two, whatever the machine is busy with; the first one leads.
pub(super) async fn two(server: &Server) -> [(Client, JoinGroupResponse); 2] {
    let mut one = Client::connect(server).await;
    let mut two = Client::connect(server).await;
    let alone = one.enter(&join("")).await;
    assert_eq!((alone.error_code, one.sync(&sync(&alone)).await), (0, 0));
    let entering = two.send(3, &join("")).await;
    while one.beat(&alone).await == 0 {}
    let first = one.call(JOIN, &join(&alone.member_id)).await;
    let second = two.receive::<JoinGroupRequest>(3, entering).await;
    let mut both = [(one, first), (two, second)];
    for (client, joined) in &mut both {
        assert_eq!((joined.error_code, joined.generation_id), (0, 2), "{joined:?}");
        assert_eq!(client.sync(&sync(joined)).await, 0);
    }
    both
}
