//! Batches that do not hold: fetched again, checked by the broker, then stopped at or stepped over.

use super::*;
use crate::OnDamage;
use crate::testing::fake_broker::Garbled;

/// Three good batches of three records, the middle one bad on the disk.
fn damaged_cluster() -> FakeCluster {
    let cluster = FakeCluster::start(&[1]);
    cluster.create("t", &[1, 1]);
    for value in ["good", "bad", "good"] {
        cluster.append("t", 0, 3, value);
    }
    cluster.append("t", 1, 4, "other");
    cluster.change("t", 0, |p| {
        let mut broken = p.log[1].to_vec();
        *broken.last_mut().unwrap() ^= 1;
        p.log[1] = broken.into();
    });
    cluster
}

fn verified(cluster: &FakeCluster) -> u64 {
    let mut count = 0;
    cluster.change("t", 0, |p| count = p.verified.load(Ordering::SeqCst));
    count
}

#[test]
fn stop_fails_the_poll_once_and_other_partitions_go_on_until_a_seek() {
    let cluster = damaged_cluster();
    let mut consumer = consumer(&cluster, |_| {});
    consumer.assign([(tp(0), StartAt::Beginning)]).unwrap();
    take(&mut consumer, 3);
    let (offset, resume_at, why) = failure(&mut consumer);
    assert_eq!((offset, resume_at), (Offset(3), Some(Offset(6))));
    assert!(why.contains("on the disk"), "{why}");
    assert_eq!(verified(&cluster), 1);
    assert_eq!(consumer.control().position(&tp(0)).unwrap(), Some(Offset(3)));
    consumer.assign_also([(tp(1), StartAt::Beginning)]).unwrap();
    assert_eq!(offsets(&take(&mut consumer, 4).0, 1), [0, 1, 2, 3]);
    consumer.control().seek(&tp(0), resume_at.unwrap()).unwrap();
    assert_eq!(offsets(&take(&mut consumer, 3).0, 0), [6, 7, 8]);
}

#[test]
fn skip_tells_and_goes_on_behind_it_in_records_and_in_batches() {
    let cluster = damaged_cluster();
    for whole in [false, true] {
        let mut consumer = consumer(&cluster, |c| c.on_damage = OnDamage::Skip);
        consumer.assign([(tp(0), StartAt::Beginning)]).unwrap();
        let (mut seen, mut events) = (Vec::new(), Vec::new());
        eventually("all", || {
            if whole {
                let polled = consumer.poll_batches(SOON).unwrap();
                let records = polled.items.iter().flat_map(|batch| batch.records());
                seen.extend(records.map(|record| record.unwrap().offset.0));
                events.extend(polled.events);
            } else {
                let polled = consumer.poll(SOON).unwrap();
                seen.extend(offsets(&polled.items, 0));
                events.extend(polled.events);
            }
            seen.len() >= 6
        });
        assert_eq!(seen, [0, 1, 2, 6, 7, 8]);
        let [Event::Damaged { offset, resume_at, skipped, .. }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!((*offset, *resume_at, *skipped), (Offset(3), Some(Offset(6)), true));
        assert_eq!(consumer.control().position(&tp(0)).unwrap(), Some(Offset(9)));
    }
}

#[test]
fn what_the_wire_did_is_fetched_again_and_nobody_hears_of_it() {
    let cluster = FakeCluster::start(&[1]);
    cluster.create("t", &[1]);
    for _ in 0..5 {
        cluster.append("t", 0, 3, "good");
    }
    for (garbled, checks) in [(1, 0), (2, 1)] {
        cluster.change("t", 0, |p| {
            *p.garbled.lock() = Garbled::next(garbled);
            p.verified.store(0, Ordering::SeqCst);
        });
        let mut consumer = consumer(&cluster, |_| {});
        consumer.assign([(tp(0), StartAt::Beginning)]).unwrap();
        let (records, events) = take(&mut consumer, 15);
        assert_eq!(offsets(&records, 0), (0..15).collect::<Vec<_>>());
        assert!(events.is_empty() && verified(&cluster) == checks, "{events:?}");
    }
}

#[test]
fn a_batch_out_of_place_is_damage_like_any_other() {
    let cluster = FakeCluster::start(&[1]);
    cluster.create("t", &[1]);
    for _ in 0..3 {
        cluster.append("t", 0, 3, "good");
    }
    // Outside the checksum: the broker of this test finds nothing wrong.
    cluster.change("t", 0, |p| {
        let mut moved = p.log[1].to_vec();
        moved[7] = 4;
        p.log[1] = moved.into();
    });
    let mut consumer = consumer(&cluster, |c| c.on_damage = OnDamage::Skip);
    consumer.assign([(tp(0), StartAt::Beginning)]).unwrap();
    take(&mut consumer, 3);
    let (offset, resume_at, why) = failure(&mut consumer);
    assert_eq!((offset, resume_at), (Offset(3), None), "where it ends is not known");
    assert!(why.contains("is to follow"), "{why}");
}

#[test]
fn skip_steps_over_what_does_not_decompress() {
    let cluster = FakeCluster::start(&[1]);
    cluster.create("t", &[1]);
    let push = |codec, value: &str| {
        cluster.change("t", 0, |p| p.log.push(compressed_batch_at(codec, p.end(), 10, value)));
    };
    push(Compression::Lz4, "good");
    push(Compression::Zstd, &"0".repeat(500));
    push(Compression::Gzip, "good");
    let mut consumer = consumer(&cluster, |c| {
        c.on_damage = OnDamage::Skip;
        c.batch_decompressed_max_bytes = 2000;
    });
    consumer.assign([(tp(0), StartAt::Beginning)]).unwrap();
    let (records, events) = take(&mut consumer, 20);
    assert_eq!(offsets(&records, 0), (0..10).chain(20..30).collect::<Vec<_>>());
    let resume_at = Some(Offset(20));
    assert!(
        matches!(&events[..], [Event::Damaged { resume_at: at, skipped: true, .. }] if *at == resume_at),
        "{events:?}"
    );
    assert_eq!(verified(&cluster), 0, "its checksum holds");
}
