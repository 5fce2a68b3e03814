//! Open batches: order, sizes, memory.

use std::collections::HashMap;

use super::*;
use crate::config::ProducerConfig;

const PARTITIONS: i32 = 4;

fn accumulator(
    change: impl FnOnce(&mut ProducerConfig),
) -> (Accumulator, Vec<Arc<PartitionQueue>>) {
    let mut config = ProducerConfig { batch_size: 1000, ..ProducerConfig::default() };
    change(&mut config);
    let accumulator = Accumulator::new(&config);
    let queues: Vec<_> = (0..PARTITIONS)
        .map(|p| PartitionQueue::new(TopicPartition::new("t", p), p as usize))
        .collect();
    accumulator.topic("t").update(|routes| {
        routes.queues = queues.clone();
        routes.available = (0..PARTITIONS).collect();
    });
    (accumulator, queues)
}

fn place(appended: Appended) -> (Partition, i32) {
    match appended {
        Appended::Done(receipt) => (receipt.completion.partition(), receipt.index),
        other => panic!("{other:?}"),
    }
}

fn ready(accumulator: &Accumulator) -> Vec<QueueIndex> {
    let mut ready = Vec::new();
    accumulator.take_ready(&mut ready);
    ready
}

#[test]
fn records_fill_batches_and_the_sender_is_told_once() {
    let (accumulator, queues) = accumulator(|_| {});
    let value = [b'x'; 200];
    let record = Record::to("t").partition(2).value(&value);
    for index in 0..4 {
        assert_eq!(place(accumulator.append(&record)), (2, index));
    }
    assert_eq!(ready(&accumulator), [2]);
    // The fifth does not fit: the batch is full, another is open. Told before, not looked since.
    assert_eq!(place(accumulator.append(&record)), (2, 0));
    assert!(ready(&accumulator).is_empty());
    queues[2].looked();
    let (now, linger) = (Instant::now(), Duration::from_secs(60));
    let Taken::Batch(full) = queues[2].take(now, linger) else { panic!("no full batch") };
    assert_eq!((full.builder.record_count(), full.charged), (4, 1000));
    assert!(matches!(queues[2].take(now, linger), Taken::Later(_)));
    assert!(matches!(queues[2].take(now + linger, linger), Taken::Batch(_)));
    assert!(matches!(queues[2].take(now, linger), Taken::Empty));
    assert_eq!(accumulator.memory.taken(), 2000);
}

#[test]
fn memory_and_sizes_have_limits() {
    let (accumulator, queues) = accumulator(|config| {
        config.buffer_memory = 2500;
        config.max_request_size = 2000;
    });
    let record = |partition| Record::to("t").partition(partition).value("v");
    place(accumulator.append(&record(0)));
    place(accumulator.append(&record(1)));
    assert!(matches!(accumulator.append(&record(2)), Appended::NoRoom));
    // What fits in an open batch needs no more memory.
    assert_eq!(place(accumulator.append(&record(0))), (0, 1));
    let large = [0; 2000];
    let too_large = accumulator.append(&Record::to("t").partition(3).value(&large));
    assert!(matches!(too_large, Appended::Failed(SendError::RecordTooLarge { limit: 2000, .. })));
    assert!(matches!(accumulator.append(&Record::to("u").value("v")), Appended::UnknownTopic));
    let closed = SendError::Closed { in_doubt: false };
    assert_eq!(queues[0].close(closed).len(), 1);
    assert!(matches!(accumulator.append(&record(0)), Appended::Failed(SendError::Closed { .. })));
}

#[test]
fn records_without_a_key_fill_one_partition_after_another_and_avoid_those_without_leader() {
    let (accumulator, _) = accumulator(|_| {});
    accumulator.topic("t").update(|routes| routes.available = vec![0, 2, 3]);
    let value = [b'x'; 90];
    let mut runs: Vec<(Partition, u32)> = Vec::new();
    let mut total: HashMap<Partition, u32> = HashMap::new();
    for _ in 0..20_000 {
        let (partition, _) = place(accumulator.append(&Record::to("t").value(&value)));
        *total.entry(partition).or_default() += 1;
        match runs.last_mut() {
            Some((last, count)) if *last == partition => *count += 1,
            _ => runs.push((partition, 1)),
        }
    }
    assert!(!total.contains_key(&1), "{total:?}");
    assert!(total.values().all(|&count| count > 4000), "{total:?}");
    let mean = 20_000 / runs.len() as u32;
    assert!((8..=24).contains(&mean), "a turn is {mean} records of about 100 bytes");
}

#[test]
fn what_waits_too_long_is_taken_out() {
    let (accumulator, queues) = accumulator(|_| {});
    place(accumulator.append(&Record::to("t").partition(1).value("v")));
    assert!(queues[1].take_expired(Instant::now() - Duration::from_secs(1)).is_empty());
    assert_eq!(queues[1].take_expired(Instant::now()).len(), 1);
    assert!(queues[1].is_empty());
}
