//! OffsetDelete: offsets of a group, by partition.

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    OffsetDeleteRequest {
        group_id: Str, 0..;
        topics: Vec<OffsetDeleteRequestTopic>, 0..;
    }

    /// Of one topic.
    OffsetDeleteRequestTopic {
        name: Str, 0..;
        partitions: Vec<OffsetDeleteRequestPartition>, 0..;
    }

    /// Of one partition.
    OffsetDeleteRequestPartition {
        partition_index: i32, 0..;
    }

    /// Answers.
    OffsetDeleteResponse {
        error_code: i16, 0..;
        throttle_time_ms: i32, 0..;
        topics: Vec<OffsetDeleteResponseTopic>, 0..;
    }

    /// Of one topic.
    OffsetDeleteResponseTopic {
        name: Str, 0..;
        partitions: Vec<OffsetDeleteResponsePartition>, 0..;
    }

    /// Of one partition.
    OffsetDeleteResponsePartition {
        partition_index: i32, 0..;
        error_code: i16, 0..;
    }
}
