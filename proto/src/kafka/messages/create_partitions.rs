//! CreatePartitions: more of them.

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    CreatePartitionsRequest {
        topics: Vec<CreatePartitionsTopic>, 0..;
        timeout_ms: i32, 0..;
        validate_only: bool, 0..;
    }

    /// Of one topic.
    CreatePartitionsTopic {
        name: Str, 0..;
        /// How many there are to be.
        count: i32, 0..;
        /// Of the new ones; null: the controller chooses.
        assignments: Option<Vec<CreatePartitionsAssignment>>, 0..;
    }

    /// Replicas of one partition.
    CreatePartitionsAssignment {
        broker_ids: Vec<i32>, 0..;
    }

    /// Answers.
    CreatePartitionsResponse {
        throttle_time_ms: i32, 0..;
        results: Vec<CreatePartitionsTopicResult>, 0..;
    }

    /// Of one topic.
    CreatePartitionsTopicResult {
        name: Str, 0..;
        error_code: i16, 0..;
        error_message: Option<Str>, 0..;
    }
}
