//! DeleteGroups: groups and their offsets.

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    DeleteGroupsRequest {
        groups_names: Vec<Str>, 0..;
    }

    /// Answers.
    DeleteGroupsResponse {
        throttle_time_ms: i32, 0..;
        results: Vec<DeletableGroupResult>, 0..;
    }

    /// Of one group.
    DeletableGroupResult {
        group_id: Str, 0..;
        error_code: i16, 0..;
    }
}
