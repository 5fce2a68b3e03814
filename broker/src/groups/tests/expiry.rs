//! What expires when: the rules alone, and what they must not meet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::{LeaderEpoch, Offset, TopicPartition};

use super::super::classic::{Group, GroupMetadata, Limits, MemberMetadata, Moment};
use super::super::offsets::{CommittedOffset, Offsets, expired};
use super::super::shard::{Committing, Entry, Shard};
use super::super::*;
use super::rig::*;
use crate::config::GroupConfig;

const RETENTION: Duration = Duration::from_millis(1000);

fn limits() -> Arc<Limits> {
    Arc::new(Limits {
        initial_rebalance_delay: Duration::ZERO,
        session_timeout_min: Duration::ZERO,
        session_timeout_max: Duration::from_secs(60),
        size_max: 10,
    })
}

/// Empty since a moment, or with a member that reads `t`.
fn group(protocol_type: &str, since_ms: i64, has_member: bool) -> Group {
    let member = MemberMetadata {
        id: "m".into(),
        instance: None,
        client_id: "".into(),
        client_host: "".into(),
        rebalance_timeout: Duration::from_secs(1),
        session_timeout: Duration::from_secs(1),
        subscription: subscription("t"),
        assignment: bytes::Bytes::new(),
    };
    let stored = GroupMetadata {
        protocol_type: protocol_type.into(),
        generation: 1,
        protocol: has_member.then(|| "range".into()),
        leader: None,
        since_ms,
        members: if has_member { vec![member] } else { Vec::new() },
    };
    Group::from_stored(stored, limits(), now())
}

/// Its member is awaited, since another one has come.
fn collected() -> Group {
    let mut group = group("consumer", 0, true);
    let join = Rig::new().join_request("");
    group.join(join, now(), &mut Vec::new());
    assert_eq!(group.state(), classic::State::PreparingRebalance);
    group
}

fn now() -> Moment {
    Moment { at: Instant::now(), wall_ms: 50_000 }
}

fn committed(commit_ms: i64, expire_ms: Option<i64>, stands_at: i64) -> CommittedOffset {
    CommittedOffset {
        offset: Offset(stands_at),
        leader_epoch: LeaderEpoch(0),
        metadata: "".into(),
        commit_ms,
        expire_ms,
        topic_id: None,
        stands_at: Offset(stands_at),
    }
}

#[test]
fn offsets_expire_by_what_their_group_is() {
    let simple = || group("", -1, false);
    let empty = |since| group("consumer", since, false);
    let stable = |kind: &str| group(kind, 0, true);
    // Topic, committed at, expires at; is it gone at 2000?
    let cases = [
        (simple(), "u", 1000, None, true),
        (simple(), "u", 1001, None, false),
        (simple(), "u", 1999, Some(2000), true),
        (simple(), "u", 0, Some(2001), false),
        // As long as the group is empty, and never earlier than the commit.
        (empty(1000), "u", 0, None, true),
        (empty(1001), "u", 0, None, false),
        (empty(0), "u", 1001, None, false),
        (empty(1999), "u", 0, Some(2000), true),
        // What members read stays; what they do not read counts from the commit.
        (stable("consumer"), "t", 0, None, false),
        (stable("consumer"), "t", 0, Some(1), false),
        (stable("consumer"), "u", 1000, None, true),
        (stable("consumer"), "u", 1001, None, false),
        // What cannot be known stays.
        (stable("connect"), "u", 0, None, false),
        (collected(), "u", 0, None, false),
    ];
    for (number, (group, topic, commit_ms, expire_ms, is_gone)) in cases.into_iter().enumerate() {
        let name = TopicPartition::new(topic, 0);
        let offsets: Offsets = [(name, committed(commit_ms, expire_ms, 0))].into();
        let gone = expired(&group, &offsets, RETENTION, 2000);
        assert_eq!(!gone.is_empty(), is_gone, "case {number}");
    }
}

#[test]
fn of_two_records_the_later_one_counts_whichever_is_told_first() {
    let name = TopicPartition::new("t", 0);
    let mut entry = Entry::new(Group::new(limits(), now()));
    let commit =
        |offset| Committing { item: 0, name: name.clone(), committed: committed(0, None, offset) };
    entry.take_in(vec![commit(7)], Offset(9));
    entry.take_in(vec![commit(5)], Offset(8));
    assert_eq!(entry.offsets[&name].offset, Offset(7));
    entry.take_in(vec![commit(5), commit(6)], Offset(10));
    let last = &entry.offsets[&name];
    assert_eq!((last.offset, last.stands_at), (Offset(6), Offset(11)));
    assert_eq!(entry.bytes() - entry.group.bytes(), last.bytes(&name));

    let id: Arc<str> = "g".into();
    let mut shard = Shard { groups: [(id.clone(), entry)].into(), queued: Vec::new() };
    let names = [name.clone()];
    assert!(shard.forget(&id, &names, Some(0), Offset(11)).is_none());
    assert!(shard.groups[&id].offsets.contains_key(&name), "it was committed after that");
    assert!(shard.forget(&id, &names, Some(7), Offset(12)).is_none(), "another generation");
    assert!(shard.groups[&id].offsets.is_empty());
    assert!(shard.forget(&id, &[], Some(0), Offset(13)).is_some());
}

#[test]
fn what_is_being_committed_does_not_expire() {
    run(async {
        let config = GroupConfig {
            offsets_retention: Duration::from_millis(1500),
            retention_check_interval: Duration::from_millis(30),
            ..config()
        };
        let rig = Rig::with(config, &with_follower());
        rig.ready().await;
        let follows = async {
            rig.appended(1).await;
            follower_has(&rig.offsets, Offset(1));
        };
        let (first, ()) = tokio::join!(rig.commit("g", &[("t", 0, 1)]), follows);
        first.unwrap();
        let waits = async {
            rig.appended(2).await;
            tokio::time::sleep(Duration::from_millis(1800)).await;
            rig.offsets.log().log_end()
        };
        tokio::select! {
            told = rig.commit("g", &[("t", 0, 2)]) => panic!("{told:?}"),
            end = waits => assert_eq!(end, Offset(2), "nothing says that it is gone"),
        }
    });
}

#[test]
fn offsets_of_deleted_topics_go_with_the_next_look() {
    run(async {
        let retention_check_interval = Duration::from_millis(30);
        let config = GroupConfig { retention_check_interval, ..config() };
        let rig = Rig::with(config, &crate::replication::tests::rig::alone(0));
        rig.ready().await;
        rig.commit("g", &[("t", 0, 1), ("u", 0, 2)]).await.unwrap();
        rig.recreate("t");
        while rig.groups.report().await.unwrap().offsets > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(rig.groups.report().await.unwrap().counters.expirations, 1);
    });
}
