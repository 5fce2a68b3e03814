//! Replicas: high watermark, ISR, acknowledgements of all, following. Followers are scripted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proto::record::{ProducerStamp, check_chunks};
use proto::{BrokerId, LeaderEpoch, Offset};
use uuid::Uuid;

use super::super::*;
use super::rig::*;
use crate::storage::{AppendError, DeleteUpTo, Expose, FlushPolicy, LogConfig};

const EPOCH: LeaderEpoch = LeaderEpoch(0);

fn min_insync(min_insync_replicas: usize) -> LogConfig {
    LogConfig { min_insync_replicas, ..LogConfig::default() }
}

/// A partition led with three replicas, all in sync.
fn three(rig: &Rig, config: LogConfig) -> Arc<Partition> {
    replicated(rig, config, &led(0, 0, &[1, 2, 3], &[1, 2, 3]))
}

fn replicated(rig: &Rig, config: LogConfig, leadership: &Leadership) -> Arc<Partition> {
    let name = proto::TopicPartition::new("r", 0);
    let partition = rig.partitions.open(&name, topic_id("r"), config).unwrap();
    partition.lead(ME, leadership).unwrap();
    partition
}

fn replica(id: i32) -> Replica {
    Replica { broker_id: BrokerId(id), incarnation: Uuid::from_u128(id as u128) }
}

fn tell(partition: &Arc<Partition>, id: i32, end: i64) {
    partition.follower_told(EPOCH, &replica(id), Offset(end)).unwrap();
}

fn ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

/// Every outcome it was told, in order.
type Outcomes = Arc<Mutex<Vec<Result<i64, PartitionError>>>>;

fn send(partition: &Arc<Partition>, acks: RequiredAcks, stamp: ProducerStamp) -> Outcomes {
    let (mut job, _) = job(batch(1, 10, stamp), LeaderEpoch::UNKNOWN);
    let outcomes = Outcomes::default();
    let told = Arc::clone(&outcomes);
    job.acks = acks;
    job.due = Instant::now() + Duration::from_secs(30);
    job.done =
        OnAppended::new(move |outcome| told.lock().push(outcome.map(|done| done.base_offset.0)));
    let end = partition.log().log_end();
    partition.queue(job);
    partition.drive();
    let is_new = || partition.log().log_end() > end || !outcomes.lock().is_empty();
    if stamp.id < 0 {
        eventually("the append", is_new);
    }
    outcomes
}

fn send_all(partition: &Arc<Partition>) -> Outcomes {
    send(partition, RequiredAcks::All, ProducerStamp::NONE)
}

fn only(outcomes: &Outcomes) -> Result<i64, PartitionError> {
    let outcomes = outcomes.lock();
    assert_eq!(outcomes.len(), 1, "told {} times", outcomes.len());
    outcomes[0].clone()
}

fn high_watermark(partition: &Partition) -> i64 {
    partition.log().high_watermark().0
}

/// Counts who asks for changes of the ISR.
#[derive(Default)]
struct Wishes(Mutex<usize>);

impl IsrListener for Wishes {
    fn wish(&self, _: Arc<Partition>) {
        *self.0.lock() += 1;
    }
}

fn listened(rig: &Rig) -> Arc<Wishes> {
    let wishes = Arc::new(Wishes::default());
    rig.partitions.set_isr_listener(wishes.clone());
    wishes
}

#[test]
fn acks_of_all_wait_for_the_slowest_in_sync_replica_and_others_do_not() {
    let rig = Rig::new();
    let partition = three(&rig, min_insync(2));
    let leader = send(&partition, RequiredAcks::Leader, ProducerStamp::NONE);
    let all = send_all(&partition);
    let last = send_all(&partition);
    assert_eq!(only(&leader).unwrap(), 0);
    assert!(all.lock().is_empty() && last.lock().is_empty());
    tell(&partition, 2, 3);
    assert_eq!((high_watermark(&partition), partition.visible_end()), (0, Offset(0)));
    tell(&partition, 3, 2);
    assert_eq!((high_watermark(&partition), partition.visible_end()), (2, Offset(2)));
    assert_eq!(only(&all).unwrap(), 1);
    assert!(last.lock().is_empty());
    assert_eq!(rig.metrics.produce_purgatory.get(), 1);
    tell(&partition, 3, 3);
    assert_eq!((only(&all).unwrap(), only(&last).unwrap()), (1, 2));
    assert_eq!(rig.metrics.produce_purgatory.get(), 0);
}

#[test]
fn without_other_replicas_acks_of_all_are_answered_at_once() {
    let rig = Rig::new();
    let partition = rig.lead("t", 0, min_insync(2));
    let outcome = send_all(&partition);
    eventually("the answer", || !outcome.lock().is_empty());
    assert_eq!(only(&outcome).unwrap(), 0);
}

#[test]
fn too_few_in_sync_refuse_before_the_append_and_fail_after_it() {
    let rig = Rig::new();
    let partition = three(&rig, min_insync(2));
    let waiting = send_all(&partition);
    partition.isr_settled(EPOCH, 1, &ids(&[1]), &ids(&[2, 3]));
    let error = only(&waiting).unwrap_err();
    assert!(matches!(
        error,
        PartitionError::NotEnoughReplicasAfterAppend {
            in_sync: 1,
            minimum: 2,
            base_offset: Offset(0)
        }
    ));
    let refused = send_all(&partition);
    let error = only(&refused).unwrap_err();
    assert!(matches!(error, PartitionError::NotEnoughReplicas { in_sync: 1, minimum: 2 }));
    assert_eq!(partition.log().log_end(), Offset(1), "nothing was appended");
    // Others go on; nothing is committed.
    assert_eq!(only(&send(&partition, RequiredAcks::Leader, ProducerStamp::NONE)).unwrap(), 1);
    tell(&partition, 2, 2);
    tell(&partition, 3, 2);
    assert_eq!(high_watermark(&partition), 0);
}

#[test]
fn a_lost_leadership_a_time_out_and_a_failed_log_are_told_once() {
    let (rig, disk) = Rig::breakable();
    let partition = three(&rig, min_insync(1));
    let waiting = send_all(&partition);
    partition.isr_wish(Instant::now());
    assert!(waiting.lock().is_empty());
    partition.isr_wish(Instant::now() + Duration::from_secs(31));
    assert!(matches!(only(&waiting), Err(PartitionError::TimedOut)));
    // The change it wished for meanwhile did not come about.
    partition.isr_settled(EPOCH, 0, &ids(&[1, 2, 3]), &[]);
    let second = send_all(&partition);
    partition.follow(LeaderEpoch(1));
    partition.stop_leading();
    assert!(matches!(only(&second), Err(PartitionError::NotLeader)));
    assert!(matches!(only(&waiting), Err(PartitionError::TimedOut)));
    let refused = send_all(&partition);
    assert!(matches!(only(&refused), Err(PartitionError::NotLeader)));

    partition.lead(ME, &led(2, 5, &[1, 2], &[1, 2])).unwrap();
    let third = send_all(&partition);
    disk.set_faults(|faults| faults.failing_syncs = Some((".log".to_owned(), 1)));
    assert!(partition.log().flush().is_err());
    assert!(matches!(only(&third), Err(PartitionError::Append(AppendError::Offline(_)))));
    assert_eq!(rig.metrics.produce_purgatory.get(), 0);
}

#[test]
fn who_is_elected_again_goes_on_answering() {
    let rig = Rig::new();
    let partition = three(&rig, min_insync(1));
    let waiting = send_all(&partition);
    partition.lead(ME, &led(1, 3, &[1, 2, 3], &[1, 2])).unwrap();
    assert!(waiting.lock().is_empty());
    let old = partition.follower_told(EPOCH, &replica(2), Offset(1)).unwrap_err();
    assert!(matches!(old, PartitionError::Fenced { .. }));
    // Another leads by then: what its followers have is no news here.
    let new = partition.follower_told(LeaderEpoch(2), &replica(2), Offset(1)).unwrap_err();
    assert!(matches!(new, PartitionError::UnknownEpoch { .. }));
    assert!(waiting.lock().is_empty() && high_watermark(&partition) == 0);
    partition.follower_told(LeaderEpoch(1), &replica(2), Offset(1)).unwrap();
    assert_eq!(only(&waiting).unwrap(), 0);
}

#[test]
fn a_duplicate_waits_as_the_first_one_does() {
    let rig = Rig::new();
    let partition = three(&rig, min_insync(2));
    let stamp = ProducerStamp { id: 4, epoch: 0, base_sequence: 0 };
    let first = send(&partition, RequiredAcks::All, stamp);
    let again = send(&partition, RequiredAcks::All, stamp);
    eventually("the append", || partition.log().log_end() == Offset(1));
    assert!(first.lock().is_empty() && again.lock().is_empty());
    tell(&partition, 2, 1);
    tell(&partition, 3, 1);
    eventually("both", || !first.lock().is_empty() && !again.lock().is_empty());
    assert_eq!((only(&first).unwrap(), only(&again).unwrap()), (0, 0));
}

#[test]
fn while_the_isr_changes_old_and_new_members_hold_the_high_watermark() {
    let rig = Rig::new();
    let partition = three(&rig, min_insync(1));
    send_all(&partition);
    tell(&partition, 2, 1);
    let later = Instant::now() + LAG_MAX + Duration::from_secs(1);
    let wish = partition.isr_wish(later).unwrap();
    assert_eq!((wish.epoch, wish.version, &wish.isr), (EPOCH, 0, &ids(&[1, 2])));
    assert_eq!(partition.isr_wish(later), None, "one change at a time");
    assert_eq!(high_watermark(&partition), 0, "the write may not have come about");
    // The controller tells of it before the answer comes.
    partition.lead(ME, &led(0, 1, &[1, 2, 3], &[1, 2])).unwrap();
    assert_eq!(high_watermark(&partition), 1);
    partition.isr_settled(EPOCH, 1, &ids(&[1, 2]), &[]);
    partition.lead(ME, &led(0, 0, &[1, 2, 3], &[1, 2, 3])).unwrap();
    assert_eq!(partition.replication().unwrap().isr, ids(&[1, 2]), "older news change nothing");
    assert_eq!(rig.metrics.isr_shrinks.get(), 1);
}

#[test]
fn who_caught_up_joins_and_is_waited_for_from_the_wish_on() {
    let rig = Rig::new();
    let wishes = listened(&rig);
    let alone = led(0, 0, &[1, 2, 3], &[1]);
    let partition = replicated(&rig, min_insync(1), &alone);
    send_all(&partition);
    assert_eq!(high_watermark(&partition), 1);
    tell(&partition, 2, 0);
    assert_eq!((*wishes.0.lock(), partition.isr_wish(Instant::now())), (0, None));
    tell(&partition, 2, 1);
    assert_eq!(*wishes.0.lock(), 1);
    let wish = partition.isr_wish(Instant::now()).unwrap();
    assert_eq!((wish.isr, wish.joining), (ids(&[1, 2]), vec![replica(2)]));
    send_all(&partition);
    assert_eq!(high_watermark(&partition), 1);
    tell(&partition, 2, 2);
    assert_eq!(high_watermark(&partition), 2);
    partition.isr_settled(EPOCH, 1, &ids(&[1, 2]), &[]);
    assert_eq!(rig.metrics.isr_expands.get(), 1);
    assert_eq!(*wishes.0.lock(), 1);
    tell(&partition, 3, 2);
    assert_eq!(*wishes.0.lock(), 2);
}

#[test]
fn a_busy_leader_does_not_run_ahead_of_who_is_about_to_join() {
    let rig = Rig::new();
    let wishes = listened(&rig);
    let partition = replicated(&rig, min_insync(1), &led(0, 0, &[1, 2], &[1]));
    send_all(&partition);
    tell(&partition, 2, 0);
    send_all(&partition);
    assert_eq!(high_watermark(&partition), 2);
    // As far as the leader was when it told before: it keeps up, and is waited for.
    tell(&partition, 2, 1);
    let waiting = send_all(&partition);
    assert_eq!((high_watermark(&partition), *wishes.0.lock()), (2, 0));
    tell(&partition, 2, 2);
    assert_eq!((high_watermark(&partition), *wishes.0.lock()), (2, 1));
    // Its stream breaks off: nobody waits for it any more.
    partition.follower_gone(&replica(2));
    assert_eq!((only(&waiting).unwrap(), high_watermark(&partition)), (2, 3));
}

#[test]
fn below_the_start_of_the_epoch_nobody_joins() {
    let rig = Rig::new();
    let partition = three(&rig, min_insync(1));
    (0..4).for_each(|_| drop(send(&partition, RequiredAcks::Leader, ProducerStamp::NONE)));
    partition.follow(LeaderEpoch(1));
    partition.lead(ME, &led(2, 7, &[1, 2, 3], &[1, 2])).unwrap();
    assert_eq!((high_watermark(&partition), partition.epoch_start()), (0, Some(Offset(4))));
    let tell = |id, end| partition.follower_told(LeaderEpoch(2), &replica(id), Offset(end));
    tell(3, 3).unwrap();
    assert_eq!(partition.isr_wish(Instant::now()), None);
    tell(3, 4).unwrap();
    assert_eq!(partition.isr_wish(Instant::now()).unwrap().isr, ids(&[1, 2, 3]));
}

#[test]
fn electable_replicas_hold_the_high_watermark_until_enough_are_in_sync() {
    let rig = Rig::new();
    let wishes = listened(&rig);
    let mut low = led(0, 0, &[1, 2, 3], &[1]);
    low.electable = ids(&[2]);
    let partition = replicated(&rig, min_insync(2), &low);
    drop(send(&partition, RequiredAcks::Leader, ProducerStamp::NONE));
    tell(&partition, 3, 1);
    let wish = partition.isr_wish(Instant::now()).unwrap();
    assert_eq!((&wish.isr, &wish.lost), (&ids(&[1, 3]), &vec![]));
    // Somebody else believes in another minimum: 2 stays electable, and counts.
    partition.isr_settled(EPOCH, 1, &ids(&[1, 3]), &ids(&[2]));
    assert_eq!(high_watermark(&partition), 0);
    assert!(*wishes.0.lock() >= 2);
    assert_eq!(partition.isr_wish(Instant::now()).unwrap().isr, ids(&[1, 3]));
    partition.isr_settled(EPOCH, 2, &ids(&[1, 3]), &[]);
    assert_eq!(high_watermark(&partition), 1);
}

#[test]
fn a_member_that_lost_what_it_had_is_wished_out_at_once() {
    let rig = Rig::new();
    let wishes = listened(&rig);
    let partition = three(&rig, min_insync(1));
    (0..3).for_each(|_| drop(send_all(&partition)));
    tell(&partition, 2, 3);
    tell(&partition, 3, 3);
    assert_eq!((high_watermark(&partition), *wishes.0.lock()), (3, 0));
    let begun_anew = Replica { incarnation: Uuid::from_u128(99), ..replica(3) };
    partition.follower_told(EPOCH, &begun_anew, Offset(1)).unwrap();
    assert_eq!(*wishes.0.lock(), 1);
    let wish = partition.isr_wish(Instant::now()).unwrap();
    assert_eq!((wish.isr, wish.lost, wish.joining), (ids(&[1, 2]), ids(&[3]), vec![]));
    assert_eq!(high_watermark(&partition), 3);
}

#[test]
fn what_cannot_be_is_refused_and_counts_for_nothing() {
    let rig = Rig::new();
    let partition = three(&rig, min_insync(1));
    send_all(&partition);
    let tell = |id, end| partition.follower_told(EPOCH, &replica(id), Offset(end)).unwrap_err();
    assert!(matches!(tell(2, 2), PartitionError::BeyondLogEnd { log_end: Offset(1), .. }));
    assert!(matches!(tell(4, 1), PartitionError::NotReplica { broker: BrokerId(4) }));
    assert!(matches!(tell(1, 1), PartitionError::NotReplica { .. }));
    assert_eq!(high_watermark(&partition), 0);
    assert!(partition.replication().unwrap().ends.iter().all(|(_, end)| end.is_none()));
}

#[test]
fn followers_are_woken_by_records_and_by_the_high_watermark_consumers_by_the_latter() {
    let rig = Rig::new();
    let partition = three(&rig, min_insync(1));
    let (followers, consumers) = (Arc::new(Rings::default()), Arc::new(Rings::default()));
    partition.park_follower(followers.clone(), 1);
    partition.park(consumers.clone(), 1);
    send_all(&partition);
    assert_eq!((followers.0.lock().len(), consumers.0.lock().len()), (1, 0));
    partition.park_follower(followers.clone(), 2);
    tell(&partition, 2, 1);
    assert_eq!((followers.0.lock().len(), consumers.0.lock().len()), (1, 0));
    tell(&partition, 3, 1);
    assert_eq!((followers.0.lock().len(), consumers.0.lock().len()), (2, 1));
}

#[test]
fn before_ack_counts_flushed_ends_on_the_leader_too() {
    let (rig, disk) = Rig::breakable();
    let config = LogConfig { flush: FlushPolicy::BeforeAck, ..min_insync(2) };
    let partition = replicated(&rig, config, &led(0, 0, &[1, 2], &[1, 2]));
    let outcome = send_all(&partition);
    eventually("the flush", || partition.log().flushed() == Offset(1));
    assert!(outcome.lock().is_empty());
    tell(&partition, 2, 1);
    eventually("the answer", || !outcome.lock().is_empty());
    assert_eq!(only(&outcome).unwrap(), 0);
    // A flush that fails is told, whatever the followers have.
    disk.set_faults(|faults| faults.failing_syncs = Some((".log".to_owned(), 1)));
    let failed = send_all(&partition);
    eventually("the failure", || !failed.lock().is_empty());
    assert!(matches!(only(&failed), Err(PartitionError::Append(AppendError::Offline(_)))));
    tell(&partition, 2, 2);
    assert_eq!(high_watermark(&partition), 1, "the follower alone has it for certain");
}

#[test]
fn exposing_flushed_records_only_gates_what_is_seen_and_not_what_is_committed() {
    let rig = Rig::new();
    let config = LogConfig { flush: FlushPolicy::Os, expose: Expose::Flushed, ..min_insync(1) };
    let partition = replicated(&rig, config, &led(0, 0, &[1, 2], &[1, 2]));
    let outcome = send_all(&partition);
    tell(&partition, 2, 1);
    assert_eq!((only(&outcome).unwrap(), high_watermark(&partition)), (0, 1));
    assert_eq!(partition.visible_end(), Offset(0));
    partition.log().flush().unwrap();
    assert_eq!(partition.visible_end(), Offset(1));
}

#[test]
fn a_follower_appends_in_the_epoch_it_follows_in_only() {
    let rig = Rig::new();
    let leader = three(&rig, min_insync(1));
    (0..3).for_each(|_| drop(send_all(&leader)));
    let limits =
        crate::storage::ReadLimits { max_bytes: 1 << 20, upto: Offset(3), first_batch_whole: true };
    let from = crate::storage::Cursor::at(Offset(0));
    let slice = leader.log().read(from, limits, crate::storage::Wait::Allowed).unwrap();
    let fetched = |upto: i64| {
        let chunks = vec![slice.bytes().clone()];
        FetchedRecords {
            headers: check_chunks(&chunks).unwrap(),
            chunks,
            window: 5,
            high_watermark: Offset(upto),
            log_start: Offset(0),
            producers: bytes::Bytes::new(),
        }
    };
    let name = proto::TopicPartition::new("f", 0);
    let follower = rig.partitions.open(&name, topic_id("f"), min_insync(1)).unwrap();
    let refused = follower.append_fetched(EPOCH, &fetched(2)).unwrap_err();
    assert!(matches!(refused, PartitionError::NotFollower));
    follower.follow(LeaderEpoch(5));
    let refused = follower.append_fetched(EPOCH, &fetched(2)).unwrap_err();
    assert!(matches!(refused, PartitionError::Fenced { .. }));
    follower.append_fetched(LeaderEpoch(5), &fetched(2)).unwrap();
    assert_eq!((follower.log().log_end(), high_watermark(&follower)), (Offset(3), 2));
    assert_eq!(follower.truncate_as_follower(LeaderEpoch(5), Offset(1)).unwrap(), Offset(1));
    assert_eq!(high_watermark(&follower), 1);
    // An older leader's message comes late.
    follower.follow(LeaderEpoch(4));
    assert_eq!(follower.following(), Some(LeaderEpoch(5)));
    follower.lead(ME, &led(6, 9, &[1, 2], &[1, 2])).unwrap();
    let refused = follower.truncate_as_follower(LeaderEpoch(5), Offset(0)).unwrap_err();
    assert!(matches!(refused, PartitionError::Fenced { .. }));
    assert_eq!(follower.log().log_end(), Offset(1));
}

#[test]
fn records_are_deleted_once_no_replica_that_may_lead_has_them() {
    let rig = Rig::new();
    let partition = three(&rig, min_insync(1));
    let _ = send(&partition, RequiredAcks::Leader, ProducerStamp::NONE);
    tell(&partition, 2, 1);
    tell(&partition, 3, 1);
    let start = |id, start| partition.follower_start_told(EPOCH, &replica(id), Offset(start));
    let low = || partition.low_watermark(EPOCH).unwrap();
    assert_eq!(partition.log().delete_records(DeleteUpTo::HighWatermark).unwrap(), Offset(1));
    assert_eq!(low(), Offset(0));
    start(2, 1);
    assert_eq!(low(), Offset(0), "the other has not");
    // What another run of it says counts for nothing, nor does what is said in another epoch.
    let other = Replica { incarnation: Uuid::from_u128(99), ..replica(3) };
    partition.follower_start_told(EPOCH, &other, Offset(1));
    partition.follower_start_told(LeaderEpoch(7), &replica(3), Offset(1));
    assert_eq!(low(), Offset(0));
    start(3, 1);
    assert_eq!(low(), Offset(1));
    assert!(partition.low_watermark(LeaderEpoch(1)).is_err(), "not this leader's epoch");
    partition.stop_leading();
    assert!(matches!(partition.low_watermark(EPOCH), Err(PartitionError::NotLeader)));
}

#[test]
fn who_waits_for_a_deletion_is_told_when_replicas_have_it_or_leave_or_the_leader_goes() {
    let rig = Rig::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let partition = three(&rig, min_insync(1));
    let _ = send(&partition, RequiredAcks::Leader, ProducerStamp::NONE);
    tell(&partition, 2, 1);
    tell(&partition, 3, 1);
    partition.log().delete_records(DeleteUpTo::HighWatermark).unwrap();
    let start = |id, start| partition.follower_start_told(EPOCH, &replica(id), Offset(start));
    let waits = |then: &dyn Fn()| {
        runtime.block_on(async {
            let mut waiting = std::pin::pin!(partition.deleted_everywhere(EPOCH, Offset(1)));
            let early = tokio::time::timeout(Duration::from_millis(10), &mut waiting).await;
            assert!(early.is_err(), "answered early: {early:?}");
            then();
            tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("told")
        })
    };
    start(2, 1);
    assert_eq!(waits(&|| start(3, 1)).unwrap(), Offset(1));
    start(3, 0);
    // It leaves the ISR: it will not lead next.
    let leaves = || partition.isr_settled(EPOCH, 1, &ids(&[1, 2]), &[]);
    assert_eq!(waits(&leaves).unwrap(), Offset(1));
    start(2, 0);
    let resigned = waits(&|| partition.stop_leading());
    assert!(matches!(resigned, Err(PartitionError::NotLeader)), "{resigned:?}");
    assert_eq!(partition.parked(), 0);
}
