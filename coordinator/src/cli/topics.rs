//! `coordinator topics`

use std::collections::HashMap;

use proto::{TopicId, v1};
use serde_json::{Value, json};

use super::admin::{Admin, request_id};
use super::args::{AlterTopics, CreateTopics, DeleteTopics, Format, TopicsAction, TopicsArgs};
use super::delete_records;
use super::describe_topics;
use super::failure::{Failure, with_remedy};
use super::output;

/// Carries out the subcommand.
pub(crate) async fn run(args: TopicsArgs) -> Result<(), Failure> {
    let mut admin = Admin::new(&args.target);
    let format = args.target.format;
    match args.action {
        TopicsAction::List => list(&mut admin, format).await,
        TopicsAction::Create(create) => create_topics(&mut admin, format, create).await,
        TopicsAction::Describe(describe) => {
            describe_topics::run(&mut admin, format, &describe).await
        }
        TopicsAction::Delete(delete) => delete_topics(&mut admin, format, &delete).await,
        TopicsAction::DeleteRecords(delete) => {
            delete_records::run(&mut admin, format, &delete).await
        }
        TopicsAction::Alter(alter) => alter_topics(&mut admin, format, &alter).await,
    }
}

async fn list(admin: &mut Admin, format: Format) -> Result<(), Failure> {
    let request = v1::DescribeTopicsRequest { topics: Vec::new(), with_logs: false };
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
    let topics =
        topics.into_iter().map(|name| v1::NewPartitions { name, total, ..Default::default() });
    let topics = topics.collect();
    let request =
        v1::CreatePartitionsRequest { request_id: request_id(), topics, validate_only: false };
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
