//! ListGroups: groups of one coordinator.

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    ListGroupsRequest {
        /// None: in any state.
        states_filter: Vec<Str>, 4..;
        /// None: of any type.
        types_filter: Vec<Str>, 5..;
    }

    /// Answers.
    ListGroupsResponse {
        throttle_time_ms: i32, 1..;
        error_code: i16, 0..;
        groups: Vec<ListedGroup>, 0..;
    }

    /// One group.
    ListedGroup {
        group_id: Str, 0..;
        protocol_type: Str, 0..;
        group_state: Str, 4..;
        group_type: Str, 5..;
    }
}
