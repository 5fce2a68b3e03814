//! Consumers by explicit assignment over fake brokers on real sockets.

mod damage;
mod leaders;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use proto::record::{BatchHeader, Compression};
use proto::{Offset, TopicPartition};

use crate::testing::fake_broker::FakeCluster;
use crate::testing::{compressed_batch_at, eventually};
use crate::{Consumer, ConsumerConfig, ConsumerError, Event, OffsetReset, Record, StartAt};

const SOON: Duration = Duration::from_millis(50);

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn consumer(cluster: &FakeCluster, change: impl FnOnce(&mut ConsumerConfig)) -> Consumer {
    let mut config = ConsumerConfig::new(cluster.addresses());
    config.retry_backoff = Duration::from_millis(10);
    config.retry_backoff_max = Duration::from_millis(50);
    config.stall_report = Duration::from_millis(100);
    config.fetch_max_wait = Duration::from_millis(200);
    change(&mut config);
    Consumer::new(config).unwrap()
}

fn take(consumer: &mut Consumer, count: usize) -> (Vec<Record>, Vec<Event>) {
    let (mut records, mut events) = (Vec::new(), Vec::new());
    eventually(&format!("{count} records"), || {
        let polled = consumer.poll(SOON).unwrap();
        records.extend(polled.items);
        events.extend(polled.events);
        records.len() >= count
    });
    assert_eq!(records.len(), count, "{events:?}");
    (records, events)
}

fn event(consumer: &mut Consumer, wanted: impl Fn(&Event) -> bool) -> Event {
    let mut found = None;
    eventually("an event", || {
        let polled = consumer.poll(SOON).unwrap();
        assert!(polled.items.is_empty(), "{:?}", polled.items);
        found = polled.events.into_iter().find(&wanted);
        found.is_some()
    });
    found.unwrap()
}

/// What a stopped poll names: the first offset, the one to go on at, and why.
fn failure(consumer: &mut Consumer) -> (Offset, Option<Offset>, String) {
    let mut found = None;
    eventually("a failure", || {
        match consumer.poll(SOON) {
            Ok(polled) => assert!(polled.items.is_empty(), "{:?}", polled.items),
            Err(ConsumerError::Damaged { offset, resume_at, why, .. }) => {
                found = Some((offset, resume_at, why));
            }
            Err(error) => panic!("{error}"),
        }
        found.is_some()
    });
    found.unwrap()
}

fn offsets(records: &[Record], partition: i32) -> Vec<i64> {
    records.iter().filter(|r| r.partition == partition).map(|r| r.offset.0).collect()
}

#[test]
fn reads_all_in_order_and_goes_on_with_what_comes() {
    let cluster = FakeCluster::start(&[1, 2]);
    cluster.create("t", &[1, 2]);
    for _ in 0..20 {
        cluster.append("t", 0, 7, "x");
        cluster.append("t", 1, 5, "y");
    }
    let mut consumer = consumer(&cluster, |c| c.max_partition_fetch_bytes = 1024);
    consumer.assign([(tp(0), StartAt::Beginning), (tp(1), StartAt::Offset(Offset(3)))]).unwrap();
    let (records, _) = take(&mut consumer, 140 + 97);
    assert_eq!(offsets(&records, 0), (0..140).collect::<Vec<_>>());
    assert_eq!(offsets(&records, 1), (3..100).collect::<Vec<_>>());
    assert!(records.iter().all(|r| r.payload() == [b"x", b"y"][r.partition as usize]));
    let control = consumer.control();
    assert_eq!(control.position(&tp(0)).unwrap(), Some(Offset(140)));
    assert_eq!(control.high_watermark(&tp(1)), Some(Offset(100)));
    cluster.append("t", 1, 2, "z");
    assert_eq!(offsets(&take(&mut consumer, 2).0, 1), [100, 101]);
    consumer.close().unwrap();
}

#[test]
fn seeks_by_offset_time_and_end_and_pauses() {
    let cluster = FakeCluster::start(&[1]);
    cluster.create("t", &[1]);
    cluster.append("t", 0, 50, "x");
    let mut consumer = consumer(&cluster, |c| c.max_poll_records = 10);
    let control = consumer.control();
    assert!(control.seek(&tp(0), Offset(1)).is_err());
    consumer.assign([(tp(0), StartAt::Time(1040))]).unwrap();
    assert_eq!(offsets(&take(&mut consumer, 10).0, 0), (40..50).collect::<Vec<_>>());
    control.seek(&tp(0), Offset(20)).unwrap();
    assert_eq!(offsets(&consumer_poll(&mut consumer), 0), (20..30).collect::<Vec<_>>());
    control.pause(&[tp(0)]).unwrap();
    assert!(consumer.poll(SOON).unwrap().is_empty());
    control.resume(&[tp(0)]).unwrap();
    assert_eq!(offsets(&take(&mut consumer, 20).0, 0), (30..50).collect::<Vec<_>>());
    control.seek_to_end(&tp(0)).unwrap();
    eventually("the end", || control.position(&tp(0)).unwrap() == Some(Offset(50)));
    control.seek_to_beginning(&tp(0)).unwrap();
    assert_eq!(offsets(&take(&mut consumer, 50).0, 0), (0..50).collect::<Vec<_>>());
    assert_eq!(control.end_offsets(&[tp(0)]).unwrap()[&tp(0)], Offset(50));
    assert_eq!(control.offsets_for_time(&[tp(0)], 1007).unwrap()[&tp(0)], Some(Offset(7)));
    assert_eq!(control.offsets_for_time(&[tp(0)], 9999).unwrap()[&tp(0)], None);
    assert_eq!(control.partitions_for("t").unwrap(), [tp(0)]);
}

fn consumer_poll(consumer: &mut Consumer) -> Vec<Record> {
    let mut records = Vec::new();
    eventually("records", || {
        records = consumer.poll(SOON).unwrap().items;
        !records.is_empty()
    });
    records
}

#[test]
fn an_offset_out_of_range_is_an_event_between_the_records() {
    let cluster = FakeCluster::start(&[1]);
    cluster.create("t", &[1]);
    cluster.append("t", 0, 5, "x");
    let mut consumer = consumer(&cluster, |c| c.auto_offset_reset = OffsetReset::Earliest);
    consumer.assign([(tp(0), StartAt::Offset(Offset(99)))]).unwrap();
    let (records, events) = take(&mut consumer, 5);
    assert_eq!(offsets(&records, 0), [0, 1, 2, 3, 4]);
    let (wanted, resume_at) = (Offset(99), Some(Offset(0)));
    let (log_start, high_watermark) = (Offset(0), Offset(5));
    assert_eq!(
        events,
        [Event::OutOfRange { partition: tp(0), wanted, log_start, high_watermark, resume_at }]
    );
}

#[test]
fn without_a_reset_policy_an_offset_out_of_range_waits_for_a_seek() {
    let cluster = FakeCluster::start(&[1]);
    cluster.create("t", &[1]);
    cluster.append("t", 0, 5, "x");
    let mut consumer = consumer(&cluster, |c| c.auto_offset_reset = OffsetReset::None);
    consumer.assign([(tp(0), StartAt::Offset(Offset(99)))]).unwrap();
    event(&mut consumer, |e| matches!(e, Event::OutOfRange { resume_at: None, .. }));
    assert!(consumer.poll(SOON).unwrap().is_empty());
    consumer.control().seek(&tp(0), Offset(3)).unwrap();
    assert_eq!(offsets(&take(&mut consumer, 2).0, 0), [3, 4]);
}

#[test]
fn goes_on_where_it_was_when_its_broker_comes_back() {
    let cluster = FakeCluster::start(&[1]);
    cluster.create("t", &[1]);
    cluster.append("t", 0, 5, "x");
    let mut consumer = consumer(&cluster, |_| {});
    consumer.assign([(tp(0), StartAt::Beginning)]).unwrap();
    take(&mut consumer, 5);
    cluster.kill_broker(1);
    event(&mut consumer, |e| matches!(e, Event::Stalled { .. }));
    cluster.start_broker(1);
    cluster.append("t", 0, 3, "x");
    let (records, events) = take(&mut consumer, 3);
    assert_eq!(offsets(&records, 0), [5, 6, 7]);
    assert!(events.contains(&Event::Resumed { partition: tp(0) }), "{events:?}");
}

#[test]
fn follows_the_leader() {
    let cluster = FakeCluster::start(&[1, 2]);
    cluster.create("t", &[1]);
    cluster.append("t", 0, 5, "x");
    let mut consumer = consumer(&cluster, |_| {});
    consumer.assign([(tp(0), StartAt::Beginning)]).unwrap();
    take(&mut consumer, 5);
    for leader in [2, 1, 2] {
        cluster.change("t", 0, |p| {
            p.leader = leader;
            p.epoch += 1;
        });
        let end = cluster.append("t", 0, 1, "x");
        let moved = Instant::now();
        assert_eq!(offsets(&take(&mut consumer, 1).0, 0), [end - 1]);
        assert!(moved.elapsed() < Duration::from_secs(2), "{:?}", moved.elapsed());
    }
}

#[test]
fn a_broker_that_says_nothing_is_reported() {
    let cluster = FakeCluster::start(&[1]);
    cluster.create("t", &[1]);
    cluster.append("t", 0, 1, "x");
    let mut consumer = consumer(&cluster, |_| {});
    consumer.assign([(tp(0), StartAt::Beginning)]).unwrap();
    take(&mut consumer, 1);
    cluster.silence(1, true);
    let stalled = event(&mut consumer, |e| matches!(e, Event::Stalled { .. }));
    assert!(stalled.to_string().contains("has not answered"), "{stalled}");
    cluster.silence(1, false);
    event(&mut consumer, |e| matches!(e, Event::Resumed { .. }));
}

#[test]
fn a_deleted_topic_is_told_and_its_successor_begins_anew() {
    let cluster = FakeCluster::start(&[1]);
    cluster.create("t", &[1]);
    cluster.append("t", 0, 5, "old");
    let mut consumer = consumer(&cluster, |c| c.auto_offset_reset = OffsetReset::Earliest);
    consumer.assign([(tp(0), StartAt::Beginning)]).unwrap();
    take(&mut consumer, 5);
    cluster.delete("t");
    event(&mut consumer, |e| matches!(e, Event::TopicDeleted { .. }));
    let topic_id = cluster.create("t", &[1]);
    cluster.append("t", 0, 2, "new");
    let (records, events) = take(&mut consumer, 2);
    assert_eq!(offsets(&records, 0), [0, 1]);
    let recreated = Event::TopicRecreated { partition: tp(0), topic_id };
    assert!(events.contains(&recreated), "{events:?}");
}

#[test]
fn fetches_no_further_ahead_than_the_bound() {
    let cluster = FakeCluster::start(&[1]);
    cluster.create("t", &[1]);
    let value = "v".repeat(1000);
    for _ in 0..400 {
        cluster.append("t", 0, 10, &value);
    }
    let bound = 256 << 10;
    let mut consumer = consumer(&cluster, |c| {
        c.queued_max_bytes = bound;
        c.max_partition_fetch_bytes = 16 << 10;
    });
    consumer.assign([(tp(0), StartAt::Beginning)]).unwrap();
    let mut taken = 0;
    let mut records = 0;
    while records < 4000 {
        std::thread::park_timeout(Duration::from_millis(20));
        let ahead = cluster.bytes_sent.load(Ordering::SeqCst) - taken;
        assert!(ahead <= bound + (16 << 10), "{ahead} bytes ahead");
        for batch in consumer.poll_batches(SOON).unwrap().items {
            taken += batch.bytes().len() as u64;
            records += batch.records().count();
        }
    }
}

#[test]
fn a_missing_topic_is_taken_up_when_it_is_created() {
    let cluster = FakeCluster::start(&[1]);
    let mut consumer = consumer(&cluster, |_| {});
    consumer.assign([(tp(0), StartAt::Beginning)]).unwrap();
    event(&mut consumer, |e| matches!(e, Event::Stalled { .. }));
    cluster.create("t", &[1]);
    cluster.append("t", 0, 3, "x");
    take(&mut consumer, 3);
}

#[test]
fn a_closed_consumer_says_so() {
    let cluster = FakeCluster::start(&[1]);
    let mut consumer = consumer(&cluster, |_| {});
    let control = consumer.control();
    consumer.assign([]).unwrap();
    drop(consumer);
    assert!(matches!(control.topics(), Err(ConsumerError::Closed)));
}

#[test]
fn compressed_batches_read_like_plain_ones_and_a_bomb_like_damage() {
    let cluster = FakeCluster::start(&[1]);
    cluster.create("t", &[1, 1]);
    let push = |codec, value: &str| {
        cluster.change("t", 0, |p| {
            p.log.push(compressed_batch_at(codec, p.end(), 20, value));
        });
    };
    for codec in Compression::ALL {
        push(codec, "some value");
    }
    cluster.append("t", 1, 10, "y");
    let mut consumer = consumer(&cluster, |c| c.batch_decompressed_max_bytes = 2000);
    consumer.assign([(tp(0), StartAt::Offset(Offset(3))), (tp(1), StartAt::Beginning)]).unwrap();
    let (records, _) = take(&mut consumer, 97 + 10);
    assert_eq!(offsets(&records, 0), (3..100).collect::<Vec<_>>());
    let first = records.iter().filter(|r| r.partition == 0);
    for record in first.map(|r| r.clone().detach()) {
        assert_eq!(record.payload(), b"some value");
        assert_eq!(record.key.unwrap(), format!("k{}", record.offset));
    }
    // Whole batches as they were sent, their records borrowed.
    let control = consumer.control();
    control.seek(&tp(0), Offset(45)).unwrap();
    let mut seen = Vec::new();
    eventually("batches", || {
        for batch in consumer.poll_batches(SOON).unwrap().items {
            let header = BatchHeader::parse(batch.bytes()).unwrap();
            assert_eq!((header.size_in_bytes(), &header), (batch.bytes().len(), batch.header()));
            assert_ne!(header.attributes.compression(), Ok(Compression::None));
            seen.extend(batch.records().map(|r| r.unwrap().offset.0));
        }
        seen.len() == 55
    });
    assert_eq!(seen, (45..100).collect::<Vec<_>>());

    push(Compression::Zstd, &"0".repeat(500));
    let (offset, resume_at, why) = failure(&mut consumer);
    assert_eq!((offset, resume_at), (Offset(100), Some(Offset(120))));
    assert!(why.contains("zstd") && why.contains("2000 bytes"), "{why}");
    cluster.append("t", 1, 1, "y");
    assert_eq!(offsets(&take(&mut consumer, 1).0, 1), [10]);
    push(Compression::Lz4, "after");
    control.seek(&tp(0), Offset(120)).unwrap();
    assert_eq!(offsets(&take(&mut consumer, 20).0, 0), (120..140).collect::<Vec<_>>());
}
