//! Disks that fail or forget under running brokers: others lead then, and nothing acknowledged is
//! lost.

use proto::Offset;
use proto::record::{Batches, HEADER_LEN, ProducerStamp};

use super::in_process::{DIRS, InProcess, eventually};
use crate::storage::{Cursor, DeleteUpTo, ReadLimits, Wait};

const TOPIC: &str = "t";

/// Every record of a replica, read anew, with each batch's checksum checked; `None` where that
/// cannot be done.
fn records(cluster: &InProcess, member: usize, number: i32) -> Option<i64> {
    let replica = cluster.replica(member, TOPIC, number)?;
    let (mut cursor, mut records) = (Cursor::at(Offset(0)), 0);
    loop {
        let upto = replica.log().log_end();
        let limits = ReadLimits { max_bytes: 1 << 20, upto, first_batch_whole: true };
        let slice = replica.log().read(cursor, limits, Wait::Allowed).ok()?;
        if slice.is_empty() {
            return Some(records);
        }
        for batch in Batches::new(slice.bytes()) {
            records += i64::from(batch.ok()?.header().record_count);
        }
        cursor = slice.next();
    }
}

#[test]
fn a_failed_disk_costs_its_brokers_part_of_its_partitions_and_nothing_else() {
    const PARTITIONS: i32 = 4;
    let cluster = InProcess::start(2, &[("log.flush.policy", "before-ack")]);
    cluster.create(TOPIC, PARTITIONS);
    for number in 0..PARTITIONS {
        cluster.append(TOPIC, number, 3);
    }

    let victim = &cluster.members[0];
    let is_on_failed = |number: i32| {
        let replica = cluster.replica(0, TOPIC, number).unwrap();
        replica.log().folder().starts_with(DIRS[0])
    };
    let (failed, well): (Vec<i32>, Vec<i32>) = (0..PARTITIONS).partition(|n| is_on_failed(*n));
    assert_eq!((failed.len(), well.len()), (2, 2), "both disks are in use");
    let was_led: Vec<i32> =
        failed.iter().copied().filter(|n| cluster.leader(TOPIC, *n) == Some(0)).collect();
    let led_elsewhere: Vec<_> = well.iter().map(|n| cluster.leader(TOPIC, *n)).collect();

    victim.disk.set_faults(|faults| faults.dead = Some(DIRS[0].into()));
    for &number in &failed {
        // Acknowledged by the other broker alone, once this one is out of the ISR.
        let appended = cluster.append(TOPIC, number, 2);
        assert_eq!(appended.base_offset, Offset(3), "nothing acknowledged was lost");
        assert_eq!(cluster.in_sync(TOPIC, number, 1), 1);
        eventually("the replica is offline", || {
            cluster.replica(0, TOPIC, number)?.log().offline().map(drop)
        });
    }
    assert!(!was_led.is_empty() || failed.iter().all(|n| cluster.leader(TOPIC, *n) == Some(1)));
    for (&number, leader) in well.iter().zip(led_elsewhere) {
        cluster.append(TOPIC, number, 2);
        assert_eq!(cluster.leader(TOPIC, number), leader, "the other disk's go on as they were");
        assert_eq!(cluster.in_sync(TOPIC, number, 2), leader.unwrap());
        assert!(cluster.replica(0, TOPIC, number).unwrap().log().offline().is_none());
    }
    eventually("the directory is given up", || {
        let usable = victim.partitions.logs().usable_dirs();
        (usable == [std::path::PathBuf::from(DIRS[1])]).then_some(())
    });
    assert!(cluster.members[1].partitions.offline().is_empty());
}

/// Turns bits over in the batch of one record at this offset, behind everybody's back.
fn damage(cluster: &InProcess, member: usize, offset: usize, records: usize) {
    let replica = cluster.replica(member, TOPIC, 0).unwrap();
    let path = replica.log().folder().join("00000000000000000000.log");
    cluster.members[member].disk.damage(&path, |bytes| {
        let len = bytes.len() / records;
        bytes[offset * len + HEADER_LEN + 20] ^= 0x55;
    });
}

#[test]
fn a_leader_whose_follower_meets_damage_hands_over_and_all_of_it_comes_back() {
    const RECORDS: usize = 20;
    let cluster = InProcess::start(3, &[("min.insync.replicas", "1")]);
    cluster.create(TOPIC, 1);
    for _ in 0..RECORDS {
        cluster.append(TOPIC, 0, 1);
    }
    let leader = cluster.in_sync(TOPIC, 0, 3);
    let [behind, well] = [1, 2].map(|n| (leader + n) % 3);
    eventually("everything everywhere", || {
        (0..3).all(|n| records(&cluster, n, 0) == Some(RECORDS as i64)).then_some(())
    });

    // The leader does not know, and the first batches that its follower needs are well.
    damage(&cluster, leader, 12, RECORDS);
    damage(&cluster, behind, 5, RECORDS);
    let found = cluster.replica(behind, TOPIC, 0).unwrap().log().verify(Offset(5));
    assert!(found.is_err());
    eventually("another leader", || (cluster.leader(TOPIC, 0)? == well).then_some(()));
    cluster.append(TOPIC, 0, 1);
    assert_eq!(cluster.in_sync(TOPIC, 0, 3), well);
    for member in 0..3 {
        eventually("all records", || {
            let is_whole = cluster.replica(member, TOPIC, 0)?.log().damaged().is_empty();
            (is_whole && records(&cluster, member, 0) == Some(RECORDS as i64 + 1)).then_some(())
        });
    }
}

#[test]
fn a_replica_that_began_above_deleted_records_knows_their_producers_when_it_leads() {
    let mut cluster = InProcess::start(2, &[]);
    cluster.create(TOPIC, 1);
    let send = |cluster: &InProcess, base_sequence| {
        let stamp = ProducerStamp { id: 9, epoch: 0, base_sequence };
        cluster.append_stamped(TOPIC, 0, 1, stamp)
    };
    (0..5).for_each(|sequence| assert!(!send(&cluster, sequence).duplicate));
    let leader = cluster.in_sync(TOPIC, 0, 2);
    let led = cluster.replica(leader, TOPIC, 0).unwrap();
    assert_eq!(led.log().delete_records(DeleteUpTo::HighWatermark).unwrap(), Offset(5));
    let other = cluster.replica(1 - leader, TOPIC, 0).unwrap();
    other.restart_as_follower(led.leading().unwrap(), Offset(0)).unwrap();
    // What comes does not follow its log, so that it looks where the leader's begins.
    cluster.append(TOPIC, 0, 1);
    cluster.in_sync(TOPIC, 0, 2);
    assert_eq!((other.log().log_start(), other.log().log_end()), (Offset(5), Offset(6)));

    drop((led, cluster.members.remove(leader)));
    let retried = send(&cluster, 4);
    assert!(retried.duplicate && retried.base_offset == Offset(4));
    let next = send(&cluster, 5);
    assert!(!next.duplicate && next.base_offset == Offset(6));
}
