//! `Groups`, as the operator's tool uses it: list, describe, delete.

use proto::v1;

use super::log_service::Answer;
use super::requests::Requests;
use super::{Services, wire};
use crate::api::groups::{Description, GroupError, Listing, MemberDescription};

/// `List`.
pub(super) async fn list(services: &Services, body: Requests) -> Answer {
    let _: v1::ListCoordinatedRequest = body.only().await?;
    let listed = match services.api.groups() {
        Ok(groups) => groups.list().await,
        Err(error) => Err(error),
    };
    Ok(wire::answer_message(&match listed {
        Err(error) => v1::ListCoordinatedResponse {
            error: Some(wire::group_error(error)),
            groups: Vec::new(),
        },
        Ok(listed) => {
            let group = |Listing { group, protocol_type, state, members }| v1::CoordinatedGroup {
                name: group.to_string(),
                protocol_type: protocol_type.to_string(),
                state: state.to_owned(),
                members: u32::try_from(members).unwrap_or(u32::MAX),
            };
            v1::ListCoordinatedResponse {
                error: None,
                groups: listed.into_iter().map(group).collect(),
            }
        }
    }))
}

/// `Describe`.
pub(super) async fn describe(services: &Services, body: Requests) -> Answer {
    let request: v1::DescribeCoordinatedRequest = body.only().await?;
    let described = match services.api.groups() {
        Ok(groups) => groups.describe(request.group.into()).await,
        Err(error) => Err(error),
    };
    let described = described.and_then(|found| found.ok_or(GroupError::GroupIdNotFound));
    Ok(wire::answer_message(&match described {
        Err(error) => v1::DescribeCoordinatedResponse {
            error: Some(wire::group_error(error)),
            ..Default::default()
        },
        Ok(described) => description(described),
    }))
}

fn description(described: Description) -> v1::DescribeCoordinatedResponse {
    let member = |one: MemberDescription| v1::CoordinatedMember {
        member_id: one.id.to_string(),
        instance_id: one.instance.map(|id| id.to_string()).unwrap_or_default(),
        client_id: one.client_id.to_string(),
        host: one.client_host.to_string(),
        metadata: one.metadata,
        assignment: one.assignment,
    };
    v1::DescribeCoordinatedResponse {
        error: None,
        state: described.state.to_owned(),
        protocol_type: described.protocol_type.to_string(),
        protocol: described.protocol.to_string(),
        members: described.members.into_iter().map(member).collect(),
    }
}

/// `Delete`.
pub(super) async fn delete(services: &Services, body: Requests) -> Answer {
    let request: v1::DeleteCoordinatedRequest = body.only().await?;
    let outcome = match services.api.groups() {
        Ok(groups) => groups.delete(request.group.into()).await,
        Err(error) => Err(error),
    };
    let error = outcome.err().map(wire::group_error);
    Ok(wire::answer_message(&v1::DeleteCoordinatedResponse { error }))
}
