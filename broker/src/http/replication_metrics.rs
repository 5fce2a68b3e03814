//! Replicas on the metrics page: of each partition led here in kafka_exporter's names, of the broker
//! in those that Kafka's JMX beans have with the usual exporter.

use super::metrics::Page;
use crate::replication::{PartitionSet, ReplicationView};

type BrokerMetric = (&'static str, &'static str, fn(&ReplicationView) -> bool);

const BROKER: &[BrokerMetric] = &[
    (
        "kafka_server_replicamanager_underreplicatedpartitions",
        "Partitions led here of which not all replicas are in sync.",
        ReplicationView::is_under_replicated,
    ),
    (
        "kafka_server_replicamanager_underminisrpartitioncount",
        "Partitions led here with fewer in-sync replicas than min.insync.replicas: acks=all fails.",
        |view| view.isr.len() < view.minimum,
    ),
    (
        "kafka_server_replicamanager_atminisrpartitioncount",
        "Partitions led here where one replica less in sync would make acks=all fail.",
        |view| view.isr.len() == view.minimum,
    ),
];

type PartitionMetric = (&'static str, &'static str, fn(&ReplicationView) -> i64);

const PARTITION: &[PartitionMetric] = &[
    ("kafka_topic_partition_replicas", "Replicas of a partition led here.", |view| {
        view.replicas.len() as i64
    }),
    ("kafka_topic_partition_in_sync_replica", "Those in sync, the leader among them.", |view| {
        view.isr.len() as i64
    }),
    (
        "kafka_topic_partition_under_replicated_partition",
        "1 where not all replicas are in sync.",
        |view| i64::from(view.is_under_replicated()),
    ),
    ("ottla_partition_purgatory_size", "Produce requests that wait for replicas.", |view| {
        view.waiting as i64
    }),
];

/// Adds them.
pub(super) fn render(page: &mut Page, partitions: &PartitionSet) {
    let mut led: Vec<_> = partitions
        .all()
        .into_iter()
        .filter_map(|partition| {
            let view = partition.replication()?;
            Some((partition.name().clone(), partition.log().log_end(), view))
        })
        .collect();
    led.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    for (name, help, holds) in BROKER {
        page.head(name, "gauge", help);
        let count = led.iter().filter(|(_, _, view)| holds(view)).count();
        page.line(name, "", count as i64);
    }
    for (name, help, value) in PARTITION {
        page.head(name, "gauge", help);
        for (of, _, view) in &led {
            let labels = format!("{{topic=\"{}\",partition=\"{}\"}}", of.topic, of.partition);
            page.line(name, &labels, value(view));
        }
    }
    let name = "ottla_partition_replica_lag";
    page.head(name, "gauge", "Records that a follower's log is behind, as its leader knows.");
    for (of, log_end, view) in &led {
        for (id, end) in &view.ends {
            let Some(end) = end else { continue };
            let labels = format!(
                "{{topic=\"{}\",partition=\"{}\",replica=\"{id}\"}}",
                of.topic, of.partition
            );
            page.line(name, &labels, (log_end.0 - end.0).max(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::record::ProducerStamp;
    use proto::{BrokerId, LeaderEpoch, Offset, TopicPartition};
    use uuid::Uuid;

    use crate::replication::Replica;
    use crate::replication::tests::rig::{ME, Rig, batch, eventually, job, led, topic_id};
    use crate::storage::LogConfig;

    /// The value of a line of the page, by its beginning.
    fn value(rig: &Rig, line: &str) -> Option<i64> {
        let page = crate::http::metrics::render(&rig.metrics, &rig.partitions, None);
        let rest = page.lines().find_map(|l| l.strip_prefix(line))?;
        Some(rest.trim().parse().unwrap())
    }

    #[test]
    fn the_page_shows_how_replicas_leave_and_come_and_lag() {
        let rig = Rig::new();
        let config = LogConfig { min_insync_replicas: 2, ..LogConfig::default() };
        let name = TopicPartition::new("m", 0);
        let partition = rig.partitions.open(&name, topic_id("m"), config).unwrap();
        let broker = || {
            ["underreplicatedpartitions", "underminisrpartitioncount", "atminisrpartitioncount"]
                .map(|name| value(&rig, &format!("kafka_server_replicamanager_{name} ")).unwrap())
        };
        let counts = || (rig.metrics.isr_shrinks.get(), rig.metrics.isr_expands.get());
        let seen = |isr: &[i32], version| {
            partition.lead(ME, &led(0, version, &[1, 2, 3], isr)).unwrap();
            let label = "kafka_topic_partition_in_sync_replica{topic=\"m\",partition=\"0\"}";
            assert_eq!(value(&rig, label), Some(isr.len() as i64));
            (broker(), counts())
        };
        assert_eq!(broker(), [0, 0, 0], "nothing is led");
        assert_eq!(seen(&[1, 2, 3], 0), ([0, 0, 0], (0, 0)));
        assert_eq!(seen(&[1, 2], 1), ([1, 0, 1], (1, 0)));
        assert_eq!(seen(&[1], 2), ([1, 1, 0], (2, 0)));
        assert_eq!(seen(&[1, 3], 3), ([1, 0, 1], (2, 1)));
        assert_eq!(seen(&[1, 2], 4), ([1, 0, 1], (3, 2)), "one came, one left");
        assert_eq!(seen(&[1, 2, 3], 5), ([0, 0, 0], (3, 3)));
        let lag = "ottla_partition_replica_lag{topic=\"m\",partition=\"0\",replica=\"2\"}";
        assert_eq!(value(&rig, lag), None, "it told nothing yet");
        let replica = Replica { broker_id: BrokerId(2), incarnation: Uuid::from_u128(2) };
        partition.follower_told(LeaderEpoch(0), &replica, Offset::ZERO).unwrap();
        let (job, outcome) = job(batch(3, 10, ProducerStamp::NONE), LeaderEpoch::UNKNOWN);
        partition.queue(job);
        partition.drive();
        eventually("the append", || outcome.lock().is_some());
        assert_eq!(value(&rig, lag), Some(3));
        partition.follower_told(LeaderEpoch(0), &replica, Offset(2)).unwrap();
        assert_eq!(value(&rig, lag), Some(1));
        partition.stop_leading();
        assert_eq!(broker(), [0, 0, 0], "its new leader counts it");
    }

    #[test]
    fn a_log_that_failed_is_counted_until_it_is_opened_anew() {
        let (rig, disk) = Rig::breakable();
        let partition = rig.lead("o", 0, LogConfig::default());
        let offline = || value(&rig, "ottla_partitions_offline ");
        assert_eq!(offline(), Some(0));
        let (job, outcome) = job(batch(1, 10, ProducerStamp::NONE), LeaderEpoch::UNKNOWN);
        partition.queue(job);
        partition.drive();
        eventually("the append", || outcome.lock().is_some());
        disk.set_faults(|faults| faults.failing_syncs = Some((".log".to_owned(), 1)));
        assert!(partition.log().flush().is_err());
        assert_eq!(offline(), Some(1));
        rig.partitions.reopen(partition.name(), partition.topic_id()).unwrap();
        assert_eq!(offline(), Some(0));
    }
}
