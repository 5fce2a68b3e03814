//! Decisions on topics and overrides, row by row of the table in the parent.

use std::collections::HashMap;

use proto::{BrokerId, ErrorCode, TopicId, v1};

use super::*;
use crate::controller::decision::{Decision, Refusal};
use crate::controller::deletion;
use crate::controller::state::{Cluster, Step};
use crate::registry::configs::{self, Kind};
use crate::registry::fence::Change;
use crate::zk::payload::Broker;

fn broker(rack: &str) -> Broker {
    Broker {
        host: "127.0.0.1".to_owned(),
        grpc_port: 9094,
        kafka: Vec::new(),
        http_port: None,
        rack: rack.to_owned(),
        incarnation: uuid::Uuid::new_v4(),
        start_time_ms: 0,
        clean: true,
    }
}

fn cluster(brokers: i32) -> Cluster {
    let brokers = (1..=brokers).map(|id| (BrokerId(id), broker(""))).collect();
    Cluster { brokers, ..Cluster::default() }
}

fn asked(name: &str, partitions: i32) -> v1::NewTopic {
    v1::NewTopic { name: name.to_owned(), partitions, ..v1::NewTopic::default() }
}

fn create(cluster: &Cluster, asked: &v1::NewTopic) -> Result<Decision, Refusal> {
    let new = NewTopic { asked, id: TopicId::random(), controller_epoch: 3 };
    create_topic(cluster, Defaults::default(), new)
}

fn created(cluster: &mut Cluster, name: &str, partitions: i32) -> Decision {
    let decision = create(cluster, &asked(name, partitions)).unwrap();
    apply(cluster, &decision);
    decision
}

fn apply(cluster: &mut Cluster, decision: &Decision) {
    decision.steps.iter().for_each(|step| cluster.apply(step.clone()));
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>, code: ErrorCode) -> v1::Error {
    let Refusal(error) = result.unwrap_err();
    assert_eq!(ErrorCode::from_code(error.code), code, "{error:?}");
    assert!(!error.message.is_empty() && !error.remedy.is_empty(), "{error:?}");
    error
}

fn paths(decision: &Decision) -> Vec<&str> {
    decision.writes.iter().map(Change::path).collect()
}

#[test]
fn a_topic_is_created_in_one_transaction_with_all_its_nodes() {
    let mut cluster = cluster(3);
    let mut wanted = asked("logs", 2);
    wanted.configs = HashMap::from([("retention.ms".to_owned(), "1000".to_owned())]);
    let decision = create(&cluster, &wanted).unwrap();
    let expected = [
        "/brokers/topics/logs",
        "/brokers/topics/logs/partitions",
        "/brokers/topics/logs/stored",
        "/brokers/topics/logs/partitions/0",
        "/brokers/topics/logs/partitions/0/state",
        "/brokers/topics/logs/partitions/1",
        "/brokers/topics/logs/partitions/1/state",
        "/config/topics/logs",
    ];
    assert_eq!(paths(&decision), expected);
    assert_eq!(decision.delta.topics["logs"].partitions.len(), 2);
    assert_eq!(decision.delta.configs.len(), 1);
    apply(&mut cluster, &decision);
    let state = &cluster.topics["logs"].partitions[0];
    assert_eq!(state.leader, state.replicas.first().copied());
    assert_eq!(state.isr, state.replicas);
}

#[test]
fn a_topic_above_the_limit_is_registered_by_its_last_write() {
    let decision = create(&cluster(3), &asked("big", 8_000)).unwrap();
    let Change::Create { bytes, .. } = &decision.writes[0] else { panic!() };
    assert!(bytes.is_empty());
    let Some(Change::Set { path, bytes, version }) = decision.writes.last() else { panic!() };
    assert_eq!((path.as_str(), *version), ("/brokers/topics/big", Some(0)));
    assert!(!bytes.is_empty());
    let Step::Topic(_, topic) = &decision.steps[0] else { panic!() };
    assert_eq!(topic.version, 1);
}

#[test]
fn names_that_are_taken_or_not_valid_are_refused() {
    let mut cluster = cluster(1);
    created(&mut cluster, "web.logs", 1);
    refused(create(&cluster, &asked("a/b", 1)), ErrorCode::InvalidTopicException);
    refused(create(&cluster, &asked("web_logs", 1)), ErrorCode::InvalidTopicException);
    refused(create(&cluster, &asked("web.logs", 1)), ErrorCode::TopicAlreadyExists);
    let marked = deletion::mark(&cluster, "web.logs", 0).unwrap();
    apply(&mut cluster, &marked);
    let error = refused(create(&cluster, &asked("web.logs", 1)), ErrorCode::TopicAlreadyExists);
    assert!(error.message.contains("being deleted"));
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    refused(create(&cluster(0), &asked("a", 1)), ErrorCode::InvalidReplicationFactor);
    refused(create(&cluster(1), &asked("a", -1)), ErrorCode::InvalidPartitions);
    refused(create(&cluster(1), &asked("a", PARTITIONS_MAX + 1)), ErrorCode::InvalidPartitions);
    let three = v1::NewTopic { replication_factor: 3, ..asked("a", 1) };
    let error = refused(create(&cluster(2), &three), ErrorCode::InvalidReplicationFactor);
    assert_eq!(
        error.message,
        "a replication factor of 3 needs as many live brokers, and 2 are live"
    );
    let none = v1::NewTopic { replication_factor: -1, ..asked("a", 1) };
    refused(create(&cluster(3), &none), ErrorCode::InvalidReplicationFactor);
    let defaults = create(&cluster(1), &asked("a", 0)).unwrap();
    assert_eq!(defaults.delta.topics["a"].partitions.len(), 1);
}

#[test]
fn replicas_are_spread_over_racks_and_not_over_brokers_that_stop() {
    let mut cluster = cluster(0);
    for (id, rack) in [(1, "a"), (2, "a"), (3, "b"), (4, "c")] {
        cluster.brokers.insert(BrokerId(id), broker(rack));
    }
    let new = NewTopic { asked: &asked("t", 6), id: TopicId::random(), controller_epoch: 3 };
    let three = Defaults { replication_factor: 3, ..Defaults::default() };
    let decision = create_topic(&cluster, three, new).unwrap();
    apply(&mut cluster, &decision);
    for told in &decision.delta.topics["t"].partitions {
        let racks: std::collections::BTreeSet<&str> =
            told.replicas.iter().map(|id| cluster.brokers[&BrokerId(*id)].rack.as_str()).collect();
        assert_eq!(racks.len(), 3, "{told:?}");
        assert_eq!((&told.isr, told.leader), (&told.replicas, told.replicas[0]));
        assert_eq!((told.state_version, told.electable.len()), (0, 0));
    }
    // It grows with the same factor; a broker about to stop gets nothing.
    let incarnation = cluster.brokers[&BrokerId(2)].incarnation;
    cluster.apply(Step::Leaving(BrokerId(2), incarnation));
    let decision = create_partitions(&cluster, &grown("t", 9), 4).unwrap();
    apply(&mut cluster, &decision);
    for state in &cluster.topics["t"].partitions[6..] {
        assert_eq!(state.replicas.len(), 3);
        assert!(!state.replicas.contains(&BrokerId(2)), "{state:?}");
    }
    cluster.apply(Step::Leaving(BrokerId(4), cluster.brokers[&BrokerId(4)].incarnation));
    let error = refused(
        create_partitions(&cluster, &grown("t", 10), 4),
        ErrorCode::InvalidReplicationFactor,
    );
    assert!(error.message.contains("2 are live"), "{error:?}");
    // Another run of it may take partitions.
    let mut again = cluster.brokers.clone();
    again.insert(BrokerId(4), broker("c"));
    cluster.apply(Step::Brokers(again));
    create_partitions(&cluster, &grown("t", 10), 4).unwrap();
}

fn grown(name: &str, total: i32) -> v1::NewPartitions {
    v1::NewPartitions { name: name.to_owned(), total, ..Default::default() }
}

#[test]
fn new_partitions_go_where_they_are_assigned_or_are_refused() {
    let mut cluster = cluster(3);
    let two = v1::Replicas { brokers: vec![1, 2] };
    let topic = v1::NewTopic { assignment: vec![two], ..asked("a", 0) };
    let decision = create(&cluster, &topic).unwrap();
    apply(&mut cluster, &decision);
    let on = |lists: &[&[i32]]| v1::NewPartitions {
        assignment: lists.iter().map(|ids| v1::Replicas { brokers: ids.to_vec() }).collect(),
        ..grown("a", 3)
    };
    for (bad, why) in [
        (on(&[&[1, 2]]), "2 partitions are new, and 1 are assigned"),
        (on(&[&[1, 2], &[2, 3], &[3, 1]]), "2 partitions are new, and 3 are assigned"),
        (on(&[&[1, 2], &[3]]), "partition 2 has 1 replicas, others have 2"),
        (on(&[&[1, 9], &[1, 2]]), "partition 1 is assigned to broker 9"),
        (on(&[&[1, 2], &[3, 3]]), "partition 2 names a broker twice"),
    ] {
        let refusal = create_partitions(&cluster, &bad, 4);
        let error = refused(refusal, ErrorCode::InvalidReplicaAssignment);
        assert!(error.message.contains(why), "{error:?}");
    }
    let decision = create_partitions(&cluster, &on(&[&[3, 1], &[2, 3]]), 4).unwrap();
    apply(&mut cluster, &decision);
    let replicas: Vec<Vec<i32>> = cluster.topics["a"]
        .partitions
        .iter()
        .map(|p| p.replicas.iter().map(|id| id.0).collect())
        .collect();
    assert_eq!(replicas, [[1, 2], [3, 1], [2, 3]]);
}

#[test]
fn an_assignment_is_taken_as_it_is_or_refused() {
    let on = |id| v1::Replicas { brokers: vec![id] };
    let assigned = |ids: &[i32]| v1::NewTopic {
        assignment: ids.iter().copied().map(on).collect(),
        ..asked("a", 0)
    };
    let decision = create(&cluster(2), &assigned(&[2, 2, 1])).unwrap();
    let leaders: Vec<i32> =
        decision.delta.topics["a"].partitions.iter().map(|p| p.leader).collect();
    assert_eq!(leaders, [2, 2, 1]);
    refused(create(&cluster(2), &assigned(&[3])), ErrorCode::InvalidReplicaAssignment);
    let both = v1::NewTopic { partitions: 1, ..assigned(&[1]) };
    refused(create(&cluster(2), &both), ErrorCode::InvalidRequest);
}

#[test]
fn a_topic_grows_and_never_shrinks() {
    let mut cluster = cluster(3);
    created(&mut cluster, "a", 3);
    let decision = create_partitions(&cluster, &grown("a", 6), 4).unwrap();
    assert_eq!(paths(&decision)[0], "/brokers/topics/a/partitions/3");
    let Some(Change::Set { version: Some(0), path, .. }) = decision.writes.last() else { panic!() };
    assert_eq!(path, "/brokers/topics/a");
    apply(&mut cluster, &decision);
    assert_eq!((cluster.topics["a"].partitions.len(), cluster.topics["a"].version), (6, 1));
    for id in 1..=3 {
        let led = cluster.topics["a"].partitions.iter().filter(|p| p.leader == Some(BrokerId(id)));
        assert_eq!(led.count(), 2);
    }
    refused(create_partitions(&cluster, &grown("a", 6), 4), ErrorCode::InvalidPartitions);
    let error =
        refused(create_partitions(&cluster, &grown("b", 6), 4), ErrorCode::UnknownTopicOrPartition);
    assert!(error.remedy.contains("did you mean `a`"), "{error:?}");
}

#[test]
fn a_deletion_waits_for_the_live_brokers_that_store_the_topic() {
    let mut cluster = cluster(3);
    created(&mut cluster, "a", 2);
    let hosts = cluster.live_hosts("a");
    assert_eq!(hosts.len(), 2);
    let decision = deletion::mark(&cluster, "a", 1).unwrap();
    assert_eq!(paths(&decision), ["/admin/delete/a"]);
    assert_eq!(decision.delta.deleted.len(), 1);
    apply(&mut cluster, &decision);
    assert!(deletion::ready(&cluster).is_empty());
    // Asked again, by another request: recorded, nothing else.
    let again = deletion::mark(&cluster, "a", 2).unwrap();
    assert!(again.writes.is_empty() && again.delta.is_empty() && !again.done.is_empty());
    // One says that it dropped it, the other dies.
    cluster.apply(Step::DroppedBy("a".to_owned(), hosts[0]));
    assert!(deletion::ready(&cluster).is_empty());
    let mut live = cluster.brokers.clone();
    live.remove(&hosts[1]);
    cluster.apply(Step::Brokers(live));
    assert_eq!(deletion::ready(&cluster), ["a"]);
    let removed = deletion::removed(&cluster, "a");
    apply(&mut cluster, &removed);
    assert!(cluster.topics.is_empty() && cluster.deletions.is_empty());
    create(&cluster, &asked("a", 1)).unwrap();
}

#[test]
fn a_deletion_waits_for_a_broker_that_started_again() {
    let mut cluster = cluster(1);
    created(&mut cluster, "a", 1);
    let marked = deletion::mark(&cluster, "a", 1).unwrap();
    apply(&mut cluster, &marked);
    cluster.apply(Step::DroppedBy("a".to_owned(), BrokerId(1)));
    let again = [(BrokerId(1), broker(""))].into();
    cluster.apply(Step::Brokers(again));
    assert!(deletion::ready(&cluster).is_empty());
}

#[test]
fn overrides_are_created_replaced_and_removed_with_their_last_key() {
    let mut cluster = cluster(1);
    created(&mut cluster, "a", 1);
    let alter = |cluster: &Cluster, set: &[(&str, &str)], remove: &[&str]| {
        let set = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let remove: Vec<String> = remove.iter().map(|key| (*key).to_owned()).collect();
        alter_configs(cluster, Kind::Topic, "a", &set, &remove)
    };
    let first = alter(&cluster, &[("retention.ms", "1000")], &[]).unwrap();
    assert!(matches!(first.writes[..], [Change::Create { .. }]));
    apply(&mut cluster, &first);
    let same = alter(&cluster, &[("retention.ms", "1000")], &[]).unwrap();
    assert!(same.writes.is_empty());
    let second = alter(&cluster, &[("retention.ms", "2000")], &[]).unwrap();
    assert!(matches!(second.writes[..], [Change::Set { version: Some(0), .. }]));
    apply(&mut cluster, &second);
    refused(alter(&cluster, &[], &["segment.bytes"]), ErrorCode::InvalidConfig);
    let both = alter(&cluster, &[("retention.ms", "1")], &["retention.ms"]);
    refused(both, ErrorCode::InvalidRequest);
    let last = alter(&cluster, &[], &["retention.ms"]).unwrap();
    assert!(matches!(last.writes[..], [Change::Delete { .. }]));
    apply(&mut cluster, &last);
    assert!(cluster.configs.is_empty());
    let none = HashMap::new();
    let unknown = alter_configs(&cluster, Kind::Topic, "b", &none, &[]);
    refused(unknown, ErrorCode::UnknownTopicOrPartition);
    refused(alter_configs(&cluster, Kind::Broker, "x", &none, &[]), ErrorCode::InvalidRequest);
}

#[test]
fn a_state_that_is_read_late_changes_nothing() {
    let mut cluster = cluster(2);
    created(&mut cluster, "t", 1);
    let mut written = cluster.topics["t"].partitions[0].payload(4);
    for (epoch, version) in [(7, 3), (5, 3), (5, 2)] {
        written.leader_epoch.0 = epoch;
        cluster.apply(Step::State("t".to_owned(), 0, written.clone(), version));
        let known = &cluster.topics["t"].partitions[0];
        assert_eq!((known.leader_epoch.0, known.version), (7, 3));
    }
    written.leader_epoch.0 = 8;
    cluster.apply(Step::State("t".to_owned(), 0, written, 4));
    assert_eq!(cluster.topics["t"].partitions[0].leader_epoch.0, 8);
}

#[test]
fn a_cordoned_broker_gets_nothing_new() {
    let mut cluster = cluster(3);
    let cordon = [(configs::CORDONED_KEY.to_owned(), configs::CORDONED_ALL.to_owned())].into();
    let cordoned = alter_configs(&cluster, Kind::Broker, "2", &cordon, &[]).unwrap();
    apply(&mut cluster, &cordoned);
    assert_eq!(cluster.cordoned(), [BrokerId(2)]);
    let factor = |name, replication_factor| v1::NewTopic { replication_factor, ..asked(name, 4) };
    let created = create(&cluster, &factor("t", 2)).unwrap();
    apply(&mut cluster, &created);
    let grown = create_partitions(&cluster, &grown("t", 6), 1).unwrap();
    apply(&mut cluster, &grown);
    let partitions = &cluster.topics["t"].partitions;
    assert_eq!(partitions.len(), 6);
    assert!(partitions.iter().all(|p| !p.replicas.contains(&BrokerId(2))), "{partitions:?}");
    let few = refused(create(&cluster, &factor("u", 3)), ErrorCode::InvalidReplicationFactor);
    assert_eq!(
        few.message,
        "a replication factor of 3 needs as many live brokers, and 2 are live besides those that are \
         drained (2)"
    );
    assert!(few.remedy.contains("--undrain"), "{few:?}");
    let on = |id| v1::NewTopic {
        name: "v".to_owned(),
        assignment: vec![v1::Replicas { brokers: vec![id] }],
        ..Default::default()
    };
    let told = refused(create(&cluster, &on(2)), ErrorCode::InvalidReplicaAssignment);
    assert!(told.message.contains("broker 2, which is drained"), "{told:?}");
    create(&cluster, &on(3)).unwrap();
    // Taken back.
    let remove = [configs::CORDONED_KEY.to_owned()];
    let back = alter_configs(&cluster, Kind::Broker, "2", &HashMap::new(), &remove).unwrap();
    apply(&mut cluster, &back);
    assert!(cluster.cordoned().is_empty());
    create(&cluster, &factor("u", 3)).unwrap();
}
