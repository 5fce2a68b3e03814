//! Reassignments by a controller, with the test in the part of the leaders.

use proto::client::Connection;
use proto::v1::admin_client::AdminClient;
use proto::{BrokerId, ErrorCode, v1};

use super::elections::tell;
use super::harness::*;
use crate::registry::{partitions, topics};
use crate::zk::{Live, paths};

type Admin = AdminClient<Connection>;

/// Registry, brokers 1 to 3, and a topic `a` of two partitions on broker 1.
struct Setup {
    registry: Registry,
    brokers: Vec<RunningBroker>,
    live: Live,
    _session: crate::zk::Session,
}

impl Setup {
    async fn start(admin: &mut Admin, registry: Registry) -> Self {
        let mut brokers = Vec::new();
        for id in 1..=3 {
            brokers.push(RunningBroker::start(&registry, id).await);
        }
        until(async || {
            let cluster = admin.describe_cluster(v1::DescribeClusterRequest {}).await.unwrap();
            cluster.into_inner().brokers.len() == 3
        })
        .await;
        let on = v1::Replicas { brokers: vec![1] };
        let topic = v1::NewTopic {
            name: "a".to_owned(),
            assignment: vec![on.clone(), on],
            ..Default::default()
        };
        let create = v1::CreateTopicsRequest {
            request_id: request(1),
            topics: vec![topic],
            ..Default::default()
        };
        assert_eq!(code(admin.create_topics(create).await.unwrap()), 0);
        let (session, live) = registry.session().await;
        Self { registry, brokers, live, _session: session }
    }

    /// What a leader does when replicas have caught up.
    async fn in_sync(&self, partition: i32, isr: &[i32]) {
        let client = &self.live.client;
        let found = partitions::read(client, "a", partition).await.unwrap().unwrap();
        let mut state = found.value;
        state.isr = isr.iter().copied().map(BrokerId).collect();
        let set = partitions::set(client, "a", partition, &state, found.version).await.unwrap();
        assert!(set.is_some(), "somebody was quicker");
    }

    async fn recorded(&self) -> bool {
        self.live.client.check_stat(&paths::admin_reassign("a")).await.unwrap().is_some()
    }

    /// Replicas, leader, epoch and ISR as they are registered.
    async fn partition(&self, partition: i32) -> (Vec<i32>, i32, i32, Vec<i32>) {
        let client = &self.live.client;
        let topic = topics::read(client, "a").await.unwrap().unwrap().value;
        let state = partitions::read(client, "a", partition).await.unwrap().unwrap().value;
        let plain = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
        let replicas = plain(&topic.partitions[partition as usize]);
        let leader = state.leader.map_or(-1, |id| id.0);
        (replicas, leader, state.leader_epoch.0, plain(&state.isr))
    }
}

fn asked(n: u8, targets: &[(i32, Option<&[i32]>)]) -> v1::AlterPartitionReassignmentsRequest {
    let partitions = targets.iter().map(|(partition, target)| v1::PartitionReassignment {
        topic: "a".to_owned(),
        partition: *partition,
        target: target.map(|ids| v1::Replicas { brokers: ids.to_vec() }),
    });
    v1::AlterPartitionReassignmentsRequest {
        request_id: request(n),
        partitions: partitions.collect(),
        throttle: 0,
    }
}

/// The error of each partition as its code; 0: none.
async fn alter(admin: &mut Admin, request: v1::AlterPartitionReassignmentsRequest) -> Vec<i32> {
    let response = admin.alter_partition_reassignments(request).await.unwrap().into_inner();
    response.results.into_iter().map(|r| r.error.map_or(0, |error| error.code)).collect()
}

async fn under_way(admin: &mut Admin) -> Vec<v1::OngoingReassignment> {
    let list = v1::ListPartitionReassignmentsRequest { with_progress: true, topics: Vec::new() };
    admin.list_partition_reassignments(list).await.unwrap().into_inner().reassignments
}

#[test]
fn a_partition_moves_when_its_new_replicas_are_in_sync() {
    run(async {
        let registry = Registry::start();
        let controller = registry.controller().await;
        let mut admin = controller.active().await;
        let setup = Setup::start(&mut admin, registry).await;
        let invalid = ErrorCode::InvalidReplicaAssignment as i32;
        let mut wanted = asked(2, &[(0, Some(&[2, 3])), (1, Some(&[9]))]);
        wanted.throttle = 5_000;
        // One is refused, the other is begun.
        assert_eq!(alter(&mut admin, wanted.clone()).await, [0, invalid]);
        assert_eq!(setup.partition(0).await, (vec![2, 3, 1], 1, 0, vec![1]));
        // The answer came after the brokers had been told.
        for broker in &setup.brokers {
            let told = broker.told.lock();
            let updates = told.updates.iter().rev();
            let topic = updates.flat_map(|update| &update.topics).next().unwrap();
            assert_eq!(
                (&topic.partitions[0].adding[..], &topic.partitions[0].removing[..]),
                (&[2, 3][..], &[1][..])
            );
            assert_eq!(topic.throttle, 5_000);
        }
        let list = under_way(&mut admin).await;
        assert_eq!((list.len(), list[0].throttle, list[0].progress.len()), (1, 5_000, 2));
        // Sent again: answered, not done again.
        assert_eq!(alter(&mut admin, wanted).await, [0, invalid]);
        setup.in_sync(0, &[1, 3]).await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert!(setup.recorded().await);
        setup.in_sync(0, &[1, 3, 2]).await;
        let begun = std::time::Instant::now();
        tell(&controller, "a").await;
        until(async || under_way(&mut admin).await.is_empty()).await;
        // By the leader's word, not by the look that comes anyway.
        assert!(begun.elapsed() < std::time::Duration::from_millis(1_500));
        assert_eq!(setup.partition(0).await, (vec![2, 3], 2, 1, vec![3, 2]));
        assert!(!setup.recorded().await);
        controller.stop().await;
        setup.registry.stop();
    });
}

#[test]
fn the_next_controller_goes_on_and_what_it_cannot_end_is_taken_back() {
    run(async {
        let registry = Registry::start();
        let first = registry.controller().await;
        let mut admin = first.active().await;
        let setup = Setup::start(&mut admin, registry).await;
        let wanted = asked(2, &[(0, Some(&[2])), (1, Some(&[3, 1]))]);
        assert_eq!(alter(&mut admin, wanted.clone()).await, [0, 0]);
        first.stop().await;
        // Meanwhile one of them has caught up.
        setup.in_sync(0, &[1, 2]).await;
        let second = setup.registry.controller().await;
        let mut admin = second.active().await;
        until(async || under_way(&mut admin).await.len() == 1).await;
        assert_eq!(setup.partition(0).await, (vec![2], 2, 1, vec![2]));
        // Another target for what goes on; 3 is in sync already and no longer wanted.
        setup.in_sync(1, &[1, 3]).await;
        assert_eq!(alter(&mut admin, asked(3, &[(1, Some(&[2, 1]))])).await, [0]);
        until(async || setup.partition(1).await == (vec![2, 1], 1, 1, vec![1])).await;
        let none = ErrorCode::NoReassignmentInProgress as i32;
        let back = asked(4, &[(0, None), (1, None)]);
        assert_eq!(alter(&mut admin, back.clone()).await, [none, 0]);
        until(async || under_way(&mut admin).await.is_empty()).await;
        assert_eq!(setup.partition(1).await, (vec![1], 1, 2, vec![1]));
        // The same request once more, as after a lost answer.
        assert_eq!(alter(&mut admin, back).await, [0, 0]);
        assert!(!setup.recorded().await);
        second.stop().await;
        setup.registry.stop();
    });
}

#[test]
fn a_topic_that_is_deleted_takes_its_reassignment_with_it() {
    run(async {
        let registry = Registry::start();
        let controller = registry.controller().await;
        let mut admin = controller.active().await;
        let setup = Setup::start(&mut admin, registry).await;
        assert_eq!(alter(&mut admin, asked(2, &[(0, Some(&[2]))])).await, [0]);
        assert!(setup.recorded().await);
        assert_eq!(code(admin.delete_topics(delete(3, "a")).await.unwrap()), 0);
        assert!(!setup.recorded().await);
        assert!(under_way(&mut admin).await.is_empty());
        // The broker that was on its way in was told, too.
        assert_eq!(setup.brokers[1].told.lock().deleted(), ["a"]);
        assert_eq!(code(admin.create_topics(create(4, "a", 1)).await.unwrap()), 0);
        assert!(under_way(&mut admin).await.is_empty());
        controller.stop().await;
        setup.registry.stop();
    });
}
