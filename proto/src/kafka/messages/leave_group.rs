//! LeaveGroup: members go.

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    LeaveGroupRequest {
        group_id: Str, 0..;
        member_id: Str, 0..=2;
        members: Vec<MemberIdentity>, 3..;
    }

    /// Who goes.
    MemberIdentity {
        member_id: Str, 3..;
        group_instance_id: Option<Str>, 3..;
        reason: Option<Str>, 5..;
    }

    /// Answers.
    LeaveGroupResponse {
        throttle_time_ms: i32, 1..;
        error_code: i16, 0..;
        members: Vec<MemberResponse>, 3..;
    }

    /// Of one member.
    MemberResponse {
        member_id: Str, 3..;
        group_instance_id: Option<Str>, 3..;
        error_code: i16, 3..;
    }
}
