//! Leadership of an offsets partition comes and goes.

use std::time::Duration;

use super::super::classic::Leaving;
use super::super::*;
use super::rig::*;
use crate::replication::tests::rig::ME;

#[test]
fn a_new_leader_has_every_group_and_offset_that_was_acknowledged() {
    run(async {
        let rig = Rig::new();
        let (one, two) = rig.two("g").await;
        let request = commit_request(caller(&one), &[("t", 0, 1), ("t", 1, 2)]);
        rig.groups.commit("g".into(), request).await.unwrap();
        for offset in 0..50 {
            rig.commit("simple", &[("u", 0, offset)]).await.unwrap();
        }
        rig.lead_again(1);
        let told = rig.groups.heartbeat("g".into(), caller(&two)).await;
        assert_eq!(told, Ok(()), "also while the group is read");
        rig.ready().await;
        assert_eq!(rig.groups.heartbeat("g".into(), caller(&two)).await, Ok(()));
        let again = rig.sync("g", &two, &[]).await;
        assert_eq!(again, format!("of {}", two.member_id), "as it was given");
        let all = rig.fetch_all("g").await;
        assert_eq!(all, [("t-0".to_owned(), 1), ("t-1".to_owned(), 2)].into());
        assert_eq!(rig.fetch_all("simple").await["u-0"], 49, "the last one counts");
        let request = commit_request(caller(&two), &[("t", 0, 3)]);
        assert_eq!(rig.groups.commit("g".into(), request).await, Ok(vec![Ok(())]));
    });
}

#[test]
fn who_waits_is_told_when_leadership_goes() {
    run(async {
        let delay = Duration::from_secs(30);
        let config = crate::config::GroupConfig { initial_rebalance_delay: delay, ..config() };
        let rig = Rig::with(config, &with_follower());
        rig.ready().await;
        let commit = rig.commit("g", &[("t", 0, 5)]);
        let join = rig.groups.join("h".into(), rig.join_request(""));
        let leave = async {
            rig.appended(1).await;
            while rig.groups.describe("h".into()).await.unwrap().is_none() {}
            rig.resign(1);
        };
        let (commit, join, ()) = tokio::join!(commit, join, leave);
        assert_eq!(commit, Ok(vec![Err(GroupError::NotCoordinator)]));
        assert_eq!(join.unwrap_err().error, GroupError::NotCoordinator);
        let outcome = rig.groups.heartbeat("g".into(), nobody()).await;
        assert_eq!(outcome, Err(GroupError::NotCoordinator));
        let outcome = rig.groups.fetch_offsets("g".into(), Wanted::All).await;
        assert_eq!(outcome, Err(GroupError::NotCoordinator));
        assert_eq!(rig.groups.list().await, Ok(vec![]));
    });
}

#[test]
fn what_is_not_committed_yet_is_not_told_by_a_new_leader() {
    run(async {
        let rig = Rig::new();
        rig.ready().await;
        rig.commit("g", &[("t", 0, 5)]).await.unwrap();
        // In the next epoch a follower counts that has not told what it has.
        rig.offsets.lead(ME, &crate::replication::tests::rig::led(1, 0, &[1, 2], &[1, 2])).unwrap();
        rig.metadata.update(|_| ());
        let log = rig.offsets.log();
        if log.high_watermark() < log.log_end() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let outcome = rig.groups.fetch_offsets("g".into(), Wanted::All).await;
            assert_eq!(outcome, Err(GroupError::CoordinatorLoadInProgress));
        }
        let replica = crate::replication::Replica {
            broker_id: proto::BrokerId(2),
            incarnation: uuid::Uuid::from_u128(2),
        };
        rig.offsets.follower_told(proto::LeaderEpoch(1), &replica, log.log_end()).unwrap();
        assert_eq!(rig.fetch_all("g").await["t-0"], 5);
    });
}

#[test]
fn a_group_that_became_empty_is_read_as_empty() {
    run(async {
        let rig = Rig::new();
        let (one, two) = rig.two("g").await;
        let leaving =
            [&one, &two].map(|one| Leaving { member_id: one.member_id.clone(), instance: None });
        rig.groups.leave("g".into(), leaving.to_vec()).await.unwrap();
        rig.commit("g", &[("t", 0, 5)]).await.unwrap();
        rig.lead_again(1);
        rig.ready().await;
        let described = rig.groups.describe("g".into()).await.unwrap().unwrap();
        assert_eq!((described.state, &*described.protocol_type), ("Empty", "consumer"));
        let outcome = rig.groups.heartbeat("g".into(), caller(&one)).await;
        assert_eq!(outcome, Err(GroupError::UnknownMemberId));
        let joined = rig.groups.join("g".into(), rig.join_request("")).await.unwrap();
        assert_eq!(joined.generation, 3, "generations go on");
    });
}
