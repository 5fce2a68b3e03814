//! `coordinator topics`

use std::collections::HashMap;

use proto::{TopicId, v1};
use serde_json::{Value, json};

use super::admin::{Admin, request_id};
use super::args::{
    AlterTopics, CreateTopics, DeleteTopics, DescribeTopics, Format, TopicsAction, TopicsArgs,
};
use super::failure::{Failure, with_remedy};
use super::output;

/// Carries out the subcommand.
pub(crate) async fn run(args: TopicsArgs) -> Result<(), Failure> {
    let mut admin = Admin::new(&args.target);
    let format = args.target.format;
    match args.action {
        TopicsAction::List => list(&mut admin, format).await,
        TopicsAction::Create(create) => create_topics(&mut admin, format, create).await,
        TopicsAction::Describe(describe) => describe_topics(&mut admin, format, &describe).await,
        TopicsAction::Delete(delete) => delete_topics(&mut admin, format, &delete).await,
        TopicsAction::Alter(alter) => alter_topics(&mut admin, format, &alter).await,
    }
}

async fn list(admin: &mut Admin, format: Format) -> Result<(), Failure> {
    let request = v1::DescribeTopicsRequest { topics: Vec::new() };
    let response = admin
        .call(request, |mut client, request| async move { client.describe_topics(request).await })
        .await?;
    let mut names: Vec<String> =
        response.topics.into_iter().filter_map(|described| Some(described.topic?.name)).collect();
    names.sort_unstable();
    match format {
        Format::Json => output::json(&json!(names)),
        Format::Text => output::write(
            names.iter().map(|name| format!("{name}\n")).collect::<String>().as_bytes(),
        ),
    }
}

fn named(names: Vec<String>) -> Result<Vec<String>, Failure> {
    match names.is_empty() {
        true => Err(Failure::usage("name a topic, for example with --topic NAME")),
        false => Ok(names),
    }
}

async fn create_topics(
    admin: &mut Admin,
    format: Format,
    create: CreateTopics,
) -> Result<(), Failure> {
    let configs = assignments(&create.config)?;
    let assignment = match &create.replica_assignment {
        Some(text) => parse_assignment(text)?,
        None => Vec::new(),
    };
    let topics = named(create.names.all())?.into_iter().map(|name| v1::NewTopic {
        name,
        partitions: create.partitions,
        replication_factor: create.replication_factor,
        configs: configs.clone(),
        assignment: assignment.clone(),
    });
    let request = v1::CreateTopicsRequest {
        request_id: request_id(),
        topics: topics.collect(),
        validate_only: create.dry_run,
        if_not_exists: create.if_not_exists,
    };
    let response = admin
        .call(request, |mut client, request| async move { client.create_topics(request).await })
        .await?;
    report(format, &response, |result| match (create.dry_run, create.if_not_exists) {
        (true, _) => format!("Would create topic {}.\n", result.name),
        (false, true) => format!("Topic {} is there.\n", result.name),
        (false, false) => format!("Created topic {}.\n", result.name),
    })
}

async fn delete_topics(
    admin: &mut Admin,
    format: Format,
    delete: &DeleteTopics,
) -> Result<(), Failure> {
    let request = v1::DeleteTopicsRequest {
        request_id: request_id(),
        topics: named(delete.names.all())?,
        if_exists: delete.if_exists,
    };
    let response = admin
        .call(request, |mut client, request| async move { client.delete_topics(request).await })
        .await?;
    report(format, &response, |result| format!("Deleted topic {}.\n", result.name))
}

async fn alter_topics(
    admin: &mut Admin,
    format: Format,
    alter: &AlterTopics,
) -> Result<(), Failure> {
    let total = alter.partitions;
    let topics = named(alter.names.all())?;
    let topics = topics.into_iter().map(|name| v1::NewPartitions { name, total }).collect();
    let request = v1::CreatePartitionsRequest { request_id: request_id(), topics };
    let response = admin
        .call(request, |mut client, request| async move { client.create_partitions(request).await })
        .await?;
    report(format, &response, |result| {
        format!("Topic {} has {} partitions now.\n", result.name, result.partitions)
    })
}

/// Prints what was done; what was refused is the failure.
fn report(
    format: Format,
    response: &v1::TopicResults,
    line: impl Fn(&v1::TopicResult) -> String,
) -> Result<(), Failure> {
    match format {
        Format::Json => {
            let results: Vec<Value> = response.results.iter().map(result_json).collect();
            output::json(&json!(results))?;
        }
        Format::Text => {
            let done = response.results.iter().filter(|result| result.error.is_none());
            output::write(done.map(line).collect::<String>().as_bytes())?;
        }
    }
    let refused = response.results.iter().filter_map(|result| result.error.as_ref());
    Failure::all(refused.map(Failure::of).collect())
}

fn result_json(result: &v1::TopicResult) -> Value {
    let mut json = json!({ "topic": result.name });
    if let Some(id) = TopicId::from_slice(&result.topic_id) {
        json["topic_id"] = json!(id.to_string());
    }
    if result.partitions > 0 {
        json["partitions"] = json!(result.partitions);
        json["replication_factor"] = json!(result.replication_factor);
    }
    if let Some(error) = &result.error {
        json["error"] = json!({ "code": error.code, "message": with_remedy(error) });
    }
    json
}

async fn describe_topics(
    admin: &mut Admin,
    format: Format,
    describe: &DescribeTopics,
) -> Result<(), Failure> {
    let request = v1::DescribeTopicsRequest { topics: describe.names.all() };
    let response = admin
        .call(request, |mut client, request| async move { client.describe_topics(request).await })
        .await?;
    let mut refused = Vec::new();
    let (mut text, mut documents) = (String::new(), Vec::new());
    for described in &response.topics {
        let Some(topic) = &described.topic else { continue };
        if let Some(error) = &topic.error {
            refused.push(Failure::of(error));
            continue;
        }
        if describe.topics_with_overrides && described.configs.is_empty() {
            continue;
        }
        let shown: Vec<&v1::Partition> = topic
            .partitions
            .iter()
            .filter(|p| !describe.unavailable_partitions || p.leader < 0)
            .collect();
        if describe.unavailable_partitions && shown.is_empty() {
            continue;
        }
        documents.push(topic_json(topic, &described.configs, &shown));
        if !describe.unavailable_partitions {
            text.push_str(&topic_line(topic, &described.configs));
        }
        if !describe.topics_with_overrides {
            shown.iter().for_each(|p| text.push_str(&partition_line(&topic.name, p)));
        }
    }
    match format {
        Format::Json => output::json(&json!(documents))?,
        Format::Text => output::write(text.as_bytes())?,
    }
    Failure::all(refused)
}

/// Kafka's line for a topic.
fn topic_line(topic: &v1::Topic, configs: &HashMap<String, String>) -> String {
    let id = TopicId::from_slice(&topic.topic_id).map_or_else(String::new, |id| id.to_string());
    let factor = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
    let mut configs: Vec<String> = configs.iter().map(|(k, v)| format!("{k}={v}")).collect();
    configs.sort_unstable();
    format!(
        "Topic: {}\tTopicId: {id}\tPartitionCount: {}\tReplicationFactor: {factor}\tConfigs: {}\n",
        topic.name,
        topic.partitions.len(),
        configs.join(",")
    )
}

/// Kafka's line for a partition.
fn partition_line(topic: &str, partition: &v1::Partition) -> String {
    let leader = match partition.leader {
        id if id < 0 => "none".to_owned(),
        id => id.to_string(),
    };
    let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    format!(
        "\tTopic: {topic}\tPartition: {}\tLeader: {leader}\tReplicas: {}\tIsr: {}\n",
        partition.partition,
        ids(&partition.replicas),
        ids(&partition.isr)
    )
}

fn topic_json(
    topic: &v1::Topic,
    configs: &HashMap<String, String>,
    partitions: &[&v1::Partition],
) -> Value {
    let partitions: Vec<Value> = partitions
        .iter()
        .map(|p| {
            json!({
                "partition": p.partition,
                "leader": (p.leader >= 0).then_some(p.leader),
                "leader_epoch": p.leader_epoch,
                "replicas": p.replicas,
                "isr": p.isr,
            })
        })
        .collect();
    json!({
        "topic": topic.name,
        "topic_id": TopicId::from_slice(&topic.topic_id).map(|id| id.to_string()),
        "partition_count": topic.partitions.len(),
        "configs": configs,
        "partitions": partitions,
    })
}

/// Reads `KEY=VALUE`s.
pub(crate) fn assignments(texts: &[String]) -> Result<HashMap<String, String>, Failure> {
    let parsed = texts.iter().map(|text| {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("`{text}` is not KEY=VALUE")))?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    });
    parsed.collect()
}

fn parse_assignment(text: &str) -> Result<Vec<v1::Replicas>, Failure> {
    let partitions = text.split(',').map(|partition| {
        let brokers = partition.split(':').map(|id| {
            id.trim().parse().map_err(|_| {
                Failure::usage(format!(
                    "`{id}` in --replica-assignment is not a broker id; \
                     `1:2,2:3` puts partition 0 on 1 and 2, partition 1 on 2 and 3"
                ))
            })
        });
        Ok(v1::Replicas { brokers: brokers.collect::<Result<_, _>>()? })
    });
    partitions.collect()
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
        };
        let id = "AAECAwQFBgcICQoLDA0ODw".parse::<TopicId>().unwrap();
        let topic = v1::Topic {
            name: "t".to_owned(),
            topic_id: id.to_bytes(),
            partitions: vec![partition.clone()],
            error: None,
        };
        let configs = [("b", "2"), ("a", "1")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(
            topic_line(&topic, &configs),
            "Topic: t\tTopicId: AAECAwQFBgcICQoLDA0ODw\tPartitionCount: 1\tReplicationFactor: 2\tConfigs: a=1,b=2\n"
        );
        assert_eq!(
            partition_line("t", &partition),
            "\tTopic: t\tPartition: 0\tLeader: 1\tReplicas: 1,2\tIsr: 1\n"
        );
        let leaderless = v1::Partition { leader: -1, ..partition };
        assert!(partition_line("t", &leaderless).contains("\tLeader: none\t"));
    }

    #[test]
    fn assignments_are_read() {
        let read = parse_assignment("1:2,3").unwrap();
        assert_eq!(
            read.iter().map(|r| r.brokers.clone()).collect::<Vec<_>>(),
            [vec![1, 2], vec![3]]
        );
        assert!(parse_assignment("1,x").is_err());
        assert_eq!(assignments(&["a = b=c".to_owned()]).unwrap()["a"], "b=c");
        assert!(assignments(&["a".to_owned()]).is_err());
    }
}
