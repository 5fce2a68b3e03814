//! Where a drain moves what, and what it is refused for.

use super::*;

fn broker(id: i32, rack: &str) -> v1::DescribedBroker {
    let node = v1::Node { id, rack: rack.to_owned(), ..Default::default() };
    v1::DescribedBroker { node: Some(node), ..Default::default() }
}

fn live(brokers: impl Into<Vec<v1::DescribedBroker>>) -> v1::DescribeClusterResponse {
    v1::DescribeClusterResponse { brokers: brokers.into(), ..Default::default() }
}

fn topic(name: &str, partitions: &[&[i32]]) -> v1::Topic {
    let partitions = (0..).zip(partitions).map(|(partition, replicas)| v1::Partition {
        partition,
        replicas: replicas.to_vec(),
        ..Default::default()
    });
    v1::Topic { name: name.to_owned(), partitions: partitions.collect(), ..Default::default() }
}

#[test]
fn a_drained_broker_is_replaced_where_it_stands_and_nothing_else_moves() {
    let live = live([broker(1, "a"), broker(2, "b"), broker(3, "a"), broker(4, "b")]);
    let topics = [topic("t", &[&[1, 2], &[2, 3], &[3, 1], &[1, 4]]), topic("u", &[&[1], &[2]])];
    let moved = plan(1, &topics, &BTreeMap::new(), &live).unwrap().plan;
    let of = |name: &str, partition| moved.get(&(name.to_owned(), partition)).cloned();
    // 3 is the one left in rack a.
    assert_eq!(of("t", 0), Some(vec![3, 2]));
    assert_eq!(of("t", 1), None);
    assert_eq!(of("t", 3), Some(vec![3, 4]));
    // Rack b, as 3 is in a.
    assert!(matches!(of("t", 2).as_deref(), Some([3, 2 | 4])), "{moved:?}");
    assert!(of("u", 0).is_some_and(|replicas| replicas.len() == 1 && replicas[0] != 1));
    assert_eq!(of("u", 1), None);
}

#[test]
fn too_few_brokers_are_refused_before_anything_moves() {
    let three = live([broker(1, ""), broker(2, ""), broker(3, "")]);
    let topics = [topic("few", &[&[1]]), topic("many", &[&[1, 2, 3]])];
    let told = plan(1, &topics, &BTreeMap::new(), &three).unwrap_err().text;
    assert!(
        told.starts_with(
            "broker 1 cannot be drained: topic `many` keeps 3 replicas of a partition, and \
             besides broker 1 only 2 are live and not drained; nothing was moved."
        ),
        "{told}"
    );
    // A broker that is dead can be drained, too.
    let others = || live([broker(2, ""), broker(3, ""), broker(4, "")]);
    let moved = plan(1, &topics, &BTreeMap::new(), &others()).unwrap().plan;
    assert_eq!(moved[&("many".to_owned(), 0)], [4, 2, 3]);
    // One that is drained itself takes nothing.
    let drained = v1::DescribeClusterResponse { cordoned: vec![4], ..others() };
    assert!(plan(1, &topics, &BTreeMap::new(), &drained).is_err());
    let moved = plan(1, &topics[..1], &BTreeMap::new(), &drained).unwrap().plan;
    assert_ne!(moved[&("few".to_owned(), 0)], [4]);
    check_known(&drained, &topics, 1).unwrap();
    check_known(&drained, &[], 4).unwrap();
    assert!(check_known(&drained, &topics, 9).unwrap_err().text.contains("no broker 9"));
}

#[test]
fn what_is_under_way_counts_as_done() {
    let live = live([broker(1, ""), broker(2, ""), broker(3, "")]);
    let topics = [topic("t", &[&[2, 1], &[3, 1]])];
    let under_way = |target: &[i32], original: &[i32]| v1::OngoingReassignment {
        target: target.to_vec(),
        original: original.to_vec(),
        ..Default::default()
    };
    let (away, to) = (under_way(&[2, 3], &[1]), under_way(&[1], &[3]));
    let list = [(("t".to_owned(), 0), &away), (("t".to_owned(), 1), &to)].into();
    let moved = plan(1, &topics, &list, &live).unwrap().plan;
    // The first leaves broker 1 by itself; the second is stopped from coming.
    assert_eq!(moved.keys().collect::<Vec<_>>(), [&("t".to_owned(), 1)]);
    assert!(goes(&away, 1) && !goes(&to, 1));
}
