//! JoinGroup: answered when all members have joined, or time is up.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::kafka::Str;
use proto::kafka::messages::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use uuid::Uuid;

use super::{Context, group_code};
use crate::api::groups::{Join, JoinRefusal, Joined, JoinedMember, Protocol, Token};

/// From here on members know to join again with the id they are given.
const REQUIRES_MEMBER_ID: i16 = 4;
/// From here on a leader may be told not to assign.
const SKIPS_ASSIGNMENT: i16 = 9;
/// Characters of a name that go into the id made of it.
const NAME_MAX: usize = 200;

pub(in super::super) async fn join_group(
    context: Context,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let group = Arc::clone(&request.group_id);
    let member_id = Arc::clone(&request.member_id);
    let join = to_join(&context, request);
    let outcome = match context.services.api.groups() {
        Ok(groups) => groups.join(group, join).await,
        Err(error) => Err(JoinRefusal { error, member_id }),
    };
    match outcome {
        Ok(joined) => answer(joined),
        Err(JoinRefusal { error, member_id }) => {
            JoinGroupResponse { error_code: group_code(error), member_id, ..Default::default() }
        }
    }
}

fn to_join(context: &Context, request: JoinGroupRequest) -> Join {
    let session_timeout = millis(request.session_timeout_ms);
    let rebalance_timeout = match request.rebalance_timeout_ms {
        // Before there was one.
        ..0 => session_timeout,
        ms => millis(ms),
    };
    let instance = request.group_instance_id;
    let named = instance.as_deref().unwrap_or(context.client_id());
    let named: String = named.chars().take(NAME_MAX).collect();
    let protocols = request.protocols.into_iter().map(|protocol| Protocol {
        name: protocol.name,
        // The group keeps it, and the frame goes.
        metadata: Bytes::copy_from_slice(&protocol.metadata),
    });
    Join {
        token: Token(0),
        member_id: request.member_id,
        fresh_member_id: format!("{named}-{}", Uuid::new_v4()).into(),
        requires_member_id: context.version >= REQUIRES_MEMBER_ID,
        skips_assignment: context.version >= SKIPS_ASSIGNMENT,
        instance,
        client_id: context.client_id().into(),
        client_host: Str::from(format!("/{}", context.peer.address.ip())),
        session_timeout,
        rebalance_timeout,
        protocol_type: request.protocol_type,
        protocols: protocols.collect(),
    }
}

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}

fn answer(joined: Joined) -> JoinGroupResponse {
    let member = |JoinedMember { id, instance, metadata }| JoinGroupResponseMember {
        member_id: id,
        group_instance_id: instance,
        metadata,
    };
    JoinGroupResponse {
        generation_id: joined.generation,
        protocol_type: joined.protocol_type,
        protocol_name: joined.protocol,
        leader: joined.leader,
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id,
        members: joined.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}
