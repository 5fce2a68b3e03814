//! Deleting groups and offsets, and their expiry.

use std::time::Duration;

use proto::TopicPartition;

use super::super::classic::Leaving;
use super::super::*;
use super::rig::*;
use crate::config::GroupConfig;
use crate::replication::tests::rig::alone;

#[test]
fn e11_only_groups_without_members_are_deleted_and_stay_so() {
    run(async {
        let rig = Rig::new();
        let (one, two) = rig.two("g").await;
        let request = commit_request(caller(&one), &[("t", 0, 1)]);
        rig.groups.commit("g".into(), request).await.unwrap();
        assert_eq!(rig.groups.delete("g".into()).await, Err(GroupError::NonEmptyGroup));
        assert_eq!(rig.groups.delete("other".into()).await, Err(GroupError::GroupIdNotFound));
        let leaving =
            [&one, &two].map(|one| Leaving { member_id: one.member_id.clone(), instance: None });
        rig.groups.leave("g".into(), leaving.to_vec()).await.unwrap();
        assert_eq!(rig.groups.delete("g".into()).await, Ok(()));
        assert_eq!(rig.groups.describe("g".into()).await, Ok(None));
        rig.lead_again(1);
        assert!(rig.fetch_all("g").await.is_empty());
        assert_eq!(rig.groups.describe("g".into()).await, Ok(None), "nor for a new leader");
    });
}

#[test]
fn e11_offsets_of_topics_that_members_read_are_kept() {
    run(async {
        let rig = Rig::new();
        let (one, _) = rig.two("g").await;
        let request = commit_request(caller(&one), &[("t", 0, 1), ("u", 0, 2)]);
        rig.groups.commit("g".into(), request).await.unwrap();
        let names = vec![TopicPartition::new("t", 0), TopicPartition::new("u", 0)];
        let outcomes = rig.groups.delete_offsets("g".into(), names.clone()).await;
        assert_eq!(outcomes, Ok(vec![Err(GroupError::GroupSubscribedToTopic), Ok(())]));
        assert_eq!(rig.fetch_all("g").await, [("t-0".to_owned(), 1)].into());
        rig.lead_again(1);
        assert_eq!(rig.fetch_all("g").await, [("t-0".to_owned(), 1)].into());
        let missing = rig.groups.delete_offsets("other".into(), names).await;
        assert_eq!(missing, Err(GroupError::GroupIdNotFound));
    });
}

#[test]
fn offsets_expire_and_the_group_with_the_last() {
    run(async {
        let config = GroupConfig {
            offsets_retention: Duration::from_millis(300),
            retention_check_interval: Duration::from_millis(50),
            ..config()
        };
        let rig = Rig::with(config, &alone(0));
        rig.ready().await;
        rig.commit("g", &[("t", 0, 1)]).await.unwrap();
        let mut kept = commit_request(nobody(), &[("t", 1, 2)]);
        kept.retention = Some(Duration::from_secs(3600));
        rig.groups.commit("kept".into(), kept).await.unwrap();
        let (one, _) = rig.two("alive").await;
        let request = commit_request(caller(&one), &[("t", 0, 3), ("u", 0, 4)]);
        rig.groups.commit("alive".into(), request).await.unwrap();
        while rig.groups.describe("g".into()).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        while rig.fetch_all("alive").await.len() > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(rig.fetch_all("alive").await["t-0"], 3, "a member reads the topic");
        assert_eq!(rig.fetch_all("kept").await["t-1"], 2, "as long as the client said");
        rig.lead_again(1);
        assert!(rig.fetch_all("g").await.is_empty());
        assert_eq!(rig.fetch_all("kept").await["t-1"], 2);
    });
}
