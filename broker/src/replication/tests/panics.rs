//! A panic in the middle of an append: the log goes offline, everybody is answered, and the thread
//! and the other partitions go on.

use std::sync::Arc;

use proto::record::{Compression, ProducerStamp, check_chunks};
use proto::{LeaderEpoch, Offset};

use super::super::*;
use super::rig::*;
use crate::storage::disk::faulty::FaultyDisk;
use crate::storage::{AppendError, CompressionPolicy, LogConfig, Offline};

fn stamp(base_sequence: i32) -> ProducerStamp {
    ProducerStamp { id: 7, epoch: 0, base_sequence }
}

fn queue(partition: &Partition, base_sequence: i32) -> Outcome {
    let (job, outcome) = job(batch(2, 3_000, stamp(base_sequence)), LeaderEpoch::UNKNOWN);
    partition.queue(job);
    outcome
}

fn append(partition: &Arc<Partition>, base_sequence: i32) -> Outcome {
    let outcome = queue(partition, base_sequence);
    partition.drive();
    eventually("the answer", || outcome.lock().is_some());
    outcome
}

fn appended_at(outcome: &Outcome) -> i64 {
    outcome.lock().as_ref().unwrap().as_ref().unwrap().base_offset.0
}

fn panics(disk: &FaultyDisk, path: Option<&str>) {
    disk.set_faults(|faults| faults.panicking_writes = path.map(str::to_owned));
}

fn offline(outcome: &Outcome) -> Offline {
    match outcome.lock().take() {
        Some(Err(PartitionError::Append(AppendError::Offline(offline)))) => offline,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_panic_in_an_append_takes_that_log_offline_and_answers_all_who_queued() {
    let (rig, disk) = Rig::breakable();
    let partition = rig.lead("t", 0, LogConfig::default());
    let other = rig.lead("t", 1, LogConfig::default());
    assert_eq!(appended_at(&append(&partition, 0)), 0);
    let rings = Arc::new(Rings::default());
    partition.park(rings.clone(), 1);

    panics(&disk, Some("/t-0/"));
    let queued: Vec<_> = (1..4).map(|number| queue(&partition, number * 2)).collect();
    partition.drive();
    eventually("every answer", || queued.iter().all(|outcome| outcome.lock().is_some()));
    let first = offline(&queued[0]);
    assert!(first.cause.contains("appending panicked") && first.cause.contains("injected"));
    assert!(queued[1..].iter().all(|outcome| offline(outcome) == first));
    assert_eq!(rings.0.lock().len(), 1, "readers are told");
    assert_eq!(partition.log().log_end(), Offset(2), "nothing of it shows");
    assert_eq!(rig.partitions.offline().len(), 1);
    assert_eq!(appended_at(&append(&other, 0)), 0);

    panics(&disk, None);
    assert_eq!(offline(&append(&partition, 2)), first, "the token was put back, the log is over");
    rig.partitions.reopen(partition.name(), partition.topic_id()).unwrap();
    let again = rig.partitions.find("t", partition.topic_id(), 0).unwrap();
    again.lead(ME, &alone(1)).unwrap();
    // Of the three batches one and a half were written: as after a kill, the whole one stays, and
    // the producer finds that out when it tries again.
    assert_eq!(again.log().log_end(), Offset(4), "what was torn is cut off");
    for (sequence, offset) in [(2, 2), (4, 4), (6, 6), (2, 2)] {
        assert_eq!(appended_at(&append(&again, sequence)), offset);
    }
}

#[test]
fn a_panic_while_a_follower_appends_or_cuts_takes_its_log_offline() {
    let (rig, disk) = Rig::breakable();
    let name = |number| proto::TopicPartition::new("t", number);
    for number in 0..2 {
        let opened = rig.partitions.open(&name(number), topic_id("t"), LogConfig::default());
        let partition = opened.unwrap();
        partition.follow(LeaderEpoch(3));
        let fetched = |base_offset: i64| {
            let mut bytes = batch(2, 3_000, stamp(0)).to_vec();
            bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
            let chunks = vec![bytes::Bytes::from(bytes)];
            let headers = check_chunks(&chunks).unwrap();
            let (high_watermark, log_start) = (Offset(0), Offset(0));
            let producers = bytes::Bytes::new();
            FetchedRecords { chunks, headers, window: 5, high_watermark, log_start, producers }
        };
        partition.append_fetched(LeaderEpoch(3), &fetched(0)).unwrap();
        panics(&disk, Some(if number == 0 { "/t-0/" } else { "positions-checkpoint" }));
        let failed = match number {
            0 => partition.append_fetched(LeaderEpoch(3), &fetched(2)),
            _ => partition.truncate_as_follower(LeaderEpoch(3), Offset(0)).map(|_| ()),
        };
        panics(&disk, None);
        let Err(PartitionError::Append(AppendError::Offline(_))) = failed else {
            panic!("{failed:?}")
        };
        assert_eq!(rig.partitions.offline().len(), 1 + number as usize);
        let refused = partition.append_fetched(LeaderEpoch(3), &fetched(2));
        assert!(matches!(refused, Err(PartitionError::Append(AppendError::Offline(_)))));
    }
}

#[test]
fn records_that_make_a_codec_panic_are_refused_and_harm_nobody() {
    let (rig, _disk) = Rig::breakable();
    let forced = CompressionPolicy::Forced(Compression::Lz4);
    let config = LogConfig { compression: forced, ..LogConfig::default() };
    let partition = rig.lead("t", 0, config);
    let poison = ProducerStamp { id: recoding::PANICKING, epoch: 0, base_sequence: 0 };
    // More often than there are threads for it.
    for _ in 0..8 {
        let (job, outcome) = job(batch(1, 10, poison), LeaderEpoch::UNKNOWN);
        partition.queue(job);
        partition.drive();
        eventually("the refusal", || outcome.lock().is_some());
        assert!(matches!(outcome.lock().take(), Some(Err(PartitionError::OpeningPanicked))));
    }
    assert_eq!(appended_at(&append(&partition, 0)), 0);
    assert!(partition.log().offline().is_none());
}

#[test]
fn who_waits_is_answered_when_the_one_who_would_answer_is_gone() {
    let (job, outcome) = job(batch(1, 10, ProducerStamp::NONE), LeaderEpoch::UNKNOWN);
    drop(job);
    assert!(matches!(outcome.lock().take(), Some(Err(PartitionError::Interrupted))));
}
