//! The outbox: numbering, resending, coalescing, bounds.

use super::*;

fn topic(name: &str, id: TopicId, partitions: usize) -> v1::Topic {
    v1::Topic {
        name: name.to_owned(),
        topic_id: id.to_bytes(),
        partitions: vec![v1::Partition::default(); partitions],
        ..Default::default()
    }
}

fn created(name: &str, id: TopicId, partitions: usize) -> Delta {
    let topics = [(name.to_owned(), topic(name, id, partitions))].into();
    Delta { topics, ..Delta::default() }
}

fn deleted(name: &str, id: TopicId) -> Delta {
    Delta { deleted: [(name.to_owned(), id)].into(), ..Delta::default() }
}

fn outbox() -> Outbox {
    let sender = Sender { controller_epoch: 4, address: "127.0.0.1:9097".to_owned() };
    Outbox::new(sender, uuid::Uuid::new_v4(), Delta::default())
}

#[test]
fn the_first_update_goes_out_even_when_empty_and_is_number_one() {
    let mut outbox = outbox();
    assert_eq!(outbox.next().unwrap().sequence, 1);
    outbox.acknowledged(1);
    assert_eq!(outbox.next(), None);
}

#[test]
fn an_update_is_resent_unchanged_and_later_changes_wait() {
    let mut outbox = outbox();
    let first = outbox.next().unwrap();
    let id = TopicId::random();
    outbox.add(&created("a", id, 1));
    assert_eq!(outbox.next().unwrap(), first);
    outbox.acknowledged(0);
    assert_eq!(outbox.next().unwrap(), first);
    assert_eq!((outbox.added(), outbox.acknowledged_deltas()), (2, 0));
    outbox.acknowledged(1);
    assert_eq!(outbox.acknowledged_deltas(), 1);
    let second = outbox.next().unwrap();
    assert_eq!((second.sequence, second.topics.len()), (2, 1));
}

#[test]
fn what_changes_often_is_sent_once() {
    let mut outbox = outbox();
    outbox.next();
    let (old, new) = (TopicId::random(), TopicId::random());
    outbox.add(&created("a", old, 1));
    outbox.add(&created("a", old, 2));
    outbox.add(&deleted("a", old));
    outbox.acknowledged(1);
    let update = outbox.next().unwrap();
    assert!(update.topics.is_empty());
    assert_eq!(update.deleted.len(), 1);
    outbox.add(&created("a", new, 3));
    assert_eq!(outbox.acknowledged(2), [("a".to_owned(), old)]);
    assert_eq!(outbox.next().unwrap().topics[0].partitions.len(), 3);
}

#[test]
fn a_deletion_of_an_older_topic_leaves_the_newer_one() {
    let mut delta = created("a", TopicId::random(), 1);
    delta.merge(&deleted("a", TopicId::random()));
    assert_eq!((delta.topics.len(), delta.deleted.len()), (1, 1));
}

#[test]
fn a_large_backlog_goes_out_in_several_updates() {
    let mut outbox = outbox();
    for n in 0..30 {
        outbox.add(&created(&format!("t{n:02}"), TopicId::random(), 1_000));
    }
    let mut seen = Vec::new();
    while let Some(update) = outbox.next() {
        assert!(update.topics.iter().map(|t| t.partitions.len()).sum::<usize>() < 6_001);
        seen.extend(update.topics.into_iter().map(|t| t.name));
        assert!(outbox.acknowledged_deltas() < outbox.added());
        outbox.acknowledged(update.sequence);
    }
    assert_eq!(outbox.acknowledged_deltas(), outbox.added());
    assert_eq!(seen, (0..30).map(|n| format!("t{n:02}")).collect::<Vec<_>>());
}
