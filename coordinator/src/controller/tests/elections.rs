//! Leaders and in-sync replicas when brokers die and come, and elections that are asked for.

use proto::client::Connection;
use proto::v1::admin_client::AdminClient;
use proto::{BrokerId, ErrorCode, v1};

use super::harness::*;
use crate::controller::Balance;
use crate::registry::partitions;
use crate::zk::Client;
use crate::zk::payload::PartitionState;

/// Creates a topic whose partitions have these replicas.
pub(super) async fn topic(
    admin: &mut AdminClient<Connection>,
    name: &str,
    replicas: &[&[i32]],
    configs: &[(&str, &str)],
) {
    let assignment = replicas.iter().map(|ids| v1::Replicas { brokers: ids.to_vec() });
    let new = v1::NewTopic {
        name: name.to_owned(),
        assignment: assignment.collect(),
        configs: configs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..Default::default()
    };
    // The same request until it is done: a busy machine may take longer than an answer may.
    let request_id = bytes::Bytes::copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    let request = v1::CreateTopicsRequest { request_id, topics: vec![new], ..Default::default() };
    until(async || admin.create_topics(request.clone()).await.is_ok_and(|done| code(done) == 0))
        .await;
}

pub(super) async fn state(client: &Client, topic: &str, partition: i32) -> PartitionState {
    partitions::read(client, topic, partition).await.unwrap().unwrap().value
}

/// Writes a state as a broker does.
async fn write(client: &Client, topic: &str, change: impl Fn(&mut PartitionState)) {
    let found = partitions::read(client, topic, 0).await.unwrap().unwrap();
    let mut next = found.value;
    change(&mut next);
    partitions::set(client, topic, 0, &next, found.version).await.unwrap().unwrap();
}

pub(super) async fn tell(controller: &RunningController, topic: &str) {
    let changed = v1::TopicPartitions {
        topic: topic.to_owned(),
        partitions: vec![0, 7],
        ..Default::default()
    };
    let unknown = v1::TopicPartitions { topic: "none".to_owned(), ..changed.clone() };
    let request = v1::StatesChangedRequest { broker_id: 1, changed: vec![changed, unknown] };
    let answer = controller.of_brokers().await.states_changed(request).await.unwrap();
    assert_eq!(answer.into_inner().error, None);
}

fn told(broker: &RunningBroker, topic: &str) -> Option<(i32, i32, Vec<i32>, Vec<i32>)> {
    let state = broker.told.lock().state(topic, 0)?;
    Some((state.leader, state.leader_epoch, state.isr, state.electable))
}

#[test]
fn a_dead_leader_is_followed_by_the_next_in_sync_and_leaves_every_isr() {
    run(async {
        let registry = Registry::start();
        let controller = registry.controller().await;
        let one = RunningBroker::start(&registry, 1).await;
        let two = RunningBroker::start(&registry, 2).await;
        let three = RunningBroker::start(&registry, 3).await;
        let mut admin = controller.active().await;
        topic(&mut admin, "led", &[&[1, 2, 3]], &[]).await;
        topic(&mut admin, "followed", &[&[2, 3, 1]], &[]).await;
        topic(&mut admin, "alone", &[&[1]], &[]).await;
        topic(&mut admin, "low", &[&[1, 2]], &[("min.insync.replicas", "2")]).await;
        topic(&mut admin, "apart", &[&[2, 3]], &[]).await;
        one.stop().await;
        for broker in [&two, &three] {
            until(async || told(broker, "led") == Some((2, 1, vec![2, 3], vec![]))).await;
            until(async || told(broker, "followed") == Some((2, 0, vec![2, 3], vec![]))).await;
            until(async || told(broker, "low") == Some((2, 1, vec![2], vec![1]))).await;
        }
        let (_session, live) = registry.session().await;
        // Nobody else has it: it stays recorded, and goes on by itself when it is back.
        assert_eq!(state(&live.client, "alone", 0).await.leader, Some(BrokerId(1)));
        assert_eq!(told(&two, "apart"), Some((2, 0, vec![2, 3], vec![])));
        let cluster = admin.describe_cluster(v1::DescribeClusterRequest {}).await.unwrap();
        let cluster = cluster.into_inner();
        assert_eq!((cluster.offline_partitions, cluster.under_replicated_partitions), (1, 3));
        // The version told is the node's.
        let version = partitions::read(&live.client, "led", 0).await.unwrap().unwrap().version;
        assert_eq!(two.told.lock().state("led", 0).unwrap().state_version, version);

        // The other two die together; the first to come back leads, for it is electable.
        tokio::join!(two.stop(), three.stop());
        let one = RunningBroker::start(&registry, 1).await;
        until(async || told(&one, "low") == Some((1, 2, vec![1], vec![2]))).await;
        assert_eq!(state(&live.client, "led", 0).await.leader_epoch.0, 1);
        let two = RunningBroker::start(&registry, 2).await;
        until(async || told(&two, "led").is_some()).await;
        controller.stop().await;
    });
}

#[test]
fn what_brokers_write_is_told_and_a_leader_that_gave_up_is_followed() {
    run(async {
        let registry = Registry::start();
        let controller = registry.controller().await;
        let one = RunningBroker::start(&registry, 1).await;
        let two = RunningBroker::start(&registry, 2).await;
        let mut admin = controller.active().await;
        topic(&mut admin, "t", &[&[1, 2]], &[]).await;
        let (_session, live) = registry.session().await;
        write(&live.client, "t", |state| state.isr = vec![BrokerId(1)]).await;
        tell(&controller, "t").await;
        until(async || told(&two, "t") == Some((1, 0, vec![1], vec![]))).await;
        // Broker 1 lost its disk while 2 was in sync, and came back with an empty one.
        write(&live.client, "t", |state| {
            state.isr = vec![BrokerId(2)];
            state.leader = None;
        })
        .await;
        tell(&controller, "t").await;
        for broker in [&one, &two] {
            until(async || told(broker, "t") == Some((2, 1, vec![2], vec![]))).await;
        }
        // A broker that starts again reads all, and the change it made before is told to all.
        write(&live.client, "t", |state| {
            state.isr = vec![BrokerId(1)];
            state.leader = None;
        })
        .await;
        one.stop().await;
        let one = RunningBroker::start(&registry, 1).await;
        until(async || told(&two, "t") == Some((1, 2, vec![1], vec![]))).await;
        assert_eq!(one.told.lock().updates[0].sequence, 1);
        // A node that cannot be read keeps no other from being looked at.
        topic(&mut admin, "u", &[&[1, 2]], &[]).await;
        let path = crate::zk::paths::partition_state("t", 0);
        live.client.set_data(&path, b"{}", None).await.unwrap();
        one.stop().await;
        until(async || told(&two, "u") == Some((2, 1, vec![2], vec![]))).await;
        controller.stop().await;
    });
}

fn elect(r#type: v1::ElectionType, topics: &[&str]) -> v1::ElectLeadersRequest {
    let of =
        |topic: &&str| v1::TopicPartitions { topic: (*topic).to_owned(), ..Default::default() };
    v1::ElectLeadersRequest { r#type: r#type.into(), partitions: topics.iter().map(of).collect() }
}

async fn elected(
    admin: &mut AdminClient<Connection>,
    request: v1::ElectLeadersRequest,
) -> Vec<(String, i32, i32, i32)> {
    let results = admin.elect_leaders(request).await.unwrap().into_inner().results;
    let code = |error: Option<v1::Error>| error.map_or(0, |error| error.code);
    results.into_iter().map(|r| (r.topic, r.partition, code(r.error), r.leader)).collect()
}

#[test]
fn elections_are_held_when_asked_for() {
    run(async {
        let registry = Registry::start();
        let controller = registry.controller().await;
        let one = RunningBroker::start(&registry, 1).await;
        let two = RunningBroker::start(&registry, 2).await;
        let mut admin = controller.active().await;
        topic(&mut admin, "a", &[&[1, 2], &[2, 1]], &[]).await;
        topic(&mut admin, "b", &[&[1, 2]], &[]).await;
        topic(&mut admin, "only", &[&[1]], &[]).await;
        one.stop().await;
        until(async || told(&two, "b") == Some((2, 1, vec![2], vec![]))).await;
        let (preferred, unclean) = (v1::ElectionType::Preferred, v1::ElectionType::Unclean);
        let not = |code: ErrorCode| code as i32;
        let mine = |topic: &str, p, code, leader| (topic.to_owned(), p, code, leader);
        assert_eq!(
            elected(&mut admin, elect(preferred, &["b", "none"])).await,
            [
                mine("b", 0, not(ErrorCode::PreferredLeaderNotAvailable), 2),
                mine("none", -1, not(ErrorCode::UnknownTopicOrPartition), -1),
            ]
        );
        // Nobody but the dead one has it.
        let nobody = not(ErrorCode::EligibleLeadersNotAvailable);
        assert_eq!(elected(&mut admin, elect(unclean, &[])).await, [mine("only", 0, nobody, 1)]);
        let (_session, live) = registry.session().await;
        let one = RunningBroker::start(&registry, 1).await;
        until(async || !one.told.lock().updates.is_empty()).await;
        // It is back in sync in `a`; whoever leads tells.
        for partition in 0..2 {
            let found = partitions::read(&live.client, "a", partition).await.unwrap().unwrap();
            let mut next = found.value;
            next.isr = vec![BrokerId(2), BrokerId(1)];
            partitions::set(&live.client, "a", partition, &next, found.version).await.unwrap();
        }
        let held = elected(&mut admin, elect(preferred, &["a"])).await;
        let needless = not(ErrorCode::ElectionNotNeeded);
        assert_eq!(held, [mine("a", 0, 0, 1), mine("a", 1, needless, 2)]);
        // The answer came after both had been told.
        for broker in [&one, &two] {
            assert_eq!(told(broker, "a"), Some((1, 2, vec![2, 1], vec![])));
        }
        let not_in_sync = not(ErrorCode::PreferredLeaderNotAvailable);
        let held = elected(&mut admin, elect(preferred, &[])).await;
        assert_eq!(held, [mine("b", 0, not_in_sync, 2)]);
        let bad = v1::ElectLeadersRequest { r#type: 9, ..Default::default() };
        assert_eq!(
            admin.elect_leaders(bad).await.unwrap_err().code(),
            tonic::Code::InvalidArgument
        );
        controller.stop().await;
    });
}

#[test]
fn an_unclean_election_is_held_where_the_topic_allows_it_or_comes_to_allow_it() {
    run(async {
        let registry = Registry::start();
        let controller = registry.controller().await;
        let one = RunningBroker::start(&registry, 1).await;
        let two = RunningBroker::start(&registry, 2).await;
        let mut admin = controller.active().await;
        topic(&mut admin, "dear", &[&[1, 2]], &[]).await;
        let cheap = [("unclean.leader.election.enable", "true")];
        topic(&mut admin, "cheap", &[&[1, 2]], &cheap).await;
        let (_session, live) = registry.session().await;
        for topic in ["dear", "cheap"] {
            write(&live.client, topic, |state| state.isr = vec![BrokerId(1)]).await;
        }
        one.stop().await;
        until(async || told(&two, "cheap") == Some((2, 1, vec![2], vec![]))).await;
        assert_eq!(state(&live.client, "dear", 0).await.leader, Some(BrokerId(1)));
        let alter = v1::AlterConfigsRequest {
            request_id: request(9),
            kind: v1::ConfigKind::Topic.into(),
            name: "dear".to_owned(),
            set: [("unclean.leader.election.enable".to_owned(), "true".to_owned())].into(),
            remove: Vec::new(),
        };
        admin.alter_configs(alter).await.unwrap();
        until(async || told(&two, "dear") == Some((2, 1, vec![2], vec![]))).await;
        controller.stop().await;
    });
}

#[test]
fn leadership_goes_back_by_itself() {
    run(async {
        let registry = Registry::start();
        let interval = std::time::Duration::from_millis(200);
        let balance = Balance { interval, percentage: 10 };
        let controller = registry.controller_with(|o| o.balance = Some(balance)).await;
        let one = RunningBroker::start(&registry, 1).await;
        let two = RunningBroker::start(&registry, 2).await;
        let mut admin = controller.active().await;
        topic(&mut admin, "t", &[&[1, 2]], &[]).await;
        one.stop().await;
        until(async || told(&two, "t") == Some((2, 1, vec![2], vec![]))).await;
        let _one = RunningBroker::start(&registry, 1).await;
        let (_session, live) = registry.session().await;
        write(&live.client, "t", |state| state.isr = vec![BrokerId(2), BrokerId(1)]).await;
        tell(&controller, "t").await;
        until(async || told(&two, "t") == Some((1, 2, vec![2, 1], vec![]))).await;
        controller.stop().await;
    });
}
