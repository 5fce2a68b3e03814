//! Consumers while leadership moves: nothing skipped, nothing twice, logs that part are told.

use std::sync::Arc;

use proto::{BrokerId, LeaderEpoch};

use super::*;
use crate::MessageStream;
use crate::shared::{Answer, Shared};
use crate::testing::{batch_at, in_epoch};

/// Events that tell more than that a busy machine took its time.
fn surprises(events: Vec<Event>) -> Vec<Event> {
    let slow = |event: &Event| matches!(event, Event::Stalled { .. } | Event::Resumed { .. });
    events.into_iter().filter(|event| !slow(event)).collect()
}

/// Told by the first `add` of a partition since the last call, and by those after it.
fn last_epochs(cluster: &FakeCluster, partition: usize) -> Vec<Option<i32>> {
    let mut told = None;
    cluster.change("t", partition, |p| told = Some(Arc::clone(&p.last_epochs)));
    std::mem::take(&mut *told.unwrap().lock())
}

#[test]
fn a_pushed_leader_change_is_followed_without_asking() {
    let cluster = FakeCluster::start(&[1, 2, 3]);
    cluster.create("t", &[1]);
    cluster.append("t", 0, 3, "x");
    let mut consumer = consumer(&cluster, |_| {});
    consumer.assign([(tp(0), StartAt::Beginning)]).unwrap();
    take(&mut consumer, 3);
    let control = consumer.control();
    eventually("pushes", || control.stats().metadata_pushes > 0);
    let asked = cluster.metadata_requests();
    for turn in 0..12 {
        cluster.change("t", 0, |p| p.led_by(turn % 3 + 1));
        cluster.append("t", 0, 2, "y");
        let (records, events) = take(&mut consumer, 2);
        let next = 3 + 2 * i64::from(turn);
        assert_eq!(offsets(&records, 0), [next, next + 1]);
        assert_eq!(surprises(events), []);
    }
    eventually("all changes", || control.stats().leader_changes == 12);
    // An old leader may say that it leads no more before the push is read: asked then, and once.
    let asked = cluster.metadata_requests() - asked;
    assert!(asked <= 12, "{asked} requests over 12 changes");
}

#[test]
fn what_an_earlier_leader_says_is_no_reason_to_ask() {
    let cluster = FakeCluster::start(&[1, 2, 3]);
    cluster.create("t", &[1, 1]);
    (0..2).for_each(|p| _ = cluster.append("t", p, 2, "x"));
    let mut consumer = consumer(&cluster, |c| c.fetch_max_wait = Duration::from_secs(5));
    consumer.assign((0..2).map(|p| (tp(p), StartAt::Beginning))).unwrap();
    take(&mut consumer, 4);
    // It hears of the change long after the consumer, and has the other partition still.
    cluster.silence(1, true);
    cluster.change("t", 0, |p| p.led_by(2));
    cluster.append("t", 0, 2, "y");
    assert_eq!(offsets(&take(&mut consumer, 2).0, 0), [2, 3]);
    let asked = cluster.metadata_requests();
    cluster.silence(1, false);
    cluster.append("t", 1, 2, "y");
    assert_eq!(offsets(&take(&mut consumer, 2).0, 1), [2, 3]);
    cluster.append("t", 0, 2, "z");
    assert_eq!(offsets(&take(&mut consumer, 2).0, 0), [4, 5]);
    assert_eq!(cluster.metadata_requests(), asked);
}

#[test]
fn a_new_leader_does_not_wait_for_what_failed_with_the_old_one() {
    let cluster = FakeCluster::start(&[1, 2, 3]);
    cluster.create("t", &[1]);
    cluster.append("t", 0, 2, "x");
    let mut consumer = consumer(&cluster, |c| {
        (c.retry_backoff, c.retry_backoff_max) = (Duration::from_secs(60), Duration::from_secs(60));
    });
    consumer.assign([(tp(0), StartAt::Beginning)]).unwrap();
    take(&mut consumer, 2);
    let shared = Arc::clone(&consumer.control().shared);
    let asked = cluster.metadata_requests();
    cluster.kill_broker(1);
    eventually("a failure", || cluster.metadata_requests() > asked && shared.leaders().is_empty());
    cluster.change("t", 0, |p| {
        p.led_by(2);
        p.hears_later.store(1, Ordering::SeqCst);
    });
    cluster.append("t", 0, 2, "y");
    assert_eq!(offsets(&take(&mut consumer, 2).0, 0), [2, 3]);
}

#[test]
fn an_answer_that_does_not_begin_where_one_is_wanted_is_not_taken() {
    let shared = Shared::new(ConsumerConfig::new(["127.0.0.1:1"]));
    let queue = shared.add_queue();
    shared.start(tp(0), None, Some(StartAt::Offset(Offset(5))), queue);
    let positions = shared.all_positions().remove(0).0;
    let push = |from: i64, count: usize| {
        let next_offset = Offset(from + count as i64);
        shared.push_answer(Answer {
            positions: Arc::clone(&positions),
            from: Offset(from),
            next_offset,
            chunks: vec![batch_at(from, count, "v")],
            high_watermark: next_offset,
            log_start: Offset(0),
        })
    };
    let taken = [push(4, 2), push(6, 2), push(5, 2), push(5, 2), push(9, 2), push(7, 2)];
    assert_eq!(taken, [false, false, true, false, false, true]);
}

#[test]
fn a_leader_that_lacks_the_newest_records_of_an_epoch_is_a_truncation() {
    let cluster = FakeCluster::start(&[1, 2]);
    cluster.create("t", &[1]);
    (0..2).for_each(|_| _ = cluster.append("t", 0, 4, "x"));
    let mut consumer = consumer(&cluster, |_| {});
    consumer.assign([(tp(0), StartAt::Offset(Offset(0)))]).unwrap();
    take(&mut consumer, 8);
    cluster.change("t", 0, |p| {
        p.log.truncate(1);
        p.led_by(2);
        p.log.push(in_epoch(&batch_at(4, 6, "new"), 1));
    });
    let told = event(&mut consumer, |event| matches!(event, Event::LogTruncated { .. }));
    let Event::LogTruncated { position, safe_offset, .. } = told else { panic!("{told:?}") };
    assert_eq!((position, safe_offset), (Offset(8), Offset(4)));
    assert_eq!(offsets(&take(&mut consumer, 6).0, 0), (4..10).collect::<Vec<_>>());
}

#[test]
fn leaders_move_under_load_pushed_or_not() {
    for pushed in [true, false] {
        let cluster = FakeCluster::start(&[1, 2, 3]);
        if !pushed {
            cluster.push_nothing();
        }
        cluster.create("t", &[1, 2, 3, 1]);
        let mut consumer = consumer(&cluster, |c| c.max_partition_fetch_bytes = 1024);
        consumer.assign((0..4).map(|p| (tp(p), StartAt::Beginning))).unwrap();
        let mut rng = fastrand::Rng::with_seed(7);
        let (mut seen, mut events) = ([0; 4], Vec::new());
        for _ in 0..60 {
            for partition in 0..4 {
                cluster.append("t", partition, 4, "v");
            }
            let moved = rng.usize(..4);
            cluster.change("t", moved, |p| p.led_by(rng.i32(1..4)));
            if rng.u32(..20) == 0 {
                let broker = rng.i32(1..4);
                cluster.kill_broker(broker);
                cluster.start_broker(broker);
            }
            let polled = consumer.poll(Duration::from_millis(5)).unwrap();
            check_run(&polled.items, &mut seen);
            events.extend(polled.events);
        }
        eventually("everything", || {
            let polled = consumer.poll(SOON).unwrap();
            check_run(&polled.items, &mut seen);
            events.extend(polled.events);
            seen == [240; 4]
        });
        assert_eq!(surprises(events), []);
        assert_eq!(consumer.control().stats().metadata_pushes > 0, pushed);
    }
}

/// Each partition's records follow one another without a gap.
fn check_run(records: &[Record], seen: &mut [i64; 4]) {
    for record in records {
        let next = &mut seen[record.partition as usize];
        assert_eq!(record.offset.0, *next, "partition {}", record.partition);
        *next += 1;
    }
}

/// Offsets 0..4 in epoch 0, 4..8 in epoch 2; the log at the end of them parts from what was read.
fn truncated(reset: OffsetReset) -> (FakeCluster, Consumer) {
    let cluster = FakeCluster::start(&[1, 2]);
    cluster.create("t", &[1]);
    cluster.append("t", 0, 4, "old");
    cluster.change("t", 0, |p| p.epoch = 2);
    cluster.append("t", 0, 4, "lost");
    let mut consumer = consumer(&cluster, |c| c.auto_offset_reset = reset);
    consumer.assign([(tp(0), StartAt::Offset(Offset(0)))]).unwrap();
    take(&mut consumer, 8);
    cluster.change("t", 0, |p| {
        p.log.truncate(1);
        // Epoch 0 went on at the new leader, which had not heard of epoch 2.
        p.log.push(in_epoch(&batch_at(4, 2, "else"), 0));
        p.led_by(2);
        p.log.push(in_epoch(&batch_at(6, 5, "new"), 3));
    });
    (cluster, consumer)
}

#[test]
fn a_log_that_was_truncated_is_told_and_read_from_where_it_parts() {
    let (cluster, mut consumer) = truncated(OffsetReset::Latest);
    let told = event(&mut consumer, |event| matches!(event, Event::LogTruncated { .. }));
    // Not at 6, where the leader's epoch 0 ends: what lies between was never read.
    let expected = Event::LogTruncated {
        partition: tp(0),
        position: Offset(8),
        safe_offset: Offset(4),
        resume_at: Some(Offset(4)),
    };
    assert_eq!(told, expected);
    let (records, events) = take(&mut consumer, 7);
    assert_eq!(offsets(&records, 0), (4..11).collect::<Vec<_>>());
    assert_eq!((records[0].payload(), records[2].payload()), (&b"else"[..], &b"new"[..]));
    assert_eq!(surprises(events), []);
    // Began without an epoch to tell; met the new leader with 2; went on where both had epoch 0.
    let told = last_epochs(&cluster, 0);
    assert_eq!((told.first(), told.last()), (Some(&None), Some(&Some(0))));
    assert!(told.contains(&Some(2)));
}

/// Waits until the fetcher has found that the log of broker 2 parts from what was fetched.
fn until_parted(shared: &Shared) {
    let two = BrokerId(2);
    eventually("the parting", || {
        shared.leaders().contains(&two) && shared.wants(two).list.is_empty()
    });
}

/// As `truncated`, where all 8 records were fetched and nothing was handed out; then `read` reads, and the
/// logs part.
fn truncated_ahead(shared: &Shared, cluster: &FakeCluster, read: impl FnOnce()) {
    let fetched = |shared: &Shared| shared.wants(BrokerId(1)).list.first().map(|want| want.offset);
    eventually("everything", || fetched(shared) == Some(Offset(8)));
    read();
    cluster.change("t", 0, |p| {
        p.log.truncate(1);
        p.log.push(in_epoch(&batch_at(4, 2, "else"), 0));
        p.led_by(2);
        p.log.push(in_epoch(&batch_at(6, 5, "new"), 3));
    });
    until_parted(shared);
}

/// Four records in epoch 0, four in epoch 2, which another leader never had.
fn eight() -> FakeCluster {
    let cluster = FakeCluster::start(&[1, 2]);
    cluster.create("t", &[1]);
    cluster.append("t", 0, 4, "old");
    cluster.change("t", 0, |p| p.epoch = 2);
    cluster.append("t", 0, 4, "lost");
    cluster
}

fn payloads(records: &[Record]) -> Vec<(i64, String)> {
    let text = |record: &Record| String::from_utf8_lossy(record.payload()).into_owned();
    records.iter().map(|record| (record.offset.0, text(record))).collect()
}

/// What the new leader has from `first` on.
fn new_history(first: i64) -> Vec<(i64, String)> {
    let value = |offset| match offset {
        ..4 => "old",
        4 | 5 => "else",
        _ => "new",
    };
    (first..11).map(|offset| (offset, value(offset).to_owned())).collect()
}

#[test]
fn what_was_fetched_ahead_of_a_lost_branch_is_dropped_and_no_loss_where_nothing_was_handed_out() {
    for reset in [OffsetReset::Latest, OffsetReset::None] {
        let cluster = eight();
        let mut consumer = consumer(&cluster, |c| {
            (c.auto_offset_reset, c.max_poll_records) = (reset, 3);
        });
        consumer.assign([(tp(0), StartAt::Offset(Offset(0)))]).unwrap();
        let control = consumer.control();
        truncated_ahead(&control.shared, &cluster, || {
            assert_eq!(offsets(&take(&mut consumer, 3).0, 0), [0, 1, 2]);
        });
        let (records, events) = take(&mut consumer, 8);
        assert_eq!(payloads(&records), new_history(3));
        assert_eq!(surprises(events), []);
    }
}

#[test]
fn what_was_fetched_ahead_of_a_lost_branch_is_dropped_before_the_truncation_is_told() {
    for reset in [OffsetReset::Latest, OffsetReset::None] {
        let cluster = eight();
        let mut consumer = consumer(&cluster, |c| {
            (c.auto_offset_reset, c.max_poll_records) = (reset, 6);
        });
        consumer.assign([(tp(0), StartAt::Offset(Offset(0)))]).unwrap();
        let control = consumer.control();
        truncated_ahead(&control.shared, &cluster, || {
            assert_eq!(offsets(&take(&mut consumer, 6).0, 0), [0, 1, 2, 3, 4, 5]);
        });
        assert_eq!(control.position(&tp(0)).unwrap(), Some(Offset(6)));
        if reset == OffsetReset::None {
            let mut failure = None;
            eventually("a failure", || {
                failure = consumer.poll(SOON).err();
                failure.is_some()
            });
            let Some(ConsumerError::LogTruncated { position, safe_offset, .. }) = failure else {
                panic!("{failure:?}");
            };
            assert_eq!((position, safe_offset), (Offset(6), Offset(4)));
            continue;
        }
        let told = event(&mut consumer, |event| matches!(event, Event::LogTruncated { .. }));
        let expected = Event::LogTruncated {
            partition: tp(0),
            position: Offset(6),
            safe_offset: Offset(4),
            resume_at: Some(Offset(4)),
        };
        assert_eq!(told, expected);
        let (first, _) = take(&mut consumer, 6);
        let (rest, _) = take(&mut consumer, 1);
        assert_eq!(payloads(&[first, rest].concat()), new_history(4));
        // What is known of epochs before the cut was not lost with it.
        let epoch = |offset| control.shared.epoch_before(&tp(0), Offset(offset));
        assert_eq!((epoch(6), epoch(7)), (LeaderEpoch(0), LeaderEpoch(3)));
    }
}

#[test]
fn a_stream_hands_out_nothing_of_a_lost_branch_once_it_is_known() {
    let cluster = eight();
    let consumer = consumer(&cluster, |_| {});
    let shared = Arc::clone(&consumer.control().shared);
    let queue = shared.add_queue();
    let mut stream = MessageStream::new(Arc::clone(&shared), queue);
    shared.start(tp(0), None, Some(StartAt::Offset(Offset(0))), queue);
    let mut next = |count: usize| -> Vec<Record> {
        (0..count).map(|_| stream.next_within(Duration::from_secs(20)).unwrap()).collect()
    };
    truncated_ahead(&shared, &cluster, || {
        assert_eq!(offsets(&next(6), 0), [0, 1, 2, 3, 4, 5]);
    });
    assert_eq!(payloads(&next(7)), new_history(4));
    let told = shared.take_events().into_iter().find_map(|event| match event {
        Event::LogTruncated { position, safe_offset, .. } => Some((position.0, safe_offset.0)),
        _ => None,
    });
    assert_eq!(told, Some((6, 4)));
}

#[test]
fn without_a_reset_policy_a_truncated_log_stops_the_partition_alone() {
    let (_cluster, mut consumer) = truncated(OffsetReset::None);
    let mut failure = None;
    eventually("a failure", || {
        failure = consumer.poll(SOON).err();
        failure.is_some()
    });
    let Some(ConsumerError::LogTruncated { position, safe_offset, .. }) = failure else {
        panic!("{failure:?}");
    };
    assert_eq!((position, safe_offset), (Offset(8), Offset(4)));
    assert!(consumer.poll(SOON).unwrap().items.is_empty());
    consumer.control().seek(&tp(0), Offset(4)).unwrap();
    assert_eq!(offsets(&take(&mut consumer, 7).0, 0), (4..11).collect::<Vec<_>>());
}

#[test]
fn a_leader_change_without_loss_is_no_truncation() {
    let cluster = FakeCluster::start(&[1, 2]);
    cluster.create("t", &[1]);
    cluster.append("t", 0, 4, "x");
    let mut consumer = consumer(&cluster, |_| {});
    consumer.assign([(tp(0), StartAt::Beginning)]).unwrap();
    take(&mut consumer, 4);
    cluster.change("t", 0, |p| p.led_by(2));
    cluster.append("t", 0, 4, "y");
    assert_eq!(offsets(&take(&mut consumer, 4).0, 0), [4, 5, 6, 7]);
    assert_eq!(last_epochs(&cluster, 0).last(), Some(&Some(0)));
    cluster.change("t", 0, |p| p.led_by(1));
    cluster.append("t", 0, 1, "z");
    assert_eq!(surprises(take(&mut consumer, 1).1), []);
    assert_eq!(last_epochs(&cluster, 0).last(), Some(&Some(1)));
}

#[test]
fn a_high_watermark_that_is_not_known_yet_is_waited_for() {
    let cluster = FakeCluster::start(&[1]);
    cluster.create("t", &[1, 1]);
    cluster.append("t", 0, 4, "x");
    cluster.append("t", 1, 4, "y");
    cluster.change("t", 0, |p| p.not_available = true);
    let mut consumer = consumer(&cluster, |_| {});
    consumer.assign([(tp(0), StartAt::End), (tp(1), StartAt::Beginning)]).unwrap();
    assert_eq!(offsets(&take(&mut consumer, 4).0, 1), [0, 1, 2, 3]);
    cluster.change("t", 0, |p| p.not_available = false);
    let control = consumer.control();
    eventually("the end", || control.position(&tp(0)).unwrap() == Some(Offset(4)));
    cluster.append("t", 0, 1, "z");
    assert_eq!(offsets(&take(&mut consumer, 1).0, 0), [4]);
}

#[test]
fn a_leader_that_never_answers_holds_up_its_own_partitions_only() {
    let cluster = FakeCluster::start(&[1, 2, 3]);
    cluster.create("t", &[1, 2, 2]);
    (0..3).for_each(|p| _ = cluster.append("t", p, 4, "x"));
    let mut consumer = consumer(&cluster, |_| {});
    consumer.assign((0..2).map(|p| (tp(p), StartAt::Beginning))).unwrap();
    take(&mut consumer, 8);
    cluster.silence(1, true);
    let silent_since = Instant::now();
    cluster.append("t", 1, 4, "x");
    assert_eq!(offsets(&take(&mut consumer, 4).0, 1), [4, 5, 6, 7]);
    // Another leads, and that is heard although the silent one still holds its stream.
    cluster.change("t", 0, |p| p.led_by(3));
    cluster.append("t", 0, 4, "x");
    assert_eq!(offsets(&take(&mut consumer, 4).0, 0), [4, 5, 6, 7]);
    assert!(silent_since.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_committed_epoch_is_told_with_the_first_request() {
    let cluster = FakeCluster::start(&[1]);
    cluster.create("t", &[1]);
    cluster.change("t", 0, |p| p.epoch = 3);
    cluster.append("t", 0, 4, "x");
    let consumer = consumer(&cluster, |_| {});
    let shared = Arc::clone(&consumer.control().shared);
    let queue = shared.add_queue();
    let at = Some(StartAt::Offset(Offset(2)));
    shared.start_after(tp(0), None, at, LeaderEpoch(3), queue);
    let mut told = Vec::new();
    eventually("an add", || {
        told.extend(last_epochs(&cluster, 0));
        !told.is_empty()
    });
    assert_eq!(told, [Some(3)]);
    assert_eq!(shared.epoch_before(&tp(0), Offset(2)), LeaderEpoch(3));
    eventually("a fetch", || shared.epoch_before(&tp(0), Offset(4)) == LeaderEpoch(3));
}
