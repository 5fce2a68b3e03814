//! From a request to the writes, on a picture without a registry.

use proto::{BrokerId, ErrorCode, TopicId, v1};

use super::request::{check, reassign};
use super::topic::{CHANGES_MAX, Scope, advance, due};
use super::*;
use crate::controller::commands::{self, Defaults, NewTopic};
use crate::controller::decision::{Decision, Refusal};
use crate::controller::deletion;
use crate::controller::state::{Cluster, TopicState};
use crate::registry::configs::{self, Kind};
use crate::registry::fence::Change;
use crate::zk::payload::{self, Broker, Payload};

fn broker() -> Broker {
    Broker {
        host: "127.0.0.1".to_owned(),
        grpc_port: 9094,
        kafka: Vec::new(),
        http_port: None,
        rack: String::new(),
        incarnation: uuid::Uuid::new_v4(),
        start_time_ms: 0,
        clean: true,
    }
}

/// Brokers 1 to 5, and topics with so many partitions on broker 1.
fn cluster(topics: &[(&str, usize)]) -> Cluster {
    let brokers = (1..=5).map(|id| (BrokerId(id), broker())).collect();
    let mut cluster = Cluster { brokers, ..Cluster::default() };
    for (name, partitions) in topics {
        let on = v1::Replicas { brokers: vec![1] };
        let assignment = vec![on; *partitions];
        let asked = v1::NewTopic { name: (*name).to_owned(), assignment, ..Default::default() };
        let new = NewTopic { asked: &asked, id: TopicId::random(), controller_epoch: 1 };
        let created = commands::create_topic(&cluster, Defaults::default(), new).unwrap();
        apply(&mut cluster, &created);
    }
    cluster
}

fn apply(cluster: &mut Cluster, decision: &Decision) {
    decision.steps.iter().for_each(|step| cluster.apply(step.clone()));
}

fn to(topic: &str, partition: i32, target: &[i32]) -> v1::PartitionReassignment {
    let target = Some(v1::Replicas { brokers: target.to_vec() });
    v1::PartitionReassignment { topic: topic.to_owned(), partition, target }
}

fn back(topic: &str, partition: i32) -> v1::PartitionReassignment {
    v1::PartitionReassignment { topic: topic.to_owned(), partition, target: None }
}

/// Asks, and takes the answer into the picture.
fn ask(
    cluster: &mut Cluster,
    topic: &str,
    asked: &[v1::PartitionReassignment],
    rate: i64,
) -> Decision {
    let asked: Vec<_> = asked.iter().collect();
    let decision = reassign(cluster, topic, &asked, rate, 1).unwrap();
    apply(cluster, &decision);
    decision
}

fn step(cluster: &mut Cluster, name: &str) -> Option<Decision> {
    let decision = advance(cluster, name, &cluster.topics[name], Scope::All, 1).unwrap()?;
    apply(cluster, &decision);
    Some(decision)
}

/// The leader writes an ISR, and the picture follows.
fn isr(cluster: &mut Cluster, topic: &str, partition: i32, isr: &[i32]) {
    let topic = cluster.topics.get_mut(topic).unwrap();
    let state = topic.partition_mut(partition).unwrap();
    state.isr = isr.iter().copied().map(BrokerId).collect();
    state.version += 1;
}

fn replicas(topic: &TopicState, partition: i32) -> Vec<i32> {
    topic.partition(partition).unwrap().replicas.iter().map(|id| id.0).collect()
}

fn paths(decision: &Decision) -> Vec<&str> {
    decision.writes.iter().map(Change::path).collect()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>, code: ErrorCode) -> v1::Error {
    let Refusal(error) = result.unwrap_err();
    assert_eq!(ErrorCode::from_code(error.code), code, "{error:?}");
    assert!(!error.message.is_empty() && !error.remedy.is_empty(), "{error:?}");
    error
}

#[test]
fn a_move_is_recorded_before_replicas_come_and_forgotten_after_they_went() {
    let mut cluster = cluster(&[("a", 2)]);
    let begun = ask(&mut cluster, "a", &[to("a", 1, &[2, 3])], 0);
    let expected =
        ["/admin/reassign/a", "/brokers/topics/a", "/brokers/topics/a/partitions/1/state"];
    assert_eq!(paths(&begun), expected);
    let Change::Create { bytes, .. } = &begun.writes[0] else { panic!() };
    let record = payload::Reassignments::decode("/x", bytes).unwrap();
    assert_eq!(record.partitions[&1].original, [BrokerId(1)]);
    let told = &begun.delta.topics["a"].partitions[1];
    assert_eq!(
        (&told.replicas[..], &told.adding[..], &told.removing[..]),
        (&[2, 3, 1][..], &[2, 3][..], &[1][..])
    );
    // The state has a higher version, so that brokers take the wider replicas for newer.
    assert_eq!((told.state_version, told.leader, told.leader_epoch), (1, 1, 0));
    assert!(begun.delta.topics["a"].partitions[0].adding.is_empty());
    assert!(due(&cluster, "a").is_empty() && step(&mut cluster, "a").is_none());

    isr(&mut cluster, "a", 1, &[1, 3, 2]);
    assert_eq!(due(&cluster, "a"), [1]);
    let ended = step(&mut cluster, "a").unwrap();
    let expected =
        ["/brokers/topics/a/partitions/1/state", "/brokers/topics/a", "/admin/reassign/a"];
    assert_eq!(paths(&ended), expected);
    let Change::Set { bytes, version: Some(2), .. } = &ended.writes[0] else { panic!() };
    let state = payload::PartitionState::decode("/x", bytes).unwrap();
    assert_eq!((state.leader, state.leader_epoch.0), (Some(BrokerId(2)), 1));
    assert!(matches!(ended.writes[2], Change::Delete { version: Some(0), .. }));
    let topic = &cluster.topics["a"];
    assert_eq!((replicas(topic, 1), topic.version), (vec![2, 3], 2));
    assert_eq!(topic.reassigning, Default::default());
    assert!(ended.delta.topics["a"].partitions[1].removing.is_empty());
}

#[test]
fn partitions_of_a_topic_end_one_by_one() {
    let mut cluster = cluster(&[("a", 3)]);
    ask(&mut cluster, "a", &[to("a", 0, &[2]), to("a", 2, &[3])], 0);
    isr(&mut cluster, "a", 2, &[1, 3]);
    let ended = step(&mut cluster, "a").unwrap();
    assert!(matches!(ended.writes.last(), Some(Change::Set { version: Some(0), .. })));
    assert_eq!(list(&cluster, &[]).len(), 1);
    // Asked for more meanwhile, and again for the same.
    ask(&mut cluster, "a", &[to("a", 2, &[3, 4])], 0);
    assert_eq!(replicas(&cluster.topics["a"], 2), [3, 4]);
    let same = ask(&mut cluster, "a", &[to("a", 0, &[2])], 0);
    assert!(same.writes.is_empty() && same.delta.is_empty(), "{same:?}");
    assert_eq!(same.done, ["reassign topic a"]);
    isr(&mut cluster, "a", 2, &[3, 4]);
    isr(&mut cluster, "a", 0, &[1, 2]);
    step(&mut cluster, "a").unwrap();
    assert!(list(&cluster, &[]).is_empty());
}

#[test]
fn what_is_replaced_or_taken_back_goes_by_the_steps_that_follow() {
    let mut cluster = cluster(&[("a", 1)]);
    ask(&mut cluster, "a", &[to("a", 0, &[2])], 0);
    // Broker 2 goes: that is no part of a request's transaction.
    let replaced = ask(&mut cluster, "a", &[to("a", 0, &[3])], 0);
    assert_eq!(paths(&replaced), ["/admin/reassign/a"]);
    let stepped = step(&mut cluster, "a").unwrap();
    assert_eq!(paths(&stepped)[0], "/brokers/topics/a/partitions/0/state");
    assert_eq!(replicas(&cluster.topics["a"], 0), [3, 1]);
    let taken_back = ask(&mut cluster, "a", &[back("a", 0)], 0);
    assert_eq!(paths(&taken_back), ["/admin/reassign/a"]);
    let under_way = list(&cluster, &[]);
    assert_eq!((&under_way[0].target, &under_way[0].original), (&vec![1], &vec![1]));
    step(&mut cluster, "a").unwrap();
    assert_eq!(replicas(&cluster.topics["a"], 0), [1]);
    assert!(list(&cluster, &[]).is_empty());
    let asked = [&back("a", 0)];
    refused(reassign(&cluster, "a", &asked, 0, 1), ErrorCode::NoReassignmentInProgress);
}

#[test]
fn targets_that_cannot_be_are_refused() {
    let mut cluster = cluster(&[("a", 1)]);
    let of = |asked: v1::PartitionReassignment, cluster: &Cluster| check(cluster, &asked);
    let invalid = ErrorCode::InvalidReplicaAssignment;
    refused(of(to("a", 0, &[]), &cluster), invalid);
    refused(of(to("a", 0, &[2, 2]), &cluster), invalid);
    refused(of(to("a", 0, &[-1]), &cluster), invalid);
    refused(of(to("a", 0, &(1..200).collect::<Vec<_>>()), &cluster), invalid);
    let dead = refused(of(to("a", 0, &[2, 9]), &cluster), invalid);
    assert!(dead.message.contains("broker 9, which is not live"), "{dead:?}");
    refused(of(to("a", 1, &[2]), &cluster), ErrorCode::UnknownTopicOrPartition);
    refused(of(to("a", -1, &[2]), &cluster), ErrorCode::UnknownTopicOrPartition);
    refused(of(to("b", 0, &[2]), &cluster), ErrorCode::UnknownTopicOrPartition);
    refused(of(back("a", 0), &cluster), ErrorCode::NoReassignmentInProgress);
    // What is drained may keep what it has, and gets nothing more.
    let cordon = [(configs::CORDONED_KEY.to_owned(), configs::CORDONED_ALL.to_owned())].into();
    for id in ["1", "3"] {
        let cordoned = commands::alter_configs(&cluster, Kind::Broker, id, &cordon, &[]).unwrap();
        apply(&mut cluster, &cordoned);
    }
    let drained = refused(of(to("a", 0, &[1, 3]), &cluster), invalid);
    assert!(drained.message.contains("broker 3, which is drained"), "{drained:?}");
    of(to("a", 0, &[2, 1]), &cluster).unwrap();
    // A replica that is dead may stay one.
    cluster.brokers.remove(&BrokerId(1));
    of(to("a", 0, &[2, 1]), &cluster).unwrap();
    let marked = deletion::mark(&cluster, "a", 0).unwrap();
    apply(&mut cluster, &marked);
    refused(of(to("a", 0, &[2]), &cluster), ErrorCode::UnknownTopicOrPartition);
}

#[test]
fn a_throttle_is_recorded_told_and_gone_with_the_last_partition() {
    let mut cluster = cluster(&[("a", 2), ("b", 1)]);
    let told = |decision: &Decision, topic: &str| decision.delta.topics[topic].throttle;
    let begun = ask(&mut cluster, "a", &[to("a", 0, &[2]), to("a", 1, &[1, 3])], 5_000);
    assert_eq!(told(&begun, "a"), 5_000);
    let Change::Create { bytes, .. } = &begun.writes[0] else { panic!() };
    let record = payload::Reassignments::decode("/x", bytes).unwrap();
    assert_eq!(record.throttle, Some(5_000));
    // It is nobody's override: those are the operator's.
    assert!(begun.delta.configs.is_empty() && cluster.configs.is_empty());
    assert_eq!(told(&ask(&mut cluster, "b", &[to("b", 0, &[2])], 0), "b"), 0);
    isr(&mut cluster, "a", 0, &[1, 2]);
    assert_eq!(told(&step(&mut cluster, "a").unwrap(), "a"), 5_000);
    // Changed on the way, by nothing else than the record; left out it stays.
    let changed = ask(&mut cluster, "a", &[to("a", 1, &[1, 3])], 7_000);
    assert_eq!((paths(&changed), told(&changed, "a")), (vec!["/admin/reassign/a"], 7_000));
    let same = ask(&mut cluster, "a", &[to("a", 1, &[1, 3])], 0);
    assert!(same.writes.is_empty() && same.delta.is_empty(), "{same:?}");
    assert_eq!(list(&cluster, &[])[0].throttle, 7_000);
    isr(&mut cluster, "a", 1, &[1, 3]);
    assert_eq!(told(&step(&mut cluster, "a").unwrap(), "a"), 0);
}

#[test]
fn a_state_that_somebody_removed_is_not_written_anew() {
    let mut cluster = cluster(&[("a", 1)]);
    ask(&mut cluster, "a", &[to("a", 0, &[2])], 0);
    isr(&mut cluster, "a", 0, &[1, 2]);
    assert_eq!(due(&cluster, "a"), [0]);
    cluster.topics.get_mut("a").unwrap().partitions[0].version = -1;
    assert!(due(&cluster, "a").is_empty() && step(&mut cluster, "a").is_none());
}

#[test]
fn many_partitions_change_in_parts_and_too_many_are_refused() {
    let mut cluster = cluster(&[("big", 1_200)]);
    let asked: Vec<_> = (0..1_000).map(|p| to("big", p, &[2, 1])).collect();
    let begun = ask(&mut cluster, "big", &asked, 0);
    assert_eq!(begun.writes.len(), 2 + CHANGES_MAX);
    assert_eq!(due(&cluster, "big").len(), 1_000 - CHANGES_MAX);
    let mut parts = 0;
    while let Some(part) = step(&mut cluster, "big") {
        parts += 1;
        assert!(part.writes.len() <= CHANGES_MAX + 2);
        assert!(part.takes(&Decision::default()), "it does not fit into one transaction");
    }
    assert_eq!(parts, 4);
    let more = [to("big", 1_100, &[3])];
    let more: Vec<_> = more.iter().collect();
    let told = refused(reassign(&cluster, "big", &more, 0, 1), ErrorCode::PolicyViolation);
    assert!(told.message.contains("1001 partitions"), "{told:?}");
}

#[test]
fn a_topic_that_grows_meanwhile_gets_partitions_with_as_many_replicas_as_it_will_have() {
    let mut cluster = cluster(&[("a", 1)]);
    ask(&mut cluster, "a", &[to("a", 0, &[2, 3])], 0);
    assert_eq!(replicas(&cluster.topics["a"], 0).len(), 3);
    let grown = v1::NewPartitions { name: "a".to_owned(), total: 2, ..Default::default() };
    let grown = commands::create_partitions(&cluster, &grown, 1).unwrap();
    apply(&mut cluster, &grown);
    assert_eq!(replicas(&cluster.topics["a"], 1).len(), 2);
    // The reassignment goes on.
    isr(&mut cluster, "a", 0, &[1, 2, 3]);
    step(&mut cluster, "a").unwrap();
    assert_eq!(replicas(&cluster.topics["a"], 0), [2, 3]);
}

#[test]
fn a_topic_that_is_being_deleted_is_left_alone() {
    let mut cluster = cluster(&[("a", 1)]);
    ask(&mut cluster, "a", &[to("a", 0, &[2])], 0);
    let marked = deletion::mark(&cluster, "a", 1).unwrap();
    apply(&mut cluster, &marked);
    // The broker that is on its way in has to drop it, too.
    assert_eq!(cluster.live_hosts("a"), [BrokerId(1), BrokerId(2)]);
    isr(&mut cluster, "a", 0, &[1, 2]);
    assert!(due(&cluster, "a").is_empty() && list(&cluster, &[]).is_empty());
    let removed = deletion::removed(&cluster, "a");
    apply(&mut cluster, &removed);
    assert!(cluster.topics.is_empty());
}
