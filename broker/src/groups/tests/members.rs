//! Members, through the coordinator's thread.

use std::time::Duration;

use super::super::classic::{Join, Leaving, Protocol};
use super::super::*;
use super::rig::*;

#[test]
fn two_members_join_sync_and_commit() {
    run(async {
        let rig = Rig::new();
        let (one, two) = rig.two("g").await;
        assert_eq!((one.generation, one.members.len(), two.members.len()), (1, 2, 0));
        assert_eq!(rig.groups.heartbeat("g".into(), caller(&two)).await, Ok(()));
        let request = commit_request(caller(&two), &[("t", 0, 9)]);
        assert_eq!(rig.groups.commit("g".into(), request).await, Ok(vec![Ok(())]));
        let stranger = rig.commit("g", &[("t", 0, 1)]).await;
        assert_eq!(stranger, Err(GroupError::UnknownMemberId));
        let described = rig.groups.describe("g".into()).await.unwrap().unwrap();
        assert_eq!((described.state, &*described.protocol), ("Stable", "range"));
        assert_eq!(described.members.len(), 2);
        assert_eq!(described.members[0].metadata, subscription("t"));
        let listed = rig.groups.list().await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((&*listed[0].protocol_type, listed[0].state), ("consumer", "Stable"));
    });
}

#[test]
fn a_silent_member_is_out_by_itself() {
    run(async {
        let rig = Rig::new();
        rig.ready().await;
        let short = Duration::from_millis(700);
        let request = Join { session_timeout: short, ..rig.join_request("") };
        let joined = rig.groups.join("g".into(), request).await.unwrap();
        let described = rig.groups.describe("g".into()).await.unwrap().unwrap();
        assert_eq!((described.state, &*described.protocol), ("CompletingRebalance", ""));
        assert!(described.members[0].metadata.is_empty(), "not told before it is agreed on");
        rig.sync("g", &joined, &[&joined]).await;
        let described = rig.groups.describe("g".into()).await.unwrap().unwrap();
        assert_eq!(described.state, "Stable");
        tokio::time::sleep(short * 2).await;
        let described = rig.groups.describe("g".into()).await.unwrap().unwrap();
        assert_eq!((described.state, described.members.len()), ("Empty", 0));
        let gone = rig.groups.heartbeat("g".into(), caller(&joined)).await;
        assert_eq!(gone, Err(GroupError::UnknownMemberId));
    });
}

#[test]
fn an_id_that_nobody_uses_leaves_no_group_behind() {
    run(async {
        let rig = Rig::new();
        rig.ready().await;
        let short = Duration::from_millis(700);
        let request = Join { session_timeout: short, ..rig.join_request("") };
        let request = Join { requires_member_id: true, ..request };
        let refusal = rig.groups.join("g".into(), request).await.unwrap_err();
        assert_eq!(refusal.error, GroupError::MemberIdRequired);
        assert_eq!(rig.groups.list().await.unwrap().len(), 1);
        tokio::time::sleep(short * 2).await;
        assert!(rig.groups.list().await.unwrap().is_empty());
    });
}

#[test]
fn texts_and_metadata_have_bounds() {
    run(async {
        let rig = Rig::new();
        rig.ready().await;
        let long = "x".repeat(40_000);
        let join = |join| rig.groups.join("g".into(), join);
        let empty = rig.groups.join("".into(), rig.join_request("")).await.unwrap_err();
        assert_eq!(empty.error, GroupError::InvalidGroupId);
        let named = rig.groups.join((*long).into(), rig.join_request("")).await.unwrap_err();
        assert_eq!(named.error, GroupError::InvalidGroupId);
        let request = Join { instance: Some((*long).into()), ..rig.join_request("") };
        assert_eq!(join(request).await.unwrap_err().error, GroupError::InvalidRequest);
        let mut request = rig.join_request("");
        request.protocols[0].metadata = vec![0; 2 << 20].into();
        assert_eq!(join(request).await.unwrap_err().error, GroupError::InvalidRequest);
        let mut request = rig.join_request("");
        let many = (0..20_000).map(|number| Protocol {
            name: number.to_string().into(),
            metadata: bytes::Bytes::new(),
        });
        request.protocols = many.collect();
        assert_eq!(join(request).await.unwrap_err().error, GroupError::InvalidRequest);
    });
}

#[test]
fn e10_members_that_leave_go_at_once() {
    run(async {
        let rig = Rig::new();
        let (one, two) = rig.two("g").await;
        let leaving =
            [&one, &two].map(|one| Leaving { member_id: one.member_id.clone(), instance: None });
        let outcomes = rig.groups.leave("g".into(), leaving.to_vec()).await;
        assert_eq!(outcomes, Ok(vec![Ok(()), Ok(())]));
        let described = rig.groups.describe("g".into()).await.unwrap().unwrap();
        assert_eq!(described.state, "Empty");
        let outcomes = rig.groups.leave("other".into(), leaving.to_vec()).await;
        assert_eq!(outcomes, Ok(vec![Err(GroupError::UnknownMemberId); 2]));
    });
}

#[test]
fn a_deadline_that_comes_before_the_others_is_kept() {
    run(async {
        let rig = Rig::new();
        rig.two("g").await;
        let short = Duration::from_millis(200);
        let request =
            Join { session_timeout: short, requires_member_id: true, ..rig.join_request("") };
        let refusal = rig.groups.join("g".into(), request).await.unwrap_err();
        tokio::time::sleep(short * 3).await;
        let late = rig.groups.join("g".into(), rig.join_request(&refusal.member_id)).await;
        assert_eq!(late.unwrap_err().error, GroupError::UnknownMemberId);
    });
}

#[test]
fn an_assignment_has_a_bound() {
    run(async {
        let rig = Rig::new();
        let (one, _) = rig.two("g").await;
        let request = classic::Sync {
            token: classic::Token(0),
            caller: caller(&one),
            protocol_type: None,
            protocol: None,
            assignments: vec![(one.member_id.clone(), vec![0; 2 << 20].into())],
        };
        assert_eq!(rig.groups.sync("g".into(), request).await, Err(GroupError::TooLarge));
    });
}
