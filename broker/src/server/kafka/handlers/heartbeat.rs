//! Heartbeat: a member is alive, and asks whether its generation still is.

use proto::kafka::messages::{HeartbeatRequest, HeartbeatResponse};

use super::{Context, NONE, group_code};
use crate::api::groups::Caller;

pub(in super::super) async fn heartbeat(
    context: Context,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let caller = Caller {
        member_id: request.member_id,
        instance: request.group_instance_id,
        generation: request.generation_id,
    };
    let outcome = match context.services.api.groups() {
        Ok(groups) => groups.heartbeat(request.group_id, caller).await,
        Err(error) => Err(error),
    };
    HeartbeatResponse {
        error_code: outcome.map_or_else(group_code, |()| NONE),
        ..Default::default()
    }
}
