//! `Groups` by tonic's own transport: one member from its first join to the deletion of its group.

use proto::v1::groups_client::GroupsClient;
use proto::{ErrorCode, v1};
use tonic::transport::Channel;

use super::rig::{Server, topic_id};
use crate::api::groups::OFFSETS_TOPIC;
use crate::storage::{CleanupPolicy, LogConfig};

const SETTINGS: [&str; 2] =
    ["group.initial.rebalance.delay.ms=0", "group.min.session.timeout.ms=100"];

async fn start() -> (Server, GroupsClient<Channel>) {
    let server = Server::start(&SETTINGS).await;
    let compacted = CleanupPolicy { delete: false, compact: true };
    let log = LogConfig { cleanup_policy: compacted, ..LogConfig::default() };
    server.topic(OFFSETS_TOPIC, 1, &log);
    server.topic("t", 2, &LogConfig::default());
    let address = format!("http://{}", server.address);
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    (server, GroupsClient::new(channel))
}

fn code(error: Option<&v1::Error>) -> Option<ErrorCode> {
    error.map(|error| ErrorCode::from_code(error.code))
}

fn join(member_id: &str) -> v1::JoinGroupRequest {
    v1::JoinGroupRequest {
        group: "g".into(),
        member_id: member_id.into(),
        client_id: "c".into(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![v1::GroupProtocol { name: "range".into(), metadata: "wish".into() }],
        ..Default::default()
    }
}

/// Joins as the only member and brings its assignment: its id.
async fn join_and_sync(client: &mut GroupsClient<Channel>) -> String {
    let mut told = client.join(join("")).await.unwrap().into_inner();
    while code(told.error.as_ref()) == Some(ErrorCode::CoordinatorLoadInProgress) {
        told = client.join(join("")).await.unwrap().into_inner();
    }
    assert_eq!(code(told.error.as_ref()), Some(ErrorCode::MemberIdRequired));
    assert!(told.member_id.starts_with("c-"), "{}", told.member_id);
    let joined = client.join(join(&told.member_id)).await.unwrap().into_inner();
    assert_eq!((joined.error, joined.generation, &*joined.protocol), (None, 1, "range"));
    assert_eq!((&joined.leader, joined.members.len()), (&told.member_id, 1));
    assert_eq!(joined.members[0].metadata, "wish");
    let assignment =
        v1::GroupAssignment { member_id: told.member_id.clone(), assignment: "share".into() };
    let request = v1::SyncGroupRequest {
        group: "g".into(),
        caller: Some(caller(&told.member_id, 1)),
        protocol_type: "consumer".into(),
        protocol: "range".into(),
        assignments: vec![assignment],
    };
    let synced = client.sync(request).await.unwrap().into_inner();
    assert_eq!((synced.error, &*synced.assignment), (None, &b"share"[..]));
    told.member_id
}

fn caller(member_id: &str, generation: i32) -> v1::GroupCaller {
    v1::GroupCaller { member_id: member_id.into(), instance_id: String::new(), generation }
}

fn commit(caller: Option<v1::GroupCaller>, topic_id: bytes::Bytes) -> v1::CommitOffsetsRequest {
    let offset = v1::OffsetToCommit {
        topic: "t".into(),
        topic_id,
        partition: 1,
        offset: 7,
        leader_epoch: 3,
        metadata: "m".into(),
    };
    let missing = v1::OffsetToCommit { topic: "none".into(), ..offset.clone() };
    v1::CommitOffsetsRequest { group: "g".into(), caller, offsets: vec![offset, missing] }
}

#[tokio::test]
async fn a_member_joins_commits_and_leaves() {
    let (_server, mut client) = start().await;
    let request = v1::FindCoordinatorRequest { group: "g".into() };
    let found = client.find_coordinator(request).await.unwrap().into_inner();
    assert_eq!(found.coordinator.map(|node| (node.id, node.host)), Some((1, "localhost".into())));
    let id = join_and_sync(&mut client).await;

    let beat = |generation| v1::HeartbeatRequest {
        group: "g".into(),
        caller: Some(caller(&id, generation)),
    };
    assert_eq!(client.heartbeat(beat(1)).await.unwrap().into_inner().error, None);
    let late = client.heartbeat(beat(0)).await.unwrap().into_inner();
    assert_eq!(code(late.error.as_ref()), Some(ErrorCode::IllegalGeneration));

    let of_t = topic_id("t").to_bytes();
    let late = commit(Some(caller(&id, 0)), of_t.clone());
    let late = client.commit_offsets(late).await.unwrap().into_inner();
    assert_eq!(code(late.error.as_ref()), Some(ErrorCode::IllegalGeneration));
    let stranger = client.commit_offsets(commit(None, of_t.clone())).await.unwrap().into_inner();
    assert_eq!(code(stranger.error.as_ref()), Some(ErrorCode::UnknownMemberId));
    let other = commit(Some(caller(&id, 1)), topic_id("another").to_bytes());
    let other = client.commit_offsets(other).await.unwrap().into_inner();
    let codes = |answer: &v1::CommitOffsetsResponse| {
        answer.results.iter().map(|one| code(one.error.as_ref())).collect::<Vec<_>>()
    };
    let unknown = Some(ErrorCode::UnknownTopicOrPartition);
    assert_eq!(codes(&other), [Some(ErrorCode::UnknownTopicId), unknown]);
    let ours = commit(Some(caller(&id, 1)), of_t.clone());
    let ours = client.commit_offsets(ours).await.unwrap().into_inner();
    assert_eq!(codes(&ours), [None, unknown]);

    let topics = vec![v1::TopicPartitions {
        topic: "t".into(),
        partitions: vec![0, 1],
        ..Default::default()
    }];
    let request = v1::FetchOffsetsRequest { group: "g".into(), topics, all: false };
    let fetched = client.fetch_offsets(request).await.unwrap().into_inner().offsets;
    assert_eq!((fetched[0].offset, fetched[1].offset, fetched[1].leader_epoch), (-1, 7, 3));
    assert_eq!((&fetched[1].topic_id, &*fetched[1].metadata), (&of_t, "m"));
    let request = v1::FetchOffsetsRequest { group: "g".into(), topics: Vec::new(), all: true };
    assert_eq!(client.fetch_offsets(request).await.unwrap().into_inner().offsets.len(), 1);

    let request = v1::DescribeCoordinatedRequest { group: "g".into() };
    let described = client.describe(request).await.unwrap().into_inner();
    assert_eq!((&*described.state, described.members.len()), ("Stable", 1));
    let member = &described.members[0];
    assert_eq!((&*member.host, &*member.assignment), ("/127.0.0.1", &b"share"[..]));

    let delete = || v1::DeleteCoordinatedRequest { group: "g".into() };
    let refused = client.delete(delete()).await.unwrap().into_inner();
    assert_eq!(code(refused.error.as_ref()), Some(ErrorCode::NonEmptyGroup));
    let leave = v1::LeaveGroupRequest { group: "g".into(), member_id: id, ..Default::default() };
    assert_eq!(client.leave(leave).await.unwrap().into_inner().error, None);
    let listed = client.list(v1::ListCoordinatedRequest {}).await.unwrap().into_inner().groups;
    assert_eq!((&*listed[0].state, listed[0].members), ("Empty", 0));
    assert_eq!(client.delete(delete()).await.unwrap().into_inner().error, None);
    let request = v1::DescribeCoordinatedRequest { group: "g".into() };
    let gone = client.describe(request).await.unwrap().into_inner();
    assert_eq!(code(gone.error.as_ref()), Some(ErrorCode::GroupIdNotFound));
}
