//! Asks partition leaders how long their logs are, for the lag of groups.
//!
//! Best effort: a leader that is down or slow leaves its partitions unknown, and nobody waits long.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_util::future::join_all;
use proto::client::{Connection, SocketOptions};
use proto::v1::log_client::LogClient;
use proto::{BrokerId, v1};

use super::state::{Brokers, TopicState};

/// How long a leader may take.
const LEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// Asks for the high watermark.
const LATEST: i64 = -1;

/// Log ends, as far as they are known.
pub(crate) type LogEnds = HashMap<(String, i32), i64>;

/// The log ends of these partitions.
pub(crate) async fn log_ends(
    partitions: &[v1::GroupPartition],
    topics: &BTreeMap<String, TopicState>,
    brokers: &Brokers,
) -> LogEnds {
    let mut by_leader: BTreeMap<BrokerId, Vec<v1::OffsetQuery>> = BTreeMap::new();
    for asked in partitions {
        let Some(topic) = topics.get(&asked.topic) else { continue };
        let index = usize::try_from(asked.partition).unwrap_or(usize::MAX);
        let state = topic.partitions.get(index);
        let Some(leader) = state.and_then(|state| state.leader) else { continue };
        by_leader.entry(leader).or_default().push(v1::OffsetQuery {
            topic: asked.topic.clone(),
            topic_id: topic.id.to_bytes(),
            partition: asked.partition,
            timestamp_ms: LATEST,
        });
    }
    let asked = by_leader.into_iter().filter_map(|(id, queries)| {
        let broker = brokers.get(&id)?;
        let address = format!("{}:{}", broker.host, broker.grpc_port);
        Some(async move {
            match tokio::time::timeout(LEADER_TIMEOUT, ask(&address, queries)).await {
                Ok(Ok(ends)) => ends,
                Ok(Err(error)) => {
                    tracing::debug!(broker = %id, %error, "log ends not known");
                    Vec::new()
                }
                Err(_) => Vec::new(),
            }
        })
    });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn ask(
    address: &str,
    queries: Vec<v1::OffsetQuery>,
) -> Result<Vec<((String, i32), i64)>, Box<dyn std::error::Error + Send + Sync>> {
    let connection = Connection::connect(address, &SocketOptions::default()).await?;
    let asked: Vec<(String, i32)> =
        queries.iter().map(|query| (query.topic.clone(), query.partition)).collect();
    let request = v1::ListOffsetsRequest { queries };
    let response = LogClient::new(connection).list_offsets(request).await?.into_inner();
    let answers = asked.into_iter().zip(response.answers);
    Ok(answers.filter(|(_, a)| a.error.is_none()).map(|(of, a)| (of, a.offset)).collect())
}
