//! SyncGroup: the leader gives what it assigned, everybody gets their part.

use bytes::Bytes;

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    SyncGroupRequest {
        group_id: Str, 0..;
        generation_id: i32, 0..;
        member_id: Str, 0..;
        group_instance_id: Option<Str>, 3..;
        protocol_type: Option<Str>, 5..;
        protocol_name: Option<Str>, 5..;
        /// From the leader only.
        assignments: Vec<SyncGroupRequestAssignment>, 0..;
    }

    /// Of one member.
    SyncGroupRequestAssignment {
        member_id: Str, 0..;
        assignment: Bytes, 0..;
    }

    /// Answers.
    SyncGroupResponse {
        throttle_time_ms: i32, 1..;
        error_code: i16, 0..;
        protocol_type: Option<Str>, 5..;
        protocol_name: Option<Str>, 5..;
        assignment: Bytes, 0..;
    }
}
