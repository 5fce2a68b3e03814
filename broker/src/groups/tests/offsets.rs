//! Commits, and what is told of them.

use std::time::Duration;

use proto::kafka::group_records::GroupRecordKey;
use proto::record::Batches;
use proto::{LeaderEpoch, Offset, TopicPartition};

use super::super::*;
use super::rig::*;
use crate::config::GroupConfig;
use crate::storage::{Cursor, ReadLimits};

#[test]
fn e7_what_cannot_be_committed_keeps_the_rest_from_nothing() {
    run(async {
        let rig = Rig::new();
        rig.ready().await;
        let mut request =
            commit_request(nobody(), &[("t", 0, 5), ("gone", 0, 1), ("t", 3, 1), ("t", 1, 6)]);
        request.commits[3].metadata = "longer than it may".into();
        request.commits.push(request.commits[0].clone());
        request.commits[4].partition.partition = 2;
        let outcomes = rig.groups.commit("g".into(), request).await.unwrap();
        let unknown = Err(GroupError::UnknownTopicOrPartition);
        let too_long = Err(GroupError::OffsetMetadataTooLarge);
        assert_eq!(outcomes, [Ok(()), unknown, unknown, too_long, Ok(())]);
        let all = rig.fetch_all("g").await;
        assert_eq!(all, [("t-0".to_owned(), 5), ("t-2".to_owned(), 5)].into());
    });
}

#[test]
fn e8_what_was_never_committed_is_no_error() {
    run(async {
        let rig = Rig::new();
        rig.ready().await;
        rig.commit("g", &[("t", 0, 5)]).await.unwrap();
        let names = vec![TopicPartition::new("t", 0), TopicPartition::new("t", 1)];
        let wanted = Wanted::These(names.clone());
        let told = rig.groups.fetch_offsets("g".into(), wanted.clone()).await.unwrap();
        assert_eq!(told[0].0, names[0]);
        let committed = told[0].1.as_ref().unwrap();
        assert_eq!((committed.offset, &*committed.metadata), (Offset(5), "m"));
        assert_eq!(committed.leader_epoch, LeaderEpoch(0));
        assert_eq!(told[1], (names[1].clone(), None));
        let told = rig.groups.fetch_offsets("other".into(), wanted).await.unwrap();
        assert!(told.iter().all(|(_, committed)| committed.is_none()) && told.len() == 2);
        assert_eq!(rig.groups.describe("other".into()).await, Ok(None), "nobody asked for it");
    });
}

#[test]
fn e6_a_group_that_is_not_there_is_told_apart_by_version() {
    run(async {
        let rig = Rig::new();
        rig.ready().await;
        let member = classic::Caller { generation: 1, ..nobody() };
        let mut request = commit_request(member, &[("t", 0, 5)]);
        let outcome = rig.groups.commit("g".into(), request.clone()).await;
        assert_eq!(outcome, Err(GroupError::GroupIdNotFound));
        request.knows_missing_groups = false;
        let outcome = rig.groups.commit("g".into(), request).await;
        assert_eq!(outcome, Err(GroupError::IllegalGeneration));
    });
}

#[test]
fn records_are_kafkas_and_stand_in_the_partition() {
    run(async {
        let rig = Rig::new();
        rig.ready().await;
        rig.commit("g", &[("t", 1, 5)]).await.unwrap();
        let log = rig.offsets.log();
        let limits =
            ReadLimits { max_bytes: 1 << 20, upto: log.log_end(), first_batch_whole: true };
        let slice = log.read_copied(Cursor::at(Offset(0)), limits).unwrap();
        let batch = Batches::new(slice.bytes()).next().unwrap().unwrap();
        let record = batch.records().next().unwrap().unwrap();
        assert_eq!(record.key.unwrap(), b"\0\x01\0\x01g\0\x01t\0\0\0\x01");
        let value = record.value.unwrap();
        assert_eq!(value[..15], *b"\0\x03\0\0\0\0\0\0\0\x05\0\0\0\0\0");
        let header = record.headers.clone().next().unwrap();
        assert_eq!((&*header.key(), header.value().unwrap().len()), ("topic.id", 16));
        let key = GroupRecordKey::decode(bytes::Bytes::copy_from_slice(record.key.unwrap()));
        assert!(matches!(key, Ok(GroupRecordKey::OffsetCommit(_))));
    });
}

#[test]
fn a_commit_is_answered_when_the_followers_have_it_and_not_before() {
    run(async {
        let rig = Rig::with(config(), &with_follower());
        rig.ready().await;
        let commit = rig.commit("g", &[("t", 0, 5)]);
        let mut commit = std::pin::pin!(commit);
        tokio::select! {
            told = &mut commit => panic!("nobody else has it: {told:?}"),
            () = rig.appended(1) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        let early = tokio::time::timeout(Duration::from_millis(50), &mut commit).await;
        assert!(early.is_err(), "nobody else has it");
        assert!(rig.fetch_all("g").await.is_empty(), "it may be lost");
        follower_has(&rig.offsets, rig.offsets.log().log_end());
        assert_eq!(commit.await, Ok(vec![Ok(())]));
        assert_eq!(rig.fetch_all("g").await["t-0"], 5);
    });
}

#[test]
fn who_waits_too_long_is_told_so_and_memory_ends_up_as_the_log() {
    run(async {
        let commit_timeout = Duration::from_millis(100);
        let config = GroupConfig { commit_timeout, ..config() };
        let rig = Rig::with(config, &with_follower());
        rig.ready().await;
        let outcome = rig.commit("g", &[("t", 0, 5)]).await;
        assert_eq!(outcome, Err(GroupError::CoordinatorNotAvailable));
        follower_has(&rig.offsets, rig.offsets.log().log_end());
        while rig.fetch_all("g").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn many_commits_at_once_are_all_taken_and_share_batches() {
    run(async {
        let rig = Rig::new();
        rig.ready().await;
        let commits = (0..300).map(|number| {
            let group = format!("g{}", number % 7);
            let rig = &rig;
            async move { rig.commit(&group, &[("t", number % 3, i64::from(number))]).await }
        });
        let outcomes = futures_util::future::join_all(commits).await;
        assert!(outcomes.iter().all(|outcome| *outcome == Ok(vec![Ok(())])));
        let log = rig.offsets.log();
        let limits =
            ReadLimits { max_bytes: 1 << 20, upto: log.log_end(), first_batch_whole: true };
        let slice = log.read_copied(Cursor::at(Offset(0)), limits).unwrap();
        assert!(Batches::new(slice.bytes()).count() < 300, "a batch each");
        // Which of them was the last is not told: it is the one that the log has last.
        let mut before = Vec::new();
        for number in 0..7 {
            before.push(rig.fetch_all(&format!("g{number}")).await);
        }
        rig.lead_again(1);
        for (number, before) in before.iter().enumerate() {
            assert_eq!(before.len(), 3);
            assert_eq!(*before, rig.fetch_all(&format!("g{number}")).await);
        }
    });
}

#[test]
fn offsets_of_a_deleted_topic_are_none_for_its_successor() {
    run(async {
        let rig = Rig::new();
        rig.ready().await;
        rig.commit("g", &[("t", 0, 5), ("u", 0, 7)]).await.unwrap();
        rig.recreate("t");
        assert_eq!(rig.fetch_all("g").await, [("u-0".to_owned(), 7)].into());
        rig.commit("g", &[("t", 0, 1)]).await.unwrap();
        assert_eq!(rig.fetch_all("g").await["t-0"], 1);
    });
}

#[test]
fn the_topic_is_created_for_the_first_group_and_once() {
    run(async {
        let rig = Rig::new();
        assert_eq!(rig.groups.find_coordinator("g"), Ok(crate::replication::tests::rig::ME));
        rig.metadata.update(|now| {
            now.topics.remove(OFFSETS_TOPIC);
        });
        for _ in 0..3 {
            let found = rig.groups.find_coordinator("g");
            assert_eq!(found, Err(GroupError::CoordinatorNotAvailable));
        }
        {
            let created = rig.creator.0.lock();
            assert_eq!(created.len(), 1);
            assert_eq!((created[0].partitions, created[0].replication_factor), (50, 1));
            assert!(created[0].configs.contains(&("cleanup.policy", "compact".to_owned())));
        }
        assert_eq!(rig.commit("g", &[("t", 0, 1)]).await, Err(GroupError::NotCoordinator));
    });
}

#[test]
fn the_topic_is_not_created_before_there_are_brokers_for_its_replicas() {
    run(async {
        let config = GroupConfig { topic_replication_factor: 2, ..config() };
        let rig = Rig::with(config, &crate::replication::tests::rig::alone(0));
        rig.metadata.update(|now| {
            now.topics.remove(OFFSETS_TOPIC);
        });
        assert_eq!(rig.groups.find_coordinator("g"), Err(GroupError::TooFewBrokers));
        assert_eq!(GroupError::TooFewBrokers.code(), proto::ErrorCode::CoordinatorNotAvailable);
        assert!(rig.creator.0.lock().is_empty());
    });
}

#[test]
fn what_was_appended_with_too_few_replicas_counts_once_it_is_committed() {
    run(async {
        let rig = Rig::with_minimum(config(), &with_follower(), 2);
        rig.ready().await;
        let ids = |ids: &[i32]| ids.iter().copied().map(proto::BrokerId).collect::<Vec<_>>();
        let shrink = async {
            rig.appended(1).await;
            rig.offsets.isr_settled(LeaderEpoch(0), 1, &ids(&[1]), &ids(&[2]));
        };
        let (told, ()) = tokio::join!(rig.commit("g", &[("t", 0, 5)]), shrink);
        assert_eq!(told, Err(GroupError::CoordinatorNotAvailable), "nobody knows");
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert!(rig.fetch_all("g").await.is_empty());
        let refused = rig.commit("g", &[("t", 1, 6)]).await;
        assert_eq!(refused, Ok(vec![Err(GroupError::CoordinatorNotAvailable)]), "not appended");
        rig.offsets.isr_settled(LeaderEpoch(0), 2, &ids(&[1, 2]), &ids(&[]));
        follower_has(&rig.offsets, rig.offsets.log().log_end());
        while rig.fetch_all("g").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let before = rig.fetch_all("g").await;
        assert_eq!(before, [("t-0".to_owned(), 5)].into());
        rig.lead_again(1);
        assert_eq!(rig.fetch_all("g").await, before, "as the next leader reads it");
    });
}

#[test]
fn a_full_coordinator_goes_on_with_what_it_has() {
    run(async {
        let rig = Rig::with(
            GroupConfig { memory_max: 3_000, ..config() },
            &crate::replication::tests::rig::alone(0),
        );
        let (one, two) = rig.two("g").await;
        let full = GroupError::CoordinatorNotAvailable;
        let commit = |metadata: &str, commits| {
            let mut request = commit_request(caller(&one), commits);
            request.commits[0].metadata = metadata.into();
            rig.groups.commit("g".into(), request)
        };
        assert_eq!(commit("0123", &[("t", 0, 1)]).await, Ok(vec![Ok(())]));
        // Not full yet, until something large comes.
        let mut large = rig.join_request(&one.member_id);
        large.protocols[0].metadata = vec![0; 3_000].into();
        let again = rig.groups.join("g".into(), rig.join_request(&two.member_id));
        let (first, second) = tokio::join!(rig.groups.join("g".into(), large), again);
        let (first, second) = (first.unwrap(), second.unwrap());
        let report = rig.groups.report().await.unwrap();
        assert!(report.bytes > 3_000, "{}", report.bytes);
        assert_eq!(rig.groups.heartbeat("g".into(), caller(&second)).await, Ok(()));
        assert_eq!(rig.commit("h", &[("t", 0, 1)]).await, Err(full), "no new group");
        let entering = rig.groups.join("g".into(), rig.join_request("")).await;
        assert_eq!(entering.unwrap_err().error, full, "no new member");
        let known = |metadata: &str| {
            let mut request = commit_request(caller(&second), &[("t", 0, 2)]);
            request.commits[0].metadata = metadata.into();
            rig.groups.commit("g".into(), request)
        };
        assert_eq!(known("01234").await, Err(full), "no longer note");
        let rebalance = Err(GroupError::RebalanceInProgress);
        assert_eq!(known("0123").await, rebalance, "what is known is not refused for its size");
        let mut new = commit_request(caller(&second), &[("t", 1, 2)]);
        new.commits[0].metadata = "".into();
        assert_eq!(rig.groups.commit("g".into(), new).await, Err(full), "no new offset");
        let request = classic::Sync {
            token: classic::Token(0),
            caller: caller(&first),
            protocol_type: None,
            protocol: None,
            assignments: vec![(first.member_id.clone(), bytes::Bytes::from_static(b"all"))],
        };
        assert_eq!(rig.groups.sync("g".into(), request).await, Err(full), "no assignment");
        let mut larger = rig.join_request(&second.member_id);
        larger.protocols[0].metadata = vec![0; 400].into();
        let larger = rig.groups.join("g".into(), larger).await;
        assert_eq!(larger.unwrap_err().error, full, "no larger one");
        // The one that was too large joins with less, and there is room again.
        let small = rig.groups.join("g".into(), rig.join_request(&first.member_id));
        let again = rig.groups.join("g".into(), rig.join_request(&second.member_id));
        let (first, second) = tokio::join!(small, again);
        let first = first.unwrap();
        assert!(second.is_ok());
        assert_eq!(rig.sync("g", &first, &[&first]).await, format!("of {}", first.member_id));
    });
}

#[test]
fn the_report_counts_groups_offsets_and_what_has_happened() {
    run(async {
        let rig = Rig::new();
        let (one, _) = rig.two("g").await;
        let request = commit_request(caller(&one), &[("t", 0, 1), ("u", 0, 2)]);
        rig.groups.commit("g".into(), request).await.unwrap();
        rig.commit("simple", &[("t", 1, 3)]).await.unwrap();
        rig.recreate("u");
        let report = rig.groups.report().await.unwrap();
        // Empty, preparing, completing, stable, dead.
        assert_eq!((report.states, report.offsets), ([1, 0, 0, 1, 0], 3));
        let names: Vec<(&str, usize)> =
            report.groups.iter().map(|group| (&*group.group, group.members)).collect();
        assert_eq!(names, [("g", 2), ("simple", 0)], "those with members first");
        let shown = vec![(TopicPartition::new("t", 0), Offset(1))];
        assert_eq!(report.groups[0].offsets, shown, "the other topic is gone");
        let counted = report.counters;
        assert_eq!((counted.rebalances, counted.commits, counted.loads), (1, 3, 1));
        rig.groups.delete("simple".into()).await.unwrap();
        rig.lead_again(1);
        rig.ready().await;
        let report = rig.groups.report().await.unwrap();
        assert_eq!((report.counters.deletions, report.counters.loads), (1, 2));
        assert_eq!((report.states, report.left_out, report.loading), ([0, 0, 0, 1, 0], 0, 0));
    });
}

#[test]
fn a_request_larger_than_a_batch_is_committed_in_parts() {
    run(async {
        let config = GroupConfig { offset_metadata_max: 4096, ..config() };
        let rig = Rig::with(config, &crate::replication::tests::rig::alone(0));
        rig.topic("wide", 400);
        rig.ready().await;
        let commits: Vec<_> = (0..400).map(|number| ("wide", number, 1)).collect();
        let mut request = commit_request(nobody(), &commits);
        request.commits.iter_mut().for_each(|one| one.metadata = "x".repeat(4000).into());
        let outcomes = rig.groups.commit("g".into(), request).await.unwrap();
        assert_eq!(outcomes, vec![Ok(()); 400]);
        assert_eq!(rig.fetch_all("g").await.len(), 400);
    });
}

#[test]
fn a_commit_that_fits_no_batch_is_told_apart() {
    run(async {
        let log = crate::storage::LogConfig { max_message_bytes: 600, ..Default::default() };
        let config = GroupConfig { offset_metadata_max: 4096, ..config() };
        let rig = Rig::with_log(config, &crate::replication::tests::rig::alone(0), &log);
        rig.ready().await;
        let mut request = commit_request(nobody(), &[("t", 0, 1)]);
        request.commits[0].metadata = "x".repeat(1000).into();
        let outcome = rig.groups.commit("g".into(), request).await;
        assert_eq!(outcome, Ok(vec![Err(GroupError::CommitTooLarge)]));
        assert_eq!(GroupError::CommitTooLarge.code() as i16, 28);
        assert_eq!(rig.commit("g", &[("t", 0, 1)]).await, Ok(vec![Ok(())]));
    });
}

#[test]
fn a_report_has_a_bound_and_says_what_it_leaves_out() {
    run(async {
        let rig = Rig::new();
        rig.topic("wide", 1000);
        rig.ready().await;
        let commits: Vec<_> = (0..1000).map(|number| ("wide", number, 1)).collect();
        for group in 0..22 {
            rig.commit(&format!("g{group}"), &commits).await.unwrap();
        }
        let report = rig.groups.report().await.unwrap();
        assert_eq!((report.groups.len(), report.left_out, report.offsets), (19, 3, 22_000));
    });
}
