//! Appends, epochs, visibility, waking.

use std::sync::Arc;

use proto::record::ProducerStamp;
use proto::{LeaderEpoch, Offset};

use super::super::*;
use super::rig::*;
use crate::storage::{AppendError, Cursor, Expose, FlushPolicy, LogConfig, ReadLimits, Wait};

fn append(partition: &Arc<Partition>, records: usize) -> Outcome {
    let (job, outcome) = job(batch(records, 10, ProducerStamp::NONE), LeaderEpoch::UNKNOWN);
    partition.queue(job);
    partition.drive();
    // On a busy machine the directory may be slow, and its own thread at it.
    eventually("the answer", || outcome.lock().is_some());
    outcome
}

fn base_offset(outcome: &Outcome) -> i64 {
    outcome.lock().as_ref().unwrap().as_ref().unwrap().base_offset.0
}

#[test]
fn appends_get_dense_offsets_and_are_visible_at_once() {
    let rig = Rig::new();
    let partition = rig.lead("t", 0, LogConfig::default());
    let outcomes: Vec<_> = [3, 1, 2].into_iter().map(|n| append(&partition, n)).collect();
    assert_eq!(outcomes.iter().map(base_offset).collect::<Vec<_>>(), [0, 3, 4]);
    assert_eq!(partition.visible_end(), Offset(6));
    assert_eq!(rig.metrics.produce_records.get(), 6);
}

#[test]
fn what_is_queued_together_is_written_together() {
    let rig = Rig::new();
    let partition = rig.lead("t", 0, LogConfig::default());
    let outcomes: Vec<_> = (0..100)
        .map(|_| {
            let (job, outcome) = job(batch(1, 10, ProducerStamp::NONE), LeaderEpoch(0));
            partition.queue(job);
            outcome
        })
        .collect();
    partition.drive();
    eventually("every answer", || outcomes.iter().all(|outcome| outcome.lock().is_some()));
    assert_eq!(rig.metrics.appends.get(), 1);
    assert!(outcomes.iter().enumerate().all(|(i, outcome)| base_offset(outcome) == i as i64));
}

#[test]
fn another_epoch_is_fenced_and_a_partition_that_does_not_lead_refuses() {
    let rig = Rig::new();
    let partition = rig.lead("t", 0, LogConfig::default());
    partition.lead(ME, &alone(3)).unwrap();
    let refused = |epoch| {
        let (job, outcome) = job(batch(1, 1, ProducerStamp::NONE), LeaderEpoch(epoch));
        partition.queue(job);
        partition.drive();
        eventually("the answer", || outcome.lock().is_some());
        let outcome = outcome.lock().take().unwrap();
        outcome.unwrap_err()
    };
    assert!(matches!(refused(2), PartitionError::Fenced { current: LeaderEpoch(3), .. }));
    assert!(matches!(refused(4), PartitionError::UnknownEpoch { .. }));
    partition.stop_leading();
    assert!(matches!(refused(3), PartitionError::NotLeader));
    assert_eq!(partition.log().log_end(), Offset(0));
}

#[test]
fn before_ack_answers_and_shows_after_the_flush_only() {
    let rig = Rig::new();
    let config = LogConfig { flush: FlushPolicy::BeforeAck, ..LogConfig::default() };
    let partition = rig.lead("t", 0, config);
    let outcomes: Vec<_> = (0..5).map(|_| append(&partition, 2)).collect();
    eventually("the flush", || outcomes.iter().all(|outcome| outcome.lock().is_some()));
    assert!(partition.log().flushed() >= Offset(10));
    eventually("visibility", || partition.visible_end() == Offset(10));
}

#[test]
fn exposing_flushed_records_only_hides_the_rest_but_acknowledges_it() {
    let rig = Rig::new();
    let config =
        LogConfig { flush: FlushPolicy::Os, expose: Expose::Flushed, ..LogConfig::default() };
    let partition = rig.lead("t", 0, config);
    let outcome = append(&partition, 4);
    assert_eq!(base_offset(&outcome), 0);
    assert_eq!(partition.visible_end(), Offset(0));
    let limits =
        ReadLimits { max_bytes: 1 << 20, upto: partition.visible_end(), first_batch_whole: true };
    let read = partition.log().read(Cursor::at(Offset(0)), limits, Wait::Allowed).unwrap();
    assert!(read.is_empty());
    partition.log().flush().unwrap();
    eventually("visibility", || partition.visible_end() == Offset(4));
}

#[test]
fn parked_readers_are_told_once_of_an_append_and_of_a_lost_leadership() {
    let rig = Rig::new();
    let partition = rig.lead("t", 0, LogConfig::default());
    let rings = Arc::new(Rings::default());
    partition.park(rings.clone(), 1);
    append(&partition, 1);
    append(&partition, 1);
    assert_eq!(*rings.0.lock(), [1]);
    partition.park(rings.clone(), 2);
    partition.stop_leading();
    assert_eq!(*rings.0.lock(), [1, 2]);
}

#[test]
fn many_threads_append_and_every_record_gets_its_own_offset() {
    let rig = Rig::new();
    let partition = rig.lead("t", 0, LogConfig::default());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let partition = Arc::clone(&partition);
            std::thread::spawn(move || (0..200).map(|_| append(&partition, 1)).collect::<Vec<_>>())
        })
        .collect();
    let outcomes: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    // The holder of the token may still be at the last ones of another thread.
    eventually("every answer", || outcomes.iter().all(|outcome| outcome.lock().is_some()));
    let mut offsets: Vec<_> = outcomes.iter().map(base_offset).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..800).collect::<Vec<_>>());
}

#[test]
fn while_the_directory_is_slow_its_own_thread_appends() {
    let rig = Rig::new();
    let partition = rig.lead("t", 0, LogConfig::default());
    partition.writer().took(std::time::Duration::from_millis(50));
    let outcomes: Vec<_> = (0..50).map(|_| append(&partition, 1)).collect();
    eventually("every answer", || outcomes.iter().all(|outcome| outcome.lock().is_some()));
    assert_eq!(outcomes.iter().map(base_offset).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
}

#[test]
fn a_partition_of_another_topic_id_is_not_found_and_deleted_ones_go() {
    let rig = Rig::new();
    let partition = rig.lead("t", 0, LogConfig::default());
    let (name, id) = (partition.name().clone(), partition.topic_id());
    let found = rig.partitions.find("t", topic_id("other"), 0);
    assert_eq!(found.err(), Some(Missing::OtherTopic));
    assert_eq!(rig.partitions.find("t", id, 1).err(), Some(Missing::NotHere));
    rig.partitions.delete(&name, id).unwrap();
    assert_eq!(rig.partitions.find("t", id, 0).err(), Some(Missing::NotHere));
    assert!(partition.leading().is_none());
    assert!(rig.partitions.stored().is_empty());
}

#[test]
fn a_full_disk_refuses_and_producing_goes_on_when_there_is_space() {
    let (rig, disk) = Rig::breakable();
    let partition = rig.lead("t", 0, LogConfig::default());
    assert_eq!(base_offset(&append(&partition, 1)), 0);
    disk.set_faults(|faults| faults.capacity = Some(0));
    let refused = append(&partition, 1).lock().take().unwrap().unwrap_err();
    assert!(matches!(refused, PartitionError::Append(AppendError::DiskFull { .. })), "{refused}");
    disk.set_faults(|faults| faults.capacity = None);
    assert_eq!(base_offset(&append(&partition, 1)), 1);
    assert_eq!(partition.visible_end(), Offset(2));
}

#[test]
fn after_a_failed_flush_nothing_is_acknowledged_until_the_log_is_opened_anew() {
    let (rig, disk) = Rig::breakable();
    let config = LogConfig { flush: FlushPolicy::BeforeAck, ..LogConfig::default() };
    let partition = rig.lead("t", 0, config);
    let (name, id) = (partition.name().clone(), partition.topic_id());
    let first = append(&partition, 1);
    eventually("the first flush", || first.lock().is_some());
    let rings = Arc::new(Rings::default());
    partition.park(rings.clone(), 1);
    disk.set_faults(|faults| faults.failing_syncs = Some((".log".to_owned(), 1)));
    let second = append(&partition, 1);
    eventually("the failure", || second.lock().is_some());
    assert!(matches!(second.lock().take(), Some(Err(PartitionError::Flush(_)))));
    assert!(matches!(
        append(&partition, 1).lock().take(),
        Some(Err(PartitionError::Append(AppendError::Offline(_))))
    ));
    assert_eq!(rings.0.lock().len(), 1, "readers are told");
    assert_eq!(rig.partitions.offline().len(), 1);

    rig.partitions.reopen(&name, id).unwrap();
    let partition = rig.partitions.find("t", id, 0).unwrap();
    assert!(rig.partitions.offline().is_empty() && partition.leading().is_none());
    partition.lead(ME, &alone(1)).unwrap();
    let third = append(&partition, 1);
    eventually("the third flush", || third.lock().is_some());
    assert!(base_offset(&third) >= 1);
}
