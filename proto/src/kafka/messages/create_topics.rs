//! CreateTopics.

use uuid::Uuid;

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    CreateTopicsRequest {
        topics: Vec<CreatableTopic>, 0..;
        timeout_ms: i32 = 60_000, 0..;
        validate_only: bool, 1..;
    }

    /// One topic.
    CreatableTopic {
        name: Str, 0..;
        /// -1: as the broker has it, or as the assignments say.
        num_partitions: i32, 0..;
        /// -1: as the broker has it, or as the assignments say.
        replication_factor: i16, 0..;
        assignments: Vec<CreatableReplicaAssignment>, 0..;
        configs: Vec<CreatableTopicConfig>, 0..;
    }

    /// Replicas of one partition.
    CreatableReplicaAssignment {
        partition_index: i32, 0..;
        broker_ids: Vec<i32>, 0..;
    }

    /// One setting.
    CreatableTopicConfig {
        name: Str, 0..;
        value: Option<Str>, 0..;
    }

    /// Answers.
    CreateTopicsResponse {
        throttle_time_ms: i32, 2..;
        topics: Vec<CreatableTopicResult>, 0..;
    }

    /// Of one topic.
    CreatableTopicResult {
        name: Str, 0..;
        topic_id: Uuid, 7..;
        error_code: i16, 0..;
        error_message: Option<Str>, 1..;
        num_partitions: i32 = -1, 5..;
        replication_factor: i16 = -1, 5..;
        configs: Option<Vec<CreatableTopicConfigs>>, 5..;
    } tagged {
        0 topic_config_error_code: i16, 5..;
    }

    /// One setting as it is.
    CreatableTopicConfigs {
        name: Str, 5..;
        value: Option<Str>, 5..;
        read_only: bool, 5..;
        config_source: i8 = -1, 5..;
        is_sensitive: bool, 5..;
    }
}
