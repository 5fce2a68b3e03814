//! Heartbeat: a member lives.

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    HeartbeatRequest {
        group_id: Str, 0..;
        generation_id: i32, 0..;
        member_id: Str, 0..;
        group_instance_id: Option<Str>, 3..;
    }

    /// Answers.
    HeartbeatResponse {
        throttle_time_ms: i32, 1..;
        error_code: i16, 0..;
    }
}
