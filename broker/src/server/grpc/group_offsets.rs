//! `Groups.CommitOffsets` and `FetchOffsets`: how far a group has come.

use proto::{LeaderEpoch, Offset, TopicId, TopicPartition, v1};
use tonic::Status;

use super::log_service::{Answer, bounded};
use super::membership::caller;
use super::requests::Requests;
use super::{Services, wire};
use crate::api::groups::{Commit, CommitRequest, CommittedOffset, Wanted};

/// `CommitOffsets`.
pub(super) async fn commit(services: &Services, body: Requests) -> Answer {
    let request: v1::CommitOffsetsRequest = body.only().await?;
    bounded(request.offsets.len(), "offsets")?;
    let commits = request.offsets.into_iter().map(to_commit).collect::<Result<_, _>>()?;
    let asked = CommitRequest {
        caller: caller(request.caller),
        retention: None,
        knows_missing_groups: true,
        commits,
    };
    let outcomes = match services.api.groups() {
        Ok(groups) => groups.commit(request.group.into(), asked).await,
        Err(error) => Err(error),
    };
    Ok(wire::answer_message(&match outcomes {
        Err(error) => {
            v1::CommitOffsetsResponse { error: Some(wire::group_error(error)), results: Vec::new() }
        }
        Ok(outcomes) => {
            let result = |outcome: Result<(), _>| v1::OffsetCommitted {
                error: outcome.err().map(wire::group_error),
            };
            let results = outcomes.into_iter().map(result).collect();
            v1::CommitOffsetsResponse { error: None, results }
        }
    }))
}

fn to_commit(one: v1::OffsetToCommit) -> Result<Commit, Status> {
    let topic_id = match one.topic_id.is_empty() {
        true => None,
        false => Some(
            TopicId::from_slice(&one.topic_id)
                .ok_or_else(|| Status::invalid_argument("topic_id is not 16 bytes"))?,
        ),
    };
    Ok(Commit {
        partition: TopicPartition::new(one.topic, one.partition),
        topic_id,
        offset: Offset(one.offset),
        leader_epoch: LeaderEpoch(one.leader_epoch),
        metadata: one.metadata.into(),
    })
}

/// `FetchOffsets`.
pub(super) async fn fetch(services: &Services, body: Requests) -> Answer {
    let request: v1::FetchOffsetsRequest = body.only().await?;
    let wanted = match request.all {
        true => Wanted::All,
        false => {
            bounded(request.topics.iter().map(|t| t.partitions.len()).sum(), "partitions")?;
            let names = request.topics.iter().flat_map(|topic| {
                let name: std::sync::Arc<str> = topic.topic.as_str().into();
                let of = move |&partition| TopicPartition::new(name.clone(), partition);
                topic.partitions.iter().map(of)
            });
            Wanted::These(names.collect())
        }
    };
    let found = match services.api.groups() {
        Ok(groups) => groups.fetch_offsets(request.group.into(), wanted).await,
        Err(error) => Err(error),
    };
    Ok(wire::answer_message(&match found {
        Err(error) => {
            v1::FetchOffsetsResponse { error: Some(wire::group_error(error)), offsets: Vec::new() }
        }
        Ok(found) => {
            let told = found.into_iter().filter(|(_, at)| at.is_some() || !request.all);
            let offsets = told.map(|(name, at)| fetched(&name, at.as_ref())).collect();
            v1::FetchOffsetsResponse { error: None, offsets }
        }
    }))
}

fn fetched(name: &TopicPartition, at: Option<&CommittedOffset>) -> v1::FetchedOffset {
    v1::FetchedOffset {
        topic: name.topic.to_string(),
        topic_id: at.and_then(|at| at.topic_id).map(|id| id.to_bytes()).unwrap_or_default(),
        partition: name.partition,
        offset: at.map_or(-1, |at| at.offset.0),
        leader_epoch: at.map_or(-1, |at| at.leader_epoch.0),
        metadata: at.map(|at| at.metadata.to_string()).unwrap_or_default(),
    }
}
