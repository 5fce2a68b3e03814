//! SyncGroup: answered when the leader's assignment is stored.

use bytes::Bytes;
use proto::kafka::messages::{SyncGroupRequest, SyncGroupResponse};

use super::{Context, group_code};
use crate::api::groups::{Caller, Sync, Token};

pub(in super::super) async fn sync_group(
    context: Context,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let assignments = request.assignments.into_iter();
    let sync = Sync {
        token: Token(0),
        caller: Caller {
            member_id: request.member_id,
            instance: request.group_instance_id,
            generation: request.generation_id,
        },
        protocol_type: request.protocol_type,
        protocol: request.protocol_name,
        // The group keeps them, and the frame goes.
        assignments: assignments
            .map(|one| (one.member_id, Bytes::copy_from_slice(&one.assignment)))
            .collect(),
    };
    let outcome = match context.services.api.groups() {
        Ok(groups) => groups.sync(request.group_id, sync).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(synced) => SyncGroupResponse {
            protocol_type: synced.protocol_type,
            protocol_name: synced.protocol,
            assignment: synced.assignment,
            ..Default::default()
        },
        Err(error) => SyncGroupResponse { error_code: group_code(error), ..Default::default() },
    }
}
