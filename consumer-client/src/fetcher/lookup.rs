//! Offsets by place or time, asked of the partitions' leaders.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use proto::client::{ClientError, Cluster, Metadata};
use proto::v1::log_client::LogClient;
use proto::{BrokerId, ErrorCode, Offset, Retry, TopicId, TopicPartition, v1};

use crate::error::ConsumerError;
use crate::shared::StartAt;

/// The longest wait for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Between tries.
const PAUSE: Duration = Duration::from_millis(100);

/// What to ask of a leader.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) partition: TopicPartition,
    pub(crate) topic_id: Option<TopicId>,
    pub(crate) start: StartAt,
}

/// Asks one broker; answers in the order of the queries. The offset is `None` where every record is
/// older than the time asked for.
pub(crate) async fn ask(
    cluster: &Cluster,
    broker: BrokerId,
    queries: &[Query],
) -> Result<Vec<Result<Option<Offset>, v1::Error>>, ClientError> {
    let connection = cluster.connection(broker).await?;
    let request = v1::ListOffsetsRequest { queries: queries.iter().map(to_message).collect() };
    let mut client = LogClient::new(connection.clone());
    let address = || connection.address().to_owned();
    let called = tokio::time::timeout(ANSWER_WITHIN, client.list_offsets(request)).await;
    let answers = match called {
        Ok(Ok(response)) => response.into_inner().answers,
        Ok(Err(status)) => return Err(ClientError::Refused { address: address(), status }),
        Err(_) => {
            cluster.connection_broken(&connection);
            let what = "a request for offsets";
            return Err(ClientError::TimedOut { address: address(), what, after: ANSWER_WITHIN });
        }
    };
    let short = || ErrorCode::UnknownServerError.to_message("fewer answers than queries", "");
    let mut answers = answers.into_iter();
    let each = queries.iter().map(|_| match answers.next() {
        None => Err(short()),
        Some(v1::OffsetAnswer { error: Some(error), .. }) => Err(error),
        Some(answer) => Ok((answer.offset >= 0).then_some(Offset(answer.offset))),
    });
    Ok(each.collect())
}

fn to_message(query: &Query) -> v1::OffsetQuery {
    v1::OffsetQuery {
        topic: query.partition.topic.to_string(),
        topic_id: query.topic_id.map(|id| id.to_bytes()).unwrap_or_default(),
        partition: query.partition.partition,
        timestamp_ms: match query.start {
            StartAt::End => -1,
            StartAt::Beginning => -2,
            StartAt::Time(at) => at.max(0),
            StartAt::Offset(_) => -1,
        },
    }
}

/// Asks whoever leads, until each is answered or `limit` has passed.
pub(crate) async fn offsets(
    cluster: &Cluster,
    partitions: &[TopicPartition],
    start: StartAt,
    limit: Duration,
) -> Result<BTreeMap<TopicPartition, Option<Offset>>, ConsumerError> {
    let deadline = Instant::now() + limit;
    let mut found = BTreeMap::new();
    let mut last = String::from("no answer yet");
    let mut refresh = false;
    while found.len() < partitions.len() {
        let missing: Vec<_> = partitions.iter().filter(|p| !found.contains_key(*p)).collect();
        match by_leader(cluster, &missing, start, refresh).await {
            Err(error) => last = error.to_string(),
            Ok((by_leader, problems)) => {
                last = problems.into_iter().next().unwrap_or(last);
                let mut asked = Vec::with_capacity(by_leader.len());
                for (broker, queries) in &by_leader {
                    asked.push(ask(cluster, *broker, queries));
                }
                let answers = join_all(asked).await;
                for (queries, answers) in by_leader.values().zip(answers) {
                    take_answers(queries, answers, &mut found, &mut last)?;
                }
            }
        }
        refresh = true;
        if found.len() < partitions.len() {
            if Instant::now() + PAUSE >= deadline {
                let call = "a request for offsets";
                return Err(ConsumerError::Timeout { call, timeout: limit, last });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(found)
}

/// The partitions of a topic, asked until it is there or `limit` has passed.
pub(crate) async fn partitions(
    cluster: &Cluster,
    topic: &str,
    limit: Duration,
) -> Result<Vec<TopicPartition>, ConsumerError> {
    let metadata = refreshed(cluster, Some(topic), limit).await?;
    match (metadata.topic(topic), metadata.topic_error(topic)) {
        (Some(found), _) => {
            let numbers = found.partitions.iter().map(|p| p.partition);
            Ok(numbers.map(|n| TopicPartition::new(Arc::clone(&found.name), n)).collect())
        }
        (None, Some(error)) => Err(refused(topic.to_owned(), error)),
        (None, None) => {
            let error = ErrorCode::UnknownTopicOrPartition.to_message("no answer about it", "");
            Err(refused(topic.to_owned(), &error))
        }
    }
}

/// The names of all topics.
pub(crate) async fn topics(
    cluster: &Cluster,
    limit: Duration,
) -> Result<Vec<String>, ConsumerError> {
    let metadata = refreshed(cluster, None, limit).await?;
    let mut names: Vec<String> = metadata.topics().map(|topic| topic.name.to_string()).collect();
    names.sort_unstable();
    Ok(names)
}

/// Metadata of a topic, or of all, tried until an answer comes or `limit` has passed.
async fn refreshed(
    cluster: &Cluster,
    topic: Option<&str>,
    limit: Duration,
) -> Result<Arc<Metadata>, ConsumerError> {
    let deadline = Instant::now() + limit;
    loop {
        let answer = match topic {
            Some(topic) => cluster.refresh(&[topic]).await,
            None => cluster.refresh_all().await,
        };
        match answer {
            Ok(metadata) => return Ok(metadata),
            Err(error) if !error.is_retriable() || Instant::now() + PAUSE >= deadline => {
                let (call, last) = ("a request for metadata", error.to_string());
                return Err(ConsumerError::Timeout { call, timeout: limit, last });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn take_answers(
    queries: &[Query],
    answers: Result<Vec<Result<Option<Offset>, v1::Error>>, ClientError>,
    found: &mut BTreeMap<TopicPartition, Option<Offset>>,
    last: &mut String,
) -> Result<(), ConsumerError> {
    let answers = match answers {
        Ok(answers) => answers,
        Err(error) => {
            *last = error.to_string();
            return Ok(());
        }
    };
    for (query, answer) in queries.iter().zip(answers) {
        match answer {
            Ok(offset) => {
                found.insert(query.partition.clone(), offset);
            }
            Err(error) if ErrorCode::from_code(error.code).retry() == Retry::Never => {
                return Err(refused(query.partition.to_string(), &error));
            }
            Err(error) => *last = error.message,
        }
    }
    Ok(())
}

/// A broker's error as the application sees it.
pub(crate) fn refused(topic: String, error: &v1::Error) -> ConsumerError {
    ConsumerError::Refused {
        topic,
        code: ErrorCode::from_code(error.code),
        message: error.message.clone(),
        remedy: error.remedy.clone(),
    }
}

type ByLeader = (BTreeMap<BrokerId, Vec<Query>>, Vec<String>);

async fn by_leader(
    cluster: &Cluster,
    partitions: &[&TopicPartition],
    start: StartAt,
    refresh: bool,
) -> Result<ByLeader, ClientError> {
    let mut topics: Vec<&str> = partitions.iter().map(|p| &*p.topic).collect();
    topics.dedup();
    let known = topics.iter().all(|topic| cluster.metadata().topic(topic).is_some());
    let metadata =
        if refresh || !known { cluster.refresh(&topics).await? } else { cluster.metadata() };
    let mut queries: BTreeMap<BrokerId, Vec<Query>> = BTreeMap::new();
    let mut problems = Vec::new();
    for &partition in partitions {
        let Some(topic) = metadata.topic(&partition.topic) else {
            let error = metadata.topic_error(&partition.topic);
            problems.push(
                error
                    .map_or_else(|| format!("no topic {}", partition.topic), |e| e.message.clone()),
            );
            continue;
        };
        match metadata.partition(&partition.topic, partition.partition).map(|p| p.leader) {
            Some(Some(broker)) => queries.entry(broker).or_default().push(Query {
                partition: partition.clone(),
                topic_id: Some(topic.id),
                start,
            }),
            Some(None) => problems.push(format!("{partition} has no leader")),
            None => problems.push(format!("{partition} does not exist")),
        }
    }
    Ok((queries, problems))
}
