//! `coordinator topics describe`: Kafka's lines, and what the replicas have on their disks.
//!
//! The first fields of a line are Kafka's own, in its order; ours come after them. What is wrong
//! with a log has lines of its own, so that `grep Damaged` finds it.

use std::collections::{BTreeSet, HashMap};

use proto::{TopicId, v1};
use serde_json::{Value, json};

use super::admin::Admin;
use super::args::{DescribeTopics, Format, OnlyPartitions};
use super::failure::Failure;
use super::output;

/// Carries out the subcommand.
pub(crate) async fn run(
    admin: &mut Admin,
    format: Format,
    describe: &DescribeTopics,
) -> Result<(), Failure> {
    let with_logs = !describe.topics_with_overrides;
    let request = v1::DescribeTopicsRequest { topics: describe.names.all(), with_logs };
    let response = admin
        .call(request, |mut client, request| async move { client.describe_topics(request).await })
        .await?;
    let mut refused = Vec::new();
    let (mut text, mut documents) = (String::new(), Vec::new());
    let mut hosts: BTreeSet<i32> = BTreeSet::new();
    for described in &response.topics {
        let Some(topic) = &described.topic else { continue };
        if let Some(error) = &topic.error {
            refused.push(Failure::of(error));
            continue;
        }
        if describe.topics_with_overrides && described.configs.is_empty() {
            continue;
        }
        let min_insync = usize::try_from(described.min_insync_replicas).unwrap_or(0);
        let shown: Vec<&v1::Partition> =
            topic.partitions.iter().filter(|p| is_shown(describe.only, p, min_insync)).collect();
        let all = shown.len() == topic.partitions.len() && !is_filter(describe.only);
        if !all && shown.is_empty() {
            continue;
        }
        documents.push(topic_json(topic, described, &shown, &response.unreachable));
        if all {
            text.push_str(&topic_line(topic, &described.configs));
        }
        if !describe.topics_with_overrides {
            for partition in shown {
                hosts.extend(&partition.replicas);
                let logs = logs_of(described, partition.partition);
                text.push_str(&partition_lines(&topic.name, partition, &logs));
            }
        }
    }
    // Of what is not shown nothing is missing.
    for broker in response.unreachable.iter().filter(|broker| hosts.contains(&broker.id)) {
        text.push_str(&format!("Broker: {}\tUnreachable: {}\n", broker.id, broker.why));
    }
    match format {
        Format::Json => output::json(&json!(documents))?,
        Format::Text => output::write(text.as_bytes())?,
    }
    Failure::all(refused)
}

fn is_filter(only: OnlyPartitions) -> bool {
    only.unavailable_partitions
        || only.under_replicated_partitions
        || only.under_min_isr_partitions
        || only.at_min_isr_partitions
}

/// How many replicas should be in sync now; those that are only on their way are not missing.
fn replicas_wanted(partition: &v1::Partition) -> usize {
    partition.replicas.len().saturating_sub(partition.adding.len())
}

/// Whether a partition is asked for.
fn is_shown(only: OnlyPartitions, partition: &v1::Partition, min_insync: usize) -> bool {
    let replicas = replicas_wanted(partition);
    let in_sync = partition.isr.len();
    // A partition cannot have more in sync than it has.
    let min_insync = min_insync.min(replicas);
    if only.unavailable_partitions {
        partition.leader < 0
    } else if only.under_replicated_partitions {
        in_sync < replicas
    } else if only.under_min_isr_partitions {
        partition.leader < 0 || in_sync < min_insync
    } else if only.at_min_isr_partitions {
        in_sync == min_insync
    } else {
        true
    }
}

/// What replicas have of a partition.
fn logs_of(described: &v1::DescribedTopic, partition: i32) -> Vec<(i32, &str, &v1::StoredLog)> {
    let logs = described.logs.iter().filter_map(|replica| {
        let log = replica.log.as_ref().filter(|log| log.partition == partition)?;
        Some((replica.broker, replica.directory.as_str(), log))
    });
    logs.collect()
}

/// Kafka's line for a topic.
fn topic_line(topic: &v1::Topic, configs: &HashMap<String, String>) -> String {
    let id = TopicId::from_slice(&topic.topic_id).map_or_else(String::new, |id| id.to_string());
    let factor = topic.partitions.first().map_or(0, replicas_wanted);
    let mut configs: Vec<String> = configs.iter().map(|(k, v)| format!("{k}={v}")).collect();
    configs.sort_unstable();
    format!(
        "Topic: {}\tTopicId: {id}\tPartitionCount: {}\tReplicationFactor: {factor}\tConfigs: {}\n",
        topic.name,
        topic.partitions.len(),
        configs.join(",")
    )
}

/// Kafka's line for a partition with the leader's log behind it, and a line for each thing wrong.
fn partition_lines(
    topic: &str,
    partition: &v1::Partition,
    logs: &[(i32, &str, &v1::StoredLog)],
) -> String {
    let leader = match partition.leader {
        id if id < 0 => "none".to_owned(),
        id => id.to_string(),
    };
    let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    let mut lines = format!(
        "\tTopic: {topic}\tPartition: {}\tLeader: {leader}\tReplicas: {}\tIsr: {}",
        partition.partition,
        ids(&partition.replicas),
        ids(&partition.isr)
    );
    // Kafka's fields, here only where there is something in them.
    for (name, of) in [
        ("Adding Replicas", &partition.adding),
        ("Removing Replicas", &partition.removing),
        ("Elr", &partition.electable),
    ] {
        if !of.is_empty() {
            lines.push_str(&format!("\t{name}: {}", ids(of)));
        }
    }
    if let Some((_, _, log)) = logs.iter().find(|(broker, _, _)| *broker == partition.leader) {
        lines.push_str(&format!(
            "\tLogStart: {}\tLogEnd: {}\tSize: {}",
            log.log_start_offset, log.log_end_offset, log.size_bytes
        ));
    }
    lines.push('\n');
    for (broker, directory, log) in logs {
        if let Some(error) = &log.error {
            lines.push_str(&format!(
                "\t\tOffline: broker {broker}, {directory}: {}\n",
                error.message
            ));
        }
        for range in &log.damaged {
            lines.push_str(&damaged_line(*broker, range));
        }
        let untold = i64::from(log.damaged_ranges) - log.damaged.len() as i64;
        if untold > 0 {
            lines.push_str(&format!("\t\tDamaged: broker {broker}, {untold} more ranges\n"));
        }
    }
    lines
}

fn damaged_line(broker: i32, range: &v1::DamagedRange) -> String {
    let v1::DamagedRange { from_offset, to_offset, segment, position, end_position } = range;
    let count = to_offset - from_offset;
    let offsets = match count {
        0 => format!("no offset (foreign bytes before {from_offset})"),
        1 => format!("offset {from_offset}"),
        _ => format!("offsets {from_offset} to {} ({count})", to_offset - 1),
    };
    let bytes = match end_position - position {
        0 => format!("a segment is missing behind {segment:020}.log"),
        _ => format!("bytes {position} to {end_position} of {segment:020}.log"),
    };
    format!("\t\tDamaged: broker {broker}, {offsets}, {bytes}\n")
}

fn topic_json(
    topic: &v1::Topic,
    described: &v1::DescribedTopic,
    partitions: &[&v1::Partition],
    unreachable: &[v1::UnreachableBroker],
) -> Value {
    let partitions: Vec<Value> = partitions
        .iter()
        .map(|p| {
            let logs = logs_of(described, p.partition);
            json!({
                "partition": p.partition,
                "leader": (p.leader >= 0).then_some(p.leader),
                "leader_epoch": p.leader_epoch,
                "replicas": p.replicas,
                "isr": p.isr,
                "elr": p.electable,
                "adding": p.adding,
                "removing": p.removing,
                "logs": logs.into_iter().map(log_json).collect::<Vec<_>>(),
            })
        })
        .collect();
    let replicas = |id| topic.partitions.iter().any(|p| p.replicas.contains(&id));
    let unreachable = unreachable.iter().filter(|broker| replicas(broker.id));
    let unreachable: Vec<Value> =
        unreachable.map(|broker| json!({ "broker": broker.id, "why": broker.why })).collect();
    json!({
        "topic": topic.name,
        "topic_id": TopicId::from_slice(&topic.topic_id).map(|id| id.to_string()),
        "partition_count": topic.partitions.len(),
        "configs": described.configs,
        "partitions": partitions,
        "unreachable": unreachable,
    })
}

fn log_json((broker, directory, log): (i32, &str, &v1::StoredLog)) -> Value {
    let damaged = log.damaged.iter().map(|range| {
        json!({
            "from": range.from_offset,
            "to": range.to_offset,
            "segment": range.segment,
            "position": range.position,
            "end_position": range.end_position,
        })
    });
    json!({
        "broker": broker,
        "directory": directory,
        "log_start": log.log_start_offset,
        "high_watermark": log.high_watermark,
        "flushed": log.flushed_offset,
        "log_end": log.log_end_offset,
        "size_bytes": log.size_bytes,
        "segments": log.segments,
        "offline": log.error.as_ref().map(|error| &error.message),
        "damaged": damaged.collect::<Vec<_>>(),
        "damaged_ranges": log.damaged_ranges,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_described_in_kafkas_lines() {
        let partition = v1::Partition {
            partition: 0,
            leader: 1,
            leader_epoch: 3,
            replicas: vec![1, 2],
            isr: vec![1],
            ..Default::default()
        };
        let id = "AAECAwQFBgcICQoLDA0ODw".parse::<TopicId>().unwrap();
        let topic = v1::Topic {
            name: "t".to_owned(),
            topic_id: id.to_bytes(),
            partitions: vec![partition.clone()],
            ..Default::default()
        };
        let configs = [("b", "2"), ("a", "1")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(
            topic_line(&topic, &configs),
            "Topic: t\tTopicId: AAECAwQFBgcICQoLDA0ODw\tPartitionCount: 1\tReplicationFactor: 2\tConfigs: a=1,b=2\n"
        );
        let kafkas = "\tTopic: t\tPartition: 0\tLeader: 1\tReplicas: 1,2\tIsr: 1";
        assert_eq!(partition_lines("t", &partition, &[]), format!("{kafkas}\n"));
        let leaderless = v1::Partition { leader: -1, ..partition.clone() };
        assert!(partition_lines("t", &leaderless, &[]).contains("\tLeader: none\t"));
        let moving = v1::Partition {
            adding: vec![2],
            removing: vec![3, 4],
            electable: vec![2],
            ..partition.clone()
        };
        assert_eq!(
            partition_lines("t", &moving, &[]),
            format!("{kafkas}\tAdding Replicas: 2\tRemoving Replicas: 3,4\tElr: 2\n")
        );
        let damaged = |from_offset, to_offset, end_position| v1::DamagedRange {
            from_offset,
            to_offset,
            segment: 5,
            position: 100,
            end_position,
        };
        let log = v1::StoredLog {
            log_start_offset: 5,
            log_end_offset: 90,
            size_bytes: 4096,
            damaged: vec![damaged(7, 10, 180), damaged(20, 21, 100)],
            damaged_ranges: 3,
            ..Default::default()
        };
        let offline = v1::StoredLog {
            error: Some(v1::Error { message: "gone".to_owned(), ..Default::default() }),
            ..Default::default()
        };
        assert_eq!(
            partition_lines("t", &partition, &[(1, "/d", &log), (2, "/e", &offline)]),
            format!(
                "{kafkas}\tLogStart: 5\tLogEnd: 90\tSize: 4096\n\
                 \t\tDamaged: broker 1, offsets 7 to 9 (3), bytes 100 to 180 of 00000000000000000005.log\n\
                 \t\tDamaged: broker 1, offset 20, a segment is missing behind 00000000000000000005.log\n\
                 \t\tDamaged: broker 1, 1 more ranges\n\
                 \t\tOffline: broker 2, /e: gone\n"
            )
        );
    }

    #[test]
    fn partitions_are_chosen_as_kafkas_tool_chooses_them() {
        let partition = |leader, isr: &[i32], adding: &[i32]| v1::Partition {
            leader,
            replicas: vec![1, 2, 3],
            isr: isr.to_vec(),
            adding: adding.to_vec(),
            ..Default::default()
        };
        let partitions = [
            partition(1, &[1, 2, 3], &[]),
            partition(1, &[1, 2], &[]),
            partition(1, &[1], &[]),
            partition(-1, &[1], &[]),
            partition(1, &[1, 2], &[3]),
        ];
        let shown = |only: OnlyPartitions| -> Vec<usize> {
            (0..5).filter(|&i| is_shown(only, &partitions[i], 2)).collect()
        };
        let none = OnlyPartitions::default();
        assert_eq!(shown(none), [0, 1, 2, 3, 4]);
        assert_eq!(shown(OnlyPartitions { unavailable_partitions: true, ..none }), [3]);
        assert_eq!(shown(OnlyPartitions { under_replicated_partitions: true, ..none }), [1, 2, 3]);
        assert_eq!(shown(OnlyPartitions { under_min_isr_partitions: true, ..none }), [2, 3]);
        assert_eq!(shown(OnlyPartitions { at_min_isr_partitions: true, ..none }), [1, 4]);
    }
}
