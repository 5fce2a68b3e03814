//! Asks brokers what they have of topics on disk, for the descriptions of topics.
//!
//! Best effort: all brokers are asked at once, and one that is down or slow is named, not waited
//! for.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use futures_util::future::join_all;
use proto::client::{Connection, SocketOptions};
use proto::v1::broker_control_client::BrokerControlClient;
use proto::{BrokerId, v1};

use super::state::Brokers;

/// How long a broker may take.
const BROKER_TIMEOUT: Duration = Duration::from_millis(1_500);
/// An answer about thousands of partitions, each with its damaged ranges.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Adds to each topic what its replicas have on disk. Returns the brokers that could not be asked.
pub(crate) async fn add(
    topics: &mut [v1::DescribedTopic],
    brokers: &Brokers,
) -> Vec<v1::UnreachableBroker> {
    let replicas = replicas(topics);
    let names: Vec<String> = topics
        .iter()
        .filter_map(|described| Some(described.topic.as_ref()?.name.clone()))
        .collect();
    let asked = replicas.into_iter().map(|id| {
        let address = brokers.get(&id).map(|b| format!("{}:{}", b.host, b.grpc_port));
        let names = names.clone();
        async move { (id, ask(address, names).await) }
    });
    let mut unreachable = Vec::new();
    let mut by_topic: HashMap<(String, Vec<u8>), Vec<v1::ReplicaLog>> = HashMap::new();
    for (id, answer) in join_all(asked).await {
        let directories = match answer {
            Ok(directories) => directories,
            Err(why) => {
                unreachable.push(v1::UnreachableBroker { id: id.0, why });
                continue;
            }
        };
        for directory in directories {
            for log in directory.logs {
                // A log of an earlier topic of the name is not this topic's.
                let of = (log.topic.clone(), log.topic_id.to_vec());
                let (broker, directory) = (id.0, directory.path.clone());
                let log = v1::ReplicaLog { broker, directory, log: Some(log) };
                by_topic.entry(of).or_default().push(log);
            }
        }
    }
    for described in topics {
        let Some(topic) = &described.topic else { continue };
        let of = (topic.name.clone(), topic.topic_id.to_vec());
        described.logs = by_topic.remove(&of).unwrap_or_default();
        described.logs.sort_by_key(|replica| {
            (replica.log.as_ref().map_or(-1, |log| log.partition), replica.broker)
        });
    }
    unreachable
}

/// The brokers that hold something of these topics.
fn replicas(topics: &[v1::DescribedTopic]) -> BTreeSet<BrokerId> {
    let topics = topics.iter().filter_map(|described| described.topic.as_ref());
    topics.flat_map(|t| &t.partitions).flat_map(|p| &p.replicas).map(|id| BrokerId(*id)).collect()
}

async fn ask(
    address: Option<String>,
    topics: Vec<String>,
) -> Result<Vec<v1::LogDirectory>, String> {
    let Some(address) = address else { return Err("it is down: not registered".to_owned()) };
    let asked = async {
        let connection = Connection::connect(&address, &SocketOptions::default()).await;
        let connection = connection.map_err(|error| error.to_string())?;
        let client = BrokerControlClient::new(connection);
        let mut client = client.max_decoding_message_size(ANSWER_BYTES_MAX);
        let answer = client.describe_logs(v1::DescribeLogsRequest { topics }).await;
        answer.map(|answer| answer.into_inner().directories).map_err(|status| {
            format!("{address} answered {:?}: {}", status.code(), status.message())
        })
    };
    let timed = tokio::time::timeout(BROKER_TIMEOUT, asked).await;
    timed.unwrap_or_else(|_| Err(format!("no answer from {address} in {BROKER_TIMEOUT:?}")))
}
