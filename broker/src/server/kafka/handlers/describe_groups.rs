//! DescribeGroups: groups with their members. A group that is not there is "Dead", which is no error
//! before version 6.

use std::collections::HashSet;
use std::sync::Arc;

use proto::ErrorCode;
use proto::kafka::Str;
use proto::kafka::messages::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};

use super::{Context, group_code};
use crate::api::groups::{Description, MemberDescription};

const DEAD: &str = "Dead";
/// From here on a group that is not there is an error.
const TELLS_MISSING: i16 = 6;

pub(in super::super) async fn describe_groups(
    context: Context,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let mut answer = DescribeGroupsResponse::default();
    // Each once: an answer is far longer than its question.
    let mut seen = HashSet::new();
    for group in request.groups.into_iter().filter(|group| seen.insert(Arc::clone(group))) {
        let outcome = match context.services.api.groups() {
            Ok(groups) => groups.describe(Arc::clone(&group)).await,
            Err(error) => Err(error),
        };
        let dead = DescribedGroup {
            group_id: Arc::clone(&group),
            group_state: DEAD.into(),
            ..Default::default()
        };
        answer.groups.push(match outcome {
            Ok(Some(described)) => describe(group, described),
            Ok(None) if context.version >= TELLS_MISSING => DescribedGroup {
                error_code: ErrorCode::GroupIdNotFound as i16,
                error_message: Some("no group of this name".into()),
                ..dead
            },
            Ok(None) => dead,
            Err(error) => DescribedGroup { error_code: group_code(error), ..dead },
        });
    }
    answer
}

fn describe(group_id: Str, described: Description) -> DescribedGroup {
    let member = |one: MemberDescription| DescribedGroupMember {
        member_id: one.id,
        group_instance_id: one.instance,
        client_id: one.client_id,
        client_host: one.client_host,
        member_metadata: one.metadata,
        member_assignment: one.assignment,
    };
    DescribedGroup {
        group_id,
        group_state: described.state.into(),
        protocol_type: described.protocol_type,
        protocol_data: described.protocol,
        members: described.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}
