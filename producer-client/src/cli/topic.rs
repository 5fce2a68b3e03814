//! Whether the topic is there, asked before anything is read, so that a misspelt name is told at once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use producer_client::ProducerConfig;
use proto::client::{Cluster, ClusterOptions, Metadata};
use proto::v1::admin_client::AdminClient;
use proto::{ErrorCode, Retry, v1};

use super::args::SendArgs;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// A topic made a moment ago may not be known to every broker yet.
const SPREAD: Duration = Duration::from_secs(1);
/// A topic this call made is waited for.
const CREATION: Duration = Duration::from_secs(15);

/// Makes sure that the topic exists and has the partition asked for.
pub(crate) async fn check(config: &ProducerConfig, topic: &str, args: &SendArgs) -> Result<()> {
    // With --create-topic it is made as the flags say, not as the cluster's defaults do.
    let options = config.cluster_options();
    let allow_auto_create = options.allow_auto_create && !args.create_topic;
    let cluster = Cluster::new(ClusterOptions { allow_auto_create, ..options });
    let started = Instant::now();
    let (mut is_created, mut was_told) = (false, false);
    loop {
        match cluster.refresh(&[topic]).await {
            Ok(metadata) => {
                if let Some(found) = metadata.topic(topic) {
                    return check_partition(args.partition, topic, found.partitions.len());
                }
                if args.create_topic && !is_created && !is_refused(&metadata, topic) {
                    create(&cluster, topic, args).await?;
                    is_created = true;
                } else if started.elapsed() > if is_created { CREATION } else { SPREAD }
                    || is_refused(&metadata, topic)
                {
                    return Err(missing(&metadata, topic));
                }
            }
            Err(error) if error.is_retriable() && started.elapsed() < config.max_block => {
                if !std::mem::replace(&mut was_told, true) {
                    eprintln!("producer: {error}; trying again for {:?}", config.max_block);
                }
            }
            Err(error) => return Err(error).context("no broker answers"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The topic can never be there.
fn is_refused(metadata: &Metadata, topic: &str) -> bool {
    let error = metadata.topic_error(topic);
    error.is_some_and(|error| ErrorCode::from_code(error.code).retry() == Retry::Never)
}

fn missing(metadata: &Metadata, topic: &str) -> anyhow::Error {
    let error = metadata.topic_error(topic);
    let (message, remedy) = error.map_or(("", ""), |e| (e.message.as_str(), e.remedy.as_str()));
    if error.is_some() && is_refused(metadata, topic) {
        return anyhow::anyhow!("topic `{topic}`: {message}; {remedy}");
    }
    anyhow::anyhow!(
        "topic `{topic}` does not exist{}{message}: check the name, or create it with --create-topic \
         or `coordinator topics --create --topic {topic}`",
        if message.is_empty() { "" } else { " — " }
    )
}

fn check_partition(partition: Option<i32>, topic: &str, count: usize) -> Result<()> {
    match partition {
        Some(partition) if usize::try_from(partition).map_or(true, |p| p >= count) => {
            bail!("topic `{topic}` has no partition {partition}, only 0 to {}", count - 1)
        }
        _ => Ok(()),
    }
}

async fn create(cluster: &Cluster, topic: &str, args: &SendArgs) -> Result<()> {
    let connection = cluster.any_connection().await.context("no broker answers")?;
    let request = v1::CreateTopicsRequest {
        request_id: fastrand::u128(..).to_be_bytes().to_vec().into(),
        topics: vec![v1::NewTopic {
            name: topic.into(),
            partitions: args.partitions.unwrap_or(0),
            replication_factor: args.replication_factor.unwrap_or(0),
            ..v1::NewTopic::default()
        }],
        validate_only: false,
        if_not_exists: true,
    };
    let answer = AdminClient::new(connection).create_topics(request).await;
    let answer = answer.map_err(|status| {
        anyhow::anyhow!("topic `{topic}` could not be created: {}", status.message())
    })?;
    let error = answer.into_inner().results.into_iter().find_map(|result| result.error);
    match error {
        Some(error) if ErrorCode::from_code(error.code) != ErrorCode::TopicAlreadyExists => {
            bail!("topic `{topic}` could not be created: {}; {}", error.message, error.remedy)
        }
        _ => Ok(()),
    }
}
