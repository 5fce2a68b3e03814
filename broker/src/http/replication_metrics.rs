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
