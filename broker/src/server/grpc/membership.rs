//! `Groups`, as members of a group use it: find the coordinator, join, sync, signs of life, leave.
//!
//! The same groups as those of Kafka's clients, by the same calls of the coordinator.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::{ErrorCode, v1};
use uuid::Uuid;

use super::log_service::Answer;
use super::requests::Requests;
use super::{Services, wire};
use crate::api::Wanted;
use crate::api::groups::{
    Caller, GroupError, Join, JoinRefusal, Joined, JoinedMember, Leaving, Protocol, Sync, Token,
};

/// Characters of a name that go into the id made of it.
const NAME_MAX: usize = 200;

/// `FindCoordinator`.
pub(super) async fn find_coordinator(services: &Services, body: Requests) -> Answer {
    let request: v1::FindCoordinatorRequest = body.only().await?;
    let groups = services.api.groups();
    let found = groups.and_then(|groups| groups.find_coordinator(&request.group));
    let (error, coordinator) = match found {
        Err(error) => (Some(wire::group_error(error)), None),
        Ok(leader) => {
            let view = services.api.metadata(&Wanted::Named(Vec::new()));
            match view.image.brokers.get(&leader) {
                None => (Some(gone(leader.0)), None),
                Some(broker) => {
                    let node = v1::Node {
                        id: leader.0,
                        host: broker.host.clone(),
                        grpc_port: broker.grpc_port.into(),
                        rack: broker.rack.clone(),
                        ..Default::default()
                    };
                    (None, Some(node))
                }
            }
        }
    };
    Ok(wire::answer_message(&v1::FindCoordinatorResponse { error, coordinator }))
}

fn gone(broker: i32) -> v1::Error {
    let message = format!("broker {broker} coordinates the group and is gone");
    ErrorCode::CoordinatorNotAvailable.to_message(message, "ask again after a moment")
}

/// `Join`.
pub(super) async fn join(services: &Services, body: Requests, host: &str) -> Answer {
    let request: v1::JoinGroupRequest = body.only().await?;
    let (group, member_id) = (request.group.as_str().into(), request.member_id.as_str().into());
    let outcome = match services.api.groups() {
        Ok(groups) => groups.join(group, to_join(request, host)).await,
        Err(error) => Err(JoinRefusal { error, member_id }),
    };
    Ok(wire::answer_message(&match outcome {
        Ok(joined) => joined_message(joined),
        Err(JoinRefusal { error, member_id }) => v1::JoinGroupResponse {
            error: Some(wire::group_error(error)),
            member_id: member_id.to_string(),
            generation: -1,
            ..Default::default()
        },
    }))
}

fn to_join(request: v1::JoinGroupRequest, host: &str) -> Join {
    let instance = some(&request.instance_id);
    let named = instance.as_deref().unwrap_or(&request.client_id);
    let named: String = named.chars().take(NAME_MAX).collect();
    let protocols = request.protocols.into_iter().map(|protocol| Protocol {
        name: protocol.name.into(),
        // The group keeps it, and the message goes.
        metadata: Bytes::copy_from_slice(&protocol.metadata),
    });
    Join {
        token: Token(0),
        member_id: request.member_id.into(),
        fresh_member_id: format!("{named}-{}", Uuid::new_v4()).into(),
        requires_member_id: true,
        skips_assignment: true,
        instance,
        client_id: request.client_id.into(),
        client_host: host.into(),
        session_timeout: Duration::from_millis(request.session_timeout_ms.into()),
        rebalance_timeout: Duration::from_millis(request.rebalance_timeout_ms.into()),
        protocol_type: request.protocol_type.into(),
        protocols: protocols.collect(),
    }
}

fn joined_message(joined: Joined) -> v1::JoinGroupResponse {
    let member = |JoinedMember { id, instance, metadata }| v1::JoinedGroupMember {
        member_id: id.to_string(),
        instance_id: instance.map(|id: Arc<str>| id.to_string()).unwrap_or_default(),
        metadata,
    };
    v1::JoinGroupResponse {
        error: None,
        member_id: joined.member_id.to_string(),
        generation: joined.generation,
        protocol: joined.protocol.map(|name| name.to_string()).unwrap_or_default(),
        leader: joined.leader.to_string(),
        skip_assignment: joined.skip_assignment,
        members: joined.members.into_iter().map(member).collect(),
    }
}

/// `Sync`.
pub(super) async fn sync(services: &Services, body: Requests) -> Answer {
    let request: v1::SyncGroupRequest = body.only().await?;
    let given = request.assignments.into_iter();
    let sync = Sync {
        token: Token(0),
        caller: caller(request.caller),
        protocol_type: some(&request.protocol_type),
        protocol: some(&request.protocol),
        // The group keeps them, and the message goes.
        assignments: given
            .map(|one| (one.member_id.into(), Bytes::copy_from_slice(&one.assignment)))
            .collect(),
    };
    let outcome = match services.api.groups() {
        Ok(groups) => groups.sync(request.group.into(), sync).await,
        Err(error) => Err(error),
    };
    Ok(wire::answer_message(&match outcome {
        Ok(synced) => v1::SyncGroupResponse { error: None, assignment: synced.assignment },
        Err(error) => v1::SyncGroupResponse {
            error: Some(wire::group_error(error)),
            assignment: Bytes::new(),
        },
    }))
}

/// `Heartbeat`.
pub(super) async fn heartbeat(services: &Services, body: Requests) -> Answer {
    let request: v1::HeartbeatRequest = body.only().await?;
    let outcome = match services.api.groups() {
        Ok(groups) => groups.heartbeat(request.group.into(), caller(request.caller)).await,
        Err(error) => Err(error),
    };
    let error = outcome.err().map(wire::group_error);
    Ok(wire::answer_message(&v1::HeartbeatResponse { error }))
}

/// `Leave`.
pub(super) async fn leave(services: &Services, body: Requests) -> Answer {
    let request: v1::LeaveGroupRequest = body.only().await?;
    let leaving =
        Leaving { member_id: request.member_id.into(), instance: some(&request.instance_id) };
    let outcomes = match services.api.groups() {
        Ok(groups) => groups.leave(request.group.into(), vec![leaving]).await,
        Err(error) => Err(error),
    };
    let outcome: Result<(), GroupError> =
        outcomes.and_then(|mut outcomes| outcomes.pop().unwrap_or(Ok(())));
    let error = outcome.err().map(wire::group_error);
    Ok(wire::answer_message(&v1::LeaveGroupResponse { error }))
}

/// Nobody in particular where it is not said.
pub(super) fn caller(caller: Option<v1::GroupCaller>) -> Caller {
    match caller {
        None => Caller { member_id: "".into(), instance: None, generation: -1 },
        Some(caller) => Caller {
            instance: some(&caller.instance_id),
            member_id: caller.member_id.into(),
            generation: caller.generation,
        },
    }
}

/// A text that may be missing.
fn some(text: &str) -> Option<Arc<str>> {
    (!text.is_empty()).then(|| text.into())
}
