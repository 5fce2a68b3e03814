//! OffsetFetch: how far groups have come.

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks: one group, from version 8 on several.
    OffsetFetchRequest {
        group_id: Str, 0..=7;
        /// Null: all that were committed.
        topics: Option<Vec<OffsetFetchRequestTopic>>, 0..=7, null 2..=7;
        groups: Vec<OffsetFetchRequestGroup>, 8..;
        require_stable: bool, 7..;
    }

    /// Of one group.
    OffsetFetchRequestGroup {
        group_id: Str, 8..;
        member_id: Option<Str>, 9..;
        member_epoch: i32 = -1, 9..;
        /// Null: all that were committed.
        topics: Option<Vec<OffsetFetchRequestTopic>>, 8..;
    }

    /// Of one topic.
    OffsetFetchRequestTopic {
        name: Str, 0..;
        partition_indexes: Vec<i32>, 0..;
    }

    /// Answers.
    OffsetFetchResponse {
        throttle_time_ms: i32, 3..;
        topics: Vec<OffsetFetchResponseTopic>, 0..=7;
        error_code: i16, 2..=7;
        groups: Vec<OffsetFetchResponseGroup>, 8..;
    }

    /// Of one group.
    OffsetFetchResponseGroup {
        group_id: Str, 8..;
        topics: Vec<OffsetFetchResponseTopic>, 8..;
        error_code: i16, 8..;
    }

    /// Of one topic.
    OffsetFetchResponseTopic {
        name: Str, 0..;
        partitions: Vec<OffsetFetchResponsePartition>, 0..;
    }

    /// Of one partition.
    OffsetFetchResponsePartition {
        partition_index: i32, 0..;
        /// -1: never committed.
        committed_offset: i64, 0..;
        committed_leader_epoch: i32 = -1, 5..;
        metadata: Option<Str>, 0..;
        error_code: i16, 0..;
    }
}
