//! Partitions with three replicas: who leads, who follows, who counts as in sync.

use proto::v1;

use crate::rig::{Cluster, Running, code, create_replicated, known, produce_all};

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

struct Three {
    cluster: Cluster,
    brokers: Vec<Option<Running>>,
}

impl Three {
    async fn start() -> (Self, v1::Topic) {
        let cluster = Cluster::start();
        let brokers: Vec<_> = (1..=3).map(|id| Some(cluster.broker(id))).collect();
        let three = Self { cluster, brokers };
        create_replicated(three.get(1), "t", &[1, 2, 3]).await;
        let topic = known(three.get(1), "t", leads(1)).await;
        (three, topic)
    }

    fn get(&self, id: usize) -> &Running {
        self.brokers[id - 1].as_ref().unwrap()
    }

    fn stop(&mut self, id: usize) {
        self.brokers[id - 1] = None;
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
    let topic = known(three.get(2), "t", leads(2)).await;
    let ack = produce_all(three.get(2), &topic, 0).await;
    assert_eq!((code(&ack), ack.base_offset), (0, 1));
    three.restart(1);
    known(three.get(2), "t", in_sync(3)).await;
    let ack = produce_all(three.get(2), &topic, 0).await;
    assert_eq!((code(&ack), ack.base_offset), (0, 2));
    assert_eq!(bytes(&three.cluster, 1), bytes(&three.cluster, 2));
}
