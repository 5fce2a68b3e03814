//! JoinGroup: a member comes in, or comes again.

use bytes::Bytes;

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks. Answered when the group is complete.
    JoinGroupRequest {
        group_id: Str, 0..;
        session_timeout_ms: i32, 0..;
        rebalance_timeout_ms: i32 = -1, 1..;
        /// Empty: it has none yet.
        member_id: Str, 0..;
        group_instance_id: Option<Str>, 5..;
        protocol_type: Str, 0..;
        /// Preferred first.
        protocols: Vec<JoinGroupRequestProtocol>, 0..;
        reason: Option<Str>, 8..;
    }

    /// What the member could do.
    JoinGroupRequestProtocol {
        name: Str, 0..;
        metadata: Bytes, 0..;
    }

    /// Answers.
    JoinGroupResponse {
        throttle_time_ms: i32, 2..;
        error_code: i16, 0..;
        generation_id: i32 = -1, 0..;
        protocol_type: Option<Str>, 7..;
        protocol_name: Option<Str>, 0.., null 7..;
        leader: Str, 0..;
        skip_assignment: bool, 9..;
        member_id: Str, 0..;
        /// For the leader only.
        members: Vec<JoinGroupResponseMember>, 0..;
    }

    /// A member, for the leader.
    JoinGroupResponseMember {
        member_id: Str, 0..;
        group_instance_id: Option<Str>, 5..;
        metadata: Bytes, 0..;
    }
}
