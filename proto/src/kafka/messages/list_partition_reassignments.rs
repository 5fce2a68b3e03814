//! ListPartitionReassignments: what is under way.

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    ListPartitionReassignmentsRequest {
        timeout_ms: i32 = 60_000, 0..;
        /// Null: all.
        topics: Option<Vec<ListPartitionReassignmentsTopics>>, 0..;
    }

    /// Of one topic.
    ListPartitionReassignmentsTopics {
        name: Str, 0..;
        partition_indexes: Vec<i32>, 0..;
    }

    /// Answers.
    ListPartitionReassignmentsResponse {
        throttle_time_ms: i32, 0..;
        error_code: i16, 0..;
        error_message: Option<Str>, 0..;
        topics: Vec<OngoingTopicReassignment>, 0..;
    }

    /// Of one topic.
    OngoingTopicReassignment {
        name: Str, 0..;
        partitions: Vec<OngoingPartitionReassignment>, 0..;
    }

    /// Of one partition.
    OngoingPartitionReassignment {
        partition_index: i32, 0..;
        replicas: Vec<i32>, 0..;
        adding_replicas: Vec<i32>, 0..;
        removing_replicas: Vec<i32>, 0..;
    }
}
