//! E1 to E5, E9: joining, syncing, signs of life, static members.

use std::time::Duration;

use proto::kafka::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest,
};

use super::rig::*;

#[tokio::test]
async fn e1_an_id_that_nobody_joins_with_is_forgotten() {
    let (_server, mut client) = serving(&[]).await;
    let request = JoinGroupRequest { session_timeout_ms: 150, ..join("") };
    let given = client.call(4, &request).await;
    assert_eq!(given.error_code, Code::MemberIdRequired as i16);
    tokio::time::sleep(Duration::from_millis(400)).await;
    let late = client.call(4, &join(&given.member_id)).await;
    assert_eq!(late.error_code, Code::UnknownMemberId as i16);
    let fixed = client.call(JOIN, &fixed("", "i")).await;
    assert_eq!((fixed.error_code, fixed.generation_id), (0, 1), "a static member joins at once");
}

#[tokio::test]
async fn e1_an_id_that_was_handed_out_is_of_no_static_member() {
    let (_server, mut client) = serving(&[]).await;
    let given = client.call(JOIN, &join("")).await;
    let refused = client.call(JOIN, &fixed(&given.member_id, "i")).await;
    assert_eq!(refused.error_code, Code::UnknownMemberId as i16);
    assert_eq!(client.call(JOIN, &join(&given.member_id)).await.error_code, 0);
}

#[tokio::test]
async fn e2_joins_that_cannot_be() {
    let (server, mut client) = serving(&["group.max.size=2"]).await;
    let of = join("");
    let group = |group: &str| JoinGroupRequest { group_id: group.into(), ..of.clone() };
    let session = |ms| JoinGroupRequest { session_timeout_ms: ms, ..of.clone() };
    let can = |kind: &str, names: &[&str]| JoinGroupRequest {
        protocol_type: kind.into(),
        protocols: names.iter().map(|name| protocol(name)).collect(),
        ..of.clone()
    };
    let refused = [
        (group(""), Code::InvalidGroupId),
        (session(99), Code::InvalidSessionTimeout),
        (session(60_001), Code::InvalidSessionTimeout),
        (session(-1), Code::InvalidSessionTimeout),
        (join("nobody"), Code::UnknownMemberId),
        (fixed("nobody", "i"), Code::UnknownMemberId),
        (can("", &["range"]), Code::InconsistentGroupProtocol),
        (can("consumer", &[]), Code::InconsistentGroupProtocol),
        (can("consumer", &["range", "range"]), Code::InconsistentGroupProtocol),
    ];
    for (request, code) in refused {
        let answer = client.call(JOIN, &request).await;
        assert_eq!(answer.error_code, code as i16, "{request:?}");
        assert_eq!((answer.generation_id, answer.members.len()), (-1, 0));
    }
    let _two = two(&server).await;
    for (request, code) in [
        (can("connect", &["range"]), Code::InconsistentGroupProtocol),
        (can("consumer", &["sticky"]), Code::InconsistentGroupProtocol),
        (of.clone(), Code::GroupMaxSizeReached),
        (fixed("", "i"), Code::GroupMaxSizeReached),
    ] {
        let answer = client.call(JOIN, &request).await;
        assert_eq!(answer.error_code, code as i16, "{request:?}");
    }
}

#[tokio::test]
async fn e3_the_leader_alone_is_told_the_members_and_its_return_rebalances() {
    let (server, _) = serving(&[]).await;
    let [(mut first, leader), (mut second, other)] = two(&server).await;
    assert_eq!((leader.members.len(), other.members.len()), (2, 0));
    assert_eq!(other.leader, leader.member_id);
    let again = second.call(JOIN, &join(&other.member_id)).await;
    assert_eq!((again.error_code, again.generation_id), (0, 2), "nothing has changed");
    assert_eq!(second.beat(&other).await, 0);
    let id = first.send(JOIN, &join(&leader.member_id)).await;
    until(&mut second, &other, Code::RebalanceInProgress).await;
    let again = second.call(JOIN, &join(&other.member_id)).await;
    let led = first.receive::<JoinGroupRequest>(JOIN, id).await;
    assert_eq!((again.generation_id, led.generation_id, led.members.len()), (3, 3, 2));
    assert_eq!(led.member_id, leader.member_id, "the leader stays the leader");
}

/// Heartbeats answer `code` before long.
async fn until(client: &mut Client, member: &JoinGroupResponse, code: Code) {
    for _ in 0..200 {
        if client.beat(member).await == code as i16 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no {code:?}");
}

#[tokio::test]
async fn who_knows_no_rebalance_timeout_has_its_session_to_join_again() {
    let (server, mut client) = serving(&[]).await;
    let old = client.call(0, &join("")).await;
    assert_eq!(client.sync(&sync(&old)).await, 0);
    let mut other = Client::connect(&server).await;
    other.send(3, &join("")).await;
    until(&mut client, &old, Code::RebalanceInProgress).await;
    assert_eq!(client.call(0, &join(&old.member_id)).await.error_code, 0, "it is still a member");
}

#[tokio::test]
async fn ids_have_a_bound_whatever_they_are_made_of() {
    let (_server, mut client) = serving(&[]).await;
    let joined = client.call(JOIN, &fixed("", &"x".repeat(300))).await;
    assert_eq!((joined.error_code, joined.member_id.len()), (0, 200 + 37));
}

#[tokio::test]
async fn e4_syncs_by_state() {
    let (server, mut client) = serving(&[]).await;
    let nobody = JoinGroupResponse { member_id: "nobody".into(), ..Default::default() };
    assert_eq!(client.sync(&sync(&nobody)).await, Code::UnknownMemberId as i16, "no group");
    let joined = client.enter(&join("")).await;
    let good = sync(&joined);
    let group = |group: &str| SyncGroupRequest { group_id: group.into(), ..good.clone() };
    let generation = |generation_id| SyncGroupRequest { generation_id, ..good.clone() };
    let kind = |kind: &str| SyncGroupRequest { protocol_type: Some(kind.into()), ..good.clone() };
    let name = |name: &str| SyncGroupRequest { protocol_name: Some(name.into()), ..good.clone() };
    let refused = [
        (group(""), Code::InvalidGroupId),
        (group("other"), Code::UnknownMemberId),
        (generation(0), Code::IllegalGeneration),
        (generation(2), Code::IllegalGeneration),
        (SyncGroupRequest { member_id: "nobody".into(), ..good.clone() }, Code::UnknownMemberId),
        (kind("connect"), Code::InconsistentGroupProtocol),
        (name("sticky"), Code::InconsistentGroupProtocol),
    ];
    for (request, code) in refused {
        assert_eq!(client.sync(&request).await, code as i16, "{request:?}");
    }
    let nothing = SyncGroupRequest { assignments: Vec::new(), ..good.clone() };
    let answer = client.call(SYNC, &nothing).await;
    assert_eq!((answer.error_code, answer.assignment.len()), (0, 0), "given nothing, has nothing");
    let answer = client.call(SYNC, &good).await;
    assert_eq!((answer.error_code, answer.assignment.len()), (0, 0), "stable: as it was stored");
    // Another one comes, and the group collects its members.
    let mut other = Client::connect(&server).await;
    let request = join("");
    other.send(3, &request).await;
    until(&mut client, &joined, Code::RebalanceInProgress).await;
    assert_eq!(client.sync(&good).await, Code::RebalanceInProgress as i16);
}

#[tokio::test]
async fn e5_heartbeats_by_state() {
    let (_server, mut client) = serving(&[]).await;
    let joined = client.enter(&join("")).await;
    assert_eq!(client.beat(&joined).await, 0, "before the assignment, too");
    let good = heartbeat(&joined);
    let refused = [
        (HeartbeatRequest { group_id: "".into(), ..good.clone() }, Code::InvalidGroupId),
        (HeartbeatRequest { group_id: "other".into(), ..good.clone() }, Code::UnknownMemberId),
        (HeartbeatRequest { member_id: "nobody".into(), ..good.clone() }, Code::UnknownMemberId),
        (HeartbeatRequest { generation_id: 0, ..good.clone() }, Code::IllegalGeneration),
        (
            HeartbeatRequest { group_instance_id: Some("i".into()), ..good.clone() },
            Code::UnknownMemberId,
        ),
    ];
    for (request, code) in refused {
        let answer = client.call(HEARTBEAT, &request).await;
        assert_eq!(answer.error_code, code as i16, "{request:?}");
    }
    client.call(LEAVE, &leave(&[(&joined.member_id, None)])).await;
    assert_eq!(client.beat(&joined).await, Code::UnknownMemberId as i16, "empty");
}

#[tokio::test]
async fn e9_an_instance_that_comes_back_fences_the_one_before() {
    let (server, mut before) = serving(&[]).await;
    let old = before.enter(&fixed("", "i")).await;
    assert_eq!(before.sync(&sync(&old)).await, 0);
    let mut after = Client::connect(&server).await;
    let new = after.call(JOIN, &fixed("", "i")).await;
    assert_eq!((new.error_code, new.generation_id), (0, 1), "no rebalance");
    assert_ne!(new.member_id, old.member_id);
    assert!(new.member_id.starts_with("i-"), "{}", new.member_id);
    let fenced = Code::FencedInstanceId as i16;
    let instance = Some("i".into());
    let request = fixed(&old.member_id, "i");
    assert_eq!(before.call(JOIN, &request).await.error_code, fenced);
    let request = SyncGroupRequest { group_instance_id: instance.clone(), ..sync(&old) };
    assert_eq!(before.sync(&request).await, fenced);
    let request = HeartbeatRequest { group_instance_id: instance.clone(), ..heartbeat(&old) };
    assert_eq!(before.call(HEARTBEAT, &request).await.error_code, fenced);
    let mut request = commit(1, &old.member_id, &[("t", 0, 1)]);
    request.group_instance_id = instance;
    assert_eq!(commit_codes(&before.call(COMMIT, &request).await), [fenced]);
    let left = before.call(LEAVE, &leave(&[(&old.member_id, Some("i"))])).await;
    assert_eq!(left.members[0].error_code, fenced);
    let answer = after.call(SYNC, &sync(&new)).await;
    assert_eq!(answer.assignment, format!("of {}", old.member_id), "what it had before");
    let left = after.call(LEAVE, &leave(&[("", Some("i"))])).await;
    assert_eq!(left.members[0].error_code, 0, "by the name of the instance alone");
    assert_eq!(left.members[0].group_instance_id.as_deref(), Some("i"));
}
