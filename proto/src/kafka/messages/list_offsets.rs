//! ListOffsets: offsets by time, and the two ends.

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    ListOffsetsRequest {
        replica_id: i32, 0..;
        isolation_level: i8, 2..;
        topics: Vec<ListOffsetsTopic>, 0..;
        timeout_ms: i32, 10..;
    }

    /// Of one topic.
    ListOffsetsTopic {
        name: Str, 0..;
        partitions: Vec<ListOffsetsPartition>, 0..;
    }

    /// Of one partition.
    ListOffsetsPartition {
        partition_index: i32, 0..;
        current_leader_epoch: i32 = -1, 4..;
        /// Milliseconds, or -1 for the end, -2 for the start, -3 for the newest record, -4 for the start of
        /// what is on the broker's disks, -5 for the end of what is elsewhere.
        timestamp: i64, 0..;
    }

    /// Answers.
    ListOffsetsResponse {
        throttle_time_ms: i32, 2..;
        topics: Vec<ListOffsetsTopicResponse>, 0..;
    }

    /// Of one topic.
    ListOffsetsTopicResponse {
        name: Str, 0..;
        partitions: Vec<ListOffsetsPartitionResponse>, 0..;
    }

    /// Of one partition.
    ListOffsetsPartitionResponse {
        partition_index: i32, 0..;
        error_code: i16, 0..;
        timestamp: i64 = -1, 1..;
        offset: i64 = -1, 1..;
        leader_epoch: i32 = -1, 4..;
    }
}
