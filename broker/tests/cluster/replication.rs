//! Partitions with three replicas: who leads, who follows, who counts as in sync.

use coordinator::zk::payload::PartitionState;
use proto::v1;
use proto::v1::admin_client::AdminClient;
use proto::v1::controller_client::ControllerClient;
use proto::v1::log_client::LogClient;
use proto::{BrokerId, LeaderEpoch};

use crate::rig::{Cluster, Running, code, connect, create_replicated, known, produce, produce_all};

fn leads(id: i32) -> impl Fn(&v1::Topic) -> bool {
    move |topic| topic.partitions[0].leader == id
}

fn in_sync(count: usize) -> impl Fn(&v1::Topic) -> bool {
    move |topic| topic.partitions[0].isr.len() == count
}

/// The bytes of a partition's first segment on a broker.
fn bytes(cluster: &Cluster, id: i32) -> Vec<u8> {
    std::fs::read(cluster.data(id).join("t-0/00000000000000000000.log")).unwrap()
}

const NOT_LEADER: i32 = 6;
const NOT_ENOUGH_REPLICAS: i32 = 19;

/// Three brokers; they stop before their cluster does.
struct Three {
    brokers: Vec<Option<Running>>,
    cluster: Cluster,
}

impl Three {
    async fn start() -> (Self, v1::Topic) {
        let cluster = Cluster::start();
        let brokers: Vec<_> = (1..=3).map(|id| Some(cluster.broker(id))).collect();
        let three = Self { brokers, cluster };
        create_replicated(three.get(1), "t", &[1, 2, 3]).await;
        let topic = known(three.get(1), "t", leads(1)).await;
        (three, topic)
    }

    fn get(&self, id: usize) -> &Running {
        self.brokers[id - 1].as_ref().unwrap()
    }

    /// Has a record acknowledged by all, by whoever leads as this broker knows it; as clients do, it
    /// asks again where that one does not lead yet.
    async fn produce_to_leader(&self, asked: usize) -> v1::ProduceAck {
        loop {
            let topic = known(self.get(asked), "t", |topic| topic.partitions[0].leader > 0).await;
            let leader = topic.partitions[0].leader as usize;
            let ack = produce_all(self.get(leader), &topic, 0).await;
            if code(&ack) != NOT_LEADER {
                assert_eq!(code(&ack), 0);
                return ack;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    fn stop(&mut self, id: usize) {
        self.brokers[id - 1] = None;
    }

    /// Takes a stopped broker's log away.
    fn lose_log(&self, id: usize) {
        std::fs::remove_dir_all(self.cluster.data(id as i32).join("t-0")).unwrap();
    }

    fn restart(&mut self, id: usize) {
        self.brokers[id - 1] = Some(self.cluster.broker(id as i32));
    }
}

#[tokio::test]
async fn what_is_acknowledged_by_all_is_the_same_on_three_brokers() {
    let (three, topic) = Three::start().await;
    for offset in 0..3 {
        let ack = produce_all(three.get(1), &topic, 0).await;
        assert_eq!((code(&ack), ack.base_offset), (0, offset));
    }
    let leader = bytes(&three.cluster, 1);
    assert!(!leader.is_empty());
    assert_eq!(bytes(&three.cluster, 2), leader);
    assert_eq!(bytes(&three.cluster, 3), leader);
}

#[tokio::test]
async fn another_replica_leads_when_the_leader_stops_and_the_old_one_catches_up() {
    let (mut three, topic) = Three::start().await;
    assert_eq!(code(&produce_all(three.get(1), &topic, 0).await), 0);
    three.stop(1);
    known(three.get(2), "t", leads(2)).await;
    assert_eq!(three.produce_to_leader(2).await.base_offset, 1);
    three.restart(1);
    known(three.get(2), "t", in_sync(3)).await;
    assert_eq!(three.produce_to_leader(2).await.base_offset, 2);
    assert_eq!(bytes(&three.cluster, 1), bytes(&three.cluster, 2));
}

#[tokio::test]
async fn who_stops_leaves_the_isr_and_below_the_minimum_nothing_is_acknowledged() {
    let (mut three, topic) = Three::start().await;
    three.stop(3);
    let without = known(three.get(1), "t", in_sync(2)).await;
    assert!(without.partitions[0].electable.is_empty());
    assert_eq!(code(&produce_all(three.get(1), &topic, 0).await), 0);
    three.stop(2);
    let alone = known(three.get(1), "t", in_sync(1)).await;
    assert_eq!(alone.partitions[0].electable, [2], "it has all that was committed");
    assert_eq!(code(&produce_all(three.get(1), &topic, 0).await), NOT_ENOUGH_REPLICAS);
    three.restart(2);
    three.restart(3);
    let all = known(three.get(1), "t", in_sync(3)).await;
    assert!(all.partitions[0].electable.is_empty());
    assert_eq!(code(&produce_all(three.get(1), &topic, 0).await), 0);
    assert_eq!(bytes(&three.cluster, 3), bytes(&three.cluster, 1));
}

#[tokio::test]
async fn a_lost_log_is_filled_again_from_the_leader() {
    let (mut three, topic) = Three::start().await;
    for _ in 0..10 {
        assert_eq!(code(&produce_all(three.get(1), &topic, 0).await), 0);
    }
    three.stop(3);
    known(three.get(1), "t", in_sync(2)).await;
    three.lose_log(3);
    three.restart(3);
    known(three.get(1), "t", in_sync(3)).await;
    assert_eq!(bytes(&three.cluster, 3), bytes(&three.cluster, 1));
}

#[tokio::test]
async fn a_recorded_leader_that_lost_its_log_leaves_leadership_to_who_has_one() {
    let (mut three, topic) = Three::start().await;
    for _ in 0..10 {
        assert_eq!(code(&produce_all(three.get(1), &topic, 0).await), 0);
    }
    (1..=3).for_each(|id| three.stop(id));
    // As if all had been killed at once: the first one leads and everybody is in sync.
    three.cluster.write_state("t", |state| PartitionState {
        leader: Some(BrokerId(1)),
        isr: [1, 2, 3].map(BrokerId).to_vec(),
        electable: Vec::new(),
        ..state
    });
    three.lose_log(1);
    (1..=3).for_each(|id| three.restart(id));
    let topic = known(three.get(2), "t", |topic| topic.partitions[0].leader > 1).await;
    let leader = topic.partitions[0].leader as usize;
    known(three.get(leader), "t", in_sync(3)).await;
    assert_eq!(three.produce_to_leader(leader).await.base_offset, 10);
    assert_eq!(bytes(&three.cluster, 1), bytes(&three.cluster, leader as i32));
}

#[tokio::test]
async fn a_damaged_leader_hands_over_and_has_the_damage_fetched_anew() {
    let (three, topic) = Three::start().await;
    for _ in 0..10 {
        assert_eq!(code(&produce_all(three.get(1), &topic, 0).await), 0);
    }
    let whole = bytes(&three.cluster, 1);
    let path = three.cluster.data(1).join("t-0/00000000000000000000.log");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let middle = whole.len() as u64 / 2 + 30; // in the sixth batch
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 8], middle).unwrap();
    // A client that was given bytes which do not check asks to have them looked at.
    let doubted = v1::FetchPartition {
        handle: 1,
        topic: "t".to_owned(),
        topic_id: topic.topic_id.clone(),
        partition: 0,
        offset: 5,
        leader_epoch: -1,
        verify: true,
        ..Default::default()
    };
    let request = v1::FetchRequest { add: vec![doubted], ..Default::default() };
    let mut client = LogClient::new(connect(three.get(1)).await);
    let requests = tokio_stream::once(request);
    let mut answers = client.fetch(requests).await.unwrap().into_inner();
    let _ = answers.message().await;
    known(three.get(2), "t", |topic| topic.partitions[0].leader > 1).await;
    known(three.get(2), "t", in_sync(3)).await;
    three.produce_to_leader(2).await;
    assert_eq!(bytes(&three.cluster, 1)[..whole.len()], whole);
}

#[tokio::test]
async fn the_last_replica_in_sync_does_not_lead_with_an_empty_log() {
    let (mut three, topic) = Three::start().await;
    assert_eq!(code(&produce_all(three.get(1), &topic, 0).await), 0);
    (1..=3).for_each(|id| three.stop(id));
    three.cluster.write_state("t", |state| PartitionState {
        leader: Some(BrokerId(1)),
        isr: vec![BrokerId(1)],
        electable: Vec::new(),
        ..state
    });
    three.lose_log(1);
    three.restart(1);
    let lost = known(three.get(1), "t", |topic| topic.partitions[0].isr.is_empty()).await;
    assert_eq!(lost.partitions[0].leader, -1);
    assert_eq!(code(&produce(three.get(1), &topic, 0).await), NOT_LEADER);
}

#[tokio::test]
async fn a_leader_that_was_succeeded_behind_its_back_steps_down_when_it_would_change_the_isr() {
    let (mut three, topic) = Three::start().await;
    assert_eq!(code(&produce_all(three.get(1), &topic, 0).await), 0);
    three.cluster.write_state("t", |state| PartitionState {
        leader: Some(BrokerId(2)),
        leader_epoch: LeaderEpoch(state.leader_epoch.0 + 1),
        ..state
    });
    // Nobody told the first one. Its follower stops, and it finds out.
    three.stop(3);
    known(three.get(1), "t", leads(2)).await;
    let ack = produce(three.get(1), &topic, 0).await;
    assert_eq!(code(&ack), NOT_LEADER);
    known(three.get(2), "t", in_sync(2)).await;
    assert_eq!(three.produce_to_leader(2).await.base_offset, 1);
}

#[tokio::test]
async fn who_was_taken_out_while_nothing_is_produced_comes_back() {
    let (three, topic) = Three::start().await;
    assert_eq!(code(&produce_all(three.get(1), &topic, 0).await), 0);
    // As the controller does when a session ends; the fetch stream of the broker goes on.
    let isr = [1, 2].map(BrokerId).to_vec();
    three.cluster.write_state("t", |state| PartitionState { isr, ..state });
    let changed = v1::TopicPartitions {
        topic: "t".to_owned(),
        topic_id: topic.topic_id.clone(),
        partitions: vec![0],
    };
    let request = v1::StatesChangedRequest { broker_id: 3, changed: vec![changed] };
    let controller = connect(&three.cluster.controller).await;
    ControllerClient::new(controller).states_changed(request).await.unwrap();
    let back = |topic: &v1::Topic| {
        let state = &topic.partitions[0];
        state.isr.len() == 3 && state.state_version >= 2
    };
    known(three.get(1), "t", back).await;
}

#[tokio::test]
async fn what_moved_to_other_brokers_is_deleted_here_once_they_have_it() {
    let (three, topic) = Three::start().await;
    assert_eq!(code(&produce_all(three.get(1), &topic, 0).await), 0);
    let request = v1::AlterPartitionReassignmentsRequest {
        request_id: uuid::Uuid::new_v4().as_bytes().to_vec().into(),
        partitions: vec![v1::PartitionReassignment {
            topic: "t".to_owned(),
            partition: 0,
            target: Some(v1::Replicas { brokers: vec![3, 2] }),
        }],
        throttle: 0,
    };
    let mut admin = AdminClient::new(connect(three.get(1)).await);
    let results = admin.alter_partition_reassignments(request).await.unwrap().into_inner().results;
    assert_eq!(results[0].error, None);
    let moved = |topic: &v1::Topic| topic.partitions[0].replicas == [3, 2];
    known(three.get(2), "t", moved).await;
    three.produce_to_leader(2).await;
    let gone = async {
        while three.cluster.data(1).join("t-0").exists() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), gone).await.unwrap();
}
