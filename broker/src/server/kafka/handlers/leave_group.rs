//! LeaveGroup: members go, each answered for itself from version 3 on.

use std::sync::Arc;

use proto::kafka::messages::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};

use super::{Context, NONE, group_code};
use crate::api::groups::Leaving;

/// From here on a request names several members.
const SEVERAL: i16 = 3;

pub(in super::super) async fn leave_group(
    context: Context,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let leaving: Vec<Leaving> = if context.version < SEVERAL {
        vec![Leaving { member_id: request.member_id, instance: None }]
    } else {
        let members = request.members.into_iter();
        members
            .map(|one| Leaving { member_id: one.member_id, instance: one.group_instance_id })
            .collect()
    };
    let outcomes = match context.services.api.groups() {
        Ok(groups) => groups.leave(request.group_id, leaving.clone()).await,
        Err(error) => Err(error),
    };
    let mut codes = match outcomes {
        Err(error) => {
            let error_code = group_code(error);
            return LeaveGroupResponse { error_code, ..Default::default() };
        }
        Ok(outcomes) => outcomes.into_iter().map(|one| one.map_or_else(group_code, |()| NONE)),
    };
    if context.version < SEVERAL {
        let error_code = codes.next_back().unwrap_or(NONE);
        return LeaveGroupResponse { error_code, ..Default::default() };
    }
    let members = leaving.iter().zip(codes).map(|(one, error_code)| MemberResponse {
        member_id: Arc::clone(&one.member_id),
        group_instance_id: one.instance.clone(),
        error_code,
    });
    LeaveGroupResponse { members: members.collect(), ..Default::default() }
}
