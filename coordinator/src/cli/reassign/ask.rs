//! The calls behind `coordinator reassign` and `coordinator brokers --drain`.

use std::collections::BTreeMap;

use proto::v1;

use super::plan_file::{Of, Plan};
use crate::cli::admin::{Admin, request_id};
use crate::cli::failure::Failure;

/// So many partitions go into one request.
const PARTITIONS_MAX: usize = 2_000;

/// What a request led to, by partition.
pub(crate) type Results = Vec<(Of, Option<v1::Error>)>;

/// Asks for new replicas of partitions; `None`: takes back what is under way.
pub(crate) async fn alter(
    admin: &mut Admin,
    partitions: Vec<(Of, Option<Vec<i32>>)>,
    throttle: i64,
) -> Result<Results, Failure> {
    let mut results = Results::new();
    for part in partitions.chunks(PARTITIONS_MAX) {
        let partitions = part.iter().cloned().map(|((topic, partition), target)| {
            let target = target.map(|brokers| v1::Replicas { brokers });
            v1::PartitionReassignment { topic, partition, target }
        });
        let request = v1::AlterPartitionReassignmentsRequest {
            request_id: request_id(),
            partitions: partitions.collect(),
            throttle,
        };
        let call = |mut client: crate::cli::admin::Client, request| async move {
            client.alter_partition_reassignments(request).await
        };
        let response = admin.call(request, call).await?;
        admin.again();
        results.extend(response.results.into_iter().map(|r| ((r.topic, r.partition), r.error)));
    }
    Ok(results)
}

/// What is under way.
pub(crate) async fn list(
    admin: &mut Admin,
    with_progress: bool,
) -> Result<v1::ListPartitionReassignmentsResponse, Failure> {
    let topics = Vec::new();
    let request = v1::ListPartitionReassignmentsRequest { topics, with_progress };
    let call = |mut client: crate::cli::admin::Client, request| async move {
        client.list_partition_reassignments(request).await
    };
    admin.call(request, call).await
}

/// Topics as they are; none named: all. A topic that is not there is a failure.
pub(crate) async fn topics(
    admin: &mut Admin,
    names: Vec<String>,
) -> Result<Vec<v1::Topic>, Failure> {
    let request = v1::DescribeTopicsRequest { topics: names, with_logs: false };
    let response = admin
        .call(request, |mut client, request| async move { client.describe_topics(request).await })
        .await?;
    let topics: Vec<v1::Topic> = response.topics.into_iter().filter_map(|d| d.topic).collect();
    let refused = topics.iter().filter_map(|topic| topic.error.as_ref());
    Failure::all(refused.map(Failure::of).collect())?;
    Ok(topics)
}

/// The replicas that partitions have now.
pub(crate) fn current(topics: &[v1::Topic]) -> Plan {
    let partitions = topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|p| ((topic.name.clone(), p.partition), p.replicas.clone()))
    });
    partitions.collect()
}

/// The replicas that partitions have when nothing is under way: where something is, those from before
/// it. What is saved to go back to must not have those that were on their way.
pub(crate) fn settled(topics: &[v1::Topic], under_way: &[v1::OngoingReassignment]) -> Plan {
    let mut settled = current(topics);
    for reassignment in under_way {
        if let Some(replicas) = settled.get_mut(&of(reassignment)) {
            replicas.clone_from(&reassignment.original);
        }
    }
    settled
}

/// The partition of an entry of the list.
pub(crate) fn of(under_way: &v1::OngoingReassignment) -> Of {
    (under_way.topic.clone(), under_way.partition.as_ref().map_or(-1, |p| p.partition))
}

/// `a-0, a-1`
pub(crate) fn names<'a>(partitions: impl IntoIterator<Item = &'a Of>) -> String {
    let names = partitions.into_iter().map(|(topic, partition)| format!("{topic}-{partition}"));
    names.collect::<Vec<_>>().join(", ")
}

/// What was refused, as one failure.
pub(crate) fn refused(results: &Results) -> Result<(), Failure> {
    // One reason is told once, with all its partitions.
    let mut by_text: BTreeMap<String, Failure> = BTreeMap::new();
    for error in results.iter().filter_map(|(_, error)| error.as_ref()) {
        let failure = Failure::of(error);
        by_text.entry(failure.text.clone()).or_insert(failure);
    }
    Failure::all(by_text.into_values().collect())
}
