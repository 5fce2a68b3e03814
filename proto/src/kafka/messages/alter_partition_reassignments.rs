//! AlterPartitionReassignments: other replicas.

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    AlterPartitionReassignmentsRequest {
        timeout_ms: i32 = 60_000, 0..;
        topics: Vec<ReassignableTopic>, 0..;
    }

    /// Of one topic.
    ReassignableTopic {
        name: Str, 0..;
        partitions: Vec<ReassignablePartition>, 0..;
    }

    /// Of one partition.
    ReassignablePartition {
        partition_index: i32, 0..;
        /// Null: what is under way is given up.
        replicas: Option<Vec<i32>>, 0..;
    }

    /// Answers.
    AlterPartitionReassignmentsResponse {
        throttle_time_ms: i32, 0..;
        error_code: i16, 0..;
        error_message: Option<Str>, 0..;
        responses: Vec<ReassignableTopicResponse>, 0..;
    }

    /// Of one topic.
    ReassignableTopicResponse {
        name: Str, 0..;
        partitions: Vec<ReassignablePartitionResponse>, 0..;
    }

    /// Of one partition.
    ReassignablePartitionResponse {
        partition_index: i32, 0..;
        error_code: i16, 0..;
        error_message: Option<Str>, 0..;
    }
}
