//! The life of a group, by clients of each version.

use proto::kafka::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest,
    JoinGroupRequest, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest,
    OffsetCommitRequest, OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse,
    OffsetFetchResponsePartition, SyncGroupRequest,
};

use super::rig::*;

/// Of a client of step `step`, each API in the highest version that such a client may speak.
struct Steps(i16);

impl Steps {
    fn of(&self, lowest: i16, highest: i16) -> i16 {
        self.0.clamp(lowest, highest)
    }
}

#[tokio::test]
async fn a_group_lives_in_every_version() {
    let (server, mut client) = serving(&[]).await;
    for step in 0..=9 {
        let versions = Steps(step);
        let group = format!("g{step}");
        finds(&mut client, versions.of(0, 4), &group, server.kafka.port()).await;
        let member = joins(&mut client, versions.of(0, 8), &group).await;
        let request = SyncGroupRequest {
            group_id: (*group).into(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            ..sync(&member)
        };
        let version = versions.of(0, 5);
        let synced = client.call(version, &request).await;
        assert_eq!((synced.error_code, synced.throttle_time_ms), (0, 0), "sync {version}");
        assert_eq!(synced.assignment, format!("of {}", member.member_id));
        let told = (version >= 5).then_some("range");
        assert_eq!(synced.protocol_name.as_deref(), told, "sync {version}");
        let request = HeartbeatRequest { group_id: (*group).into(), ..heartbeat(&member) };
        assert_eq!(client.call(versions.of(0, 4), &request).await.error_code, 0);
        let request = OffsetCommitRequest {
            group_id: (*group).into(),
            ..commit(1, &member.member_id, &[("t", 1, 7), ("u", 0, 8)])
        };
        let version = versions.of(2, 9);
        assert_eq!(commit_codes(&client.call(version, &request).await), [0, 0], "commit {version}");
        fetches(&mut client, versions.of(1, 9), &group, version).await;
        is_described(&mut client, &versions, &group, &member.member_id).await;
        leaves(&mut client, versions.of(0, 5), &group, &member.member_id).await;
        let request = DeleteGroupsRequest { groups_names: vec![(*group).into()] };
        let deleted = client.call(versions.of(0, 2), &request).await;
        assert_eq!((deleted.results.len(), deleted.results[0].error_code), (1, 0));
        assert_eq!(client.committed(&group).await, []);
    }
}

async fn finds(client: &mut Client, version: i16, group: &str, port: u16) {
    let request = FindCoordinatorRequest {
        key: group.into(),
        coordinator_keys: vec![group.into()],
        ..FindCoordinatorRequest::default()
    };
    let found = client.call(version, &request).await;
    let (node, told) = match version {
        ..4 => (found.node_id, found.port),
        _ => (found.coordinators[0].node_id, found.coordinators[0].port),
    };
    assert_eq!((found.error_code, node, told), (0, 1, i32::from(port)), "find {version}");
}

async fn joins(
    client: &mut Client,
    version: i16,
    group: &str,
) -> proto::kafka::messages::JoinGroupResponse {
    let request = JoinGroupRequest { group_id: group.into(), ..join("") };
    let mut joined = client.call(version, &request).await;
    if version >= 4 {
        assert_eq!(joined.error_code, Code::MemberIdRequired as i16, "join {version}");
        assert!(joined.member_id.starts_with("test-"), "{joined:?}");
        let again = JoinGroupRequest { member_id: joined.member_id, ..request };
        joined = client.call(version, &again).await;
    }
    assert_eq!((joined.error_code, joined.generation_id), (0, 1), "join {version}");
    assert_eq!((&joined.leader, joined.members.len()), (&joined.member_id, 1));
    assert_eq!(joined.members[0].metadata, subscription("t"));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    let kind = (version >= 7).then_some("consumer");
    assert_eq!(joined.protocol_type.as_deref(), kind, "join {version}");
    joined
}

async fn fetches(client: &mut Client, version: i16, group: &str, committed_in: i16) {
    let several = |topics| OffsetFetchRequestGroup {
        group_id: group.into(),
        topics,
        ..OffsetFetchRequestGroup::default()
    };
    let named = fetch_request(group, Some(&[("t", 0), ("t", 1)]));
    let all = fetch_request(group, None);
    let request = match version {
        ..8 => named,
        _ => OffsetFetchRequest { groups: vec![several(named.topics)], ..Default::default() },
    };
    let told = partitions(client.call(version, &request).await);
    // Which leader the record had is told and stored from a version on.
    let epoch = if version >= 5 && committed_in >= 6 { 3 } else { -1 };
    let expected = |partition_index, offset, epoch, text: &str| OffsetFetchResponsePartition {
        partition_index,
        committed_offset: offset,
        committed_leader_epoch: epoch,
        metadata: Some(text.into()),
        error_code: 0,
    };
    let wanted = [expected(0, -1, -1, ""), expected(1, 7, epoch, "noted")];
    assert_eq!(told, wanted, "fetch {version}");
    if version >= 2 {
        let request = match version {
            ..8 => all,
            _ => OffsetFetchRequest { groups: vec![several(None)], ..Default::default() },
        };
        let told = partitions(client.call(version, &request).await);
        let wanted = [expected(1, 7, epoch, "noted"), expected(0, 8, epoch, "noted")];
        assert_eq!(told, wanted, "fetch {version}");
    }
}

fn partitions(answer: OffsetFetchResponse) -> Vec<OffsetFetchResponsePartition> {
    assert_eq!(answer.error_code, 0);
    let topics = match answer.groups.into_iter().next() {
        Some(group) => {
            assert_eq!(group.error_code, 0);
            group.topics
        }
        None => answer.topics,
    };
    topics.into_iter().flat_map(|topic| topic.partitions).collect()
}

async fn is_described(client: &mut Client, versions: &Steps, group: &str, member: &str) {
    let request = DescribeGroupsRequest { groups: vec![group.into()], ..Default::default() };
    let described = client.call(versions.of(0, 5), &request).await.groups.remove(0);
    assert_eq!((described.error_code, &*described.group_state), (0, "Stable"));
    assert_eq!((&*described.protocol_type, &*described.protocol_data), ("consumer", "range"));
    let one = &described.members[0];
    assert_eq!((&*one.member_id, &*one.client_id), (member, "test"));
    assert_eq!(&*one.client_host, "/127.0.0.1");
    assert_eq!(one.member_metadata, subscription("t"));
    assert_eq!(one.member_assignment, format!("of {member}"));
    let version = versions.of(0, 4);
    let listed = client.call(version, &ListGroupsRequest::default()).await;
    let listed: Vec<_> =
        listed.groups.iter().map(|one| (&*one.group_id, &*one.protocol_type)).collect();
    assert_eq!(listed, [(group, "consumer")], "list {version}");
}

async fn leaves(client: &mut Client, version: i16, group: &str, member: &str) {
    let request = LeaveGroupRequest {
        group_id: group.into(),
        member_id: member.into(),
        ..leave(&[(member, None)])
    };
    let error = |answer: LeaveGroupResponse| match version {
        ..3 => answer.error_code,
        _ => {
            assert_eq!((answer.error_code, &*answer.members[0].member_id), (0, member));
            answer.members[0].error_code
        }
    };
    assert_eq!(error(client.call(version, &request).await), 0, "leave {version}");
    let again = error(client.call(version, &request).await);
    assert_eq!(again, Code::UnknownMemberId as i16, "leave {version}");
}
