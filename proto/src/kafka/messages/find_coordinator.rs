//! FindCoordinator: which broker has a group.

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    FindCoordinatorRequest {
        key: Str, 0..=3;
        /// 0: a group, 1: a transactional id, from version 6 on 2: a share group.
        key_type: i8, 1..;
        coordinator_keys: Vec<Str>, 4..;
    }

    /// Answers.
    FindCoordinatorResponse {
        throttle_time_ms: i32, 1..;
        error_code: i16, 0..=3;
        error_message: Option<Str>, 1..=3;
        node_id: i32, 0..=3;
        host: Str, 0..=3;
        port: i32, 0..=3;
        coordinators: Vec<Coordinator>, 4..;
    }

    /// Of one key.
    Coordinator {
        key: Str, 4..;
        node_id: i32, 4..;
        host: Str, 4..;
        port: i32, 4..;
        error_code: i16, 4..;
        error_message: Option<Str>, 4..;
    }
}
