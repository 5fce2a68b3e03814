//! Groups of Kafka's clients on the metrics page: each group in kafka_exporter's names, all of them
//! in those that Kafka's JMX beans have with the usual exporter.
//!
//! A group is shown by the broker that coordinates it. Its lag is known there only for partitions
//! of which that broker has a replica (a follower's high watermark is a round trip old); the others have
//! no `kafka_consumergroup_lag`: subtract the committed offset from the leader's
//! `kafka_topic_partition_current_offset` where all brokers' pages are at hand.

use std::collections::BTreeMap;

use proto::TopicPartition;

use super::metrics::{Page, escaped};
use crate::groups::classic::State;
use crate::groups::{GroupReport, Report};
use crate::replication::PartitionSet;

const MANAGER: &str = "kafka_coordinator_group_groupmetadatamanager";
const COORDINATOR: &str = "kafka_server_group_coordinator_metrics";

/// Adds them.
pub(super) fn render(page: &mut Page, report: &Report, partitions: &PartitionSet) {
    numbers(page, report);
    counters(page, report);
    let all = partitions.all();
    let ends = all.iter().map(|partition| (partition.name(), partition.visible_end().0));
    groups(page, &report.groups, &ends.collect());
}

fn numbers(page: &mut Page, report: &Report) {
    let all = report.states.iter().sum::<usize>();
    gauge(page, &format!("{MANAGER}_numgroups"), "Groups coordinated here.", all);
    for (state, number) in State::ALL.into_iter().zip(report.states) {
        let name = format!("{MANAGER}_numgroups{}", state.name().to_lowercase());
        gauge(page, &name, "Those in the state.", number);
    }
    let name = format!("{MANAGER}_numoffsets");
    gauge(page, &name, "Offsets that they have committed.", report.offsets);
    for (name, help, value) in [
        ("ottla_groups_bytes", "Bytes that groups take in memory, about.", report.bytes),
        (
            "ottla_groups_partitions_loading",
            "Partitions of __consumer_offsets led here whose groups are not served yet.",
            report.loading,
        ),
        (
            "ottla_groups_metrics_left_out",
            "Groups that have no lines of their own here because there are too many.",
            report.left_out,
        ),
    ] {
        gauge(page, name, help, value);
    }
}

fn counters(page: &mut Page, report: &Report) {
    let counted = report.counters;
    for (name, help, value) in [
        (
            "group_completed_rebalance_count",
            "Rebalances that ended in an assignment.",
            counted.rebalances,
        ),
        ("offset_commit_count", "Offsets committed.", counted.commits),
        (
            "offset_expiration_count",
            "Offsets that expired, or whose topic was deleted.",
            counted.expirations,
        ),
        ("offset_deletion_count", "Offsets deleted by request.", counted.deletions),
    ] {
        let name = format!("{COORDINATOR}_{name}");
        page.head(&name, "counter", help);
        page.line(&name, "", value as i64);
    }
    for (name, help, value) in [
        (
            "ottla_groups_loads_total",
            "Times that a partition of __consumer_offsets was read.",
            i64::try_from(counted.loads).unwrap_or(i64::MAX),
        ),
        (
            "ottla_groups_load_milliseconds_total",
            "Milliseconds that took.",
            i64::try_from(counted.load_time.as_millis()).unwrap_or(i64::MAX),
        ),
    ] {
        page.head(name, "counter", help);
        page.line(name, "", value);
    }
    let longest = usize::try_from(counted.load_time_max.as_millis()).unwrap_or(usize::MAX);
    let name = format!("{COORDINATOR}_partition_load_time_max");
    gauge(page, &name, "Milliseconds that the longest of them took.", longest);
}

fn groups(page: &mut Page, groups: &[GroupReport], ends: &BTreeMap<&TopicPartition, i64>) {
    let name = "kafka_consumergroup_members";
    page.head(name, "gauge", "Members of a group.");
    for group in groups {
        let labels = format!("{{consumergroup=\"{}\"}}", escaped(&group.group));
        page.line(name, &labels, group.members as i64);
    }
    let lag = |name: &TopicPartition, offset: i64| Some((*ends.get(name)? - offset).max(0));
    rows(page, groups, "current_offset", "Offset that a group has committed.", |_, offset| {
        Some(offset)
    });
    rows(page, groups, "lag", "Offsets that a group lacks, where a replica is here.", lag);
}

/// A line for each partition, and the sum of each topic of which all are known.
fn rows(
    page: &mut Page,
    groups: &[GroupReport],
    what: &str,
    help: &str,
    value: impl Fn(&TopicPartition, i64) -> Option<i64>,
) {
    let name = format!("kafka_consumergroup_{what}");
    let mut sums: BTreeMap<(&str, &str), Option<i64>> = BTreeMap::new();
    page.head(&name, "gauge", help);
    for group in groups {
        for (of, offset) in &group.offsets {
            let value = value(of, offset.0);
            let sum = sums.entry((&group.group, &of.topic)).or_insert(Some(0));
            *sum = sum.zip(value).map(|(sum, value)| sum.saturating_add(value));
            let Some(value) = value else { continue };
            let labels = format!(
                "{{consumergroup=\"{}\",topic=\"{}\",partition=\"{}\"}}",
                escaped(&group.group),
                of.topic,
                of.partition
            );
            page.line(&name, &labels, value);
        }
    }
    let name = format!("{name}_sum");
    page.head(&name, "gauge", "The same, over all partitions of a topic.");
    for ((group, topic), sum) in sums {
        let Some(sum) = sum else { continue };
        let labels = format!("{{consumergroup=\"{}\",topic=\"{topic}\"}}", escaped(group));
        page.line(&name, &labels, sum);
    }
}

fn gauge(page: &mut Page, name: &str, help: &str, value: usize) {
    page.head(name, "gauge", help);
    page.line(name, "", i64::try_from(value).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::{Offset, TopicPartition};

    use super::*;
    use crate::groups::Counters;
    use crate::replication::tests::rig::Rig;
    use crate::storage::LogConfig;

    #[test]
    fn groups_are_shown_in_the_names_that_exporters_have() {
        let rig = Rig::new();
        rig.lead("t", 0, LogConfig::default());
        let offset = |topic, partition, at| (TopicPartition::new(topic, partition), Offset(at));
        let group = GroupReport {
            group: "a \"b\"\n".into(),
            members: 2,
            // Of one the end is known: it is behind what was committed.
            offsets: vec![offset("t", 0, 5), offset("u", 0, 7), offset("u", 1, 8)],
        };
        let report = Report {
            states: [1, 0, 0, 3, 0],
            offsets: 9,
            bytes: 77,
            counters: Counters {
                rebalances: 4,
                loads: 2,
                load_time: Duration::from_millis(30),
                load_time_max: Duration::from_millis(20),
                ..Counters::default()
            },
            groups: vec![group],
            left_out: 3,
            ..Report::default()
        };
        let mut page = Page::default();
        render(&mut page, &report, &rig.partitions);
        let of = r#"consumergroup="a \"b\"\n""#;
        for line in [
            "kafka_coordinator_group_groupmetadatamanager_numgroups 4".to_owned(),
            "kafka_coordinator_group_groupmetadatamanager_numgroupsstable 3".to_owned(),
            "kafka_coordinator_group_groupmetadatamanager_numgroupspreparingrebalance 0".to_owned(),
            "kafka_coordinator_group_groupmetadatamanager_numoffsets 9".to_owned(),
            "kafka_server_group_coordinator_metrics_group_completed_rebalance_count 4".to_owned(),
            "kafka_server_group_coordinator_metrics_partition_load_time_max 20".to_owned(),
            "ottla_groups_load_milliseconds_total 30".to_owned(),
            "ottla_groups_metrics_left_out 3".to_owned(),
            format!("kafka_consumergroup_members{{{of}}} 2"),
            format!("kafka_consumergroup_current_offset{{{of},topic=\"u\",partition=\"1\"}} 8"),
            format!("kafka_consumergroup_current_offset_sum{{{of},topic=\"u\"}} 15"),
            format!("kafka_consumergroup_lag{{{of},topic=\"t\",partition=\"0\"}} 0"),
            format!("kafka_consumergroup_lag_sum{{{of},topic=\"t\"}} 0"),
        ] {
            assert!(page.0.lines().any(|shown| shown == line), "{line} is not in:\n{}", page.0);
        }
        assert!(!page.0.contains(&format!("lag{{{of},topic=\"u\"")), "no replica of it is here");
        assert!(!page.0.contains(&format!("lag_sum{{{of},topic=\"u\"")), "nor a sum");
    }
}
